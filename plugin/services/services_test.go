package services

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubehosts/kubehosts/plugin/growth"
	"github.com/kubehosts/kubehosts/plugin/serial"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ips(all ...string) (list []netip.Addr) {
	for _, s := range all {
		list = append(list, ip(s))
	}
	return list
}

var http80 = []Port{{Name: "http", Protocol: "TCP", Number: 80}}

// shop is a small cluster.
func shop() *Index {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		for _, ns := range []string{"shop", "empty", "other"} {
			tx.SetNamespace(ns)
		}
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "web", ClusterIPs: ips("10.96.7.10", "fd00:96::7:10"), Ports: http80}))
		tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: "web-1", Service: "web", Ports: http80, Endpoints: []Endpoint{{Addrs: ips("10.244.1.9")}}}))
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "db", Headless: true, Ports: []Port{{"pg", "TCP", 5432}}}))
		tx.SetSlice(NewSlice(SliceSpec{
			Namespace: "shop", Name: "db-1", Service: "db", Ports: []Port{{"pg", "TCP", 5432}, {"metrics", "TCP", 9187}},
			Endpoints: []Endpoint{{Addrs: ips("10.244.1.5"), Name: "db-0", Zone: "eu.example-A"}, {Addrs: ips("10.244.1.6"), Name: "db-1", Zone: "b"}, {Addrs: ips("10.244.1.7")}},
		}))
		tx.SetSlice(NewSlice(SliceSpec{
			Namespace: "shop", Name: "db-2", Service: "db", Ports: []Port{{"pg", "TCP", 5432}},
			Endpoints: []Endpoint{{Addrs: ips("fd00:10::5"), Name: "db-0"}, {Addrs: ips("fd00:10::")}},
		}))
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "bare", ClusterIPs: ips("10.96.7.11"), Ports: []Port{{Number: -1}}}))
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "docs", External: true, ExternalName: "www.example.org"}))
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "raw", External: true, ExternalName: "192.0.2.1"}))
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "idle", Headless: true, Ports: http80}))
		tx.SetService(NewService(ServiceSpec{Namespace: "nowhere", Name: "web", ClusterIPs: ips("10.96.7.12"), Ports: http80}))
		tx.SetService(NewService(ServiceSpec{Namespace: "other", Name: "web", ClusterIPs: ips("10.96.7.13"), Ports: http80}))
		tx.SetPod(NewPod(PodSpec{Namespace: "shop", Name: "p", IPs: ips("10.244.1.5", "fd00:10::5")}))
		tx.SetListed(AllKinds)
	})
	return ix
}

// describe returns all answers for a name, in one line.
func describe(s *State, base string, o *Options) string { return describeAs(s, base, o, Zonal) }

func describeAs(s *State, base string, o *Options, g Grammar) string {
	n := ParseName(base, g)
	m := s.Lookup(&n, o)
	switch m.Outcome {
	case NameError:
		return "none"
	case NoData:
		return "empty"
	case Alias:
		return "alias " + m.Service().ExternalName()
	}
	var all []string
	n4, n6 := m.Count()
	pairs := 0
	for e := range m.Members {
		if e.Addr.Is4() {
			n4--
		} else {
			n6--
		}
		line := e.Addr.String()
		if m.Outcome == OfEndpoints {
			line += "=" + string(e.AppendLabel(nil))
		}
		if m.Outcome != OfPod {
			for p := m.Ports(e); p.Next(); {
				pairs++
				line += fmt.Sprint(":", p.Number())
			}
		}
		all = append(all, line)
	}
	sort.Strings(all)
	if n4 != 0 || n6 != 0 || pairs != m.Pairs() {
		return fmt.Sprintf("counts are off by %d, %d; %d pairs, want %d", n4, n6, m.Pairs(), pairs)
	}
	return strings.Join(all, " ")
}

func TestLookup(t *testing.T) {
	s := shop().State()
	for _, tc := range []struct {
		name string
		o    Options
		want string
	}{
		{name: "", want: "empty"},
		{name: "svc", want: "empty"},
		{name: "pod", want: "empty"},
		{name: "nothing", want: "none"},
		{name: "shop.svc", want: "empty"},
		{name: "empty.svc", want: "empty"},
		{name: "nowhere.svc", want: "none"},
		{name: "web.nowhere.svc", want: "none"},
		{name: "web.empty.svc", want: "none"},
		{name: "web.shop.svc", want: "10.96.7.10:80 fd00:96::7:10:80"},
		{name: "_http._tcp.web.shop.svc", want: "10.96.7.10:80 fd00:96::7:10:80"},
		{name: "http.tcp.web.shop.svc", want: "10.96.7.10:80 fd00:96::7:10:80"},
		{name: "_http._udp.web.shop.svc", want: "none"},
		{name: "_tcp.web.shop.svc", want: "empty"},
		{name: "_udp.web.shop.svc", want: "none"},
		{name: "_.web.shop.svc", want: "none"},
		{name: "a._http._tcp.web.shop.svc", want: "none"},
		{name: `a\.b.shop.svc`, want: "none"},
		{name: `_http\._tcp.web.shop.svc`, want: "none"},
		{name: "10-244-1-9.web.shop.svc", want: "10.244.1.9=10-244-1-9:80"},
		{name: "10-244-1-09.web.shop.svc", want: "none"},
		{name: "bare.shop.svc", want: "10.96.7.11:0"},
		{name: "docs.shop.svc", want: "alias www.example.org."},
		{name: "x.docs.shop.svc", want: "none"},
		{name: "raw.shop.svc", want: "none"},
		{name: "idle.shop.svc", want: "none"},
		{name: "db.shop.svc", want: "10.244.1.5=db-0:5432:9187 10.244.1.6=db-1:5432:9187 10.244.1.7=10-244-1-7:5432:9187 fd00:10::5=db-0:5432 fd00:10::=fd00-10--0:5432"},
		{name: "_metrics._tcp.db.shop.svc", want: "10.244.1.5=db-0:9187 10.244.1.6=db-1:9187 10.244.1.7=10-244-1-7:9187"},
		{name: "_tcp.db.shop.svc", want: "empty"},
		{name: "db-0.db.shop.svc", want: "10.244.1.5=db-0:5432:9187 fd00:10::5=db-0:5432"},
		{name: "db-2.db.shop.svc", want: "none"},
		{name: "10-244-1-5.db.shop.svc", want: "none"},
		{name: "10-244-1-7.db.shop.svc", want: "10.244.1.7=10-244-1-7:5432:9187"},
		{name: "fd00-10--0.db.shop.svc", want: "fd00:10::=fd00-10--0:5432"},
		{name: "fd00-10--.db.shop.svc", want: "none"},
		{name: "eu.example-a.pin._zone.db.shop.svc", want: "10.244.1.5=db-0:5432:9187"},
		{name: "b.prefer._zone.db.shop.svc", want: "10.244.1.6=db-1:5432:9187"},
		{name: "c.pin._zone.db.shop.svc", want: "empty"},
		{name: "c.prefer._zone.idle.shop.svc", want: "empty"},
		{name: "c.pin._zone.web.shop.svc", want: "none"},
		{name: "c.pin._zone.docs.shop.svc", want: "none"},
		{name: "c.near._zone.db.shop.svc", want: "none"},
		{name: "c.prefer._zone.db.shop.svc", want: "10.244.1.5=db-0:5432:9187 10.244.1.6=db-1:5432:9187 10.244.1.7=10-244-1-7:5432:9187 fd00:10::5=db-0:5432 fd00:10::=fd00-10--0:5432"},
		{name: "db.shop.svc", o: Options{NoEndpoints: true}, want: "none"},
		{name: "web.shop.svc", o: Options{NoEndpoints: true}, want: "10.96.7.10:80 fd00:96::7:10:80"},
		{name: "web.shop.svc", o: Options{IgnoreEmptyService: true}, want: "10.96.7.10:80 fd00:96::7:10:80"},
		{name: "bare.shop.svc", o: Options{IgnoreEmptyService: true}, want: "none"},
		{name: "docs.shop.svc", o: Options{IgnoreEmptyService: true}, want: "alias www.example.org."},
		{name: "web.shop.svc", o: Options{Namespaces: NamesOf("other")}, want: "none"},
		{name: "web.other.svc", o: Options{Namespaces: NamesOf("other")}, want: "10.96.7.13:80"},
		{name: "shop.pod", want: "none"},
		{name: "shop.pod", o: Options{Pods: PodsInsecure}, want: "empty"},
		{name: "10-1-2-3.shop.pod", want: "none"},
		{name: "10-1-2-3.shop.pod", o: Options{Pods: PodsInsecure}, want: "10.1.2.3"},
		{name: "10-1-2-3.nowhere.pod", o: Options{Pods: PodsInsecure}, want: "none"},
		{name: "10-1-2-300.shop.pod", o: Options{Pods: PodsInsecure}, want: "none"},
		{name: "fd00--1.shop.pod", o: Options{Pods: PodsInsecure}, want: "fd00::1"},
		{name: "fd00--1%eth0.shop.pod", o: Options{Pods: PodsInsecure}, want: "none"},
		{name: "10-244-1-5.shop.pod", o: Options{Pods: PodsVerified}, want: "10.244.1.5"},
		{name: "10-244-1-5.other.pod", o: Options{Pods: PodsVerified}, want: "none"},
		{name: "fd00-10--5.shop.pod", o: Options{Pods: PodsVerified}, want: "fd00:10::5"},
		{name: "fd00-10-0-0-0-0-0-5.shop.pod", o: Options{Pods: PodsVerified}, want: "none"},
	} {
		if got := describe(s, tc.name, &tc.o); got != tc.want {
			t.Errorf("%s %+v:\n got %s\nwant %s", tc.name, tc.o, got, tc.want)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	s := shop().State()
	o := Options{Pods: PodsVerified}
	for _, base := range []string{
		"web.shop.svc", "_http._tcp.web.shop.svc", "db.shop.svc", "none.shop.svc", "db-0.db.shop.svc", "10-244-1-7.db.shop.svc", "fd00-10--0.db.shop.svc",
		"not-an-address.db.shop.svc", "10-244-1-5.shop.pod", "10-244-1-8.shop.pod", "b.pin._zone.db.shop.svc",
	} {
		n := growth.Allocations(100, 0, func() {
			n := ParseName(base, Zonal)
			m := s.Lookup(&n, &o)
			sum := 0
			for e := range m.Members {
				sum += e.Addr.BitLen()
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, want none", base, n)
		}
	}
}

func TestImported(t *testing.T) {
	ix := shop()
	ix.Update(func(tx *Tx) {
		in := tx.Imported()
		in.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "db", Headless: true, Ports: http80}))
		in.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "api", ClusterIPs: ips("242.1.1.1"), Ports: http80}))
		for i, cluster := range []string{"east", "west"} {
			in.SetSlice(NewSlice(SliceSpec{
				Namespace: "shop", Name: cluster, Service: "db", Cluster: cluster, Ports: http80,
				Endpoints: []Endpoint{{Addrs: ips(fmt.Sprintf("10.%d.0.1", i)), Name: "db-0"}, {Addrs: ips(fmt.Sprintf("10.%d.0.2", i))}},
			}))
		}
	})
	o := Options{}
	for name, want := range map[string]string{
		"api.shop.svc":              "242.1.1.1:80",
		"_http._tcp.api.shop.svc":   "242.1.1.1:80",
		"db.shop.svc":               "10.0.0.1=db-0.east:80 10.0.0.2=10-0-0-2.east:80 10.1.0.1=db-0.west:80 10.1.0.2=10-1-0-2.west:80",
		"db-0.west.db.shop.svc":     "10.1.0.1=db-0.west:80",
		"10-0-0-2.east.db.shop.svc": "10.0.0.2=10-0-0-2.east:80",
		"10-0-0-2.west.db.shop.svc": "none",
		"db-0.db.shop.svc":          "none",
		"west.db.shop.svc":          "empty",
		"web.shop.svc":              "none",
		"a.pin._zone.db.shop.svc":   "none",
		"_http._tcp.db.shop.svc":    "10.0.0.1=db-0.east:80 10.0.0.2=10-0-0-2.east:80 10.1.0.1=db-0.west:80 10.1.0.2=10-1-0-2.west:80",
		"_tcp.db.shop.svc":          "empty",
		"x.db-0.west.db.shop.svc":   "none",
	} {
		if got := describeAs(ix.State(), name, &o, Multicluster|Zonal); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	ix.Update(func(tx *Tx) { tx.Imported().DeleteSlice("shop", "east"); tx.Imported().ReplaceServices(nil) })
	if got := describeAs(ix.State(), "db.shop.svc", &o, Multicluster); got != "none" {
		t.Errorf("after the imports were deleted: %s", got)
	}
	if got := describe(ix.State(), "db-0.db.shop.svc", &o); got != "10.244.1.5=db-0:5432:9187 fd00:10::5=db-0:5432" {
		t.Errorf("the Service of this cluster: %s", got)
	}
}

func TestPointers(t *testing.T) {
	s := shop().State()
	for _, tc := range []struct {
		addr string
		o    Options
		want []string
	}{
		{addr: "10.96.7.10", want: []string{"web.shop.svc"}},
		{addr: "fd00:96::7:10", want: []string{"web.shop.svc"}},
		{addr: "10.244.1.5", want: []string{"db-0.db.shop.svc"}},
		{addr: "10.244.1.7", want: []string{"10-244-1-7.db.shop.svc"}},
		{addr: "fd00:10::", want: []string{"fd00-10--0.db.shop.svc"}},
		{addr: "10.96.7.12", want: []string{"web.nowhere.svc"}},
		{addr: "10.96.7.12", o: Options{Namespaces: NamesOf("shop")}},
		{addr: "10.244.1.5", o: Options{NoEndpoints: true}},
		{addr: "192.0.2.1"},
	} {
		var got []string
		s.Pointers(ip(tc.addr), &tc.o, func(p Pointer) bool { got = append(got, string(p.AppendTo(nil, ".svc"))); return true })
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s %+v: got %v, want %v", tc.addr, tc.o, got, tc.want)
		}
	}
}

func TestParseReverse(t *testing.T) {
	for name, want := range map[string]string{
		"10.7.96.10.in-addr.arpa.":   "10.96.7.10",
		"7.96.10.in-addr.arpa.":      "",
		"1.10.7.96.10.in-addr.arpa.": "",
		"010.7.96.10.in-addr.arpa.":  "",
		"256.7.96.10.in-addr.arpa.":  "",
		"1000.7.96.10.in-addr.arpa.": "",
		"10.7.96.256.in-addr.arpa.":  "",
		"10.7.96.00.in-addr.arpa.":   "",
		"0.255.0.255.in-addr.arpa.":  "255.0.255.0",
		"10.7..10.in-addr.arpa.":     "",
		".7.96.10.in-addr.arpa.":     "",
		"10.7.96.in-addr.arpa.":      "",
		"10.7.96..in-addr.arpa.":     "",
		"10.7.9a.10.in-addr.arpa.":   "",
		"in-addr.arpa.":              "",
		"0.1.0.0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.":           "",
		"0.1.0.0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.":   "fd00:96::7:10",
		"x.1.0.0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.":   "",
		"1.0.1.0.0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.": "",
		"1.0.0.0.4.4.2.0.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.":   "",
		"10.7.96.10.xin-addr.arpa.":   "",
		"web.shop.svc.cluster.local.": "",
	} {
		a, ok := ParseReverse(name)
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("%s: got %v %v, want %q", name, a, ok, want)
		}
	}
}

func TestParseReversePrefix(t *testing.T) {
	for name, want := range map[string]string{
		"in-addr.arpa.":              "0.0.0.0/0",
		"10.in-addr.arpa.":           "10.0.0.0/8",
		"96.10.in-addr.arpa.":        "10.96.0.0/16",
		"7.96.10.in-addr.arpa.":      "10.96.7.0/24",
		"10.7.96.10.in-addr.arpa.":   "",
		"1.10.7.96.10.in-addr.arpa.": "",
		"07.96.10.in-addr.arpa.":     "",
		"256.10.in-addr.arpa.":       "",
		"0010.in-addr.arpa.":         "",
		"x.10.in-addr.arpa.":         "",
		".10.in-addr.arpa.":          "",
		".in-addr.arpa.":             "",
		"96..in-addr.arpa.":          "",
		"x-in-addr.arpa.":            "",
		"0/26.2.0.192.in-addr.arpa.": "",
		"arpa.":                      "",
		"ip6.arpa.":                  "::/0",
		"f.ip6.arpa.":                "f000::/4",
		"0.d.f.ip6.arpa.":            "fd00::/12",
		"9.0.0.0.0.d.f.ip6.arpa.":    "fd00:90::/28",
		"g.ip6.arpa.":                "",
		"df.ip6.arpa.":               "",
		".f.ip6.arpa.":               "",
		"1.0.0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.":     "fd00:96::7:10/124",
		"0.1.0.0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.":   "",
		"1.0.1.0.0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.": "",
	} {
		p, ok := ParseReversePrefix(name)
		if ok != (want != "") || ok && p.String() != want {
			t.Errorf("%s: got %v %v, want %q", name, p, ok, want)
		}
	}
}

// FuzzParseName compares ParseName with a slow split of the name into labels.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"", "svc", "shop.svc", "_http._tcp.web.shop.svc", `a\.b.shop.svc`, `\\.web.shop.svc`, "1-2-3-4.shop.pod", "a.b.c.d.e.svc", "..svc", "-.-.svc"} {
		f.Add(s)
	}
	s, o := shop().State(), Options{Pods: PodsInsecure}
	f.Fuzz(func(t *testing.T, base string) {
		n := ParseName(base, Zonal)
		var labels []string
		last := 0
		for i := 0; i < len(base); i++ {
			switch {
			case base[i] == '\\':
				i++
			case base[i] == '.':
				labels = append(labels, base[last:i])
				last = i + 1
			}
		}
		if base != "" {
			labels = append(labels, base[last:])
		}
		slices.Reverse(labels)
		if slices.Contains(labels, "") { // no name on the wire has an empty label
			describe(s, base, &o)
			return
		}
		if n.Kind == Svc || n.Kind == Pods {
			want := []string{n.Kind.String(), n.Namespace, n.Service}
			for i, label := range labels[:min(3, len(labels))] {
				if want[i] != label {
					t.Errorf("%q: label %d is %q, want %q", base, i, want[i], label)
				}
			}
			if len(labels) == 4 && n.Endpoint != labels[3] {
				t.Errorf("%q: endpoint %q, want %q", base, n.Endpoint, labels[3])
			}
			if len(labels) > 5 && n.Zone == "" {
				t.Errorf("%q: %d labels are too many for %v", base, len(labels), n)
			}
		}
		describe(s, base, &o)
	})
}

// FuzzParsePodLabel compares parsePodLabel with netip's result for the address with its own separators.
func FuzzParsePodLabel(f *testing.F) {
	for _, label := range []string{
		"10-1-2-3", "10-1-2-03", "10-1-2-300", "1-2-3", "1-2-3-4-5", "", "-", "--", "---", "1--", "--1", "1--2--3", "1---2", "-1--2", "1--2-", "fd00--1",
		"1-2-3-4-5-6-7-8", "1-2-3-4-5-6-7-8-9", "1-2-3-4-5-6-7--8", "1-2-3-4-5-6-7--", "--1-2-3-4-5-6-7", "--1-2-3-4-5-6-7-8", "1--2-3-4-5-6-7",
		"--ffff-a01-203", "12345--", "g--", "fe80--1%eth0", "1.2.3.4", "a-b-c-d",
	} {
		f.Add(label)
	}
	f.Fuzz(func(t *testing.T, label string) {
		if strings.ContainsAny(label, ".:%") || label != strings.ToLower(label) {
			return // no label of a query has it
		}
		sep := ":"
		if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
			sep = "."
		}
		want, err := netip.ParseAddr(strings.ReplaceAll(label, "-", sep))
		if got, ok := parsePodLabel(label); ok != (err == nil) || ok && got != want.Unmap() {
			t.Errorf("%q: %v %v, netip has %v %v", label, got, ok, want, err)
		}
	})
}

// TestAnyOrderSameAnswers makes random changes to an index and compares it with one built from the remaining objects.
func TestAnyOrderSameAnswers(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 99))
		ix := NewIndex()
		svcs, eps, nss, pods := map[string]*Service{}, map[string]*Slice{}, map[string]bool{}, map[string]*Pod{}
		for range 400 {
			ix.Update(func(tx *Tx) {
				for range 1 + rnd.IntN(4) {
					change(rnd, tx, svcs, eps, nss, pods)
				}
			})
		}

		fresh := NewIndex()
		fresh.Update(func(tx *Tx) {
			for ns := range nss {
				tx.SetNamespace(ns)
			}
			for _, s := range svcs {
				tx.SetService(s)
			}
			for _, s := range eps {
				tx.SetSlice(s)
			}
			for _, p := range pods {
				tx.SetPod(p)
			}
		})
		compare(t, seed, ix.State(), fresh.State())
		if t.Failed() {
			return
		}

		ix.Update(func(tx *Tx) {
			tx.ReplaceServices(nil)
			tx.ReplaceSlices(nil)
			tx.ReplacePods(nil)
			tx.ReplaceNamespaces(nil)
		})
		if left := held(ix.State()); left != [12]int{} || len(ix.slices) != 0 || len(ix.free) != int(ix.last) {
			t.Fatalf("seed %d: left over: %v, and %d slices; %d of %d numbers are free", seed, left, len(ix.slices), len(ix.free), ix.last)
		}
	}
}

// held returns the number of entries in each part of s.
func held(s *State) [12]int {
	return [...]int{
		s.namespaces.Len(), s.owners.Len(), s.clusterIPs.Len(), s.slices.Len(), s.endpoints4.Len(), s.endpoints6.Len(), s.shared.Len(), s.pods.Len(),
		len(slices.Collect(s.serviceAddrs.v4.All)), len(slices.Collect(s.serviceAddrs.v6.All)), len(slices.Collect(s.endpointAddrs.v4.All)), len(slices.Collect(s.endpointAddrs.v6.All)),
	}
}

func change(rnd *rand.Rand, tx *Tx, svcs map[string]*Service, eps map[string]*Slice, nss map[string]bool, pods map[string]*Pod) {
	ns, name := fmt.Sprint("n", rnd.IntN(3)), fmt.Sprint("s", rnd.IntN(4))
	key := ns + "/" + name
	addr := func() netip.Addr {
		if rnd.IntN(4) == 0 {
			return ip(fmt.Sprintf("fd00::%x", rnd.IntN(12)))
		}
		return ip(fmt.Sprintf("10.0.0.%d", rnd.IntN(12)))
	}
	switch rnd.IntN(12) {
	case 0, 1:
		spec := ServiceSpec{Namespace: ns, Name: name, Ports: http80}
		switch rnd.IntN(3) {
		case 0:
			spec.Headless = true
		case 1:
			spec.External, spec.ExternalName = true, "example.org"
		default:
			spec.ClusterIPs = []netip.Addr{addr(), addr()}
		}
		s := NewService(spec)
		tx.SetService(s)
		svcs[key] = s
	case 2:
		tx.DeleteService(ns, name)
		delete(svcs, key)
	case 3, 4, 5:
		spec := SliceSpec{Namespace: ns, Name: fmt.Sprint("e", rnd.IntN(5)), Service: name, Ports: http80}
		for range rnd.IntN(5) {
			e := Endpoint{Addrs: []netip.Addr{addr()}}
			if rnd.IntN(2) == 0 {
				e.Name = fmt.Sprint("h", rnd.IntN(4))
			}
			spec.Endpoints = append(spec.Endpoints, e)
		}
		s := NewSlice(spec)
		tx.SetSlice(s)
		eps[ns+"/"+spec.Name] = s
	case 6:
		slice := fmt.Sprint("e", rnd.IntN(5))
		tx.DeleteSlice(ns, slice)
		delete(eps, ns+"/"+slice)
	case 7:
		tx.SetNamespace(ns)
		nss[ns] = true
	case 8:
		tx.DeleteNamespace(ns)
		delete(nss, ns)
	case 9:
		p := NewPod(PodSpec{Namespace: ns, Name: name, IPs: []netip.Addr{addr(), addr()}})
		tx.SetPod(p)
		pods[key] = p
	case 10:
		tx.DeletePod(ns, name)
		delete(pods, key)
	case 11:
		replace(rnd, tx, svcs, eps, nss, pods)
	}
}

// replace drops some objects and sets the rest again, as a new list of the API server does.
func replace(rnd *rand.Rand, tx *Tx, svcs map[string]*Service, eps map[string]*Slice, nss map[string]bool, pods map[string]*Pod) {
	switch rnd.IntN(4) {
	case 0:
		tx.ReplaceServices(some(rnd, svcs))
	case 1:
		tx.ReplaceSlices(some(rnd, eps))
	case 2:
		tx.ReplacePods(some(rnd, pods))
	case 3:
		var names []string
		for ns := range nss {
			if rnd.IntN(4) == 0 {
				delete(nss, ns)
				continue
			}
			names = append(names, ns)
		}
		tx.ReplaceNamespaces(names)
	}
}

func some[V any](rnd *rand.Rand, all map[string]V) (left []V) {
	for k, v := range all {
		if rnd.IntN(4) == 0 {
			delete(all, k)
			continue
		}
		left = append(left, v)
	}
	return left
}

func compare(t *testing.T, seed uint64, a, b *State) {
	t.Helper()
	var names []string
	for n := range 3 {
		names = append(names, fmt.Sprintf("n%d.svc", n), fmt.Sprintf("n%d.pod", n))
		for s := range 4 {
			svc := fmt.Sprintf("s%d.n%d.svc", s, n)
			names = append(names, svc, "_http._tcp."+svc)
			for h := range 4 {
				names = append(names, fmt.Sprintf("h%d.%s", h, svc))
			}
			for i := range 12 {
				names = append(names, fmt.Sprintf("10-0-0-%d.%s", i, svc), fmt.Sprintf("fd00--%x.%s", i, svc))
			}
		}
		for i := range 12 {
			names = append(names, fmt.Sprintf("10-0-0-%d.n%d.pod", i, n))
		}
	}
	for _, o := range []Options{{}, {IgnoreEmptyService: true, Pods: PodsVerified}} {
		for _, name := range names {
			x, y := describe(a, name, &o), describe(b, name, &o)
			if x != y {
				t.Errorf("seed %d, %s %+v:\n changed %s\n   fresh %s", seed, name, o, x, y)
			}
			n := ParseName(name, Zonal)
			ma, mb := a.Lookup(&n, &o), b.Lookup(&n, &o)
			if ma.Repeats() != mb.Repeats() {
				t.Errorf("seed %d, %s: repeats %v, fresh %v", seed, name, ma.Repeats(), mb.Repeats())
			}
		}
		for i := range 12 {
			for _, addr := range []string{fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("fd00::%x", i)} {
				var x, y []string
				a.Pointers(ip(addr), &o, func(p Pointer) bool { x = append(x, string(p.AppendTo(nil, ".svc"))); return true })
				b.Pointers(ip(addr), &o, func(p Pointer) bool { y = append(y, string(p.AppendTo(nil, ".svc"))); return true })
				sort.Strings(x)
				sort.Strings(y)
				if !slices.Equal(x, y) {
					t.Errorf("seed %d, %s: changed %v, fresh %v", seed, addr, x, y)
				}
			}
		}
	}
}

func TestImpossibleObjects(t *testing.T) {
	long := strings.Repeat("x", 64)
	if NewService(ServiceSpec{Namespace: "shop", Name: long}) != nil || NewService(ServiceSpec{Namespace: "", Name: "web"}) != nil ||
		NewService(ServiceSpec{Namespace: "shop", Name: "a.b"}) != nil || NewSlice(SliceSpec{Namespace: "shop", Name: "s"}) != nil ||
		NewPod(PodSpec{Namespace: "a/b", Name: "p"}) != nil {
		t.Error("an object that no query can name was packed")
	}

	ix := shop()
	many := make([]Endpoint, 100_000)
	for i := range many {
		many[i] = Endpoint{Addrs: []netip.Addr{netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})}, Name: long}
	}
	ix.Update(func(tx *Tx) {
		tx.SetService(nil)
		tx.SetSlice(nil)
		tx.SetPod(nil)
		tx.ReplacePods([]*Pod{nil})
		tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: "many", Service: "idle", Endpoints: append(many, Endpoint{Addrs: []netip.Addr{{}}})}))
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "far", External: true, ExternalName: long + ".example.org"}))
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "odd", ClusterIPs: []netip.Addr{{}, ip("10.96.7.14")}, Ports: []Port{{long, long, 99999}, {"a", "b", -5}, {long, "c", 7}}}))
	})
	s, o := ix.State(), Options{}
	if got := describe(s, "odd.shop.svc", &o); got != "10.96.7.14:0:0:7" {
		t.Errorf("a Service with odd ports: %s", got)
	}
	if got := describe(s, "_._c.odd.shop.svc", &o) + ", " + describe(s, "_._"+long[1:]+".odd.shop.svc", &o); got != "10.96.7.14:7, none" {
		t.Errorf("ports of odd names: %s", got)
	}
	if got := describe(s, "far.shop.svc", &o); got != "none" {
		t.Errorf("an ExternalName that does not fit into a message: %s", got)
	}
	n := ParseName("idle.shop.svc", 0)
	m := s.Lookup(&n, &o)
	if n4, _ := m.Count(); n4 != len(many) || m.Repeats() {
		t.Errorf("%d addresses, repeats %v", n4, m.Repeats())
	}
	if got := describe(s, "11-1-134-159.idle.shop.svc", &o); got != "11.1.134.159=11-1-134-159:0" {
		t.Errorf("the last of many: %s", got)
	}
	if got := describe(s, "web.shop.svc", &o); got != "10.96.7.10:80 fd00:96::7:10:80" {
		t.Errorf("the others: %s", got)
	}
	zoned := NewSlice(SliceSpec{Namespace: "shop", Name: "z", Service: "idle", Endpoints: []Endpoint{
		{Addrs: ips("10.1.0.1"), Zone: long}, {Addrs: ips("10.1.0.2"), Zone: "West"}, {Addrs: ips("10.1.0.3")},
	}})
	var zones []string
	for _, ep := range zoned.Endpoints {
		zones = append(zones, ep.Zone)
	}
	if !slices.Equal(zones, []string{"", "west", ""}) {
		t.Errorf("zones %q", zones)
	}
}

func TestPutLabel(t *testing.T) {
	for i := range 4 * 256 {
		ip := [4]byte{10, 0, 255, 7}
		ip[i/256] = byte(i)
		buf := [16]byte([]byte("xxxxxxxxxxxxxxxx"))
		got, want := string(buf[PutLabel(&buf, ip):]), strings.ReplaceAll(netip.AddrFrom4(ip).String(), ".", "-")+"."
		if got != want {
			t.Errorf("%v: %s, want %s", ip, got, want)
		}
	}
	if buf := [16]byte{}; PutLabel(&buf, [4]byte{255, 255, 255, 255}) != 0 {
		t.Errorf("the longest label is %q", buf)
	}
}

// A secondary transfers a zone only if its serial has risen, so each change of what was listed raises it, within the
// same second too. A change before that does so at most once, since nobody has seen it, and so does the listing of
// objects.
func TestModified(t *testing.T) {
	ix := NewIndex()
	put := func(n int) {
		ix.Update(func(tx *Tx) {
			tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "s", ClusterIPs: []netip.Addr{ip(fmt.Sprint("10.96.1.", n))}}))
		})
	}
	for n := range 100 {
		put(n)
	}
	begun := ix.State().Modified().Last()
	ix.Update(func(tx *Tx) { tx.SetListed(AllKinds) })
	if now := ix.State().Modified().Last(); now-begun > 2 {
		t.Errorf("a list of 100 objects raised the serial from %d to %d", begun, now)
	}
	// later waits for a later serial than before: after many changes, as of other tests, it begins within a second.
	later := func(before uint32) bool {
		for begun := time.Now(); time.Since(begun) < 10*time.Second; runtime.Gosched() {
			if serial.Before(before, ix.State().Modified().Now()) {
				return true
			}
		}
		return false
	}
	for n := range 10 {
		before := ix.State().Modified().Now()
		put(n)
		if !later(before) {
			t.Errorf("a change made %d of the serial %d", ix.State().Modified().Now(), before)
		}
		before = ix.State().Modified().Last()
		put(n)
		ix.Update(func(tx *Tx) { tx.DeletePod("shop", "none") })
		if now := ix.State().Modified().Last(); now != before {
			t.Errorf("the serial rose from %d to %d without a change", before, now)
		}
	}
}

func TestKnown(t *testing.T) {
	ix := shop()
	spec := SliceSpec{Namespace: "shop", Name: "known", Service: "idle", Endpoints: []Endpoint{{Addrs: []netip.Addr{ip("10.9.9.9")}}}}
	first, again := NewSlice(spec), NewSlice(spec)
	spec.Endpoints[0].Addrs[0] = ip("10.9.9.8")
	other := NewSlice(spec)
	service := NewService(ServiceSpec{Namespace: "shop", Name: "known"})
	ix.Update(func(tx *Tx) { tx.SetSlice(first); tx.SetService(service) })
	storedSlice := func(s *Slice) *byte { return unsafe.StringData(s.packed) }
	if storedSlice(ix.KnownSlice(again)) != storedSlice(first) {
		t.Error("an equal slice is not known")
	}
	if storedSlice(ix.KnownSlice(other)) == storedSlice(first) || *other == *first {
		t.Error("another slice is known")
	}
	stored := func(s *Service) *byte { return unsafe.StringData(s.packed) }
	if same := NewService(ServiceSpec{Namespace: "shop", Name: "known"}); stored(ix.KnownService(same)) != stored(service) {
		t.Error("an equal Service is not known")
	}
	if changed := NewService(ServiceSpec{Namespace: "shop", Name: "known", Headless: true}); !changed.Headless() || stored(ix.KnownService(changed)) == stored(service) {
		t.Error("a changed Service is known")
	}
}

// The target of an ExternalName has the form that it has in a question, whatever its octets. The API server refuses all
// targets that are not hostnames of ASCII, so they come from manifests.
func TestExternalNameOfAnyOctets(t *testing.T) {
	for i := range 256 {
		c := byte(i)
		want, _, err := dns.UnpackDomainName(append([]byte{2, 'x', c}, "\x07example\x00"...), 0)
		if err != nil {
			t.Fatal(err)
		}
		want = strings.ToLower(want)
		written := []string{fmt.Sprintf(`x\%03d.example`, c)}
		if c > ' ' && c != 0x7f && c != '.' && c != '\\' {
			written = append(written, "x"+string([]byte{c})+".example.")
		}
		for _, text := range written {
			if got := NewService(ServiceSpec{Namespace: "shop", Name: "docs", External: true, ExternalName: text}).ExternalName(); got != want {
				t.Errorf("%q leads to %s, but in a question it is %s", text, got, want)
			}
		}
		if refused := validation.IsDNS1123Subdomain("x" + string([]byte{c}) + ".example"); refused == nil && want != "x"+string([]byte{c})+".example." {
			t.Errorf("the API server accepts a target with the octet %d", c)
		}
	}
	for text, want := range map[string]string{
		"": "", ".": "", "192.0.2.1": "", "::1": "", "a b.example": "", "a..b": "", "a\tb": "", strings.Repeat("x", 64): "", strings.Repeat(`\001.`, 80): "",
		"müller.example": "xn--mller-kva.example.", "ü_1.example": `\195\188_1.example.`, "bob's.lan": `bob\'s.lan.`,
	} {
		if got := NewService(ServiceSpec{Namespace: "shop", Name: "docs", External: true, ExternalName: text}).ExternalName(); got != want {
			t.Errorf("%q leads to %q, want %q", text, got, want)
		}
	}
}
