package corefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kubehosts/kubehosts/plugin/files"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

// Limits of a Corefile with its imports.
const (
	MaxText    = 4 << 20 // bytes
	maxWords   = 1 << 18 // each takes 150 bytes while the text is read
	maxImports = 1000    // files and keys
	maxDepth   = 10      // of imports in imports
)

// Source is a Corefile, or a part of one.
type Source struct {
	Name string // the file, or the ConfigMap and its key, as in errors
	Text string
	Dir  string // where relative imports are searched
	// First is the number of the first line of Text in Name; 0 stands for 1. If OneLine is set, all lines have that
	// number.
	First   int
	OneLine bool
}

// position returns the position of line n of the text, which begins with 1.
func (s *Source) position(n int) Position {
	first := max(s.First, 1)
	if s.OneLine {
		n = 1
	}
	return Position{s.Name, first + n - 1}
}

// Position is a line of a file, or of a key of a ConfigMap. Its zero value is no line.
type Position struct {
	File string
	Line int
}

func (p Position) String() string { return fmt.Sprintf("%s:%d", safe.Printable(p.File), p.Line) }

// Error is a fault of a Corefile, at a line of it.
type Error struct {
	At   Position
	Text string
}

func (e *Error) Error() string { return e.At.String() + " - " + e.Text }

// Text is a Corefile including all its imports. It never changes.
type Text struct {
	Body  string // for CoreDNS to read; it imports only snippets
	lines []Position
}

// Position returns the origin of line n of Body. A line that does not exist has the position of the nearest that does.
func (t *Text) Position(n int) Position {
	return t.lines[min(max(n, 1), len(t.lines))-1]
}

// Importer returns the sources of an import of the pattern, in the order of their names. from is the source with the
// import. It returns nothing, without an error, for a pattern that matches nothing.
type Importer func(pattern string, from *Source) ([]Source, error)

// Read returns the Corefile s including all its imports. Snippets stay snippets. A malformed import stays unchanged,
// for CoreDNS to refuse.
//
// The error is an *Error: an import can't be read, or the whole is too large.
func Read(s Source, imports Importer) (*Text, error) {
	r := reader{imports: imports, snippets: map[string]bool{}, text: &Text{}}
	if err := r.read(&s, 0); err != nil {
		return nil, err
	}
	if len(r.text.lines) == 0 {
		r.text.lines = []Position{s.position(1)}
	}
	r.text.Body = r.body.String()
	if err := r.text.checkVariables(); err != nil {
		return nil, err
	}
	if err := r.text.checkSnippets(); err != nil {
		return nil, err
	}
	return r.text, nil
}

type reader struct {
	imports  Importer
	snippets map[string]bool // defined so far
	depth    int             // of braces
	imported int
	words    int
	body     strings.Builder
	text     *Text
}

// read appends s.
func (r *reader) read(s *Source, depth int) error {
	tokens, open := lex(s.Text)
	if open >= 0 {
		s.Text = closed(s.Text, open)
		if last := len(tokens) - 1; last >= 0 && tokens[last].start == open {
			tokens[last].end = len(s.Text)
		}
	}
	if r.body.Len()+len(s.Text) > MaxText {
		return &Error{s.position(1), fmt.Sprintf("the Corefile is larger than %d MiB with its imports", MaxText>>20)}
	}
	if r.words += len(tokens); r.words > maxWords {
		return &Error{s.position(1), fmt.Sprintf("the Corefile has more than %d words with its imports", maxWords)}
	}
	from, line := 0, 1
	if depth > 0 && strings.HasPrefix(s.Text, byteOrderMark) {
		from = len(byteOrderMark)
	}
	for i, t := range tokens {
		r.note(tokens, i)
		if !r.isImport(tokens, i) {
			continue
		}
		arg := tokens[i+1]
		found, err := r.find(arg.text, s, s.position(t.line), depth)
		if err != nil {
			return err
		}
		if found == nil {
			continue // a snippet, or an import for CoreDNS to refuse
		}
		r.add(s, from, t.start, line)
		for k := range found {
			if err := r.read(&found[k], depth+1); err != nil {
				return err
			}
		}
		from, line = arg.end, arg.lastLine
	}
	r.add(s, from, len(s.Text), line)
	return nil
}

// note counts braces, and stores the snippets that are defined.
func (r *reader) note(tokens []token, i int) {
	t := tokens[i]
	switch t.text {
	case "{":
		if name, ok := snippetName(tokens, i-1); ok && r.depth == 0 {
			r.snippets[name] = true
		}
		r.depth++
	case "}":
		r.depth = max(r.depth-1, 0)
	}
}

// snippetName returns the name of the snippet whose key, the one word of its line, is word i.
func snippetName(tokens []token, i int) (string, bool) {
	if i < 0 || i > 0 && tokens[i-1].lastLine == tokens[i].line {
		return "", false
	}
	key := tokens[i].text
	if len(key) < 2 || key[0] != '(' || key[len(key)-1] != ')' {
		return "", false
	}
	return key[1 : len(key)-1], true
}

// isImport reports whether word i is an import with one argument: it begins a line, or follows the brace that opens a
// server block.
func (r *reader) isImport(tokens []token, i int) bool {
	t := tokens[i]
	if t.text != "import" || i+1 == len(tokens) || tokens[i+1].line != t.lastLine {
		return false
	}
	if i+2 < len(tokens) && tokens[i+2].line == tokens[i+1].lastLine {
		return false
	}
	if i == 0 || tokens[i-1].lastLine < t.line {
		return true
	}
	return tokens[i-1].text == "{" && r.depth == 1
}

// find returns the sources of an import at the position, nil if the import is left unchanged.
func (r *reader) find(written string, s *Source, at Position, depth int) ([]Source, error) {
	pattern := expand(written)
	if pattern == "" || r.snippets[pattern] {
		return nil, nil
	}
	if depth == maxDepth {
		return nil, &Error{at, fmt.Sprintf("import %s: imports go deeper than %d; does a file import itself?", safe.Printable(pattern), maxDepth)}
	}
	found, err := r.imports(pattern, s)
	if err != nil {
		return nil, &Error{at, fmt.Sprintf("import %s: %s", safe.Printable(pattern), safe.Printable(err.Error()))}
	}
	if r.imported += len(found); r.imported > maxImports {
		return nil, &Error{at, fmt.Sprintf("more than %d files are imported", maxImports)}
	}
	if found == nil {
		found = []Source{}
	}
	return found, nil
}

// add appends the bytes from start to end of s, which begin on line number line, and a line break.
func (r *reader) add(s *Source, start, end, line int) {
	part := s.Text[start:end]
	if part == "" {
		return
	}
	r.body.WriteString(part)
	n := strings.Count(part, "\n")
	if end < len(s.Text) || !strings.HasSuffix(part, "\n") {
		r.body.WriteByte('\n')
		n++
	}
	for i := range n {
		r.text.lines = append(r.text.lines, s.position(line+i))
	}
}

// closed returns a text whose quotation mark at the offset open is closed: its last word ends with it.
func closed(text string, open int) string {
	word, _, _ := quoted(text, open)
	if word == "" {
		return text[:open]
	}
	trimmed := strings.TrimRight(text, `\`)
	if (len(text)-len(trimmed))%2 == 1 {
		text = text[:len(text)-1] // it has no meaning
	}
	return text + `"`
}

// expand replaces environment variables as caddyfile does in the argument of an import: one after the other, each once.
func expand(s string) string {
	for _, marks := range [][2]string{{"{%", "%}"}, {"{$", "}"}} {
		s = replaceVariables(s, marks[0], marks[1])
	}
	return s
}

// maxVariables limits the references to environment variables in a Corefile: CoreDNS scans the whole word again for
// each.
const maxVariables = 1 << 10

// checkVariables refuses a text that refers to too many environment variables.
func (t *Text) checkVariables() error {
	if strings.Count(t.Body, "{$")+strings.Count(t.Body, "{%") > maxVariables {
		return &Error{t.Position(1), fmt.Sprintf("the Corefile refers to more than %d environment variables", maxVariables)}
	}
	return nil
}

func replaceVariables(s, open, end string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, open)
		name, behind, ended := strings.Cut(rest, end)
		if !ok || !ended || name == "" {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(before)
		b.WriteString(os.Getenv(name))
		s = behind
	}
}

// Files is the Importer of files in the folder of the importing one. As in caddyfile, a pattern with a wildcard may
// match nothing, and a name without one must exist.
func Files(pattern string, from *Source) ([]Source, error) {
	path := pattern
	if !filepath.IsAbs(path) {
		path = filepath.Join(from.Dir, path)
	}
	paths, err := globbed(path)
	if err != nil {
		return nil, err
	}
	var all []Source
	for _, p := range paths {
		s, err := File(p)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// globbed returns the files that a pattern of caddyfile matches, in the order of their names.
func globbed(path string) ([]string, error) {
	if !strings.ContainsAny(path, "*?[]") {
		return []string{path}, nil
	}
	if manyWildcards(path) {
		return nil, errPattern
	}
	return filepath.Glob(path)
}

var errPattern = errors.New("the pattern may have one * and no other wildcard")

// manyWildcards reports whether caddyfile refuses a pattern because it might take long.
func manyWildcards(pattern string) bool {
	return strings.Count(pattern, "*") > 1 || strings.Count(pattern, "?") > 1 || strings.Contains(pattern, "[") && strings.Contains(pattern, "]")
}

// File reads a regular file of up to 4 MiB, as files.ReadAll does.
func File(path string) (Source, error) {
	body, err := files.ReadAll(path, MaxText)
	if err != nil {
		return Source{}, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	return Source{Name: path, Text: string(body), Dir: dir}, err
}

// ReadAll reads up to 4 MiB. More is an error.
func ReadAll(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, MaxText+1))
	if err == nil && len(body) > MaxText {
		err = fmt.Errorf("it is larger than %d MiB", MaxText>>20)
	}
	return body, err
}
