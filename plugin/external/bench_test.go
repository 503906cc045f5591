package external

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
)

const manyIngresses, manyRoutes = 50_000, 50_000

func ingressNo(i int) *Object {
	return NewIngress(IngressSpec{
		Meta:  Meta{Namespace: fmt.Sprintf("team-%d", i%500), Name: fmt.Sprintf("web-%05d", i), Created: int64(1700000000 + i)},
		Class: "nginx", Hosts: []string{fmt.Sprintf("web-%05d.team-%d.example.org", i, i%500), fmt.Sprintf("api-%05d.team-%d.example.org", i, i%500)},
		Addresses: []string{"192.0.2.1"},
	})
}

func routeNo(i int) *Object {
	parent := ParentRef{Namespace: "gateways", Name: fmt.Sprintf("gateway-%d", i%4)}
	return NewRoute(RouteSpec{
		Meta: Meta{Namespace: fmt.Sprintf("team-%d", i%500), Name: fmt.Sprintf("route-%05d", i), Created: int64(1700000000 + i), Generation: 1},
		Kind: KindHTTPRoute, Hostnames: []string{fmt.Sprintf("route-%05d.team-%d.example.org", i, i%500)},
		Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", "True", 1}}}},
	})
}

func gatewayNo(i int, address string) *Object {
	return NewGateway(GatewaySpec{
		Meta: Meta{Namespace: "gateways", Name: fmt.Sprintf("gateway-%d", i)}, Class: "traefik", Addresses: []Address{{"IPAddress", address}},
		Listeners: []Listener{{Name: "web", Protocol: "HTTP", Port: 80, Routes: From{Namespaces: "All"}}, {Name: "tls", Protocol: "HTTPS", Port: 443, Hostname: "*.example.org", Routes: From{Namespaces: "All"}}},
	})
}

// listed sorts objects in the order in which the API server lists them.
func listed(all []*Object) []*Object {
	slices.SortFunc(all, func(a, b *Object) int { return compareKeys(a.packed, b.Ref()) })
	return all
}

// loaded is an Index of many Ingresses or routes, set like a list.
func loaded(ingresses, routes int) *Index {
	ix := NewIndex()
	all := make([]*Object, 0, max(ingresses, routes))
	for i := range ingresses {
		all = append(all, ingressNo(i))
	}
	if ingresses > 0 {
		ix.Update(func(tx *Tx) { tx.Replace(KindIngress, listed(all)) })
	}
	ix.Update(func(tx *Tx) {
		for i := range 4 {
			tx.Set(gatewayNo(i, fmt.Sprintf("192.0.2.%d", 10+i)))
		}
	})
	all = all[:0]
	for i := range routes {
		all = append(all, routeNo(i))
	}
	if routes > 0 {
		ix.Update(func(tx *Tx) { tx.Replace(KindHTTPRoute, listed(all)) })
	}
	return ix
}

// heap returns the bytes in use.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

func BenchmarkMemory(b *testing.B) {
	for _, c := range []struct {
		what              string
		ingresses, routes int
		names             float64
	}{{"50,000 Ingresses of 2 hosts", manyIngresses, 0, 2 * manyIngresses}, {"50,000 HTTPRoutes", 0, manyRoutes, manyRoutes}} {
		b.Run(c.what, func(b *testing.B) {
			for range b.N {
				before := heap()
				ix := loaded(c.ingresses, c.routes)
				b.ReportMetric((heap()-before)/c.names, "B/name")
				runtime.KeepAlive(ix)
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	s := loaded(manyIngresses, manyRoutes).State()
	sel := Selection{Zones: []string{zone}, Sources: everything.Sources &^ FromNode}
	narrow := sel
	narrow.Classes, narrow.Namespaces = NamesOf("nginx", "traefik"), NamesOf("team-1", "team-2", "team-3")
	for _, c := range []struct {
		what, format string
		sel          *Selection
		n            int
	}{
		{"host of an Ingress", "web-%05d.team-%d.example.org.", &sel, manyIngresses},
		{"host of an HTTPRoute", "route-%05d.team-%d.example.org.", &sel, manyRoutes},
		{"host of an HTTPRoute, classes and namespaces", "route-%05d.team-%d.example.org.", &narrow, manyRoutes},
		{"no such name", "none-%05d.team-%d.example.org.", &sel, manyRoutes},
	} {
		names := make([]string, 1<<14)
		for i := range names {
			k := i * 7919 % c.n
			if c.sel == &narrow {
				k = k/500*500 + 1 + i%3
			}
			names[i] = fmt.Sprintf(c.format, k, k%500)
		}
		b.Run(c.what, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for i := range b.N {
				m := s.Lookup(zone, names[i%len(names)], c.sel)
				for range m.Addrs {
					n++
				}
			}
			if want := b.N; c.what != "no such name" && n != want {
				b.Fatalf("%d addresses of %d", n, want)
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	ix := loaded(manyIngresses, manyRoutes)
	b.Run("an HTTPRoute", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			o := routeNo(i % manyRoutes)
			ix.Update(func(tx *Tx) { tx.Delete(KindHTTPRoute, o.Namespace(), o.Name()) })
			ix.Update(func(tx *Tx) { tx.Set(o) })
		}
	})
	b.Run("the address of a Gateway", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			o := gatewayNo(0, fmt.Sprintf("192.0.2.%d", 100+i%2))
			ix.Update(func(tx *Tx) { tx.Set(o) })
		}
	})
}
