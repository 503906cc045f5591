package answer

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// A zone whose objects were not read yet is neither transferred nor denied: a secondary would take it for empty. Kinds
// that the zone does not depend on don't count.
func TestZoneThatIsNotKnown(t *testing.T) {
	index := services.NewIndex()
	view := func(o services.Options) *View {
		return New(&View{Zones: []Zone{{Name: "cluster.local."}}, Index: index, Options: o, TTL: 5})
	}
	all, bare := view(services.Options{}), view(services.Options{NoEndpoints: true})
	check := func(when string, v *View, known bool) {
		t.Helper()
		zone, err := v.Transfer("cluster.local.")
		if known != (err == nil && zone != nil) || !known && !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: transfer %v, error %v; want known %v", when, zone, err, known)
		}
		a := v.Answer(NewQuestion("web.shop.svc.cluster.local.", dns.TypeA, dns.ClassINET))
		want := dns.RcodeServerFailure
		if known {
			want = dns.RcodeNameError
		}
		if a.Rcode != want || a.NotReady == known {
			t.Errorf("%s: a name that does not exist has rcode %d, not ready %v; want %d", when, a.Rcode, a.NotReady, want)
		}
	}
	check("before the first list", all, false)
	check("before the first list, noendpoints", bare, false)
	index.Update(func(tx *services.Tx) { tx.SetListed(services.KindNamespace | services.KindService) })
	check("without EndpointSlices", all, false)
	check("without EndpointSlices, noendpoints", bare, true)
	index.Update(func(tx *services.Tx) { tx.SetListed(services.KindSlice) })
	check("with everything", all, true)

	if zone, err := all.Transfer("other.example."); zone != nil || err != nil {
		t.Errorf("a zone that isn't served: %v, %v", zone, err)
	}
}

// A zone changes while it is transferred, by objects and by hosts files. No transfer has a serial that is later than
// its content: the secondary would never get the rest.
func TestTransferOfChangingZone(t *testing.T) {
	index, tables := services.NewIndex(), new(Tables)
	index.Update(func(tx *services.Tx) { tx.SetListed(services.AllKinds) })
	v := New(&View{Zones: []Zone{{Name: "cluster.local."}}, Index: index, Hosts: []Layer{{Tables: tables, TTL: 5}}, TTL: 5})
	addr := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
	setService := func(n int) {
		index.Update(func(tx *services.Tx) {
			tx.SetService(services.NewService(services.ServiceSpec{Namespace: "shop", Name: "web", ClusterIPs: []netip.Addr{addr(n)}}))
		})
	}
	setHosts := func(n int) {
		table, err := hosts.Parse(strings.NewReader(addr(n).String()+" corp.cluster.local"), hosts.Options{})
		if err != nil {
			t.Fatal(err)
		}
		tables.Set([]*hosts.Table{table}, nil)
	}
	// content is what a zone has, by its writers: the number of their last changes.
	type content struct{ services, hosts int }
	number := func(a [4]byte) int { return int(a[2])<<8 | int(a[3]) }
	setService(0)
	setHosts(0)

	const changes = 2000
	assigned := make(map[uint32]content) // by the serial of the change
	type transferred struct {
		serial uint32
		content
	}
	var got [2][]transferred
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range got {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				z, err := v.Transfer("cluster.local.")
				if err != nil {
					t.Error(err)
					return
				}
				web := z.state.Service("shop", "web")
				corp, _ := z.view.Hosts[0].Tables.All()[0].Lookup("corp.cluster.local.")
				got[i] = append(got[i], transferred{z.Serial(), content{number(web.Addrs().At4(0)), number(corp.At4(0))}})
			}
		})
	}
	var last content
	for n := range changes {
		if n%2 == 0 {
			last.services = n + 2
			setService(n + 2)
		} else {
			last.hosts = n + 2
			setHosts(n + 2)
		}
		if at := v.Latest().Last(); assigned[at] == (content{}) { // later ones share it before it begins
			assigned[at] = last
		}
	}
	close(stop)
	wg.Wait()
	for _, all := range got {
		if len(all) == 0 {
			t.Error("nothing was transferred")
		}
		for _, z := range all {
			if want := assigned[z.serial]; z.services < want.services || z.hosts < want.hosts {
				t.Fatalf("a transfer with serial %d has %v, and the serial was assigned for %v", z.serial, z.content, want)
			}
		}
	}
}
