package answer

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// whyIndex holds an object for each kind of answer.
func whyIndex() *services.Index {
	ports := []services.Port{{Name: "http", Protocol: "TCP", Number: 80}}
	index := services.NewIndex()
	index.Update(func(tx *services.Tx) {
		tx.ReplaceNamespaces([]string{"shop", "hidden"})
		for _, spec := range []services.ServiceSpec{
			{Name: "web", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.7.10")}, Ports: ports},
			{Name: "empty", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.7.11")}, Ports: ports},
			{Name: "db", Headless: true, Ports: ports},
			{Name: "idle", Headless: true, Ports: ports},
			{Name: "docs", External: true, ExternalName: "www.example.org"},
			{Name: "ring", External: true, ExternalName: "ring.shop.svc.cluster.local"},
			{Name: "bad", External: true, ExternalName: "192.0.2.1"},
		} {
			spec.Namespace = "shop"
			tx.SetService(services.NewService(spec))
		}
		for _, of := range []string{"web", "db"} {
			tx.SetSlice(services.NewSlice(services.SliceSpec{
				Namespace: "shop", Name: of + "-1", Service: of, Ports: ports,
				Endpoints: []services.Endpoint{{Addrs: []netip.Addr{netip.MustParseAddr("10.244.1.5")}, Name: of + "-0", Zone: "a"}},
			}))
		}
		tx.SetPod(services.NewPod(services.PodSpec{Namespace: "shop", Name: "p", IPs: []netip.Addr{netip.MustParseAddr("10.244.1.9")}}))
		tx.SetListed(services.AllKinds)
	})
	return index
}

// An Answer has the step that settled it, and the index has the reason for its result.
func TestWhy(t *testing.T) {
	entries := "192.0.2.1 registry.corp.example deep.entry.cluster.local\n"
	table, err := hosts.Parse(strings.NewReader(entries), hosts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	typed, err := hosts.Parse(strings.NewReader("192.0.2.2 typed.cluster.local\n"), hosts.Options{NoReverse: true})
	if err != nil {
		t.Fatal(err)
	}
	view := func(change func(*View)) *View {
		v := &View{
			Zones:       []Zone{{Name: "cluster.local.", Grammar: services.Zonal}, {Name: "low.er.cluster.local."}, {Name: "in-addr.arpa.", Reverse: true}},
			Pointed:     ".svc.cluster.local.",
			Fallthrough: []string{"in-addr.arpa."},
			Options:     services.Options{Namespaces: services.NamesOf("shop"), Pods: services.PodsVerified},
			Index:       whyIndex(),
			Hosts:       []Layer{{Tables: NewTables(table)}, {Tables: NewTables(typed), PassOn: true, NoReverse: true}},
		}
		if change != nil {
			change(v)
		}
		return New(v)
	}
	plain := view(nil)
	for _, tt := range []struct {
		name  string
		qtype uint16
		view  *View
		why   Why
		match services.Why
	}{
		{"web.shop.svc.cluster.local.", dns.TypeAXFR, plain, IsTransfer, 0},
		{"example.org.", dns.TypeA, plain, OutsideZones, 0},
		{"registry.corp.example.", dns.TypeA, plain, FromHosts, 0},
		{"registry.corp.example.", dns.TypeMX, plain, FromHosts, 0},
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR, plain, FromHosts, 0},
		{"cluster.local.", dns.TypeSOA, plain, IsApex, 0},
		{"dns-version.cluster.local.", dns.TypeTXT, plain, OfZone, 0},
		{"ns.dns.cluster.local.", dns.TypeA, plain, OfZone, 0},
		{"dns.cluster.local.", dns.TypeA, plain, OfZone, 0},
		{"svc.in-addr.arpa.", dns.TypeA, plain, OfZone, 0},
		{"10.7.96.10.in-addr.arpa.", dns.TypePTR, plain, IsReverse, 0},
		{"7.96.10.in-addr.arpa.", dns.TypePTR, plain, IsReverse, 0},
		{"er.cluster.local.", dns.TypeA, plain, AboveZone, services.NotDefined},
		{"entry.cluster.local.", dns.TypeA, plain, AboveHosts, services.NotDefined},
		{"9.9.9.9.in-addr.arpa.", dns.TypePTR, plain, FellThrough, 0},
		{"typed.cluster.local.", dns.TypeMX, plain, HostsLackType, services.NotDefined},
		{"web.none.svc.cluster.local.", dns.TypeA, view(func(v *View) { v.Index = services.NewIndex() }), NothingRead, services.NoNamespace},
		{"ring.shop.svc.cluster.local.", dns.TypeA, plain, AliasLoop, services.HasName},
		{"docs.shop.svc.cluster.local.", dns.TypeA, plain, OfObject, services.HasName},

		{"web.shop.svc.cluster.local.", dns.TypeA, plain, OfObject, services.HasName},
		{"web.shop.svc.cluster.local.", dns.TypeMX, plain, OfObject, services.HasName},
		{"svc.cluster.local.", dns.TypeA, plain, OfObject, services.StandsAbove},
		{"shop.svc.cluster.local.", dns.TypeA, plain, OfObject, services.StandsAbove},
		{"_tcp.web.shop.svc.cluster.local.", dns.TypeA, plain, OfObject, services.StandsAbove},
		{"web.shop.cluster.local.", dns.TypeA, plain, NoName, services.NotDefined},
		{"web.none.svc.cluster.local.", dns.TypeA, plain, NoName, services.NoNamespace},
		{"web.hidden.svc.cluster.local.", dns.TypeA, plain, NoName, services.NamespaceHidden},
		{"wbe.shop.svc.cluster.local.", dns.TypeA, plain, NoName, services.NoService},
		{"idle.shop.svc.cluster.local.", dns.TypeA, plain, NoName, services.NoReady},
		{"empty.shop.svc.cluster.local.", dns.TypeA, view(func(v *View) { v.Options.IgnoreEmptyService = true }), NoName, services.EmptyHidden},
		{"db.shop.svc.cluster.local.", dns.TypeA, view(func(v *View) { v.Options.NoEndpoints = true }), NoName, services.EndpointsHidden},
		{"db-9.db.shop.svc.cluster.local.", dns.TypeA, plain, NoName, services.NoEndpoint},
		{"_https._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, plain, NoName, services.NoPort},
		{"_https._tcp.db.shop.svc.cluster.local.", dns.TypeSRV, plain, NoName, services.NoPort},
		{"b.pin._zone.db.shop.svc.cluster.local.", dns.TypeA, plain, OfObject, services.NoZone},
		{"a.pin._zone.web.shop.svc.cluster.local.", dns.TypeA, plain, NoName, services.NotHeadless},
		{"x.docs.shop.svc.cluster.local.", dns.TypeA, plain, NoName, services.BelowAlias},
		{"bad.shop.svc.cluster.local.", dns.TypeA, plain, NoName, services.BadAlias},
		{"10-244-1-9.shop.pod.cluster.local.", dns.TypeA, view(func(v *View) { v.Options.Pods = services.PodsDisabled }), NoName, services.PodsHidden},
		{"x.shop.pod.cluster.local.", dns.TypeA, plain, NoName, services.NoPodAddress},
		{"10-244-1-8.shop.pod.cluster.local.", dns.TypeA, plain, NoName, services.NoPod},
		{"10-244-1-9.shop.pod.cluster.local.", dns.TypeA, plain, OfObject, services.HasName},
	} {
		a := tt.view.Answer(NewQuestion(tt.name, tt.qtype, dns.ClassINET))
		if a.Why() != tt.why || a.Match().Why != tt.match {
			t.Errorf("%s %s: step %d, reason %d; want %d, %d", tt.name, dns.TypeToString[tt.qtype], a.Why(), a.Match().Why, tt.why, tt.match)
		}
	}
	if a := plain.Answer(NewQuestion("web.shop.svc.cluster.local.", dns.TypeA, dns.ClassCHAOS)); a.Why() != OtherClass {
		t.Errorf("another class: step %d", a.Why())
	}
}

// Held yields the tables that have the name, or the address of a reverse name.
func TestHeld(t *testing.T) {
	table := func(text string) *hosts.Table {
		parsed, err := hosts.Parse(strings.NewReader(text), hosts.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	one, two := table("192.0.2.1 a.example\n"), table("192.0.2.2 a.example\n192.0.2.1 *.example\n")
	v := New(&View{Hosts: []Layer{{Tables: NewTables(one)}, {Tables: NewTables(two)}}})
	for name, want := range map[string]string{
		"a.example.": "0 1", "b.example.": "1*", "1.2.0.192.in-addr.arpa.": "0", "none.": "",
	} {
		qtype := dns.TypeA
		if strings.HasSuffix(name, "arpa.") {
			qtype = dns.TypePTR
		}
		a := v.Answer(NewQuestion(name, qtype, dns.ClassINET))
		var got []string
		for layer := range a.Held {
			s := string(rune('0' + layer))
			if a.OfWildcard() {
				s += "*"
			}
			got = append(got, s)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is in %q, want %q", name, got, want)
		}
	}
}
