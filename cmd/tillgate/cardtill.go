package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

type cardCommand struct {
	Sale cardSale `cmd:"" help:"Play a UQPAY terminal: register, fetch a PIN key, encrypt the PIN, pay, and print the receipt's data."`
}

// cardSale takes one card at a terminal that is played here.
type cardSale struct {
	Data     string        `type:"path" default:"tillgate-dev" help:"Data folder of a running dev, for everything that is not given."`
	BaseURL  string        `name:"base-url" help:"Address of a UQPAY server, such as https://pay.example.com/uqpay/api."`
	ClientID string        `name:"client-id" env:"UQPAY_CLIENT_ID" help:"Client id; dev has one of its own for this command."`
	APIKey   string        `name:"api-key" env:"UQPAY_API_KEY" help:"API key."`
	Serial   string        `default:"TILLGATE-CLI-1" help:"Serial number under which the terminal is registered."`
	Amount   string        `required:"" help:"Amount, such as 12.50."`
	Currency string        `help:"Currency; dev's when empty."`
	Card     string        `required:"" help:"A card of dev: its number, its last four digits, its behaviour (approve, insufficient_funds …) or its brand; or any card's number with --expiry."`
	Expiry   string        `help:"Expiry as MM/YYYY, for a card that dev does not know."`
	PIN      string        `name:"pin" help:"PIN; without it, the card's own. 'none' gives no PIN."`
	Entry    string        `default:"chip" enum:"chip,contactless_chip,magstripe,contactless_magstripe,manual_entry" help:"How the card is read: chip, contactless_chip, magstripe, contactless_magstripe or manual_entry."`
	Wait     time.Duration `default:"60s" help:"How long a payment without outcome is asked about."`
	JSON     bool          `help:"Print the intent as JSON."`
}

// Help teaches by examples.
func (cardSale) Help() string {
	return "Against a running dev:\n\n" +
		"  tillgate card sale --amount 12.50 --card visa\n" +
		"  tillgate card sale --amount 12.50 --card visa --pin 9999        a wrong PIN\n" +
		"  tillgate card sale --amount 9052.00 --card visa                 not enough money\n" +
		"  tillgate card sale --amount 9056.00 --card visa                 no answer: it ends reversed\n\n" +
		"Cards, PINs and trigger amounts are in dev.json and docs/sandbox.md. It exits with 1 when the card is declined."
}

// devOf reads the dev.json of a folder; a folder without one is not an error.
func devOf(dir string) (*devInfo, error) {
	text, err := os.ReadFile(filepath.Join(dir, devFile))
	if errors.Is(err, os.ErrNotExist) {
		return &devInfo{}, nil
	}
	if err != nil {
		return nil, err
	}
	var info devInfo
	if err := json.Unmarshal(text, &info); err != nil {
		return nil, fmt.Errorf("%s: %w", devFile, err)
	}
	return &info, nil
}

// Run takes the card.
func (c *cardSale) Run(e *env) error {
	dev, err := devOf(c.Data)
	if err != nil {
		return err
	}
	if c.BaseURL == "" {
		c.BaseURL, c.ClientID, c.APIKey = dev.UQPAYTill.BaseURL, dev.UQPAYTill.ClientID, dev.UQPAYTill.APIKey
	}
	if c.Currency == "" {
		c.Currency = dev.UQPAYTill.Currency
	}
	if c.BaseURL == "" || c.ClientID == "" || c.APIKey == "" {
		return fmt.Errorf("no dev is running on %s; start one with tillgate dev, or give --base-url, --client-id and --api-key", c.Data)
	}
	cur, err := money.ParseCurrency(c.Currency)
	if err != nil {
		return fmt.Errorf("--currency: %q is not a currency", c.Currency)
	}
	amount, err := money.Parse(c.Amount, cur)
	if err != nil {
		return fmt.Errorf("--amount: %q: %w", c.Amount, err)
	}
	reading, err := c.read(dev, amount)
	if err != nil {
		return err
	}
	client := &uqpay.Client{BaseURL: c.BaseURL, ClientID: c.ClientID, APIKey: uqpay.Secret(c.APIKey)}
	fmt.Fprintln(e.stderr, "registering the terminal and fetching its PIN key …")
	till, err := client.Enrol(e.ctx, uqpay.RegisterRequest{FirmCode: "05", FirmSN: c.Serial, Model: "CLI"})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "%s: taking %s %s from %s …\n", till, amount, cur.Code(), reading.PAN.Masked())
	order := uqpay.Order{Amount: amount, ID: fmt.Sprintf("cli-%d", time.Now().UnixMilli()), Description: "tillgate card sale"}
	intent, err := till.Sale(e.ctx, order, reading)
	// Each run is a terminal that was just started and counts its STANs by the clock: another run of this moment may have had the same.
	var refused *uqpay.Error
	for try := 0; try < stanTries && errors.As(err, &refused) && refused.Code == uqpay.CodeRepeat; try++ {
		intent, err = till.Sale(e.ctx, order, reading)
	}
	if err != nil {
		return err
	}
	if intent, err = c.follow(e, client, intent); err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(intent)
	} else {
		err = printIntent(e.stdout, intent)
	}
	if err == nil && intent.Status != uqpay.IntentSucceeded {
		err = fmt.Errorf("not paid: the intent is %s", intent.Status)
	}
	return err
}

// stanTries is how often a sale whose STAN was used before is begun again.
const stanTries = 3

// followPause is the pause between looks at an intent without outcome.
const followPause = time.Second

// follow asks about an intent while its outcome is not known.
func (c *cardSale) follow(e *env, client *uqpay.Client, intent *uqpay.Intent) (*uqpay.Intent, error) {
	limit, cancel := context.WithTimeout(e.ctx, c.Wait)
	defer cancel()
	for intent.Status == uqpay.IntentPending {
		fmt.Fprintln(e.stderr, "the outcome is not known yet; asking again …")
		select {
		case <-time.After(followPause):
		case <-limit.Done():
			return intent, nil
		}
		again, err := client.Intent(e.ctx, intent.ID)
		if err != nil {
			return nil, err
		}
		intent = again
	}
	return intent, nil
}

// read reads the card as the entry mode has it.
func (c *cardSale) read(dev *devInfo, amount money.Amount) (uqpay.Reading, error) {
	r := uqpay.Reading{Entry: payment.EntryMode(c.Entry)}
	plastic, err := c.plastic(dev)
	if err != nil {
		return r, err
	}
	if r.PAN, err = card.ParsePAN(plastic.PAN); err != nil {
		return r, fmt.Errorf("--card: %w", err)
	}
	if r.Expiry, err = card.ParseExpiry(plastic.ExpiryMonth, plastic.ExpiryYear); err != nil {
		return r, fmt.Errorf("--expiry: %w", err)
	}
	pin := c.PIN
	if pin == "" {
		pin = plastic.PIN
		if pin == "" && len(dev.Cards) > 0 {
			pin = "1234" // A card for which any PIN is right.
		}
	}
	if pin != "" && pin != "none" {
		if r.PIN, err = card.ParsePIN(pin); err != nil {
			return r, fmt.Errorf("--pin: %w", err)
		}
	}
	if r.Entry != payment.EntryKeyed && plastic.Track2 != "" {
		if r.Track2, err = card.ParseTrack2(plastic.Track2); err != nil {
			return r, err
		}
	}
	if r.Entry == payment.EntryChip || r.Entry == payment.EntryContactlessChip {
		tags, err := plastic.Tags(r.Entry, amount, !r.PIN.IsZero(), time.Now(), rand.Reader)
		if err != nil {
			return r, fmt.Errorf("%w: give a card of dev, or --entry manual_entry", err)
		}
		if r.Chip, err = emv.ParseData(tags); err != nil {
			return r, err
		}
	}
	return r, nil
}

// plastic finds the card among dev's, or makes one of a number and an expiry.
func (c *cardSale) plastic(dev *devInfo) (device.Card, error) {
	i := slices.IndexFunc(dev.Cards, func(d devCard) bool {
		return d.PAN == c.Card || d.Behaviour == c.Card || d.Brand == c.Card || len(c.Card) == 4 && strings.HasSuffix(d.PAN, c.Card)
	})
	if i >= 0 {
		return dev.Cards[i].plastic(), nil
	}
	month, year, ok := strings.Cut(c.Expiry, "/")
	if !ok {
		return device.Card{}, fmt.Errorf("--card: dev has no card %q; give a number with --expiry MM/YYYY, or one of: %s", c.Card, behaviours(dev))
	}
	return device.Card{PAN: c.Card, ExpiryMonth: month, ExpiryYear: year}, nil
}

// behaviours names what dev's cards can be called.
func behaviours(dev *devInfo) string {
	var names []string
	for _, d := range dev.Cards {
		for _, name := range []string{d.Brand, d.Behaviour} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}

// printIntent prints what a receipt shows.
func printIntent(w io.Writer, i *uqpay.Intent) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("intent", i.ID)
	line("status", string(i.Status))
	line("amount", i.Amount+" "+i.Currency)
	if a := i.LatestAttempt; a != nil {
		line("attempt", a.ID+" "+string(a.Status))
		if m := a.PaymentMethod; m != nil && m.CardPresent != nil {
			p := m.CardPresent
			line("card", p.Number+" "+p.Network)
			line("read by", p.EntryMode)
			line("verified by", p.Verification)
			if p.Terminal != nil {
				line("terminal", p.Terminal.ID)
			}
			line("STAN", p.STAN)
		}
		line("RRN", a.RRN)
		line("authorisation", a.AuthCode)
		line("refused", strings.TrimSpace(a.FailureCode+" "+a.FailureMessage))
	}
	return t.Flush()
}
