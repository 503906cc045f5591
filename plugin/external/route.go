package external

import "slices"

// NewRoute packs spec. It returns nil if no Gateway and no ListenerSet accepted the route, if it has only invalid
// hostnames, or if no API server accepts a route of that name.
//
// A route counts for a parent whose status is Accepted for the current generation. If that is for an earlier
// generation, the hostnames count that the route had, as seen by the Index, when that generation was accepted: a
// controller takes a moment to accept an edit, and serves the earlier one until then.
func NewRoute(spec RouteSpec) *Object {
	if !spec.Kind.route() {
		return nil
	}
	parents := spec.accepted()
	hosts := hostnames(maxHostnames, spec.Hostnames, list(spec.annotated(hostnameKeys)))
	open := len(spec.Hostnames) == 0
	d := begin(spec.Kind, &spec.Meta, hosts)
	if d == nil || len(parents) == 0 || !open && len(hosts) == 0 {
		return nil
	}
	d.shared.bool(open)
	d.shared.len(len(parents))
	for i := range parents {
		d.shared.parent(&parents[i])
	}
	var own packer
	own.hosts(hosts, d.zone, spec.Name)
	d.text(string(own))
	return d.object()
}

// parentRef is a parent of a route that accepted it.
type parentRef struct {
	ref     Ref
	section string
	port    int32
	earlier bool // it accepted an earlier generation of the route
}

// accepted returns the parents that accepted the route.
func (spec *RouteSpec) accepted() []parentRef {
	var parents []parentRef
	for i := range spec.Parents[:min(len(spec.Parents), maxParents)] {
		ref := &spec.Parents[i]
		kind, ok := ref.kind()
		if !ok {
			continue
		}
		best := notAccepted
		for j := range spec.Status {
			if spec.Status[j].same(ref, spec.Namespace) {
				best = max(best, accepted(spec.Status[j].Conditions, spec.Generation))
			}
		}
		if best != notAccepted {
			parents = append(parents, parentRef{Ref{kind, ref.namespace(spec.Namespace), ref.Name}, ref.Section, ref.Port, best == earlier})
		}
	}
	return parents
}

// same reports whether p and o are the same reference, in an object of that namespace.
func (p *ParentRef) same(o *ParentRef, namespace string) bool {
	k1, ok1 := p.kind()
	k2, ok2 := o.kind()
	return ok1 && ok2 && k1 == k2 && p.namespace(namespace) == o.namespace(namespace) && p.Name == o.Name && p.Section == o.Section && p.Port == o.Port
}

// byteEarlier is set in the byte of the kind of a parent that accepted an earlier generation.
const byteEarlier = 0x80

func (p *packer) parent(ref *parentRef) {
	kind := byte(ref.ref.Kind)
	if ref.earlier {
		kind |= byteEarlier
	}
	p.byte(kind)
	p.text(ref.ref.Namespace)
	p.text(ref.ref.Name)
	p.text(ref.section)
	p.uint(uint64(uint16(ref.port))) // #nosec G115 -- a port
}

func (r *reader) parent() parentRef {
	kind := r.byte()
	return parentRef{Ref{Kind(kind &^ byteEarlier), r.text(), r.text()}, r.text(), int32(r.uint()), kind&byteEarlier != 0} // #nosec G115 -- a port
}

// route is the packed form of a route, split into its parts.
type route struct {
	packed  form
	open    bool // it has no hostnames, except from an annotation: those of the listeners count
	parents reader
	n       int // number of parents
}

func routeOf(packed form) (rt route) {
	r := commonOf(packed.shared)
	rt = route{packed: packed, open: r.bool(), n: r.len()}
	rt.parents = r
	return rt
}

// all returns the parents and the hostnames.
func (rt *route) all() ([]parentRef, []own) {
	r := rt.parents
	parents := make([]parentRef, rt.n)
	for i := range parents {
		parents[i] = r.parent()
	}
	hosts := bodyOf(rt.packed)
	hosts.len()
	return parents, hosts.owns(rt.packed)
}

// own is a hostname of a route, and its offset in the packed form.
type own struct {
	name string
	at   int
}

func (r *reader) owns(of form) []own {
	all := make([]own, r.len())
	for i := range all {
		all[i].at = r.at
		all[i].name = r.host(of).String()
	}
	return all
}

// Route returns a spec from which NewRoute makes an equal Object. A parent that accepted an earlier generation becomes
// one that accepted the current one if hostnames count for it.
func (o *Object) Route() RouteSpec {
	rt := routeOf(o.packed)
	spec := RouteSpec{Meta: o.meta(), Kind: o.Kind()}
	spec.Generation = 1
	parents, owns := rt.all()
	for _, p := range parents {
		ref := ParentRef{Kind: p.ref.Kind.String(), Namespace: p.ref.Namespace, Name: p.ref.Name, Section: p.section, Port: p.port}
		c := Condition{"Accepted", "True", spec.Generation}
		if p.earlier {
			c.Generation--
		}
		spec.Parents = append(spec.Parents, ref)
		spec.Status = append(spec.Status, ParentStatus{ref, []Condition{c}})
	}
	var hosts []string
	for _, own := range owns {
		hosts = append(hosts, own.name)
	}
	if rt.open {
		spec.annotate(hostnameKeys, join(hosts))
	} else {
		spec.Hostnames = hosts
	}
	return spec
}

// The parts that an Index appends to those of a route itself:
//
//	head:    the number of holders, at most maxParents, and two bits: whether carried is there, and whether names are not
//	carried: for each parent that accepted an earlier generation, whether the hostnames of the listeners count, and the
//	         places of those of the route that do
//	holders: the objects with the addresses
//	names:   each once, with the set of its holders if there are several; not if they are the hostnames of the route,
//	         each with all holders

const (
	headCarried = 1 << iota
	headWhole
	headHolder // one
)

// resolved is what an Index has resolved of a route.
type resolved struct {
	carried []carried // one for each parent with earlier
	holders []holder
	names   []led
}

type carried struct {
	open bool
	at   []int
}

// holder is the object with the addresses that names lead to: the Gateway, or a ListenerSet with addresses from an
// annotation.
type holder struct{ id, gateway objectID }

// led is a name and its holders.
type led struct {
	own        // at is 0 for a name of a listener
	to  uint64 // a bit for each holder
}

// with returns the packed form of a route that has the hostnames owns, with the parts that an Index appends.
func (res *resolved) with(raw form, owns []own) form {
	p := make(packer, 0, len(raw.own)+64)
	p.raw(raw.own)
	head, whole := len(res.holders)*headHolder, res.whole(owns)
	if whole {
		head |= headWhole
	}
	if len(res.carried) > 0 {
		p.len(head | headCarried)
		p.carried(res.carried)
	} else {
		p.len(head)
	}
	for _, h := range res.holders {
		if h.id == h.gateway {
			p.uint(uint64(h.gateway) << 1)
		} else {
			p.uint(uint64(h.gateway)<<1 | 1)
			p.uint(uint64(h.id))
		}
	}
	if !whole {
		p.led(res.names, raw, len(res.holders) > 1)
	}
	return form{raw.shared, string(p)}
}

// whole reports whether the names are owns, each with all holders.
func (res *resolved) whole(owns []own) bool {
	return slices.EqualFunc(res.names, owns, func(n led, o own) bool { return n.own == o && n.to == 1<<len(res.holders)-1 })
}

func (p *packer) led(names []led, of form, several bool) {
	p.len(len(names))
	for _, n := range names {
		if p.len(n.at); n.at == 0 {
			p.host(n.name, zoneOf(of), nameOf(of))
		}
		if several {
			p.uint(n.to)
		}
	}
}

// carried writes all as one text, which a look-up skips.
func (p *packer) carried(all []carried) {
	var text packer
	for _, c := range all {
		text.bool(c.open)
		text.len(len(c.at))
		for _, at := range c.at {
			text.len(at)
		}
	}
	p.text(string(text))
}

func (r *reader) carried() (all []carried) {
	text := reader{s: r.text()}
	for text.at < len(text.s) {
		c := carried{open: text.bool(), at: make([]int, text.len())}
		for i := range c.at {
			c.at[i] = text.len()
		}
		all = append(all, c)
	}
	return all
}

// atNames is set in the offset of a claim of a route whose entry is in names. Others are in the route's hostnames.
const atNames = 1 << 31

// inNames returns a reader of an entry in names, and whether the offset is that of one.
func inNames(packed form, at uint32) (r reader, ok bool) {
	return reader{packed.own, int(at &^ atNames)}, at&atNames != 0
}

// own reads an entry in names of a route: the offset of one of its hostnames, or 0 and a name of a listener.
func (r *reader) own(of form) host {
	if at := r.len(); at > 0 {
		r = &reader{r.s, at}
	}
	return r.host(of)
}

// holderReader reads the holders of a route. After the last one it is at the names.
type holderReader struct {
	r     reader
	n     int // number of holders
	left  int
	whole bool // there are no names
}

func holdersOf(packed form) (h holderReader) {
	h.r = reader{packed.own, lengthOf(packed)}
	if h.r.at == len(packed.own) {
		return h // not resolved yet
	}
	head := h.r.len()
	if head&headCarried != 0 {
		h.r.text()
	}
	h.n, h.whole = head/headHolder, head&headWhole != 0
	h.left = h.n
	return h
}

// next returns the next holder.
func (h *holderReader) next() (next holder, ok bool) {
	if h.left == 0 {
		return next, false
	}
	h.left--
	n := h.r.uint()
	next.gateway = objectID(n >> 1) // #nosec G115 -- as written
	if next.id = next.gateway; n&1 != 0 {
		next.id = objectID(h.r.uint()) // #nosec G115 -- as written
	}
	return next, true
}

// heldReader reads the holders of one name of a route.
type heldReader struct {
	h  holderReader
	to uint64 // a bit for each remaining holder
}

// heldBy returns the holders of the name whose entry is at that offset in the packed form of a
// route.
func heldBy(packed form, at uint32) heldReader {
	h := heldReader{holdersOf(packed), 1}
	if h.h.n < 2 {
		return h
	}
	if r, ok := inNames(packed, at); ok {
		r.own(packed)
		h.to = r.uint()
	} else {
		h.to = 1<<h.h.n - 1
	}
	return h
}

// next returns the next holder.
func (h *heldReader) next() (holder, bool) {
	for h.to != 0 {
		next, ok := h.h.next()
		leads := h.to&1 != 0
		if h.to >>= 1; !ok || leads {
			return next, ok
		}
	}
	return holder{}, false
}

// held yields the holders of heldBy.
func held(packed form, at uint32, yield func(holder) bool) bool {
	h := heldBy(packed, at)
	for {
		next, ok := h.next()
		if !ok {
			return true
		}
		if !yield(next) {
			return false
		}
	}
}
