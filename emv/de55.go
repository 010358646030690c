package emv

import (
	"errors"
	"fmt"
)

// de55Max is the longest data element 55 in bytes that card networks take.
const de55Max = 255

// ErrElement is chip data that is well-formed but holds an element that cannot be: too long or short, not digits where digits must be, or
// twice. Errors that wrap it name the tag, never the value.
var ErrElement = errors.New("chip data has a bad element")

// requestTags is what goes to an acquirer, in this order. Card number and track are not among them: they travel in fields of their own.
var requestTags = []Tag{
	TagCurrency, TagPSN, TagAIP, TagAID, TagTVR, TagDate, TagType, TagAmount, TagAmountOther, TagAppVersion, TagIAD, TagCountry,
	TagIFDSerial, TagCryptogram, TagCID, TagCapabilities, TagCVMResults, TagTerminalType, TagATC, TagUN, TagSequence, TagCategory,
}

// responseTags is what goes back to the chip, in this order. There may be several scripts.
var responseTags = []Tag{TagResponseCode, TagIssuerAuth, TagScript1, TagScript2}

// Request makes the data element 55 of a request out of what a terminal sent, in templates or not. What an acquirer does not need is left
// out; what is missing is left to the issuer to miss. It returns ErrElement.
func Request(chip List) ([]byte, error) { return selection(chip, requestTags) }

// Response makes what a terminal hands to the chip out of the data element 55 of an answer: response code, issuer authentication data
// (ARPC), scripts. It returns ErrElement.
func Response(answer List) ([]byte, error) { return selection(answer, responseTags) }

func selection(from List, tags []Tag) ([]byte, error) {
	found := map[Tag]List{}
	from.walk(func(o Object) { found[o.Tag] = append(found[o.Tag], o) })
	var chosen List
	for _, tag := range tags {
		objects := found[tag]
		if len(objects) > 1 && !tag.Constructed() {
			return nil, fmt.Errorf("%w: %s is there twice", ErrElement, tag)
		}
		for _, o := range objects {
			if !byTag[tag].fits(o.Value()) {
				return nil, fmt.Errorf("%w: %s is not %s of %d to %d bytes", ErrElement, tag, byTag[tag].Kind, byTag[tag].Min, byTag[tag].Max)
			}
		}
		chosen = append(chosen, objects...)
	}
	b := chosen.Encode()
	if len(b) > de55Max {
		return nil, fmt.Errorf("%w: more than %d bytes in all", ErrElement, de55Max)
	}
	return b, nil
}

// walk calls fn for every object, templates before what is in them.
func (l List) walk(fn func(Object)) {
	for _, o := range l {
		fn(o)
		o.Children.walk(fn)
	}
}
