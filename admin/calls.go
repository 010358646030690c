package admin

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// routes are all calls, in the order in which they are described.
var routes []route

func init() {
	routes = append(routes,
		on("GET", "/merchants", "List the merchants.", []string{"after"}, (*Server).listMerchants),
		on("POST", "/merchants", "Add a merchant.", nil, (*Server).addMerchant),
		on("PATCH", "/merchants/{merchant}", "Enable or disable a merchant: its callers are refused within two seconds.", nil, (*Server).switchMerchant),
		on("GET", "/merchants/{merchant}/methods", "List the payment methods that a merchant takes.", nil, (*Server).listMethods),
		on("PUT", "/merchants/{merchant}/methods/{method}", "Let a merchant take a payment method, or change how.", nil, (*Server).setMethod),
		on("DELETE", "/merchants/{merchant}/methods/{method}", "Let a merchant take a payment method no more.", nil, (*Server).removeMethod),
		on("GET", "/merchants/{merchant}/stores", "List a merchant's stores.", []string{"after"}, (*Server).listStores),
		on("POST", "/merchants/{merchant}/stores", "Add a store.", nil, (*Server).addStore),
		on("PATCH", "/merchants/{merchant}/stores/{store}", "Enable or disable a store.", nil, (*Server).switchStore),
		on("GET", "/merchants/{merchant}/terminals", "List a merchant's terminals.", []string{"after"}, (*Server).listTerminals),
		on("POST", "/merchants/{merchant}/terminals", "Add a terminal.", nil, (*Server).addTerminal),
		on("PATCH", "/merchants/{merchant}/terminals/{terminal}", "Enable or disable a terminal, in all its protocols.", nil, (*Server).switchTerminal),
		on("GET", "/merchants/{merchant}/credentials", "List a merchant's credentials.", []string{"after"}, (*Server).listCredentials),
		on("POST", "/merchants/{merchant}/credentials", "Add a credential. Its token is in the answer and shown never again.", nil, (*Server).addCredential),
		on("PATCH", "/merchants/{merchant}/credentials/{id}", "Enable or disable a credential.", nil, (*Server).switchCredential),
		on("GET", "/merchants/{merchant}/webhooks", "List a merchant's webhooks of a protocol.", []string{"protocol"}, (*Server).listWebhooks),
		on("POST", "/merchants/{merchant}/webhooks", "Add a webhook. Its secret is in the answer and shown never again.", nil, (*Server).addWebhook),
		on("DELETE", "/merchants/{merchant}/webhooks/{id}", "Remove a webhook.", nil, (*Server).removeWebhook),
	)
}

// Merchants.

func rowOfMerchant(m payment.Merchant) Merchant {
	return Merchant{m.PublicID, m.CompanyName, m.Name, m.Currencies, state(m.Disabled)}
}

func (s *Server) merchant(c call) (payment.Merchant, error) {
	m, err := s.cfg.Store.FindMerchantByPublicID(c.ctx, c.path("merchant"))
	return m, found(err, "there is no merchant %s; list them with: tillgate merchant list", c.path("merchant"))
}

func (s *Server) listMerchants(c call, _ none) (Page[Merchant], error) {
	return page(c, func(after payment.MerchantID, n int) ([]payment.Merchant, error) {
		return s.cfg.Store.Merchants(c.ctx, after, n)
	},
		func(m payment.Merchant) payment.MerchantID { return m.ID }, rowOfMerchant)
}

func (s *Server) addMerchant(c call, in Merchant) (Merchant, error) {
	m, err := s.cfg.Store.AddMerchant(c.ctx, payment.Merchant{PublicID: in.Merchant, CompanyName: in.Company, Name: in.Name, Currencies: in.Currencies})
	return rowOfMerchant(m), err
}

func (s *Server) switchMerchant(c call, in Switch) (Merchant, error) {
	off, err := in.off()
	if err != nil {
		return Merchant{}, err
	}
	m, err := s.merchant(c)
	if err == nil {
		m.Disabled = off
		err = s.cfg.Store.SetMerchantDisabled(c.ctx, m.ID, off)
	}
	return rowOfMerchant(m), err
}

// Methods.

func rowOfMethod(name string, m payment.Method) Method {
	return Method{name, m.Acquirer, m.Rate.Millionths, m.Rate.Fixed}
}

func (s *Server) listMethods(c call, _ none) (Page[Method], error) {
	m, err := s.merchant(c)
	out := Page[Method]{Rows: []Method{}}
	for _, name := range slices.Sorted(maps.Keys(m.Methods)) {
		out.Rows = append(out.Rows, rowOfMethod(name, m.Methods[name]))
	}
	return out, err
}

func (s *Server) setMethod(c call, in Method) (Method, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Method{}, err
	}
	method := payment.Method{Acquirer: in.Acquirer, Rate: payment.Rate{Millionths: in.FeeMillionths, Fixed: in.FeeFixed}}
	return rowOfMethod(c.path("method"), method), s.cfg.Store.SetMethod(c.ctx, m.ID, c.path("method"), method)
}

func (s *Server) removeMethod(c call, _ none) (Method, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Method{}, err
	}
	err = s.cfg.Store.RemoveMethod(c.ctx, m.ID, c.path("method"))
	return rowOfMethod(c.path("method"), m.Methods[c.path("method")]), found(err, "merchant %s does not take %s", m.PublicID, c.path("method"))
}

// Stores.

func rowOfStore(merchant string) func(payment.Place) Store {
	return func(p payment.Place) Store {
		return Store{merchant, p.PublicID, p.Name, p.Calendar.Zone, p.Calendar.CutOff.String(), state(p.Disabled)}
	}
}

func (s *Server) stores(c call, m payment.Merchant) func(payment.ID, int) ([]payment.Place, error) {
	return func(after payment.ID, n int) ([]payment.Place, error) {
		return s.cfg.Store.Stores(c.ctx, m.ID, after, n)
	}
}

func placeID(p payment.Place) payment.ID { return p.ID }

// store finds a merchant's store by its number.
func (s *Server) store(c call, m payment.Merchant, number string) (payment.Place, error) {
	p, ok, err := search(s.stores(c, m), placeID, func(p payment.Place) bool { return p.PublicID == number })
	if err == nil && !ok {
		err = missing("merchant %s has no store %s; list them with: tillgate store list --merchant %s", m.PublicID, number, m.PublicID)
	}
	return p, err
}

func (s *Server) listStores(c call, _ none) (Page[Store], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Store]{}, err
	}
	return page(c, s.stores(c, m), placeID, rowOfStore(m.PublicID))
}

func (s *Server) addStore(c call, in Store) (Store, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Store{}, err
	}
	cutOff := time.Duration(0)
	if in.CutOff != "" {
		if cutOff, err = time.ParseDuration(in.CutOff); err != nil {
			return Store{}, &payment.FieldError{Field: "cut_off", Problem: "is not a time such as 4h"}
		}
	}
	p, err := s.cfg.Store.AddStore(c.ctx, m.ID, payment.Place{PublicID: in.Store, Name: in.Name, Calendar: payment.Calendar{Zone: in.Zone, CutOff: cutOff}})
	return rowOfStore(m.PublicID)(p), err
}

func (s *Server) switchStore(c call, in Switch) (Store, error) {
	off, err := in.off()
	if err != nil {
		return Store{}, err
	}
	m, err := s.merchant(c)
	if err != nil {
		return Store{}, err
	}
	p, err := s.store(c, m, c.path("store"))
	if err == nil {
		p.Disabled = off
		err = s.cfg.Store.SetStoreDisabled(c.ctx, m.ID, p.ID, off)
	}
	return rowOfStore(m.PublicID)(p), err
}

// Terminals.

func (s *Server) terminals(c call, m payment.Merchant) func(payment.ID, int) ([]payment.Terminal, error) {
	return func(after payment.ID, n int) ([]payment.Terminal, error) {
		return s.cfg.Store.Terminals(c.ctx, m.ID, after, n)
	}
}

func terminalID(d payment.Terminal) payment.ID { return d.ID }

func (s *Server) terminal(c call, m payment.Merchant, tid string) (payment.Terminal, error) {
	d, ok, err := search(s.terminals(c, m), terminalID, func(d payment.Terminal) bool { return d.PublicID == tid })
	if err == nil && !ok {
		err = missing("merchant %s has no terminal %s; list them with: tillgate terminal list --merchant %s", m.PublicID, tid, m.PublicID)
	}
	return d, err
}

// storeNames are the numbers of a merchant's stores by their IDs.
func (s *Server) storeNames(c call, m payment.Merchant) (map[payment.ID]string, error) {
	names := map[payment.ID]string{}
	_, _, err := search(s.stores(c, m), placeID, func(p payment.Place) bool {
		names[p.ID] = p.PublicID
		return false
	})
	return names, err
}

func (s *Server) listTerminals(c call, _ none) (Page[Terminal], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Terminal]{}, err
	}
	names, err := s.storeNames(c, m)
	if err != nil {
		return Page[Terminal]{}, err
	}
	var failed error
	out, err := page(c, s.terminals(c, m), terminalID, func(d payment.Terminal) Terminal {
		row := Terminal{Merchant: m.PublicID, Terminal: d.PublicID, Store: names[d.Store], Name: d.Name, State: state(d.Disabled)}
		if failed == nil {
			row.Identities, failed = s.identities(c, m, d)
		}
		return row
	})
	if err == nil {
		err = failed
	}
	return out, err
}

func (s *Server) addTerminal(c call, in Terminal) (Terminal, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Terminal{}, err
	}
	p, err := s.store(c, m, in.Store)
	if err != nil {
		return Terminal{}, err
	}
	d, err := s.cfg.Store.AddTerminal(c.ctx, m.ID, payment.Terminal{PublicID: in.Terminal, Store: p.ID, Name: in.Name})
	return Terminal{Merchant: m.PublicID, Terminal: d.PublicID, Store: p.PublicID, Name: d.Name, State: state(d.Disabled)}, err
}

func (s *Server) switchTerminal(c call, in Switch) (Terminal, error) {
	off, err := in.off()
	if err != nil {
		return Terminal{}, err
	}
	m, err := s.merchant(c)
	if err != nil {
		return Terminal{}, err
	}
	d, err := s.terminal(c, m, c.path("terminal"))
	if err == nil {
		err = s.cfg.Store.SetTerminalDisabled(c.ctx, m.ID, d.ID, off)
	}
	return Terminal{Merchant: m.PublicID, Terminal: d.PublicID, Name: d.Name, State: state(off)}, err
}

// Credentials.

func (s *Server) listCredentials(c call, _ none) (Page[Credential], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Credential]{}, err
	}
	tids := map[payment.ID]string{}
	if _, _, err := search(s.terminals(c, m), terminalID, func(d payment.Terminal) bool {
		tids[d.ID] = d.PublicID
		return false
	}); err != nil {
		return Page[Credential]{}, err
	}
	return page(c, func(after payment.ID, n int) ([]payment.Credential, error) {
		return s.cfg.Store.Credentials(c.ctx, m.ID, after, n)
	},
		func(k payment.Credential) payment.ID { return k.ID }, func(k payment.Credential) Credential {
			return Credential{Merchant: m.PublicID, ID: int64(k.ID), Protocol: k.Protocol, Name: k.Name, Terminal: tids[k.Terminal],
				AllowedIPs: k.Profile.AllowedIPs, State: state(k.Disabled)}
		})
}

func (s *Server) switchCredential(c call, in Switch) (Credential, error) {
	off, err := in.off()
	if err != nil {
		return Credential{}, err
	}
	m, err := s.merchant(c)
	if err != nil {
		return Credential{}, err
	}
	id, err := strconv.ParseInt(c.path("id"), 10, 64)
	if err != nil {
		return Credential{}, missing("merchant %s has no credential %s", m.PublicID, c.path("id"))
	}
	err = s.cfg.Store.SetCredentialDisabled(c.ctx, m.ID, payment.ID(id), off)
	return Credential{Merchant: m.PublicID, ID: id, State: state(off)},
		found(err, "merchant %s has no credential %d; list them with: tillgate credential list --merchant %s", m.PublicID, id, m.PublicID)
}

func (s *Server) addCredential(c call, in Credential) (Credential, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Credential{}, err
	}
	if newKey := s.cfg.NewKey[in.Protocol]; newKey != nil {
		key, err := newKey(c.ctx, m.ID)
		return Credential{Merchant: m.PublicID, Protocol: in.Protocol, Name: in.Protocol, State: Active, ClientID: m.PublicID, Token: key}, err
	}
	enrol := s.cfg.Enrol[in.Protocol]
	var d payment.Terminal
	if in.Terminal != "" || enrol == nil {
		if d, err = s.terminal(c, m, in.Terminal); err != nil {
			return Credential{}, err
		}
	}
	if in.Name == "" {
		in.Name = strings.TrimSpace(in.Protocol + " " + in.Terminal)
	}
	out := Credential{Merchant: m.PublicID, Protocol: in.Protocol, Name: in.Name, Terminal: in.Terminal, AllowedIPs: in.AllowedIPs, State: Active}
	if out.Token, err = s.secret(in.Protocol[:min(3, len(in.Protocol))] + "_"); err != nil {
		return Credential{}, err
	}
	secret, profile := out.Token, payment.Profile{AllowedIPs: in.AllowedIPs}
	if enrol != nil {
		if out.ClientID, err = s.hexSecret(); err != nil {
			return Credential{}, err
		}
		secret, profile = enrol(out.ClientID, out.Token, profile)
	}
	k, err := s.cfg.Store.AddCredential(c.ctx, payment.Credential{Protocol: in.Protocol, Merchant: m.ID, Store: d.Store, Terminal: d.ID, Name: in.Name,
		Profile: profile}, payment.CredentialHash(s.cfg.Vault, in.Protocol, secret))
	out.ID = int64(k.ID)
	return out, err
}

// secret makes an unguessable text of 256 bits.
func (s *Server) secret(prefix string) (string, error) {
	raw := make([]byte, 32)
	if _, err := io.ReadFull(s.cfg.Rand, raw); err != nil {
		return "", err
	}
	return prefix + base64.RawURLEncoding.EncodeToString(raw), nil
}

// hexSecret makes an unguessable text of 128 bits in hexadecimal, as Upay's keys are.
func (s *Server) hexSecret() (string, error) {
	raw := make([]byte, 16)
	if _, err := io.ReadFull(s.cfg.Rand, raw); err != nil {
		return "", err
	}
	return hex.EncodeToString(raw), nil
}

// Webhooks.

func (s *Server) listWebhooks(c call, _ none) (Page[Webhook], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Webhook]{}, err
	}
	out := Page[Webhook]{Rows: []Webhook{}}
	err = s.cfg.Store.Read(c.ctx, func(r payment.Reader) error {
		hooks, err := r.Webhooks(m.ID, c.query("protocol"))
		out.Rows = out.Rows[:0]
		for _, w := range hooks {
			out.Rows = append(out.Rows, Webhook{Merchant: m.PublicID, ID: int64(w.ID), Protocol: w.Protocol, URL: w.URL, Events: w.Events, Seconds: w.Seconds})
		}
		return err
	})
	return out, err
}

func (s *Server) addWebhook(c call, in Webhook) (Webhook, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Webhook{}, err
	}
	if err := s.cfg.CheckTarget(in.URL); err != nil {
		return Webhook{}, &payment.FieldError{Field: "url", Problem: err.Error()}
	}
	secret, err := s.secret("whsec_")
	if err != nil {
		return Webhook{}, err
	}
	w := payment.Webhook{Merchant: m.ID, Protocol: in.Protocol, URL: in.URL, Events: in.Events, Seconds: in.Seconds}
	if w.Secret, err = s.cfg.SealWebhook(w, secret); err != nil {
		return Webhook{}, err
	}
	w, err = s.cfg.Store.AddWebhook(c.ctx, w)
	return Webhook{m.PublicID, int64(w.ID), w.Protocol, w.URL, w.Events, w.Seconds, secret}, err
}

func (s *Server) removeWebhook(c call, _ none) (Webhook, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Webhook{}, err
	}
	id, err := strconv.ParseInt(c.path("id"), 10, 64)
	if err != nil {
		return Webhook{}, missing("merchant %s has no webhook %s", m.PublicID, c.path("id"))
	}
	return Webhook{Merchant: m.PublicID, ID: id}, found(s.cfg.Store.RemoveWebhook(c.ctx, m.ID, payment.ID(id)), "merchant %s has no webhook %d", m.PublicID, id)
}

// found words an error of the store that says that a row is not there.
func found(err error, format string, args ...any) error {
	if isMissing(err) {
		return missing(format, args...)
	}
	return err
}

// search reads a list to its end, or until fits says so.
func search[R any](read func(payment.ID, int) ([]R, error), id func(R) payment.ID, fits func(R) bool) (R, bool, error) {
	var after payment.ID
	for {
		rows, err := read(after, pageRows)
		for _, r := range rows {
			if fits(r) {
				return r, true, nil
			}
		}
		if err != nil || len(rows) < pageRows {
			return *new(R), false, err
		}
		after = id(rows[len(rows)-1])
	}
}
