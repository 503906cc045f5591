package source

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	beta "k8s.io/api/discovery/v1beta1"
)

// ofEndpoints converts o to EndpointSlices as Kubernetes' EndpointSlice mirroring controller does: one for each subset
// and address family. It skips Endpoints with the label to skip them, or for a leader election.
//
//lint:ignore SA1019 deprecated, but found in manifests
func (m *manifest) ofEndpoints(o *api.Endpoints) {
	m.name = inNamespace(&o.Namespace, o.Name)
	m.labels = o.Labels
	const leader = "control-plane.alpha.kubernetes.io/leader"
	if _, elects := o.Annotations[leader]; elects || o.Labels[discovery.LabelSkipMirror] == "true" {
		return
	}
	labels := maps.Clone(o.Labels)
	if labels == nil {
		labels = make(map[string]string, 1)
	}
	labels[discovery.LabelServiceName] = o.Name
	for i := range o.Subsets {
		four, six := mirroredEndpoints(&o.Subsets[i])
		for family, endpoints := range map[discovery.AddressType][]discovery.Endpoint{
			discovery.AddressTypeIPv4: four, discovery.AddressTypeIPv6: six,
		} {
			if len(endpoints) == 0 {
				continue
			}
			slice := discovery.EndpointSlice{AddressType: family, Endpoints: endpoints, Ports: mirroredPorts(o.Subsets[i].Ports)}
			slice.Namespace, slice.Labels = o.Namespace, labels
			slice.Name = fmt.Sprintf("%s~%d-%s", o.Name, i, family) // no EndpointSlice can have this name
			mirror := &manifest{kind: kindSlice, file: m.file, line: m.line}
			mirror.ofSlice(&slice)
			m.mirrored = append(m.mirrored, mirror)
		}
	}
}

// mirroredEndpoints returns the endpoints of the ready addresses of s, by their family.
//
//lint:ignore SA1019 as above
func mirroredEndpoints(s *api.EndpointSubset) (four, six []discovery.Endpoint) {
	for i := range s.Addresses {
		a := &s.Addresses[i]
		ep := discovery.Endpoint{Addresses: []string{a.IP}, TargetRef: a.TargetRef}
		if a.Hostname != "" {
			ep.Hostname = &a.Hostname
		}
		ip, err := netip.ParseAddr(a.IP)
		if ip = ip.Unmap(); err == nil {
			ep.Addresses[0] = ip.String()
		}
		if ip.Is6() {
			six = append(six, ep)
		} else {
			four = append(four, ep)
		}
	}
	return four, six
}

func mirroredPorts(all []api.EndpointPort) []discovery.EndpointPort {
	ports := make([]discovery.EndpointPort, len(all))
	for i := range all {
		p := &all[i]
		ports[i] = discovery.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol}
	}
	return ports
}

// mirror adds to v the EndpointSlices that mirror its Endpoints, except for Services that have some: a cluster export
// has both. It returns the number of Endpoints skipped for that reason.
func (v *view) mirror() (skipped int) {
	has := make(map[objectName]bool)
	for _, o := range v.objects[kindSlice] {
		if service := o.labels[discovery.LabelServiceName]; service != "" {
			has[objectName{o.name.namespace, service}] = true
		}
	}
	for name, o := range v.objects[kindEndpoints] {
		if has[name] {
			skipped++
			continue
		}
		for _, slice := range o.mirrored {
			if v.objects[kindSlice] == nil {
				v.objects[kindSlice] = make(map[objectName]*manifest)
			}
			v.objects[kindSlice][slice.name] = slice
		}
	}
	return skipped
}

// betaSlice reads an EndpointSlice of discovery.k8s.io/v1beta1, where an endpoint's zone is one of its topology labels.
func betaSlice(raw json.RawMessage) (o discovery.EndpointSlice, err error) {
	var old beta.EndpointSlice
	if err := json.Unmarshal(raw, &old); err != nil {
		return o, err
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return o, err
	}
	for i := range min(len(o.Endpoints), len(old.Endpoints)) {
		if zone, ok := old.Endpoints[i].Topology[api.LabelTopologyZone]; ok {
			o.Endpoints[i].Zone = &zone
		}
	}
	return o, nil
}
