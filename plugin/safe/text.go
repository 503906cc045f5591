package safe

import (
	"strconv"
	"unicode/utf8"
)

// maxPrintable is the number of bytes of an external text that are shown.
const maxPrintable = 512

// Printable returns an external text (a file name, an object's name, an error that quotes a file) in a form for a log
// line, an error or a label of a metric: unchanged if it is UTF-8 of printable characters alone, else as a Go string
// literal. So it is always valid UTF-8, which Prometheus requires, and never breaks a line. A text of more than 512
// bytes is cut.
func Printable(s string) string {
	for i, r := range s {
		_, n := utf8.DecodeRuneInString(s[i:])
		if i+n > maxPrintable {
			return strconv.Quote(s[:i]) + "..."
		}
		if !strconv.IsPrint(r) || r == utf8.RuneError && n == 1 {
			return quoted(s)
		}
	}
	return s
}

// maxEntry is the number of bytes of a log entry that are shown.
const maxEntry = 16 << 10

// Line returns an entry of the log, an error or the message of an Event in a form that is valid UTF-8, has one line,
// and has printable characters alone: others are escaped as in a Go string literal. It is for texts in which Printable
// should have been applied to each part from outside. An entry of more than 16 KiB is cut.
func Line(s string) string {
	for i, r := range s {
		if i > maxEntry || !strconv.IsPrint(r) || r == utf8.RuneError {
			return escaped(s, i)
		}
	}
	return s
}

// escaped returns Line of s, whose first n bytes stay as they are.
func escaped(s string, n int) string {
	b := append(make([]byte, 0, len(s)+len(s)/8), s[:n]...)
	for n < len(s) && len(b) <= maxEntry {
		r, size := utf8.DecodeRuneInString(s[n:])
		if strconv.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			b = append(b, s[n:n+size]...)
		} else {
			q := strconv.Quote(s[n : n+size])
			b = append(b, q[1:len(q)-1]...)
		}
		n += size
	}
	if n < len(s) {
		b = append(b, "..."...)
	}
	return string(b)
}

func quoted(s string) string {
	if len(s) <= maxPrintable {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:maxPrintable]) + "..."
}
