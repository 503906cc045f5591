package kubehosts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/growth"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// serve starts the plugin with a stanza in the server block key, until the test ends.
func serve(t testing.TB, key, text string) *Kubehosts {
	t.Helper()
	c := caddy.NewTestController("dns", text)
	config, err := stanza.Parse(&c.Dispenser, []string{key})
	if err != nil {
		t.Fatal(err)
	}
	k := &Kubehosts{upstream: upstream.New(), block: live.New(config, live.ServerBlock{Keys: []string{key}}), patience: config.StartupTimeout}
	k.Next = test.NextHandler(dns.RcodeRefused, nil)
	if err := k.block.Start("", []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.block.Stop)
	k.waitForObjects()
	return k
}

// ask returns the reply to a question, nil if it went to the next plugin.
func ask(t testing.TB, k *Kubehosts, name string, qtype uint16) *dns.Msg {
	t.Helper()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	rcode, err := k.ServeDNS(context.Background(), w, new(dns.Msg).SetQuestion(name, qtype))
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	if w.Msg == nil && rcode != dns.RcodeRefused {
		t.Fatalf("%s %s: no reply, and rcode %d", name, dns.TypeToString[qtype], rcode)
	}
	return w.Msg
}

// metric returns the value of the metric of that name, without the common prefix, with a label that has
// that value.
func metric(t testing.TB, name, label string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "coredns_kubehosts_"+name && slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == label }) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// series returns the number of series of the metric of that name.
func series(t testing.TB, name string) int {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "coredns_kubehosts_"+name {
			return len(f.Metric)
		}
	}
	return 0
}

// short returns the data of the answer section in one line. Without an answer section it returns NODATA, NXDOMAIN and
// so on, or "next" for the next plugin.
func short(m *dns.Msg) string {
	switch {
	case m == nil:
		return "next"
	case m.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[m.Rcode]
	case len(m.Answer) == 0:
		return "NODATA"
	}
	var all []string
	for _, rr := range m.Answer {
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(all, ", ")
}

// within waits until got returns want.
func within(t testing.TB, what, want string, got func() string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for last := ""; ; {
		if last = got(); last == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %q, want %q", what, last, want)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func save(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const example = `kubehosts cluster.local in-addr.arpa ip6.arpa {
	manifests ../build/example/shop.yaml
	pods insecure
	ttl 30
	hosts ../build/example/corp.hosts {
		2001:db8::10 registry.corp.example
		192.0.2.99 cart.shop.svc.cluster.local
		ttl 60
	}
}`

func TestServeDNS(t *testing.T) {
	k := serve(t, "dns://.:53", example)
	const soa = "cluster.local.	30	IN	SOA	ns.dns.cluster.local. hostmaster.cluster.local. 0 7200 1800 86400 30"
	denied := []dns.RR{test.SOA(soa)}
	for _, tc := range []test.Case{
		{Qname: "web.shop.svc.cluster.local.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("web.shop.svc.cluster.local. 30 IN A 10.96.7.10")}},
		{Qname: "WeB.shop.svc.Cluster.LOCAL.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("WeB.shop.svc.Cluster.LOCAL. 30 IN A 10.96.7.10")}},
		{Qname: "web.shop.svc.cluster.local.", Qtype: dns.TypeAAAA, Answer: []dns.RR{test.AAAA("web.shop.svc.cluster.local. 30 IN AAAA fd00:96::7:10")}},
		{Qname: "web.shop.svc.cluster.local.", Qtype: dns.TypeMX, Ns: denied},
		{Qname: "web.shop.svc.cluster.local.", Qtype: dns.TypeCNAME, Ns: denied},
		{Qname: "web.shop.svc.cluster.local.", Qtype: dns.TypeTXT, Ns: denied},
		{Qname: "web.shop.svc.cluster.local.", Qtype: dns.TypeSOA, Ns: denied},
		{Qname: "web.shop.svc.cluster.local.", Qtype: dns.TypePTR, Ns: denied},
		{
			Qname: "_http._tcp.web.shop.svc.cluster.local.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("_http._tcp.web.shop.svc.cluster.local. 30 IN SRV 0 50 80 web.shop.svc.cluster.local.")},
			Extra: []dns.RR{
				test.A("web.shop.svc.cluster.local. 30 IN A 10.96.7.10"),
				test.AAAA("web.shop.svc.cluster.local. 30 IN AAAA fd00:96::7:10"),
			},
		},
		{
			Qname: "web.shop.svc.CLUSTER.local.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("web.shop.svc.CLUSTER.local. 30 IN SRV 0 50 80 web.shop.svc.CLUSTER.local.")},
			Extra: []dns.RR{
				test.A("web.shop.svc.CLUSTER.local. 30 IN A 10.96.7.10"),
				test.AAAA("web.shop.svc.CLUSTER.local. 30 IN AAAA fd00:96::7:10"),
			},
		},
		{
			Qname: "db.shop.svc.cluster.local.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{
				test.SRV("db.shop.svc.cluster.local. 30 IN SRV 0 50 5432 db-0.db.shop.svc.cluster.local."),
				test.SRV("db.shop.svc.cluster.local. 30 IN SRV 0 50 5432 db-1.db.shop.svc.cluster.local."),
			},
			Extra: []dns.RR{
				test.A("db-0.db.shop.svc.cluster.local. 30 IN A 10.244.1.5"),
				test.A("db-1.db.shop.svc.cluster.local. 30 IN A 10.244.1.6"),
			},
		},
		{
			Qname: "db.shop.svc.cluster.local.", Qtype: dns.TypeA,
			Answer: []dns.RR{
				test.A("db.shop.svc.cluster.local. 30 IN A 10.244.1.5"),
				test.A("db.shop.svc.cluster.local. 30 IN A 10.244.1.6"),
			},
		},
		{Qname: "db.shop.svc.cluster.local.", Qtype: dns.TypeAAAA, Ns: denied},
		{Qname: "db-2.db.shop.svc.cluster.local.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: denied},
		{Qname: "docs.shop.svc.cluster.local.", Qtype: dns.TypeCNAME, Answer: []dns.RR{test.CNAME("docs.shop.svc.cluster.local. 30 IN CNAME www.example.org.")}},
		{Qname: "no.shop.svc.cluster.local.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: denied},
		{Qname: "no.shop.svc.cluster.local.", Qtype: dns.TypeSOA, Rcode: dns.RcodeNameError, Ns: denied},
		{Qname: "_tcp.web.shop.svc.cluster.local.", Qtype: dns.TypeA, Ns: denied},
		{Qname: "shop.svc.cluster.local.", Qtype: dns.TypeTXT, Ns: denied},
		{Qname: "cluster.local.", Qtype: dns.TypeSOA, Answer: denied},
		{Qname: "cluster.local.", Qtype: dns.TypeA, Ns: denied},
		{Qname: "cluster.local.", Qtype: dns.TypeTXT, Ns: denied},
		{
			Qname: "cluster.local.", Qtype: dns.TypeNS,
			Answer: []dns.RR{test.NS("cluster.local. 30 IN NS ns.dns.cluster.local.")},
			Extra: []dns.RR{
				test.A("ns.dns.cluster.local. 30 IN A 192.0.2.53"),
				test.AAAA("ns.dns.cluster.local. 30 IN AAAA 2001:db8::53"),
			},
		},
		{Qname: "ns.dns.cluster.local.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("ns.dns.cluster.local. 30 IN A 192.0.2.53")}},
		{Qname: "ns.dns.cluster.local.", Qtype: dns.TypeTXT, Ns: denied},
		{Qname: "dns.cluster.local.", Qtype: dns.TypeA, Ns: denied},
		{Qname: "dns-version.cluster.local.", Qtype: dns.TypeTXT, Answer: []dns.RR{test.TXT(`dns-version.cluster.local. 28800 IN TXT "1.1.0"`)}},
		{Qname: "dns-version.cluster.local.", Qtype: dns.TypeA, Ns: denied},
		{Qname: "10-1-2-3.shop.pod.cluster.local.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("10-1-2-3.shop.pod.cluster.local. 30 IN A 10.1.2.3")}},
		{Qname: "10-1-2-3.shop.pod.cluster.local.", Qtype: dns.TypeSRV, Ns: denied},
		{Qname: "10.7.96.10.in-addr.arpa.", Qtype: dns.TypePTR, Answer: []dns.RR{test.PTR("10.7.96.10.in-addr.arpa. 30 IN PTR web.shop.svc.cluster.local.")}},
		{
			Qname: "10.7.96.10.in-addr.arpa.", Qtype: dns.TypeA,
			Ns: []dns.RR{test.SOA("in-addr.arpa.	30	IN	SOA	ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 0 7200 1800 86400 30")},
		},
		{Qname: "5.1.244.10.in-addr.arpa.", Qtype: dns.TypePTR, Answer: []dns.RR{test.PTR("5.1.244.10.in-addr.arpa. 30 IN PTR db-0.db.shop.svc.cluster.local.")}},
		{
			Qname: "9.9.9.10.in-addr.arpa.", Qtype: dns.TypePTR, Rcode: dns.RcodeNameError,
			Ns: []dns.RR{test.SOA("in-addr.arpa.	30	IN	SOA	ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 0 7200 1800 86400 30")},
		},
		{Qname: "registry.corp.example.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("registry.corp.example. 60 IN A 192.0.2.10")}},
		{Qname: "registry.corp.example.", Qtype: dns.TypeAAAA, Answer: []dns.RR{test.AAAA("registry.corp.example. 60 IN AAAA 2001:db8::10")}},
		{Qname: "registry.corp.example.", Qtype: dns.TypeTXT},
		{Qname: "x.apps.corp.example.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("x.apps.corp.example. 60 IN A 192.0.2.20")}},
		{Qname: "x.apps.corp.example.", Qtype: dns.TypeAAAA},
		{
			Qname: "10.2.0.192.in-addr.arpa.", Qtype: dns.TypePTR,
			Answer: []dns.RR{
				test.PTR("10.2.0.192.in-addr.arpa. 60 IN PTR registry."),
				test.PTR("10.2.0.192.in-addr.arpa. 60 IN PTR registry.corp.example."),
			},
		},
		{Qname: "cart.shop.svc.cluster.local.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("cart.shop.svc.cluster.local. 60 IN A 192.0.2.99")}},
	} {
		m := ask(t, k, tc.Qname, tc.Qtype)
		if m == nil {
			t.Errorf("%s %s went to the next plugin", tc.Qname, dns.TypeToString[tc.Qtype])
			continue
		}
		for _, rr := range append(m.Answer, m.Ns...) {
			if soa, ok := rr.(*dns.SOA); ok {
				if soa.Serial == 0 {
					t.Errorf("%s: serial 0", tc.Qname)
				}
				soa.Serial = 0
			}
		}
		if !m.Authoritative || !m.Response || m.Question[0].Name != tc.Qname {
			t.Errorf("%s %s: header is %v", tc.Qname, dns.TypeToString[tc.Qtype], m.MsgHdr)
		}
		if err := test.SortAndCheck(m, tc); err != nil {
			t.Errorf("%s %s: %v\n%v", tc.Qname, dns.TypeToString[tc.Qtype], err, m)
		}
		if _, err := m.Pack(); err != nil {
			t.Errorf("%s %s: %v", tc.Qname, dns.TypeToString[tc.Qtype], err)
		}
	}
	for _, name := range []string{"example.org.", "corp.example.", "a.b.apps.corp.example.", "local.", "xcluster.local.", `x\.cluster.local.`} {
		if m := ask(t, k, name, dns.TypeA); m != nil {
			t.Errorf("%s: want the next plugin, got %v", name, m)
		}
	}
	for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
		if m := ask(t, k, "cluster.local.", qtype); m != nil {
			t.Errorf("%s: want REFUSED, got %v", dns.TypeToString[qtype], m)
		}
	}
}

func TestFallthrough(t *testing.T) {
	k := serve(t, "dns://.:53", `kubehosts cluster.local in-addr.arpa {
		manifests ../build/example/shop.yaml
		fallthrough in-addr.arpa
	}`)
	for name, want := range map[string]string{
		"9.9.9.10.in-addr.arpa.":     "next",
		"10.7.96.10.in-addr.arpa.":   "web.shop.svc.cluster.local.",
		"no.shop.svc.cluster.local.": "NXDOMAIN",
	} {
		if got := short(ask(t, k, name, dns.TypePTR)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestRepliesShareNothing changes all of a reply and asks again.
func TestRepliesShareNothing(t *testing.T) {
	k := serve(t, "dns://.:53", example)
	for _, q := range []struct {
		name  string
		qtype uint16
	}{
		{"web.shop.svc.cluster.local.", dns.TypeA},
		{"web.shop.svc.cluster.local.", dns.TypeAAAA},
		{"web.shop.svc.cluster.local.", dns.TypeMX},
		{"db.shop.svc.cluster.local.", dns.TypeA},
		{"db.shop.svc.cluster.local.", dns.TypeSRV},
		{"cluster.local.", dns.TypeNS},
		{"10.7.96.10.in-addr.arpa.", dns.TypePTR},
		{"registry.corp.example.", dns.TypeA},
		{"10.2.0.192.in-addr.arpa.", dns.TypePTR},
	} {
		m := ask(t, k, q.name, q.qtype)
		before := m.Copy()
		for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			for i, rr := range section {
				rr.Header().Name, rr.Header().Ttl = "changed.", 1
				switch rr := rr.(type) {
				case *dns.A:
					rr.A[3]++
				case *dns.AAAA:
					rr.AAAA[15]++
				}
				section[i] = nil
			}
		}
		after := ask(t, k, q.name, q.qtype)
		after.Id = before.Id
		if before.String() != after.String() {
			t.Errorf("%s %s: a reply changed with another:\n%v\n%v", q.name, dns.TypeToString[q.qtype], before, after)
		}
	}
}

// TestAllocations counts what an answer costs in allocations: the message and its slab of records.
func TestAllocations(t *testing.T) {
	k := serve(t, "dns://.:53", example)
	checkAllocations(t, k, []cost{
		{"web.shop.svc.cluster.local.", dns.TypeA, 4},
		{"web.shop.svc.cluster.local.", dns.TypeTXT, 4},
		{"no.shop.svc.cluster.local.", dns.TypeA, 4},
		{"10.7.96.10.in-addr.arpa.", dns.TypePTR, 4},
		{"_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, 6},
		{"db.shop.svc.cluster.local.", dns.TypeA, 6},
		{"db.shop.svc.cluster.local.", dns.TypeSRV, 6},
		{"registry.corp.example.", dns.TypeA, 4},
	})
}

// cost is a question and how many allocations its answer may take.
type cost struct {
	name  string
	qtype uint16
	most  float64
}

// checkAllocations counts the allocations of ServeDNS.
func checkAllocations(t *testing.T, k *Kubehosts, all []cost) {
	t.Helper()
	for _, c := range all {
		r := new(dns.Msg).SetQuestion(c.name, c.qtype)
		w := &test.ResponseWriter{}
		got := growth.Allocations(200, c.most, func() {
			if _, err := k.ServeDNS(context.Background(), w, r); err != nil {
				t.Error(err)
			}
		})
		if got > c.most {
			t.Errorf("%s %s: %v allocations, want at most %v", c.name, dns.TypeToString[c.qtype], got, c.most)
		}
	}
}

// TestHostsOnly serves hosts lines without any cluster.
func TestHostsOnly(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.hosts"), filepath.Join(dir, "two.hosts")
	save(t, one, "192.0.2.1 one.example host.example\n192.0.2.9 1.2.0.192.in-addr.arpa\n")
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s %s {\n reload 0s\n }\n hosts %s/*.list {\n ttl 7\n no_reverse\n }\n}", one, two, dir))
	if !k.Ready() {
		t.Error("not ready, with nothing to wait for")
	}
	get := func(name string, qtype uint16) func() string {
		return func() string { return short(ask(t, k, name, qtype)) }
	}
	within(t, "a file", "192.0.2.1", get("one.example.", dns.TypeA))
	within(t, "no such name", "next", get("two.example.", dns.TypeA))
	within(t, "a reverse name", "one.example., host.example.", get("1.2.0.192.in-addr.arpa.", dns.TypePTR))
	within(t, "a reverse name that a line holds", "192.0.2.9", get("1.2.0.192.in-addr.arpa.", dns.TypeA))

	save(t, filepath.Join(dir, "b.list"), "192.0.2.2 list.example one.example\n")
	within(t, "a file that a glob finds", "192.0.2.2", get("list.example.", dns.TypeA))
	within(t, "two files", "192.0.2.1, 192.0.2.2", get("one.example.", dns.TypeA))
	within(t, "no_reverse", "next", get("2.2.0.192.in-addr.arpa.", dns.TypePTR))
	if m := ask(t, k, "one.example.", dns.TypeA); m.Answer[0].Header().Ttl != 7 || m.Answer[1].Header().Ttl != 7 {
		t.Errorf("an RRset of two TTLs: %v", m)
	}
	if err := os.Remove(filepath.Join(dir, "b.list")); err != nil {
		t.Fatal(err)
	}
	within(t, "a file of a glob that is gone", "next", get("list.example.", dns.TypeA))
}

// An exact name hides the wildcards that cover it, whatever file or option they are in.
func TestExactHidesWildcard(t *testing.T) {
	dir := t.TempDir()
	save(t, filepath.Join(dir, "one.hosts"), "192.0.2.10 *.w.example\nfd00::1 *.w.example\n")
	save(t, filepath.Join(dir, "two.hosts"), "192.0.2.11 a.w.example\n192.0.2.12 *.w.example\n")
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s/*.hosts\n hosts {\n fd00::2 b.w.example\n }\n}", dir))
	for _, tc := range []test.Case{
		{Qname: "a.w.example.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("a.w.example. 3600 IN A 192.0.2.11")}},
		{Qname: "a.w.example.", Qtype: dns.TypeAAAA},
		{Qname: "b.w.example.", Qtype: dns.TypeA},
		{Qname: "b.w.example.", Qtype: dns.TypeAAAA, Answer: []dns.RR{test.AAAA("b.w.example. 3600 IN AAAA fd00::2")}},
		{Qname: "c.w.example.", Qtype: dns.TypeA, Answer: []dns.RR{
			test.A("c.w.example. 3600 IN A 192.0.2.10"), test.A("c.w.example. 3600 IN A 192.0.2.12"),
		}},
	} {
		m := ask(t, k, tc.Qname, tc.Qtype)
		if m == nil {
			t.Fatalf("%s: it went to the next plugin", tc.Qname)
		}
		if err := test.SortAndCheck(m, tc); err != nil {
			t.Errorf("%s %s: %v", tc.Qname, dns.TypeToString[tc.Qtype], err)
		}
	}
}

// Of many files, which are merged for look-ups, each may change, appear and vanish, and has figures of its own.
func TestManyHostsFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%03d.hosts", i)) }
	for i := range 50 {
		save(t, file(i), fmt.Sprintf("192.0.2.%d n%d.example all.example\n", i, i))
	}
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s/*.hosts\n}", dir))
	get := func(name string, qtype uint16) func() string {
		return func() string { return short(ask(t, k, name, qtype)) }
	}
	if n := len(ask(t, k, "all.example.", dns.TypeA).Answer); n != 50 {
		t.Errorf("%d addresses, want 50", n)
	}
	within(t, "PTR", "n31.example., all.example.", get("31.2.0.192.in-addr.arpa.", dns.TypePTR))
	save(t, file(31), "192.0.2.131 n31.example all.example other.example\n")
	within(t, "a changed file", "192.0.2.131", get("n31.example.", dns.TypeA))
	within(t, "an address that is gone", "next", get("31.2.0.192.in-addr.arpa.", dns.TypePTR))
	save(t, file(50), "192.0.2.200 new.example\n")
	within(t, "another file", "192.0.2.200", get("new.example.", dns.TypeA))
	if err := os.Remove(file(7)); err != nil {
		t.Fatal(err)
	}
	within(t, "a file that is gone", "next", get("n7.example.", dns.TypeA))
	for i, want := range map[int]float64{8: 4, 31: 6, 50: 2} {
		if got := metric(t, "hosts_entries", file(i)); got != want {
			t.Errorf("file %d has %v entries, want %v", i, got, want)
		}
	}
}

// TestMoreThanAMessageHolds queries a name with more addresses, and an address with more names, than fit
// into a message.
func TestMoreThanAMessageHolds(t *testing.T) {
	dir := t.TempDir()
	var lines, slices strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&lines, "10.1.%d.%d many.example\n192.0.2.1 n%d.example\n", i>>8, i&255, i)
		fmt.Fprintf(&slices, "- {addresses: [10.2.%d.%d]}\n", i>>8, i&255)
	}
	save(t, filepath.Join(dir, "hosts"), lines.String())
	save(t, filepath.Join(dir, "many.yaml"), `apiVersion: v1
kind: Service
metadata: {name: many, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: many-1, namespace: shop, labels: {kubernetes.io/service-name: many}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
`+slices.String())
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local {\n manifests %s/many.yaml\n hosts %s/hosts\n}", dir, dir))
	for name, qtype := range map[string]uint16{
		"many.example.":                           dns.TypeA,
		"1.2.0.192.in-addr.arpa.":                 dns.TypePTR,
		"many.shop.svc.cluster.local.":            dns.TypeA,
		"_http._tcp.many.shop.svc.cluster.local.": dns.TypeSRV,
	} {
		m := ask(t, k, name, qtype)
		if len(m.Answer) != answer.MaxRecords {
			t.Errorf("%s: %d records, want %d", name, len(m.Answer), answer.MaxRecords)
		}
		m.Truncate(dns.MaxMsgSize)
		if !m.Truncated {
			t.Errorf("%s: the records fit a message", name)
		}
	}
}

func TestHostsFileFollowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts")
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s\n}", path))
	get := func() string { return short(ask(t, k, "one.example.", dns.TypeA)) }
	within(t, "no file", "next", get)
	save(t, path, "192.0.2.1 one.example\n")
	within(t, "the file appears", "192.0.2.1", get)
	save(t, path, "192.0.2.2 one.example\n")
	within(t, "the file changes", "192.0.2.2", get)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	save(t, filepath.Join(dir, "new"), "192.0.2.3 one.example\n")
	if got := get(); got != "192.0.2.2" {
		t.Errorf("the file is gone: got %s, want the last good", got)
	}
	if err := os.Rename(filepath.Join(dir, "new"), path); err != nil {
		t.Fatal(err)
	}
	within(t, "the file is back", "192.0.2.3", get)
}

// A file that is too large changes nothing.
func TestHostsFileTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	save(t, path, "192.0.2.1 one.example\n")
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s\n}", path))
	rejected := func() string { return fmt.Sprint(metric(t, "hosts_rejected_total", path)) }
	save(t, path+"~", "")
	if err := errors.Join(os.Truncate(path+"~", hosts.MaxSize+1), os.Rename(path+"~", path)); err != nil { // it takes no space
		t.Fatal(err)
	}
	within(t, "the file grows", "1", rejected)
	if got := short(ask(t, k, "one.example.", dns.TypeA)); got != "192.0.2.1" {
		t.Errorf("got %s, want the last good", got)
	}
	save(t, path, "192.0.2.2 one.example\n")
	within(t, "the file shrinks", "192.0.2.2", func() string { return short(ask(t, k, "one.example.", dns.TypeA)) })
}

// A file that the Corefile names is followed wherever links lead, as by the stock plugin. A file that a
// pattern matches is not.
func TestHostsLinks(t *testing.T) {
	dir := t.TempDir()
	volume := filepath.Join(dir, "volume")
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	save(t, filepath.Join(dir, "secret"), "192.0.2.1 one.example\n")
	save(t, filepath.Join(volume, "own"), "192.0.2.2 two.example\n")
	for link, target := range map[string]string{"out": "../secret", "in": "own", "away": filepath.Join(dir, "secret")} {
		if err := os.Symlink(target, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string]string{"out": "192.0.2.1", "away": "192.0.2.1", "o*": "next", "*": "next", "i*": "next"} {
		k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s\n}", filepath.Join(volume, pattern)))
		if got := short(ask(t, k, "one.example.", dns.TypeA)); got != want {
			t.Errorf("%s: %s, want %s", pattern, got, want)
		}
		wantOwn := "192.0.2.2"
		if want != "next" {
			wantOwn = "next"
		}
		if got := short(ask(t, k, "two.example.", dns.TypeA)); got != wantOwn {
			t.Errorf("%s: of the volume's own file %s, want %s", pattern, got, wantOwn)
		}
	}
}

// TestKubeletSwap changes a mounted ConfigMap as the kubelet does: a new folder, and one rename of the link to it.
func TestKubeletSwap(t *testing.T) {
	dir := t.TempDir()
	swap := func(version, addr string) {
		t.Helper()
		data := filepath.Join(dir, ".."+version)
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		save(t, filepath.Join(data, "corp.hosts"), addr+" one.example\n")
		tmp := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(".."+version, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("2026_1", "192.0.2.1")
	path := filepath.Join(dir, "corp.hosts")
	if err := os.Symlink("..data/corp.hosts", path); err != nil {
		t.Fatal(err)
	}
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s {\n reload 1h\n }\n}", path))
	get := func() string { return short(ask(t, k, "one.example.", dns.TypeA)) }
	within(t, "the mounted file", "192.0.2.1", get)
	for i := 2; i < 6; i++ {
		addr := fmt.Sprint("192.0.2.", i)
		swap(fmt.Sprint("2026_", i), addr)
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprint("..2026_", i-1))); err != nil {
			t.Fatal(err)
		}
		within(t, "the swapped file", addr, get)
	}
}

const configMap = `apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system, resourceVersion: "%d"}
data:
  Corefile: |
%s`

func indent(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n" }

func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	cm, hosts := filepath.Join(dir, "cm.yaml"), filepath.Join(dir, "corp.hosts")
	save(t, hosts, "192.0.2.1 file.example\n")
	k := serve(t, "dns://.:53", fmt.Sprintf(`kubehosts cluster.local {
		manifests ../build/example/shop.yaml %s
		configmap kube-system/coredns
		hosts %s {
			192.0.2.2 inline.example
		}
	}`, cm, hosts))
	get := func(name string) func() string {
		return func() string { return short(ask(t, k, name, dns.TypeA)) }
	}
	within(t, "no ConfigMap", "192.0.2.2", get("inline.example."))
	if !k.Ready() {
		t.Error("not ready without the ConfigMap")
	}

	n := 0
	put := func(text string) {
		n++
		save(t, cm, fmt.Sprintf(configMap, n, indent(text)))
	}
	put("kubehosts {\n ttl 9\n hosts {\n 192.0.2.3 inline.example\n }\n}")
	within(t, "a bare stanza", "192.0.2.3", get("inline.example."))
	within(t, "the Corefile's file stays", "192.0.2.1", get("file.example."))
	if m := ask(t, k, "web.shop.svc.cluster.local.", dns.TypeA); len(m.Answer) != 1 || m.Answer[0].Header().Ttl != 9 {
		t.Errorf("ttl of the ConfigMap: %v", m)
	}

	put("other.example {\n whoami\n}\n. {\n kubehosts cluster.local {\n hosts {\n 192.0.2.4 inline.example\n }\n }\n cache\n}")
	within(t, "a whole Corefile", "192.0.2.4", get("inline.example."))

	before := metric(t, "stanza_rejected_total", "dns://.:53")
	for i, tc := range []struct{ text, reason string }{
		{"kubehosts {\n ttl x\n}", ":2"},
		{"kubehosts {\n endpoint https://192.0.2.66\n}", "endpoint"},
		{"kubehosts {\n hosts /etc/passwd\n}", "/etc/passwd"},
		{"kubehosts example.org {\n}", "example.org"},
		{"kubehosts {\n configmap other\n}", "configmap"},
		{"kubehosts {", ""},
		{"whoami", ""},
		{"", ""},
	} {
		put(tc.text)
		within(t, tc.text, fmt.Sprint(before+float64(i+1)), func() string {
			return fmt.Sprint(metric(t, "stanza_rejected_total", "dns://.:53"))
		})
		if refused := k.block.Refused(); !strings.Contains(refused, tc.reason) {
			t.Errorf("%q is refused with %q, which does not contain %q", tc.text, refused, tc.reason)
		}
		if got := get("inline.example.")(); got != "192.0.2.4" {
			t.Errorf("after %q: %s", tc.text, got)
		}
	}
	if got := metric(t, "stanza_rejected", "dns://.:53"); got != 1 {
		t.Errorf("stanza_rejected is %v while the ConfigMap is wrong", got)
	}

	put("kubehosts cluster.local {\n pods verified\n endpoint_pod_names\n hosts {\n 192.0.2.5 inline.example\n }\n}")
	within(t, "other objects", "192.0.2.5", get("inline.example."))
	within(t, "and the Services", "10.96.7.10", get("web.shop.svc.cluster.local."))
	if err := os.Remove(cm); err != nil {
		t.Fatal(err)
	}
	within(t, "the ConfigMap is deleted", fmt.Sprint(before+9), func() string {
		return fmt.Sprint(metric(t, "stanza_rejected_total", "dns://.:53"))
	})
	if got := get("inline.example.")(); got != "192.0.2.5" {
		t.Errorf("after the ConfigMap was deleted: %s", got)
	}
	if got := series(t, "stanza_info"); got != 1 {
		t.Errorf("%d stanzas in stanza_info, want 1", got)
	}
	k.block.Stop()
	if got := series(t, "stanza_info"); got != 0 {
		t.Errorf("%d stanzas in stanza_info after the end, want none", got)
	}
}

// TestExternalName follows aliases inside the zone, and to a hosts entry.
func TestExternalName(t *testing.T) {
	dir := t.TempDir()
	var yaml strings.Builder
	alias := func(name, target string) {
		fmt.Fprintf(&yaml, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {type: ExternalName, externalName: %s}\n", name, target)
	}
	yaml.WriteString("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.7.10, ports: [{port: 80}]}\n")
	alias("a", "web.shop.svc.cluster.local")
	alias("b", "a.shop.svc.cluster.local")
	alias("self", "self.shop.svc.cluster.local")
	alias("ping", "pong.shop.svc.cluster.local")
	alias("pong", "ping.shop.svc.cluster.local")
	alias("held", "held.shop.svc.cluster.local")
	alias("far", "far.shop.svc.cluster.local")
	alias("tohosts", "entry.shop.svc.cluster.local")
	alias("server", "ns.dns.cluster.local")
	save(t, filepath.Join(dir, "a.yaml"), yaml.String())
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local {\n manifests %s/a.yaml\n hosts {\n 192.0.2.7 entry.shop.svc.cluster.local\n }\n}", dir))
	k.block.View().Local = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	for name, want := range map[string]string{
		"server":  "ns.dns.cluster.local., 192.0.2.53",
		"a":       "web.shop.svc.cluster.local., 10.96.7.10",
		"b":       "a.shop.svc.cluster.local., web.shop.svc.cluster.local., 10.96.7.10",
		"self":    "SERVFAIL",
		"ping":    "SERVFAIL",
		"tohosts": "entry.shop.svc.cluster.local., 192.0.2.7",
	} {
		if got := short(ask(t, k, name+".shop.svc.cluster.local.", dns.TypeA)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestStopped queries a server that was told to end. It answers until its sockets are closed, for as long as the
// lameduck of the health plugin.
func TestStopped(t *testing.T) {
	k := serve(t, "dns://.:53", example)
	names := []string{"web.shop.svc.cluster.local.", "db.shop.svc.cluster.local.", "registry.corp.example.", "docs.shop.svc.cluster.local."}
	var before []string
	for _, name := range names {
		before = append(before, short(ask(t, k, name, dns.TypeA)))
	}
	k.block.Stop()
	for i, name := range names {
		if got := short(ask(t, k, name, dns.TypeA)); got != before[i] {
			t.Errorf("%s: %s, and before %s", name, got, before[i])
		}
	}
}

var _ plugin.Handler = (*Kubehosts)(nil)

// The log has the zones for which the server block is authoritative, and what answers for other
// names.
func TestAuthority(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"kubehosts cluster.local in-addr.arpa", "authoritative for cluster.local. in-addr.arpa. (Services); the next plugin answers for other names"},
		{"kubehosts cluster.local { hosts }", "authoritative for cluster.local. (Services); hosts entries answer for other names, else the next plugin does"},
		{"kubehosts cluster.local 10.0.0.0/9", "8.10.in-addr.arpa. and 119 more (Services); the next plugin"},
		{"kubehosts", "authoritative for corp.example. (Services); the next plugin answers"},
		{"kubehosts { hosts }", "authoritative for no zone; hosts entries answer for other names, else the next plugin does; " +
			"the stanza has only hosts options: to serve Services too, write their zones after kubehosts"},
		{"kubehosts {\nhosts\nnoservices\n}", "authoritative for no zone; hosts entries answer for other names, else the next plugin does"},
		{"kubehosts cluster.local {\nexternal example.org example.net\n}", "authoritative for cluster.local. (Services) and example.org. example.net. (external names); the next plugin answers for other names"},
		{"kubehosts {\nnoservices\nexternal example.org\n}", "authoritative for example.org. (external names); the next plugin answers for other names"},
		{"kubehosts { noservices }", "authoritative for no zone; the next plugin answers for other names"},
	} {
		c := caddy.NewTestController("dns", tt.text)
		config, err := stanza.Parse(&c.Dispenser, []string{"dns://corp.example.:53"})
		if err != nil {
			t.Fatal(err)
		}
		got := authority(config, "dns://corp.example.:53")
		if !strings.HasPrefix(got, "dns://corp.example.:53 is authoritative for ") || !strings.Contains(got, tt.want) ||
			strings.Contains(got, "alone") != strings.Contains(tt.want, "alone") {
			t.Errorf("%s: %s, want %s", tt.text, got, tt.want)
		}
	}
}
