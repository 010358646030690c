package emv

// Kind is the format of a data element, in the words of EMV book 3, section 4.3.
type Kind string

// The formats.
const (
	Numeric    Kind = "n"    // Decimal digits, two to the byte, zeros before them.
	Compressed Kind = "cn"   // Decimal digits, two to the byte, F after them.
	Alnum      Kind = "an"   // Letters and digits.
	Text       Kind = "ans"  // Printable characters.
	Binary     Kind = "b"    // Bytes.
	Made       Kind = "tmpl" // A template of other objects.
)

// Exposure is how much of a value people may see.
type Exposure int

// The exposures. The zero one is the strictest, so that a tag that nobody thought about is hidden.
const (
	Hidden Exposure = iota // Only the length.
	Masked                 // A card number, as first six and last four.
	Shown
)

// Element is what is known of a data element.
type Element struct {
	Tag      Tag
	Name     string
	Kind     Kind
	Min, Max int // Length in bytes.
	Exposure Exposure
}

// The tags that code names.
const (
	TagPAN          Tag = 0x5A
	TagTrack2       Tag = 0x57
	TagExpiry       Tag = 0x5F24
	TagCurrency     Tag = 0x5F2A
	TagPSN          Tag = 0x5F34
	TagScript1      Tag = 0x71
	TagScript2      Tag = 0x72
	TagAIP          Tag = 0x82
	TagAID          Tag = 0x84
	TagResponseCode Tag = 0x8A
	TagIssuerAuth   Tag = 0x91
	TagTVR          Tag = 0x95
	TagDate         Tag = 0x9A
	TagTSI          Tag = 0x9B
	TagType         Tag = 0x9C
	TagAmount       Tag = 0x9F02
	TagAmountOther  Tag = 0x9F03
	TagAppVersion   Tag = 0x9F09
	TagIAD          Tag = 0x9F10
	TagCountry      Tag = 0x9F1A
	TagIFDSerial    Tag = 0x9F1E
	TagCryptogram   Tag = 0x9F26
	TagCID          Tag = 0x9F27
	TagCapabilities Tag = 0x9F33
	TagCVMResults   Tag = 0x9F34
	TagTerminalType Tag = 0x9F35
	TagATC          Tag = 0x9F36
	TagUN           Tag = 0x9F37
	TagSequence     Tag = 0x9F41
	TagCategory     Tag = 0x9F53
)

// elements is EMV book 3, annex A, as far as a payment needs it. Of what is not shown,
//   - 5A is masked as a PAN is everywhere; tracks and their discretionary data (56, 57, 9F1F, 9F20, 9F6B) must not be kept at all;
//   - name, expiry and service code (5F20, 5F24, 5F30) are cardholder data beside it;
//   - cryptograms (9F26, 91, 9F4B, and 9F4C, which goes into them) prove something, and scripts (71, 72, 86) may change a PIN;
//   - 99 is the PIN.
//
// The cryptogram's kind (9F27), the issuer's answer (8A), results and counters say what happened and open nothing: they are shown, since
// without them no failure could be explained.
var elements = []Element{
	{0x42, "Issuer identification number", Numeric, 3, 3, Shown},
	{0x4F, "Application identifier (card)", Binary, 5, 16, Shown},
	{0x50, "Application label", Text, 1, 16, Shown},
	{0x56, "Track 1 data", Text, 0, 76, Hidden},
	{TagTrack2, "Track 2 equivalent data", Binary, 8, 19, Hidden},
	{TagPAN, "Application PAN", Compressed, 6, 10, Masked},
	{0x5F20, "Cardholder name", Text, 2, 26, Hidden},
	{TagExpiry, "Application expiration date", Numeric, 3, 3, Hidden},
	{0x5F25, "Application effective date", Numeric, 3, 3, Shown},
	{0x5F28, "Issuer country code", Numeric, 2, 2, Shown},
	{TagCurrency, "Transaction currency code", Numeric, 2, 2, Shown},
	{0x5F2D, "Language preference", Alnum, 2, 8, Shown},
	{0x5F30, "Service code", Numeric, 2, 2, Hidden},
	{TagPSN, "PAN sequence number", Numeric, 1, 1, Shown},
	{0x5F36, "Transaction currency exponent", Numeric, 1, 1, Shown},
	{0x61, "Application template", Made, 0, sizeMax, Shown},
	{0x6F, "File control information", Made, 0, sizeMax, Shown},
	{0x70, "Record template", Made, 0, sizeMax, Shown},
	{TagScript1, "Issuer script template 1", Made, 0, 127, Hidden},
	{TagScript2, "Issuer script template 2", Made, 0, 127, Hidden},
	{0x77, "Response message template 2", Made, 0, sizeMax, Shown},
	{TagAIP, "Application interchange profile", Binary, 2, 2, Shown},
	{TagAID, "Dedicated file name", Binary, 5, 16, Shown},
	{0x86, "Issuer script command", Binary, 0, 261, Hidden},
	{0x87, "Application priority indicator", Binary, 1, 1, Shown},
	{0x89, "Authorisation code", Alnum, 6, 6, Shown},
	{TagResponseCode, "Authorisation response code", Alnum, 2, 2, Shown},
	{0x8C, "CDOL1", Binary, 0, 252, Shown},
	{0x8D, "CDOL2", Binary, 0, 252, Shown},
	{0x8E, "CVM list", Binary, 10, 252, Shown},
	{TagIssuerAuth, "Issuer authentication data", Binary, 8, 16, Hidden},
	{0x94, "Application file locator", Binary, 0, 252, Shown},
	{TagTVR, "Terminal verification results", Binary, 5, 5, Shown},
	{0x99, "Transaction PIN data", Binary, 0, 64, Hidden},
	{TagDate, "Transaction date", Numeric, 3, 3, Shown},
	{TagTSI, "Transaction status information", Binary, 2, 2, Shown},
	{TagType, "Transaction type", Numeric, 1, 1, Shown},
	{0x9F01, "Acquirer identifier", Numeric, 6, 6, Shown},
	{TagAmount, "Amount, authorised", Numeric, 6, 6, Shown},
	{TagAmountOther, "Amount, other", Numeric, 6, 6, Shown},
	{0x9F06, "Application identifier (terminal)", Binary, 5, 16, Shown},
	{0x9F07, "Application usage control", Binary, 2, 2, Shown},
	{0x9F08, "Application version (card)", Binary, 2, 2, Shown},
	{TagAppVersion, "Application version (terminal)", Binary, 2, 2, Shown},
	{0x9F0D, "Issuer action code, default", Binary, 5, 5, Shown},
	{0x9F0E, "Issuer action code, denial", Binary, 5, 5, Shown},
	{0x9F0F, "Issuer action code, online", Binary, 5, 5, Shown},
	{TagIAD, "Issuer application data", Binary, 1, 32, Shown},
	{0x9F12, "Application preferred name", Text, 1, 16, Shown},
	{0x9F15, "Merchant category code", Numeric, 2, 2, Shown},
	{0x9F16, "Merchant identifier", Text, 15, 15, Shown},
	{TagCountry, "Terminal country code", Numeric, 2, 2, Shown},
	{0x9F1C, "Terminal identification", Alnum, 8, 8, Shown},
	{TagIFDSerial, "Interface device serial number", Text, 8, 8, Shown}, // EMV says an; makers put hyphens in.
	{0x9F1F, "Track 1 discretionary data", Text, 0, 76, Hidden},
	{0x9F20, "Track 2 discretionary data", Compressed, 0, 19, Hidden},
	{0x9F21, "Transaction time", Numeric, 3, 3, Shown},
	{TagCryptogram, "Application cryptogram", Binary, 8, 8, Hidden},
	{TagCID, "Cryptogram information data", Binary, 1, 1, Shown},
	{TagCapabilities, "Terminal capabilities", Binary, 3, 3, Shown},
	{TagCVMResults, "CVM results", Binary, 3, 3, Shown},
	{TagTerminalType, "Terminal type", Numeric, 1, 1, Shown},
	{TagATC, "Application transaction counter", Binary, 2, 2, Shown},
	{TagUN, "Unpredictable number", Binary, 4, 4, Shown},
	{0x9F39, "POS entry mode", Numeric, 1, 1, Shown},
	{0x9F40, "Additional terminal capabilities", Binary, 5, 5, Shown},
	{TagSequence, "Transaction sequence counter", Numeric, 2, 4, Shown},
	{0x9F42, "Application currency code", Numeric, 2, 2, Shown},
	{0x9F4B, "Signed dynamic application data", Binary, 0, 252, Hidden},
	{0x9F4C, "ICC dynamic number", Binary, 2, 8, Hidden},
	{0x9F4E, "Merchant name and location", Text, 0, 64, Shown},
	{TagCategory, "Transaction category code", Binary, 1, 32, Shown}, // One letter at Mastercard, other things elsewhere.
	{0x9F5B, "Issuer script results", Binary, 5, 20, Shown},
	{0x9F66, "Terminal transaction qualifiers", Binary, 4, 4, Shown},
	{0x9F6B, "Track 2 data (contactless)", Binary, 0, 19, Hidden},
	{0x9F6C, "Card transaction qualifiers", Binary, 2, 2, Shown},
	{0x9F6E, "Form factor or third-party data", Binary, 4, 32, Shown},
	{0xA5, "FCI proprietary template", Made, 0, sizeMax, Shown},
}

var byTag = func() map[Tag]Element {
	m := make(map[Tag]Element, len(elements))
	for _, e := range elements {
		m[e.Tag] = e
	}
	return m
}()

// Lookup returns what is known of a tag, and whether anything is.
func Lookup(tag Tag) (Element, bool) {
	e, ok := byTag[tag]
	return e, ok
}

// fits reports whether a value has a length and a form that the element may have.
func (e Element) fits(v []byte) bool {
	if len(v) < e.Min || len(v) > e.Max {
		return false
	}
	switch e.Kind {
	case Numeric:
		return digits(v) == 2*len(v)
	case Compressed:
		return digits(v) > 0
	case Alnum:
		for _, c := range v {
			if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
				return false
			}
		}
	case Text:
		return printable(v)
	}
	return true
}

// digits counts the decimal digits that v begins with, or returns -1 when anything but F follows them.
func digits(v []byte) int {
	n := 0
	for i := range 2 * len(v) {
		d := v[i/2] >> (4 * (1 - i%2)) & 0xF
		switch {
		case d <= 9 && n == i:
			n++
		case d != 0xF:
			return -1
		}
	}
	return n
}

func printable(v []byte) bool {
	for _, c := range v {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
