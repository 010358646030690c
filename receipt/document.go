package receipt

import (
	"strings"

	"golang.org/x/text/width"
)

// Columns of the two papers, in the printers' usual font.
const (
	Columns58 = 32 // 58 mm.
	Columns80 = 48 // 80 mm.
)

// Align is where a line stands.
type Align int

// The alignments.
const (
	Start Align = iota
	Middle
)

// Line is one line of a receipt: a text, or one on either side; or a rule, a QR code, or the place where the paper is cut.
type Line struct {
	Left, Right string
	Align       Align
	Bold, Big   bool // Big is twice as wide and high.
	Rule, Cut   bool
	QR          string
}

// Document is a receipt before it has a width.
type Document struct {
	Language Language
	Lines    []Line
}

func (d *Document) rule()  { d.Lines = append(d.Lines, Line{Rule: true}) }
func (d *Document) blank() { d.Lines = append(d.Lines, Line{}) }
func (d *Document) cut()   { d.Lines = append(d.Lines, Line{Cut: true}) }

// middle adds a line in the middle, unless it is empty.
func (d *Document) middle(text string, bold bool) {
	if text != "" {
		d.Lines = append(d.Lines, Line{Left: text, Align: Middle, Bold: bold})
	}
}

// pair adds a line with something on either side, unless both are empty.
func (d *Document) pair(left, right string) {
	if left != "" || right != "" {
		d.Lines = append(d.Lines, Line{Left: left, Right: right})
	}
}

// Plain makes a document of lines as they are.
func Plain(lines []string) Document {
	var d Document
	for _, l := range lines {
		d.Lines = append(d.Lines, Line{Left: printable(l)})
	}
	d.cut()
	return d
}

// Text is the document as text of a width, for screens and logs.
func (d Document) Text(columns int) string {
	var b strings.Builder
	for _, l := range d.Lines {
		l.Big = false // Text has one size.
		for _, row := range l.rows(columns) {
			b.WriteString(strings.TrimRight(row, " ") + "\n")
		}
	}
	return b.String()
}

// rows are a line's rows on paper of a width. What is too long is broken, never cut: a receipt must not lose a digit.
func (l Line) rows(columns int) []string {
	if l.Big && cells(l.Left) > columns/2 {
		l.Big = false // Better small than broken.
	}
	if l.Big {
		columns /= 2
	}
	switch {
	case l.Rule:
		return []string{strings.Repeat("-", columns)}
	case l.Cut:
		return nil
	case l.QR != "":
		return []string{"[QR " + l.QR + "]"}
	case l.Align == Middle:
		var rows []string
		for _, part := range wrap(printable(l.Left), columns) {
			rows = append(rows, strings.Repeat(" ", (columns-cells(part))/2)+part)
		}
		return rows
	}
	left, right := printable(l.Left), printable(l.Right)
	if gap := columns - cells(left) - cells(right); right == "" || gap >= 1 {
		if right == "" {
			return wrap(left, columns)
		}
		return []string{left + strings.Repeat(" ", gap) + right}
	}
	rows := wrap(left, columns)
	for _, part := range wrap(right, columns) {
		rows = append(rows, strings.Repeat(" ", columns-cells(part))+part)
	}
	return rows
}

// cells is how many columns a text takes: characters of East Asian scripts take two.
func cells(text string) int {
	n := 0
	for _, r := range text {
		n += cell(r)
	}
	return n
}

func cell(r rune) int {
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// wrap breaks a text into rows, at spaces where there are any.
func wrap(text string, columns int) []string {
	if cells(text) <= columns {
		return []string{text}
	}
	var rows []string
	row, used, space := []rune{}, 0, -1
	for _, r := range text {
		if used+cell(r) > columns {
			rest := []rune{}
			if space > 0 {
				rest = append(rest, row[space+1:]...)
				row = row[:space]
			}
			rows = append(rows, string(row))
			row, used, space = rest, cells(string(rest)), -1
			if r == ' ' && len(row) == 0 {
				continue
			}
		}
		if r == ' ' {
			space = len(row)
		}
		row = append(row, r)
		used += cell(r)
	}
	return append(rows, string(row))
}

// printable takes out what would steer a printer or break a line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, text)
}
