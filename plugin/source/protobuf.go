package source

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

// Only the needed parts of Services, EndpointSlices and Ingresses that an API server sends in protobuf are decoded:
// most of the bytes state which manager owns which field, on which node an endpoint is, and which path leads to which
// backend. With 80,000 endpoints, a start allocates 0.7 million times instead of 2 million, and reads them in a third
// less time. The numbers of the fields are those of generated.proto in k8s.io/api (core/v1, discovery/v1 and
// networking/v1) and k8s.io/apimachinery. They never change.

// keptCodecs are codecs that leave out the unneeded parts.
type keptCodecs struct {
	runtime.NegotiatedSerializer
	kept  sliceParts
	whole bool // leaves nothing out
}

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (c keptCodecs) DecoderToVersion(d runtime.Decoder, gv runtime.GroupVersioner) runtime.Decoder {
	return keptDecoder{c.NegotiatedSerializer.DecoderToVersion(d, gv), c.kept, c.whole}
}

// keptDecoder passes whatever it has no function for, or can't parse, to the Decoder in it.
type keptDecoder struct {
	runtime.Decoder
	kept  sliceParts
	whole bool
}

var (
	serviceKind = api.SchemeGroupVersion.WithKind(kindService)
	sliceKind   = discovery.SchemeGroupVersion.WithKind(kindSlice)
	ingressKind = networking.SchemeGroupVersion.WithKind(kindIngress)
)

// Decode implements runtime.Decoder. It turns a panic into an error: client-go would let it end the process.
func (d keptDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (o runtime.Object, kind *schema.GroupVersionKind, err error) {
	if into == nil && !d.whole {
		if safe.Recovered("decoding an object", func() { o, kind = d.decodeKept(data) }) == nil && o != nil {
			return o, kind, nil
		}
	}
	if failed := safe.Recovered("decoding an object", func() { o, kind, err = d.Decoder.Decode(data, defaults, into) }); failed != nil {
		return nil, nil, failed
	}
	return o, kind, err
}

// decodeKept returns nil if it has no function for the data, or can't parse it.
func (d keptDecoder) decodeKept(data []byte) (runtime.Object, *schema.GroupVersionKind) {
	kind, raw := unwrap(data)
	switch kind {
	case sliceKind:
		if es := decodeSlice(raw, d.kept); es != nil {
			return es, &kind
		}
	case serviceKind:
		if svc := decodeService(raw); svc != nil {
			return svc, &kind
		}
	case ingressKind:
		if i := decodeIngress(raw); i != nil {
			return i, &kind
		}
	}
	return nil, nil
}

// protobufPrefix begins an object or a list in protobuf.
const protobufPrefix = "k8s\x00"

// unwrap takes a Service, an EndpointSlice or an Ingress out of its envelope: a prefix, and the message runtime.Unknown
// of k8s.io/apimachinery. For anything else it returns no kind.
func unwrap(data []byte) (kind schema.GroupVersionKind, raw []byte) {
	data, ok := bytes.CutPrefix(data, []byte(protobufPrefix))
	if !ok {
		return kind, nil
	}
	var version, name []byte
	m := message{rest: data}
	for m.next() {
		switch m.field {
		case 1: // typeMeta
			if version, name, ok = pair(m.bytes); !ok {
				return kind, nil
			}
		case 2:
			raw = m.bytes
		case 3: // contentEncoding, never set
			if len(m.bytes) > 0 {
				return kind, nil
			}
		}
	}
	switch {
	case m.bad:
	case string(version) == "discovery.k8s.io/v1" && string(name) == kindSlice:
		return sliceKind, raw
	case string(version) == "v1" && string(name) == kindService:
		return serviceKind, raw
	case string(version) == "networking.k8s.io/v1" && string(name) == kindIngress:
		return ingressKind, raw
	}
	return kind, nil
}

// decodeService returns nil for data that it can't parse.
func decodeService(b []byte) *api.Service {
	svc := new(api.Service)
	ok := true
	m := message{rest: b}
	for ok && m.next() {
		switch m.field {
		case 1:
			ok = decodeMeta(&svc.ObjectMeta, m.bytes)
		case 2:
			ok = decodeServiceSpec(&svc.Spec, m.bytes)
		}
	}
	if !ok || m.bad {
		return nil
	}
	return svc
}

func decodeServiceSpec(spec *api.ServiceSpec, b []byte) bool {
	m := message{rest: b}
	for m.next() {
		switch m.field {
		case 1:
			var p api.ServicePort
			of := message{rest: m.bytes}
			for of.next() {
				switch of.field {
				case 1:
					p.Name = string(of.bytes)
				case 2:
					p.Protocol = protocol(of.bytes)
				case 3:
					p.Port = of.int32()
				}
			}
			if of.bad {
				return false
			}
			spec.Ports = append(spec.Ports, p)
		case 3:
			spec.ClusterIP = string(m.bytes)
		case 4:
			spec.Type = api.ServiceType(m.bytes)
		case 10:
			spec.ExternalName = string(m.bytes)
		case 18:
			spec.ClusterIPs = append(spec.ClusterIPs, string(m.bytes))
		}
	}
	return !m.bad
}

// decodeSlice returns nil for data that it can't parse.
func decodeSlice(b []byte, kept sliceParts) *discovery.EndpointSlice {
	const endpoints = 2
	n := 0
	m := message{rest: b}
	for m.next() {
		if m.field == endpoints {
			n++
		}
	}
	if m.bad {
		return nil
	}
	es := &discovery.EndpointSlice{Endpoints: make([]discovery.Endpoint, n)}
	addresses := make([]string, 0, n) // nearly always one each
	n = 0
	ok := true
	m = message{rest: b}
	for ok && m.next() {
		switch m.field {
		case 1:
			ok = decodeMeta(&es.ObjectMeta, m.bytes)
		case endpoints:
			addresses, ok = decodeEndpoint(&es.Endpoints[n], m.bytes, addresses, kept)
			n++
		case 3:
			var p discovery.EndpointPort
			p, ok = decodePort(m.bytes)
			es.Ports = append(es.Ports, p)
		case 4:
			es.AddressType = discovery.AddressType(m.bytes)
		}
	}
	if !ok {
		return nil
	}
	return es
}

// ready and notReady are the targets of an endpoint's condition.
var ready, notReady = true, false

// decodeEndpoint appends the addresses of ep to all.
func decodeEndpoint(ep *discovery.Endpoint, b []byte, all []string, kept sliceParts) ([]string, bool) {
	start, ok := len(all), true
	m := message{rest: b}
	for ok && m.next() {
		switch m.field {
		case 1:
			all = append(all, string(m.bytes))
		case 2:
			of := message{rest: m.bytes}
			for of.next() {
				switch {
				case of.field == 1 && of.number != 0:
					ep.Conditions.Ready = &ready
				case of.field == 1:
					ep.Conditions.Ready = &notReady
				}
			}
			ok = !of.bad
		case 3:
			hostname := string(m.bytes)
			ep.Hostname = &hostname
		case 4:
			if !kept.podNames {
				continue
			}
			of := message{rest: m.bytes}
			for of.next() {
				if of.field == 3 {
					ep.TargetRef = &api.ObjectReference{Name: string(of.bytes)}
				}
			}
			ok = !of.bad
		case 7:
			if kept.zones {
				zone := string(m.bytes)
				ep.Zone = &zone
			}
		}
	}
	ep.Addresses = all[start:len(all):len(all)]
	return all, ok && !m.bad
}

func decodePort(b []byte) (p discovery.EndpointPort, ok bool) {
	m := message{rest: b}
	for m.next() {
		switch m.field {
		case 1:
			name := string(m.bytes)
			p.Name = &name
		case 2:
			protocol := protocol(m.bytes)
			p.Protocol = &protocol
		case 3:
			number := m.int32()
			p.Port = &number
		}
	}
	return p, !m.bad
}

// decodeIngress returns nil for data that it can't understand.
func decodeIngress(b []byte) *networking.Ingress {
	i := new(networking.Ingress)
	ok := true
	m := message{rest: b}
	for ok && m.next() {
		switch m.field {
		case 1:
			ok = decodeMeta(&i.ObjectMeta, m.bytes) && decodePublished(&i.ObjectMeta, m.bytes)
		case 2:
			ok = decodeIngressSpec(&i.Spec, m.bytes)
		case 3:
			ok = decodeIngressStatus(&i.Status, m.bytes)
		}
	}
	if !ok || m.bad {
		return nil
	}
	return i
}

func decodeIngressSpec(spec *networking.IngressSpec, b []byte) bool {
	m := message{rest: b}
	for m.next() {
		switch m.field {
		case 3:
			host, _, ok := pair(m.bytes)
			if !ok {
				return false
			}
			spec.Rules = append(spec.Rules, networking.IngressRule{Host: string(host)})
		case 4:
			class := string(m.bytes)
			spec.IngressClassName = &class
		}
	}
	return !m.bad
}

func decodeIngressStatus(status *networking.IngressStatus, b []byte) bool {
	balancer, _, ok := pair(b)
	m := message{rest: balancer}
	for ok && m.next() {
		if m.field != 1 {
			continue
		}
		var ip, hostname []byte
		ip, hostname, ok = pair(m.bytes)
		to := &status.LoadBalancer.Ingress
		*to = append(*to, networking.IngressLoadBalancerIngress{IP: string(ip), Hostname: string(hostname)})
	}
	return ok && !m.bad
}

// decodePublished adds the metadata that only objects with external names need: see externalMeta.
func decodePublished(o *meta.ObjectMeta, b []byte) bool {
	ok := true
	m := message{rest: b}
	for ok && m.next() {
		switch m.field {
		case 7:
			o.Generation = int64(m.number) // #nosec G115 -- it was one
		case 8:
			of := message{rest: m.bytes}
			for of.next() {
				if of.field == 1 && of.number != 0 {
					o.CreationTimestamp = meta.Unix(int64(of.number), 0) // #nosec G115 -- it was one
				}
			}
			ok = !of.bad
		case 12:
			o.Annotations, ok = decodePair(o.Annotations, m.bytes, publishedAnnotations)
		}
	}
	return ok && !m.bad
}

// protocol makes no new string for a usual protocol.
func protocol(b []byte) api.Protocol {
	for _, p := range []api.Protocol{api.ProtocolTCP, api.ProtocolUDP, api.ProtocolSCTP} {
		if string(b) == string(p) {
			return p
		}
	}
	return api.Protocol(b)
}

// The labels and annotations that are needed.
var (
	keptLabels      = []string{discovery.LabelServiceName, mcs.LabelServiceName, mcs.LabelSourceCluster}
	keptAnnotations = []string{meta.InitialEventsAnnotationKey, api.EndpointsLastChangeTriggerTime}

	publishedAnnotations = append(external.Annotations(), classAnnotation)
)

func decodeMeta(o *meta.ObjectMeta, b []byte) bool {
	ok := true
	m := message{rest: b}
	for ok && m.next() {
		switch m.field {
		case 1:
			o.Name = string(m.bytes)
		case 3:
			o.Namespace = string(m.bytes)
		case 6:
			o.ResourceVersion = string(m.bytes)
		case 11:
			o.Labels, ok = decodePair(o.Labels, m.bytes, keptLabels)
		case 12:
			o.Annotations, ok = decodePair(o.Annotations, m.bytes, keptAnnotations)
		}
	}
	return ok && !m.bad
}

// decodePair adds a pair to all, which may be nil, if its key is one of kept.
func decodePair(all map[string]string, b []byte, kept []string) (map[string]string, bool) {
	key, value, ok := pair(b)
	at := slices.IndexFunc(kept, func(k string) bool { return k == string(key) })
	if at < 0 {
		return all, ok
	}
	if all == nil {
		all = make(map[string]string)
	}
	all[kept[at]] = string(value)
	return all, ok
}

// pair returns the first two fields of a message, such as the key and the value of a map entry.
func pair(b []byte) (first, second []byte, ok bool) {
	m := message{rest: b}
	for m.next() {
		switch m.field {
		case 1:
			first = m.bytes
		case 2:
			second = m.bytes
		}
	}
	return first, second, !m.bad
}

// message walks the fields of a message in protobuf.
type message struct {
	rest []byte
	bad  bool // it can't be parsed

	field  protowire.Number
	bytes  []byte // of a field that has a length
	number uint64 // of a varint
}

// next moves on to the next field, and reports whether there is one.
func (m *message) next() bool {
	if len(m.rest) == 0 {
		return false
	}
	field, kind, n := protowire.ConsumeTag(m.rest)
	if m.bad = n < 0; m.bad {
		return false
	}
	m.field, m.rest, m.bytes, m.number = field, m.rest[n:], nil, 0
	switch kind {
	case protowire.BytesType:
		m.bytes, n = protowire.ConsumeBytes(m.rest)
	case protowire.VarintType:
		m.number, n = protowire.ConsumeVarint(m.rest)
	default:
		n = protowire.ConsumeFieldValue(field, kind, m.rest)
	}
	if m.bad = n < 0; m.bad {
		return false
	}
	m.rest = m.rest[n:]
	return true
}

// int32 returns the field as a number of that type; a negative one comes in 64 bits.
func (m *message) int32() int32 { return int32(m.number) } // #nosec G115 -- it was one
