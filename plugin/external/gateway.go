package external

import "slices"

// The rules of the Gateway API for Gateways, ListenerSets and listeners, as far as names depend on them.

const gatewayGroup = "gateway.networking.k8s.io"

// NewGateway packs spec. It returns nil if no API server accepts a Gateway of that name.
func NewGateway(spec GatewaySpec) *Object {
	d := begin(KindGateway, &spec.Meta, nil)
	if d == nil {
		return nil
	}
	d.text(spec.Class)
	all, overridden := spec.target()
	if !overridden {
		all = spec.addresses()
	}
	d.bool(overridden)
	d.addresses(all)
	d.from(spec.AllowedListeners)
	d.listeners(spec.Listeners)
	return d.object()
}

// addresses returns the addresses with the types that the Gateway API defines.
func (spec *GatewaySpec) addresses() (all addresses) {
	for _, a := range spec.Addresses {
		if a.Type == "" || a.Type == "IPAddress" || a.Type == "Hostname" {
			all.add(a.Value)
		}
	}
	all.sort()
	return all
}

// gateway is the packed form of a Gateway, split into its parts.
type gateway struct {
	class      string
	overridden bool // places come from an annotation
	places     places
	shape      string // the listeners and what they allow: if it changes, routes are resolved again
}

func gatewayOf(packed form) (g gateway) {
	r := bodyOf(packed)
	g.class, g.overridden, g.places = r.text(), r.bool(), r.places()
	g.shape = r.s[r.at:]
	return g
}

// listening unpacks the shape.
func (g *gateway) listening() (From, []listener) {
	r := reader{g.shape, 0}
	return r.from(), r.listeners()
}

// Gateway returns a spec from which NewGateway makes an equal Object.
func (o *Object) Gateway() GatewaySpec {
	g := gatewayOf(o.packed)
	spec := GatewaySpec{Meta: o.meta(), Class: g.class}
	if g.overridden {
		spec.annotate(targetKeys, join(g.places.texts()))
	} else {
		for _, text := range g.places.texts() {
			spec.Addresses = append(spec.Addresses, Address{Value: text})
		}
	}
	var all []listener
	spec.AllowedListeners, all = g.listening()
	spec.Listeners = specs(all, 0)
	return spec
}

// NewListenerSet packs spec. It returns nil if its parent isn't a Gateway, or if no API server accepts a ListenerSet of
// that name.
func NewListenerSet(spec ListenerSetSpec) *Object {
	d := begin(KindListenerSet, &spec.Meta, nil)
	kind, ok := spec.Parent.kind()
	if d == nil || !ok || kind != KindGateway {
		return nil
	}
	d.shared.parent(&parentRef{ref: Ref{KindGateway, spec.Parent.namespace(spec.Namespace), spec.Parent.Name}})
	d.bool(accepted(spec.Conditions, spec.Generation) == present)
	target, _ := spec.target()
	d.addresses(target)
	all := slices.Clone(spec.Listeners)
	for i := range all {
		if accepted(all[i].Conditions, spec.Generation) != present { // unlike those of a Gateway, each has to be accepted
			all[i].Protocol = ""
		}
	}
	d.listeners(all)
	return d.object()
}

// listenerSet is the packed form of a ListenerSet, split into its parts.
type listenerSet struct {
	parent   Ref
	accepted bool
	places   places // from an annotation, in place of the Gateway's addresses
	at       reader // of the listeners
}

func listenerSetOf(packed form) (l listenerSet) {
	common := commonOf(packed.shared)
	l.parent, l.at = common.parent().ref, bodyOf(packed)
	l.accepted, l.places = l.at.bool(), l.at.places()
	return l
}

// ListenerSet returns a spec from which NewListenerSet makes an equal Object.
func (o *Object) ListenerSet() ListenerSetSpec {
	l := listenerSetOf(o.packed)
	spec := ListenerSetSpec{Meta: o.meta(), Parent: ParentRef{Namespace: l.parent.Namespace, Name: l.parent.Name}}
	spec.Generation = 1
	spec.annotate(targetKeys, join(l.places.texts()))
	if l.accepted {
		spec.Conditions = []Condition{{"Accepted", "True", spec.Generation}}
	}
	spec.Listeners = specs(l.at.listeners(), spec.Generation)
	return spec
}

// listener is a listener of a Gateway or a ListenerSet.
type listener struct {
	name, hostname string
	protocol       protocol
	port           int32
	routes         From
	kinds          Kinds // the kinds of routes that attach to it, by its protocol and by allowedRoutes.kinds
}

type protocol uint8

const (
	protocolNone protocol = iota // no route attaches to it, or the listener is rejected
	protocolHTTP
	protocolHTTPS
	protocolTLS // that terminates
	protocolPassthrough
	protocolTCP
	protocolUDP
)

// routes are the kinds of routes that attach to a listener of the protocol.
func (p protocol) routes() Kinds {
	switch p {
	case protocolHTTP, protocolHTTPS:
		return KindsOf(KindHTTPRoute, KindGRPCRoute)
	case protocolTLS:
		return KindsOf(KindTLSRoute, KindTCPRoute)
	case protocolPassthrough:
		return KindsOf(KindTLSRoute)
	case protocolTCP:
		return KindsOf(KindTCPRoute)
	case protocolUDP:
		return KindsOf(KindUDPRoute)
	}
	return 0
}

// named reports whether listeners of the protocol match hostnames.
func (p protocol) named() bool { return p >= protocolHTTP && p <= protocolPassthrough }

var protocols = [...]struct{ protocol, mode string }{
	protocolNone: {}, protocolHTTP: {protocol: "HTTP"}, protocolHTTPS: {protocol: "HTTPS"}, protocolTLS: {"TLS", "Terminate"},
	protocolPassthrough: {"TLS", "Passthrough"}, protocolTCP: {protocol: "TCP"}, protocolUDP: {protocol: "UDP"},
}

func (l *Listener) protocol() protocol {
	if rejected(l.Conditions) {
		return protocolNone
	}
	switch l.Protocol {
	case "HTTP":
		return protocolHTTP
	case "HTTPS":
		return protocolHTTPS
	case "TLS":
		if l.TLSMode == "Passthrough" {
			return protocolPassthrough
		}
		return protocolTLS
	case "TCP":
		return protocolTCP
	case "UDP":
		return protocolUDP
	}
	return protocolNone
}

// rejected reports whether the controller does not serve the listener: the listener is invalid, or in conflict with
// another.
func rejected(conditions []Condition) bool {
	for _, c := range conditions {
		if c.Type == "Accepted" && c.Status == "False" || c.Type == "Conflicted" && c.Status == "True" {
			return true
		}
	}
	return false
}

// allowed returns the kinds of routes that attach to a listener.
func (l *Listener) allowed(p protocol) Kinds {
	if len(l.Kinds) == 0 {
		return p.routes()
	}
	var set Kinds
	for _, k := range l.Kinds {
		if k.Group != nil && *k.Group != gatewayGroup {
			continue
		}
		for kind := KindHTTPRoute; kind <= KindUDPRoute; kind++ {
			if k.Kind == kind.String() {
				set |= 1 << kind
			}
		}
	}
	return set & p.routes()
}

// listeners writes the listeners that a route may attach to.
func (p *packer) listeners(all []Listener) {
	kept := make([]listener, 0, len(all))
	for i := range all[:min(len(all), maxListeners)] {
		l := listener{name: all[i].Name, protocol: all[i].protocol(), port: all[i].Port, routes: all[i].Routes}
		l.kinds = all[i].allowed(l.protocol)
		ok := l.kinds != 0
		if all[i].Hostname != "" && l.protocol.named() && ok {
			l.hostname, ok = hostname(all[i].Hostname)
		}
		if ok {
			kept = append(kept, l)
		}
	}
	p.len(len(kept))
	for _, l := range kept {
		p.text(l.name)
		p.text(l.hostname)
		p.byte(byte(l.protocol))
		p.uint(uint64(uint16(l.port))) // #nosec G115 -- a port
		p.from(l.routes)
		p.uint(uint64(l.kinds))
	}
}

func (r *reader) listeners() []listener {
	all := make([]listener, 0, 8)
	for range r.len() {
		all = append(all, listener{
			name: r.text(), hostname: r.text(), protocol: protocol(r.byte()), port: int32(r.uint()), routes: r.from(), kinds: Kinds(r.uint()), // #nosec G115 -- as written
		})
	}
	return all
}

// specs returns the specs of listeners.
func specs(all []listener, generation int64) []Listener {
	var specs []Listener
	for _, l := range all {
		spec := Listener{Name: l.name, Hostname: l.hostname, Port: l.port, Routes: l.routes}
		spec.Protocol, spec.TLSMode = protocols[l.protocol].protocol, protocols[l.protocol].mode
		if l.kinds != l.protocol.routes() {
			for kind := KindHTTPRoute; kind <= KindUDPRoute; kind++ {
				if l.kinds.Has(kind) {
					spec.Kinds = append(spec.Kinds, GroupKind{Kind: kind.String()})
				}
			}
		}
		if generation > 0 {
			spec.Conditions = []Condition{{"Accepted", "True", generation}}
		}
		specs = append(specs, spec)
	}
	return specs
}

// acceptance tells whether a controller accepted an object.
type acceptance uint8

const (
	notAccepted acceptance = iota
	earlier                // an earlier generation of it
	present                // the present generation
)

func accepted(conditions []Condition, generation int64) acceptance {
	for _, c := range conditions {
		switch {
		case c.Type != "Accepted" || c.Status != "True":
		case c.Generation == generation:
			return present
		default:
			return earlier
		}
	}
	return notAccepted
}

// kind returns the kind of the referenced object, a Gateway or a ListenerSet.
func (p *ParentRef) kind() (Kind, bool) {
	if p.Group != nil && *p.Group != gatewayGroup {
		return 0, false
	}
	switch p.Kind {
	case "", "Gateway":
		return KindGateway, true
	case "ListenerSet":
		return KindListenerSet, true
	}
	return 0, false
}

func (p *ParentRef) namespace(own string) string {
	if p.Namespace == "" {
		return own
	}
	return p.Namespace
}
