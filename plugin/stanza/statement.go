package stanza

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/coredns/caddy/caddyfile"
)

// statement is a name, its arguments on the same line, and the block that may follow: the stanza itself, an option of
// it, or a line in the block of hosts or external.
type statement struct {
	words  []caddyfile.Token // the name and its arguments
	braced bool              // a block follows, even an empty one
	block  []statement
}

func (s statement) name() string          { return s.words[0].Text }
func (s statement) last() caddyfile.Token { return s.words[len(s.words)-1] }

func (s statement) args() []string {
	args := make([]string, 0, len(s.words)-1)
	for _, w := range s.words[1:] {
		args = append(args, w.Text)
	}
	return args
}

// one returns the only argument.
func (s statement) one() (string, error) {
	if len(s.words) != 2 {
		return "", s.argErr()
	}
	return s.words[1].Text, nil
}

// none refuses arguments.
func (s statement) none() error {
	if len(s.words) != 1 {
		return s.argErr()
	}
	return nil
}

func (s statement) errf(format string, args ...any) error { return errAt(s.last(), format, args...) }

func (s statement) argErr() error {
	return s.errf("Wrong argument count or unexpected line ending after '%s'", s.last().Text)
}

func (s statement) unknown() error {
	return errAt(s.words[0], "unknown property '%s'", s.name())
}

// errAt returns an error in the form of caddyfile's Dispenser.Errf, at the file and line of t.
func errAt(t caddyfile.Token, format string, args ...any) error {
	return errors.New(position(t) + errorPrefix + clip(fmt.Sprintf(format, args...), maxErrorText))
}

func position(t caddyfile.Token) string {
	return fmt.Sprintf("%s:%d - ", clip(t.File, maxErrorText), t.Line)
}

// clip cuts s to about n bytes for an error, and escapes anything but text, so that a ConfigMap can't write lines of
// its own into the log.
func clip(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= n {
			return b.String() + "..."
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// sameLine reports whether b, which comes after a, is on the line where a ends.
func sameLine(a, b caddyfile.Token) bool {
	return a.File == b.File && a.Line+strings.Count(a.Text, "\n") == b.Line
}

// scanner makes statements from tokens.
type scanner struct {
	tokens []caddyfile.Token
	i      int // the next token
}

func (s *scanner) at(text string) bool { return s.i < len(s.tokens) && s.tokens[s.i].Text == text }

// stanzaDepth is the depth of blocks in a stanza: options, and lines of hosts.
const stanzaDepth = 2

// blockLimits are the statements that one block may hold, by the depth of blocks that may be nested
// in it.
var blockLimits = [stanzaDepth + 1]struct {
	most int
	what string
}{1: {maxLines, "lines of hosts"}, stanzaDepth: {maxOptions, "options"}}

// statement reads one statement, with blocks nested no deeper than depth. There must be a token left.
//
// Dispenser.NextBlock can't do this: it takes a block after any option for more options of the surrounding block, and a
// closing brace on the line of an option for an argument.
func (s *scanner) statement(depth int) (statement, error) {
	start := s.i
	if t := s.tokens[start]; t.Text == "{" || t.Text == "}" {
		return statement{}, errAt(t, "unexpected '%s', expecting an option", t.Text)
	}
	s.i++
	for s.i < len(s.tokens) && sameLine(s.tokens[s.i-1], s.tokens[s.i]) && !s.at("{") && !s.at("}") {
		s.i++
	}
	st := statement{words: s.tokens[start:s.i]}
	if !s.at("{") {
		return st, nil
	}

	open := s.tokens[s.i]
	if !sameLine(st.last(), open) {
		return st, errAt(open, "unexpected '{': the block of '%s' must open on its own line, %d", st.name(), st.last().Line)
	}
	if depth == 0 {
		return st, errAt(open, "unexpected '{': '%s' takes no block", st.name())
	}
	st.braced = true
	s.i++
	for s.i < len(s.tokens) {
		if s.at("}") {
			s.i++
			return st, nil
		}
		if l := blockLimits[depth]; len(st.block) == l.most {
			return st, errAt(s.tokens[s.i], "more than %d %s in a stanza", l.most, l.what)
		}
		sub, err := s.statement(depth - 1)
		if err != nil {
			return st, err
		}
		st.block = append(st.block, sub)
	}
	return st, errAt(open, "Unexpected EOF: this '{' of '%s' has no '}'", st.name())
}
