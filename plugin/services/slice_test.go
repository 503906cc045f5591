package services

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// A Slice yields the data that it was made from, in its order.
func TestSliceRoundTrip(t *testing.T) {
	type line struct {
		addr netip.Addr
		Endpoint
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	pick := func(all ...string) string { return all[rnd.IntN(len(all))] }
	for range 1000 {
		spec := SliceSpec{Namespace: "shop", Name: "db-1", Service: "db", Cluster: pick("", "east"), Ports: http80}
		var want []line
		for range rnd.IntN(1 << rnd.IntN(7)) {
			ep := Endpoint{Name: pick("", "", "A", "b", "no label", fmt.Sprint("h", rnd.IntN(50))), PodName: rnd.IntN(2) == 0, Zone: pick("", "z1", "Z2", fmt.Sprint("z", rnd.IntN(300)))}
			kept := Endpoint{Name: strings.ToLower(ep.Name), Zone: strings.ToLower(ep.Zone)}
			if kept.Name == "no label" {
				kept.Name = ""
			}
			kept.PodName = ep.PodName && kept.Name != ""
			for range rnd.IntN(4) {
				a := ip(pick("10.0.0.1", "10.0.0.2", fmt.Sprintf("10.0.%d.1", rnd.IntN(99)), "fd00::1", fmt.Sprintf("fd00::%x", rnd.IntN(99)), "::ffff:10.0.0.3"))
				ep.Addrs = append(ep.Addrs, a)
				want = append(want, line{a.Unmap(), kept})
			}
			spec.Endpoints = append(spec.Endpoints, ep)
		}
		slices.SortStableFunc(want, func(a, b line) int {
			rank := func(e Endpoint) int {
				switch {
				case e.Name == "":
					return 2
				case e.PodName:
					return 1
				}
				return 0
			}
			return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(rank(a.Endpoint), rank(b.Endpoint)), strings.Compare(a.Name, b.Name))
		})
		s := NewSlice(spec)
		var got []line
		for a, ep := range s.Endpoints {
			got = append(got, line{a, ep})
		}
		// Endpoints that differ only in their zones may be in any order.
		byZone := func(a, b line) int {
			return cmp.Or(a.addr.Compare(b.addr), strings.Compare(a.Name, b.Name), strings.Compare(fmt.Sprint(a.PodName), fmt.Sprint(b.PodName)), strings.Compare(a.Zone, b.Zone))
		}
		alike := func(a, b line) bool { return a.addr == b.addr && a.Name == b.Name && a.PodName == b.PodName }
		if !slices.EqualFunc(got, want, alike) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
		slices.SortFunc(got, byZone)
		slices.SortFunc(want, byZone)
		if !slices.EqualFunc(got, want, func(a, b line) bool { return alike(a, b) && a.Zone == b.Zone }) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
		if s.Owner() != "db.shop" || s.key() != "shop/db-1" || s.Cluster() != spec.Cluster || s.ports() != packPorts(http80) {
			t.Fatalf("got %s, %s from %q", s.Owner(), s.key(), s.Cluster())
		}
		var of []Slice
		of = append(of, *s, *NewSlice(spec))
		if of[0] != of[1] {
			t.Fatal("two Slices of one object differ")
		}
	}
}

func TestSliceFind(t *testing.T) {
	spec := SliceSpec{Namespace: "shop", Name: "s", Service: "db", Endpoints: []Endpoint{
		{Addrs: ips("10.0.0.9", "10.0.0.1", "10.0.0.9", "255.255.255.255", "fd00::9", "fd00::1", "fd00::9")},
	}}
	s := sorted{NewSlice(spec).Addrs()}
	for addr, want := range map[string][2]int{
		"10.0.0.0": {0, 0}, "10.0.0.1": {0, 1}, "10.0.0.5": {1, 1}, "10.0.0.9": {1, 3}, "11.0.0.0": {3, 3}, "255.255.255.255": {3, 4},
		"::": {4, 4}, "fd00::1": {4, 5}, "fd00::9": {5, 7}, "ff00::": {7, 7},
	} {
		if from, to := s.find(ip(addr)); from != want[0] || to != want[1] {
			t.Errorf("%s is at %d to %d, want %v", addr, from, to, want)
		}
	}
}
