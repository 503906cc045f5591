package corefile

import (
	"strings"
	"testing"

	"github.com/coredns/caddy/caddyfile"
)

// sameAsCaddyfile fails the test if lex finds other words in text than caddyfile.
func sameAsCaddyfile(t *testing.T, text string) {
	t.Helper()
	got, open := lex(text)
	d := caddyfile.NewDispenser("Corefile", strings.NewReader(text))
	for i := 0; d.Next(); i++ {
		if i >= len(got) {
			t.Fatalf("%q: caddyfile has %q on line %d, but lex ends before", text, d.Val(), d.Line())
		}
		if got[i].text != d.Val() || got[i].line != d.Line() {
			t.Fatalf("%q: word %d is %q on line %d, caddyfile has %q on line %d", text, i, got[i].text, got[i].line, d.Val(), d.Line())
		}
		got[i].text = d.Val()
	}
	n := 0
	for d := caddyfile.NewDispenser("Corefile", strings.NewReader(text)); d.Next(); n++ {
	}
	if n != len(got) {
		t.Fatalf("%q: %d words, caddyfile has %d", text, len(got), n)
	}
	end := 0
	for _, tok := range got {
		if tok.start < end || tok.end <= tok.start || tok.end > len(text) {
			t.Fatalf("%q: word %q is at %d to %d, after %d", text, tok.text, tok.start, tok.end, end)
		}
		end = tok.end
	}
	if open >= 0 && text[open] != '"' {
		t.Fatalf("%q: no quotation mark at %d", text, open)
	}
}

var lexed = []string{
	"",
	".:53 {\n errors\n}\n",
	"\uFEFF.:53 {\r\n\terrors # a comment\r\n}",
	`a "b c" "d \" e" "f \\ g" "open`,
	`a "`,
	"\"two\nlines\" next",
	"a#b c\nd#\ne",
	"a#b\x85c d",
	`"" "a""b"`,
	`"\`,
	`"a\`,
	"a\rb c",
	"\r\na",
	"\xff\xfe {",
	"#only a comment",
	"\u2003word\u2003",
}

func TestLex(t *testing.T) {
	for _, text := range lexed {
		sameAsCaddyfile(t, text)
	}
}

// FuzzLex compares lex with caddyfile's lexer.
func FuzzLex(f *testing.F) {
	for _, text := range lexed {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { sameAsCaddyfile(t, text) })
}
