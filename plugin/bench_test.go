package kubehosts

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// dropped is a writer that drops the reply.
type dropped struct{ test.ResponseWriter }

func (*dropped) WriteMsg(*dns.Msg) error { return nil }

// BenchmarkServeDNS measures the cost of an answer in process, for each kind of answer. See test/bench for a comparison
// with stock.
func BenchmarkServeDNS(b *testing.B) {
	var yaml strings.Builder
	for _, n := range []int{10, 100} {
		fmt.Fprintf(&yaml, "---\napiVersion: v1\nkind: Service\nmetadata: {name: db%d, namespace: shop}\nspec: {clusterIP: None, ports: [{name: pg, port: 5432}]}\n", n)
		fmt.Fprintf(&yaml, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: db%d, namespace: shop, labels: {kubernetes.io/service-name: db%d}}\n", n, n)
		yaml.WriteString("addressType: IPv4\nports: [{name: pg, protocol: TCP, port: 5432}]\nendpoints:\n")
		for i := range n {
			fmt.Fprintf(&yaml, "- {addresses: [10.1.%d.%d]}\n", n, i+1)
		}
	}
	yaml.WriteString("---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.7.10, ports: [{name: http, port: 80}]}\n")
	file := filepath.Join(b.TempDir(), "bench.yaml")
	save(b, file, yaml.String())
	save(b, file+".hosts", "192.0.2.1 one.example\n192.0.2.2 two.example\n")
	for _, stanza := range []struct{ name, hosts string }{{"services", ""}, {"hosts", "hosts " + file + ".hosts"}} {
		k := serve(b, "dns://.:53", fmt.Sprintf("kubehosts cluster.local in-addr.arpa {\n manifests %s\n %s\n}", file, stanza.hosts))
		for _, tc := range []struct {
			what, name string
			qtype      uint16
		}{
			{"clusterip A", "web.shop.svc.cluster.local.", dns.TypeA},
			{"clusterip AAAA", "web.shop.svc.cluster.local.", dns.TypeAAAA},
			{"headless A 10", "db10.shop.svc.cluster.local.", dns.TypeA},
			{"headless A 100", "db100.shop.svc.cluster.local.", dns.TypeA},
			{"clusterip SRV", "_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV},
			{"headless SRV 10", "_pg._tcp.db10.shop.svc.cluster.local.", dns.TypeSRV},
			{"headless SRV 100", "_pg._tcp.db100.shop.svc.cluster.local.", dns.TypeSRV},
			{"NXDOMAIN", "example.com.shop.svc.cluster.local.", dns.TypeA},
			{"PTR", "10.7.96.10.in-addr.arpa.", dns.TypePTR},
			{"hosts A", "one.example.", dns.TypeA},
		} {
			if stanza.hosts == "" && tc.what == "hosts A" {
				continue
			}
			b.Run(stanza.name+"/"+tc.what, func(b *testing.B) {
				r := new(dns.Msg).SetQuestion(tc.name, tc.qtype)
				ctx, w := context.Background(), &dropped{}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := k.ServeDNS(ctx, w, r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
