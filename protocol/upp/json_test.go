package upp

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tillgate/tillgate/payment"
)

// TestMemo: what the core keeps comes back, also as it was written by encoding/json; what was not written by us does not.
func TestMemo(t *testing.T) {
	t.Parallel()
	r := mustDecode(t, purchase("customerToken", `"<&>\u2028 é\""`))
	made := memoOf(r, payment.Caller{Terminal: payment.Terminal{PublicID: `T<"1">`}}, "203.0.113.20")
	stored, err := made.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := r.Echo()
	want.ClientIPAddress = new("203.0.113.20")
	byOthers, err := json.Marshal(tree(t, stored)) // With the escapes of encoding/json.
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{stored, byOthers} {
		m, err := readMemo(text)
		if diff := cmp.Diff(want, m.echo); diff != "" || m.terminal != `T<"1">` || err != nil {
			t.Errorf("%s: terminal %q, %v; echo: -want +got\n%s", text, m.terminal, err, diff)
		}
	}
	for _, text := range []string{``, `null`, `{}`, `{"terminal":"1"}`, `{"terminal":"1","request":null}`, `{"terminal":"1","request":[]}`,
		`{"terminal":1,"request":{}}`, `{"terminal":"1","request":{"amount":"1"}}`, `{"terminal":"1","request":{}}x`} {
		if _, err := readMemo(json.RawMessage(text)); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}
