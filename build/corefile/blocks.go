package corefile

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy/caddyfile"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// Block is a server block as CoreDNS reads it, with snippets and environment variables replaced.
type Block struct {
	Keys       []string
	Directives map[string][]Word // by the name of the plugin, which is the first word
	At         Position          // of the first key
}

// Word is a word of a stanza. Its text may have line breaks in it.
type Word struct {
	Text    string
	At      Position
	NewLine bool // it is the first on its line
}

// Blocks returns the server blocks of a Corefile. Only the given directives are known, all if there are none.
//
// The error is an *Error. A panic in CoreDNS's parser becomes one, too.
func (t *Text) Blocks(directives []string) (blocks []Block, err error) {
	var parsed []caddyfile.ServerBlock
	panicked := safe.Recovered("reading a Corefile", func() {
		parsed, err = caddyfile.Parse(parsedName, strings.NewReader(t.Body), directives)
	})
	if panicked != nil {
		err = panicked
	}
	if err != nil {
		return nil, t.Locate(err, parsedName, t.Position(1))
	}
	keys := t.keyLines()
	for i, p := range parsed {
		b := Block{Keys: p.Keys, Directives: make(map[string][]Word)}
		for name, tokens := range p.Tokens {
			b.Directives[name] = t.words(tokens)
		}
		b.At = b.first()
		if len(keys) == len(parsed) {
			b.At = t.Position(keys[i])
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// Idle reports whether no server block has a plugin. CoreDNS takes such a text for a Corefile, and refuses every
// question with it, or ends at once if there is no server block either.
func Idle(blocks []Block) bool {
	return !slices.ContainsFunc(blocks, func(b Block) bool { return len(b.Directives) > 0 })
}

// IdleText is what is wrong with a Corefile that is idle.
const IdleText = "no server block has a plugin in it, so every question would be refused: is this the whole Corefile?"

// parsedName is the parser's name for the text, which its errors quote.
const parsedName = "Corefile"

func (t *Text) words(tokens []caddyfile.Token) []Word {
	words := make([]Word, len(tokens))
	last := caddyfile.Token{Line: -1}
	for i, tok := range tokens {
		words[i] = Word{tok.Text, t.Position(tok.Line), tok.File != last.File || tok.Line != last.Line+strings.Count(last.Text, "\n")}
		last = tok
	}
	return words
}

// first is the position of the first directive.
func (b *Block) first() (at Position) {
	for _, name := range b.Names() {
		if p := b.Directives[name][0].At; at.File == "" || p.File == at.File && p.Line < at.Line {
			at = p
		}
	}
	return at
}

// Names returns the directives of the server block in the order of their names.
func (b *Block) Names() []string {
	var names []string
	for name := range b.Directives {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Stanzas returns the stanzas of a directive in the server block, usually one.
func (b *Block) Stanzas(name string) (all [][]Word) {
	words, depth, start := b.Directives[name], 0, 0
	for i, w := range words {
		if i > start && depth == 0 && w.NewLine {
			all, start = append(all, words[start:i]), i
		}
		switch w.Text {
		case "{":
			depth++
		case "}":
			depth--
		}
	}
	if len(words) > 0 {
		all = append(all, words[start:])
	}
	return all
}

// Lines returns the lines of a stanza or of a part of one.
func Lines(words []Word) (all [][]Word) {
	start := 0
	for i := range words {
		if i > start && words[i].NewLine {
			all, start = append(all, words[start:i]), i
		}
	}
	if len(words) > 0 {
		all = append(all, words[start:])
	}
	return all
}

// Same reports whether two stanzas have the same words on the same lines.
func Same(a, b []Word) bool {
	return slices.EqualFunc(a, b, func(x, y Word) bool { return x.Text == y.Text && x.NewLine == y.NewLine })
}

// Tokens returns the words as a plugin's setup reads them. Their lines are those of their positions, unless the text is
// one line of a manifest.
func Tokens(words []Word) []caddyfile.Token {
	tokens := make([]caddyfile.Token, len(words))
	for i, w := range words {
		t := caddyfile.Token{File: w.At.File, Line: w.At.Line, Text: w.Text}
		if i > 0 {
			last := tokens[i-1]
			end := last.Line + strings.Count(last.Text, "\n")
			switch {
			case !w.NewLine:
				t.File, t.Line = last.File, end
			case t.File == last.File && t.Line == end:
				t.Line++
			}
		}
		tokens[i] = t
	}
	return tokens
}

// keyLines returns the lines on which server blocks begin. For an unusual Corefile it may find more or fewer than
// CoreDNS.
func (t *Text) keyLines() (lines []int) {
	tokens, _ := lex(t.Body)
	depth, first := 0, -1
	for i, tok := range tokens {
		switch {
		case tok.text == "{":
			if _, snippet := snippetName(tokens, i-1); depth == 0 && first >= 0 && !snippet {
				lines = append(lines, tokens[first].line)
			}
			depth++
			first = -1
		case tok.text == "}":
			depth = max(depth-1, 0)
		case depth == 0 && first < 0:
			first = i
		}
	}
	return lines
}

// Unbalanced returns the closing braces outside server blocks, which CoreDNS takes for keys, and the end of the text if
// the last brace is missing, which CoreDNS accepts; else the zero Position.
func (t *Text) Unbalanced() (stray []Position, missing Position) {
	tokens, _ := lex(t.Body)
	depth := 0
	for _, tok := range tokens {
		switch tok.text {
		case "{":
			depth++
		case "}":
			if depth--; depth < 0 {
				stray, depth = append(stray, t.Position(tok.line)), 0
			}
		}
	}
	if depth > 0 {
		missing = t.Position(len(t.lines))
	}
	return stray, missing
}

// Glued returns the words outside server blocks that begin a line and end with a brace: CoreDNS takes the brace for a
// part of a key.
func (t *Text) Glued() (all []Word) {
	tokens, _ := lex(t.Body)
	depth := 0
	for i, tok := range tokens {
		open := len(tok.text) > 1 && strings.HasSuffix(tok.text, "{") && !strings.HasSuffix(tok.text, "{{") && t.Body[tok.start] != '"'
		switch {
		case tok.text == "{":
			depth++
		case tok.text == "}":
			depth = max(depth-1, 0)
		case depth == 0 && open && (i+1 == len(tokens) || tokens[i+1].line > tok.lastLine):
			all = append(all, Word{Text: tok.text, At: t.Position(tok.line)})
			depth++
		}
	}
	return all
}

// Locate returns err as an *Error: at the line of t that it names, in the form of caddyfile and plugins for the file
// name, else at otherwise.
func (t *Text) Locate(err error, name string, otherwise Position) *Error {
	at, text := Line(err, name)
	if at == 0 {
		return &Error{otherwise, safe.Printable(text)}
	}
	return &Error{t.Position(at), safe.Printable(text)}
}

// Line extracts the line of the file name from an error of caddyfile or of a plugin, and returns it with the rest of
// the text. The line is 0 if the error names none.
func Line(err error, name string) (line int, text string) {
	text = err.Error()
	at := regexp.MustCompile(regexp.QuoteMeta(name) + `:(\d+) - (Error during parsing: )?`)
	m := at.FindStringSubmatchIndex(text)
	if m == nil {
		return 0, text
	}
	line, convErr := strconv.Atoi(text[m[2]:m[3]])
	if convErr != nil {
		return 0, text
	}
	return line, text[:m[0]] + text[m[1]:]
}

// Write returns a Corefile that CoreDNS reads as these server blocks, and the first word of each of its lines. A line
// outside stanzas has no word.
func Write(blocks []Block) (body string, lines []Word) {
	var b strings.Builder
	end := func(w Word) {
		b.WriteByte('\n')
		lines = append(lines, w)
	}
	for i := range blocks {
		for _, key := range blocks[i].Keys {
			b.WriteString(written(key) + " ")
		}
		b.WriteByte('{')
		end(Word{At: blocks[i].At})
		for _, name := range blocks[i].Names() {
			for _, line := range Lines(blocks[i].Directives[name]) {
				breaks := 0
				for _, w := range line {
					b.WriteString(written(w.Text) + " ")
					breaks += strings.Count(w.Text, "\n")
				}
				for range breaks + 1 {
					lines = append(lines, line[0])
				}
				b.WriteByte('\n')
			}
		}
		b.WriteByte('}')
		end(Word{At: blocks[i].At})
	}
	return b.String(), lines
}

// written returns a word in the form of a Corefile.
func written(word string) string {
	if word != "" && !strings.ContainsAny(word, "#\" \t\r\n\v\f\u0085\u00A0") {
		return word
	}
	return `"` + strings.ReplaceAll(word, `"`, `\"`) + `"`
}
