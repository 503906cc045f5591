package kubehosts

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// withPod serves the example with one pod, which has the address that test.ResponseWriter asks from.
func withPod(t *testing.T) *Kubehosts {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pod.yaml")
	save(t, path, `apiVersion: v1
kind: Pod
metadata: {name: till, namespace: shop, labels: {app: till}}
status: {phase: Running, podIP: 10.240.0.1, podIPs: [{ip: 10.240.0.1}]}
`)
	return serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local {\n manifests ../build/example/shop.yaml %s\n pods verified\n}", path))
}

func stateOf(name string, qtype uint16) request.Request {
	return request.Request{W: &test.ResponseWriter{}, Req: new(dns.Msg).SetQuestion(name, qtype)}
}

func TestMetadata(t *testing.T) {
	k := withPod(t)
	for name, want := range map[string]map[string]string{
		"_http._tcp.web.shop.svc.cluster.local.": {
			"port-name": "http", "protocol": "tcp", "endpoint": "", "service": "web", "namespace": "shop", "kind": "svc",
			"client-namespace": "shop", "client-pod-name": "till", "client-label/app": "till",
		},
		"DB-0.db.shop.svc.cluster.local.": {"endpoint": "db-0", "service": "db", "namespace": "shop", "kind": "svc"},
		"cluster.local.":                  {"endpoint": "", "service": "", "namespace": "", "kind": ""},
		"x.cluster.local.":                {"parse-error": "invalid query name"},
		"example.org.":                    {"client-namespace": "shop"},
	} {
		ctx := k.Metadata(metadata.ContextWithMetadata(context.Background()), stateOf(name, dns.TypeA))
		for label, value := range want {
			for _, prefix := range []string{"kubehosts/", "kubernetes/"} {
				f := metadata.ValueFunc(ctx, prefix+label)
				if f == nil || f() != value {
					t.Errorf("%s: %s%s is missing or not %q", name, prefix, label, value)
				}
			}
		}
		if name == "example.org." && metadata.ValueFunc(ctx, "kubehosts/kind") != nil {
			t.Errorf("%s: a label for a name outside all zones", name)
		}
	}
}

// Pods on the network of one host share an address, so the client can't be identified.
func TestSharedPodAddress(t *testing.T) {
	withPods := func(pods string) *Kubehosts {
		path := filepath.Join(t.TempDir(), "pods.yaml")
		save(t, path, pods)
		return serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local {\n manifests ../build/example/shop.yaml %s\n pods verified\n}", path))
	}
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s, labels: {app: \"a\\nb\"}}\nstatus: {phase: Running, podIPs: [{ip: 10.240.0.1}]}\n---\n"
	asked := stateOf("www.example.org.shop.svc.cluster.local.", dns.TypeA)
	client := func(k *Kubehosts, label string) string {
		ctx := k.Metadata(metadata.ContextWithMetadata(context.Background()), asked)
		if f := metadata.ValueFunc(ctx, "kubehosts/client-"+label); f != nil {
			return f()
		}
		return ""
	}
	one := withPods(fmt.Sprintf(pod, `"one\ntwo"`, "shop"))
	if name, app := client(one, "pod-name"), client(one, "label/app"); name != `"one\ntwo"` || app != `"a\nb"` {
		t.Errorf("pod name %q and label %q would forge a log line", name, app)
	}
	if one.AutoPath(asked) == nil {
		t.Error("the querying pod has no search list")
	}
	two := withPods(fmt.Sprintf(pod+pod, "kube-proxy", "kube-system", "node-exporter", "monitoring"))
	if ns, name, app := client(two, "namespace"), client(two, "pod-name"), client(two, "label/app"); ns+name+app != "" {
		t.Errorf("two pods share the address, but the metadata has %s/%s with the label %s", ns, name, app)
	}
	if search := two.AutoPath(asked); search != nil {
		t.Errorf("two pods share the address, but the search list is %q", search)
	}
}

func TestAutoPath(t *testing.T) {
	k := withPod(t)
	k.search = []string{"corp.example."}
	got := k.AutoPath(stateOf("www.example.org.shop.svc.cluster.local.", dns.TypeA))
	want := []string{"shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "corp.example.", ""}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := k.AutoPath(stateOf("www.example.org.", dns.TypeA)); got != nil {
		t.Errorf("outside the zones: %q", got)
	}
	if got := serve(t, "dns://.:53", example).AutoPath(stateOf("www.example.org.shop.svc.cluster.local.", dns.TypeA)); got != nil {
		t.Errorf("without pods verified: %q", got)
	}
}

// A warning names each plugin that looks up kubernetes beside kubehosts, with the line of the Corefile or of the
// imported file.
func TestWarningsOf(t *testing.T) {
	imported := filepath.Join(t.TempDir(), "imported")
	save(t, imported, "\nautopath cluster.local @kubernetes\n")
	for _, tt := range []struct{ text, want string }{
		{".:53 {\nautopath @kubernetes\nkubehosts cluster.local\n}", "Corefile:2 - autopath @kubernetes has no effect"},
		{".:53 {\nkubehosts cluster.local\nimport " + imported + "\n}", imported + ":2 - autopath @kubernetes has no effect"},
		{".:53 {\nkubehosts cluster.local\nk8s_external example.org {\nttl 5\n}\n}", "Corefile:3 - k8s_external has no effect"},
		{".:53 {\nautopath @kubehosts\nkubehosts cluster.local\n}", ""},
		{".:53 {\nautopath /etc/resolv.conf\nkubehosts cluster.local\n}", ""},
		{".:53 {\nautopath @kubernetes\nkubehosts {\nhosts\n}\nkubernetes cluster.local\n}", ""},
	} {
		blocks, err := caddyfile.Parse("Corefile", strings.NewReader(tt.text), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range LeftBehind(blocks[0]) {
			got += fmt.Sprintf("%s:%d - %s\n", cmp.Or(r.At.File, "Corefile"), r.At.Line, r.Text) // caddy leaves the first file unnamed
		}
		got = strings.TrimSuffix(got, "\n")
		if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "\n") || (got == "") != (tt.want == "") {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestTransfer(t *testing.T) {
	k := serve(t, "dns://.:53", example)
	all := func(zone string, serial uint32) (lines []string) {
		ch, err := k.Transfer(zone, serial)
		if err != nil {
			t.Fatal(err)
		}
		for rrs := range ch {
			for _, rr := range rrs {
				if soa, ok := rr.(*dns.SOA); ok {
					soa.Serial = 1
				}
				lines = append(lines, strings.ReplaceAll(rr.String(), "\t", " "))
			}
		}
		return lines
	}

	got := all("cluster.local.", 0)
	const soa = "cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30"
	if got[0] != soa || got[len(got)-1] != soa {
		t.Errorf("does not begin and end with the SOA record:\n%s", strings.Join(got, "\n"))
	}
	body := got[1 : len(got)-1]
	sort.Strings(body)
	cart := short(ask(t, k, "cart.shop.svc.cluster.local.", dns.TypeA))
	if cart != "192.0.2.99" {
		t.Errorf("the hosts entry for cart gets %s", cart)
	}
	body = slices.DeleteFunc(body, func(line string) bool { return strings.Contains(line, "cart.") })
	want := []string{
		"10-244-1-9.web.shop.svc.cluster.local. 30 IN A 10.244.1.9",
		"10-244-1-9.web.shop.svc.cluster.local. 30 IN SRV 0 100 8080 10-244-1-9.web.shop.svc.cluster.local.",
		"_http._tcp.web.shop.svc.cluster.local. 30 IN A 10.96.7.10",
		"_http._tcp.web.shop.svc.cluster.local. 30 IN AAAA fd00:96::7:10",
		"_http._tcp.web.shop.svc.cluster.local. 30 IN SRV 0 50 80 web.shop.svc.cluster.local.",
		"_pg._tcp.db.shop.svc.cluster.local. 30 IN A 10.244.1.5",
		"_pg._tcp.db.shop.svc.cluster.local. 30 IN A 10.244.1.6",
		"_pg._tcp.db.shop.svc.cluster.local. 30 IN SRV 0 50 5432 db-0.db.shop.svc.cluster.local.",
		"_pg._tcp.db.shop.svc.cluster.local. 30 IN SRV 0 50 5432 db-1.db.shop.svc.cluster.local.",
		"cluster.local. 30 IN NS ns.dns.cluster.local.",
		"db-0.db.shop.svc.cluster.local. 30 IN A 10.244.1.5",
		"db-0.db.shop.svc.cluster.local. 30 IN SRV 0 100 5432 db-0.db.shop.svc.cluster.local.",
		"db-1.db.shop.svc.cluster.local. 30 IN A 10.244.1.6",
		"db-1.db.shop.svc.cluster.local. 30 IN SRV 0 100 5432 db-1.db.shop.svc.cluster.local.",
		"db.shop.svc.cluster.local. 30 IN A 10.244.1.5",
		"db.shop.svc.cluster.local. 30 IN A 10.244.1.6",
		"db.shop.svc.cluster.local. 30 IN SRV 0 50 5432 db-0.db.shop.svc.cluster.local.",
		"db.shop.svc.cluster.local. 30 IN SRV 0 50 5432 db-1.db.shop.svc.cluster.local.",
		"dns-version.cluster.local. 28800 IN TXT \"1.1.0\"",
		"docs.shop.svc.cluster.local. 30 IN CNAME www.example.org.",
		"ns.dns.cluster.local. 30 IN A 192.0.2.53",
		"ns.dns.cluster.local. 30 IN AAAA 2001:db8::53",
		"web.shop.svc.cluster.local. 30 IN A 10.96.7.10",
		"web.shop.svc.cluster.local. 30 IN AAAA fd00:96::7:10",
		"web.shop.svc.cluster.local. 30 IN SRV 0 50 80 web.shop.svc.cluster.local.",
	}
	if !slices.Equal(body, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(body, "\n"), strings.Join(want, "\n"))
	}

	reverse := all("in-addr.arpa.", 0)
	for _, want := range []string{
		"10.7.96.10.in-addr.arpa. 30 IN PTR web.shop.svc.cluster.local.",
		"5.1.244.10.in-addr.arpa. 30 IN PTR db-0.db.shop.svc.cluster.local.",
	} {
		if !slices.Contains(reverse, want) {
			t.Errorf("the reverse zone lacks %s:\n%s", want, strings.Join(reverse, "\n"))
		}
	}
	if got := all("cluster.local.", k.block.View().Latest().Now()); len(got) != 1 {
		t.Errorf("an up-to-date serial gets %d records, want the SOA record", len(got))
	}
	if _, err := k.Transfer("shop.svc.cluster.local.", 0); err != transfer.ErrNotAuthoritative {
		t.Errorf("not a zone: %v", err)
	}
}

func TestZonal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "zonal.yaml")
	save(t, path, `apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: pg, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: pg, port: 5432}]
endpoints:
- {addresses: [10.244.1.5], zone: eu-1}
- {addresses: [10.244.1.6], zone: eu-2}
`)
	on := serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local {\n manifests %s\n zonal\n}", path))
	off := serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local {\n manifests %s\n}", path))
	for name, want := range map[string]string{
		"EU-2.pin._zone.db.shop.svc.cluster.local.":    "10.244.1.6",
		"eu-3.pin._zone.db.shop.svc.cluster.local.":    "NODATA",
		"eu-3.prefer._zone.db.shop.svc.cluster.local.": "10.244.1.5, 10.244.1.6",
		"db.shop.svc.cluster.local.":                   "10.244.1.5, 10.244.1.6",
	} {
		if got := short(ask(t, on, name, dns.TypeA)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if got := short(ask(t, off, "eu-2.pin._zone.db.shop.svc.cluster.local.", dns.TypeA)); got != "NXDOMAIN" {
		t.Errorf("without the option: %s", got)
	}
}
