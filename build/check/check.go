// Package check judges a Corefile without starting it: whether CoreDNS would take it, and what in it is likely to hurt. Its command
// is `coredns check`.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/kubehosts/kubehosts/build/corefile"
)

// How bad a Finding is.
const (
	Wrong   = "error"   // CoreDNS does not start with it, or it does not do what it is there for
	Warning = "warning" // it works, and is likely to hurt
	Note    = "note"    // what a live edit would do
)

// Finding is something to be said about a line of a Corefile.
type Finding struct {
	File  string `json:"file"`
	Line  int    `json:"line"`
	Level string `json:"level"`
	Text  string `json:"text"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s", corefile.Position{File: f.File, Line: f.Line}, f.Level, f.Text)
}

func at(p corefile.Position, level, format string, args ...any) Finding {
	return Finding{p.File, p.Line, level, fmt.Sprintf(format, args...)}
}

// found returns an error about a Corefile as a Finding. An error without a position is about no line of the file.
func found(err error, file string) Finding {
	var e *corefile.Error
	if errors.As(err, &e) {
		return at(e.At, Wrong, "%s", e.Text)
	}
	return at(corefile.Position{File: file, Line: 1}, Wrong, "%v", err)
}

// IsWrong reports whether one of the findings is an error.
func IsWrong(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Level == Wrong })
}

// Corefile judges a Corefile. Files that a stanza names and that are in there, by their last element, need not be on this machine:
// the keys of a ConfigMap that is mounted where the Corefile will be.
//
// Every plugin's own setup reads its stanza, in this process, and what a setup leaves running stays: the process that calls this
// is to end soon. Setups that ask another machine are not called, and named in a warning.
func Corefile(text *corefile.Text, there map[string]corefile.Source) []Finding {
	unbalanced := braces(text)
	blocks, err := text.Blocks(dnsserver.Directives)
	if err != nil {
		if IsWrong(unbalanced) {
			return unbalanced // what follows from it says nothing more
		}
		return []Finding{found(err, text.Position(1).File)}
	}
	all := unbalanced
	if !IsWrong(all) {
		all = append(all, judge(blocks)...)
	}
	for i := range blocks {
		all = append(all, habits(&blocks[i], there)...)
	}
	all = append(all, binds(blocks)...)
	return sorted(all)
}

// sorted brings findings in the order of their lines, each once.
func sorted(all []Finding) []Finding {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Level, b.Level))
	})
	return slices.Compact(all)
}

// braces finds keys that are written together with the brace behind them, or else braces that close nothing.
func braces(text *corefile.Text) (all []Finding) {
	for _, w := range text.Glued() {
		all = append(all, at(w.At, Wrong, "'%s' is read as one word, brace included, and what follows is in no braces: put a space before the '{'", clip(w.Text)))
	}
	if len(all) > 0 {
		return all
	}
	stray, missing := text.Unbalanced()
	for _, p := range stray {
		all = append(all, at(p, Wrong, "'}' stands where a server block may begin, and is read as its key: there is one too many, here or above"))
	}
	if missing != (corefile.Position{}) {
		all = append(all, at(missing, Warning, "the text ends before the last '}': is it all there?"))
	}
	return all
}
