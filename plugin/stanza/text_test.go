package stanza

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const textName = "configmap kube-system/coredns key Corefile"

func TestParseText(t *testing.T) {
	t.Setenv("STANZA_TTL", "77")
	t.Setenv("STANZA_KEY", "example.org:1053")
	t.Setenv("STANZA_NESTED", "{$STANZA_TTL}")
	for _, tt := range []struct {
		name, text string
		keys       []string
		ttl        uint32
	}{
		{"whole", ". {\nerrors\nkubehosts a {\nttl 7\n}\ncache 30\n}\n", []string{"dns://.:53"}, 7},
		{"written port", ".:53 {\nkubehosts a {\nttl 7\n}\n}\n", []string{"dns://.:53"}, 7},
		{"no braces", ".:53\nkubehosts a {\nttl 7\n}\n", []string{"dns://.:53"}, 7},
		{"CRLF", ".:53 {\r\nkubehosts a {\r\nttl 7\r\n}\r\n}\r\n", []string{"dns://.:53"}, 7},
		{"byte order mark", "\ufeff. {\nkubehosts a {\nttl 7\n}\n}\n", []string{"dns://.:53"}, 7},
		{"one line each", ". { kubehosts a { ttl 7 }\n}\n", []string{"dns://.:53"}, 7},
		{"the other block", "a {\nkubehosts a {\nttl 6\n}\n}\nb {\nkubehosts b {\nttl 7\n}\n}", []string{"dns://b.:53"}, 7},
		{"order of keys", "b:53, A,\ndns://c {\nkubehosts b {\nttl 7\n}\n}", []string{"dns://a.:53", "dns://c.:53", "dns://b.:53"}, 7},
		{"default port of -dns.port", "a {\nkubehosts a {\nttl 7\n}\n}", []string{"dns://a.:1053"}, 7},
		{"written port before default port", "a {\nkubehosts a {\nttl 6\n}\n}\na:1053 {\nkubehosts a {\nttl 7\n}\n}", []string{"dns://a.:1053"}, 7},
		{"53 before other default port", "a {\nkubehosts a {\nttl 7\n}\n}\na:1053 {\nkubehosts a {\nttl 6\n}\n}", []string{"dns://a.:53"}, 7},
		{"transports", "tls://a {\nkubehosts a {\nttl 6\n}\n}\nhttps://a {\nkubehosts a {\nttl 7\n}\n}", []string{"https://a.:443"}, 7},
		{"reverse network", "10.0.0.0/23 {\nkubehosts a {\nttl 7\n}\n}", []string{"dns://0.0.10.in-addr.arpa.:53", "dns://1.0.10.in-addr.arpa.:53"}, 7},
		{"views", ". {\nview x {\nexpr true\n}\n}\n. {\nkubehosts a {\nttl 7\n}\n}", []string{"dns://.:53"}, 7},
		{"bare", "kubehosts a {\nttl 7\n}", []string{"dns://.:53"}, 7},
		{"bare after comment and import", "# c\nimport /etc/x\nkubehosts a {\nttl 7\n}", []string{"dns://.:53"}, 7},
		{"bare with snippet", "(s) {\nttl 7\n}\nkubehosts a {\nimport s\n}", []string{"dns://.:53"}, 7},
		{"zone named kubehosts", ". {\nkubehosts a {\nttl 6\n}\n}\nkubehosts {\nkubehosts {\nttl 7\n}\n}", []string{"dns://kubehosts.:53"}, 7},
		{"snippet in stanza", "(s) {\nttl 7\n}\n. {\nkubehosts a {\nimport s\n}\n}", []string{"dns://.:53"}, 7},
		{"snippet with braces", "(s) {\nhosts {\n10.0.0.1 x\n}\nttl 7\n}\n. {\nkubehosts a {\nimport s\nnoendpoints\n}\n}", []string{"dns://.:53"}, 7},
		{"snippet of directives", "(s) {\nerrors\nkubehosts a {\nttl 7\n}\n}\n. {\nimport s\ncache\n}", []string{"dns://.:53"}, 7},
		{"snippet of a server block", "(s) {\n. {\nkubehosts a {\nttl 7\n}\n}\n}\nimport s\n", []string{"dns://.:53"}, 7},
		{"snippet in a snippet", "(t) {\nttl 7\n}\n(s) {\nnoendpoints\nimport t\n}\n. {\nkubehosts a {\nimport s\n}\n}", []string{"dns://.:53"}, 7},
		{"imports of files elsewhere", "import /etc/x\n. {\nimport /etc/y/*\nkubehosts a {\nttl 7\n}\nimport /etc/z\n}\nimport conf.d/*\nb {\nimport /q\n}", []string{"dns://.:53"}, 7},
		{"import in another plugin", ". {\nlog {\nimport /nothing\n}\nkubehosts a {\nttl 7\n}\n}", []string{"dns://.:53"}, 7},
		{"rubbish elsewhere", ". {\nerrors { { a } \"\n\n\" }\nhosts x y z { } { }\nkubehosts a {\nttl 7\n}\nforward\n}\na..b:x {\nzzz\n}", []string{"dns://.:53"}, 7},
		{"environment", ". {\nkubehosts a {\nttl {$STANZA_TTL}\n}\n}", []string{"dns://.:53"}, 77},
		{"environment, other form", ". {\nkubehosts a {\nttl {%STANZA_TTL%}\n}\n}", []string{"dns://.:53"}, 77},
		{"environment, nested", ". {\nkubehosts a {\nttl {$STANZA_NESTED}\n}\n}", []string{"dns://.:53"}, 77},
		{"environment, unset", ". {\nkubehosts a {\nttl {$STANZA_NOT_SET}7\n}\n}", []string{"dns://.:53"}, 7},
		{"environment in a key", "{$STANZA_KEY} {\nkubehosts a {\nttl 7\n}\n}", []string{"dns://example.org.:1053"}, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseText(textName, tt.text, tt.keys, "")
			if err != nil {
				t.Fatal(err)
			}
			if c.TTL != tt.ttl {
				t.Errorf("ttl %d, want %d", c.TTL, tt.ttl)
			}
		})
	}
}

func TestParseTextErrors(t *testing.T) {
	t.Setenv("STANZA_LOOP", "{$STANZA_LOOP}")
	loop := strings.Repeat("import s\n", 10)
	for _, tt := range []struct{ name, text, where, want string }{
		{"empty", "", ":1", "the text is empty"},
		{"comment", "# nothing\n", ":1", "the text is empty"},
		{"long", strings.Repeat(" ", maxText+1), ":1", "longer than 1048576 bytes"},
		{"other blocks", "a {\nkubehosts\n}\nb:53 c {\n}\n", ":1", "no server block with the keys of the running one, 'dns://.:53'; there are: 'a' (line 1), 'b:53 c' (line 4)"},
		{"other port", ".:54 {\nkubehosts\n}", ":1", "there are: '.:54' (line 1)"},
		{"many blocks", strings.Repeat("a {\n}\n", 12), ":1", "'a' (line 19), 2 more"},
		{"snippets only", "(s) {\n}\n", ":1", "there are: none"},
		{"no stanza", "a {\n}\n. {\nwhoami\n}", ":3", "the server block 'dns://.:53' has no kubehosts stanza"},
		{"two blocks", ". {\nkubehosts\n}\n. {\nkubehosts\n}", ":5", "a second server block 'dns://.:53' with a kubehosts stanza: the first is on line 2"},
		{"two stanzas", ". {\nkubehosts\nkubehosts\n}", ":3", "once per Server Block"},
		{"two bare stanzas", "kubehosts\nkubehosts", ":2", "once per Server Block"},
		{"bare with more", "kubehosts a\nerrors", ":2", "unexpected 'errors': a bare kubehosts stanza stands alone"},
		{"bare with brace", "kubehosts a {\n}\n}", ":3", "unexpected '}'"},
		{"option", ". {\nkubehosts {\n\nttl x\n}\n}", ":4", "strconv.Atoi: parsing \"x\": invalid syntax"},
		{"option in a snippet", "(s) {\n\nttl x\n}\n. {\nkubehosts {\nimport s\n}\n}", ":3", "strconv.Atoi"},
		{"file in the stanza", ". {\nkubehosts {\nimport /etc/passwd\n}\n}", ":3", "import of '/etc/passwd'"},
		{"file in the stanza's hosts", ". {\nkubehosts {\nhosts {\nimport /etc/passwd\n}\n}\n}", ":4", "import of '/etc/passwd'"},
		{"file in bare stanza", "kubehosts {\nimport /etc/*\n}", ":2", "import of '/etc/*'"},
		{"file through a snippet", "(s) {\nttl 5\nimport /etc/passwd\n}\n. {\nkubehosts {\nimport s\n}\n}", ":3", "import of '/etc/passwd'"},
		{"snippet below", ". {\nkubehosts {\nimport s\n}\n}\n(s) {\nttl 7\n}", ":3", "import of 's': there is no such snippet above"},
		{"import of nothing", ". {\nimport\n}", ":2", "after 'import'"},
		{"import of two", ". {\nimport a b\n}", ":2", "Import takes only one argument"},
		{"import of empty", ". {\nimport \"\"\n}", ":2", "non-empty"},
		{"redeclared", "(s) {\n}\n(s) {\n}\n. {\nkubehosts\n}", ":3", "redeclaration of previously declared snippet s"},
		{"snippet without block", "(s)\nkubehosts\n", ":2", "expecting the '{' of snippet (s)"},
		{"open snippet", "(s) {\n", ":1", "snippet (s) has a '{' without its '}'"},
		{"snippet in itself", "(s) {\nttl 5\nimport s\n}\n. {\nkubehosts {\nimport s\n}\n}", ":3", "does a snippet import itself?"},
		{"growing snippet", "(s) {\nttl 5\n" + loop + "}\n. {\nkubehosts {\nimport s\n}\n}", ":3", "does a snippet import itself?"},
		{"large snippet", "(s) {\n" + strings.Repeat("x ", 100000) + "\n}\n. {\nkubehosts {\n" + loop + "}\n}", ":8", "262144 tokens or 4 MiB; does a snippet import itself?"},
		{"last brace missing", ". {\nkubehosts {\n}\n", ":1", "the server block has a '{' without its '}'"},
		{"brace missing", ". {\nkubehosts {\nttl 5\n", ":2", "'kubehosts' has a '{' without its '}'"},
		{"brace missing elsewhere", ". {\nlog {\nkubehosts {\n}\n}\n", ":1", "the server block has a '{' without its '}'"},
		{"brace too many", ". {\nkubehosts {\n}\n}\n}\n", ":5", "there is one '}' too many"},
		{"brace of a directive", ". {\nkubehosts }\n}\n", ":2", "Unexpected '}'"},
		{"brace without directive", ". {\n{\n}\n}\n", ":2", "expecting a directive"},
		{"comma", "a, {\n}", ":1", "check for extra comma"},
		{"comma at the end", "a,", ":1", "Unexpected EOF"},
		{"open quote", ". {\nkubehosts \"a {\n}\n}\n", ":1", "without its '}'"},
		{"variable in itself", ". {\nkubehosts {\nttl {$STANZA_LOOP}\n}\n}", ":3", "referring to themselves"},
		{"long error", ". {\nkubehosts {\n" + strings.Repeat("é", 1<<18) + "\n}\n}", ":3", "unknown property"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseText(textName, tt.text, []string{"dns://.:53"}, "")
			wantError(t, err, textName+tt.where+" - ", tt.want)
			if len(err.Error()) > 2*maxErrorText {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// TestParseTextViews reads the stanzas of server blocks that have the same keys and differ in their view.
func TestParseTextViews(t *testing.T) {
	t.Setenv("STANZA_VIEW", "env")
	const (
		views = "(v) {\nview snippet {\nexpr true\n}\n}\n" +
			". {\nview internal {\nexpr incidr(client_ip(), '10.0.0.0/8')\n}\nkubehosts a {\nttl 1\n}\n}\n" +
			". {\nkubehosts a {\nttl 2\n}\nview \"with space\" {\nexpr true\n}\n}\n" +
			". {\nimport v\nkubehosts a {\nttl 3\n}\n}\n" +
			". {\nview {$STANZA_VIEW} {\nexpr true\n}\nkubehosts a {\nttl 4\n}\n}\n" +
			". {\nview bare {\nexpr true\n}\n}\n" +
			". {\nkubehosts a {\nttl 5\n}\n}\n"
		twice = ". {\nview x {\n}\nkubehosts\n}\n. {\nview x {\n}\nkubehosts\n}\n"
	)
	for _, tt := range []struct {
		text, view string
		ttl        uint32
		where, err string
	}{
		{views, "internal", 1, "", ""},
		{views, "with space", 2, "", ""},
		{views, "snippet", 3, "", ""},
		{views, "env", 4, "", ""},
		{views, "", 5, "", ""},
		{views, "bare", 0, ":36", "the server block 'dns://.:53' with view 'bare' has no kubehosts stanza"},
		{views, "other", 0, ":6", "no server block 'dns://.:53' with view 'other'; there are: '.' with view 'internal' (line 6), '.' with view 'with space' (line 14)"},
		{twice, "x", 0, ":9", "a second server block 'dns://.:53' with view 'x' with a kubehosts stanza: the first is on line 4, and they can't be told apart"},
		{twice, "", 0, ":1", "no server block 'dns://.:53'; there are"},
		{". {\nkubehosts\n}", "x", 0, ":1", "no server block 'dns://.:53' with view 'x'; there are: '.' (line 1)"},
		{". {\nview\nkubehosts {\nttl 6\n}\n}", "", 6, "", ""},
		{"kubehosts {\nttl 7\n}", "x", 7, "", ""}, // a bare stanza is for every server block that follows it
	} {
		c, err := ParseText(textName, tt.text, []string{"dns://.:53"}, tt.view)
		if tt.err != "" {
			wantError(t, err, textName+tt.where+" - ", tt.err)
			continue
		}
		if err != nil || c.TTL != tt.ttl {
			t.Errorf("view %q: %v, %v, want ttl %d", tt.view, c, err, tt.ttl)
		}
	}
}

func TestParseTextBareWithoutZones(t *testing.T) {
	c, err := ParseText(textName, "kubehosts { ttl 7 }", []string{"dns://10.in-addr.arpa.:53"}, "")
	if err != nil || c.Zones != nil || c.ZonesWritten {
		t.Errorf("Zones %q, written %v, error %v, want none until Over", c.Zones, c.ZonesWritten, err)
	}
}

// TestParseTextOpensNoFile puts a stanza where an import would find it.
func TestParseTextOpensNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("kubehosts x.example {\nttl 9\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{file, filepath.Join(filepath.Dir(file), "*")} {
		c, err := ParseText(textName, ". {\nimport "+pattern+"\nkubehosts a\n}", []string{"dns://.:53"}, "")
		if err != nil || c.TTL != DefaultTTL || !slices.Equal(c.Zones, []string{"a."}) {
			t.Errorf("%+v, %v: the file was read", c, err)
		}
	}
}

// TestSourceOpensNoFile looks for calls that could: from package os nothing but Getenv, no caddyfile.Parse, no
// globbing.
func TestSourceOpensNoFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := sel.X.(*ast.Ident)
			if x == nil {
				return true
			}
			name := x.Name + "." + sel.Sel.Name
			if x.Name == "os" && name != "os.Getenv" || x.Name == "filepath" && name != "filepath.Match" || name == "caddyfile.Parse" {
				t.Errorf("%s uses %s", file, name)
			}
			return true
		})
	}
}
