package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/vault"
)

// on is where operators' commands find the rows, and how they print.
type on struct {
	Config string `short:"c" type:"path" help:"Configuration file of the server, for its data folder."`
	Data   string `type:"path" help:"Data folder of the server, which may be running."`
	JSON   bool   `help:"Print JSON."`
}

// open opens the store beside its server and runs fn with it.
func (o on) open(e *env, fn func(*sqlstore.Store, *vault.Vault) error) error {
	cfg, err := loadConfig(o.Config, e.getenv)
	if err != nil {
		return err
	}
	if o.Data != "" {
		cfg.Data = o.Data
	}
	store, keys, err := openTool(e.ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(fn(store, keys), store.Close())
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

// listPage is how many rows a list asks for at once.
const listPage = 500

// all reads a list to its end, page by page.
func all[T any, K any](page func(after K, limit int) ([]T, error), key func(T) K) ([]T, error) {
	rows, after := []T{}, *new(K)
	for {
		next, err := page(after, listPage)
		if err != nil {
			return nil, err
		}
		rows = append(rows, next...)
		if len(next) < listPage {
			return rows, nil
		}
		after = key(next[len(next)-1])
	}
}

func merchantOf(e *env, s *sqlstore.Store, publicID string) (payment.Merchant, error) {
	m, err := s.FindMerchantByPublicID(e.ctx, publicID)
	if errors.Is(err, payment.ErrNotFound) {
		return m, fmt.Errorf("there is no merchant %s; list them with: tillgate merchant list", publicID)
	}
	return m, err
}

func state(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "active"
}

// Merchants.

type merchantCommand struct {
	Add     merchantAdd     `cmd:"" help:"Add a merchant."`
	List    merchantList    `cmd:"" help:"List the merchants."`
	Disable merchantDisable `cmd:"" help:"Disable a merchant: its callers are refused within two seconds."`
	Enable  merchantEnable  `cmd:"" help:"Enable a merchant again."`
}

type merchantRow struct {
	Merchant   string   `json:"merchant"`
	Company    string   `json:"company"`
	Name       string   `json:"name"`
	Currencies []string `json:"currencies"`
	State      string   `json:"state"`
}

func rowOfMerchant(m payment.Merchant) merchantRow {
	return merchantRow{m.PublicID, m.CompanyName, m.Name, m.Currencies, state(m.Disabled)}
}

type merchantAdd struct {
	on
	ID       string   `required:"" help:"Public number, digits, such as 740218."`
	Company  string   `required:"" help:"Legal entity."`
	Name     string   `required:"" help:"Trading name."`
	Currency []string `required:"" help:"Currencies that it takes, such as AUD,NZD."`
}

func (c *merchantAdd) Run(e *env) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		for i := range c.Currency {
			c.Currency[i] = strings.ToUpper(c.Currency[i])
		}
		m, err := s.AddMerchant(e.ctx, payment.Merchant{PublicID: c.ID, CompanyName: c.Company, Name: c.Name, Currencies: c.Currency})
		if err != nil {
			return err
		}
		return c.print(e, rowOfMerchant(m), func(w io.Writer) {
			fmt.Fprintf(w, "Merchant %s added. Next: tillgate store add --merchant %s …, tillgate method set --merchant %s …\n", c.ID, c.ID, c.ID)
		})
	})
}

type merchantList struct{ on }

func (c *merchantList) Run(e *env) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		merchants, err := all(func(after payment.MerchantID, n int) ([]payment.Merchant, error) { return s.Merchants(e.ctx, after, n) },
			func(m payment.Merchant) payment.MerchantID { return m.ID })
		if err != nil {
			return err
		}
		rows := []merchantRow{}
		for _, m := range merchants {
			rows = append(rows, rowOfMerchant(m))
		}
		return c.print(e, rows, func(w io.Writer) {
			fmt.Fprintln(w, "MERCHANT\tNAME\tCOMPANY\tCURRENCIES\tSTATE")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Merchant, r.Name, r.Company, strings.Join(r.Currencies, ","), r.State)
			}
		})
	})
}

type merchantDisable struct {
	on
	ID string `arg:"" help:"Public number of the merchant."`
}

func (c *merchantDisable) Run(e *env) error { return setMerchant(e, c.on, c.ID, true) }

type merchantEnable merchantDisable

func (c *merchantEnable) Run(e *env) error { return setMerchant(e, c.on, c.ID, false) }

func setMerchant(e *env, o on, id string, disabled bool) error {
	return o.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, id)
		if err == nil {
			err = s.SetMerchantDisabled(e.ctx, m.ID, disabled)
		}
		if err != nil {
			return err
		}
		m.Disabled = disabled
		return o.print(e, rowOfMerchant(m), func(w io.Writer) { fmt.Fprintf(w, "Merchant %s is %s.\n", id, state(disabled)) })
	})
}

// Methods.

type methodCommand struct {
	Set  methodSet  `cmd:"" help:"Let a merchant take a payment method, or change how."`
	List methodList `cmd:"" help:"List the payment methods that a merchant takes."`
}

type methodRow struct {
	Method        string `json:"method"`
	Acquirer      string `json:"acquirer"`
	FeeMillionths int64  `json:"fee_millionths"`
	FeeFixed      int64  `json:"fee_fixed_minor"`
}

type methodSet struct {
	on
	Merchant string   `required:"" help:"Public number of the merchant."`
	Method   []string `required:"" help:"Payment methods, such as alipay,wechat."`
	Acquirer string   `default:"wallet" help:"Link that approves them."`
	Percent  string   `default:"0" help:"Fee in percent of the amount, such as 1.4."`
	Fixed    int64    `default:"0" help:"Fee per payment in minor units, such as 10 for ten cents."`
}

func (c *methodSet) Run(e *env) error {
	rate, err := parsePercent(c.Percent)
	if err != nil {
		return fmt.Errorf("--percent: %w", err)
	}
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		rows := []methodRow{}
		for _, name := range c.Method {
			if err := s.SetMethod(e.ctx, m.ID, name, payment.Method{Acquirer: c.Acquirer, Rate: payment.Rate{Millionths: rate, Fixed: c.Fixed}}); err != nil {
				return err
			}
			rows = append(rows, methodRow{name, c.Acquirer, rate, c.Fixed})
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
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		rows := []methodRow{}
		for _, name := range slices.Sorted(maps.Keys(m.Methods)) {
			method := m.Methods[name]
			rows = append(rows, methodRow{name, method.Acquirer, method.Rate.Millionths, method.Rate.Fixed})
		}
		return c.print(e, rows, func(w io.Writer) {
			fmt.Fprintln(w, "METHOD\tACQUIRER\tFEE (MILLIONTHS)\tFEE (MINOR UNITS)")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", r.Method, r.Acquirer, r.FeeMillionths, r.FeeFixed)
			}
		})
	})
}

// Stores.

type storeCommand struct {
	Add     storeAdd     `cmd:"" help:"Add a store to a merchant."`
	List    storeList    `cmd:"" help:"List a merchant's stores."`
	Disable storeDisable `cmd:"" help:"Disable a store."`
	Enable  storeEnable  `cmd:"" help:"Enable a store again."`
}

type storeRow struct {
	Merchant string `json:"merchant"`
	Store    string `json:"store"`
	Name     string `json:"name"`
	Zone     string `json:"zone"`
	CutOff   string `json:"cut_off"`
	State    string `json:"state"`
}

func rowOfStore(merchant string, p payment.Place) storeRow {
	return storeRow{merchant, p.PublicID, p.Name, p.Calendar.Zone, p.Calendar.CutOff.String(), state(p.Disabled)}
}

func storesOf(e *env, s *sqlstore.Store, m payment.MerchantID) ([]payment.Place, error) {
	return all(func(after payment.ID, n int) ([]payment.Place, error) { return s.Stores(e.ctx, m, after, n) }, func(p payment.Place) payment.ID { return p.ID })
}

func storeOf(e *env, s *sqlstore.Store, m payment.Merchant, publicID string) (payment.Place, error) {
	places, err := storesOf(e, s, m.ID)
	for _, p := range places {
		if p.PublicID == publicID {
			return p, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("merchant %s has no store %s; list them with: tillgate store list --merchant %s", m.PublicID, publicID, m.PublicID)
	}
	return payment.Place{}, err
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
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		p, err := s.AddStore(e.ctx, m.ID, payment.Place{PublicID: c.ID, Name: c.Name, Calendar: payment.Calendar{Zone: c.Zone, CutOff: c.CutOff}})
		if err != nil {
			return err
		}
		return c.print(e, rowOfStore(c.Merchant, p), func(w io.Writer) {
			fmt.Fprintf(w, "Store %s added. Next: tillgate terminal add --merchant %s --store %s …\n", c.ID, c.Merchant, c.ID)
		})
	})
}

type storeList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func (c *storeList) Run(e *env) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		places, err := storesOf(e, s, m.ID)
		if err != nil {
			return err
		}
		rows := []storeRow{}
		for _, p := range places {
			rows = append(rows, rowOfStore(c.Merchant, p))
		}
		return c.print(e, rows, func(w io.Writer) {
			fmt.Fprintln(w, "STORE\tNAME\tZONE\tCUT-OFF\tSTATE")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Store, r.Name, r.Zone, r.CutOff, r.State)
			}
		})
	})
}

type storeDisable struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	ID       string `arg:"" help:"Number of the store."`
}

func (c *storeDisable) Run(e *env) error { return setStore(e, *c, true) }

type storeEnable storeDisable

func (c *storeEnable) Run(e *env) error { return setStore(e, storeDisable(*c), false) }

func setStore(e *env, c storeDisable, disabled bool) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		p, err := storeOf(e, s, m, c.ID)
		if err == nil {
			err = s.SetStoreDisabled(e.ctx, m.ID, p.ID, disabled)
		}
		if err != nil {
			return err
		}
		p.Disabled = disabled
		return c.print(e, rowOfStore(c.Merchant, p), func(w io.Writer) { fmt.Fprintf(w, "Store %s is %s.\n", c.ID, state(disabled)) })
	})
}

// Terminals.

type terminalCommand struct {
	Add     terminalAdd     `cmd:"" help:"Add a terminal to a store."`
	List    terminalList    `cmd:"" help:"List a merchant's terminals."`
	Disable terminalDisable `cmd:"" help:"Disable a terminal."`
	Enable  terminalEnable  `cmd:"" help:"Enable a terminal again."`
}

type terminalRow struct {
	Merchant string `json:"merchant"`
	Terminal string `json:"terminal"`
	Store    string `json:"store"`
	Name     string `json:"name"`
	State    string `json:"state"`
}

func terminalsOf(e *env, s *sqlstore.Store, m payment.MerchantID) ([]payment.Terminal, error) {
	return all(func(after payment.ID, n int) ([]payment.Terminal, error) { return s.Terminals(e.ctx, m, after, n) },
		func(d payment.Terminal) payment.ID { return d.ID })
}

func terminalOf(e *env, s *sqlstore.Store, m payment.Merchant, tid string) (payment.Terminal, error) {
	terminals, err := terminalsOf(e, s, m.ID)
	for _, d := range terminals {
		if d.PublicID == tid {
			return d, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("merchant %s has no terminal %s; list them with: tillgate terminal list --merchant %s", m.PublicID, tid, m.PublicID)
	}
	return payment.Terminal{}, err
}

type terminalAdd struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	Store    string `required:"" help:"Number of the store."`
	ID       string `required:"" help:"Terminal identifier (TID)."`
	Name     string `required:"" help:"Name of the terminal."`
}

func (c *terminalAdd) Run(e *env) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		p, err := storeOf(e, s, m, c.Store)
		if err != nil {
			return err
		}
		d, err := s.AddTerminal(e.ctx, m.ID, payment.Terminal{PublicID: c.ID, Store: p.ID, Name: c.Name})
		if err != nil {
			return err
		}
		return c.print(e, terminalRow{c.Merchant, d.PublicID, c.Store, d.Name, state(d.Disabled)}, func(w io.Writer) {
			fmt.Fprintf(w, "Terminal %s added. Next: tillgate credential add --merchant %s --terminal %s …\n", c.ID, c.Merchant, c.ID)
		})
	})
}

type terminalList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func (c *terminalList) Run(e *env) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		terminals, err := terminalsOf(e, s, m.ID)
		if err != nil {
			return err
		}
		places, err := storesOf(e, s, m.ID)
		if err != nil {
			return err
		}
		names := map[payment.ID]string{}
		for _, p := range places {
			names[p.ID] = p.PublicID
		}
		rows := []terminalRow{}
		for _, d := range terminals {
			rows = append(rows, terminalRow{c.Merchant, d.PublicID, names[d.Store], d.Name, state(d.Disabled)})
		}
		return c.print(e, rows, func(w io.Writer) {
			fmt.Fprintln(w, "TERMINAL\tSTORE\tNAME\tSTATE")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Terminal, r.Store, r.Name, r.State)
			}
		})
	})
}

type terminalDisable struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	ID       string `arg:"" help:"Terminal identifier (TID)."`
}

func (c *terminalDisable) Run(e *env) error { return setTerminal(e, *c, true) }

type terminalEnable terminalDisable

func (c *terminalEnable) Run(e *env) error { return setTerminal(e, terminalDisable(*c), false) }

func setTerminal(e *env, c terminalDisable, disabled bool) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		d, err := terminalOf(e, s, m, c.ID)
		if err == nil {
			err = s.SetTerminalDisabled(e.ctx, m.ID, d.ID, disabled)
		}
		if err != nil {
			return err
		}
		return c.print(e, terminalRow{Merchant: c.Merchant, Terminal: d.PublicID, Name: d.Name, State: state(disabled)}, func(w io.Writer) {
			fmt.Fprintf(w, "Terminal %s is %s.\n", c.ID, state(disabled))
		})
	})
}

// Credentials.

type credentialCommand struct {
	Add     credentialAdd     `cmd:"" help:"Add a credential and print its token, once: it is stored as a keyed hash only."`
	List    credentialList    `cmd:"" help:"List a merchant's credentials."`
	Disable credentialDisable `cmd:"" help:"Disable a credential: its callers are refused within two seconds."`
	Enable  credentialEnable  `cmd:"" help:"Enable a credential again."`
}

type credentialRow struct {
	Merchant   string `json:"merchant"`
	ID         int64  `json:"id"`
	Protocol   string `json:"protocol"`
	Name       string `json:"name"`
	Terminal   string `json:"terminal,omitempty"`
	AllowedIPs string `json:"allowed_ips,omitempty"`
	State      string `json:"state"`
	Token      string `json:"token,omitempty"` // After add only.
}

type credentialAdd struct {
	on
	Merchant   string `required:"" help:"Public number of the merchant."`
	Protocol   string `required:"" enum:"upp,upp-public" help:"Protocol that it is for: upp, or upp-public for a browser-safe token."`
	Terminal   string `required:"" help:"Terminal (TID) that it stands for."`
	Name       string `default:"" help:"What it is called in lists."`
	AllowedIPs string `name:"allowed-ips" help:"Addresses or prefixes that it is accepted from, with commas between; any when empty."`
}

func (c *credentialAdd) Run(e *env) error {
	return c.open(e, func(s *sqlstore.Store, keys *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		d, err := terminalOf(e, s, m, c.Terminal)
		if err != nil {
			return err
		}
		secret := make([]byte, 32)
		rand.Read(secret) // Never fails.
		token := "upp_" + base64.RawURLEncoding.EncodeToString(secret)
		if c.Name == "" {
			c.Name = c.Protocol + " " + c.Terminal
		}
		cred, err := s.AddCredential(e.ctx, payment.Credential{Protocol: c.Protocol, Merchant: m.ID, Store: d.Store, Terminal: d.ID, Name: c.Name,
			Profile: payment.Profile{AllowedIPs: c.AllowedIPs}}, payment.CredentialHash(keys, c.Protocol, token))
		if err != nil {
			return err
		}
		row := credentialRow{c.Merchant, int64(cred.ID), c.Protocol, c.Name, c.Terminal, c.AllowedIPs, state(false), token}
		return c.print(e, row, func(w io.Writer) {
			fmt.Fprintf(w, "Credential %d added. Its token, which is not shown again:\n%s\n", cred.ID, token)
		})
	})
}

type credentialList struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
}

func credentialsOf(e *env, s *sqlstore.Store, m payment.MerchantID) ([]payment.Credential, error) {
	return all(func(after payment.ID, n int) ([]payment.Credential, error) { return s.Credentials(e.ctx, m, after, n) },
		func(c payment.Credential) payment.ID { return c.ID })
}

func (c *credentialList) Run(e *env) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err != nil {
			return err
		}
		credentials, err := credentialsOf(e, s, m.ID)
		if err != nil {
			return err
		}
		terminals, err := terminalsOf(e, s, m.ID)
		if err != nil {
			return err
		}
		tids := map[payment.ID]string{}
		for _, d := range terminals {
			tids[d.ID] = d.PublicID
		}
		rows := []credentialRow{}
		for _, cred := range credentials {
			rows = append(rows, credentialRow{Merchant: c.Merchant, ID: int64(cred.ID), Protocol: cred.Protocol, Name: cred.Name,
				Terminal: tids[cred.Terminal], AllowedIPs: cred.Profile.AllowedIPs, State: state(cred.Disabled)})
		}
		return c.print(e, rows, func(w io.Writer) {
			fmt.Fprintln(w, "CREDENTIAL\tPROTOCOL\tNAME\tTERMINAL\tSTATE")
			for _, r := range rows {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", r.ID, r.Protocol, r.Name, r.Terminal, r.State)
			}
		})
	})
}

type credentialDisable struct {
	on
	Merchant string `required:"" help:"Public number of the merchant."`
	ID       int64  `arg:"" help:"Number of the credential, from the list."`
}

func (c *credentialDisable) Run(e *env) error { return setCredential(e, *c, true) }

type credentialEnable credentialDisable

func (c *credentialEnable) Run(e *env) error { return setCredential(e, credentialDisable(*c), false) }

func setCredential(e *env, c credentialDisable, disabled bool) error {
	return c.open(e, func(s *sqlstore.Store, _ *vault.Vault) error {
		m, err := merchantOf(e, s, c.Merchant)
		if err == nil {
			err = s.SetCredentialDisabled(e.ctx, m.ID, payment.ID(c.ID), disabled)
		}
		if errors.Is(err, payment.ErrNotFound) {
			return fmt.Errorf("merchant %s has no credential %d; list them with: tillgate credential list --merchant %s", c.Merchant, c.ID, c.Merchant)
		}
		if err != nil {
			return err
		}
		return c.print(e, credentialRow{Merchant: c.Merchant, ID: c.ID, State: state(disabled)}, func(w io.Writer) {
			fmt.Fprintf(w, "Credential %d is %s.\n", c.ID, state(disabled))
		})
	})
}
