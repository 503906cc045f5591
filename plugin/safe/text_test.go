package safe

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kubehosts/kubehosts/plugin/hostile"
)

func TestPrintable(t *testing.T) {
	long := strings.Repeat("ä", 300)
	for in, want := range map[string]string{
		"":                                "",
		"/etc/hosts.d/a b.hosts":          "/etc/hosts.d/a b.hosts",
		"/etc/m\xfcller.hosts":            `"/etc/m\xfcller.hosts"`,
		"/etc/müller.hosts":               "/etc/müller.hosts",
		"a\n[INFO] all is well":           `"a\n[INFO] all is well"`,
		"a\r\x1b[2Jb":                     `"a\r\x1b[2Jb"`,
		"\u202etxt.exe":                   `"\u202etxt.exe"`,
		"\ufffd":                          "\ufffd",
		long:                              `"` + long[:512] + `"...`,
		"\n" + strings.Repeat("x", 600):   `"\n` + strings.Repeat("x", 511) + `"...`,
		strings.Repeat("x", maxPrintable): strings.Repeat("x", maxPrintable),
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"/etc/hosts", "m\xfcller", "a\nb", "\u2028", strings.Repeat("\xff", 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x1b\x00") || len(got) > 4*maxPrintable+5 {
			t.Errorf("Printable(%q) = %q", s, got)
		}
	})
}

// A line of the log is printable whatever it quotes, and else as it was.
func TestLine(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{`grüße "a\b" 'c'`, `grüße "a\b" 'c'`},
		{"a\nb\xffc\u202ed", `a\nb\xffc\u202ed`},
		{"\uFFFD", "\uFFFD"},
	} {
		if got := Line(tt.text); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
	for _, name := range hostile.Names {
		if got := Line(name); !hostile.Printable(got) {
			t.Errorf("%q: %q", name, got)
		}
	}
	if got := Line(strings.Repeat("\n", 1<<20)); len(got) > 20<<10 {
		t.Errorf("%d bytes", len(got))
	}
}
