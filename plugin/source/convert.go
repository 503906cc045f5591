package source

import (
	"cmp"
	"fmt"
	"net/netip"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// The kinds of objects, as named in metrics and logs.
const (
	kindNamespace     = "Namespace"
	kindService       = "Service"
	kindSlice         = "EndpointSlice"
	kindEndpoints     = "Endpoints" // in manifests only, where it yields the EndpointSlices that mirror it
	kindPod           = "Pod"
	kindConfigMap     = "ConfigMap"
	kindServiceImport = "ServiceImport"
	kindImportedSlice = "ImportedEndpointSlice" // an EndpointSlice that belongs to a ServiceImport
)

// disposition is what to do with an object.
type disposition uint8

const (
	keep   disposition = iota // it replaces the object of its name
	drop                      // it is not stored, and the object of its name is removed
	ignore                    // it is not stored, and the object of its name stays
)

// serviceSpec returns the fields of svc that are stored.
func serviceSpec(svc *api.Service) services.ServiceSpec {
	spec := services.ServiceSpec{
		Namespace:    svc.Namespace,
		Name:         svc.Name,
		External:     svc.Spec.Type == api.ServiceTypeExternalName,
		ExternalName: svc.Spec.ExternalName,
		Ports:        make([]services.Port, 0, max(1, len(svc.Spec.Ports))),
	}
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP} // from before dual stack
	}
	spec.Headless = ips[0] == api.ClusterIPNone
	for _, ip := range ips {
		if ip == "" || ip == api.ClusterIPNone || spec.External {
			continue
		}
		if addr, ok := address(ip, kindService, objectName{svc.Namespace, svc.Name}); ok {
			spec.ClusterIPs = append(spec.ClusterIPs, addr)
		}
	}
	for _, p := range svc.Spec.Ports {
		spec.Ports = append(spec.Ports, services.Port{Name: p.Name, Protocol: string(p.Protocol), Number: p.Port})
	}
	if len(spec.Ports) == 0 {
		spec.Ports = append(spec.Ports, services.Port{Number: -1})
	}
	return spec
}

// toService packs svc.
func toService(svc *api.Service) (*services.Service, disposition) {
	return packService(kindService, serviceSpec(svc))
}

// importSpec returns the fields of si that are stored (KEP-1645). It sets the default protocol of ports, because the
// definition of the resource has no default.
func importSpec(si *mcs.ServiceImport) services.ServiceSpec {
	spec := services.ServiceSpec{
		Namespace: si.Namespace,
		Name:      si.Name,
		Headless:  si.Spec.Type == mcs.Headless,
		Ports:     make([]services.Port, 0, len(si.Spec.Ports)),
	}
	for _, ip := range si.Spec.IPs {
		if spec.Headless {
			break
		}
		if addr, ok := address(ip, kindServiceImport, objectName{si.Namespace, si.Name}); ok {
			spec.ClusterIPs = append(spec.ClusterIPs, addr)
		}
	}
	for _, p := range si.Spec.Ports {
		protocol := cmp.Or(p.Protocol, api.ProtocolTCP)
		spec.Ports = append(spec.Ports, services.Port{Name: p.Name, Protocol: string(protocol), Number: p.Port})
	}
	return spec
}

// toServiceImport packs si.
func toServiceImport(si *mcs.ServiceImport) (*services.Service, disposition) {
	return packService(kindServiceImport, importSpec(si))
}

func packService(kind string, spec services.ServiceSpec) (*services.Service, disposition) {
	s := services.NewService(spec)
	if s == nil {
		reject(kind, objectName{spec.Namespace, spec.Name}, "left out: no query can contain its name or namespace")
		return nil, drop
	}
	return s, keep
}

// sliceParts are the parts of EndpointSlices that are stored only if they are needed.
type sliceParts struct {
	podNames bool // endpoints without a hostname are named after their pods
	zones    bool // the topology zones of endpoints
}

// sliceSpec returns the fields of es that are stored, except its names: its ready endpoints. It returns nil if es holds
// names (addressType FQDN), which mean nothing in the API.
func sliceSpec(es *discovery.EndpointSlice, kept sliceParts) *services.SliceSpec {
	if es.AddressType == discovery.AddressTypeFQDN {
		return nil
	}
	name := objectName{es.Namespace, es.Name}
	spec := &services.SliceSpec{
		Namespace: es.Namespace,
		Name:      es.Name,
		Ports:     make([]services.Port, 0, max(1, len(es.Ports))),
		Endpoints: make([]services.Endpoint, 0, len(es.Endpoints)),
	}
	for _, p := range es.Ports {
		port := services.Port{Number: -1}
		if p.Name != nil {
			port.Name = *p.Name
		}
		if p.Protocol != nil {
			port.Protocol = string(*p.Protocol)
		}
		if p.Port != nil {
			port.Number = *p.Port
		}
		spec.Ports = append(spec.Ports, port)
	}
	if len(spec.Ports) == 0 {
		spec.Ports = append(spec.Ports, services.Port{Number: -1})
	}
	addrs := make([]netip.Addr, 0, len(es.Endpoints)) // nearly always one each
	for i := range es.Endpoints {
		ep := &es.Endpoints[i]
		if ep.Conditions.Ready != nil && !*ep.Conditions.Ready { // the API counts unknown as ready
			continue
		}
		var to services.Endpoint
		to.Name, to.PodName = endpointName(ep, kept.podNames)
		if kept.zones && ep.Zone != nil {
			to.Zone = *ep.Zone
		}
		start := len(addrs)
		for _, a := range ep.Addresses {
			if addr, ok := address(a, kindSlice, name); ok {
				addrs = append(addrs, addr)
			}
		}
		if len(addrs) > start {
			to.Addrs = addrs[start:len(addrs):len(addrs)]
		}
		spec.Endpoints = append(spec.Endpoints, to)
	}
	return spec
}

// endpointName returns an endpoint's hostname or, without one and with podNames, the name of its
// pod.
func endpointName(ep *discovery.Endpoint, podNames bool) (name string, ofPod bool) {
	if ep.Hostname != nil && *ep.Hostname != "" {
		return *ep.Hostname, false
	}
	if podNames && ep.TargetRef != nil && len(ep.TargetRef.Name) < 64 {
		return ep.TargetRef.Name, true
	}
	return "", false
}

// toSlice returns a function that packs an EndpointSlice.
func toSlice(kept sliceParts) func(*discovery.EndpointSlice) (*services.Slice, disposition) {
	return func(es *discovery.EndpointSlice) (*services.Slice, disposition) {
		return packSlice(sliceSpec(es, kept), es.Labels)
	}
}

// toImportedSlice returns a function that packs an EndpointSlice of a ServiceImport.
func toImportedSlice(kept sliceParts) func(*discovery.EndpointSlice) (*services.Slice, disposition) {
	return func(es *discovery.EndpointSlice) (*services.Slice, disposition) {
		return packImportedSlice(sliceSpec(es, kept), es.Labels)
	}
}

// packSlice packs spec, which may be nil, for the Service that the slice's labels name.
func packSlice(spec *services.SliceSpec, labels map[string]string) (*services.Slice, disposition) {
	return packSliceOf(spec, labels[discovery.LabelServiceName], "")
}

// packImportedSlice packs spec, which may be nil, for the ServiceImport that the slice's labels name.
func packImportedSlice(spec *services.SliceSpec, labels map[string]string) (*services.Slice, disposition) {
	return packSliceOf(spec, labels[mcs.LabelServiceName], labels[mcs.LabelSourceCluster])
}

func packSliceOf(spec *services.SliceSpec, service, cluster string) (*services.Slice, disposition) {
	if spec == nil || service == "" {
		return nil, drop
	}
	of := *spec
	of.Service, of.Cluster = service, cluster
	s := services.NewSlice(of)
	if s == nil {
		reject(kindSlice, objectName{spec.Namespace, spec.Name},
			fmt.Sprintf("left out: no query can contain the name of its Service %.100q", service))
		return nil, drop
	}
	return s, keep
}

// toPod packs pod. It ignores one that is being deleted: its address answers until the pod is gone.
func toPod(pod *api.Pod) (*services.Pod, disposition) {
	if !pod.DeletionTimestamp.IsZero() {
		return nil, ignore
	}
	return packPod(podSpec(pod))
}

func podSpec(pod *api.Pod) *services.PodSpec {
	spec := &services.PodSpec{Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels}
	for _, ip := range pod.Status.PodIPs {
		if addr, ok := address(ip.IP, kindPod, objectName{pod.Namespace, pod.Name}); ok {
			spec.IPs = append(spec.IPs, addr)
		}
	}
	return spec
}

func packPod(spec *services.PodSpec) (*services.Pod, disposition) {
	p := services.NewPod(*spec)
	if p == nil {
		reject(kindPod, objectName{spec.Namespace, spec.Name}, "left out: no query can contain its namespace")
		return nil, drop
	}
	if len(spec.IPs) == 0 { // not yet, or no longer
		return nil, drop
	}
	return p, keep
}

// namespace is the stored form of a Namespace.
type namespace struct{ name string }

func toNamespace(ns *api.Namespace) (*namespace, disposition) { return &namespace{ns.Name}, keep }

// address parses an address of the object name.
func address(s, kind string, name objectName) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		reject(kind, name, fmt.Sprintf("%.100q is not an IP address", s))
		return netip.Addr{}, false
	}
	return addr, true
}

// configMapData returns the values of a ConfigMap's keys, text and binary alike.
func configMapData(cm *api.ConfigMap) map[string]string {
	data := make(map[string]string, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.BinaryData {
		data[k] = string(v)
	}
	for k, v := range cm.Data {
		data[k] = v
	}
	return data
}
