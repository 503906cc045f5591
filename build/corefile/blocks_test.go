package corefile

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// textOf reads a Corefile without imports.
func textOf(t testing.TB, body string) *Text {
	t.Helper()
	text, err := Read(Source{Name: "Corefile", Text: body}, func(string, *Source) ([]Source, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestBlocks(t *testing.T) {
	t.Setenv("UPSTREAM", "10.0.0.1")
	text := textOf(t, "(snip) {\n log\n}\n\nexample.org,\nexample.net:1053 {\n import snip\n forward . {$UPSTREAM} {\n  policy \"random\"\n }\n forward a 1.1.1.1\n}\n. {\n errors\n}\n")
	blocks, err := text.Blocks(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) != 2 || !reflect.DeepEqual(blocks[0].Keys, []string{"example.org", "example.net:1053"}) {
		t.Fatalf("%+v", blocks)
	}
	if blocks[0].At.Line != 5 || blocks[1].At.Line != 13 {
		t.Errorf("they begin on lines %d and %d", blocks[0].At.Line, blocks[1].At.Line)
	}
	forwards := blocks[0].Stanzas("forward")
	if len(forwards) != 2 || forwards[0][2].Text != "10.0.0.1" || forwards[1][0].At.Line != 11 {
		t.Errorf("%+v", forwards)
	}
	if lines := Lines(forwards[0]); len(lines) != 3 || lines[1][1].Text != "random" {
		t.Errorf("%+v", lines)
	}
}

func TestBlocksErrors(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{". {\n bogus\n}\n", "Corefile:2 - Unknown directive 'bogus'"},
		{". {\n errors\n", "Corefile:2 - Syntax error"},
		{". {\n errors }\n", "Corefile:2 - Unexpected '}'"},
		{"a,\n", "Corefile:1 - Unexpected EOF"},
	} {
		_, err := textOf(t, tt.body).Blocks([]string{"errors"})
		var at *Error
		if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.body, err, tt.want)
		}
	}
}

func TestGlued(t *testing.T) {
	for body, want := range map[string]int{
		".:53{\n errors\n}\n":                1,
		".:53 {\n errors\n}\n":               0,
		". {\n errors\n}\nexample.org{\n}\n": 4,
		"(snip){\n errors\n}\n":              1,
		".:{$PORT} {\n errors\n}\n":          0,
		". {\n template {\n  a b{\n }\n}\n":  0,
		"\"a b{\" {\n errors\n}\n":           0,
	} {
		got := 0
		if all := textOf(t, body).Glued(); len(all) > 0 {
			got = all[0].At.Line
		}
		if got != want {
			t.Errorf("%q: line %d, want %d", body, got, want)
		}
	}
}

// The output of Write is read as the blocks that it was made from.
func rewritten(t *testing.T, blocks []Block) {
	t.Helper()
	body, lines := Write(blocks)
	again, err := textOf(t, body).Blocks(nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	if len(again) != len(blocks) {
		t.Fatalf("%d server blocks from %d:\n%s", len(again), len(blocks), body)
	}
	for i := range blocks {
		for name, words := range blocks[i].Directives {
			if !Same(words, again[i].Directives[name]) {
				t.Fatalf("%+v became %+v", words, again[i].Directives[name])
			}
		}
	}
	if n := strings.Count(body, "\n"); n != len(lines) {
		t.Fatalf("%d positions for %d lines", len(lines), n)
	}
}

var rewrites = []string{
	". {\n errors\n}\n",
	"a b:53, c {\n template IN A {\n  match \"a b\\\\.c\"\n  answer \"{{ .Name }} 60\n IN A 10.0.0.1\"\n }\n log \"\"\n}\nd {\n whoami\n}",
	". {\n log \"a#b\" \"say \\\"x\\\"\"\n}\n",
}

func TestWrite(t *testing.T) {
	for _, body := range rewrites {
		blocks, err := textOf(t, body).Blocks(nil)
		if err != nil {
			t.Fatal(err)
		}
		rewritten(t, blocks)
	}
}

// FuzzBlocks reads Corefiles that may be nonsense.
func FuzzBlocks(f *testing.F) {
	for _, body := range rewrites {
		f.Add(body)
	}
	f.Add(".:53{\n}\n}\n")
	f.Fuzz(func(t *testing.T, body string) {
		text, err := Read(Source{Name: "Corefile", Text: body}, func(string, *Source) ([]Source, error) { return nil, errors.New("no") })
		if err != nil {
			return
		}
		text.Glued()
		blocks, err := text.Blocks(nil)
		if err != nil {
			return
		}
		for i := range blocks {
			for _, name := range blocks[i].Names() {
				blocks[i].Stanzas(name)
				Tokens(blocks[i].Directives[name])
			}
		}
		Write(blocks)
	})
}
