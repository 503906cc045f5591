package kubehosts

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/hosts"
)

// A name exists if one below it does, or if it has records of another type (RFC 8020, section 2; RFC 2308, section
// 2.2).
func TestNameThatExists(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "dns.yaml")
	save(t, manifest, dnsService+`---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: pg, port: 5432}]}
`)
	const entries = "hosts {\n 192.0.2.7 held.cluster.local\n fallthrough_unsupported\n}\n"
	for _, tc := range []struct {
		zones, options, name string
		qtype                uint16
		want                 string
	}{
		// The protocol above the ports of a Service exists without endpoints.
		{"cluster.local", "noendpoints", "_tcp.web.shop.svc.cluster.local.", dns.TypeA, "NOERROR | SOA cluster.local."},
		{"cluster.local", "noendpoints", "_udp.web.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN | SOA cluster.local."},
		{"cluster.local", "noendpoints", "_tcp.db.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN | SOA cluster.local."},
		// Names above those of topology zones.
		{"cluster.local", "zonal", "_zone.db.shop.svc.cluster.local.", dns.TypeA, "NOERROR | SOA cluster.local."},
		{"cluster.local", "zonal", "pin._zone.db.shop.svc.cluster.local.", dns.TypeSRV, "NOERROR | SOA cluster.local."},
		{"cluster.local", "zonal", "prefer._zone.db.shop.svc.cluster.local.", dns.TypeA, "NOERROR | SOA cluster.local."},
		{"cluster.local", "zonal", "other._zone.db.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN | SOA cluster.local."},
		{"cluster.local", "zonal", "_zone.web.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN | SOA cluster.local."},
		{"cluster.local", "", "_zone.db.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN | SOA cluster.local."},
		// Names between zones.
		{"cluster.local a.b.cluster.local", "", "b.cluster.local.", dns.TypeA, "NOERROR | SOA cluster.local."},
		{"cluster.local a.b.cluster.local", "fallthrough", "b.cluster.local.", dns.TypeA, "NOERROR | SOA cluster.local."},
		{"cluster.local a.b.cluster.local", "", "xb.cluster.local.", dns.TypeA, "NXDOMAIN | SOA cluster.local."},
		{". cluster.local", "", "local.", dns.TypeTXT, "NOERROR | SOA ."},
		{"cluster.local in-addr.arpa 96.10.in-addr.arpa", "namespaces none", "10.in-addr.arpa.", dns.TypePTR, "NOERROR | SOA in-addr.arpa."},
		// Above the reverse names of a cluster, and of hosts entries.
		{".", "", "arpa.", dns.TypePTR, "NOERROR | SOA ."},
		{".", "", "in-addr.arpa.", dns.TypePTR, "NOERROR | SOA ."},
		{".", "namespaces none\n" + entries, "arpa.", dns.TypePTR, "NOERROR | SOA ."},
		{".", "namespaces none", "arpa.", dns.TypePTR, "NXDOMAIN | SOA ."},
		// A hosts entry passes other types on to a zone without the name.
		{"cluster.local", entries, "held.cluster.local.", dns.TypeA, "NOERROR A 192.0.2.7"},
		{"cluster.local", entries, "held.cluster.local.", dns.TypeMX, "NOERROR | SOA cluster.local."},
		{"cluster.local", entries + "fallthrough", "held.cluster.local.", dns.TypeMX, "next"},
	} {
		k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts %s {\n manifests %s\n %s\n}", tc.zones, manifest, tc.options))
		if got := described(ask(t, k, tc.name, tc.qtype)); got != tc.want {
			t.Errorf("%s, %q, %s %s:\n got %s\nwant %s", tc.zones, tc.options, tc.name, dns.TypeToString[tc.qtype], got, tc.want)
		}
	}
}

// Tables of hosts files are replaced while answers are made from them. Each answer holds the records of one or
// the other.
func TestTablesExchanged(t *testing.T) {
	k := serve(t, "dns://.:53", "kubehosts {\n hosts {\n 192.0.2.1 many.example\n }\n hosts {\n 192.0.2.2 many.example\n }\n}")
	tableOf := func(n int) *hosts.Table {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "198.51.100.%d many.example\n", i+1)
		}
		table, err := hosts.Parse(strings.NewReader(text.String()), hosts.Options{Origins: []string{"."}})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	few, many := tableOf(1), tableOf(200)
	tables := k.block.View().Hosts[1].Tables
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				tables.Set([]*hosts.Table{few}, nil)
				tables.Set([]*hosts.Table{many}, nil)
			}
		}
	})
	for range 20_000 {
		if n := len(ask(t, k, "many.example.", dns.TypeA).Answer); n != 2 && n != 201 {
			t.Errorf("%d addresses, want 2 or 201", n)
			break
		}
	}
	close(done)
	writer.Wait()
}
