package status

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

// As in the binary, kubehosts comes just ahead of hosts.
func init() {
	at := slices.Index(dnsserver.Directives, "hosts")
	dnsserver.Directives = slices.Insert(dnsserver.Directives, at, "kubehosts")
}

// serial is the serial of an SOA record, which is the time.
var serial = regexp.MustCompile(`\b[0-9]{10}\b`)

var update = flag.Bool("update", false, "write testdata/explain.txt anew")

// The output of explain for every kind of answer and of denial. testdata/explain.txt has the commands and their output.
func TestExplain(t *testing.T) {
	const golden = "testdata/explain.txt"
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, session := range strings.Split(strings.TrimPrefix(string(b), "$ explain "), "\n$ explain ") {
		command, want, _ := strings.Cut(session, "\n")
		var out, errs bytes.Buffer
		code := Command(strings.Fields(command), &out, &errs)
		warned := strings.Contains(errs.String(), "corp.hosts:4: \"nonsense\" is not an IP address; line left out\n")
		if offline := strings.Contains(command, "Corefile") && code != exitUsage; warned != offline {
			t.Errorf("explain %s warns of the hosts file: %v", command, warned)
		} else if warned {
			errs.Reset()
		}
		got := serial.ReplaceAllString(fmt.Sprintf("%s%sexit %d\n", out.String(), errs.String(), code), "SERIAL")
		fmt.Fprintf(&all, "$ explain %s\n%s\n", command, got)
		if strings.TrimSpace(got) != strings.TrimSpace(want) && !*update {
			t.Errorf("explain %s prints\n%s\nwant\n%s", command, got, want)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A stanza of a Corefile that is a whole ConfigMap is attributed to the ConfigMap.
func TestCorefileOf(t *testing.T) {
	for file, want := range map[string]string{
		"ConfigMap kube-system/coredns key Corefile": "ConfigMap kube-system/coredns",
		"ConfigMap key Corefile":                     "the Corefile",
		"/etc/coredns/Corefile":                      "the Corefile",
		"my key Corefile":                            "the Corefile",
	} {
		if got := corefileOf(file); got != want {
			t.Errorf("%q: %q, want %q", file, got, want)
		}
	}
}
