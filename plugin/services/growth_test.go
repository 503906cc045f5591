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

// Four times as many objects take four times the work, or a little more, and leave nothing behind.
func TestWorkGrowsWithTheNumber(t *testing.T) {
	for _, objects := range many {
		t.Run(objects.what, func(t *testing.T) {
			growth.Linear(t, 1000, growth.Updates(func(n int) (set, del func(from, to int)) {
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
			}))
		})
	}
}

// One object, or one name, with many entries.
func TestWorkGrowsWithTheEntries(t *testing.T) {
	endpoints := func(from, to int, of func(i int) Endpoint) (all []Endpoint) {
		for i := from; i < to; i++ {
			all = append(all, of(i))
		}
		return all
	}
	slice := func(name string, all []Endpoint) SliceSpec {
		return SliceSpec{Namespace: "shop", Name: name, Service: "db", Endpoints: all}
	}
	ports := func(n int) (all []Port) {
		for i := range n {
			all = append(all, Port{Name: named(i), Protocol: "TCP", Number: int32(1 + i%65535)})
		}
		return all
	}
	own := func(i int) Endpoint { return Endpoint{Addrs: []netip.Addr{address(i)}, Name: named(i)} }
	for what, specs := range map[string]func(n int) []SliceSpec{
		"named endpoints in one slice": func(n int) []SliceSpec { return []SliceSpec{slice("one", endpoints(0, n, own))} },
		"named endpoints in 20 slices": func(n int) (all []SliceSpec) {
			for i := range 20 {
				all = append(all, slice(named(i), endpoints(i*n/20, (i+1)*n/20, own)))
			}
			return all
		},
		"the same endpoints in 20 slices": func(n int) (all []SliceSpec) {
			for i := range 20 {
				all = append(all, slice(named(i), endpoints(0, n/20, own)))
			}
			return all
		},
		"names of one address": func(n int) []SliceSpec {
			return []SliceSpec{slice("one", endpoints(0, n, func(i int) Endpoint { return Endpoint{Addrs: ips("10.0.0.1"), Name: named(i)} }))}
		},
		"addresses of one name": func(n int) []SliceSpec {
			return []SliceSpec{slice("one", endpoints(0, n, func(i int) Endpoint { return Endpoint{Addrs: []netip.Addr{address(i)}, Name: "a"} }))}
		},
		"addresses of one endpoint": func(n int) []SliceSpec {
			one := Endpoint{Name: "a"}
			for i := range n {
				one.Addrs = append(one.Addrs, address(i))
			}
			return []SliceSpec{slice("one", []Endpoint{one})}
		},
		"zones": func(n int) []SliceSpec {
			return []SliceSpec{slice("one", endpoints(0, n, func(i int) Endpoint { return Endpoint{Addrs: []netip.Addr{address(i)}, Zone: named(i)} }))}
		},
		"ports": func(n int) []SliceSpec {
			s := slice("one", endpoints(0, 1, own))
			s.Ports = ports(n)
			return []SliceSpec{s}
		},
	} {
		t.Run(what, func(t *testing.T) {
			growth.Linear(t, 2000, func(n int) []growth.Work {
				ix, all := NewIndex(), specs(n)
				set := growth.Of(func() {
					ix.Update(func(tx *Tx) {
						tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "db", Headless: true}))
						for _, spec := range all {
							tx.SetSlice(NewSlice(spec))
						}
					})
				})
				again := growth.Of(func() { ix.Update(func(tx *Tx) { tx.SetSlice(NewSlice(all[0])) }) })
				return []growth.Work{set, again}
			})
		})
	}
	t.Run("ports of a Service", func(t *testing.T) {
		growth.Linear(t, 2000, func(n int) []growth.Work {
			spec := ServiceSpec{Namespace: "shop", Name: "web", ClusterIPs: ips("10.96.0.1"), Ports: ports(n)}
			return []growth.Work{growth.Of(func() { NewService(spec) })}
		})
	})
}
