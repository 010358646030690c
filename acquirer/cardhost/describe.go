package cardhost

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strings"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
)

// DescribeFrame explains a frame, or a message without its length in front, to people: one line for each data element. Card numbers are
// masked, and tracks, PIN blocks, keys, cryptograms and MACs are left out, also of what is only partly a message.
func DescribeFrame(frame []byte) string {
	if len(frame) >= frameHead && int(binary.BigEndian.Uint16(frame)) == len(frame)-frameHead {
		frame = frame[frameHead:]
	}
	m, err := parse(frame)
	if err != nil {
		return describe(m, true) + err.Error() + "\n"
	}
	return describe(m, false)
}

// describe explains a message. Of a broken one only lengths are shown: after a wrong bitmap or length, a card may stand where anything else
// should.
func describe(m *message, broken bool) string {
	var b strings.Builder
	if m.mti != "" {
		name := "unknown type"
		if t, ok := types[m.mti]; ok {
			name = t.name
		}
		fmt.Fprintf(&b, "%s %s\n", m.mti, name)
	}
	for de := 2; de <= lastDE; de++ {
		if m.have(de) {
			text := shown(de, m.value[de])
			if broken {
				text = hidden(m.value[de])
			}
			fmt.Fprintf(&b, "DE %-3d %-26s %s\n", de, specification[de].name, text)
		}
	}
	return b.String()
}

// shown is what people may see of a value.
func shown(de int, value string) string {
	e := &specification[de]
	switch e.show {
	case showAll:
		if meaning := meanings[de][value]; meaning != "" {
			return value + " " + meaning
		}
		if de == deCode {
			return strings.TrimSpace(value + " " + codes[value].meaning)
		}
		return value
	case showMasked:
		if pan, err := card.ParsePAN(value); err == nil {
			return pan.Masked()
		}
	case showItems:
		found, err := items(value)
		names := make([]string, 0, len(found))
		for name := range found {
			if itemNames[name] == "" {
				continue
			}
			names = append(names, itemNames[name]+" ***")
		}
		if sort.Strings(names); err == nil && len(names) == len(found) {
			return strings.Join(names, ", ")
		}
	case showTLV:
		list, err := emv.Parse([]byte(value))
		if err == nil {
			return strings.TrimRight(strings.ReplaceAll("\n"+list.Describe(), "\n", "\n       "), "\n ")
		}
	}
	return hidden(value)
}

func hidden(value string) string { return fmt.Sprintf("*** (%d bytes)", len(value)) }

// meanings explains values that people meet in frames.
var meanings = map[int]map[string]string{
	deProcessing: {processPurchase: "purchase", processVoid: "void", processRefund: "refund", processAfterBatch: "close after upload"},
	deNetwork: {networkSignOn: "sign-on", networkSignOff: "sign-off", networkKeys: "key exchange", networkCutOver: "cut-over",
		networkEcho: "echo"},
	deBalance:   {inBalance: "in balance", outOfBalance: "out of balance"},
	deCondition: {"00": "card present", "59": "electronic commerce"},
}

var itemNames = map[string]string{itemToken: "token", itemPINKey: "PIN key", itemMACKey: "MAC key"}
