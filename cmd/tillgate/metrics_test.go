package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"testing"
)

// Every measure that the dashboard or the operators' page names is one that a server tells, and the other way round for the page.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	dev := startDev(t, t.TempDir())
	for _, body := range []string{dev.purchase(t, "measured"), `{"transactionType":"purchase","transactionReference":"owed","amount":1,"currency":"aud",
		"provider":"alipay","saleType":"merchantPresentedToken","items":[{"type":"sku","itemReference":"1","name":"x","amount":1,"quantity":1}]}`, `{"transactionType":"purchase","transactionReference":"by card","amount":1,"currency":"aud",
		"provider":"financialcard","saleType":"customerPresentedToken","customerToken":"ct_sandbox_9050","items":[{"type":"sku","itemReference":"1",
		"name":"x","amount":1,"quantity":1}]}`} {
		if status, got := dev.call(t, "POST", "/v1/transactions", body); status != http.StatusOK {
			t.Fatalf("%d %v", status, got)
		}
	}
	res, err := http.Get(dev.info.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	told := names(regexp.MustCompile(`(?m)^# TYPE (tillgate_\w+)`), text)
	page := read(t, "../../docs/operations.md")
	for _, name := range told {
		if !slices.Contains(names(regexp.MustCompile(`(tillgate_\w+)`), page), name) {
			t.Errorf("docs/operations.md does not explain %s", name)
		}
	}
	suffix := regexp.MustCompile(`_(bucket|count|sum)$`)
	for _, name := range names(regexp.MustCompile(`(tillgate_\w+)`), append(page, read(t, "../../deploy/grafana-dashboard.json")...)) {
		if !slices.Contains(told, name) && !slices.Contains(told, suffix.ReplaceAllString(name, "")) {
			t.Errorf("no server tells %s", name)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func names(pattern *regexp.Regexp, text []byte) []string {
	var out []string
	for _, m := range pattern.FindAllSubmatch(text, -1) {
		out = append(out, string(m[1]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
