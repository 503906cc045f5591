package answer

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// An entry whose option passes types on is still a name that exists: no wildcard of another option may answer in its
// place.
func TestPassedOnTypeAndWildcard(t *testing.T) {
	tables := func(text string) *Tables {
		table, err := hosts.Parse(strings.NewReader(text), hosts.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return NewTables(table)
	}
	v := New(&View{
		Zones: []Zone{{Name: "cluster.local."}}, Pointed: ".svc.cluster.local.", Fallthrough: []string{"cluster.local."}, Index: whyIndex(),
		Hosts: []Layer{
			{Tables: tables("192.0.2.1 own.w.example own.cluster.local\n"), PassOn: true},
			{Tables: tables("192.0.2.2 *.w.example *.cluster.local\n")},
		},
	})
	for _, name := range []string{"own.w.example.", "own.cluster.local."} {
		a := v.Answer(NewQuestion(name, dns.TypeMX, dns.ClassINET))
		if a.Outcome != NotOurs {
			t.Errorf("MX %s: outcome %d, rcode %d, why %d, of a wildcard: %v; want the next plugin", name, a.Outcome, a.Rcode, a.why, a.OfWildcard())
		}
	}
}

// The target of an alias is asked like any name: that an entry for the alias passed the type on does not make a target
// exist.
func TestPassedOnTypeAndAlias(t *testing.T) {
	table, err := hosts.Parse(strings.NewReader("192.0.2.1 alias.shop.svc.cluster.local\n"), hosts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	index := whyIndex()
	index.Update(func(tx *services.Tx) {
		tx.SetService(services.NewService(services.ServiceSpec{Namespace: "shop", Name: "alias", External: true, ExternalName: "gone.shop.svc.cluster.local"}))
	})
	v := New(&View{
		Zones: []Zone{{Name: "cluster.local."}}, Pointed: ".svc.cluster.local.", Index: index,
		Hosts: []Layer{{Tables: NewTables(table), PassOn: true}},
	})
	a := v.Answer(NewQuestion("alias.shop.svc.cluster.local.", dns.TypeMX, dns.ClassINET))
	if a.Outcome != Follow || a.Denied || a.Target() != "gone.shop.svc.cluster.local." {
		t.Errorf("outcome %d, rcode %d, why %d, aliases %v; want a Follow", a.Outcome, a.Rcode, a.why, a.Aliases)
	}
}
