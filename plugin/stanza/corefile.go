package stanza

import (
	"strings"

	"github.com/coredns/caddy/caddyfile"
)

// Bounds of a ConfigMap's text and its expansion. The API server accepts no ConfigMap larger than maxText.
const (
	maxText          = 1 << 20 // bytes
	maxEnvironment   = 4 << 20 // bytes scanned for environment variables
	maxImports       = 10000   // imports of snippets, as caddyfile
	maxImported      = 1 << 18 // tokens from snippets
	maxImportedBytes = 4 << 20 // bytes of these tokens
	maxBlocks        = 1000    // server blocks
	maxKeyZones      = 1 << 16 // zones of the keys of server blocks
)

// corefile reads the tokens of a whole Corefile with the rules of caddyfile.Parse, even for a line break between tokens
// with one imported, so that a text means the same in the ConfigMap as in the Corefile after a restart. It differs in
// these points:
//   - No file is ever opened: an import that does not name a snippet is skipped, or refused inside the stanza.
//   - Other plugins' stanzas are only checked for their braces.
//   - Braces must balance. caddyfile accepts a missing last one, and takes a surplus one for a server block's key.
type corefile struct {
	name     string
	text     caddyfile.Dispenser // at the token that peek returns, if ahead and there are no streams
	ahead    bool
	streams  [][]caddyfile.Token // of the imported snippets, not read yet; the last one is read first
	last     caddyfile.Token     // read last, not counting imports
	end      int                 // the line on which last ends; 0 without a last
	snippets map[string]snippet
	env      environment
	imports  int
	imported snippetSize
	blocks   []serverBlock
	verbatim bool // the stanzas have references to environment variables as written
}

// snippet is a named piece of a Corefile.
type snippet struct {
	body []caddyfile.Token
	size snippetSize
}

type snippetSize struct{ tokens, bytes int }

// serverBlock holds the relevant parts of one server block.
type serverBlock struct {
	at     caddyfile.Token
	keys   []string
	view   string // the name that its view plugin gives it
	bare   bool   // not a server block, but a stanza on its own
	stanza []caddyfile.Token
}

// readCorefile returns the server blocks of a text. With verbatim, environment variables in the stanzas are not
// replaced.
func readCorefile(name, text string, verbatim bool) ([]serverBlock, error) {
	top := caddyfile.Token{File: name, Line: 1}
	if len(text) > maxText {
		return nil, errAt(top, "the text is longer than %d bytes", maxText)
	}
	f := &corefile{
		name:     name,
		text:     caddyfile.NewDispenser(name, strings.NewReader(text)),
		snippets: map[string]snippet{},
		env:      environment{left: maxEnvironment},
		verbatim: verbatim,
	}
	if _, ok := f.peek(); !ok {
		return nil, errAt(top, "the text is empty: expecting a Corefile or a %s stanza", Name)
	}
	for {
		if _, ok := f.peek(); !ok {
			return f.blocks, nil
		}
		if err := f.readBlock(); err != nil {
			return nil, err
		}
	}
}

// peek returns the next token.
func (f *corefile) peek() (caddyfile.Token, bool) {
	for n := len(f.streams); n > 0; n-- {
		if s := f.streams[n-1]; len(s) > 0 {
			return s[0], true
		}
		f.streams = f.streams[:n-1]
	}
	if !f.ahead && !f.text.Next() {
		return caddyfile.Token{}, false
	}
	f.ahead = true
	return caddyfile.Token{File: f.name, Line: f.text.Line(), Text: f.text.Val()}, true
}

// drop removes the token that peek returned from its stream.
func (f *corefile) drop() {
	if len(f.streams) == 0 {
		f.ahead = false
		return
	}
	top := &f.streams[len(f.streams)-1]
	*top = (*top)[1:]
}

// take removes the token that peek returned, and makes t the last one read.
func (f *corefile) take(t caddyfile.Token) {
	f.drop()
	f.last, f.end = t, t.Line+strings.Count(t.Text, "\n")
}

// newLine reports whether t, the next token, begins a line. By caddyfile's rule, a token of a snippet that is above the
// import does not.
func (f *corefile) newLine(t caddyfile.Token) bool {
	return f.end < t.Line
}

// expand returns t with its environment variables replaced.
func (f *corefile) expand(t caddyfile.Token) (caddyfile.Token, error) {
	text, err := f.env.expand(t.Text)
	if err != nil {
		return t, errAt(t, "%v", err)
	}
	t.Text = text
	return t, nil
}

// readBlock reads a server block, the definition of a snippet, or a bare stanza.
func (f *corefile) readBlock() error {
	b, alone, err := f.readKeys()
	if err != nil {
		return err
	}
	if b.bare || alone {
		return f.add(b)
	}
	if len(b.keys) == 1 && strings.HasPrefix(b.keys[0], "(") && strings.HasSuffix(b.keys[0], ")") {
		return f.readSnippet(b)
	}

	t, _ := f.peek()
	braced := t.Text == "{"
	if braced {
		f.take(t)
	}
	if err := f.readDirectives(&b, braced); err != nil {
		return err
	}
	if len(b.keys) == 0 {
		return nil
	}
	return f.add(b)
}

// add appends a server block.
func (f *corefile) add(b serverBlock) error {
	if len(f.blocks) == maxBlocks {
		return errAt(b.at, "more than %d server blocks", maxBlocks)
	}
	f.blocks = append(f.blocks, b)
	return nil
}

// readKeys reads the keys of a server block. alone is true if the text ends with them. If the first word is kubehosts,
// with no server block before it, it reads a bare stanza.
func (f *corefile) readKeys() (b serverBlock, alone bool, err error) {
	taken := false // a word was read
	more := false  // the last key ended in a comma
	for {
		t, ok := f.peek()
		if !ok {
			if more {
				return b, true, errAt(f.last, "Unexpected EOF")
			}
			return b, true, nil
		}
		key, err := f.expand(t)
		if err != nil {
			return b, false, err
		}
		if !taken {
			b.at = t
		}
		switch {
		case taken && !more && f.newLine(t):
			return b, false, nil
		case key.Text == "import" && f.newLine(t):
			if _, err := f.readImport(); err != nil {
				return b, false, err
			}
			continue
		case key.Text == "{" && more:
			return b, false, errAt(t, "Expected another address but had '%s' - check for extra comma", key.Text)
		case key.Text == "{":
			return b, false, nil
		case key.Text == "}":
			return b, false, errAt(t, "unexpected '}' outside of a server block: there is one '}' too many here or above")
		case key.Text == Name && !taken && len(f.blocks) == 0:
			b.bare = true
			return b, false, f.readDirectives(&b, false)
		}
		f.take(t)
		taken = true
		if key.Text == "" {
			continue
		}
		key.Text, more = strings.CutSuffix(key.Text, ",")
		b.keys = append(b.keys, key.Text)
	}
}

// readSnippet stores the block that follows by the name in its key.
func (f *corefile) readSnippet(b serverBlock) error {
	name := b.keys[0][1 : len(b.keys[0])-1]
	if _, ok := f.snippets[name]; ok {
		return errAt(b.at, "redeclaration of previously declared snippet %s", name)
	}
	t, _ := f.peek()
	if t.Text != "{" {
		return errAt(t, "unexpected '%s', expecting the '{' of snippet (%s)", t.Text, name)
	}
	f.take(t)
	var s snippet
	for depth := 1; ; {
		t, ok := f.peek()
		if !ok {
			return errAt(b.at, "Unexpected EOF: snippet (%s) has a '{' without its '}'", name)
		}
		f.take(t)
		switch t.Text {
		case "{":
			depth++
		case "}":
			depth--
		}
		if depth == 0 {
			f.snippets[name] = s
			return nil
		}
		s.body = append(s.body, t)
		s.size.tokens++
		s.size.bytes += len(t.Text)
	}
}

// readDirectives reads the directives of a server block up to its end.
func (f *corefile) readDirectives(b *serverBlock, braced bool) error {
	for {
		t, ok := f.peek()
		if !ok {
			if braced {
				return errAt(b.at, "Unexpected EOF: the server block has a '{' without its '}'")
			}
			return nil
		}
		switch t.Text {
		case "}":
			if !braced {
				return errAt(t, "unexpected '}': there is no '{' for it")
			}
			f.take(t)
			return nil
		case "{":
			return errAt(t, "unexpected '{', expecting a directive")
		case "import":
			if _, err := f.readImport(); err != nil {
				return err
			}
			continue
		}
		if err := f.readDirective(b, t); err != nil {
			return err
		}
	}
}

// readDirective reads one directive, from its name t to the end of its line or of its block. It stores a kubehosts
// stanza, and the first argument of view.
func (f *corefile) readDirective(b *serverBlock, t caddyfile.Token) error {
	name, err := f.expand(t)
	if err != nil {
		return err
	}
	ours, view := name.Text == Name, name.Text == "view"
	if b.bare && !ours {
		return errAt(t, "unexpected '%s': a bare %s stanza stands alone", t.Text, Name)
	}
	if ours {
		b.stanza = append(b.stanza, t)
	}
	f.take(t)

	start, depth := t, 0
	for {
		t, ok := f.peek()
		if !ok && depth > 0 {
			return errAt(start, "Unexpected EOF: '%s' has a '{' without its '}'", start.Text)
		}
		if !ok {
			return nil
		}
		switch {
		case t.Text == "{":
			depth++
		case depth == 0 && f.newLine(t):
			return nil
		case t.Text == "}" && depth == 0:
			return errAt(t, "Unexpected '}' because no matching opening brace")
		case t.Text == "}":
			depth--
		case ours && t.Text == "import" && f.newLine(t):
			file, err := f.readImport()
			if err != nil {
				return err
			}
			if file != "" {
				return errAt(t, "import of '%s': there is no such snippet above, and a ConfigMap cannot import files into the %s stanza", file, Name)
			}
			continue
		}
		if view || ours && !f.verbatim {
			if t, err = f.expand(t); err != nil {
				return err
			}
		}
		switch {
		case ours:
			b.stanza = append(b.stanza, t)
		case view && depth == 0:
			b.view, view = t.Text, false
		}
		f.take(t)
	}
}

// readImport reads an import and its argument, puts the tokens of the snippet before the next ones, and returns "".
// Without such a snippet, the argument is a file or a pattern of files: it skips the import and returns the argument.
func (f *corefile) readImport() (file string, err error) {
	imp, _ := f.peek()
	f.drop()
	arg, ok := f.peek()
	if !ok || !sameLine(imp, arg) {
		return "", errAt(imp, "Wrong argument count or unexpected line ending after 'import'")
	}
	f.drop()
	if t, ok := f.peek(); ok && sameLine(arg, t) {
		return "", errAt(t, "Import takes only one argument (glob pattern or file)")
	}
	if arg, err = f.expand(arg); err != nil {
		return "", err
	}
	if arg.Text == "" {
		return "", errAt(imp, "Import requires a non-empty filepath")
	}
	s, ok := f.snippets[arg.Text]
	if !ok {
		return arg.Text, nil
	}
	f.imports++
	f.imported.tokens += s.size.tokens
	f.imported.bytes += s.size.bytes
	if f.imports > maxImports || f.imported.tokens > maxImported || f.imported.bytes > maxImportedBytes {
		return "", errAt(imp, "import of snippet %s: more than %d imports, %d tokens or %d MiB; does a snippet import itself?",
			arg.Text, maxImports, maxImported, maxImportedBytes>>20)
	}
	f.streams = append(f.streams, s.body)
	return "", nil
}
