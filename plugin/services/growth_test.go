package services

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/growth"
)

// manyObjects are n objects of a kind that may cost more than n times as much as one.
type manyObjects struct {
	what string
	set  func(tx *Tx, i, n int)
	del  func(tx *Tx, i int)
}

func named(i int) string { return fmt.Sprintf("s%06d", i) }

func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

var many = []manyObjects{
	{
		"headless Services whose one endpoint is the same pod",
		func(tx *Tx, i, _ int) {
			tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: named(i), Headless: true}))
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: named(i), Service: named(i), Endpoints: []Endpoint{{Addrs: ips("10.0.0.1")}}}))
		},
		func(tx *Tx, i int) { tx.DeleteService("shop", named(i)); tx.DeleteSlice("shop", named(i)) },
	},
	{
		"EndpointSlices of one Service",
		func(tx *Tx, i, _ int) {
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: named(i), Service: "db", Endpoints: []Endpoint{{Addrs: []netip.Addr{address(i)}, Name: named(i)}}}))
		},
		func(tx *Tx, i int) { tx.DeleteSlice("shop", named(i)) },
	},
	{
		"EndpointSlices of one Service with one endpoint",
		func(tx *Tx, i, _ int) {
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: named(i), Service: "db", Endpoints: []Endpoint{{Addrs: ips("10.0.0.1", "fd00::1"), Name: named(i % 10)}}}))
		},
		func(tx *Tx, i int) { tx.DeleteSlice("shop", named(i)) },
	},
	{
		"imported EndpointSlices of one Service",
		func(tx *Tx, i, _ int) {
			tx.Imported().SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: named(i), Service: "db", Endpoints: []Endpoint{{Addrs: []netip.Addr{address(i)}}}}))
		},
		func(tx *Tx, i int) { tx.Imported().DeleteSlice("shop", named(i)) },
	},
	{
		"EndpointSlices that each have an endpoint of a large one",
		func(tx *Tx, i, n int) {
			if i == 0 {
				var all []Endpoint
				for j := range n {
					all = append(all, Endpoint{Addrs: []netip.Addr{address(j)}, Name: named(j)})
				}
				tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: "large", Service: "db", Endpoints: all}))
			}
			tx.SetSlice(NewSlice(SliceSpec{Namespace: "shop", Name: named(i), Service: named(i), Endpoints: []Endpoint{{Addrs: []netip.Addr{address(i)}}}}))
		},
		func(tx *Tx, i int) { tx.DeleteSlice("shop", "large"); tx.DeleteSlice("shop", named(i)) },
	},
	{
		"Pods on one host network",
		func(tx *Tx, i, _ int) {
			tx.SetPod(NewPod(PodSpec{Namespace: "shop", Name: named(i), IPs: ips("10.0.0.1", "fd00::1")}))
		},
		func(tx *Tx, i int) { tx.DeletePod("shop", named(i)) },
	},
	{
		"Services with one cluster IP",
		func(tx *Tx, i, _ int) {
			tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: named(i), ClusterIPs: ips("10.96.0.1", "fd00::1")}))
		},
		func(tx *Tx, i int) { tx.DeleteService("shop", named(i)) },
	},
	{
		"namespaces with a Service",
		func(tx *Tx, i, _ int) {
			tx.SetNamespace(named(i))
			tx.SetService(NewService(ServiceSpec{Namespace: named(i), Name: "web", ClusterIPs: []netip.Addr{address(i)}}))
		},
		func(tx *Tx, i int) { tx.DeleteService(named(i), "web"); tx.DeleteNamespace(named(i)) },
	},
}

// Twice as many objects take twice the work, or a little more, and leave nothing behind.
func TestWorkGrowsWithTheNumber(t *testing.T) {
	for _, objects := range many {
		t.Run(objects.what, func(t *testing.T) {
			growth.Linear(t, 2000, func(n int) (set, del func(from, to int)) {
				ix := NewIndex()
				each := func(do func(tx *Tx, i int)) func(from, to int) {
					return func(from, to int) {
						ix.Update(func(tx *Tx) {
							for i := from; i < to; i++ {
								do(tx, i)
							}
						})
					}
				}
				remove := each(objects.del)
				return each(func(tx *Tx, i int) { objects.set(tx, i, n) }), func(from, to int) {
					remove(from, to)
					if to < n {
						return
					}
					if left := held(ix.State()); left != [12]int{} {
						t.Errorf("left over: %v", left)
					}
				}
			})
		})
	}
}
