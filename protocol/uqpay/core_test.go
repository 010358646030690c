package uqpay

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

func TestTablesAreComplete(t *testing.T) {
	t.Parallel()
	for _, r := range payment.Reasons() {
		if f, ok := failures[r]; !ok || f.code == "" || f.text == "" {
			t.Errorf("failures lacks %s", r)
		}
	}
	if len(failures) != len(payment.Reasons()) {
		t.Error("failures has reasons that the core does not know")
	}
	for _, err := range payment.Errors() {
		e := refusal(fmt.Errorf("wrapped: %w", err))
		if e == nil || e.Message == "" {
			t.Errorf("refusals lacks %v", err)
		}
	}
	states := []payment.State{payment.Open, payment.Authorized, payment.Captured, payment.Refused, payment.Cancelled, payment.Voided, payment.Expired}
	operations := []payment.OperationState{payment.Created, payment.Sent, payment.Waiting, payment.Approved, payment.Declined, payment.Unknown, payment.Reversing, payment.Reversed}
	for _, s := range states {
		for _, o := range append(operations, "") {
			if intentStatus(&payment.Payment{State: s}, o) == "" {
				t.Errorf("no intent status for %s and %q", s, o)
			}
		}
		for _, o := range operations {
			if attemptStatus(&payment.Payment{State: s}, &payment.Operation{State: o}) == "" {
				t.Errorf("no attempt status for %s and %s", s, o)
			}
		}
	}
	for _, o := range operations {
		if refundStates[o] == "" {
			t.Errorf("no refund status for %s", o)
		}
	}
}

// A list by status holds exactly what is shown with it.
func TestFiltersAgreeWithTables(t *testing.T) {
	t.Parallel()
	fits := func(f payment.ListFilter, p *payment.Payment, a *payment.Operation) bool {
		return (f.States == nil || slices.Contains(f.States, p.State)) && (f.Attempts == nil || slices.Contains(f.Attempts, a.State)) &&
			(!f.Failed || a.Failure != "") && (!f.Unfailed || a.Failure == "")
	}
	for _, s := range []payment.State{payment.Open, payment.Authorized, payment.Captured, payment.Refused, payment.Cancelled, payment.Voided, payment.Expired} {
		p := &payment.Payment{State: s}
		for o := range openStates {
			shown := intentStatus(p, o)
			for _, status := range []IntentStatus{RequiresPaymentMethod, RequiresCustomerAction, RequiresCapture, IntentPending, IntentSucceeded, IntentCancelled, IntentFailed} {
				f, known := intentFilter(status)
				if !known || fits(f, p, &payment.Operation{State: o}) != (status == shown) {
					t.Errorf("%s with %q is %s, but the filter of %s disagrees", s, o, shown, status)
				}
			}
		}
		for o := range attemptStates {
			for _, failure := range []payment.Reason{"", payment.ReasonUnavailable} {
				possible := map[payment.OperationState]bool{payment.Declined: failure != "", payment.Approved: failure == "" && s != payment.Open && s != payment.Refused && s != payment.Expired,
					payment.Reversed: failure != "" || s == payment.Cancelled || s == payment.Voided}
				if can, rare := possible[o]; rare && !can || !rare && failure != "" {
					continue // No attempt is ever so, or only until its undoing is acknowledged.
				}
				a := &payment.Operation{State: o, Failure: failure}
				shown := attemptStatus(p, a)
				for status, f := range attemptFilters {
					if fits(f, p, a) != (status == shown) {
						t.Errorf("%s attempt (%s) of a payment that is %s is %s, but the filter of %s disagrees", o, failure, s, shown, status)
					}
				}
			}
		}
	}
	for o, shown := range refundStates {
		for status, f := range refundFilters {
			if slices.Contains(f.Refunds, o) != (status == shown) {
				t.Errorf("refund that is %s is %s, but the filter of %s disagrees", o, shown, status)
			}
		}
	}
}

// §5: the type fixes the status.
func TestErrorsHaveTheStatusOfTheirType(t *testing.T) {
	t.Parallel()
	for _, typ := range []ErrorType{TypeInvalidRequest, TypeIdempotency, TypeAccount, TypePayment, TypeRefund, TypeProduct, TypeNotFound} {
		if e := refuse(typ, "x", "y"); e.Status != http.StatusBadRequest {
			t.Errorf("%s is %d", typ, e.Status)
		}
	}
	if refuse(TypeUnauthorized, "x", "y").Status != 401 || refuse(TypeAPI, CodeAPIError, "y").Status != 500 || refuse(TypeAPI, CodeRegisterFailed, "y").Status != 400 {
		t.Error("statuses are wrong")
	}
	if got := string(errProcessing.Body()); got != `{"code":200,"message":"Request is processing, please try again later."}` {
		t.Errorf("envelope B is %s", got)
	}
	for _, r := range refusals {
		var e *Error
		if !errors.As(error(r.wire), &e) || e.Message == "" {
			t.Errorf("%v has no words", r.err)
		}
	}
}

func TestPublicNumbers(t *testing.T) {
	t.Parallel()
	if got := numbering.Number(18); got != "PI2000000000000000018" {
		t.Errorf("got %s", got)
	}
	if id, err := parseNumber(numbering, "PI2000000000000000018"); id != 18 || err != nil {
		t.Errorf("got %d, %v", id, err)
	}
	for _, text := range []string{"", "PI", "PI2000000000000000000", "PI200000000000000018", "PI20000000000000000018", "PI2000000-00000000018", "PI2000000+00000000018",
		"pi2000000000000000018", "PA2000000000000000018", "PI2000001000000000018"} {
		if id, err := parseNumber(numbering, text); !errors.Is(err, payment.ErrNotFound) {
			t.Errorf("%q: got %d, %v", text, id, err)
		}
	}
}

func TestVoidWindow(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		tm, err := time.ParseInLocation("2006-01-02 15:04:05", "2026-02-03 "+clock, zone)
		if err != nil {
			t.Fatal(err)
		}
		return tm
	}
	for clock, want := range map[string]time.Duration{"00:00:00": 23 * time.Hour, "22:59:59": time.Second, "23:00:00": 0, "23:30:00": -1} {
		if got := voidWindow(at(clock).UTC()); got != want {
			t.Errorf("%s: got %s, want %s", clock, got, want)
		}
	}
}

func TestUnknownReasonIsAPlainDecline(t *testing.T) {
	t.Parallel()
	if f := failureOf("something new"); f != failDeclined {
		t.Errorf("got %v", f)
	}
}

func TestHiddenTypes(t *testing.T) {
	t.Parallel()
	card := &cardRequest{number: "5554748800161559", pin: "3BCCAC46096E5379", track2: "5554748800161559D2707"}
	m := &methodRequest{Type: methodCard, Card: card}
	key := pinKeyRequest{terminal: "10000001", key: []byte("0123456789abcdef")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, text := range []string{fmt.Sprintf(verb, card), fmt.Sprintf(verb, m.Card), fmt.Sprintf(verb, key), fmt.Sprintf(verb, Secret("sesame"))} {
			for _, canary := range []string{"55547", "3BCC", "0123456789", "sesame", "736573"} {
				if strings.Contains(text, canary) {
					t.Errorf("%s shows %s", verb, text)
				}
			}
		}
	}
}
