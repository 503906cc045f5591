package external

// NewRoute packs spec. It returns nil if no Gateway and no ListenerSet accepted the route, if it has only invalid hostnames, or if
// no API server has a route of that name.
//
// A route counts for a parent whose status says Accepted for the present generation. If the status says so for an earlier
// generation, those hostnames count that were in the route, as the Index had it, when that generation was accepted: a controller
// takes a moment to accept an edit, and serves what it accepted until then.
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
	earlier bool // an earlier generation of the route is what it accepted
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

// route is the packed form of a route, taken apart.
type route struct {
	packed  string
	open    bool // it has no hostnames but by an annotation: those of the listeners count
	parents reader
	n       int // how many parents
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

// own is a hostname of a route, and where it stands in the packed form.
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

// Route returns what NewRoute makes an equal Object of. A parent that accepted an earlier generation is one that accepted
// the present one if hostnames count for it.
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

// What an Index writes behind what comes from a route itself:
//
//	carried: for each parent that accepted an earlier generation, whether the hostnames of the listeners count, and where
//	         those hostnames of the route stand that do
//	groups:  for each holder of addresses the names that lead there

// resolved is what an Index found out about a route.
type resolved struct {
	carried []carried // one for each parent with earlier
	groups  []group
}

type carried struct {
	open bool
	at   []int
}

// group are names that lead to one place.
type group struct {
	holder, gateway objectID // the addresses are those of the holder: the Gateway, or a ListenerSet that has them by an annotation
	names           []own    // at is 0 for one of a listener
}

// with returns the packed form of a route with what an Index found out.
func (res *resolved) with(raw string) string {
	p := make(packer, 0, len(raw)+64)
	p.raw(raw)
	p.len(len(res.carried))
	for _, c := range res.carried {
		p.bool(c.open)
		p.len(len(c.at))
		for _, at := range c.at {
			p.len(at)
		}
	}
	p.len(len(res.groups))
	for _, g := range res.groups {
		p.uint(uint64(g.gateway))
		if g.holder == g.gateway {
			p.uint(0)
		} else {
			p.uint(uint64(g.holder))
		}
		p.len(len(g.names))
		for _, o := range g.names {
			if o.at > 0 {
				p.len(o.at<<1 | 1)
			} else {
				p.len(len(o.name) << 1)
				p.raw(o.name)
			}
		}
	}
	return string(p)
}

func (r *reader) carried() []carried {
	n := r.len()
	if n == 0 {
		return nil
	}
	all := make([]carried, n)
	for i := range all {
		all[i].open = r.bool()
		all[i].at = make([]int, r.len())
		for j := range all[i].at {
			all[i].at[j] = r.len()
		}
	}
	return all
}

// skipCarried goes to the groups.
func (r *reader) skipCarried() {
	for range r.len() {
		r.bool()
		for range r.len() {
			r.len()
		}
	}
}

// own reads a name of a group.
func (r *reader) own() string {
	n := r.len()
	if n&1 == 0 {
		return r.take(n >> 1)
	}
	own := reader{r.s, n >> 1}
	return own.text()
}

// groupReader goes through the groups of a route.
type groupReader struct {
	r               reader
	groups          int // how many are left
	holder, gateway objectID
	names           int // how many are left in this group
}

func groupsOf(packed string) (g groupReader) {
	g.r = reader{packed, lengthOf(packed)}
	if g.r.at == len(packed) {
		return g // not resolved yet
	}
	g.r.skipCarried()
	g.groups = g.r.len()
	return g
}

// next goes to the next group, past all names of this one.
func (g *groupReader) next() bool {
	for g.names > 0 {
		g.name()
	}
	if g.groups == 0 {
		return false
	}
	g.groups--
	g.gateway, g.holder, g.names = objectID(g.r.uint()), objectID(g.r.uint()), g.r.len() // #nosec G115 -- as written
	if g.holder == 0 {
		g.holder = g.gateway
	}
	return true
}

// name returns the next name of the group.
func (g *groupReader) name() string {
	g.names--
	return g.r.own()
}
