package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// Aliases that lead back through other plugins: rewrite (of the query and of the target), template, file, and kubehosts
// itself in another zone.
const aliasCorefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	rewrite name exact outside.example. name.t.svc.a.local.
	rewrite name suffix .suffix.example. .t.svc.a.local.
	rewrite cname exact target.example. cname.t.svc.a.local.
	template ANY ANY template.example {
		answer "{{ .Name }} 60 IN CNAME template.t.svc.a.local."
	}
	kubehosts a.local b.local {
		manifests MANIFEST
	}
	file ZONE file.example
}
`

// maxQueries limits how many queries one query may cause, through all server blocks and plugins that lead
// back.
const maxQueries = 300

// A query takes bounded time and work wherever its aliases lead, and other queries are answered
// meanwhile.
func TestAliasesThatLeadBack(t *testing.T) {
	dir := t.TempDir()
	var yaml strings.Builder
	yaml.WriteString("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: t}\nspec: {clusterIP: 10.96.7.10, ports: [{port: 80}]}\n")
	for name, target := range map[string]string{
		"foo": "bar.t.svc.b.local", "bar": "foo.t.svc.a.local", // each other, through two zones
		"name": "outside.example", "suffix": "suffix.suffix.example", "cname": "target.example",
		"template": "www.template.example", "file": "www.file.example",
	} {
		fmt.Fprintf(&yaml, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: t}\nspec: {type: ExternalName, externalName: %s}\n", name, target)
	}
	manifest, zone := filepath.Join(dir, "aliases.yaml"), filepath.Join(dir, "file.zone")
	for path, text := range map[string]string{
		manifest: yaml.String(),
		zone:     "@ 60 IN SOA ns.file.example. host.file.example. 1 2 3 4 5\n@ 60 IN NS ns.file.example.\nwww 60 IN CNAME file.t.svc.a.local.\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := cluster.Run(t, coredns(t), strings.NewReplacer("MANIFEST", manifest, "ZONE", zone).Replace(aliasCorefile))

	for _, network := range []string{"udp", "tcp"} {
		client := cluster.Dial(t, network, c.Addr)
		for _, name := range []string{"foo", "name", "suffix", "cname", "template", "file"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeSRV} {
				before := c.Metric(t, "coredns_dns_requests_total")
				m, err := client.Ask(name+".t.svc.a.local.", qtype)
				if err != nil {
					t.Errorf("%s: %v", network, err)
					continue
				}
				leads := name != "cname" && name != "file" // for these the other plugin makes the answer
				if len(m.Answer) > 0 && leads || leads && m.Rcode != dns.RcodeServerFailure {
					t.Errorf("%s %s, %s: want SERVFAIL, got\n%v", name, dns.TypeToString[qtype], network, m)
				}
				if n := c.Metric(t, "coredns_dns_requests_total") - before; n > maxQueries {
					t.Errorf("%s %s, %s: became %v queries", name, dns.TypeToString[qtype], network, n)
				}
			}
		}
		m, err := client.Ask("web.t.svc.a.local.", dns.TypeA)
		if err != nil || len(m.Answer) != 1 {
			t.Errorf("after the loops, %s: %v, %v", network, m, err)
		}
	}
}
