package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tillgate/tillgate/admin"
)

// on is where operators' commands find the rows, and how they print. They call the admin API: of a running server, over the network or
// through the file that it leaves in its data folder; or, when none runs, of themselves over the folder's store.
type on struct {
	Config    string `short:"c" type:"path" help:"Configuration file of the server, for its data folder."`
	Data      string `type:"path" help:"Data folder of the server, which may be running."`
	Server    string `help:"Address of a running server's admin API, such as https://pay.example.com. Needs --token-file, or TILLGATE_OPERATOR_TOKEN."`
	TokenFile string `name:"token-file" type:"path" help:"File with the operator's token."`
	JSON      bool   `help:"Print JSON."`
}

// open runs fn with a client of the admin API.
func (o on) open(e *env, fn func(*admin.Client) error) error {
	if o.Server != "" {
		token := e.getenv("TILLGATE_OPERATOR_TOKEN")
		if o.TokenFile != "" {
			text, err := os.ReadFile(o.TokenFile)
			if err != nil {
				return fmt.Errorf("--token-file: %w", err)
			}
			token = strings.TrimSpace(string(text))
		}
		if token == "" {
			return errors.New("give the operator's token: --token-file, or TILLGATE_OPERATOR_TOKEN in the environment")
		}
		return fn(&admin.Client{BaseURL: o.Server, Token: token})
	}
	cfg, err := loadConfig(o.Config, e.getenv)
	if err != nil {
		return err
	}
	if o.Data != "" {
		cfg.Data = o.Data
	}
	if c := runningServer(cfg.Data); c != nil {
		return fn(c)
	}
	t, err := openTool(e.ctx, cfg, slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return err
	}
	return errors.Join(fn(admin.Local(t.admin(""))), t.close())
}

// adminFile is the file in the data folder through which a running server lets operators' commands in.
const adminFile = "admin.json"

// adminInfo is what adminFile holds.
type adminInfo struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

// runningServer is a client of the server that runs on a data folder; nil when none does.
func runningServer(data string) *admin.Client {
	text, err := os.ReadFile(filepath.Join(data, adminFile))
	var info adminInfo
	if err != nil || json.Unmarshal(text, &info) != nil {
		return nil
	}
	client := &http.Client{Timeout: 2 * time.Second}
	res, err := client.Get(strings.TrimRight(info.URL, "/") + admin.Prefix + "/openapi.json")
	if err != nil {
		return nil // The file was left by one that died.
	}
	_ = res.Body.Close()
	return &admin.Client{BaseURL: info.URL, Token: info.Token}
}

// print writes rows as JSON, or as a table.
func (o on) print(e *env, rows any, table func(w io.Writer)) error {
	if o.JSON {
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		return out.Encode(rows)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// list prints a list: its heading, and a line for each row.
func list[T any](e *env, o on, path string, query url.Values, heading string, line func(T) []any) error {
	return o.open(e, func(c *admin.Client) error {
		rows, err := admin.All[T](e.ctx, c, path, query)
		if err != nil {
			return err
		}
		return o.print(e, rows, func(w io.Writer) {
			fmt.Fprintln(w, heading)
			for _, r := range rows {
				cells := line(r)
				fmt.Fprintf(w, strings.Repeat("%v\t", len(cells)-1)+"%v\n", cells...)
			}
		})
	})
}

// send makes one call and prints its answer; said words it for people.
func send[T any](e *env, o on, method, path string, in any, said func(T) string) error {
	return o.open(e, func(c *admin.Client) error {
		var row T
		if err := c.Do(e.ctx, method, path, in, &row); err != nil {
			return err
		}
		return o.print(e, row, func(w io.Writer) { fmt.Fprintln(w, said(row)) })
	})
}

// of is a path below a merchant.
func of(merchant string, parts ...string) string {
	return admin.Path(append([]string{"merchants", merchant}, parts...)...)
}

// Merchants.

type merchantCommand struct {
	Add     merchantAdd     `cmd:"" help:"Add a merchant."`
	List    merchantList    `cmd:"" help:"List the merchants."`
	Disable merchantDisable `cmd:"" help:"Disable a merchant: its callers are refused within two seconds."`
	Enable  merchantEnable  `cmd:"" help:"Enable a merchant again."`
}

type merchantAdd struct {
	on
	ID       string   `required:"" help:"Public number, digits, such as 740218."`
	Company  string   `required:"" help:"Legal entity."`
	Name     string   `required:"" help:"Trading name."`
	Currency []string `required:"" help:"Currencies that it takes, such as AUD,NZD."`
}

func (c *merchantAdd) Run(e *env) error {
	for i := range c.Currency {
		c.Currency[i] = strings.ToUpper(c.Currency[i])
	}
	in := admin.Merchant{Merchant: c.ID, Company: c.Company, Name: c.Name, Currencies: c.Currency}
	return send(e, c.on, "POST", "/merchants", in, func(m admin.Merchant) string {
		return fmt.Sprintf("Merchant %s added. Next: tillgate store add --merchant %s …, tillgate method set --merchant %s …", m.Merchant, m.Merchant, m.Merchant)
	})
}

type merchantList struct{ on }

func (c *merchantList) Run(e *env) error {
	return list(e, c.on, "/merchants", nil, "MERCHANT\tNAME\tCOMPANY\tCURRENCIES\tSTATE", func(m admin.Merchant) []any {
		return []any{m.Merchant, m.Name, m.Company, strings.Join(m.Currencies, ","), m.State}
	})
}

type merchantDisable struct {
	on
	ID string `arg:"" help:"Public number of the merchant."`
}

func (c *merchantDisable) Run(e *env) error { return setMerchant(e, c.on, c.ID, admin.Disabled) }

type merchantEnable merchantDisable

func (c *merchantEnable) Run(e *env) error { return setMerchant(e, c.on, c.ID, admin.Active) }

func setMerchant(e *env, o on, id, state string) error {
	return send(e, o, "PATCH", of(id), admin.Switch{State: state}, func(m admin.Merchant) string {
		return fmt.Sprintf("Merchant %s is %s.", m.Merchant, m.State)
	})
}

// Methods.

type methodCommand struct {
	Set    methodSet    `cmd:"" help:"Let a merchant take a payment method, or change how."`
	List   methodList   `cmd:"" help:"List the payment methods that a merchant takes."`
	Remove methodRemove `cmd:"" help:"Let a merchant take a payment method no more."`
}

type methodSet struct {
	on
	Merchant string   `required:"" help:"Public number of the merchant."`
	Method   []string `required:"" help:"Payment methods, such as alipay,wechat."`
	Acquirer string   `default:"wallet" enum:"wallet,card" help:"Link that approves them: wallet or card."`
	Percent  string   `default:"0" help:"Fee in percent of the amount, such as 1.4."`
	Fixed    int64    `default:"0" help:"Fee per payment in minor units, such as 10 for ten cents."`
}

func (c *methodSet) Run(e *env) error {
	rate, err := parsePercent(c.Percent)
	if err != nil {
		return fmt.Errorf("--percent: %w", err)
	}
	return c.open(e, func(client *admin.Client) error {
		rows := []admin.Method{}
		for _, name := range c.Method {
			var row admin.Method
			in := admin.Method{Method: name, Acquirer: c.Acquirer, FeeMillionths: rate, FeeFixed: c.Fixed}
			if err := client.Do(e.ctx, "PUT", of(c.Merchant, "methods", name), in, &row); err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return c.print(e, rows, func(w io.Writer) {
			fmt.Fprintf(w, "Merchant %s takes %s over %s.\n", c.Merchant, strings.Join(c.Method, ", "), c.Acquirer)
		})
	})
}

type methodList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func (c *methodList) Run(e *env) error {
	return list(e, c.on, of(c.Merchant, "methods"), nil, "METHOD\tACQUIRER\tFEE (MILLIONTHS)\tFEE (MINOR UNITS)", func(m admin.Method) []any {
		return []any{m.Method, m.Acquirer, m.FeeMillionths, m.FeeFixed}
	})
}

type methodRemove struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Method   string `arg:"" help:"Payment method."`
}

func (c *methodRemove) Run(e *env) error {
	return send(e, c.on, "DELETE", of(c.Merchant, "methods", c.Method), nil, func(m admin.Method) string {
		return fmt.Sprintf("Merchant %s takes %s no more.", c.Merchant, m.Method)
	})
}

// Stores.

type storeCommand struct {
	Add     storeAdd     `cmd:"" help:"Add a store to a merchant."`
	List    storeList    `cmd:"" help:"List a merchant's stores."`
	Disable storeDisable `cmd:"" help:"Disable a store."`
	Enable  storeEnable  `cmd:"" help:"Enable a store again."`
}

type storeAdd struct {
	on
	Merchant string        `required:"" help:"Public number of the merchant."`
	ID       string        `required:"" help:"Number of the store, unique for the merchant."`
	Name     string        `required:"" help:"Name of the store."`
	Zone     string        `required:"" help:"Time zone of its business days, such as Australia/Melbourne."`
	CutOff   time.Duration `name:"cut-off" help:"Until so long after midnight, the business day is still the day before, such as 4h."`
}

func (c *storeAdd) Run(e *env) error {
	in := admin.Store{Store: c.ID, Name: c.Name, Zone: c.Zone, CutOff: c.CutOff.String()}
	return send(e, c.on, "POST", of(c.Merchant, "stores"), in, func(s admin.Store) string {
		return fmt.Sprintf("Store %s added. Next: tillgate terminal add --merchant %s --store %s …, or tillgate code add --merchant %s --store %s", s.Store,
			s.Merchant, s.Store, s.Merchant, s.Store)
	})
}

type storeList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func (c *storeList) Run(e *env) error {
	return list(e, c.on, of(c.Merchant, "stores"), nil, "STORE\tNAME\tZONE\tCUT-OFF\tSTATE", func(s admin.Store) []any {
		return []any{s.Store, s.Name, s.Zone, s.CutOff, s.State}
	})
}

type storeDisable struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	ID       string `arg:"" help:"Number of the store."`
}

func (c *storeDisable) Run(e *env) error { return setStore(e, *c, admin.Disabled) }

type storeEnable storeDisable

func (c *storeEnable) Run(e *env) error { return setStore(e, storeDisable(*c), admin.Active) }

func setStore(e *env, c storeDisable, state string) error {
	return send(e, c.on, "PATCH", of(c.Merchant, "stores", c.ID), admin.Switch{State: state}, func(s admin.Store) string {
		return fmt.Sprintf("Store %s is %s.", s.Store, s.State)
	})
}

// Terminals.

type terminalCommand struct {
	Run     terminalRun     `cmd:"" help:"Be a terminal: a virtual one with a page in the browser, paired with a server."`
	Add     terminalAdd     `cmd:"" help:"Add a terminal to a store."`
	List    terminalList    `cmd:"" help:"List a merchant's terminals, with what they are called in each protocol."`
	Disable terminalDisable `cmd:"" help:"Disable a terminal, in all its protocols or in one."`
	Enable  terminalEnable  `cmd:"" help:"Enable a terminal again."`
	Name    terminalName    `cmd:"" help:"Give a terminal a number in a further protocol, such as iotpay or qfpay."`
	Key     terminalKey     `cmd:"" help:"Show, or make anew, the POS-KEY of a terminal of qfpay."`
}

type terminalName struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Protocol string `required:"" enum:"iotpay,qfpay" help:"Protocol: iotpay or qfpay."`
	Number   string `required:"" help:"What the terminal is called there, such as its serial number."`
	ID       string `arg:"" help:"Terminal identifier (TID)."`
}

func (c *terminalName) Run(e *env) error {
	return send(e, c.on, "POST", of(c.Merchant, "terminals", c.ID, "identities"), admin.Identity{Protocol: c.Protocol, Number: c.Number}, func(i admin.Identity) string {
		return fmt.Sprintf("Terminal %s is %s in %s.", c.ID, i.Number, i.Protocol)
	})
}

type terminalKey struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Protocol string `default:"qfpay" enum:"qfpay" help:"Protocol: qfpay."`
	New      bool   `help:"Make a new key; the former stays good until the next."`
	Number   string `arg:"" help:"The terminal's number in the protocol."`
}

func (c *terminalKey) Run(e *env) error {
	method := "GET"
	if c.New {
		method = "POST"
	}
	return send(e, c.on, method, of(c.Merchant, "identities", c.Protocol, c.Number, "key"), nil, func(k admin.TerminalKey) string { return k.Key })
}

type terminalAdd struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Store    string `required:"" help:"Number of the store."`
	ID       string `required:"" help:"Terminal identifier (TID)."`
	Name     string `required:"" help:"Name of the terminal."`
}

func (c *terminalAdd) Run(e *env) error {
	in := admin.Terminal{Terminal: c.ID, Store: c.Store, Name: c.Name}
	return send(e, c.on, "POST", of(c.Merchant, "terminals"), in, func(t admin.Terminal) string {
		return fmt.Sprintf("Terminal %s added. Next: tillgate credential add --merchant %s --terminal %s …", t.Terminal, t.Merchant, t.Terminal)
	})
}

type terminalList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func (c *terminalList) Run(e *env) error {
	return list(e, c.on, of(c.Merchant, "terminals"), nil, "TERMINAL\tSTORE\tNAME\tPROTOCOLS\tSTATE", func(t admin.Terminal) []any {
		var names []string
		for _, i := range t.Identities {
			name := i.Protocol + " " + i.Number
			if i.State != admin.Active {
				name += " (" + i.State + ")"
			}
			names = append(names, name)
		}
		return []any{t.Terminal, t.Store, t.Name, strings.Join(names, ", "), t.State}
	})
}

type terminalDisable struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Protocol string `help:"Only in this protocol; the number is the one that it has there."`
	ID       string `arg:"" help:"Terminal identifier (TID), or its number in the protocol."`
}

func (c *terminalDisable) Run(e *env) error { return setTerminal(e, *c, admin.Disabled) }

type terminalEnable terminalDisable

func (c *terminalEnable) Run(e *env) error { return setTerminal(e, terminalDisable(*c), admin.Active) }

func setTerminal(e *env, c terminalDisable, state string) error {
	if c.Protocol != "" {
		return send(e, c.on, "PATCH", of(c.Merchant, "identities", c.Protocol, c.ID), admin.Switch{State: state}, func(i admin.Identity) string {
			return fmt.Sprintf("Terminal %s of %s is %s.", i.Number, i.Protocol, i.State)
		})
	}
	return send(e, c.on, "PATCH", of(c.Merchant, "terminals", c.ID), admin.Switch{State: state}, func(t admin.Terminal) string {
		return fmt.Sprintf("Terminal %s is %s.", t.Terminal, t.State)
	})
}

// Activation codes.

type codeCommand struct {
	Add  codeAdd  `cmd:"" help:"Make an activation code, with which terminals let themselves into a store."`
	List codeList `cmd:"" help:"List a merchant's activation codes."`
	End  codeEnd  `cmd:"" help:"End an activation code; terminals that it let in stay."`
}

type codeAdd struct {
	on
	Merchant string        `required:"" help:"Public number of the merchant."`
	Store    string        `required:"" help:"Number of the store."`
	Protocol string        `default:"upay" help:"Protocol of the terminals."`
	App      string        `help:"Only for terminals of this application; any when empty."`
	Uses     int           `default:"1" help:"How many terminals it lets in; 0 for no limit."`
	For      time.Duration `default:"168h" help:"How long it is good; 0 for ever."`
}

func (c *codeAdd) Run(e *env) error {
	in := admin.Code{Store: c.Store, Protocol: c.Protocol, App: c.App, Uses: c.Uses}
	if c.For != 0 {
		in.Expires = time.Now().Add(c.For).UTC().Truncate(time.Second)
	}
	return send(e, c.on, "POST", of(c.Merchant, "codes"), in, func(k admin.Code) string {
		return fmt.Sprintf("Activation code for store %s: %s (%s)", k.Store, k.Code, codeUses(k))
	})
}

// codeUses says how often and how long a code can be used.
func codeUses(k admin.Code) string {
	uses := strconv.Itoa(k.Uses) + " left"
	if k.NoLimit {
		uses = "no limit"
	}
	if k.Expires.IsZero() {
		return uses
	}
	return uses + ", until " + k.Expires.Format(time.RFC3339)
}

type codeList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func (c *codeList) Run(e *env) error {
	return list(e, c.on, of(c.Merchant, "codes"), nil, "CODE\tSTORE\tPROTOCOL\tUSES\tSTATE", func(k admin.Code) []any {
		return []any{k.Code, k.Store, k.Protocol, codeUses(k), k.State}
	})
}

type codeEnd struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Code     string `arg:"" help:"The code."`
}

func (c *codeEnd) Run(e *env) error {
	return send(e, c.on, "DELETE", of(c.Merchant, "codes", c.Code), nil, func(k admin.Code) string {
		return fmt.Sprintf("Activation code %s is ended.", k.Code)
	})
}

// Vendors.

type vendorCommand struct {
	Add  vendorAdd  `cmd:"" help:"Add a vendor and print its key, once; or change its name and applications."`
	List vendorList `cmd:"" help:"List the vendors, whose software may activate terminals."`
}

type vendorAdd struct {
	on
	ID   string   `required:"" help:"Number of the vendor (vendor_sn), digits."`
	Name string   `required:"" help:"Name of the vendor."`
	App  []string `required:"" help:"Its applications (app_id), digits."`
}

func (c *vendorAdd) Run(e *env) error {
	return send(e, c.on, "POST", "/vendors", admin.Vendor{Vendor: c.ID, Name: c.Name, Apps: c.App}, func(v admin.Vendor) string {
		if v.Key == "" {
			return fmt.Sprintf("Vendor %s changed; its key is as it was.", v.Vendor)
		}
		return fmt.Sprintf("Vendor %s added. Its key, which is not shown again:\n%s", v.Vendor, v.Key)
	})
}

type vendorList struct{ on }

func (c *vendorList) Run(e *env) error {
	return list(e, c.on, "/vendors", nil, "VENDOR\tNAME\tAPPLICATIONS", func(v admin.Vendor) []any {
		return []any{v.Vendor, v.Name, strings.Join(v.Apps, ",")}
	})
}

// Settings.

type settingsCommand struct {
	Show settingsShow `cmd:"" help:"Show a merchant's settings for a protocol."`
	Set  settingsSet  `cmd:"" help:"Replace a merchant's settings for a protocol."`
}

type settingsShow struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Protocol string `required:"" help:"Protocol, such as upay."`
}

func (c *settingsShow) Run(e *env) error {
	return send(e, c.on, "GET", of(c.Merchant, "settings", c.Protocol), nil, func(s json.RawMessage) string { return string(s) })
}

type settingsSet struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Protocol string `required:"" help:"Protocol, such as upay."`
	Settings string `arg:"" help:"JSON, as docs/configuration.md describes it, such as '{\"terminal_key_ttl\":\"0s\"}'."`
}

func (c *settingsSet) Run(e *env) error {
	if !json.Valid([]byte(c.Settings)) {
		return errors.New("the settings are not JSON")
	}
	return send(e, c.on, "PUT", of(c.Merchant, "settings", c.Protocol), json.RawMessage(c.Settings), func(s json.RawMessage) string {
		return fmt.Sprintf("Settings of merchant %s for %s are now %s", c.Merchant, c.Protocol, s)
	})
}

// Credentials.

type credentialCommand struct {
	Add     credentialAdd     `cmd:"" help:"Add a credential and print its token, once: it is stored as a keyed hash only."`
	List    credentialList    `cmd:"" help:"List a merchant's credentials."`
	Disable credentialDisable `cmd:"" help:"Disable a credential: its callers are refused within two seconds."`
	Enable  credentialEnable  `cmd:"" help:"Enable a credential again."`
}

type credentialAdd struct {
	on
	Merchant   string `required:"" help:"Public number of the merchant."`
	Protocol   string `required:"" enum:"upp,upp-public,uqpay,iotpay" help:"Protocol that it is for: upp, upp-public for a browser-safe token, uqpay, or iotpay, whose key is the merchant's."`
	Terminal   string `help:"Terminal (TID) that it stands for; uqpay and iotpay need none."`
	Name       string `default:"" help:"What it is called in lists."`
	AllowedIPs string `name:"allowed-ips" help:"Addresses or prefixes that it is accepted from, with commas between; any when empty."`
}

func (c *credentialAdd) Run(e *env) error {
	in := admin.Credential{Protocol: c.Protocol, Terminal: c.Terminal, Name: c.Name, AllowedIPs: c.AllowedIPs}
	return send(e, c.on, "POST", of(c.Merchant, "credentials"), in, func(k admin.Credential) string {
		client := ""
		if k.ClientID != "" {
			client = "Client id: " + k.ClientID + "\n"
		}
		return fmt.Sprintf("Credential %d added. %sIts token, which is not shown again:\n%s", k.ID, client, k.Token)
	})
}

type credentialList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func (c *credentialList) Run(e *env) error {
	return list(e, c.on, of(c.Merchant, "credentials"), nil, "CREDENTIAL\tPROTOCOL\tNAME\tTERMINAL\tSTATE", func(k admin.Credential) []any {
		return []any{k.ID, k.Protocol, k.Name, k.Terminal, k.State}
	})
}

type credentialDisable struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	ID       int64  `arg:"" help:"Number of the credential, from the list."`
}

func (c *credentialDisable) Run(e *env) error { return setCredential(e, *c, admin.Disabled) }

type credentialEnable credentialDisable

func (c *credentialEnable) Run(e *env) error {
	return setCredential(e, credentialDisable(*c), admin.Active)
}

func setCredential(e *env, c credentialDisable, state string) error {
	return send(e, c.on, "PATCH", of(c.Merchant, "credentials", strconv.FormatInt(c.ID, 10)), admin.Switch{State: state}, func(k admin.Credential) string {
		return fmt.Sprintf("Credential %d is %s.", k.ID, k.State)
	})
}

// Webhooks.

type webhookCommand struct {
	Add    webhookAdd    `cmd:"" help:"Add an address to which a merchant wants a protocol's events, and print its secret, once."`
	List   webhookList   `cmd:"" help:"List a merchant's webhooks."`
	Remove webhookRemove `cmd:"" help:"Remove a webhook."`
}

type webhookAdd struct {
	on
	Merchant string   `required:"" help:"Public number of the merchant."`
	Protocol string   `default:"uqpay" help:"Protocol whose events are wanted."`
	Event    []string `help:"Only these events; all when empty."`
	Seconds  bool     `help:"Timestamps in seconds instead of milliseconds, for older clients."`
	URL      string   `arg:"" help:"Where events are posted to."`
}

func (c *webhookAdd) Run(e *env) error {
	in := admin.Webhook{Protocol: c.Protocol, URL: c.URL, Events: c.Event, Seconds: c.Seconds}
	return send(e, c.on, "POST", of(c.Merchant, "webhooks"), in, func(w admin.Webhook) string {
		return fmt.Sprintf("Webhook %d added. Its secret, which is not shown again:\n%s", w.ID, w.Secret)
	})
}

type webhookList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Protocol string `default:"uqpay" help:"Protocol whose events are wanted."`
}

func (c *webhookList) Run(e *env) error {
	return list(e, c.on, of(c.Merchant, "webhooks"), url.Values{"protocol": {c.Protocol}}, "WEBHOOK\tPROTOCOL\tEVENTS\tURL", func(w admin.Webhook) []any {
		events := strings.Join(w.Events, ",")
		if events == "" {
			events = "all"
		}
		return []any{w.ID, w.Protocol, events, w.URL}
	})
}

type webhookRemove struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	ID       int64  `arg:"" help:"Number of the webhook, from the list."`
}

func (c *webhookRemove) Run(e *env) error {
	return send(e, c.on, "DELETE", of(c.Merchant, "webhooks", strconv.FormatInt(c.ID, 10)), nil, func(w admin.Webhook) string {
		return fmt.Sprintf("Webhook %d is removed.", w.ID)
	})
}

// Ledger.

type ledgerCommand struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Payment  string `help:"Only entries of the payment with this number, of any protocol."`
	From     string `help:"Only from this business day, such as 2026-04-14."`
	To       string `help:"Only until this business day."`
	Balances bool   `help:"Show the sums instead of the entries."`
}

// Help teaches the accounts.
func (ledgerCommand) Help() string {
	return "Each entry has four amounts, which sum to zero: receivable (what the acquirer owes us), payable (what we owe the merchant, negative), " +
		"fees and tips. A refund keeps the fee; a void (Upay's revoke) returns it."
}

func (c *ledgerCommand) Run(e *env) error {
	if c.Balances {
		return list(e, c.on, of(c.Merchant, "balances"), nil, "CURRENCY\tRECEIVABLE\tPAYABLE\tFEES\tTIPS", func(b admin.Balance) []any {
			return []any{b.Currency, minor(b.Receivable, b.Currency), minor(b.Payable, b.Currency), minor(b.Fees, b.Currency), minor(b.Tips, b.Currency)}
		})
	}
	query := url.Values{}
	for name, value := range map[string]string{"payment": c.Payment, "from": c.From, "to": c.To} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return list(e, c.on, of(c.Merchant, "ledger"), query, "DAY\tPAYMENT\tKIND\tACQUIRER\tCURRENCY\tRECEIVABLE\tPAYABLE\tFEES\tTIPS", func(r admin.Entry) []any {
		return []any{r.Day, r.Payment, r.Kind, r.Acquirer, r.Currency, minor(r.Receivable, r.Currency), minor(r.Payable, r.Currency),
			minor(r.Fees, r.Currency), minor(r.Tips, r.Currency)}
	})
}

// Batches.

type batchCommand struct {
	Close batchClose `cmd:"" help:"Close what an acquirer has approved and no batch has yet; a server does so by itself after each business day."`
	List  batchList  `cmd:"" help:"List a merchant's settlement batches."`
}

// batchHeading and batchLine show batches to people.
const batchHeading = "BATCH\tACQUIRER\tUNTIL\tCURRENCY\tDEBITS\tCREDITS\tUPLOADED\tSTATE"

func batchLine(b admin.Batch) []any {
	until := b.Until
	if strings.HasPrefix(until, "9999") {
		until = "all"
	}
	return []any{b.Batch, b.Acquirer, until, b.Currency, fmt.Sprintf("%d of %s", b.Debits, minor(b.DebitMinor, b.Currency)),
		fmt.Sprintf("%d of %s", b.Credits, minor(b.CreditMinor, b.Currency)), b.Uploaded, b.State}
}

type batchClose struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Acquirer string `default:"card" help:"Link that approved."`
	Until    string `help:"Only until this business day, such as 2026-04-14; everything when empty."`
}

func (c *batchClose) Run(e *env) error {
	return c.open(e, func(client *admin.Client) error {
		var page admin.Page[admin.Batch]
		if err := client.Do(e.ctx, "POST", of(c.Merchant, "batches"), admin.CloseBatch{Acquirer: c.Acquirer, Until: c.Until}, &page); err != nil {
			return err
		}
		return c.print(e, page.Rows, func(w io.Writer) {
			fmt.Fprintln(w, batchHeading)
			for _, b := range page.Rows {
				fmt.Fprintf(w, strings.Repeat("%v\t", 7)+"%v\n", batchLine(b)...)
			}
		})
	})
}

type batchList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func (c *batchList) Run(e *env) error {
	return list(e, c.on, of(c.Merchant, "batches"), nil, batchHeading, batchLine)
}
