package corefile

import (
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	const base = ".:53 {\n errors\n kubehosts cluster.local {\n  endpoint http://a\n  ttl 5\n }\n}\nexample.org {\n whoami\n}\n"
	edit := func(old, new string) string {
		if !strings.Contains(base, old) {
			t.Fatal(old)
		}
		return strings.Replace(base, old, new, 1)
	}
	for _, tt := range []struct {
		after   string
		restart string // contains
		stanzas int
	}{
		{base, "", 0},
		{"# a comment\n" + strings.ReplaceAll(base, "\n ", "\n\t "), "", 0},
		{edit("ttl 5", "ttl 6"), "", 1},
		{edit("ttl 5", "ttl 6\n  hosts {\n   10.0.0.1 a\n  }"), "", 1},
		{edit("cluster.local", "cluster.local example.net"), "", 1},
		{edit("http://a", "http://b"), "endpoint in the kubehosts stanza of Corefile:3", 0},
		{edit("ttl 5", "startup_timeout 1s"), "startup_timeout in the kubehosts", 0},
		{edit("ttl 5", "audit 1h"), "audit in the kubehosts", 0},
		{edit("ttl 5", "wire off"), "wire in the kubehosts", 0},
		{edit("ttl 5", "configmap a"), "configmap in the kubehosts", 0},
		{edit("errors", "log"), "errors in the server block of Corefile:1", 0},
		{edit("errors", "errors\n log"), "log in the server block of Corefile:1", 0},
		{edit("whoami", "whoami\n kubehosts a"), "kubehosts in the server block of Corefile:8", 0},
		{edit("example.org", "example.com"), "the keys of the server block of Corefile:8", 0},
		{base + "a {\n}\n", "the server blocks", 0},
	} {
		blocks := func(body string) []Block {
			b, err := textOf(t, body).Blocks(nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		e := Compare(blocks(base), blocks(tt.after))
		if !strings.Contains(e.Restart, tt.restart) || (e.Restart == "") != (tt.restart == "") || len(e.Stanzas) != tt.stanzas {
			t.Errorf("%s\nis %+v, want a restart for %q, %d stanzas", tt.after, e, tt.restart, tt.stanzas)
		}
		if e.Empty() != (tt.restart == "" && tt.stanzas == 0) {
			t.Errorf("%s\nempty: %t", tt.after, e.Empty())
		}
	}
}
