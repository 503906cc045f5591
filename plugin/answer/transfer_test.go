package answer

import (
	"errors"
	"testing"

	"github.com/miekg/dns"

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
