package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// draw fills every field of a value by reflection, so that a field that a store forgets is missed when it does not come back.
func draw(t *rapid.T, name string, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		if ms := rapid.Int64Range(0, 4e12).Draw(t, name); ms != 0 {
			v.Set(reflect.ValueOf(time.UnixMilli(ms).UTC()))
		} else {
			v.SetZero()
		}
		return
	case time.Duration:
		v.SetInt(int64(time.Duration(rapid.Int64Range(0, 86_399_999).Draw(t, name)) * time.Millisecond))
		return
	case money.Amount:
		v.Set(reflect.ValueOf(money.New(rapid.Int64Range(1, 1e15).Draw(t, name), money.MustCurrency(rapid.SampledFrom([]string{"AUD", "JPY", "KWD"}).
			Draw(t, name+" currency")))))
		return
	case json.RawMessage:
		v.SetZero()
		if text := rapid.SampledFrom([]string{"", `{"a":[1,"ü"]}`, `"x"`, `null`}).Draw(t, name); text != "" {
			v.SetBytes([]byte(text))
		}
		return
	case []byte:
		v.SetZero()
		if text := rapid.SampledFrom([]string{"", "\x00\xff", "sealed"}).Draw(t, name); text != "" {
			v.SetBytes([]byte(text))
		}
		return
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(rapid.Int64Range(0, 1<<31-1).Draw(t, name))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, name))
	case reflect.String:
		// Not every text: NUL is refused by one engine, and no field of ours holds it.
		v.SetString(rapid.StringMatching(`[a-zA-Z0-9 '"%_;é€語]{0,12}`).Draw(t, name))
	case reflect.Pointer:
		v.SetZero()
		if rapid.Bool().Draw(t, name+" is there") {
			v.Set(reflect.New(v.Type().Elem()))
			draw(t, name, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			draw(t, v.Type().Field(i).Name, v.Field(i))
		}
	default:
		t.Fatalf("%s: no way to draw a %s: teach this test", name, v.Type())
	}
}

// ids numbers the rows of random tests, so that one store serves all draws.
var ids atomic.Int64

func drawPayment(t *rapid.T) payment.Payment {
	var p payment.Payment
	draw(t, "payment", reflect.ValueOf(&p).Elem())
	p.ID = payment.ID(ids.Add(1))
	p.State = rapid.SampledFrom([]payment.State{payment.Open, payment.Authorized, payment.Captured, payment.Refused, payment.Cancelled,
		payment.Voided, payment.Expired}).Draw(t, "state")
	p.Tip = rapid.Int64Range(0, p.Amount.Minor()).Draw(t, "tip")
	p.Captured = rapid.Int64Range(0, p.Amount.Minor()).Draw(t, "captured")
	p.Reserved = rapid.Int64Range(0, p.Captured).Draw(t, "reserved")
	p.Refunded = rapid.Int64Range(0, p.Reserved).Draw(t, "refunded")
	return p
}

func drawOperation(t *rapid.T, p payment.Payment) payment.Operation {
	var o payment.Operation
	draw(t, "operation", reflect.ValueOf(&o).Elem())
	o.Merchant, o.Payment, o.ID = p.Merchant, p.ID, payment.ID(ids.Add(1))
	o.Kind = rapid.SampledFrom([]payment.Kind{payment.Sale, payment.Authorization, payment.CaptureOperation, payment.VoidOperation,
		payment.Reversal, payment.Refund, payment.CancelOperation, payment.Close}).Draw(t, "kind")
	o.State = rapid.SampledFrom([]payment.OperationState{payment.Created, payment.Sent, payment.Waiting, payment.Approved, payment.Declined,
		payment.Unknown, payment.Reversing, payment.Reversed}).Draw(t, "state")
	return o
}

// drawFirst draws a payment's first attempt, which has no more than its row can hold.
func drawFirst(t *rapid.T, p payment.Payment) payment.Operation {
	o := drawOperation(t, p)
	o.ID, o.Target, o.Key, o.Round, o.Rest, o.Echo = p.ID, 0, payment.Key{}, 0, false, nil
	o.Kind = rapid.SampledFrom([]payment.Kind{payment.Sale, payment.Authorization}).Draw(t, "kind")
	return o
}

// reborn is q as a later version of p: what a row is born with stays, and all the rest may change.
func reborn(p, q payment.Payment) payment.Payment {
	q.Merchant, q.ID, q.Version, q.Protocol, q.Key, q.Credential, q.Store, q.Terminal, q.Numbering, q.Calendar, q.CreatedAt, q.Echo, q.Reference =
		p.Merchant, p.ID, p.Version, p.Protocol, p.Key, p.Credential, p.Store, p.Terminal, p.Numbering, p.Calendar, p.CreatedAt, p.Echo, p.Reference
	q.Amount = money.New(q.Amount.Minor(), p.Amount.Currency())
	return q
}

func rebornOperation(o, q payment.Operation) payment.Operation {
	q.Merchant, q.Payment, q.ID, q.Version, q.Kind, q.Target, q.Key, q.CreatedAt, q.Echo, q.Card, q.Sealed =
		o.Merchant, o.Payment, o.ID, o.Version, o.Kind, o.Target, o.Key, o.CreatedAt, o.Echo, o.Card, o.Sealed
	q.Amount = money.New(q.Amount.Minor(), o.Amount.Currency())
	return q
}

func testPaymentRoundTrip(t *testing.T, open func() Store) {
	s := open()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPayment(rt)
		insert(rt, s, p)
		checkPayment(rt, s, p)
		q := reborn(p, drawPayment(rt))
		inTx(rt, s, func(tx payment.Tx) error { r := q; return tx.UpdatePayment(&r, nil) })
		q.Version++
		checkPayment(rt, s, q)
	})
}

func checkPayment(t tb, s Store, want payment.Payment) {
	t.Helper()
	err := s.Read(t.Context(), func(r payment.Reader) error {
		got, err := r.Payment(want.Merchant, want.ID)
		equal(t, "payment", got, want)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func testOperationRoundTrip(t *testing.T, open func() Store) {
	s := open()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPayment(rt)
		a, b := drawOperation(rt, p), drawOperation(rt, p)
		insert(rt, s, p, b, a)
		checkOperations(rt, s, p, a, b)
		q := rebornOperation(a, drawOperation(rt, p))
		inTx(rt, s, func(tx payment.Tx) error { r := q; return tx.UpdateOperation(&r) })
		q.Version++
		checkOperations(rt, s, p, q, b)
	})
}

// testFirstRoundTrip stores first attempts with their payments and after them, and changes them with their payments and alone.
func testFirstRoundTrip(t *testing.T, open func() Store) {
	s := open()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPayment(rt)
		o := drawFirst(rt, p)
		if rapid.Bool().Draw(rt, "with the payment") {
			insert(rt, s, p, o)
		} else {
			insert(rt, s, p)
			checkOperations(rt, s, p)
			inTx(rt, s, func(tx payment.Tx) error { r := o; return tx.InsertOperation(&r) })
		}
		checkPayment(rt, s, p)
		checkOperations(rt, s, p, o)
		for range 2 {
			o = rebornOperation(o, drawFirst(rt, p))
			if rapid.Bool().Draw(rt, "change the payment too") {
				p = reborn(p, drawPayment(rt))
				inTx(rt, s, func(tx payment.Tx) error { q, r := p, o; return tx.UpdatePayment(&q, &r) })
				p.Version++
			} else {
				inTx(rt, s, func(tx payment.Tx) error { r := o; return tx.UpdateOperation(&r) })
			}
			o.Version++
			checkPayment(rt, s, p)
			checkOperations(rt, s, p, o)
		}
	})
}

func checkOperations(t tb, s Store, p payment.Payment, want ...payment.Operation) {
	t.Helper()
	err := s.Read(t.Context(), func(r payment.Reader) error {
		got, err := r.Operations(p.Merchant, p.ID)
		equal(t, "operations", got, want)
		for _, w := range want {
			one, oneErr := r.Operation(p.Merchant, p.ID, w.ID)
			equal(t, "operation", one, w)
			err = errors.Join(err, oneErr)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// model is a store in memory.
type model struct {
	keys     map[payment.Key]payment.KeyRow
	payments map[payment.ID]payment.Payment
	ops      map[payment.ID]payment.Operation
	posted   map[payment.ID]bool
	balance  ledger.Postings
}

func (m model) clone() model {
	return model{maps.Clone(m.keys), maps.Clone(m.payments), maps.Clone(m.ops), maps.Clone(m.posted), m.balance}
}

// errUndo rolls a random transaction back.
var errUndo = errors.New("undo")

// testModel runs random transactions, which end well or are undone, on the store and on a model, and compares all that there is.
func testModel(t *testing.T, open func() Store) {
	s := open()
	me := enlist(t, s, time.Hour)
	rapid.Check(t, func(rt *rapid.T) {
		of := payment.MerchantID(ids.Add(1))
		base := payment.ID(ids.Add(1000))
		m := model{map[payment.Key]payment.KeyRow{}, map[payment.ID]payment.Payment{}, map[payment.ID]payment.Operation{},
			map[payment.ID]bool{}, ledger.Postings{}}
		for range rapid.IntRange(1, 5).Draw(rt, "transactions") {
			steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
				return step{what: rapid.IntRange(0, len(stepNames)-1).Draw(rt, "what"), row: rapid.Int64Range(0, 3).Draw(rt, "row"),
					amount: rapid.Int64Range(0, 100_00).Draw(rt, "amount")}
			}), 1, 6).Draw(rt, "steps")
			undo := rapid.Bool().Draw(rt, "undo")
			after := m.clone()
			err := s.InTx(rt.Context(), func(tx payment.Tx) error {
				after = m.clone()
				for _, st := range steps {
					if err := st.run(tx, &after, of, base, me); err != nil {
						return err
					}
				}
				if undo {
					return errUndo
				}
				return nil
			})
			switch {
			case undo && errors.Is(err, errUndo):
			case undo || err != nil:
				rt.Fatalf("transaction: %v", err)
			default:
				m = after
			}
			m.compare(rt, s, of)
		}
	})
}

// step is one thing that a random transaction does.
type step struct {
	what        int
	row, amount int64
}

var stepNames = []string{"key", "move key", "payment", "payment with its attempt", "update", "update both", "operation", "claim", "post"}

// String names a step in the account of a failure.
func (st step) String() string { return fmt.Sprintf("%s %d %d", stepNames[st.what], st.row, st.amount) }

// run does the step on both, and fails where they disagree.
func (st step) run(tx payment.Tx, m *model, of payment.MerchantID, base payment.ID, me int64) error {
	id := base + payment.ID(st.row)
	key := payment.Key{Scope: "s", Key: fmt.Sprint(st.row)}
	p, there := m.payments[id]
	o, opThere := m.ops[id]
	agree := func(what string, got, want bool) error {
		if got != want {
			return fmt.Errorf("%s: %s: got %t, want %t", st, what, got, want)
		}
		return nil
	}
	switch stepNames[st.what] {
	case "key":
		row := payment.KeyRow{Merchant: of, Key: key, Payment: payment.ID(st.amount)}
		old, known := m.keys[key]
		got, fresh, err := tx.InsertKey(row)
		if err != nil {
			return err
		}
		if !known {
			m.keys[key], old = row, row
		}
		return errors.Join(agree("fresh", fresh, !known), agree("stored", got.Payment == old.Payment, true))
	case "move key":
		old, known := m.keys[key]
		if !known {
			return nil
		}
		row := old
		row.Payment, row.MAC = payment.ID(st.amount), []byte{1, 2}
		m.keys[key] = row
		return tx.UpdateKey(old, row)
	case "payment", "payment with its attempt":
		if there {
			return nil
		}
		p := payment.Payment{Merchant: of, ID: id, State: payment.Open, Amount: money.New(100_00, aud)}
		m.payments[id] = p
		if stepNames[st.what] == "payment" {
			return tx.InsertPayment(&p, nil)
		}
		m.ops[id] = sent(p)
		o := m.ops[id]
		return tx.InsertPayment(&p, &o)
	case "update", "update both":
		if !there {
			return nil
		}
		p.Captured = st.amount
		var first *payment.Operation
		if opThere && stepNames[st.what] == "update both" {
			o.State, o.Amount = payment.Unknown, money.New(st.amount, aud)
			first = &o
		}
		err := tx.UpdatePayment(&p, first)
		m.payments[id] = p
		if first != nil {
			m.ops[id] = o
		}
		return err
	case "operation":
		if !there || opThere {
			return nil
		}
		m.ops[id] = sent(p)
		o := m.ops[id]
		return tx.InsertOperation(&o)
	case "claim":
		until := then.Add(time.Duration(st.amount) * time.Millisecond)
		ok, err := tx.ClaimOperation(of, id, id, me, then, until)
		if err != nil {
			return err
		}
		due := opThere && !o.DueAt.After(then)
		if due {
			o.Owner, o.DueAt, o.Tries, o.Version = me, until, o.Tries+1, o.Version+1
			m.ops[id] = o
		}
		return agree("claimed", ok, due)
	case "post":
		if !opThere || m.posted[id] {
			return nil
		}
		m.posted[id] = true
		e := ledger.Entry{Currency: aud, Postings: ledger.Postings{Receivable: st.amount, Payable: -st.amount}}
		m.balance = m.balance.Plus(e.Postings)
		return tx.Post(&o, e, then)
	}
	return nil
}

// sent is a payment's first attempt, due at once.
func sent(p payment.Payment) payment.Operation {
	return payment.Operation{Merchant: p.Merchant, Payment: p.ID, ID: p.ID, Kind: payment.Sale, State: payment.Sent, Amount: p.Amount, DueAt: then}
}

// compare reads all that the model has from the store.
func (m model) compare(t *rapid.T, s Store, of payment.MerchantID) {
	err := s.Read(t.Context(), func(r payment.Reader) error {
		for key, want := range m.keys {
			got, err := r.Key(of, key)
			if err != nil {
				return err
			}
			equal(t, "key", got, want)
		}
		for id, want := range m.payments {
			got, err := r.Payment(of, id)
			if err != nil {
				return err
			}
			equal(t, "payment", got, want)
			ops, err := r.Operations(of, id)
			if err != nil {
				return err
			}
			if o, ok := m.ops[id]; ok {
				equal(t, "operations", ops, []payment.Operation{o})
			} else if len(ops) != 0 {
				t.Errorf("payment %d has operations %v, want none", id, ops)
			}
		}
		sums, err := r.Balances(of)
		equal(t, "balance", sums["AUD"], m.balance)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
