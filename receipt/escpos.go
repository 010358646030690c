package receipt

import (
	"bytes"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/traditionalchinese"
)

// The commands of the ESC/POS family that are used (Epson's reference).
var (
	escInit    = []byte{0x1b, '@'}
	escLatin   = []byte{0x1b, 't', 16} // Code page Windows 1252.
	escHan     = []byte{0x1c, '&'}     // Two-byte characters; Big5 in printers for Hong Kong and Taiwan.
	escBoldOn  = []byte{0x1b, 'E', 1}
	escBoldOff = []byte{0x1b, 'E', 0}
	escBig     = []byte{0x1d, '!', 0x11}
	escNormal  = []byte{0x1d, '!', 0x00}
	escCut     = []byte{0x1d, 'V', 66, 3} // Feed, then cut but for a point.
	escMiddle  = []byte{0x1b, 'a', 1}
	escStart   = []byte{0x1b, 'a', 0}
)

// ESCPOS is the document for a printer. Characters that its code page lacks become question marks.
func (d Document) ESCPOS(columns int) []byte {
	var b bytes.Buffer
	b.Write(escInit)
	code := encoding.Encoding(charmap.Windows1252)
	b.Write(escLatin)
	if d.Language == Chinese {
		code = traditionalchinese.Big5
		b.Write(escHan)
	}
	encoder := encoding.ReplaceUnsupported(code.NewEncoder())
	for _, l := range d.Lines {
		switch {
		case l.Cut:
			b.Write(escCut)
			continue
		case l.QR != "":
			qr(&b, l.QR)
			continue
		}
		big := l.Big && cells(l.Left) <= columns/2
		if l.Bold {
			b.Write(escBoldOn)
		}
		if big {
			b.Write(escBig)
		}
		for _, row := range l.rows(columns) {
			text, err := encoder.String(row)
			if err != nil {
				text = row // Replaced characters cannot fail; ASCII is what is left.
			}
			// ReplaceUnsupported writes the code page's own substitute, which is a control to a printer.
			b.WriteString(string(bytes.ReplaceAll([]byte(text), []byte{0x1a}, []byte{'?'})) + "\n")
		}
		if big {
			b.Write(escNormal)
		}
		if l.Bold {
			b.Write(escBoldOff)
		}
	}
	return b.Bytes()
}

// qrMax is the longest text of a QR code: what version 25 holds at level M, which a printer of 58 mm still prints.
const qrMax = 997

// qr writes the four functions that print a QR code: model 2, size, level M, data, print.
func qr(b *bytes.Buffer, text string) {
	if len(text) > qrMax {
		return
	}
	function := func(args ...byte) {
		b.Write([]byte{0x1d, '(', 'k', byte(len(args)), byte(len(args) >> 8)})
		b.Write(args)
	}
	const moduleDots = 6
	b.Write(escMiddle)
	function(49, 65, 50, 0)
	function(49, 67, moduleDots)
	function(49, 69, 49)
	function(append([]byte{49, 80, 48}, text...)...)
	function(49, 81, 48)
	b.Write(escStart)
}
