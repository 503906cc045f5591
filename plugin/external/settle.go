package external

import (
	"maps"
	"slices"
)

// dirty holds what a Tx has to update before it ends.
type dirty struct {
	parents    map[Ref]struct{}      // Gateways and ListenerSets: the routes that refer to them
	moved      map[Ref]struct{}      // Gateways and ListenerSets whose names may lead elsewhere
	namespaces map[string]struct{}   // namespaces with changed labels
	routes     map[objectID]struct{} // changed routes
}

func newDirty() dirty {
	return dirty{make(map[Ref]struct{}), make(map[Ref]struct{}), make(map[string]struct{}), make(map[objectID]struct{})}
}

// mark records the dependents of an object that changed from old to next.
func (tx *Tx) mark(old, next form) {
	packed := next
	if packed.none() {
		packed = old
	}
	ref := refOf(packed)
	switch ref.Kind {
	case KindNamespace:
		tx.dirty.namespaces[ref.Name] = struct{}{}
	case KindListenerSet:
		tx.dirty.parents[ref] = struct{}{}
		tx.dirty.moved[ref] = struct{}{}
	case KindGateway:
		tx.dirty.moved[ref] = struct{}{}
		if old.none() || next.none() || gatewayOf(old).shape != gatewayOf(next).shape {
			tx.dirty.parents[ref] = struct{}{}
		}
	}
}

// settle resolves the routes that depend on the changes again. Its work is in proportion to their number: the routes of
// a Gateway or a ListenerSet whose listeners changed, and of a namespace whose labels changed. New addresses of a
// Gateway cost its routes nothing, except that watchers check their names.
func (tx *Tx) settle() {
	s, d := tx.state, &tx.dirty
	for ns := range d.namespaces {
		for kind := KindListenerSet; kind <= KindUDPRoute; kind++ {
			for packed, id := range s.inNamespace(kind, ns) {
				tx.again(id, packed)
			}
		}
	}
	for kind := KindGateway; kind <= KindListenerSet; kind++ { // a Gateway leads to ListenerSets
		for ref := range d.parents {
			if ref.Kind != kind {
				continue
			}
			for id, packed := range s.childrenOf(ref) {
				tx.again(id, packed)
			}
		}
	}
	r := resolver{tx: tx, gateways: make(map[objectID]listening), sets: make(map[objectID]listening), labels: make(map[string]map[string]string)}
	// In order, since most numbers were assigned in the order of the routes' names: that fills the pages of claims.
	for _, id := range slices.Sorted(maps.Keys(d.routes)) {
		if !s.at(id).none() {
			r.resolve(id)
		}
	}
	if len(tx.ix.watchers) > 0 {
		tx.touchMoved()
		tx.touchNamespaces()
	}
}

// touchNamespaces touches the names of all objects in namespaces that changed: a Selection may admit those of Listed
// ones.
func (tx *Tx) touchNamespaces() {
	for ns := range tx.dirty.namespaces {
		for kind := KindIngress; kind <= KindDNSEndpoint; kind++ {
			for packed := range tx.state.inNamespace(kind, ns) {
				for name := range claimsOf(packed) {
					tx.touch(name)
				}
				if name, sort, ok := directName(packed); ok {
					tx.touchDirect(name, sort)
				}
			}
		}
	}
}

// inNamespace yields the objects of the kind in the namespace.
func (s *State) inNamespace(kind Kind, namespace string) func(yield func(form, objectID) bool) {
	return func(yield func(form, objectID) bool) {
		for id, packed := range s.from(Ref{Kind: kind, Namespace: namespace}) {
			if kindOf(packed) != kind || namespaceOf(packed) != namespace || !yield(packed, id) {
				return
			}
		}
	}
}

// again records that a route, or the routes of a ListenerSet, must be resolved.
func (tx *Tx) again(id objectID, packed form) {
	if kindOf(packed) == KindListenerSet {
		tx.dirty.parents[refOf(packed)] = struct{}{}
	} else {
		tx.dirty.routes[id] = struct{}{}
	}
}

// touchMoved touches the names of the routes of those that moved.
func (tx *Tx) touchMoved() {
	var names func(ref Ref)
	names = func(ref Ref) {
		for _, packed := range tx.state.childrenOf(ref) {
			if kindOf(packed) == KindListenerSet {
				names(refOf(packed))
				continue
			}
			for name := range claimsOf(packed) {
				tx.touch(name)
			}
		}
	}
	for ref := range tx.dirty.moved {
		names(ref)
	}
}

// resolver finds the names of routes. It unpacks each Gateway, ListenerSet and Namespace once.
type resolver struct {
	tx             *Tx
	gateways, sets map[objectID]listening
	labels         map[string]map[string]string
}

// listening are the listeners of a parent of routes.
type listening struct {
	holder, gateway objectID // 0 if there are none
	namespace       string
	sets            From // of a Gateway: the namespaces from which ListenerSets are allowed
	listeners       []listener
}

// labelsOf returns a function that returns the labels of a namespace, nil if there is no such namespace.
func (r *resolver) labelsOf(namespace string) func() map[string]string {
	return func() map[string]string {
		labels, ok := r.labels[namespace]
		if !ok {
			if packed := r.tx.state.at(r.tx.state.find(Ref{Kind: KindNamespace, Name: namespace})); !packed.none() {
				body := bodyOf(packed)
				if labels = body.labels(); labels == nil {
					labels = map[string]string{}
				}
			}
			r.labels[namespace] = labels
		}
		return labels
	}
}

// parent returns the listeners of the object that ref names.
func (r *resolver) parent(ref Ref) listening {
	id := r.tx.state.find(ref)
	switch {
	case id == 0:
		return listening{}
	case ref.Kind == KindGateway:
		return r.gateway(id)
	}
	return r.set(id)
}

func (r *resolver) gateway(id objectID) listening {
	l, ok := r.gateways[id]
	if !ok {
		packed := r.tx.state.at(id)
		g := gatewayOf(packed)
		l = listening{holder: id, gateway: id, namespace: namespaceOf(packed)}
		l.sets, l.listeners = g.listening()
		r.gateways[id] = l
	}
	return l
}

// set returns the listeners of a ListenerSet: none if its Gateway does not exist or does not allow it, or if it was not
// accepted (Gateway API, ListenerSet).
func (r *resolver) set(id objectID) listening {
	l, ok := r.sets[id]
	if ok {
		return l
	}
	defer func() { r.sets[id] = l }()
	packed := r.tx.state.at(id)
	set := listenerSetOf(packed)
	parent := r.parent(set.parent)
	namespace := namespaceOf(packed)
	if !set.accepted || parent.gateway == 0 || !parent.sets.allows("None", parent.namespace, namespace, r.labelsOf(namespace)) {
		return l
	}
	l = listening{holder: parent.gateway, gateway: parent.gateway, namespace: namespace, listeners: set.at.listeners()}
	if !set.places.empty() {
		l.holder = id
	}
	return l
}

// resolve finds the names of a route again.
func (r *resolver) resolve(id objectID) {
	packed := r.tx.state.at(id)
	raw := rawOf(packed)
	res := resolved{carried: carriedOf(packed)}
	next := res.with(raw, r.find(routeOf(raw), &res))
	if next == packed {
		return
	}
	r.tx.changed |= KindsOf(kindOf(packed))
	r.tx.unindex(id)
	r.tx.put(id, next)
	r.tx.index(id)
}

// find sets the names and their holders, and returns the hostnames of the route.
func (r *resolver) find(rt route, res *resolved) (owns []own) {
	parents, owns := rt.all()
	carried := res.carried
	names := names{res: res, seen: make(map[string]int)}
	for _, p := range parents {
		open, own := rt.open, owns
		if p.earlier {
			open, own = carried[0].pick(owns)
			carried = carried[1:]
		}
		parent := r.parent(p.ref)
		if parent.gateway == 0 {
			continue
		}
		for i := range parent.listeners {
			if l := &parent.listeners[i]; r.attaches(&rt, &p, l, parent.namespace) {
				names.add(&parent, l, open, own)
			}
		}
	}
	return owns
}

// attaches reports whether the route attaches to the listener, apart from its hostnames.
func (r *resolver) attaches(rt *route, p *parentRef, l *listener, namespace string) bool {
	own := namespaceOf(rt.packed)
	return (p.section == "" || p.section == l.name) && (p.port == 0 || p.port == l.port) && l.kinds.Has(kindOf(rt.packed)) &&
		l.routes.allows("Same", namespace, own, r.labelsOf(own))
}

// names collects the names of a route.
type names struct {
	res  *resolved
	seen map[string]int // their indexes in res
}

// add adds the common names of a listener and the route.
func (n *names) add(parent *listening, l *listener, open bool, owns []own) {
	h := holder{parent.holder, parent.gateway}
	i := slices.Index(n.res.holders, h)
	if i < 0 {
		i = len(n.res.holders) // at most one of each parent
		n.res.holders = append(n.res.holders, h)
	}
	to := uint64(1) << i
	for _, o := range owns {
		name, ok := intersect(l.hostname, o.name)
		switch {
		case !ok:
		case name == o.name:
			n.put(o, to)
		default:
			n.put(own{name: name}, to)
		}
	}
	if open && l.hostname != "" {
		n.put(own{name: l.hostname}, to)
	}
}

func (n *names) put(o own, to uint64) {
	if i, again := n.seen[o.name]; again {
		n.res.names[i].to |= to
		return
	}
	if len(n.res.names) == maxNames {
		return
	}
	n.seen[o.name] = len(n.res.names)
	n.res.names = append(n.res.names, led{o, to})
}

// carriedOf returns the parts of an earlier generation that a route carried over.
func carriedOf(packed form) []carried {
	r := reader{packed.own, lengthOf(packed)}
	if r.at == len(packed.own) || r.len()&headCarried == 0 {
		return nil
	}
	return r.carried()
}

// pick returns the hostnames that count of a route that was accepted in an earlier generation.
func (c *carried) pick(owns []own) (open bool, some []own) {
	for _, o := range owns {
		if _, ok := slices.BinarySearch(c.at, o.at); ok {
			some = append(some, o)
		}
	}
	return c.open, some
}

// carry returns the packed form next of a route with the hostnames that count for parents that accepted an earlier
// generation, from the form before it, if there was one.
func carry(old, next form) form {
	rt := routeOf(next)
	parents, owns := rt.all()
	var res resolved
	for i := range parents {
		if parents[i].earlier {
			res.carried = append(res.carried, carryOver(old, &parents[i], rt.open, owns))
		}
	}
	return res.with(next, owns)
}

func carryOver(old form, p *parentRef, open bool, owns []own) (c carried) {
	if old.none() {
		return c
	}
	before := routeOf(old)
	parents, counted := before.all()
	rest := carriedOf(old)
	for i := range parents {
		o, counts, opens := &parents[i], counted, before.open
		if o.earlier {
			opens, counts = rest[0].pick(counted)
			rest = rest[1:]
		}
		if o.ref != p.ref || o.section != p.section || o.port != p.port {
			continue
		}
		c.open = open && opens
		named := make(map[string]struct{}, len(counts))
		for _, own := range counts {
			named[own.name] = struct{}{}
		}
		for _, own := range owns {
			if _, ok := named[own.name]; ok {
				c.at = append(c.at, own.at)
			}
		}
		return c
	}
	return c
}
