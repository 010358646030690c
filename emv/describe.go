package emv

import (
	"fmt"
	"strings"
)

// Describe explains data objects to people, one to the line: tag, name, value, and below it what its bits mean. Values that must not be
// seen are left out, with all of an unknown tag's.
func (l List) Describe() string {
	var b strings.Builder
	l.describe(&b, "")
	return b.String()
}

func (l List) describe(b *strings.Builder, indent string) {
	for _, o := range l {
		e, known := Lookup(o.Tag)
		if !known {
			e.Name = "?"
		}
		line := fmt.Sprintf("%s%-6s %-34s %s", indent, o.Tag, e.Name, e.show(o))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if known && e.Exposure == Shown || !known && o.Tag.Constructed() { // Of an unknown template, each part speaks for itself.
			o.Children.describe(b, indent+"  ")
		}
		if known {
			for _, m := range meanings(o.Tag, o.Value()) {
				fmt.Fprintf(b, "%s       - %s\n", indent, m)
			}
		}
	}
}

// show is a value as its exposure and its format want it.
func (e Element) show(o Object) string {
	v := o.Value()
	switch {
	case o.Tag.Constructed() && e.Exposure == Shown, o.Tag.Constructed() && e.Name == "?":
		return ""
	case e.Exposure == Hidden, e.Max > 0 && (len(v) < e.Min || len(v) > e.Max):
		return fmt.Sprintf("*** (%d bytes)", len(v)) // Behind a damaged tag may stand what another tag would hide.
	case e.Exposure == Masked:
		return mask(v)
	case (e.Kind == Text || e.Kind == Alnum) && printable(v):
		return fmt.Sprintf("%q", v)
	default:
		return fmt.Sprintf("%X", v)
	}
}

// mask shows the first six and last four digits of a card number, and nothing of what is not clearly one.
func mask(v []byte) string {
	n := digits(v)
	if n < 15 || n > 19 {
		return concealed
	}
	s := fmt.Sprintf("%x", v)[:n]
	return s[:6] + "******" + s[n-4:]
}

// meanings are the words for the bits that are set.
func meanings(tag Tag, v []byte) []string {
	var said []string
	switch {
	case tag == TagCID && len(v) == 1:
		said = append(said, []string{"AAC: declined by the card", "TC: approved offline", "ARQC: the issuer is asked", "reserved"}[v[0]>>6])
	case tag == TagCVMResults && len(v) == 3:
		said = append(said, orElse(methods[v[0]&0x3F], "another method")+": "+orElse(methodResults[v[2]], "unknown result"))
	}
	for _, bit := range bits[tag] {
		if bit.byte <= len(v) && v[bit.byte-1]&(1<<(bit.number-1)) != 0 {
			said = append(said, bit.means)
		}
	}
	return said
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// methods are the cardholder verification methods, EMV book 3, table C-1 (annex C3).
var methods = map[byte]string{
	0x00: "CVM failed", 0x01: "PIN in clear, checked by the card", 0x02: "online PIN", 0x03: "PIN in clear, checked by the card, and signature",
	0x04: "enciphered PIN, checked by the card", 0x05: "enciphered PIN, checked by the card, and signature", 0x1E: "signature",
	0x1F: "no CVM required", 0x3F: "no CVM performed",
}

// methodResults are the results of the last method, EMV book 4, annex A4.
var methodResults = map[byte]string{0: "unknown", 1: "failed", 2: "successful"}

// bits are the meanings of bits, counted as EMV counts: bytes from 1, bits from 8 down to 1. Annex C5 (TVR) and C6 (TSI) of book 3.
var bits = map[Tag][]struct {
	byte, number int
	means        string
}{
	TagTVR: {
		{1, 8, "offline data authentication was not performed"},
		{1, 7, "SDA failed"},
		{1, 6, "card data missing"},
		{1, 5, "card is on the terminal's exception file"},
		{1, 4, "DDA failed"},
		{1, 3, "CDA failed"},
		{2, 8, "card and terminal have different application versions"},
		{2, 7, "expired application"},
		{2, 6, "application not yet effective"},
		{2, 5, "service not allowed for card product"},
		{2, 4, "new card"},
		{3, 8, "cardholder verification was not successful"},
		{3, 7, "unrecognised CVM"},
		{3, 6, "PIN try limit exceeded"},
		{3, 5, "PIN required, and PIN pad not there or not working"},
		{3, 4, "PIN required, PIN pad there, but PIN was not entered"},
		{3, 3, "online PIN entered"},
		{4, 8, "transaction exceeds floor limit"},
		{4, 7, "lower consecutive offline limit exceeded"},
		{4, 6, "upper consecutive offline limit exceeded"},
		{4, 5, "selected at random for online processing"},
		{4, 4, "merchant forced transaction online"},
		{5, 8, "default TDOL used"},
		{5, 7, "issuer authentication failed"},
		{5, 6, "script failed before the final cryptogram"},
		{5, 5, "script failed after the final cryptogram"},
	},
	TagTSI: {
		{1, 8, "offline data authentication was performed"},
		{1, 7, "cardholder verification was performed"},
		{1, 6, "card risk management was performed"},
		{1, 5, "issuer authentication was performed"},
		{1, 4, "terminal risk management was performed"},
		{1, 3, "script processing was performed"},
	},
}
