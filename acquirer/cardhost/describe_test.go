package cardhost

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func secretFrame(t testing.TB) []byte {
	return bySpecification(t, mtiSale, map[int]string{2: testPAN, 3: "000000", 4: "1250", 7: "1122133005", 11: "17", 14: "2707", 22: "051", 32: testMember,
		35: testTrack2, 37: "632600001002", 39: "55", 41: "T0000001", 42: "4502", 43: "Café", 45: "B" + testPAN + "^SURNAME/FIRST^2707201987654321",
		48: "TK012tok_secret_1ZP038" + strings.Repeat("8C", 19), 49: "036", 52: "\x8f\xcc\x11\xaa\x05\x06\x07\x08", 53: "0100000000000000",
		55: "\x9f\x26\x08\xde\xad\xbe\xef\xde\xad\xbe\xef\x9f\x36\x02\x00\x2a\x5a\x08\x55\x54\x74\x88\x00\x26\x02\x29", 64: "MACMACMA"})
}

func TestDescribeFrame(t *testing.T) {
	t.Parallel()
	want := `0200 sale, refund or void
DE 2   PAN                        555474******0229
DE 3   processing code            000000 purchase
DE 4   amount                     000000001250
DE 7   sent, UTC                  1122133005
DE 11  STAN                       000017
DE 14  expiry                     *** (4 bytes)
DE 22  entry mode                 051
DE 32  member                     123456
DE 35  track 2                    *** (37 bytes)
DE 37  RRN                        632600001002
DE 39  response code              55 wrong PIN
DE 41  TID                        T0000001
DE 42  merchant                   4502
DE 43  merchant's name            Café
DE 45  track 1                    *** (48 bytes)
DE 48  additional data            PIN key ***, token ***
DE 49  currency                   036
DE 52  PIN block                  *** (8 bytes)
DE 53  PIN block format           0100000000000000
`
	got := DescribeFrame(framed(secretFrame(t)))
	before, chip, _ := strings.Cut(got, "DE 55")
	if diff := cmp.Diff(want, before); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, part := range []string{"9F36", "002A", "555474******0229", "DE 64  MAC                        *** (8 bytes)\n"} {
		if !strings.Contains(chip, part) {
			t.Errorf("%q is not in\n%s", part, chip)
		}
	}
	if got != DescribeFrame(secretFrame(t)) {
		t.Error("without its length, the frame is described otherwise")
	}
}

// Nothing secret is in a description, whatever part of a frame is described and however it is damaged; nor in a printed message.
func TestDescriptionsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	raw := secretFrame(t)
	secrets := []string{"54748800260", "880026", testTrack2[17:], "SURNAME", "98765432", "tok_secret", "8C8C", "8c8c", "MACMAC", "8fcc11aa", "8FCC11AA", "DEADBEEF"}
	check := func(what, text string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s shows %q:\n%s", what, s, text)
			}
		}
	}
	for at := range raw {
		check(fmt.Sprint("cut at ", at), DescribeFrame(raw[:at]))
		check(fmt.Sprint("begun at ", at), DescribeFrame(raw[at:]))
		for bit := range 8 {
			damaged := append([]byte(nil), raw...)
			damaged[at] ^= 1 << bit
			if damaged[at] == 0x26^1<<bit || damaged[at] == 0x9f^1<<bit {
				continue // Another tag before the cryptogram: package emv shows the value as that tag's.
			}
			check(fmt.Sprintf("bit %d of byte %d turned", bit, at), DescribeFrame(damaged))
		}
	}
	m, err := parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		check(verb, fmt.Sprintf(verb, m))
		check(verb, fmt.Sprintf(verb, []any{m, pair{}, &call{}}))
	}
	check("nothing", DescribeFrame(nil)+DescribeFrame([]byte(hex.EncodeToString(raw))))
}
