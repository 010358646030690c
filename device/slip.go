package device

import (
	"context"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/receipt"
	"github.com/tillgate/tillgate/terminal"
)

// receipts prints both copies. A printer that cannot is told of in the log: what was paid stays paid.
func (t *Terminal) receipts(ctx context.Context, l *Link, v terminal.PaymentView, r terminal.Report, kind receipt.Kind, again bool) error {
	ctx, stop := context.WithTimeoutCause(context.WithoutCancel(ctx), printLimit, errTime)
	defer stop()
	s := t.slip(l, v, r, kind)
	s.Reprint = again
	var failed error
	for _, c := range []receipt.Copy{receipt.MerchantCopy, receipt.CustomerCopy} {
		s.Copy, s.Language = c, t.cfg.Language
		if c == receipt.CustomerCopy && r.Language != "" && r.Language != "en" {
			s.Language = receipt.LanguageOf(r.Language) // The cardholder's own.
		}
		if err := t.cfg.Parts.Printer.Print(ctx, receipt.Compose(s)); err != nil {
			failed = err
		}
	}
	if failed != nil {
		t.cfg.Log.Warn("receipt not printed", "payment", v.ID, "error", failed)
	}
	return failed
}

// slip is what a receipt is composed from: the payment as the books have it, and what the chip told.
func (t *Terminal) slip(l *Link, v terminal.PaymentView, r terminal.Report, kind receipt.Kind) receipt.Slip {
	w := l.Welcome()
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		zone = time.UTC
	}
	at := r.At
	if at.IsZero() {
		at = v.CreatedAt
	}
	currency, _ := money.ParseCurrency(v.Currency) // An amount without one prints as nothing.
	s := receipt.Slip{Kind: kind, Merchant: w.Merchant, Store: w.Store, TID: w.TID, At: at.In(zone), Number: v.Number, Reference: v.Reference, Original: v.Original,
		Invoice: r.Invoice, Sequence: r.Sequence, RRN: v.RRN, Amount: money.New(v.Minor, currency), Tip: v.Tip, Scheme: r.Scheme, Masked: r.Masked,
		Entry: r.Entry, Fallback: false, AuthCode: v.AuthCode, Code: v.Code, Text: v.Text, Label: r.Label, AID: r.AID, TVR: r.TVR, TSI: r.TSI, CVMResults: r.CVM}
	if s.Reference == "" {
		s.Reference = v.Key
	}
	if v.Flow != payment.ByCard {
		s.Method, s.RRN = methodName(v.Method), v.Provider
	}
	if s.Masked == "" {
		s.Scheme, s.Masked, s.Entry = v.Scheme, v.Masked, v.Entry
	}
	if r.Cryptogram != "" {
		s.Cryptogram = r.CryptogramType + " " + r.Cryptogram
	}
	switch {
	case v.PINPad || r.CVM != "" && r.CVM[:2] == "02":
		s.Verified = receipt.PIN
	case r.Entry == payment.EntryStripe || r.Entry == payment.EntryContactlessStripe:
		s.Verified = receipt.Signature
	}
	s.Result = resultOf(v)
	if kind == receipt.Purchase && v.Voided {
		s.Kind = receipt.Void
	}
	return s
}

// results are what receipts say of outcomes. What is not in the table is not known.
var results = map[payment.Outcome]receipt.Result{payment.OutcomeApproved: receipt.Approved, payment.OutcomeDeclined: receipt.Declined}

// resultOf is what a receipt may claim: a decline is the host's or the card's; what ended before is not completed.
func resultOf(v terminal.PaymentView) receipt.Result {
	r := results[v.Outcome]
	if r == receipt.Declined && !v.Attempted && v.Reason != payment.ReasonDeclined {
		return receipt.NotCompleted
	}
	return r
}

// reasonTexts are for the customer.
var reasonTexts = map[payment.Reason]string{
	payment.ReasonInsufficientFunds: "Not enough money", payment.ReasonPINWrong: "Wrong PIN", payment.ReasonPINTries: "PIN tries exceeded",
	payment.ReasonPINNeeded: "PIN needed, please insert the card", payment.ReasonCardExpired: "Card expired", payment.ReasonCustomerCancelled: "Cancelled",
	payment.ReasonCancelled: "Cancelled by the till", payment.ReasonExpired: "Time is over", payment.ReasonUnavailable: "Not available, nothing was charged",
}

// resultScreen shows how something has ended.
func resultScreen(v terminal.PaymentView, what string, amount money.Amount) Screen {
	s := Screen{Mode: Unresolved, Title: "Result not known yet", Text: "Ask before paying again", Amount: show(amount)}
	switch v.Outcome {
	case payment.OutcomeApproved:
		s.Mode, s.Title, s.Text = Approved, "Approved", "Thank you"
	case payment.OutcomeDeclined:
		s.Mode, s.Title, s.Text = Declined, "Declined", reasonTexts[v.Reason]
		if resultOf(v) == receipt.NotCompleted {
			s.Title = "Not completed"
		}
		if s.Text == "" {
			s.Text = v.Text
		}
	}
	if what != "" {
		s.Title = what + ": " + s.Title
	}
	return s
}

// wallets are the names of wallets as receipts have them.
var wallets = map[string]string{"alipay": "Alipay", "wechat": "WeChat Pay", "unionpay": "UnionPay QR", "payme": "PayMe", "fps": "FPS", "octopus": "Octopus"}

func methodName(method string) string {
	if name, ok := wallets[method]; ok {
		return name
	}
	return method
}
