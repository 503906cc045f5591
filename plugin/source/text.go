package source

import (
	"strconv"
	"unicode/utf8"
)

// maxPrintable is the number of bytes of an external text that are shown.
const maxPrintable = 512

// Printable returns an external text (a file name, an object's name, an error that quotes a file) in a form for a log line,
// an error or a label of a metric: unchanged if it is UTF-8 of printable characters alone, else as a Go string literal. So it
// is always valid UTF-8, which Prometheus requires, and never breaks a line. A text of more than 512 bytes is cut.
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

func quoted(s string) string {
	if len(s) <= maxPrintable {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:maxPrintable]) + "..."
}
