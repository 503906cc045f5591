package stanza

import (
	"fmt"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/growth"
)

// maxCost limits the bytes that reading a text may allocate. Most of it is the words of a text that has a word of one
// letter every two bytes.
const maxCost = 256 << 20

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// checkLimits asserts that c holds no more than a stanza may.
func checkLimits(t *testing.T, c *Config) {
	t.Helper()
	files, lines, zones, claimants, classes := 0, 0, 0, 0, 0
	for _, e := range c.External {
		zones += len(e.Zones)
		claimants += len(e.Namespaces)
		classes = max(classes, len(e.Classes))
	}
	for _, h := range c.Hosts {
		files += len(h.Files)
		lines += len(h.Inline)
	}
	for _, l := range []struct {
		what      string
		have, may int
	}{
		{"zones", len(c.Zones) + len(c.Multicluster) + len(c.Fallthrough) + zones, maxZones},
		{"external options", len(c.External), maxExternal},
		{"namespaces of external options", claimants, maxNamespaces},
		{"classes of an external option", classes, maxClasses},
		{"namespaces", len(c.Namespaces), maxNamespaces},
		{"bytes of labels", max(len(c.Labels), len(c.NamespaceLabels)), 2 * maxSelector}, // the canonical form is longer
		{"manifests", len(c.Manifests), maxPaths},
		{"hosts options", len(c.Hosts), maxHosts},
		{"hosts files", files, maxFiles + maxHosts}, // with the default FILE of options without one
		{"hosts lines", lines, maxLines},
	} {
		if l.have > l.may {
			t.Errorf("%d %s, want %d at most", l.have, l.what, l.may)
		}
	}
}

// numbered repeats a line with the numbers from 0 up in it.
func numbered(n int, line string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, line+"\n", i)
	}
	return b.String()
}

// limits are what a stanza may hold.
var limits = []struct {
	name    string
	body    func(n int) string // of a stanza whose first line is line 1
	limit   int
	line    int // the first line beyond the limit
	message string
}{
	{"options", func(n int) string { return strings.Repeat("noendpoints\n", n) }, 2000, 2002, "more than 2000 options in a stanza"},
	{"zones of fallthrough", func(n int) string { return "fallthrough\n" + numbered(n-1, "fallthrough z%d") }, 1000, 1002, "more than 1000 zones in a stanza"},
	{"zones, networks", func(n int) string {
		return strings.Repeat("fallthrough 10.0.0.0/9\n", n/128) + "fallthrough" + strings.Repeat(" z", n%128-1)
	}, 1000, 9, "more than 1000 zones in a stanza"},
	{"zones, multicluster", func(n int) string { return "multicluster" + strings.Repeat(" a", n-1) }, 1000, 2, "more than 1000 zones in a stanza"},
	{"zones, external", func(n int) string { return "external" + strings.Repeat(" b", n-1) }, 1000, 2, "more than 1000 zones in a stanza"},
	{"external", func(n int) string { return numbered(n, "external z%d") }, 100, 102, "more than 100 external options in a stanza"},
	{"namespaces of external", func(n int) string {
		return "external b {\nnamespaces n0 n1 n1\n}\nexternal c {\n" + numbered(n-2, "namespaces n%d n0") + "}"
	}, 1000, 1004, "more than 1000 namespaces of external options in a stanza"},
	{"classes", func(n int) string { return "external b {\nclass c0 c0\n" + numbered(n, "class c%d") + "}" }, 100, 104, "more than 100 classes"},
	{"namespaces", func(n int) string { return "namespaces x x x\n" + numbered(n-1, "namespaces n%d x") }, 1000, 1002, "more than 1000 namespaces; select them by namespace_labels"},
	{"selector", func(n int) string { return "labels a in (" + strings.Repeat(" ,b", n)[:n-8] + " )" }, 16384, 2, "the label selector is longer than 16384 bytes"},
	{"manifests", func(n int) string { return numbered(n, "manifests f%d") }, 100, 102, "more than 100 PATHs of manifests in a stanza"},
	{"hosts", func(n int) string { return numbered(n, "hosts {\n::1 h%d\n}") }, 100, 302, "more than 100 hosts options in a stanza: inline lines may share one, and a FILE may be a pattern"},
	{"hosts files", func(n int) string { return "hosts a b\n" + numbered(n-2, "hosts /f/%d") }, 100, 101, "more than 100 FILEs of hosts in a stanza"},
	{"hosts lines", func(n int) string { return "hosts {\n" + strings.Repeat("::1 a\n", n) + "}" }, 100000, 100003, "more than 100000 lines of hosts in a stanza"},
	{"hosts lines of several options", func(n int) string {
		return "hosts {\n" + strings.Repeat("::1 a\n", n/2) + "}\nhosts {\n" + strings.Repeat("::1 a\n", n-n/2) + "}"
	}, 100000, 100005, "more than 100000 lines of hosts in a stanza"},
}

// Everything within a limit is accepted, and everything beyond is refused with the line and the limit, in the Corefile
// and in a ConfigMap alike.
func TestLimits(t *testing.T) {
	for _, tt := range limits {
		t.Run(tt.name, func(t *testing.T) {
			for file, parse := range map[string]func(string) (*Config, error){
				"Corefile": func(text string) (*Config, error) { return corefileOf(text, "dns://.:53") },
				textName:   func(text string) (*Config, error) { return ParseText(textName, text, []string{"dns://.:53"}, "") },
			} {
				c, err := parse("kubehosts a {\n" + tt.body(tt.limit) + "\n}")
				if err != nil {
					t.Fatalf("%d: %v", tt.limit, err)
				}
				checkLimits(t, c)
				_, err = parse("kubehosts a {\n" + tt.body(tt.limit+1) + "\n}")
				wantError(t, err, fmt.Sprintf("%s:%d - ", file, tt.line), tt.message)
			}
		})
	}
}

// A stanza as large as a limit allows takes four times the work of a fourth of it, or a little more.
func TestCostGrowsWithTheStanza(t *testing.T) {
	for _, tt := range limits {
		t.Run(tt.name, func(t *testing.T) {
			growth.Linear(t, tt.limit/4, func(n int) []growth.Work {
				text := "kubehosts a {\n" + tt.body(n) + "\n}"
				var c *Config
				var err error
				read := growth.Of(func() { c, err = ParseText(textName, text, []string{"dns://.:53"}, "") })
				if err != nil {
					t.Fatal(err)
				}
				return []growth.Work{read, growth.Of(func() { _ = c.Hash() })}
			})
		})
	}
}

// fill repeats middle until the text is as long as a ConfigMap may be.
func fill(head, middle, tail string) string {
	return head + strings.Repeat(middle, (maxText-len(head)-len(tail))/len(middle)) + tail
}

// No text of a ConfigMap, whatever it repeats, costs much memory to read, and none becomes a large stanza.
func TestCostOfText(t *testing.T) {
	const long = 400_000
	imports := "(0) {\n" + strings.Repeat("x ", 100) + "\n}\n" // each snippet is twice as long as the one before
	for i := range 25 {
		imports += fmt.Sprintf("(%d) {\nimport %d\nimport %d\n}\n", i+1, i, i)
	}
	t.Setenv("STANZA_NETWORKS", strings.Repeat("10.0.0.0/9 ", 1000))
	t.Setenv("STANZA_LINES", strings.Repeat("::1 a\n", 10_000))
	for _, tt := range []struct{ name, text string }{
		{"words", fill("kubehosts {\nnamespaces ", "a ", "\n}")},
		{"empty words", fill("kubehosts {\nnamespaces ", `""`, "\n}")},
		{"options", fill("kubehosts {\n", "a\n", "}")},
		{"namespaces", fill("kubehosts {\n", "namespaces a\n", "}")},
		{"namespaces that differ", "kubehosts {\n" + numbered(50_000, "namespaces n%d") + "}"},
		{"fallthrough", fill("kubehosts {\n", "fallthrough "+strings.Repeat("10.0.0.0/9 ", 32)+"\n", "}")},
		{"zones", fill("kubehosts ", "10.0.0.0/9 ", " {\n}")},
		{"zones of a variable", fill("kubehosts {\n", "fallthrough {$STANZA_NETWORKS}\n", "}")},
		{"hosts options", fill("kubehosts {\n", "hosts { ::1 a }\n", "}")},
		{"hosts options of two lines", fill("kubehosts {\n", "hosts {\n::1 a\n}\n", "}")},
		{"hosts lines", fill("kubehosts {\nhosts {\n", "::1 a\n", "}\n}")},
		{"hosts lines of variables", fill("kubehosts {\nhosts {\n", "{$STANZA_LINES}\n", "}\n}")},
		{"hosts files", fill("kubehosts {\nhosts ", "a ", "\n}")},
		{"hosts names", fill("kubehosts {\nhosts {\n::1 ", "a ", "\n}\n}")},
		{"external options", fill("kubehosts {\n", "external a\n", "}")},
		{"external zones", fill("kubehosts {\nexternal ", "a ", "\n}")},
		{"external networks", fill("kubehosts {\nexternal ", "10.0.0.0/9 ", "\n}")},
		{"external lines", fill("kubehosts {\nexternal a {\n", "from ingress\n", "}\n}")},
		{"external namespaces", "kubehosts {\nexternal a {\n" + numbered(50_000, "namespaces n%d") + "}\n}"},
		{"manifests", fill("kubehosts {\n", "manifests a b c d\n", "\n}")},
		{"values of labels", fill("kubehosts {\nlabels a in (", "a,", "a)\n}")},
		{"labels", fill("kubehosts {\nlabels a", ",a", "\n}")},
		{"options with labels", fill("kubehosts {\n", "labels a=b\n", "}")},
		{"endpoint", fill("kubehosts a {\nendpoint ", "a ", "\n}")},
		{"server blocks", fill("", "a {\n}\n", ". {\nkubehosts\n}")},
		{"server blocks of networks", fill("", "10.0.0.0/9 {\n}\n", ". {\nkubehosts\n}")},
		{"keys", fill("", "a ", "{\n}\n. {\nkubehosts\n}")},
		{"keys of networks", fill("", "10.0.0.0/9 ", "{\n}\n. {\nkubehosts\n}")},
		{"snippets", "(s) {\n}\n" + numbered(60_000, "(s%d) {\n}") + ". {\nkubehosts\n}"},
		{"imports of files", fill("", "import x\n", ". {\nkubehosts\n}")},
		{"imports behind a long word", fill(". {\n\""+strings.Repeat("x", long)+"\"\n", "import x\n", "kubehosts\n}")},
		{"imports of a long word", fill("(s) {\n::1 "+strings.Repeat("x", long)+"\n}\nkubehosts {\nhosts {\n", "import s\n", "}\n}")},
		{"imports of imports", imports + "kubehosts {\nimport 25\n}"},
		{"braces", strings.Repeat("{", maxText)},
		{"blocks", fill("", "{\n", "")},
		{"quote", `"` + strings.Repeat(`\"`, maxText/2-1)},
		{"no text", strings.Repeat("\xff", maxText)},
		{"control characters", fill("kubehosts {\n", "\x01", "\n}")},
		{"variables", fill("kubehosts {\nnamespaces ", "{$HOME} ", "\n}")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.text) > maxText {
				t.Fatalf("the text has %d bytes", len(tt.text))
			}
			before := allocated()
			c, err := ParseText(textName, tt.text, []string{"dns://.:53"}, "")
			if n := allocated() - before; n > maxCost {
				t.Errorf("%d MiB were allocated", n>>20)
			}
			if err == nil {
				checkLimits(t, c)
			} else if len(err.Error()) > 2*maxErrorText {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// A stanza of maximum size, over another one, costs no more than both: no part of one is compared with each part of the
// other.
func TestCostOfOver(t *testing.T) {
	zones := "z.example"
	for i := range maxZones - 1 {
		zones += fmt.Sprintf(" z%d.example", i)
	}
	base := mustParse(t, "kubehosts "+zones+" {\n"+numbered(maxHosts, "hosts /f/%d")+"}", "dns://.:53")
	c, err := ParseText(textName, "kubehosts "+zones+" {\n"+numbered(maxHosts, "hosts /f/%d")+"}", []string{"dns://.:53"}, "")
	if err != nil {
		t.Fatal(err)
	}
	before := allocated()
	r, err := c.Over(base)
	if err != nil {
		t.Fatal(err)
	}
	if n := allocated() - before; n > 1<<20 {
		t.Errorf("%d KiB were allocated", n>>10)
	}
	if len(r.Zones) != maxZones || len(r.Hosts) != maxHosts {
		t.Errorf("%d zones and %d hosts options", len(r.Zones), len(r.Hosts))
	}
}

func TestZonesWithin(t *testing.T) {
	for _, tt := range []struct {
		base, zone string
		want       bool
	}{
		{"a.example.", "a.example.", true},
		{"a.example.", "b.a.example.", true},
		{"a.example.", "ba.example.", false},
		{"a.example.", "example.", false},
		{"a.example.", ".", false},
		{".", ".", true},
		{".", "a.", true},
		{`b.example.`, `a\.b.example.`, false}, // one label, a.b
		{`b.example.`, `a\\.b.example.`, true},
	} {
		if got := setOf([]string{tt.base}).hasParentOf(tt.zone); got != tt.want {
			t.Errorf("%s in %s: %v", tt.zone, tt.base, got)
		}
	}
}
