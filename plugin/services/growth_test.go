package services

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
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

// allocated returns the bytes that f allocates. They stand for the work that f does: code that goes through a list of
// length n for each of n objects also builds that list anew for each, because published data is never changed.
func allocated(f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc - before.TotalAlloc)
}

// Twice as many objects take twice the work, or a little more, whether they are set and deleted at once or one by one.
// Quadratic work would be four times as much.
func TestWorkGrowsWithTheNumber(t *testing.T) {
	const n = 2000
	for _, objects := range many {
		t.Run(objects.what, func(t *testing.T) {
			for _, batch := range []int{1, 2 * n} {
				work := func(n int) (set, del float64) {
					ix := NewIndex()
					each := func(do func(tx *Tx, i int)) func() {
						return func() {
							for from := 0; from < n; from += batch {
								ix.Update(func(tx *Tx) {
									for i := from; i < min(n, from+batch); i++ {
										do(tx, i)
									}
								})
							}
						}
					}
					set = allocated(each(func(tx *Tx, i int) { objects.set(tx, i, n) }))
					del = allocated(each(objects.del))
					if left := held(ix.State()); left != [12]int{} {
						t.Errorf("left over: %v", left)
					}
					return set, del
				}
				work(10)
				set1, del1 := work(n)
				set2, del2 := work(2 * n)
				if set2 > 2.6*set1 || del2 > 2.6*del1 {
					t.Errorf("%d at a time: setting %d takes %.0f KB, and twice as many %.1f times that; deleting them %.0f KB, and %.1f times that",
						batch, n, set1/1e3, set2/set1, del1/1e3, del2/del1)
				}
				t.Logf("%d at a time: set %.0f B each, %.2f; delete %.0f B each, %.2f", batch, set2/(2*n), set2/set1, del2/(2*n), del2/del1)
			}
		})
	}
}
