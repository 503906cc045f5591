package external

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/growth"
)

// How many objects there are: few where one costs much.
const usual, few = 750, 250

// Kinds of objects whose number may be large, and where n of them may cost more than n times as much as one.
var many = []struct {
	what   string
	n      int
	before func(n int) []*Object // existing objects
	object func(i int) *Object
}{
	{"Ingresses of two hosts", usual, nil, ingressNo},
	{"Ingresses of one host", few, func(int) (all []*Object) { // as many as a look-up reads
		for i := range maxClaims {
			all = append(all, claimant(-1-i))
		}
		return all
	}, claimant},
	{"Ingresses below one name", usual, nil, func(i int) *Object {
		return NewIngress(IngressSpec{Meta: named(fmt.Sprintf("w%05d", i)), Hosts: []string{fmt.Sprintf("a.b.c.w%05d.example.org", i)}, Addresses: []string{"192.0.2.1"}})
	}},
	{"HTTPRoutes of four Gateways", usual, func(int) (all []*Object) {
		for i := range 4 {
			all = append(all, gatewayNo(i, "192.0.2.1"))
		}
		return all
	}, routeNo},
	{"Gateways of routes that are there", usual, func(n int) (all []*Object) {
		for i := range n {
			all = append(all, routeOf1(i, i))
		}
		return all
	}, func(i int) *Object { return gatewayNo(i, "192.0.2.1") }},
	{"Services with one load balancer", few, func(int) (all []*Object) {
		for i := range maxClaims {
			all = append(all, balanced(-1-i))
		}
		return all
	}, balanced},
	{"Namespaces without routes", usual, func(n int) (all []*Object) {
		for i := range n {
			all = append(all, routeNo(i))
		}
		return all
	}, func(i int) *Object {
		return NewNamespace(NamespaceSpec{fmt.Sprintf("ns%05d", i), map[string]string{"team": "a"}})
	}},
}

func claimant(i int) *Object {
	return NewIngress(IngressSpec{Meta: named(fmt.Sprintf("w%05d", i)), Hosts: []string{"www.example.org"}, Addresses: []string{"192.0.2.1"}})
}

func balanced(i int) *Object {
	meta := annotated(fmt.Sprintf("s%05d", i), "coredns.io/hostname", "lb.example.org")
	return NewService(ServiceSpec{Meta: meta, LoadBalancer: true, Addresses: []string{"192.0.2.1"}, ClusterIPs: []string{"10.96.0.1"}, Ports: []Port{{"http", "TCP", 80}}})
}

// A host takes less than 100 octets, with everything that belongs to its object, after a list and after objects were
// replaced one at a time in random order.
func TestHostsAreSmall(t *testing.T) {
	const n = 10_000
	for _, c := range []struct {
		what              string
		ingresses, routes int
		names             float64
		object            func(i int) *Object
	}{
		{"Ingresses of two hosts", n, 0, 2 * n, ingressNo},
		{"HTTPRoutes of one host", 0, n, n, routeNo},
	} {
		before := heap()
		ix := loaded(c.ingresses, c.routes)
		listed := (heap() - before) / c.names
		for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n)[:n/5] {
			o := c.object(i)
			ix.Update(func(tx *Tx) { tx.Delete(o.Kind(), o.Namespace(), o.Name()) })
			ix.Update(func(tx *Tx) { tx.Set(o) })
		}
		replaced := (heap() - before) / c.names
		if listed >= 100 || replaced >= 100 {
			t.Errorf("%s: %.0f octets a host after a list, %.0f when some were replaced", c.what, listed, replaced)
		}
		t.Logf("%s: %.0f and %.0f octets a host", c.what, listed, replaced)
		runtime.KeepAlive(ix)
	}
}

func routeOf1(i, gateway int) *Object {
	parent := ParentRef{Namespace: "gateways", Name: fmt.Sprintf("gateway-%d", gateway)}
	return NewRoute(RouteSpec{
		Meta: named(fmt.Sprintf("rt%05d", i)), Kind: KindHTTPRoute, Hostnames: []string{fmt.Sprintf("rt%05d.example.org", i)},
		Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", "True", 0}}}},
	})
}

// Four times as many objects take four times the work, or a little more, also while conflicts are watched.
func TestWorkGrowsWithTheNumber(t *testing.T) {
	for _, objects := range many {
		t.Run(objects.what, func(t *testing.T) {
			growth.Linear(t, objects.n, growth.Updates(func(n int) (set, del func(from, to int)) {
				ix := NewIndex()
				ix.Watch(&everything, func([]Conflict, []Conflict) {})
				if objects.before != nil {
					ix.Update(func(tx *Tx) {
						for _, o := range objects.before(n) {
							tx.Set(o)
						}
					})
				}
				all := make([]*Object, n)
				for i := range all {
					all[i] = objects.object(i)
				}
				each := func(do func(tx *Tx, o *Object)) func(from, to int) {
					return func(from, to int) {
						ix.Update(func(tx *Tx) {
							for _, o := range all[from:to] {
								do(tx, o)
							}
						})
					}
				}
				return each((*Tx).Set), each(func(tx *Tx, o *Object) { tx.Delete(o.Kind(), o.Namespace(), o.Name()) })
			}))
		})
	}
}

// An edit of one route costs the same whether its Gateway has few routes or many, and so does another address of the
// Gateway.
func TestOneChangeCostsTheSame(t *testing.T) {
	cost := func(routes int) (route, address float64) {
		ix := NewIndex()
		ix.Update(func(tx *Tx) {
			tx.Set(gatewayNo(0, "192.0.2.1"))
			for i := range routes {
				tx.Set(routeOf1(i, 0))
			}
		})
		edited := NewRoute(RouteSpec{
			Meta: named("rt00001"), Kind: KindHTTPRoute, Hostnames: []string{"edited.example.org"}, Parents: []ParentRef{{Namespace: "gateways", Name: "gateway-0"}},
			Status: []ParentStatus{{ParentRef{Namespace: "gateways", Name: "gateway-0"}, []Condition{{"Accepted", "True", 0}}}},
		})
		route = growth.Of(func() { ix.Update(func(tx *Tx) { tx.Set(edited) }) }).Bytes
		moved := gatewayNo(0, "192.0.2.2")
		address = growth.Of(func() { ix.Update(func(tx *Tx) { tx.Set(moved) }) }).Bytes
		s := ix.State()
		if got := answerTo(s, "edited.example.org.", &everything); got != "192.0.2.2" {
			t.Errorf("the edited route has %s", got)
		}
		return route, address
	}
	cost(10)
	route1, address1 := cost(100)
	route2, address2 := cost(5000)
	if route2 > 3*route1 || address2 > 3*address1 {
		t.Errorf("among 100 routes: %.0f B and %.0f B, among 5,000: %.0f B and %.0f B", route1, address1, route2, address2)
	}
	t.Logf("an edit of a route %.0f B, another address of its Gateway %.0f B", route2, address2)
}

// One object with many entries.
func TestWorkGrowsWithTheEntries(t *testing.T) {
	list := func(n int, format string) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return all
	}
	endpoints := func(n int, of func(i int) Endpoint) *Object {
		var all []Endpoint
		for i := range n {
			all = append(all, of(i))
		}
		return NewDNSEndpoint(DNSEndpointSpec{Meta: named("all"), Endpoints: all})
	}
	for _, tt := range []struct {
		what string
		n    int
		make func(n int) *Object
	}{
		{"hosts of an Ingress", 1000, func(n int) *Object {
			return NewIngress(IngressSpec{Meta: named("web"), Hosts: list(n, "h%d.example.org"), Addresses: []string{"192.0.2.1"}})
		}},
		{"addresses of an Ingress", 1000, func(n int) *Object {
			return NewIngress(IngressSpec{Meta: named("web"), Hosts: []string{"www.example.org"}, Addresses: list(n, "lb%d.example.net")})
		}},
		{"names in an annotation", 1000, func(n int) *Object {
			return NewService(ServiceSpec{Meta: annotated("lb", "coredns.io/hostname", strings.Join(list(n, "h%d.example.org"), ",")), LoadBalancer: true, Addresses: []string{"192.0.2.1"}})
		}},
		{"ports of a Service", maxPorts / 4, func(n int) *Object {
			spec := ServiceSpec{Meta: annotated("lb", "coredns.io/hostname", "lb.example.org"), LoadBalancer: true, Addresses: []string{"192.0.2.1"}}
			for i := range n {
				spec.Ports = append(spec.Ports, Port{fmt.Sprint("p", i), "TCP", int32(i + 1)})
			}
			return NewService(spec)
		}},
		{"names of a DNSEndpoint", 1000, func(n int) *Object {
			return endpoints(n, func(i int) Endpoint {
				return Endpoint{fmt.Sprintf("e%d.example.org", i), "A", 5, []string{"192.0.2.1"}}
			})
		}},
		{"entries of one name of a DNSEndpoint", 1000, func(n int) *Object {
			return endpoints(n, func(i int) Endpoint {
				return Endpoint{"e.example.org", "A", 5, []string{fmt.Sprintf("10.0.%d.%d", i>>8, i&255)}}
			})
		}},
		{"targets of one name of a DNSEndpoint", 1000, func(n int) *Object {
			return endpoints(1, func(int) Endpoint { return Endpoint{"e.example.org", "TXT", 5, list(n, "text %d")} })
		}},
		{"hostnames of a route", maxHostnames / 4, func(n int) *Object {
			spec := RouteSpec{Meta: named("rt"), Kind: KindHTTPRoute, Hostnames: list(n, "h%d.example.org")}
			spec.Parents = []ParentRef{{Namespace: "gateways", Name: "gateway-1"}}
			spec.Status = []ParentStatus{{spec.Parents[0], []Condition{{"Accepted", "True", 0}}}}
			return NewRoute(spec)
		}},
		{"listeners of a Gateway", 1000, func(n int) *Object {
			spec := GatewaySpec{Meta: Meta{Namespace: "gateways", Name: "gateway-1"}, Addresses: []Address{{"IPAddress", "192.0.2.1"}}}
			for i := range n {
				spec.Listeners = append(spec.Listeners, Listener{Name: fmt.Sprint("l", i), Protocol: "HTTP", Hostname: fmt.Sprintf("h%d.example.org", i)})
			}
			return NewGateway(spec)
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			growth.Linear(t, tt.n, func(n int) []growth.Work {
				ix := indexOf(gatewayNo(1, "192.0.2.1"), routeOf1(1, 1))
				ix.Watch(&everything, func([]Conflict, []Conflict) {})
				var o *Object
				pack := growth.Of(func() { o = tt.make(n) })
				if o == nil {
					t.Fatal("there is no object")
				}
				set := growth.Of(func() { ix.Update(func(tx *Tx) { tx.Set(o) }) })
				again := growth.Of(func() { ix.Update(func(tx *Tx) { tx.Set(tt.make(n)) }) })
				return []growth.Work{pack, set, again, growth.Of(func() { ix.Update(func(tx *Tx) { tx.Delete(o.Kind(), o.Namespace(), o.Name()) }) })}
			})
		})
	}
}

// The answer for one name of a route with many holders of addresses does not visit the route's other names.
func TestAnswerDoesNotGrowWithTheNamesOfARoute(t *testing.T) {
	least := func(names int) (least time.Duration) {
		s := manyHolders(names).State()
		name := fmt.Sprintf("h%d.example.org.", names-1)
		least = time.Hour
		for range 5 {
			n := 0
			took := growth.Of(func() {
				m := s.Lookup(zone, name, &everything)
				for range m.Addrs {
					n++
				}
			}).CPU
			if least = min(least, took); n != maxParents/2*3+1 {
				t.Fatalf("%s has %d addresses", name, n)
			}
		}
		return least
	}
	few, many := least(10), least(maxHostnames)
	if many > 20*few {
		t.Errorf("%v out of %d names, %v out of 10", many, maxHostnames, few)
	}
}

// manyHolders has a route with that many names, accepted by half as many ListenerSets as it may have parents. Each has
// three addresses of its own and one that all share.
func manyHolders(names int) *Index {
	spec := RouteSpec{Meta: Meta{Namespace: "shop", Name: "rt", Generation: 1}, Kind: KindTLSRoute}
	for i := range names {
		spec.Hostnames = append(spec.Hostnames, fmt.Sprintf("h%d.example.org", i))
	}
	all := []*Object{NewGateway(GatewaySpec{Meta: Meta{Namespace: "infra", Name: "gw"}, AllowedListeners: From{Namespaces: "All"}})}
	for i := range maxParents / 2 {
		m := annotated(fmt.Sprintf("set%d", i), targetKeys[0], fmt.Sprintf("10.1.0.%d,10.2.0.%d,fd00::%x,fd00::1:0", i, i, i+1))
		m.Generation = 1
		all = append(all, NewListenerSet(ListenerSetSpec{
			Meta: m, Parent: ParentRef{Namespace: "infra", Name: "gw"}, Conditions: acceptance1(),
			Listeners: []Listener{{Name: "tls", Protocol: "TLS", Conditions: acceptance1()}},
		}))
		parent := ParentRef{Kind: "ListenerSet", Name: m.Name}
		spec.Parents = append(spec.Parents, parent)
		spec.Status = append(spec.Status, ParentStatus{parent, acceptance1()})
	}
	return indexOf(append(all, NewRoute(spec))...)
}
