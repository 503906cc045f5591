package services

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
)

// heapHeld returns the bytes of the heap in use after a collection.
func heapHeld() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cluster is an index of n Services, every other one headless, with 10 endpoints each, and a headless Service named db
// with 1,000 named endpoints.
func cluster(n int) *Index {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		tx.SetNamespace("shop")
		for i := range n {
			name := fmt.Sprintf("svc-%d", i)
			spec := ServiceSpec{Namespace: "shop", Name: name, Headless: i%2 == 1, Ports: http80}
			if !spec.Headless {
				spec.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})}
			}
			tx.SetService(NewService(spec))
			var eps []Endpoint
			for j := range 10 {
				eps = append(eps, Endpoint{Addrs: []netip.Addr{address(10*i + j)}})
			}
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: name + "-x2zf8", Service: name, Ports: http80, Endpoints: eps}))
		}
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "db", Headless: true, Ports: http80}))
		for i := range 10 {
			var eps []Endpoint
			for j := range 100 {
				eps = append(eps, Endpoint{Addrs: []netip.Addr{netip.AddrFrom4([4]byte{12, 0, byte(i), byte(j)})}, Name: fmt.Sprintf("db-%d", 100*i+j)})
			}
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: fmt.Sprintf("db-%d", i), Service: "db", Ports: http80, Endpoints: eps}))
		}
	})
	return ix
}

// BenchmarkLookup looks up names in a cluster, a different one each time.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{8000, 100_000} {
		s, o := cluster(n).State(), Options{}
		rnd := rand.New(rand.NewPCG(1, 2))
		names := make([]string, 1<<12)
		addrs := make([]netip.Addr, len(names))
		ask := func(what string, name func(i int) string) {
			for i := range names {
				names[i] = name(rnd.IntN(n))
			}
			b.Run(fmt.Sprintf("%s/%d", what, n), func(b *testing.B) {
				b.ReportAllocs()
				i, found := 0, 0
				for b.Loop() {
					name := ParseName(names[i%len(names)], 0)
					m := s.Lookup(&name, &o)
					n4, n6 := m.Count()
					found += n4 + n6
					if m.Whole() {
						for block := range m.Blocks {
							found += block.Len4()
						}
					} else {
						for e := range m.Members {
							found += e.Addr.BitLen()
						}
					}
					i++
				}
				if found == 0 {
					b.Fatal("nothing is found")
				}
			})
		}
		ask("ClusterIP", func(i int) string { return fmt.Sprintf("svc-%d.shop.svc", i&^1) })
		ask("headless", func(i int) string { return fmt.Sprintf("svc-%d.shop.svc", i|1) })
		ask("headless-port", func(i int) string { return fmt.Sprintf("_http._tcp.svc-%d.shop.svc", i|1) })
		ask("endpoint", func(i int) string {
			a := address(10*(i|1) + 3).As4()
			return fmt.Sprintf("%d-%d-%d-%d.svc-%d.shop.svc", a[0], a[1], a[2], a[3], i|1)
		})
		ask("named-endpoint-of-1000", func(i int) string { return fmt.Sprintf("db-%d.db.shop.svc", i%1000) })
		ask("named-1000", func(int) string { return "db.shop.svc" })
		pointers := func(what string, addr func(i int) netip.Addr) {
			for i := range addrs {
				addrs[i] = addr(rnd.IntN(n))
			}
			b.Run(fmt.Sprintf("%s/%d", what, n), func(b *testing.B) {
				b.ReportAllocs()
				i, found := 0, 0
				for b.Loop() {
					s.Pointers(addrs[i%len(addrs)], &o, func(Pointer) bool { found++; return true })
					i++
				}
				if found == 0 {
					b.Fatal("nothing is found")
				}
			})
		}
		pointers("PTR-ClusterIP", func(i int) netip.Addr {
			i &^= 1
			return netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		})
		pointers("PTR-endpoint", func(i int) netip.Addr { return address(10*i + 3) })
		pointers("PTR-named-of-100", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{12, 0, byte(i % 10), byte(i % 100)}) })
	}
}

// BenchmarkLoad loads endpoints, and reports the memory they take.
func BenchmarkLoad(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random6 := func(int) netip.Addr {
		var ip [16]byte
		for i := range ip {
			ip[i] = byte(rnd.Uint32())
		}
		ip[0] = 0xfd
		return netip.AddrFrom16(ip)
	}
	random4 := func(int) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())})
	}
	dense6 := func(i int) netip.Addr {
		return netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
	}
	for _, of := range []struct {
		what   string
		n      int
		addr   func(i int) netip.Addr
		name   bool
		slices int // number of slices with each endpoint
	}{
		{"IPv4", 1_000_000, address, false, 1},
		{"IPv4-random-in-10/8", 1_000_000, random4, false, 1},
		{"IPv6-random", 100_000, random6, false, 1},
		{"IPv6", 100_000, dense6, false, 1},
		{"IPv4-named", 100_000, address, true, 1},
		{"IPv4-in-two-Services", 100_000, address, false, 2},
	} {
		b.Run(of.what, func(b *testing.B) {
			var ix *Index
			before := heapHeld()
			for b.Loop() {
				ix = NewIndex()
				ix.Update(func(tx *Tx) {
					for i := 0; i < of.n; i += 10 {
						var eps []Endpoint
						for j := range 10 {
							ep := Endpoint{Addrs: []netip.Addr{of.addr(i + j)}}
							if of.name {
								ep.Name = fmt.Sprintf("db-%d", i+j)
							}
							eps = append(eps, ep)
						}
						for s := range of.slices {
							name := fmt.Sprintf("svc-%d-%d", i, s)
							tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: name + "-x2zf8", Service: name, Ports: http80, Endpoints: eps}))
						}
					}
				})
			}
			b.ReportMetric(float64(heapHeld()-before)/float64(of.n*of.slices), "B/endpoint")
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N*of.n*of.slices), "ns/endpoint")
			runtime.KeepAlive(ix)
		})
	}
}
