package source

import (
	"net/http"
	"strings"
	"testing"
)

// Details of a Service that are not stored are requested from the API server on demand, with only the
// permission list.
func TestFacts(t *testing.T) {
	a := newAPIServer(t)
	a.put("namespaces", "", "default", object{"labels": object{"team": "a"}}, nil)
	a.put("services", "default", "web", object{"labels": object{"dns": "yes"}}, object{"spec": object{
		"type": "LoadBalancer", "clusterIP": "10.96.7.10", "selector": object{"app": "web", "tier": "front"},
	}})
	a.putSlice("web-1", nil, "10.244.1.5")
	a.put("endpointslices", "default", "web-2", object{"labels": object{"kubernetes.io/service-name": "web"}}, object{"addressType": "IPv4", "endpoints": []object{
		{"addresses": []string{"10.244.1.7"}, "conditions": object{"ready": false, "terminating": true}, "targetRef": object{"kind": "Pod", "name": "web-b"}},
		{"addresses": []string{"10.244.1.6"}, "conditions": object{"ready": false}, "hostname": "a", "targetRef": object{"kind": "Pod", "name": "web-a"}},
	}})
	s := a.open(t)
	all := listed(t, s, Selection{})

	f := all.Facts(t.Context(), "default", "web", false)
	if !f.Found || !strings.HasPrefix(f.Origin, "resourceVersion ") || f.Type != "LoadBalancer" || f.Selector != "app=web,tier=front" || f.LeftOut != "" ||
		f.Unready.Known || f.Missing != "" {
		t.Errorf("%+v", f)
	}
	f = all.Facts(t.Context(), "default", "web", true)
	want := []UnreadyEndpoint{{Addr: "10.244.1.6", Pod: "web-a", Hostname: "a"}, {Addr: "10.244.1.7", Pod: "web-b", Terminating: true}}
	if u := f.Unready; !u.Known || u.Total != 2 || len(u.First) != 2 || u.First[0] != want[0] || u.First[1] != want[1] {
		t.Errorf("not ready: %+v", u)
	}
	if f := all.Facts(t.Context(), "default", "none", true); f.Found || f.Missing != "" {
		t.Errorf("a missing Service: %+v", f)
	}
	for sel, want := range map[Selection]string{
		{Labels: "dns=no"}:                       "labels dns=no",
		{Labels: "dns=yes"}:                      "",
		{NamespaceLabels: "team=b"}:              "namespace_labels team=b",
		{NamespaceLabels: "team=a"}:              "",
		{Labels: "x", NamespaceLabels: "team=b"}: "labels x",
	} {
		if f := listed(t, s, sel).Facts(t.Context(), "default", "web", false); f.LeftOut != want {
			t.Errorf("%+v leaves it out by %q, want %q", sel, f.LeftOut, want)
		}
	}

	a.answer("endpointslices", http.StatusForbidden)
	if f := all.Facts(t.Context(), "default", "web", true); !f.Found || f.Unready.Known || !strings.HasPrefix(f.Missing, "the EndpointSlices can't be requested: ") {
		t.Errorf("without EndpointSlices: %+v", f)
	}
	a.answer("services", http.StatusForbidden)
	if f := all.Facts(t.Context(), "default", "web", true); f.Found || !strings.HasPrefix(f.Missing, "the Service can't be requested: ") {
		t.Errorf("without Services: %+v", f)
	}
}

// At most ten endpoints are named, and all are counted.
func TestFactsOfMany(t *testing.T) {
	a := newAPIServer(t)
	a.putService("web", "10.96.7.10")
	for _, name := range []string{"web-1", "web-2"} {
		var endpoints []object
		for range 8 {
			endpoints = append(endpoints, object{"addresses": []string{"10.244.1.6"}, "conditions": object{"ready": false}})
		}
		a.put("endpointslices", "default", name, object{"labels": object{"kubernetes.io/service-name": "web"}}, object{"addressType": "IPv4", "endpoints": endpoints})
	}
	f := listed(t, a.open(t), Selection{}).Facts(t.Context(), "default", "web", true)
	if f.Unready.Total != 16 || len(f.Unready.First) != maxUnready {
		t.Errorf("%d of %d are named", len(f.Unready.First), f.Unready.Total)
	}
}
