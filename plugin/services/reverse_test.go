package services

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/growth"
)

func pointersOf(s *State, a netip.Addr, o *Options) (names []string) {
	s.Pointers(a, o, func(p Pointer) bool { names = append(names, string(p.AppendTo(nil, ".svc"))); return true })
	return names
}

// getnameinfo takes the first name: the endpoint's hostname if it has one, whatever came first.
func TestPointersOrder(t *testing.T) {
	slice := func(service string, ep Endpoint) *Slice {
		ep.Addrs = ips("10.0.0.1")
		return NewSlice(SliceSpec{Namespace: "shop", Name: service + "-1", Service: service, Endpoints: []Endpoint{ep}})
	}
	all := []*Slice{
		slice("a", Endpoint{}),
		slice("b", Endpoint{Name: "db-0", PodName: true}),
		slice("c", Endpoint{Name: "db-0"}),
		slice("d", Endpoint{Name: "a-0"}),
		slice("e", Endpoint{}),
		slice("f", Endpoint{Name: "aa", PodName: true}),
	}
	want := []string{"db-0.c.shop.svc", "a-0.d.shop.svc", "db-0.b.shop.svc", "aa.f.shop.svc", "10-0-0-1.a.shop.svc", "10-0-0-1.e.shop.svc"}
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= len(all); n++ {
		for range 20 {
			ix := NewIndex()
			put := slices.Clone(all)
			rnd.Shuffle(len(put), func(i, j int) { put[i], put[j] = put[j], put[i] })
			for _, s := range put {
				ix.Update(func(tx *Tx) { tx.SetSlice(s) })
			}
			for _, s := range put[n:] {
				ix.Update(func(tx *Tx) { tx.DeleteSlice("shop", s.ObjectName()) })
			}
			left := slices.DeleteFunc(slices.Clone(want), func(name string) bool {
				return !slices.ContainsFunc(put[:n], func(s *Slice) bool { return name[len(name)-10:len(name)-9] == s.Service() })
			})
			if got := pointersOf(ix.State(), ip("10.0.0.1"), &Options{}); !slices.Equal(got, left) {
				t.Fatalf("got %v, want %v", got, left)
			}
		}
	}
}

// The names of one address in one slice are in the same order, each once.
func TestPointersOfOneSlice(t *testing.T) {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: "s", Service: "db", Endpoints: []Endpoint{
			{Addrs: ips("10.0.0.1")}, {Addrs: ips("10.0.0.1"), Name: "z"}, {Addrs: ips("10.0.0.1"), Name: "b", PodName: true}, {Addrs: ips("10.0.0.2"), Name: "a"},
			{Addrs: ips("10.0.0.1", "10.0.0.1"), Name: "Y"}, {Addrs: ips("10.0.0.1")},
		}}))
	})
	want := []string{"y.db.shop.svc", "z.db.shop.svc", "b.db.shop.svc", "10-0-0-1.db.shop.svc"}
	if got := pointersOf(ix.State(), ip("10.0.0.1"), &Options{}); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// A name that two endpoints with one address share comes once, even if one has it as its hostname and the other as its
// pod's name, or it is derived from the address.
func TestPointersOnce(t *testing.T) {
	same := []Endpoint{
		{Name: "db-0"}, {Name: "db-0", PodName: true}, {Name: "z"}, {Name: "aa", PodName: true}, {Name: "10-0-0-1"}, {Name: "10-0-0-1", PodName: true}, {},
	}
	want := []string{"db-0.db.shop.svc", "z.db.shop.svc", "aa.db.shop.svc", "10-0-0-1.db.shop.svc"}
	one, several := NewIndex(), NewIndex()
	for i := range same {
		same[i].Addrs = ips("10.0.0.1")
		several.Update(func(tx *Tx) {
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: fmt.Sprint("s-", i), Service: "db", Endpoints: same[i : i+1]}))
		})
	}
	one.Update(func(tx *Tx) {
		tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: "s", Service: "db", Endpoints: same}))
	})
	for what, ix := range map[string]*Index{"one slice": one, "several slices": several} {
		if got := pointersOf(ix.State(), ip("10.0.0.1"), &Options{}); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
}

// shared is an index in which n headless Services, and as many endpoints of one Service, have the same
// address.
func shared(n int) *Index {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		tx.SetNamespace("shop")
		tx.SetNamespace("other")
		for i := range n {
			name := fmt.Sprintf("db-%05d", i)
			tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: name, Headless: true}))
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: name, Service: name, Endpoints: []Endpoint{{Addrs: ips("10.0.0.1")}}}))
		}
		var many []Endpoint
		for i := range n {
			many = append(many, Endpoint{Addrs: ips("10.0.0.2"), Name: fmt.Sprintf("h-%05d", i)})
		}
		tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: "many", Service: "many", Endpoints: many}))
	})
	return ix
}

// A search ends with the PTR records that a message holds, the first by name.
func TestPointersStop(t *testing.T) {
	s := shared(20_000).State()
	for addr, first := range map[string]string{"10.0.0.1": "10-0-0-1.db-00000.shop.svc", "10.0.0.2": "h-00000.many.shop.svc"} {
		got := pointersOf(s, ip(addr), &Options{})
		if len(got) != MaxRecords || got[0] != first {
			t.Errorf("%s: %d names, the first is %s", addr, len(got), got[0])
		}
		looked := 0
		s.Pointers(ip(addr), &Options{}, func(Pointer) bool { looked++; return false })
		if looked != 1 {
			t.Errorf("%s: %d names for a caller that takes one", addr, looked)
		}
		if got := pointersOf(s, ip(addr), &Options{Namespaces: NamesOf("other")}); len(got) > 0 {
			t.Errorf("%s: %d names in a namespace that is not served", addr, len(got))
		}
	}
	// Of endpoints that the options exclude, just as many are skipped.
	look := pointers{state: s, options: &Options{Namespaces: NamesOf("other")}, addr: ip("10.0.0.1"), looked: 100, left: 1}
	look.all(nil, func(Pointer) bool { return true })
	if look.looked != -1 {
		t.Errorf("%d of 100 checks are left, with all endpoints skipped", look.looked)
	}
}

func TestAddressBelow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	random := func() netip.Addr {
		if rnd.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(rnd.IntN(3)), byte(rnd.IntN(3)), byte(rnd.IntN(256))})
		}
		a := [16]byte{0: 0xfd, 5: byte(rnd.IntN(3)), 9: byte(rnd.IntN(256)), 15: byte(rnd.IntN(3))}
		return netip.AddrFrom16(a)
	}
	ix := NewIndex()
	ix.Update(func(tx *Tx) { tx.SetNamespace("a"); tx.SetNamespace("b") })
	type object struct {
		endpoint bool
		space    string
		addr     netip.Addr
	}
	held := map[string]object{}
	for range 400 {
		name := fmt.Sprint("n", rnd.IntN(40))
		o := object{rnd.IntN(2) == 0, []string{"a", "b"}[rnd.IntN(2)], random()}
		ix.Update(func(tx *Tx) {
			if old, ok := held[name]; ok {
				delete(held, name)
				tx.DeleteService(old.space, name)
				tx.DeleteSlice(old.space, name)
				return
			}
			held[name] = o
			if o.endpoint {
				tx.SetSlice(NewSlice(SliceSpec{Namespace: o.space, Name: name, Service: name, Endpoints: []Endpoint{{Addrs: []netip.Addr{o.addr}}}}))
			} else {
				tx.SetService(NewService(ServiceSpec{Namespace: o.space, Name: name, ClusterIPs: []netip.Addr{o.addr}}))
			}
			tx.Imported().SetSlice(NewSlice(SliceSpec{Namespace: "a", Name: "i", Service: "i", Endpoints: []Endpoint{{Addrs: ips("192.0.2.1", "2001:db8::1")}}}))
		})
		s := ix.State()
		for _, opts := range []Options{{}, {NoEndpoints: true}, {Namespaces: NamesOf("a")}, {Namespaces: NamesOf("a"), NoEndpoints: true}} {
			var want []netip.Addr
			taken := map[netip.Addr]bool{} // by a Service that is served
			for _, h := range held {
				if !h.endpoint && (h.space == "a" || opts.Namespaces == nil) {
					taken[h.addr] = true
				}
			}
			for _, h := range held {
				if (!h.endpoint || !opts.NoEndpoints) && (h.space == "a" || opts.Namespaces == nil) || taken[h.addr] {
					want = append(want, h.addr)
				}
			}
			slices.SortFunc(want, netip.Addr.Compare)
			want = slices.Compact(want)
			got := slices.AppendSeq(slices.Collect(s.Addresses(netip.MustParsePrefix("0.0.0.0/0"), &opts)), s.Addresses(netip.MustParsePrefix("::/0"), &opts))
			if !slices.Equal(got, want) {
				t.Fatalf("%+v: addresses %v, want %v", opts, got, want)
			}
			a := random()
			p := netip.PrefixFrom(a, 8*rnd.IntN(4)).Masked()
			if a.Is6() {
				p = netip.PrefixFrom(a, 4*rnd.IntN(32)).Masked()
			}
			if below := slices.ContainsFunc(want, p.Contains); s.AddressBelow(p, &opts) != below {
				t.Fatalf("%+v: below %v: %v, want %v of %v", opts, p, !below, below, want)
			}
		}
	}
	if s := ix.State(); s.AddressBelow(netip.MustParsePrefix("192.0.2.0/24"), &Options{}) || s.AddressBelow(netip.MustParsePrefix("2001:db8::/32"), &Options{}) ||
		s.AddressBelow(netip.MustParsePrefix("::ffff:0:0/96"), &Options{}) {
		t.Error("imported addresses, or IPv4 ones in IPv6, are below a reverse name")
	}
}

// With namespaces excluded by the options, the search for an address in the others is bounded.
func TestAddressBelowStops(t *testing.T) {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		tx.SetNamespace("shop")
		for i := range 2 * maxBelow {
			name := fmt.Sprint("s", i)
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: name, Service: name, Endpoints: []Endpoint{
				{Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i / maxBelow), byte(i)})}},
			}}))
		}
	})
	s, other := ix.State(), Options{Namespaces: NamesOf("other")}
	if s.AddressBelow(netip.MustParsePrefix("10.0.0.0/24"), &other) || !s.AddressBelow(netip.MustParsePrefix("10.0.0.0/16"), &other) {
		t.Error("after 256 addresses, AddressBelow must return true")
	}
}

func TestReverseAllocatesNothing(t *testing.T) {
	s := shared(100).State()
	p, o := netip.MustParsePrefix("10.0.0.0/8"), Options{}
	some := Options{Namespaces: NamesOf("other")}
	sum := 0
	for what, f := range map[string]func(){
		"Pointers":                    func() { s.Pointers(ip("10.0.0.1"), &o, func(p Pointer) bool { sum += len(p.owner); return true }) },
		"Pointers of one slice":       func() { s.Pointers(ip("10.0.0.2"), &o, func(p Pointer) bool { sum += len(p.owner); return true }) },
		"AddressBelow":                func() { s.AddressBelow(p, &o) },
		"AddressBelow of a namespace": func() { s.AddressBelow(p, &some) },
		"PodWith":                     func() { s.PodWith(ip("10.0.0.1")) },
		"ParseReverse, a whole name":  func() { ParseReverse("1.0.0.10.in-addr.arpa.") },
		"ParseReversePrefix, of one":  func() { ParseReversePrefix("0.0.10.in-addr.arpa.") },
		"ParseReversePrefix, in IPv6": func() { ParseReversePrefix("0.d.f.ip6.arpa.") },
		"SlicesWith":                  func() { s.SlicesWith(ip("10.0.0.1"))(func(Slice) bool { return true }) },
	} {
		if n := growth.Allocations(100, 0, f); n != 0 {
			t.Errorf("%s: %v allocations, want none", what, n)
		}
	}
}

func TestPodWith(t *testing.T) {
	ix := NewIndex()
	pod := func(space, name string, addrs ...string) *Pod {
		return NewPod(PodSpec{Namespace: space, Name: name, IPs: ips(addrs...)})
	}
	ix.Update(func(tx *Tx) {
		for _, ns := range []string{"a", "a-b", "b"} {
			tx.SetNamespace(ns)
		}
		tx.SetPod(pod("a", "one", "10.0.0.1", "fd00::1"))
		tx.SetPod(pod("a", "host", "10.0.0.2"))
		tx.SetPod(pod("a-b", "host", "10.0.0.2"))
		tx.SetPod(pod("b", "host", "10.0.0.2", "10.0.0.2"))
	})
	check := func(what, addr, want string) {
		t.Helper()
		got := ""
		if p := ix.State().PodWith(ip(addr)); p != nil {
			got = p.Namespace() + "/" + p.ObjectName()
		}
		if got != want {
			t.Errorf("%s: %s is %q, want %q", what, addr, got, want)
		}
	}
	check("one Pod", "10.0.0.1", "a/one")
	check("one Pod", "fd00::1", "a/one")
	check("no Pod", "10.0.0.3", "")
	check("three Pods on the host network", "10.0.0.2", "")
	for ns, want := range map[string]string{"a": "10.0.0.2", "a-b": "10.0.0.2", "b": "10.0.0.2", "c": "none"} {
		if got := describe(ix.State(), "10-0-0-2."+ns+".pod", &Options{Pods: PodsVerified}); got != want {
			t.Errorf("10-0-0-2.%s.pod: %s", ns, got)
		}
	}
	ix.Update(func(tx *Tx) { tx.DeletePod("a-b", "host") })
	check("two are left", "10.0.0.2", "")
	if got := describe(ix.State(), "10-0-0-2.a-b.pod", &Options{Pods: PodsVerified}); got != "none" {
		t.Errorf("a deleted Pod: %s", got)
	}
	ix.Update(func(tx *Tx) { tx.SetPod(pod("a", "host", "10.0.0.3")) })
	check("one is left", "10.0.0.2", "b/host")
	check("the other moved", "10.0.0.3", "a/host")
}
