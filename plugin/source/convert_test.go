package source

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/services"
)

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestServiceSpec(t *testing.T) {
	noPort := []services.Port{{Number: -1}}
	tests := []struct {
		name string
		spec api.ServiceSpec
		want services.ServiceSpec
	}{
		{"one address", api.ServiceSpec{ClusterIP: "10.0.0.1"}, services.ServiceSpec{ClusterIPs: addrs("10.0.0.1"), Ports: noPort}},
		{"dual stack", api.ServiceSpec{ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"}},
			services.ServiceSpec{ClusterIPs: addrs("10.0.0.1", "fd00::1"), Ports: noPort}},
		{"headless", api.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}}, services.ServiceSpec{Headless: true, Ports: noPort}},
		{"headless, old", api.ServiceSpec{ClusterIP: "None"}, services.ServiceSpec{Headless: true, Ports: noPort}},
		{"external", api.ServiceSpec{Type: api.ServiceTypeExternalName, ExternalName: "a.example"},
			services.ServiceSpec{External: true, ExternalName: "a.example", Ports: noPort}},
		{"a bad address", api.ServiceSpec{ClusterIPs: []string{"10.0.0.300", "fe80::1%eth0", "fd00::1"}},
			services.ServiceSpec{ClusterIPs: addrs("fd00::1"), Ports: noPort}},
		{"ports", api.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []api.ServicePort{{Name: "http", Protocol: "TCP", Port: 80}, {Port: 53}}},
			services.ServiceSpec{ClusterIPs: addrs("10.0.0.1"), Ports: []services.Port{{Name: "http", Protocol: "TCP", Number: 80}, {Number: 53}}}},
		{"no address", api.ServiceSpec{}, services.ServiceSpec{Ports: noPort}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Namespace, tc.want.Name = "ns", "svc"
			got := serviceSpec(&api.Service{ObjectMeta: meta.ObjectMeta{Namespace: "ns", Name: "svc"}, Spec: tc.spec})
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestSliceSpec(t *testing.T) {
	yes, no := true, false
	var (
		http        = "http"
		tcp         = api.ProtocolTCP
		port  int32 = 80
		host        = "h"
		empty       = ""
		zone        = "EU-1"
		long        = "a123456789a123456789a123456789a123456789a123456789a123456789abcd"
	)
	es := func(change func(*discovery.EndpointSlice)) *discovery.EndpointSlice {
		es := &discovery.EndpointSlice{
			ObjectMeta:  meta.ObjectMeta{Namespace: "ns", Name: "s", Labels: map[string]string{discovery.LabelServiceName: "svc"}},
			AddressType: discovery.AddressTypeIPv4,
		}
		change(es)
		return es
	}
	want := func(ports []services.Port, eps ...services.Endpoint) *services.SliceSpec {
		if ports == nil {
			ports = []services.Port{{Number: -1}}
		}
		if eps == nil {
			eps = []services.Endpoint{}
		}
		return &services.SliceSpec{Namespace: "ns", Name: "s", Ports: ports, Endpoints: eps}
	}
	tests := []struct {
		name string
		es   *discovery.EndpointSlice
		kept sliceParts
		want *services.SliceSpec
	}{
		{"nothing in it", es(func(*discovery.EndpointSlice) {}), sliceParts{}, want(nil)},
		{"names", es(func(es *discovery.EndpointSlice) { es.AddressType = discovery.AddressTypeFQDN }), sliceParts{}, nil},
		{"ports", es(func(es *discovery.EndpointSlice) {
			es.Ports = []discovery.EndpointPort{{Name: &http, Protocol: &tcp, Port: &port}, {}}
		}), sliceParts{}, want([]services.Port{{Name: "http", Protocol: "TCP", Number: 80}, {Number: -1}})},
		{"readiness", es(func(es *discovery.EndpointSlice) {
			es.Endpoints = []discovery.Endpoint{
				{Addresses: []string{"10.0.0.1"}},
				{Addresses: []string{"10.0.0.2"}, Conditions: discovery.EndpointConditions{Ready: &yes}},
				{Addresses: []string{"10.0.0.3"}, Conditions: discovery.EndpointConditions{Ready: &no, Serving: &yes}},
			}
		}), sliceParts{}, want(nil, services.Endpoint{Addrs: addrs("10.0.0.1")}, services.Endpoint{Addrs: addrs("10.0.0.2")})},
		{"a bad address", es(func(es *discovery.EndpointSlice) {
			es.Endpoints = []discovery.Endpoint{{Addresses: []string{"10.0.0.1", "x"}}}
		}), sliceParts{}, want(nil, services.Endpoint{Addrs: addrs("10.0.0.1")})},
		{"names of pods", es(func(es *discovery.EndpointSlice) {
			es.Endpoints = []discovery.Endpoint{
				{Hostname: &host, TargetRef: &api.ObjectReference{Name: "pod"}},
				{Hostname: &empty, TargetRef: &api.ObjectReference{Name: "pod"}},
				{TargetRef: &api.ObjectReference{Name: long}},
			}
		}), sliceParts{podNames: true}, want(nil, services.Endpoint{Name: "h"}, services.Endpoint{Name: "pod", PodName: true}, services.Endpoint{})},
		{"no names of pods", es(func(es *discovery.EndpointSlice) {
			es.Endpoints = []discovery.Endpoint{
				{Hostname: &host, TargetRef: &api.ObjectReference{Name: "pod"}},
				{TargetRef: &api.ObjectReference{Name: "pod"}},
			}
		}), sliceParts{}, want(nil, services.Endpoint{Name: "h"}, services.Endpoint{})},
		{"zones", es(func(es *discovery.EndpointSlice) {
			es.Endpoints = []discovery.Endpoint{{Addresses: []string{"10.0.0.1"}, Zone: &zone}, {Addresses: []string{"10.0.0.2"}}}
		}), sliceParts{zones: true},
			want(nil, services.Endpoint{Addrs: addrs("10.0.0.1"), Zone: "EU-1"}, services.Endpoint{Addrs: addrs("10.0.0.2")})},
		{"no zones", es(func(es *discovery.EndpointSlice) {
			es.Endpoints = []discovery.Endpoint{{Addresses: []string{"10.0.0.1"}, Zone: &zone}, {Addresses: []string{"10.0.0.2"}}}
		}), sliceParts{},
			want(nil, services.Endpoint{Addrs: addrs("10.0.0.1")}, services.Endpoint{Addrs: addrs("10.0.0.2")})},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := sliceSpec(tc.es, tc.kept); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestImportSpec(t *testing.T) {
	tests := []struct {
		name string
		spec mcs.ServiceImportSpec
		want services.ServiceSpec
	}{
		{"addresses", mcs.ServiceImportSpec{Type: mcs.ClusterSetIP, IPs: []string{"10.0.0.1", "fd00::1", "x"}},
			services.ServiceSpec{ClusterIPs: addrs("10.0.0.1", "fd00::1"), Ports: []services.Port{}}},
		{"headless", mcs.ServiceImportSpec{Type: mcs.Headless, IPs: []string{"10.0.0.1"}},
			services.ServiceSpec{Headless: true, Ports: []services.Port{}}},
		{"ports", mcs.ServiceImportSpec{Type: mcs.ClusterSetIP, Ports: []mcs.ServicePort{{Name: "http", Port: 80}, {Protocol: "UDP", Port: 53}}},
			services.ServiceSpec{Ports: []services.Port{{Name: "http", Protocol: "TCP", Number: 80}, {Protocol: "UDP", Number: 53}}}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Namespace, tc.want.Name = "ns", "svc"
			got := importSpec(&mcs.ServiceImport{ObjectMeta: meta.ObjectMeta{Namespace: "ns", Name: "svc"}, Spec: tc.spec})
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

// The owner of an EndpointSlice: a Service, a ServiceImport, both, or none.
func TestSliceOwners(t *testing.T) {
	const service, imported, cluster = discovery.LabelServiceName, mcs.LabelServiceName, mcs.LabelSourceCluster
	tests := []struct {
		labels          map[string]string
		local, imported string // the owner, then the labels of its endpoints; "" for a slice that is left out
	}{
		{nil, "", ""},
		{map[string]string{cluster: "east"}, "", ""},
		{map[string]string{service: "web", cluster: "east"}, "web.ns 10-0-0-1", ""},
		{map[string]string{imported: "web", cluster: "east"}, "", "web.ns 10-0-0-1.east"},
		{map[string]string{imported: "web"}, "", "web.ns 10-0-0-1"},
		{map[string]string{service: "imported-web", imported: "web", cluster: "east"}, "imported-web.ns 10-0-0-1", "web.ns 10-0-0-1.east"},
		{map[string]string{service: "no.label", imported: "no.label"}, "", ""},
	}
	show := func(s *services.Slice, v disposition) string {
		if v != keep {
			return ""
		}
		text := s.Owner()
		for label := range s.Labels {
			text += " " + label
		}
		return text
	}
	for _, tc := range tests {
		es := &discovery.EndpointSlice{
			ObjectMeta: meta.ObjectMeta{Namespace: "ns", Name: "s", Labels: tc.labels},
			Endpoints:  []discovery.Endpoint{{Addresses: []string{"10.0.0.1"}}},
		}
		if got := show(toSlice(sliceParts{})(es)); got != tc.local {
			t.Errorf("%v: got %q, want %q", tc.labels, got, tc.local)
		}
		if got := show(toImportedSlice(sliceParts{})(es)); got != tc.imported {
			t.Errorf("%v, imported: got %q, want %q", tc.labels, got, tc.imported)
		}
	}
}

func TestVerdicts(t *testing.T) {
	now := meta.NewTime(time.Now())
	pod := &api.Pod{ObjectMeta: meta.ObjectMeta{Namespace: "ns", Name: "p"}, Status: api.PodStatus{PodIPs: []api.PodIP{{IP: "10.0.0.1"}, {IP: "?"}}}}
	if p, v := toPod(pod); v != keep || p.ObjectName() != "p" {
		t.Errorf("a running pod: %v, %v", p, v)
	}
	pod.DeletionTimestamp = &now
	if _, v := toPod(pod); v != ignore {
		t.Errorf("a terminating pod: %v, want it ignored", v)
	}
	if _, v := toService(&api.Service{ObjectMeta: meta.ObjectMeta{Namespace: "ns", Name: "no.label"}}); v != drop {
		t.Errorf("a Service whose name is not a label: %v, want it dropped", v)
	}
	es := &discovery.EndpointSlice{ObjectMeta: meta.ObjectMeta{Namespace: "ns", Name: "s"}}
	if _, v := toServiceImport(&mcs.ServiceImport{ObjectMeta: meta.ObjectMeta{Namespace: "ns", Name: "no.label"}}); v != drop {
		t.Errorf("a ServiceImport whose name is not a label: %v, want it dropped", v)
	}
	if _, v := toSlice(sliceParts{})(es); v != drop {
		t.Errorf("a slice without a Service: %v, want it dropped", v)
	}
	es.Labels = map[string]string{discovery.LabelServiceName: "no.label"}
	if _, v := toSlice(sliceParts{})(es); v != drop {
		t.Errorf("a slice of a Service whose name is not a label: %v, want it dropped", v)
	}
}

func TestConfigMapData(t *testing.T) {
	got := configMapData(&api.ConfigMap{Data: map[string]string{"a": "1"}, BinaryData: map[string][]byte{"a": []byte("2"), "b": []byte("3")}})
	if want := map[string]string{"a": "1", "b": "3"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
