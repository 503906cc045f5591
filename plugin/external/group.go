package external

import (
	"cmp"
	"strings"
)

// A group is a set of claims of one name. A Selection admits all of them or none: their objects have the same namespace
// and kind, Ingresses the same class, and routes the same holders. State.groups has the claims of each name that
// several objects claim, by name, then by group, then by age. So a look-up skips a whole group, kind or namespace in
// one step, however many claims it has.

// compareGroups returns the order of the groups of two claims of one name.
func compareGroups(a form, atA uint32, b form, atB uint32) int {
	if order := cmp.Or(strings.Compare(namespaceOf(a), namespaceOf(b)), cmp.Compare(kindOf(a), kindOf(b))); order != 0 {
		return order
	}
	switch kind := kindOf(a); {
	case kind == KindIngress:
		return strings.Compare(classOf(a), classOf(b))
	case kind.route():
		return compareHolders(a, atA, b, atB)
	}
	return 0
}

// classOf returns the class of an Ingress.
func classOf(packed form) string {
	r := commonOf(packed.shared)
	return r.text()
}

// compareHolders returns the order of the holders of two claims of routes, 0 if they are the same.
func compareHolders(a form, atA uint32, b form, atB uint32) int {
	left, right := heldBy(a, atA), heldBy(b, atB)
	for {
		l, moreLeft := left.next()
		r, moreRight := right.next()
		if order := cmp.Or(cmp.Compare(l.gateway, r.gateway), cmp.Compare(l.id, r.id)); order != 0 || !moreLeft || !moreRight {
			return order // after the last holder next returns zeros
		}
	}
}

// byGroup returns the order of groups.
func (s *State) byGroup(name host, c claim) func(claim) int {
	packed := s.at(c.id)
	return func(o claim) int {
		other := s.at(o.id)
		if order := compareHosts(claimed(other, o.at), name); order != 0 {
			return order
		}
		return cmp.Or(compareGroups(other, o.at, packed, c.at), compareAge(other, packed))
	}
}

// groupClaim adds c to groups, unless c is a name that an object has without claiming it.
func (tx *Tx) groupClaim(c claim) {
	if c.at == 0 {
		return
	}
	s := tx.state
	s.groups.Set(tx.batch, c, s.byGroup(claimed(s.at(c.id), c.at), c))
}

// ungroup removes a claim from groups if it is there.
func (tx *Tx) ungroup(c claim) {
	s := tx.state
	s.groups.Delete(tx.batch, s.byGroup(claimed(s.at(c.id), c.at), c))
}

// groupWalk is a position in groups: at the first claim of the namespace, kind and class, or after the group of past.
type groupWalk struct {
	name      host
	namespace string
	kind      Kind
	class     string
	past      claim
}

// compare returns the order of a claim in groups and the position.
func (g *groupWalk) compare(s *State, c claim) int {
	packed := s.at(c.id)
	if order := compareHosts(claimed(packed, c.at), g.name); order != 0 {
		return order
	}
	if g.past.id != 0 {
		if compareGroups(packed, c.at, s.at(g.past.id), g.past.at) <= 0 {
			return -1
		}
		return 1
	}
	if order := cmp.Or(strings.Compare(namespaceOf(packed), g.namespace), cmp.Compare(kindOf(packed), g.kind)); order != 0 {
		return order
	}
	if g.kind == KindIngress {
		return strings.Compare(classOf(packed), g.class)
	}
	return 0
}

// oldest returns the oldest admitted claim of the name, from groups. It reads one claim of each group that is admitted,
// and of each group, kind or namespace that it skips, within the budget.
func (m *Match) oldest(name host, sources Source) (best claim, found bool) {
	s := m.state
	g := groupWalk{name: name}
	for m.left.groups > 0 {
		c, ok := s.groups.From(func(c claim) int { return g.compare(s, c) })
		if !ok {
			break
		}
		packed := s.at(c.id)
		if !claimed(packed, c.at).same(name) {
			break
		}
		m.left.groups--
		served := s.serves(namespaceOf(packed), m.sel)
		admitted := served && m.sel.Sources&sources&kindOf(packed).source() != 0
		if admitted && s.admitted(packed, c.at, m.sel) && (!found || compareAge(packed, s.at(best.id)) < 0) {
			best, found = c, true
		}
		switch {
		case !served:
			ok = g.passNamespace(s, namespaceOf(packed), m.sel)
		case !admitted:
			g.passKind(packed)
		default:
			g.passGroup(packed, c, m.sel)
		}
		if !ok {
			break
		}
	}
	return best, found
}

// passNamespace moves to the next namespace that sel may admit. It returns false if there is none.
func (g *groupWalk) passNamespace(s *State, namespace string, sel *Selection) (ok bool) {
	*g = groupWalk{name: g.name}
	if sel.Namespaces != nil {
		g.namespace, ok = sel.Namespaces.after(namespace)
	} else { // it is one of those that the State has not
		g.namespace, ok = s.namespaceAfter(namespace)
	}
	return ok
}

// namespaceAfter returns the first namespace in the State that comes after one that is not.
func (s *State) namespaceAfter(namespace string) (next string, ok bool) {
	id, ok := s.keys.From(s.byKey(Ref{Kind: KindNamespace, Name: namespace}))
	if !ok { // no kind comes after Namespaces
		return "", false
	}
	return nameOf(s.at(id)), true
}

// passKind moves after the claims of one kind in one namespace.
func (g *groupWalk) passKind(packed form) {
	*g = groupWalk{name: g.name, namespace: namespaceOf(packed), kind: kindOf(packed) + 1}
}

// passGroup moves after a group, and after Ingresses whose class sel does not admit.
func (g *groupWalk) passGroup(packed form, c claim, sel *Selection) {
	switch kind := kindOf(packed); {
	case kind == KindIngress && sel.Classes != nil:
		class, ok := sel.Classes.after(classOf(packed))
		if g.passKind(packed); ok {
			g.kind, g.class = kind, class
		}
	case kind == KindIngress || kind.route():
		g.past = c
	default:
		g.passKind(packed)
	}
}
