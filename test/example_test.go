package test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// The example that `make run` serves answers the content of its files, and serves each saved change at
// once.
func TestExample(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "example")
	if err := os.CopyFS(dir, os.DirFS("../build/example")); err != nil {
		t.Fatal(err)
	}
	corefile := strings.NewReplacer(".:1053", ".:PORT", "build/example", dir).Replace(cluster.ReadFile(t, "../corefile.example"))
	c := cluster.Launch(t, coredns(t), corefile)
	c.WaitServing(t)
	clients := map[string]*cluster.Client{"udp": cluster.Dial(t, "udp", c.Addr), "tcp": cluster.Dial(t, "tcp", c.Addr)}
	await := func(q question) time.Duration {
		t.Helper()
		start := time.Now()
		for network, client := range clients {
			cluster.Eventually(t, bound, func() (bool, string) {
				got := q.ask(client)
				return got == q.want, fmt.Sprintf("%s: %v: got\n%s\nwant\n%s", network, q, got, q.want)
			})
		}
		return time.Since(start)
	}
	const soa = "\nauthority: cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 30"
	for _, q := range []question{
		{"web.shop", "A", "web.shop.svc.cluster.local. 30 IN A 10.96.7.10"},
		{"web.shop", "AAAA", "web.shop.svc.cluster.local. 30 IN AAAA fd00:96::7:10"},
		{"_http._tcp.web.shop", "SRV", "_http._tcp.web.shop.svc.cluster.local. 30 IN SRV 0 50 80 web.shop.svc.cluster.local.\n" +
			"additional: web.shop.svc.cluster.local. 30 IN A 10.96.7.10\nadditional: web.shop.svc.cluster.local. 30 IN AAAA fd00:96::7:10"},
		{"10.96.7.10", "PTR", "10.7.96.10.in-addr.arpa. 30 IN PTR web.shop.svc.cluster.local."},
		{"db.shop", "A", "db.shop.svc.cluster.local. 30 IN A 10.244.1.5\ndb.shop.svc.cluster.local. 30 IN A 10.244.1.6"},
		{"db-0.db.shop", "A", "db-0.db.shop.svc.cluster.local. 30 IN A 10.244.1.5"},
		{"db-1.db.shop", "A", "db-1.db.shop.svc.cluster.local. 30 IN A 10.244.1.6"},
		{"db-2.db.shop", "A", "NXDOMAIN aa" + soa},
		{"docs.shop", "CNAME", "docs.shop.svc.cluster.local. 30 IN CNAME www.example.org."},
		{"www.shop.example.", "A", "www.shop.example. 60 IN A 192.0.2.40"},
		{"any.apps.shop.example.", "A", "any.apps.shop.example. 60 IN A 192.0.2.41"},
		{"registry.corp.example.", "A", "registry.corp.example. 60 IN A 192.0.2.10"},
		{"any.apps.corp.example.", "A", "any.apps.corp.example. 60 IN A 192.0.2.20"},
		{"live.corp.example.", "A", "live.corp.example. 3600 IN A 192.0.2.30"},
	} {
		await(q)
	}
	given, err := address(clients["udp"], "cart.shop.svc.cluster.local.")
	if addr, bad := netip.ParseAddr(given); bad != nil || !netip.MustParsePrefix("10.96.0.0/16").Contains(addr) {
		t.Errorf("the Service without a clusterIP has the address %q, want one in 10.96.0.0/16: %v", given, err)
	}

	for _, edit := range []struct {
		file, old, new string
		want           question
	}{
		{"coredns.yaml", "192.0.2.30", "192.0.2.31", question{"live.corp.example.", "A", "live.corp.example. 3600 IN A 192.0.2.31"}},
		{"corp.hosts", "192.0.2.10 ", "192.0.2.11 ", question{"registry.corp.example.", "A", "registry.corp.example. 60 IN A 192.0.2.11"}},
		{"shop.yaml", "clusterIP: 10.96.7.10\n  clusterIPs: [10.96.7.10", "clusterIP: 10.96.7.13\n  clusterIPs: [10.96.7.13",
			question{"web.shop", "A", "web.shop.svc.cluster.local. 30 IN A 10.96.7.13"}},
		{"outside.yaml", "value: 192.0.2.41", "value: 192.0.2.42", question{"any.apps.shop.example.", "A", "any.apps.shop.example. 60 IN A 192.0.2.42"}},
		{"shop.yaml", "conditions: {ready: false}", "conditions: {ready: true}", question{"db-2.db.shop", "A", "db-2.db.shop.svc.cluster.local. 30 IN A 10.244.1.7"}},
	} {
		path := filepath.Join(dir, edit.file)
		before := cluster.ReadFile(t, path)
		if !strings.Contains(before, edit.old) {
			t.Fatalf("%s has no %q", edit.file, edit.old)
		}
		cluster.WriteFile(t, path, strings.Replace(before, edit.old, edit.new, 1))
		t.Logf("%s: %v is answered %v after it was saved", edit.file, edit.want, await(edit.want).Round(time.Millisecond))
	}

	// A broken file changes nothing, and a removed file removes its objects.
	shopFile := filepath.Join(dir, "shop.yaml")
	good := cluster.ReadFile(t, shopFile)
	cluster.WriteFile(t, shopFile, strings.Replace(good, "kind: Service\n", "kind: [Service\n", 1))
	cluster.Eventually(t, bound, func() (bool, string) {
		return strings.Contains(c.Log(), "shop.yaml"), "a word on the broken shop.yaml"
	})
	await(question{"web.shop", "A", "web.shop.svc.cluster.local. 30 IN A 10.96.7.13"})
	if err := os.Remove(shopFile); err != nil {
		t.Fatal(err)
	}
	await(question{"web.shop", "A", "NXDOMAIN aa" + soa})
	if err := os.WriteFile(shopFile, []byte(good), 0o644); err != nil { // in place, as some editors do
		t.Fatal(err)
	}
	await(question{"web.shop", "A", "web.shop.svc.cluster.local. 30 IN A 10.96.7.13"})
	if again, err := address(clients["udp"], "cart.shop.svc.cluster.local."); again != given {
		t.Errorf("the address that was given changed from %s to %s: %v", given, again, err)
	}
	if m, err := clients["tcp"].Ask("nobody.example.", dns.TypeA); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a name that nobody has: %v, %v", m, err)
	}
}
