package admin

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/payment"
)

var update = flag.Bool("update", false, "write docs/admin-api.json")

// The description in docs is made from the routes themselves.
func TestTheDescriptionIsThatOfTheRoutes(t *testing.T) {
	t.Parallel()
	const path = "../docs/admin-api.json"
	if *update {
		if err := os.WriteFile(path, OpenAPI(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != string(OpenAPI()) {
		t.Errorf("%s differs from the routes (%v); run: go test ./admin -update", path, err)
	}
}

func TestOnlyTheOperatorsTokenOpensTheAPI(t *testing.T) {
	t.Parallel()
	s := New(Config{Token: "op_right"})
	for _, tc := range []struct {
		name, path, header string
		want               int
	}{
		{"no token", "/merchants", "", http.StatusUnauthorized},
		{"wrong token", "/merchants", "Bearer op_wrong", http.StatusUnauthorized},
		{"longer token", "/merchants", "Bearer op_right2", http.StatusUnauthorized},
		{"other scheme", "/merchants", "Basic op_right", http.StatusUnauthorized},
		{"unknown call without token", "/nothing", "", http.StatusUnauthorized},
		{"unknown call", "/nothing", "Bearer op_right", http.StatusNotFound},
		{"the description needs none", "/openapi.json", "", http.StatusOK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", Prefix+tc.path, nil)
			if tc.header != "" {
				r.Header.Set("Authorization", tc.header)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != tc.want || w.Code != http.StatusOK && !strings.Contains(w.Body.String(), `"text":`) {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tc.want)
			}
		})
	}
}

// An operator is told whether to try again; what a driver says stays in the log.
func TestAStoreThatFails(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	s := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, tc := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("%w: database: driver 7351", payment.ErrUnavailable), http.StatusServiceUnavailable, "unavailable"},
		{errors.New("driver 7351"), http.StatusInternalServerError, "internal"},
	} {
		log.Reset()
		status, p := s.problem(tc.err)
		if status != tc.status || p.Error != tc.code || strings.Contains(p.Text, "7351") || !strings.Contains(log.String(), "7351") {
			t.Errorf("%v: %d %+v; log: %s", tc.err, status, p, log.String())
		}
	}
}

func TestBodiesAreReadStrictly(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	for name, body := range map[string]string{
		"no JSON":       "x",
		"unknown field": `{"merchant":"1","owner":"me"}`,
		"two values":    `{"state":"active"} {}`,
		"wrong type":    `{"merchant":1}`,
		"empty":         "",
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", Prefix+"/merchants", strings.NewReader(body)))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", Prefix+"/merchants", strings.NewReader(strings.Repeat(" ", bodyMax+1))))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that is too long: %d", w.Code)
	}
}
