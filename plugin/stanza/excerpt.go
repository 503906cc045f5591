package stanza

import (
	"strings"
	"unicode"

	"github.com/coredns/caddy/caddyfile"
)

// Excerpt returns the stanza that ParseText finds in a text, for people to read: without comments and with the imported
// snippets in it, one option per line. References to environment variables stay as written, because their values may be
// secrets. The stanza need not be valid, as long as it can be found.
func Excerpt(name, text string, keys []string, view string) (string, error) {
	blocks, err := readCorefile(name, text, true)
	if err != nil {
		return "", err
	}
	b, err := pick(blocks, name, keys, view)
	if err != nil {
		return "", err
	}
	return layOut(b.stanza), nil
}

// layOut writes tokens as a text, indented by four spaces for each open brace.
func layOut(tokens []caddyfile.Token) string {
	var b strings.Builder
	depth := 0
	for i, t := range tokens {
		if t.Text == "}" {
			depth = max(0, depth-1)
		}
		switch {
		case i == 0:
		case t.Text != "{" && (t.Text == "}" || !sameLine(tokens[i-1], t) || tokens[i-1].Text == "{" || tokens[i-1].Text == "}"):
			b.WriteString("\n" + strings.Repeat("    ", depth))
		default:
			b.WriteByte(' ')
		}
		b.WriteString(quoted(t.Text))
		if t.Text == "{" {
			depth++
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// quoted returns a token in the form of a Corefile.
func quoted(text string) string {
	if text != "" && !strings.HasPrefix(text, `"`) && !strings.HasPrefix(text, "#") && !strings.ContainsFunc(text, unicode.IsSpace) {
		return text
	}
	return `"` + strings.ReplaceAll(text, `"`, `\"`) + `"`
}
