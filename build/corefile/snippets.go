package corefile

import (
	"fmt"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// CoreDNS inserts the words of a snippet at each import, copies everything for each, and takes minutes for snippets
// that import each other many times. These constants limit the imports of snippets in a Corefile, their words, and the
// words that CoreDNS may copy.
const (
	maxSnippetImports = 1000
	maxSnippetWords   = 1 << 17
	maxSnippetCopied  = 1 << 24
)

// snippetCost is the size that imports of snippets add to a text.
type snippetCost struct{ imports, words int }

func (c snippetCost) plus(d snippetCost) snippetCost {
	return snippetCost{min(c.imports+d.imports, maxSnippetImports+1), min(c.words+d.words, maxSnippetWords+1)}
}

func (c snippetCost) tooMuch() bool {
	return c.imports > maxSnippetImports || c.words > maxSnippetWords
}

// snippetBody holds the words between the braces of a snippet.
type snippetBody struct {
	words   int
	imports []string
	cost    *snippetCost // nil until it is computed
	busy    bool         // it is being computed: a snippet that imports itself
}

// checkSnippets refuses a text whose snippets would make it too large.
func (t *Text) checkSnippets() error {
	snippets := map[string]*snippetBody{}
	total := snippetCost{}
	tokens, _ := lex(t.Body)
	depth := 0
	var in *snippetBody
	for i, tok := range tokens {
		switch tok.text {
		case "{":
			if name, ok := snippetName(tokens, i-1); ok && depth == 0 {
				in = &snippetBody{}
				snippets[name] = in
			}
			depth++
		case "}":
			if depth = max(depth-1, 0); depth == 0 {
				in = nil
			}
		}
		if in != nil {
			in.words++
		}
		if tok.text != "import" || i+1 == len(tokens) {
			continue
		}
		name := expand(tokens[i+1].text)
		if in != nil {
			in.imports = append(in.imports, name)
			continue
		}
		if total = total.plus(costOf(snippets, name, 1)); total.tooMuch() {
			return &Error{t.Position(tok.line), fmt.Sprintf("import of snippet %s: more than %d imports, or %d words from snippets; does one import itself?",
				safe.Printable(name), maxSnippetImports, maxSnippetWords)}
		}
		if total.imports*(len(tokens)+total.words) > maxSnippetCopied {
			return &Error{t.Position(tok.line), fmt.Sprintf("import of snippet %s: %d imports are too many for a Corefile of %d words, since CoreDNS copies all of them each time",
				safe.Printable(name), total.imports, len(tokens))}
		}
	}
	return nil
}

// costOf returns the cost of an import of a snippet at that depth. A name without a snippet costs nothing.
func costOf(snippets map[string]*snippetBody, name string, depth int) snippetCost {
	s := snippets[name]
	switch {
	case s == nil:
		return snippetCost{}
	case s.cost != nil:
		return *s.cost
	case s.busy, depth > maxSnippetImports:
		return snippetCost{maxSnippetImports + 1, 0}
	}
	s.busy = true
	cost := snippetCost{1, s.words}
	for _, name := range s.imports {
		if cost = cost.plus(costOf(snippets, name, depth+1)); cost.tooMuch() {
			break
		}
	}
	s.busy, s.cost = false, &cost
	return cost
}
