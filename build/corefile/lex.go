// Package corefile reads a whole Corefile from a file or a ConfigMap, including its imports, and stores the origin of
// each line.
package corefile

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// token is a word of a Corefile, as found by caddyfile's lexer, and its place.
type token struct {
	text       string
	start, end int // offsets of its first byte and of the byte after its last, quotes included
	line       int // of start
	lastLine   int // of end
}

// byteOrderMark at the beginning of a text is not part of the first word.
const byteOrderMark = "\uFEFF"

// lex returns the words of a text: all, or the first maxWords and one more. open is the offset of an unmatched
// quotation mark, -1 without one.
//
// caddyfile's own lexer does not return the place of a word. FuzzLex compares the two.
func lex(text string) (all []token, open int) {
	i, line := 0, 1
	if strings.HasPrefix(text, byteOrderMark) {
		i = len(byteOrderMark)
	}
	for {
		i, line = skip(text, i, line)
		if i == len(text) || len(all) > maxWords {
			return all, -1
		}
		t, unended := token{start: i, line: line}, false
		if text[i] == '"' {
			t.text, t.end, unended = quoted(text, i)
		} else {
			t.text, t.end = bare(text, i)
		}
		t.lastLine = line + strings.Count(text[t.start:t.end], "\n")
		i, line = t.end, t.lastLine
		if !unended || t.text != "" { // caddyfile drops it otherwise
			all = append(all, t)
		}
		if unended {
			return all, t.start
		}
	}
}

// skip returns the offset and line of the first byte of a word at or after i, len(text) if there is none.
func skip(text string, i, line int) (int, int) {
	comment := false
	for i < len(text) {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\n':
			line++
			comment = false
		case comment || unicode.IsSpace(r):
		case r == '#':
			comment = true
		default:
			return i, line
		}
		i += n
	}
	return i, line
}

// bare reads a word without quotation marks. caddyfile drops carriage returns, and takes a # in it for a comment: the
// word continues after the comment unless that ends with a space.
func bare(text string, i int) (word string, end int) {
	var b strings.Builder
	comment := false
	for i < len(text) {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\r':
		case r == '\n', unicode.IsSpace(r):
			return b.String(), i
		case comment:
		case r == '#':
			comment = true
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String(), i
}

// quoted reads a word in quotation marks. open reports that the second is missing. A backslash only escapes quotation
// marks.
func quoted(text string, i int) (word string, end int, open bool) {
	var b strings.Builder
	escaped := false
	for i++; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch {
		case escaped:
			if r != '"' {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			return b.String(), i, false
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), i, true
}
