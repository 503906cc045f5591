package differential

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/kubehosts/kubehosts/test/cluster"
	"sigs.k8s.io/mcs-api/config/crd"
)

// clusters are the origins of imported endpoints; one has no name.
var clusters = []string{"cluster-a", "cluster-b", ""}

// addImports adds ServiceImports of every kind and their EndpointSlices. Some have the same names as
// Services.
func (w *world) addImports() {
	ports := func() (all []mcs.ServicePort) {
		for _, p := range w.ports() {
			all = append(all, mcs.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
		}
		return all
	}
	for i, spec := range []mcs.ServiceImportSpec{
		{Type: mcs.ClusterSetIP, IPs: []string{"10.112.0.1"}, Ports: ports()},
		{Type: mcs.ClusterSetIP, IPs: []string{"fd00:112::2"}, Ports: ports()},
		{Type: mcs.ClusterSetIP, IPs: []string{"10.112.0.3", "fd00:112::3"}, Ports: ports()},
		{Type: mcs.ClusterSetIP, IPs: []string{"10.112.0.4"}, Ports: []mcs.ServicePort{{Port: 80}}},
		{Type: mcs.ClusterSetIP, IPs: []string{"10.112.0.5"}, Ports: []mcs.ServicePort{}},
		{Type: mcs.ClusterSetIP, Ports: ports()},
		{Type: mcs.Headless, Ports: ports()},
		{Type: mcs.Headless, Ports: ports()},
		{Type: mcs.Headless, Ports: []mcs.ServicePort{}},
		{Type: mcs.Headless, IPs: []string{"10.112.0.6"}, Ports: ports()},
	} {
		for _, namespace := range []string{"shop", w.namespace()} {
			name := fmt.Sprintf("import-%d", i)
			if w.chance(3) {
				name = pick(w.r, w.services).Name
			}
			if w.imported(namespace, name) {
				continue
			}
			w.imports = append(w.imports, &mcs.ServiceImport{
				TypeMeta: meta.TypeMeta{APIVersion: mcs.GroupVersion.String(), Kind: "ServiceImport"},
				ObjectMeta: meta.ObjectMeta{
					Namespace: namespace, Name: name,
					Labels: map[string]string{"tier": "front", "team": "red"}, // stock selects by other labels
				},
				Spec: spec,
			})
			for range w.r.IntN(4) {
				w.addImportedSlice(namespace, name, spec.Ports)
			}
		}
	}
	w.addImportedSlice("shop", "no-such-import", nil)
	for i := range 3 { // one is queried with any seed: the intended difference must occur
		w.addFromNowhere(fmt.Sprintf("from-nowhere-%d", i))
	}
}

// addFromNowhere adds a headless ServiceImport and its only EndpointSlice, which has no cluster
// label.
func (w *world) addFromNowhere(name string) {
	ports := []mcs.ServicePort{{Name: "http", Protocol: core.ProtocolTCP, Port: 80}}
	w.imports = append(w.imports, &mcs.ServiceImport{
		TypeMeta:   meta.TypeMeta{APIVersion: mcs.GroupVersion.String(), Kind: "ServiceImport"},
		ObjectMeta: meta.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"tier": "front", "team": "red"}},
		Spec:       mcs.ServiceImportSpec{Type: mcs.Headless, Ports: ports},
	})
	w.addImportedSlice("shop", name, ports)
	s := w.slices[len(w.slices)-1]
	delete(s.Labels, mcs.LabelSourceCluster)
	s.AddressType = discovery.AddressTypeIPv4
	s.Ports = []discovery.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(core.ProtocolTCP)}}
	s.Endpoints = []discovery.Endpoint{{Addresses: []string{fmt.Sprintf("10.245.0.%d", w.r.IntN(16))}}}
}

func (w *world) imported(namespace, name string) bool {
	for _, s := range w.imports {
		if s.Namespace == namespace && s.Name == name {
			return true
		}
	}
	return false
}

func (w *world) addImportedSlice(namespace, service string, ports []mcs.ServicePort) {
	var of []core.ServicePort
	for _, p := range ports {
		of = append(of, port(p.Name, p.Port, cmp.Or(p.Protocol, core.ProtocolTCP)))
	}
	s := w.addSlice(namespace, "", of)
	for i := range s.Endpoints { // few addresses, only used here: stock gives no reply about them in a reverse zone
		for j := range s.Endpoints[i].Addresses {
			s.Endpoints[i].Addresses[j] = fmt.Sprintf("10.245.0.%d", w.r.IntN(16))
			if s.AddressType == discovery.AddressTypeIPv6 {
				s.Endpoints[i].Addresses[j] = fmt.Sprintf("fd00:245::%x", 1+w.r.IntN(15))
			}
		}
	}
	meta.SetMetaDataLabel(&s.ObjectMeta, mcs.LabelServiceName, service)
	if from := pick(w.r, clusters); from != "" {
		meta.SetMetaDataLabel(&s.ObjectMeta, mcs.LabelSourceCluster, from)
	}
	if w.chance(8) { // a slice of a Service and of a ServiceImport
		meta.SetMetaDataLabel(&s.ObjectMeta, discovery.LabelServiceName, pick(w.r, w.services).Name)
	}
}

// exports reports whether a cluster has ready endpoints of a ServiceImport, "name.namespace".
func (w *world) exports(from, owner string) bool {
	for _, s := range w.slices {
		if s.Labels[mcs.LabelServiceName]+"."+s.Namespace != owner || s.Labels[mcs.LabelSourceCluster] != from {
			continue
		}
		for _, ep := range s.Endpoints {
			if ep.Conditions.Ready == nil || *ep.Conditions.Ready {
				return true
			}
		}
	}
	return false
}

// createImports creates the ServiceImports, once the API server serves the kind.
func (w *world) createImports(t testing.TB, api *cluster.API) error {
	api.Apply(t, string(crd.ServiceImportCRD))
	api.WaitServed(t, mcs.GroupVersion.String()+"/serviceimports", true)
	return each(w.imports, func(s *mcs.ServiceImport) error {
		text, err := yaml.Marshal(s)
		if err == nil {
			api.Apply(t, string(text))
		}
		return err
	})
}

// imports adds the names of ServiceImports and their endpoints.
func (n *namer) imports(zone string) {
	for _, s := range n.w.imports {
		owner := s.Name + "." + s.Namespace + ".svc"
		n.have(below(owner, zone))
		for _, p := range s.Spec.Ports {
			n.have(below("_"+p.Name+"._"+strings.ToLower(string(p.Protocol))+"."+owner, zone))
		}
		for _, left := range []string{"cluster-a", "cluster-b", "_tcp", "_udp", "_._tcp", "_http._tcp", "host-0", "host-0.cluster-a", "host-1._b", "_host-1.cluster-b",
			"_._", "*.cluster-a", "host-0.*", "x.host-0.cluster-a", "zone-a.pin._zone", "host-0.Cluster-B"} {
			n.add(below(left+"."+owner, zone))
		}
	}
	for _, s := range n.w.slices {
		service, ok := s.Labels[mcs.LabelServiceName]
		if !ok {
			continue
		}
		owner := service + "." + s.Namespace + ".svc"
		for _, ep := range s.Endpoints {
			label := dashed(ep.Addresses[0])
			if ep.Hostname != nil {
				label = *ep.Hostname
			}
			n.have(below(label+"."+s.Labels[mcs.LabelSourceCluster]+"."+owner, zone))
			n.add(below(label+"."+owner, zone), below(label+"."+pick(n.r, clusters)+"."+owner, zone), below(s.Labels[mcs.LabelSourceCluster]+"."+label+"."+owner, zone),
				below("_http._tcp."+label+"."+owner, zone))
		}
	}
}
