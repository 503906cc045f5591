package external

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
	p := begin(spec.Kind, &spec.Meta)
	parents := spec.accepted()
	hosts := hostnames(maxHostnames, spec.Hostnames, list(spec.annotated(hostnameKeys)))
	open := len(spec.Hostnames) == 0
	if p == nil || len(parents) == 0 || !open && len(hosts) == 0 {
		return nil
	}
	p.bool(open)
	p.len(len(parents))
	for i := range parents {
		p.parent(&parents[i])
	}
	p.texts(hosts)
	return p.object()
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
	packed  string
	open    bool // it has no hostnames, except from an annotation: those of the listeners count
	parents reader
	n       int // number of parents
}

func routeOf(packed string) (rt route) {
	r := bodyOf(packed)
	rt = route{packed: packed, open: r.bool(), n: r.len()}
	rt.parents = r
	return rt
}

// all returns the parents and a reader of the hostnames.
func (rt *route) all() ([]parentRef, reader) {
	r := rt.parents
	parents := make([]parentRef, rt.n)
	for i := range parents {
		parents[i] = r.parent()
	}
	return parents, r
}

// own is a hostname of a route, and its offset in the packed form.
type own struct {
	name string
	at   int
}

func (r *reader) owns() []own {
	all := make([]own, r.len())
	for i := range all {
		all[i].at = r.at
		all[i].name = r.text()
	}
	return all
}

// Route returns a spec from which NewRoute makes an equal Object. A parent that accepted an earlier generation becomes
// one that accepted the current one if hostnames count for it.
func (o *Object) Route() RouteSpec {
	rt := routeOf(o.packed)
	spec := RouteSpec{Meta: o.meta(), Kind: o.Kind()}
	spec.Generation = 1
	parents, r := rt.all()
	for _, p := range parents {
		ref := ParentRef{Kind: p.ref.Kind.String(), Namespace: p.ref.Namespace, Name: p.ref.Name, Section: p.section, Port: p.port}
		c := Condition{"Accepted", "True", spec.Generation}
		if p.earlier {
			c.Generation--
		}
		spec.Parents = append(spec.Parents, ref)
		spec.Status = append(spec.Status, ParentStatus{ref, []Condition{c}})
	}
	hosts := r.texts()
	if rt.open {
		spec.annotate(hostnameKeys, join(hosts))
	} else {
		spec.Hostnames = hosts
	}
	return spec
}

// The parts that an Index appends to those of a route itself:
//
//	carried: for each parent that accepted an earlier generation, whether the hostnames of the listeners count, and the
//	         places of those of the route that do
//	holders: the objects with the addresses, maxParents at most
//	names:   each once, with the set of its holders if there are several

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

// with returns the packed form of a route with the parts that an Index appends.
func (res *resolved) with(raw string) string {
	p := make(packer, 0, len(raw)+64)
	p.raw(raw)
	p.carried(res.carried)
	p.len(len(res.holders))
	for _, h := range res.holders {
		p.uint(uint64(h.gateway))
		if h.id == h.gateway {
			p.uint(0)
		} else {
			p.uint(uint64(h.id))
		}
	}
	p.len(len(res.names))
	for _, n := range res.names {
		if n.at > 0 {
			p.len(n.at<<1 | 1)
		} else {
			p.len(len(n.name) << 1)
			p.raw(n.name)
		}
		if len(res.holders) > 1 {
			p.uint(n.to)
		}
	}
	return string(p)
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

// own reads a route's name.
func (r *reader) own() string {
	n := r.len()
	if n&1 == 0 {
		return r.take(n >> 1)
	}
	own := reader{r.s, n >> 1}
	return own.text()
}

// holderReader reads the holders of a route. After the last one it is at the names.
type holderReader struct {
	r    reader
	n    int // number of holders
	left int
}

func holdersOf(packed string) (h holderReader) {
	h.r = reader{packed, lengthOf(packed)}
	if h.r.at == len(packed) {
		return h // not resolved yet
	}
	h.r.text() // carried
	h.n = h.r.len()
	h.left = h.n
	return h
}

// next returns the next holder.
func (h *holderReader) next() (next holder, ok bool) {
	if h.left == 0 {
		return next, false
	}
	h.left--
	next.gateway, next.id = objectID(h.r.uint()), objectID(h.r.uint()) // #nosec G115 -- as written
	if next.id == 0 {
		next.id = next.gateway
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
func heldBy(packed string, at uint32) heldReader {
	h := heldReader{holdersOf(packed), 1}
	if h.h.n > 1 {
		r := reader{packed, int(at)}
		r.own()
		h.to = r.uint()
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
func held(packed string, at uint32, yield func(holder) bool) bool {
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
