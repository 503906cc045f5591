package answer

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// A hosts wildcard answers only for names that do not exist (RFC 4592, section 2.2.2): neither for one with a name
// below it, in whatever file, nor for that of an object or a zone.
func TestWildcardAndExistingNames(t *testing.T) {
	tables := func(text string) *Tables {
		table, err := hosts.Parse(strings.NewReader(text), hosts.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return NewTables(table)
	}
	wild := tables(`192.0.2.1 *.w.example *.cluster.local *.svc.cluster.local *.shop.svc.cluster.local *.web.shop.svc.cluster.local
192.0.2.1 *.sub.cluster.local *.local *.shop.pod.cluster.local *.dns.cluster.local *.deep.example *.10.in-addr.arpa *.2.0.192.in-addr.arpa
192.0.2.1 *.e.test *.ext.test
`)
	other := tables("192.0.2.2 x.b.w.example x.y.c.w.example *.star.w.example a.cluster.local own.w.example x.corp.cluster.local 1.1.96.10.in-addr.arpa\n10.9.8.7 pointed.example\n")
	v := New(&View{
		Zones: []Zone{
			{Name: "cluster.local."}, {Name: "sub.cluster.local."}, {Name: "low.er.cluster.local."}, {Name: "zone.of.deep.example."},
			{Name: "in-addr.arpa.", Reverse: true},
		},
		Pointed: ".svc.cluster.local.", Options: services.Options{Namespaces: services.NamesOf("shop"), Pods: services.PodsVerified},
		Index: whyIndex(), Hosts: []Layer{{Tables: wild, TTL: 1}, {Tables: other, TTL: 2}},
	})
	const covered, next, nodata, nxdomain = "192.0.2.1", "next", "NODATA", "NXDOMAIN"
	for name, want := range map[string]string{
		// outside the zones
		"a.w.example.": covered, "*.w.example.": covered, "w.example.": next, "own.w.example.": "192.0.2.2",
		"b.w.example.": next, "c.w.example.": next, "star.w.example.": next, // names exist below
		"y.c.w.example.": next, "q.b.w.example.": next, // a wildcard covers one label
		"x.star.w.example.": "192.0.2.2", `b\.w.w.example.`: covered,
		"of.deep.example.": next, "other.deep.example.": covered, // a zone is below

		// in a zone
		"a.cluster.local.": "192.0.2.2", "b.cluster.local.": covered, "corp.cluster.local.": nodata, "q.corp.cluster.local.": nxdomain,
		"svc.cluster.local.": nodata, "pod.cluster.local.": nodata, "dns.cluster.local.": nodata, "dns-version.cluster.local.": nodata,
		"x.dns.cluster.local.": covered, "ns.dns.cluster.local.": nodata,
		"shop.svc.cluster.local.": nodata, "none.svc.cluster.local.": covered, "hidden.svc.cluster.local.": covered,
		"web.shop.svc.cluster.local.": "10.96.7.10", "db.shop.svc.cluster.local.": "10.244.1.5", "none.shop.svc.cluster.local.": covered,
		"idle.shop.svc.cluster.local.":      covered, // a headless Service without endpoints has no name
		"web-0.web.shop.svc.cluster.local.": "10.244.1.5", "_tcp.web.shop.svc.cluster.local.": nodata, "none.web.shop.svc.cluster.local.": covered,
		"10-244-1-9.shop.pod.cluster.local.": "10.244.1.9", "10-244-1-8.shop.pod.cluster.local.": covered,

		// at the zones' own names, and between two
		"cluster.local.": nodata, "sub.cluster.local.": nodata, "er.cluster.local.": nodata, "low.er.cluster.local.": nodata,
		"a.sub.cluster.local.": covered, "svc.sub.cluster.local.": nodata,

		// reverse names
		"96.10.in-addr.arpa.": nodata, "97.10.in-addr.arpa.": covered, "9.10.in-addr.arpa.": nodata,
		"1.2.0.192.in-addr.arpa.": covered, "2.2.0.192.in-addr.arpa.": nodata, "7.8.9.10.in-addr.arpa.": nodata,
	} {
		a := v.Answer(NewQuestion(name, dns.TypeA, dns.ClassINET))
		got := nodata
		switch {
		case a.Outcome == NotOurs:
			got = next
		case a.Rcode == dns.RcodeNameError:
			got = nxdomain
		case a.Kind == Addresses:
			var all []string
			for ip := range a.Addrs {
				all = append(all, ip.String())
			}
			got = strings.Join(all, " ")
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if want == covered && name[0] != '*' != a.OfWildcard() {
			t.Errorf("%s is of a wildcard: %v", name, a.OfWildcard())
		}
	}
}

// Until all objects were read, a wildcard answers for no name that an object may have: a resolver would cache that.
func TestWildcardBeforeObjectsAreRead(t *testing.T) {
	table, err := hosts.Parse(strings.NewReader("192.0.2.1 *.cluster.local *.shop.svc.cluster.local *.w.example\n"), hosts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := New(&View{Zones: []Zone{{Name: "cluster.local."}}, Index: services.NewIndex(), Hosts: []Layer{{Tables: NewTables(table)}}})
	for name, rcode := range map[string]int{
		"web.shop.svc.cluster.local.": dns.RcodeServerFailure, "any.cluster.local.": dns.RcodeSuccess, "a.w.example.": dns.RcodeSuccess,
	} {
		a := v.Answer(NewQuestion(name, dns.TypeA, dns.ClassINET))
		if a.Rcode != rcode || a.NotReady != (rcode != dns.RcodeSuccess) || a.OfWildcard() != (rcode == dns.RcodeSuccess) {
			t.Errorf("%s: rcode %d, not ready: %v", name, a.Rcode, a.NotReady)
		}
	}
}
