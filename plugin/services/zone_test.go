package services

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestOwnerNames(t *testing.T) {
	s := shop().State()
	web := "web.shop.svc _http._tcp.web.shop.svc"
	other := "web.other.svc _http._tcp.web.other.svc"
	db := "db.shop.svc _metrics._tcp.db.shop.svc _pg._tcp.db.shop.svc 10-244-1-7.db.shop.svc db-0.db.shop.svc db-1.db.shop.svc fd00-10--0.db.shop.svc"
	for _, tc := range []struct {
		what string
		o    Options
		want string
	}{
		{"all", Options{}, "bare.shop.svc " + db + " docs.shop.svc " + other + " " + web + " 10-244-1-9.web.shop.svc"},
		{"no endpoints", Options{NoEndpoints: true}, "bare.shop.svc docs.shop.svc " + other + " " + web},
		{"no Services without endpoints", Options{IgnoreEmptyService: true}, db + " docs.shop.svc " + web + " 10-244-1-9.web.shop.svc"},
		{"a namespace", Options{Namespaces: NamesOf("other")}, other},
		{"another", Options{Namespaces: NamesOf("nowhere")}, ""},
	} {
		got := ownerNames(s, &tc.o, false)
		if want := strings.Fields(tc.want); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", tc.what, got, want)
		}
		for _, name := range got {
			if answer := describe(s, name, &tc.o); answer == "none" || answer == "empty" {
				t.Errorf("%s: %s is %s", tc.what, name, answer)
			}
		}
		calls := 0
		if s.OwnerNames(&tc.o, false, func(string) bool { calls++; return calls < 2 }); calls > 2 {
			t.Errorf("%s: %d names for a caller that takes two", tc.what, calls)
		}
	}
}

func ownerNames(s *State, o *Options, imported bool) (all []string) {
	s.OwnerNames(o, imported, func(name string) bool { all = append(all, name); return true })
	return all
}

func TestOwnerNamesImported(t *testing.T) {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		tx.SetNamespace("shop")
		in := tx.Imported()
		in.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "db", Headless: true}))
		for _, cluster := range []string{"west", "east"} {
			in.SetSlice(NewSlice(SliceSpec{
				Namespace: "shop", Name: cluster, Service: "db", Cluster: cluster, Ports: http80,
				Endpoints: []Endpoint{{Addrs: ips("10.0.0.1", "fd00::1"), Name: "db-0"}, {Addrs: ips("10.0.0.2")}},
			}))
		}
	})
	want := []string{"db.shop.svc", "_http._tcp.db.shop.svc", "10-0-0-2.east.db.shop.svc", "10-0-0-2.west.db.shop.svc", "db-0.east.db.shop.svc", "db-0.west.db.shop.svc"}
	if got := ownerNames(ix.State(), &Options{}, true); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := ownerNames(ix.State(), &Options{}, false); len(got) > 0 {
		t.Errorf("the Services of this cluster include %v", got)
	}
}

// A name comes once if two endpoints share it, or one has it and the other derives it from its address. A name that no
// query can contain does not come.
func TestOwnerNamesOnce(t *testing.T) {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		tx.SetNamespace("shop")
		tx.SetService(NewService(ServiceSpec{Namespace: "shop", Name: "db", Headless: true}))
		for i := range 3 {
			tx.SetSlice(NewSlice(SliceSpec{
				Namespace: "shop", Name: fmt.Sprint(i), Service: "db",
				Ports:     []Port{{"", "TCP", 1}, {"a.b", "TCP", 2}, {"Web", "TCP", 3}, {"x", "", 4}, {strings.Repeat("p", 63), "TCP", 5}},
				Endpoints: []Endpoint{{Addrs: ips("10.0.0.1")}, {Addrs: ips("10.0.0.2"), Name: "10-0-0-1"}, {Addrs: ips("10.0.0.3", "10.0.0.4"), Name: "db-0"}},
			}))
		}
	})
	want := []string{"db.shop.svc", "_web._tcp.db.shop.svc", "10-0-0-1.db.shop.svc", "db-0.db.shop.svc"}
	if got := ownerNames(ix.State(), &Options{}, false); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
