// Package check checks a Corefile without starting it: whether CoreDNS would accept it, and what in it is likely to
// cause trouble. Its command is `coredns check`.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/kubehosts/kubehosts/build/corefile"
)

// The levels of a Finding.
const (
	Wrong   = "error"   // CoreDNS does not start with it, or it does not do its job
	Warning = "warning" // it works, but is likely to cause trouble
	Note    = "note"    // the effect of a live edit
)

// Finding is a remark on a line of a Corefile.
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

// found returns an error for a Corefile as a Finding. An error without a position concerns no line of the file.
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

// Corefile checks a Corefile. Files named in a stanza may be missing on this machine if their base name is in there,
// the keys of a ConfigMap that will be mounted at the Corefile.
//
// Every plugin's own setup reads its stanza in this process, and whatever a setup leaves running continues: the calling
// process should end soon. Setups that contact another machine are not called, and are named in a warning.
func Corefile(text *corefile.Text, there map[string]corefile.Source) []Finding {
	unbalanced := braces(text)
	blocks, err := text.Blocks(dnsserver.Directives)
	if err != nil {
		if IsWrong(unbalanced) {
			return unbalanced // further errors only follow from it
		}
		return []Finding{found(err, text.Position(1).File)}
	}
	if corefile.Idle(blocks) && !IsWrong(unbalanced) {
		return append(unbalanced, at(text.Position(1), Wrong, "%s", corefile.IdleText))
	}
	all := unbalanced
	if !IsWrong(all) {
		all = append(all, setUp(blocks)...)
	}
	for i := range blocks {
		all = append(all, habits(&blocks[i], there)...)
	}
	all = append(all, binds(blocks)...)
	return sorted(all)
}

// sorted sorts findings by their lines, each once.
func sorted(all []Finding) []Finding {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Level, b.Level))
	})
	return slices.Compact(all)
}

// braces finds keys that run into the brace after them or, without any, braces that close nothing.
func braces(text *corefile.Text) (all []Finding) {
	for _, w := range text.Glued() {
		all = append(all, at(w.At, Wrong, "'%s' is read as one word, brace included, so the lines after it are not in braces: put a space before the '{'", clip(w.Text)))
	}
	if len(all) > 0 {
		return all
	}
	stray, missing := text.Unbalanced()
	for _, p := range stray {
		all = append(all, at(p, Wrong, "'}' is where a server block may begin, and is read as its key: there is one '}' too many, here or above"))
	}
	if missing != (corefile.Position{}) {
		all = append(all, at(missing, Warning, "the text ends before the last '}': is it complete?"))
	}
	return all
}
