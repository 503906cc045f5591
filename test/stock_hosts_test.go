package test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// hostsExamples returns the Corefiles in the manual of the stock plugin hosts.
func hostsExamples(t *testing.T) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns").Output()
	if err != nil {
		t.Fatal(err)
	}
	manual := cluster.ReadFile(t, filepath.Join(strings.TrimSpace(string(dir)), "plugin/hosts/README.md"))
	_, manual, _ = strings.Cut(manual, "\n## Examples\n")
	var examples []string
	for i, part := range strings.Split(manual, "~~~") {
		if i%2 == 1 {
			examples = append(examples, strings.TrimSpace(strings.TrimPrefix(part, " corefile")))
		}
	}
	return examples
}

// movedOver returns a Corefile with its hosts stanza as an option of kubehosts, and with what the test needs in the
// server block. Relative files are in the folder root.
func movedOver(corefile, root string) string {
	keys, body, _ := strings.Cut(corefile, " {\n")
	body = regexp.MustCompile(`(?m)^ +hosts\b(.*\{\n(.*\n)*? {4}\}|.*)$`).ReplaceAllString(body, "    kubehosts {\n$0\n    }")
	return strings.Join(strings.Fields(keys), ":PORT ") + ":PORT {\n    bind 127.0.0.1\n    ready READY\n    root " + root + "\n" + body + "\n"
}

// Each example in the manual of hosts works when moved over, or is refused with a reason and works after the fix in the
// reason.
func TestStockHostsExamples(t *testing.T) {
	root := t.TempDir()
	cluster.WriteFile(t, filepath.Join(root, "example.hosts"), "192.0.2.1 example.org file.example.com\n")
	withoutZones := func(corefile string) string {
		corefile = regexp.MustCompile(`hosts example\.hosts.*\{`).ReplaceAllString(corefile, "hosts example.hosts {")
		return regexp.MustCompile(`fallthrough .*`).ReplaceAllString(corefile, "fallthrough")
	}
	for i, tt := range []struct {
		refused string // "" if it works unchanged
		answers map[string]string
	}{
		{"", map[string]string{"localhost.": "127.0.0.1"}},
		{"", map[string]string{"example.org.": "192.0.2.1"}},
		{"Error during parsing: hosts: 'example.org' is a zone", map[string]string{"example.org.": "192.0.2.1"}},
		{"", map[string]string{"example.org.": "10.0.0.1"}},
		{"Error during parsing: hosts: fallthrough takes no zones here", map[string]string{
			"x.example.com.": "192.168.1.10", "www.example.com.": "192.168.1.11", "file.example.com.": "192.0.2.1"}},
	} {
		examples := hostsExamples(t)
		if len(examples) != 5 {
			t.Fatalf("the manual has %d examples: %q", len(examples), examples)
		}
		t.Run(strconv.Itoa(i+1), func(t *testing.T) {
			corefile := movedOver(examples[i], root)
			if tt.refused != "" {
				path := filepath.Join(t.TempDir(), "Corefile")
				cluster.WriteFile(t, path, strings.NewReplacer("PORT", strconv.Itoa(cluster.FreePort()), "READY", "127.0.0.1:0").Replace(corefile))
				out, err := runOnce(t, "-conf", path)
				if err == nil || !strings.Contains(out, tt.refused) {
					t.Errorf("%s\nwant an error with %q, got %v\n%s", corefile, tt.refused, err, out)
				}
				corefile = withoutZones(corefile)
			}
			c := cluster.Run(t, coredns(t), corefile)
			client := cluster.Dial(t, "udp", c.Addr)
			for name, want := range tt.answers {
				if got, err := address(client, name); got != want {
					t.Errorf("%s\n%s is %q, want %s: %v", corefile, name, got, want, err)
				}
			}
			if !strings.Contains(c.Log(), "is authoritative for no zone; hosts entries answer for other names") {
				t.Error("the log does not tell who answers")
			}
		})
	}
}

// A stanza with hosts entries in the server block of their zone starts without a cluster, and leaves the zone to the
// next plugin: no SOA record, and no denials.
func TestHostsOnlyInServerBlockOfZone(t *testing.T) {
	for _, stanza := range []string{
		"kubehosts {\nhosts {\n192.0.2.1 a.corp.example\n}\n}",
		"kubehosts {\nnoservices\nhosts {\n192.0.2.1 a.corp.example\n}\n}",
	} {
		c := cluster.Run(t, coredns(t), `corp.example:PORT {
	bind 127.0.0.1
	ready READY
	`+stanza+`
	hosts {
		192.0.2.2 b.corp.example a.corp.example
	}
}
`)
		client := cluster.Dial(t, "udp", c.Addr)
		for name, want := range map[string]string{"a.corp.example.": "192.0.2.1", "b.corp.example.": "192.0.2.2"} {
			if got, err := address(client, name); got != want {
				t.Errorf("%s is %q, want %s: %v", name, got, want, err)
			}
		}
		if m, err := client.Ask("corp.example.", dns.TypeSOA); err != nil || len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("kubehosts has taken the zone over: %v %v", m, err)
		}
	}
}
