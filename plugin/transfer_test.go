package kubehosts

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// A zone is transferred whole, or not at all, whichever kinds of objects were listed so far, or come from a snapshot: a
// secondary would take a part for the whole, and never ask again while the serial stays.
func TestTransferIsWhole(t *testing.T) {
	local := netip.MustParseAddr("10.244.0.2")
	addr := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	inside := map[services.Kinds]func(*services.Tx){
		services.KindNamespace: func(tx *services.Tx) { tx.SetNamespace("shop"); tx.SetNamespace("kube-system") },
		services.KindService: func(tx *services.Tx) {
			tx.SetService(services.NewService(services.ServiceSpec{Namespace: "shop", Name: "web", ClusterIPs: addr("10.96.0.1")}))
			tx.SetService(services.NewService(services.ServiceSpec{Namespace: "shop", Name: "db", Headless: true}))
			tx.SetService(services.NewService(services.ServiceSpec{Namespace: "kube-system", Name: "kube-dns", ClusterIPs: addr("10.96.0.10")}))
		},
		services.KindSlice: func(tx *services.Tx) {
			tx.SetSlice(services.NewSlice(services.SliceSpec{Namespace: "shop", Name: "db-1", Service: "db", Endpoints: []services.Endpoint{{Addrs: addr("10.244.0.7")}}}))
			tx.SetSlice(services.NewSlice(services.SliceSpec{Namespace: "kube-system", Name: "kube-dns-1", Service: "kube-dns", Endpoints: []services.Endpoint{{Addrs: []netip.Addr{local}}}}))
		},
		services.KindPod: func(tx *services.Tx) {
			tx.SetPod(services.NewPod(services.PodSpec{Namespace: "shop", Name: "p", IPs: addr("10.244.0.9")}))
		},
		services.KindImport: func(tx *services.Tx) {
			tx.Imported().SetService(services.NewService(services.ServiceSpec{Namespace: "shop", Name: "far", Headless: true}))
		},
		services.KindImportedSlice: func(tx *services.Tx) {
			tx.Imported().SetSlice(services.NewSlice(services.SliceSpec{Namespace: "shop", Name: "far-1", Service: "far", Endpoints: []services.Endpoint{{Addrs: addr("10.245.0.7")}}}))
		},
	}
	meta := func(namespace, name string) external.Meta { return external.Meta{Namespace: namespace, Name: name} }
	outside := map[external.Kind]*external.Object{
		external.KindNamespace: external.NewNamespace(external.NamespaceSpec{Name: "shop"}),
		external.KindService:   external.NewService(external.ServiceSpec{Meta: meta("kube-system", "kube-dns"), LoadBalancer: true, Addresses: []string{"192.0.2.53"}}),
		external.KindIngress:   external.NewIngress(external.IngressSpec{Meta: meta("shop", "web"), Hosts: []string{"www.example.org", "www.ext.cluster.local"}, Addresses: []string{"192.0.2.80"}}),
	}
	of := func(zone string) *answer.External {
		return &answer.External{Selection: external.Selection{Zones: []string{zone}, Sources: external.FromIngress}, TTL: 5}
	}
	// build returns a View of indexes with the objects of these kinds.
	build := func(kinds services.Kinds, outer []external.Kind, snapshot bool) *answer.View {
		ix, out := services.NewIndex(), external.NewIndex()
		ix.Update(func(tx *services.Tx) {
			for kind, put := range inside {
				if kinds&kind != 0 {
					put(tx)
				}
			}
			if snapshot {
				tx.SetSnapshot(1, kinds)
			} else {
				tx.SetListed(kinds)
			}
		})
		out.Update(func(tx *external.Tx) {
			for _, kind := range outer {
				tx.Set(outside[kind])
			}
			if snapshot {
				tx.SetSnapshot(1, external.KindsOf(outer...))
			} else {
				tx.SetListed(external.KindsOf(outer...))
			}
		})
		zone := func(name string) answer.Zone {
			return answer.Zone{Name: name, NS: answer.Under("ns.dns.", name), Mbox: answer.Under("hostmaster.", name)}
		}
		v := &answer.View{
			Zones: []answer.Zone{zone("cluster.local."), zone("clusterset.local."), zone("10.in-addr.arpa."), zone("example.org."), zone("ext.cluster.local.")},
			TTL:   5, Pointed: ".svc.cluster.local.", Index: ix, Outside: out, Local: []netip.Addr{local}, Options: services.Options{Pods: services.PodsVerified},
		}
		v.Zones[1].Imported, v.Zones[1].Grammar = true, services.Multicluster
		v.Zones[2].Reverse = true
		v.Zones[3].External, v.Zones[4].External = of("example.org."), of("ext.cluster.local.")
		return answer.New(v)
	}
	transferred := func(v *answer.View, zone string) (lines []string) {
		z, err := v.Transfer(zone)
		if err != nil {
			return nil
		}
		ch := make(chan []dns.RR)
		go func() {
			defer close(ch)
			send(ch, z, false)
		}()
		for rrs := range ch {
			for _, rr := range rrs {
				if soa, ok := rr.(*dns.SOA); ok {
					soa.Serial = 1
				}
				lines = append(lines, rr.String())
			}
		}
		slices.Sort(lines)
		return lines
	}
	kinds := []external.Kind{external.KindNamespace, external.KindService, external.KindIngress}
	all := build(services.AllKinds, kinds, false)
	whole := make(map[string][]string)
	for i := range all.Zones {
		zone := all.Zones[i].Name
		if whole[zone] = transferred(all, zone); len(whole[zone]) < 5 {
			t.Errorf("%s has %d records with everything listed", zone, len(whole[zone]))
		}
	}
	sent := make(map[string]int)
	for listed := range services.AllKinds + 1 {
		for outer := range 1 << len(kinds) {
			var some []external.Kind
			for i, kind := range kinds {
				if outer>>i&1 != 0 {
					some = append(some, kind)
				}
			}
			for _, snapshot := range []bool{false, true} {
				v := build(listed, some, snapshot)
				for i := range v.Zones {
					zone := v.Zones[i].Name
					got, want := transferred(v, zone), whole[zone]
					if got == nil {
						continue
					}
					sent[zone]++
					if !slices.Equal(got, want) {
						t.Fatalf("with kinds %b and %v, from a snapshot: %v, %s is\n%s\nwant\n%s", listed, some, snapshot, zone, strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
				}
			}
		}
	}
	if len(sent) != len(whole) {
		t.Errorf("transferred: %v", sent)
	}
}
