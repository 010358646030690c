package receipt

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var at = time.Date(2026, 3, 1, 9, 0, 7, 0, time.FixedZone("", -8*3600))

// chip is an approved sale by chip with PIN.
var chip = Slip{Result: Approved, Merchant: "DEMO BISTRO INC", Store: "Demo Bistro Gastown", Address: "100 Example St, Vancouver BC V5K 0A1", TID: "40990001",
	At: at, Number: "CP20260301170005123456789012", Reference: "POS20260301120000002", Invoice: "000412", Sequence: "000001000412", Batch: "0031",
	RRN: "606000000412", Amount: money.New(3150, money.MustCurrency("CAD")), Tip: 285, Scheme: card.Visa, Masked: "476173******0010", Entry: payment.EntryChip,
	Verified: PIN, AuthCode: "A1B2C3", Code: "00", Label: "VISA CREDIT", AID: "A0000000031010", TVR: "8000048000", TSI: "7800", CVMResults: "020300",
	Cryptogram: "TC 1A2B3C4D5E6F7081"}

// with is a slip with changes.
func (s Slip) with(change func(*Slip)) Slip {
	change(&s)
	return s
}

// slips are the receipts whose looks are kept.
var slips = map[string]Slip{
	"approved": chip,
	"declined": chip.with(func(s *Slip) {
		s.Result, s.AuthCode, s.Code, s.Text, s.Cryptogram = Declined, "", "51", "There is not enough money on the card.", "AAC 0011223344556677"
	}),
	"cancelled": chip.with(func(s *Slip) {
		*s = Slip{Result: NotCompleted, Merchant: s.Merchant, Store: s.Store, TID: s.TID, At: s.At, Reference: s.Reference, Invoice: s.Invoice, Sequence: "000000000000", Amount: s.Amount}
	}),
	"unknown": chip.with(func(s *Slip) { s.Result, s.AuthCode, s.Code, s.Cryptogram = Unknown, "", "", "" }),
	"void":    chip.with(func(s *Slip) { s.Kind, s.Original, s.Tip = Void, s.Number, 0 }),
	"refund":  chip.with(func(s *Slip) { s.Kind, s.Original, s.Tip = Refund, s.Number, 0 }),
	"signature": chip.with(func(s *Slip) {
		s.Entry, s.Fallback, s.Verified, s.Label, s.AID, s.TVR, s.Cryptogram, s.CVMResults, s.TSI = payment.EntryStripe, true, Signature, "", "", "", "", "", ""
	}),
	"tapped": chip.with(func(s *Slip) {
		s.Entry, s.Verified, s.Scheme, s.Account, s.Cryptogram = payment.EntryContactlessChip, NoCVM, card.Interac, "FLASH DEFAULT", "ARQC 1A2B3C4D5E6F7081"
	}),
	"unionpay": chip.with(func(s *Slip) { s.Scheme, s.Label, s.AID = card.UnionPay, "UNIONPAY CREDIT", "A000000333010102" }),
	"wallet": {Result: Approved, Merchant: "Peak Tea Trading Ltd", Store: "Peak Tea Central", TID: "40000001", At: at, Number: "20260301000000000000000042", Reference: "T-7",
		RRN: "4200000000202603010000000011", Amount: money.New(2000, money.MustCurrency("HKD")), Method: "Alipay", Invoice: "000413"},
}

// Every receipt in every language, on both papers, both copies: one file each.
func TestGolden(t *testing.T) {
	t.Parallel()
	names := map[Language]string{English: "en", French: "fr", Chinese: "zh"}
	for name, slip := range slips {
		for language, code := range names {
			var b strings.Builder
			for _, columns := range []int{Columns58, Columns80} {
				for _, copy := range []Copy{MerchantCopy, CustomerCopy} {
					s := slip.with(func(s *Slip) { s.Language, s.Copy = language, copy })
					fmt.Fprintf(&b, "===== %d columns\n%s", columns, Compose(s).Text(columns))
				}
			}
			golden(t, name+"."+code+".txt", []byte(b.String()))
		}
	}
	for language, code := range names {
		s := chip.with(func(s *Slip) { s.Language, s.Copy, s.Reprint = language, CustomerCopy, true })
		golden(t, "approved."+code+".58.escpos", Compose(s).ESCPOS(Columns58))
		golden(t, "approved."+code+".80.escpos", Compose(s).ESCPOS(Columns80))
	}
	golden(t, "qr.escpos", Document{Lines: []Line{{Left: "Scan to pay", Align: Middle}, {QR: "https://pay.example/42"}, {Cut: true}}}.ESCPOS(Columns58))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with: go test ./receipt -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestReceiptsTellTheTruth(t *testing.T) {
	t.Parallel()
	for name, s := range slips {
		for language := range languages {
			for _, columns := range []int{Columns58, Columns80, 8} {
				s.Language = language
				text := Compose(s).Text(columns)
				flat := strings.Join(strings.Fields(text), "")
				approved := strings.Contains(flat, strings.Join(strings.Fields(texts[approvedText][language]), ""))
				if approved != (s.Result == Approved) {
					t.Errorf("%s: result %d, and the receipt says:\n%s", name, s.Result, text)
				}
				for _, secret := range []string{"476173", "2612", "1226"} {
					if strings.Contains(flat, secret) {
						t.Errorf("%s: shows %s:\n%s", name, secret, text)
					}
				}
				if s.Masked != "" && !strings.Contains(flat, "0010") {
					t.Errorf("%s: lost the last four digits:\n%s", name, text)
				}
				for line := range strings.Lines(text) {
					if n := cells(strings.TrimSuffix(line, "\n")); n > columns {
						t.Errorf("%s: a line of %d columns on paper of %d: %q", name, n, columns, line)
					}
				}
			}
		}
	}
}

func TestEveryWordIsInEveryLanguage(t *testing.T) {
	t.Parallel()
	for id, row := range texts {
		for language, text := range row {
			if text == "" {
				t.Errorf("word %d has no text in language %d", id, language)
			}
		}
	}
	if LanguageOf("fr") != French || LanguageOf("zh") != Chinese || LanguageOf("en") != English || LanguageOf("de") != English {
		t.Error("LanguageOf is wrong")
	}
}

// Names come from outside: they must not steer the printer.
func TestNothingSteersThePrinter(t *testing.T) {
	t.Parallel()
	s := chip.with(func(s *Slip) { s.Merchant, s.Reference, s.Text = "A\x1b@B\x1dV\x00", "1\n2\x1b", "\u009b31m" })
	plain := chip.with(func(s *Slip) { s.Merchant, s.Reference, s.Text = "A@BV", "12", "31m" })
	if got, want := Compose(s).ESCPOS(Columns58), Compose(plain).ESCPOS(Columns58); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Plain([]string{"\x1b@ok"}).Text(Columns58); got != "@ok\n" {
		t.Errorf("got %q", got)
	}
}

func TestLongLinesAreBrokenAndNotCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1234567890", 9)
	for _, text := range []string{long, "a b " + long, strings.Repeat("漢字", 40), strings.Repeat("word ", 30)} {
		got := strings.Join(wrap(text, 7), "")
		if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q became %q", text, got)
		}
	}
}
