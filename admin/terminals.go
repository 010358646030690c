package admin

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

func init() {
	routes = append(routes,
		on("GET", "/merchants/{merchant}/codes", "List a merchant's activation codes.", []string{"after"}, (*Server).listCodes),
		on("POST", "/merchants/{merchant}/codes", "Make an activation code for terminals of a store.", nil, (*Server).addCode),
		on("DELETE", "/merchants/{merchant}/codes/{code}", "End an activation code. Terminals that it let in stay.", nil, (*Server).endCode),
		on("PATCH", "/merchants/{merchant}/identities/{protocol}/{number}", "Enable or disable a terminal in one protocol.", nil, (*Server).switchIdentity),
		on("POST", "/merchants/{merchant}/terminals/{terminal}/identities", "Give a terminal a number in a further protocol, such as iotpay or qfpay.", nil,
			(*Server).addIdentity),
		on("GET", "/merchants/{merchant}/identities/{protocol}/{number}/key", "Show the key of a terminal whose protocol has people type it in (qfpay's POS-KEY).", nil,
			(*Server).showKey),
		on("POST", "/merchants/{merchant}/identities/{protocol}/{number}/key", "Make such a key anew; the former stays good until the next.", nil, (*Server).newKey),
		on("GET", "/merchants/{merchant}/settings/{protocol}", "Read a merchant's settings for a protocol.", nil, (*Server).getSettings),
		on("PUT", "/merchants/{merchant}/settings/{protocol}", "Replace a merchant's settings for a protocol.", nil, (*Server).setSettings),
		on("GET", "/vendors", "List the vendors.", []string{"after"}, (*Server).listVendors),
		on("POST", "/vendors", "Add a vendor, or change its name and applications. A new key is in the answer and shown never again.", nil, (*Server).addVendor),
	)
}

// identities are what a terminal is called in the protocols.
func (s *Server) identities(c call, m payment.Merchant, d payment.Terminal) ([]Identity, error) {
	list, err := s.cfg.Terminals.Identities(c.ctx, m.ID, terminal.Filter{Terminal: d.ID})
	var out []Identity
	for _, i := range list {
		out = append(out, Identity{i.Protocol, i.Number, state(i.Disabled)})
	}
	return out, err
}

func (s *Server) addIdentity(c call, in Identity) (Identity, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Identity{}, err
	}
	d, err := s.terminal(c, m, c.path("terminal"))
	if err != nil {
		return Identity{}, err
	}
	e, err := s.cfg.Terminals.AddIdentity(c.ctx, 0, terminal.Identity{Merchant: m.ID, Terminal: d.ID, Protocol: in.Protocol, Number: in.Number})
	if errors.Is(err, terminal.ErrNumber) {
		return Identity{}, &payment.FieldError{Field: "number", Problem: "is taken already in " + in.Protocol}
	}
	return Identity{Protocol: e.Protocol, Number: e.Number, State: state(e.Disabled)}, err
}

// identity finds a merchant's terminal by its number in a protocol.
func (s *Server) identity(c call) (terminal.Entry, error) {
	m, err := s.merchant(c)
	if err != nil {
		return terminal.Entry{}, err
	}
	e, err := s.cfg.Terminals.Fresh(c.ctx, c.path("protocol"), c.path("number"))
	if errors.Is(err, terminal.ErrDisabled) {
		err = nil
	}
	if isMissing(err) || err == nil && e.Merchant != m.ID {
		err = missing("merchant %s has no terminal %s in %s", m.PublicID, c.path("number"), c.path("protocol"))
	}
	return e, err
}

// typed reports whether a protocol's keys are for people to type in: all others never leave us but to their terminal.
func (s *Server) typed(c call) error {
	if !slices.Contains(s.cfg.TypedKeys, c.path("protocol")) {
		return &payment.FieldError{Field: "protocol", Problem: "its keys go to terminals only and are shown to nobody"}
	}
	return nil
}

func (s *Server) showKey(c call, _ none) (TerminalKey, error) {
	e, err := s.identity(c)
	if err == nil {
		err = s.typed(c)
	}
	if err != nil {
		return TerminalKey{}, err
	}
	keys, err := s.cfg.Terminals.Keys(e)
	if err != nil || len(keys) == 0 {
		return TerminalKey{}, errors.Join(err, missing("terminal %s has no key in %s; make one", e.Number, e.Protocol))
	}
	return TerminalKey{e.Protocol, e.Number, keys[0].Typed().Reveal()}, nil
}

func (s *Server) newKey(c call, _ none) (TerminalKey, error) {
	e, err := s.identity(c)
	if err == nil {
		err = s.typed(c)
	}
	if err != nil {
		return TerminalKey{}, err
	}
	key, err := s.cfg.Terminals.CheckIn(c.ctx, e, terminal.Device{})
	return TerminalKey{e.Protocol, e.Number, key.Typed().Reveal()}, err
}

func (s *Server) switchIdentity(c call, in Switch) (Identity, error) {
	off, err := in.off()
	if err != nil {
		return Identity{}, err
	}
	e, err := s.identity(c)
	if err == nil {
		err = s.cfg.Terminals.SetIdentityDisabled(c.ctx, e.Merchant, e.Identity.ID, off)
	}
	return Identity{c.path("protocol"), c.path("number"), state(off)}, err
}

// Codes.

// The states of a code besides Active.
const (
	Expired = "expired"
	UsedUp  = "used up"
)

func rowOfCode(m payment.Merchant, stores map[payment.ID]string, now time.Time) func(terminal.Code) Code {
	return func(k terminal.Code) Code {
		row := Code{Merchant: m.PublicID, Store: stores[k.Store], Protocol: k.Protocol, App: k.App, Code: k.Text, Uses: max(k.Uses-k.Used, 0),
			NoLimit: k.Uses == 0, Expires: k.Expires, State: Active}
		switch {
		case !k.Expires.IsZero() && !now.Before(k.Expires):
			row.State = Expired
		case k.Uses > 0 && k.Used >= k.Uses:
			row.State = UsedUp
		}
		return row
	}
}

func codeID(k terminal.Code) payment.ID { return k.ID }

func (s *Server) codes(c call, m payment.Merchant) func(payment.ID, int) ([]terminal.Code, error) {
	return func(after payment.ID, n int) ([]terminal.Code, error) {
		return s.cfg.Terminals.Codes(c.ctx, m.ID, after, n)
	}
}

func (s *Server) listCodes(c call, _ none) (Page[Code], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Code]{}, err
	}
	stores, err := s.storeNames(c, m)
	if err != nil {
		return Page[Code]{}, err
	}
	return page(c, s.codes(c, m), codeID, rowOfCode(m, stores, s.cfg.Now()))
}

func (s *Server) addCode(c call, in Code) (Code, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Code{}, err
	}
	p, err := s.store(c, m, in.Store)
	if err != nil {
		return Code{}, err
	}
	k := terminal.Code{Merchant: m.ID, Store: p.ID, Protocol: in.Protocol, App: in.App, Uses: in.Uses, Expires: in.Expires}
	if k.Text, err = s.cfg.Terminals.NewCode(c.ctx, k); err != nil {
		return Code{}, err
	}
	return rowOfCode(m, map[payment.ID]string{p.ID: p.PublicID}, s.cfg.Now())(k), nil
}

func (s *Server) endCode(c call, _ none) (Code, error) {
	m, err := s.merchant(c)
	if err != nil {
		return Code{}, err
	}
	k, ok, err := search(s.codes(c, m), codeID, func(k terminal.Code) bool { return k.Text == c.path("code") })
	if err != nil {
		return Code{}, err
	}
	if !ok {
		return Code{}, missing("merchant %s has no such activation code; list them with: tillgate code list --merchant %s", m.PublicID, m.PublicID)
	}
	k.Expires = s.cfg.Now()
	return rowOfCode(m, nil, s.cfg.Now())(k), s.cfg.Terminals.EndCode(c.ctx, m.ID, k.ID)
}

// Settings.

func (s *Server) getSettings(c call, _ none) (json.RawMessage, error) {
	m, err := s.merchant(c)
	if err != nil {
		return nil, err
	}
	settings := json.RawMessage("{}")
	return settings, s.cfg.Terminals.Settings(c.ctx, m.ID, c.path("protocol"), &settings)
}

func (s *Server) setSettings(c call, in json.RawMessage) (json.RawMessage, error) {
	m, err := s.merchant(c)
	if err != nil {
		return nil, err
	}
	if check := s.cfg.CheckSettings[c.path("protocol")]; check == nil {
		return nil, &payment.FieldError{Field: "protocol", Problem: strconv.Quote(c.path("protocol")) + " has no settings"}
	} else if err := check(in); err != nil {
		return nil, &payment.FieldError{Field: "settings", Problem: err.Error()}
	}
	return in, s.cfg.Terminals.SetSettings(c.ctx, m.ID, c.path("protocol"), in)
}

// Vendors.

func (s *Server) listVendors(c call, _ none) (Page[Vendor], error) {
	out := Page[Vendor]{Rows: []Vendor{}}
	list, err := s.cfg.Terminals.Vendors(c.ctx, c.query("after"), pageRows)
	for _, v := range list {
		out.Rows = append(out.Rows, Vendor{Vendor: v.Number, Name: v.Name, Apps: v.Apps})
	}
	if len(list) == pageRows {
		out.Next = list[len(list)-1].Number
	}
	return out, err
}

func (s *Server) addVendor(c call, in Vendor) (Vendor, error) {
	v, err := s.cfg.Terminals.Vendor(c.ctx, in.Vendor)
	fresh := isMissing(err)
	if err != nil && !fresh {
		return Vendor{}, err
	}
	v.Number, v.Name, v.Apps = in.Vendor, in.Name, in.Apps
	out := Vendor{Vendor: v.Number, Name: v.Name, Apps: v.Apps}
	if fresh {
		if out.Key, err = s.hexSecret(); err != nil {
			return Vendor{}, err
		}
		v.Key = terminal.NewSecret(out.Key)
	}
	return out, s.cfg.Terminals.AddVendor(c.ctx, v)
}
