package kubehosts

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// world is the plugin behind kubehosts, with names on the Internet.
type world struct{ asked int }

func (*world) Name() string { return "world" }

func (n *world) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	n.asked++
	m := new(dns.Msg)
	m.SetReply(r)
	q := r.Question[0]
	soa := test.SOA("example. 60 IN SOA ns.example. host.example. 1 2 3 4 60")
	switch {
	case q.Name == "www.example." && q.Qtype == dns.TypeA:
		m.Answer = []dns.RR{test.A("www.example. 60 IN A 192.0.2.80")}
	case q.Name == "www.example." && q.Qtype == dns.TypeTXT:
		m.Answer = []dns.RR{test.TXT(`www.example. 60 IN TXT "hello"`)}
	case q.Name == "www.example.":
		m.Ns = []dns.RR{soa}
	case q.Name == "broken.example.":
		m.Rcode = dns.RcodeServerFailure
	case q.Name == "refused.example.":
		m.Rcode = dns.RcodeRefused
	case q.Name == "cut.example.":
		m.Truncated = true
		m.Answer = []dns.RR{test.A("cut.example. 60 IN A 192.0.2.81")}
	case q.Name == "www.inner.cluster.local.":
		m.Answer = []dns.RR{test.A("www.inner.cluster.local. 60 IN A 192.0.2.83")}
	case q.Name == "beyond.t.svc.fall.local.":
		m.Answer = []dns.RR{test.A("beyond.t.svc.fall.local. 60 IN A 192.0.2.82")}
	default:
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// serveWorld starts a server with kubehosts in front of the world, and returns a function that queries it. A
// server block for inner.cluster.local has only the world.
func serveWorld(t *testing.T, k *Kubehosts) (*world, func(name string, qtype uint16) *dns.Msg) {
	t.Helper()
	outside := new(world)
	k.Next = outside
	block := func(zone string, h plugin.Handler) *dnsserver.Config {
		config := &dnsserver.Config{Zone: zone, Transport: "dns", ListenHosts: []string{"127.0.0.1"}, Port: "53", Debug: true}
		config.AddPlugin(func(plugin.Handler) plugin.Handler { return h })
		return config
	}
	server, err := dnsserver.NewServer("dns://127.0.0.1:53", []*dnsserver.Config{block(".", k), block("inner.cluster.local.", outside)})
	if err != nil {
		t.Fatal(err)
	}
	return outside, func(name string, qtype uint16) *dns.Msg {
		w := dnstest.NewRecorder(&test.ResponseWriter{})
		ctx := context.WithValue(context.Background(), dnsserver.Key{}, server)
		server.ServeDNS(ctx, w, new(dns.Msg).SetQuestion(name, qtype))
		return w.Msg
	}
}

// aliases returns ExternalName Services in namespace t, by name.
func aliases(t *testing.T, targets map[string]string) (manifest string) {
	t.Helper()
	var yaml strings.Builder
	yaml.WriteString("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: t}\nspec: {clusterIP: 10.96.7.10, ports: [{port: 80}]}\n")
	for name, target := range targets {
		fmt.Fprintf(&yaml, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: t}\nspec: {type: ExternalName, externalName: %s}\n", name, target)
	}
	manifest = filepath.Join(t.TempDir(), "aliases.yaml")
	save(t, manifest, yaml.String())
	return manifest
}

// The rcode and the authority are those of the end of a chain of aliases (RFC 6604; RFC 2308, section 2.1).
func TestEndOfAlias(t *testing.T) {
	manifest := aliases(t, map[string]string{
		"www": "www.example", "broken": "broken.example", "refused": "refused.example", "none": "none.example", "cut": "cut.example",
		"inner": "web.t.svc.cluster.local", "gone": "missing.t.svc.cluster.local", "twice": "www.t.svc.cluster.local",
		"other": "web.t.svc.fall.local", "over": "beyond.t.svc.fall.local", "entry": "entry.cluster.local",
		"block": "www.inner.cluster.local", "lost": "lost.inner.cluster.local",
	})
	k := serve(t, "dns://.:53", fmt.Sprintf(`kubehosts cluster.local fall.local {
		manifests %s
		hosts {
			192.0.2.7 entry.cluster.local
		}
		fallthrough fall.local
	}`, manifest))
	_, ask := serveWorld(t, k)
	for _, tc := range []struct {
		name      string
		qtype     uint16
		want      string
		authority string
	}{
		{"www", dns.TypeA, "NOERROR CNAME www.example. A 192.0.2.80", ""},
		{"www", dns.TypeTXT, `NOERROR CNAME www.example. TXT "hello"`, ""},
		{"www", dns.TypeMX, "NOERROR CNAME www.example.", "example."},
		{"www", dns.TypeCNAME, "NOERROR CNAME www.example.", ""},
		{"www", dns.TypeANY, "NOERROR CNAME www.example.", ""},
		{"broken", dns.TypeA, "SERVFAIL", ""},
		{"refused", dns.TypeA, "SERVFAIL", ""},
		{"none", dns.TypeA, "NXDOMAIN CNAME none.example.", "example."},
		{"cut", dns.TypeA, "NOERROR TC CNAME cut.example. A 192.0.2.81", ""},
		{"inner", dns.TypeA, "NOERROR CNAME web.t.svc.cluster.local. A 10.96.7.10", ""},
		{"inner", dns.TypeAAAA, "NOERROR CNAME web.t.svc.cluster.local.", "cluster.local."},
		{"inner", dns.TypeSRV, "NOERROR CNAME web.t.svc.cluster.local. SRV 0 100 80 web.t.svc.cluster.local.", ""},
		{"gone", dns.TypeA, "NXDOMAIN CNAME missing.t.svc.cluster.local.", "cluster.local."},
		{"gone", dns.TypeTXT, "NXDOMAIN CNAME missing.t.svc.cluster.local.", "cluster.local."},
		{"twice", dns.TypeA, "NOERROR CNAME www.t.svc.cluster.local. CNAME www.example. A 192.0.2.80", ""},
		{"other", dns.TypeA, "NOERROR CNAME web.t.svc.fall.local. A 10.96.7.10", ""},
		{"over", dns.TypeA, "NOERROR CNAME beyond.t.svc.fall.local. A 192.0.2.82", ""},
		{"entry", dns.TypeA, "NOERROR CNAME entry.cluster.local. A 192.0.2.7", ""},
		{"entry", dns.TypeAAAA, "NOERROR CNAME entry.cluster.local.", "cluster.local."},
		{"block", dns.TypeA, "NOERROR CNAME www.inner.cluster.local. A 192.0.2.83", ""},
		{"lost", dns.TypeA, "NXDOMAIN CNAME lost.inner.cluster.local.", "example."},
	} {
		m := ask(tc.name+".t.svc.cluster.local.", tc.qtype)
		what := tc.name + " " + dns.TypeToString[tc.qtype]
		got := dns.RcodeToString[m.Rcode]
		if m.Truncated {
			got += " TC"
		}
		for _, rr := range m.Answer {
			got += " " + dns.TypeToString[rr.Header().Rrtype] + " " + strings.TrimPrefix(rr.String(), rr.Header().String())
		}
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", what, got, tc.want)
		}
		authority := ""
		for _, rr := range m.Ns {
			authority += rr.Header().Name
		}
		if authority != tc.authority && m.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: the authority section has %q, want %q", what, authority, tc.authority)
		}
	}
	// In the zone that falls through, the chain ends with the next plugin's records.
	if m := ask("beyond.t.svc.fall.local.", dns.TypeA); len(m.Answer) == 0 {
		t.Errorf("beyond.t.svc.fall.local.: %v", m)
	}
}

// Aliases that lead from zone to zone, and back, end in SERVFAIL after a bounded number of look-ups.
func TestAliasesThatLeaveTheZone(t *testing.T) {
	manifest := aliases(t, map[string]string{
		"foo": "bar.t.svc.b.local", "bar": "foo.t.svc.a.local",
		"one": "two.t.svc.b.local", "two": "three.t.svc.a.local", "three": "www.example",
	})
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts a.local b.local {\n manifests %s\n}", manifest))
	outside, ask := serveWorld(t, k)
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeSRV} {
		if m := ask("foo.t.svc.a.local.", qtype); short(m) != "SERVFAIL" {
			t.Errorf("a loop of two zones, %s: %v", dns.TypeToString[qtype], m)
		}
	}
	if outside.asked != 0 {
		t.Errorf("the loop queried the world %d times", outside.asked)
	}
	if m := ask("one.t.svc.a.local.", dns.TypeA); !strings.HasSuffix(short(m), "www.example., 192.0.2.80") {
		t.Errorf("a chain over three zones: %v", m)
	}
	if m := ask("web.t.svc.a.local.", dns.TypeA); short(m) != "10.96.7.10" {
		t.Errorf("after the loops: %v", m)
	}
}
