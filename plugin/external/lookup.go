package external

import "strings"

// Selection is the filter of one external option.
type Selection struct {
	Zones      []string // zones of the names, fully qualified
	Cuts       []string // zones below Zones that belong to another option, with their names
	Sources    Source
	Classes    Names // of Ingresses, and of the Gateways that routes attach to; nil for all
	Namespaces Names // of the objects that claim names, even if a route and its Gateway are in different namespaces; nil for all
	Listed     bool  // only namespaces in the State count: those selected by their labels
}

// serves reports whether sel admits objects of the namespace. It admits those without a namespace, "".
func (s *State) serves(namespace string, sel *Selection) bool {
	switch {
	case namespace == "":
		return true
	case !sel.Namespaces.has(namespace):
		return false
	case !sel.Listed:
		return true
	}
	c := s.others.Find(hashOf(namespace) ^ namespaced)
	return c != nil && !s.one(c, Ref{Kind: KindNamespace, Name: namespace}).none()
}

// Outcome is the kind of a Match.
type Outcome uint8

// The outcomes of a look-up.
const (
	NameError Outcome = iota // no such name: NXDOMAIN
	NoData                   // the name has no records, but there are names below it
	Found                    // the name has the records of Addrs, Hosts, Ports, Texts, Mails and Servers
	Internal                 // the name is an alias for the cluster IPs of a Service, or for the endpoints of a headless one
	Headless                 // the name is a headless Service, or below one: the index of Services has its endpoints
)

// Match is the result of a look-up under a Selection.
type Match struct {
	Outcome Outcome

	state   *State
	sel     *Selection
	packed  form   // the object that has the name
	at      uint32 // offset of the name's entry in it; 0 if the object does not claim the name
	to      places // the places that the name leads to
	several bool   // it leads to several Gateways
	left    budget // of the look-up
	wild    bool   // a wildcard matched
	below   string // the name that the wildcard is below

	port, protocol string // of _PORT._PROTO.SERVICE.NAMESPACE.ZONE
	service        string // the part of the name that is SERVICE.NAMESPACE.ZONE
}

// budget is the number of claims and of groups that a look-up may still read.
type budget struct{ claims, groups int }

// fullBudget is the budget of one look-up. The name and all wildcards share it.
var fullBudget = budget{maxClaims, maxGroups}

// Lookup finds name, which is zone or below it, under sel. Both are in lower case, in presentation form and fully
// qualified. The zone itself is never a NameError. It allocates nothing.
func (s *State) Lookup(zone, name string, sel *Selection) (m Match) {
	m.state, m.sel, m.left = s, sel, fullBudget
	asked, name, zone := name, trimDot(name), trimDot(zone)
	h := hashOf(name)
	m.claimed(name, h, plain, sel.Sources)
	exists := name == zone
	if !exists {
		base := strings.TrimSuffix(name[:len(name)-len(zone)], ".")
		exists = m.direct(base, asked)
	}
	if m.Outcome == NameError {
		m.other(name, h, zone, exists)
	}
	return m
}

// LookupWildcard is Lookup without exact names: it finds a wildcard, or names below. It is for a name with the Outcome
// Headless that the index of Services does not have. It allocates nothing.
func (s *State) LookupWildcard(zone, name string, sel *Selection) (m Match) {
	m.state, m.sel, m.left = s, sel, fullBudget
	name = trimDot(name)
	m.other(name, hashOf(name), trimDot(zone), false)
	return m
}

// other looks for a wildcard that matches the name, and for names below it. h is the hash of the name.
func (m *Match) other(name string, h nameHash, zone string, exists bool) {
	if !m.wildcard(name, zone) && (exists || m.state.anyBelow(name, h, m.sel)) {
		m.Outcome = NoData
	}
}

// claimed sets m to the first admitted claim of the name, whose hash is h, or of the wildcard below it.
func (m *Match) claimed(name string, h, sort nameHash, sources Source) bool {
	s := m.state
	slot := s.slotsOf(sort).Find(h ^ sort)
	if slot == nil {
		return false
	}
	c, want := *slot, host{first: name}
	if sort == wild {
		want = wildcardBelow(name)
	}
	if c.id == severalClaims {
		var ok bool
		if c, ok = m.winner(want, sources); !ok {
			return false
		}
	}
	packed := s.at(c.id)
	if !claimed(packed, c.at).same(want) || !s.admits(packed, m.sel, sources) || !m.leads(packed, c.at) {
		return false
	}
	m.wild, m.below = sort == wild, name
	return true
}

// winner returns the oldest admitted claim of the name. It reads claims by age until the budget is spent, and then by
// group.
func (m *Match) winner(name host, sources Source) (claim, bool) {
	s := m.state
	run := s.claims.Tail(s.byName(name))
	for len(run) > 0 {
		for _, c := range run {
			packed := s.at(c.id)
			if !claimed(packed, c.at).same(name) {
				return claim{}, false
			}
			if s.admits(packed, m.sel, sources) && s.admitted(packed, c.at, m.sel) {
				return c, true
			}
			if m.left.claims == 0 {
				return m.oldest(name, sources)
			}
			m.left.claims--
		}
		run = s.after(run)
	}
	return claim{}, false
}

// after returns the claims that follow those of run.
func (s *State) after(run []claim) []claim {
	last := run[len(run)-1]
	packed := s.at(last.id)
	return s.claims.Tail(behind(s.byClaim(claimed(packed, last.at), packed)))
}

// admits reports whether sel admits the claims of an object, apart from the class, and it is of one of the sources.
func (s *State) admits(packed form, sel *Selection, sources Source) bool {
	return sel.Sources&sources&kindOf(packed).source() != 0 && s.serves(namespaceOf(packed), sel)
}

// admitted reports whether sel admits the claim of an object.
func (s *State) admitted(packed form, at uint32, sel *Selection) bool {
	m := Match{state: s, sel: sel}
	return s.admits(packed, sel, sel.Sources) && m.leads(packed, at)
}

// leads sets where the claim of an object leads. It returns false if the selection does not admit the class, or if the
// claim leads nowhere yet.
func (m *Match) leads(packed form, at uint32) bool {
	to, several := places(""), false
	outcome := Found
	switch kindOf(packed) {
	case KindIngress:
		r := commonOf(packed.shared)
		if !m.sel.Classes.has(r.text()) {
			return false
		}
		to = r.places()
	case KindService:
		s := serviceOf(packed)
		if to = s.outside; int(at) >= s.internal {
			outcome = Internal
		}
	case KindDNSEndpoint:
		_, r := recordsAt(packed, int(at))
		to = r.places()
	case KindNode:
		r := bodyOf(packed)
		to = r.places()
	default:
		held(packed, at, func(h holder) bool {
			if p := m.state.placesOf(h, m.sel); !p.empty() {
				to, several = p, to != ""
			}
			return true
		})
		if to == "" {
			return false
		}
	}
	m.Outcome, m.packed, m.at, m.to, m.several = outcome, packed, at, to, several
	return true
}

// placesOf returns the addresses that the names of a route have from a holder: none if sel does not admit the class of
// the Gateway.
func (s *State) placesOf(h holder, sel *Selection) places {
	gw := gatewayOf(s.ownOf(h.gateway))
	switch {
	case !sel.Classes.has(gw.class):
		return ""
	case h.id == h.gateway:
		return gw.places
	}
	return listenerSetOf(s.at(h.id)).places
}

// direct looks up base, the name without the zone, among the names that Services and Nodes have without claiming them.
// If another object claims the name, the older one gets it. exists reports whether there are such names below it.
func (m *Match) direct(base, asked string) (exists bool) {
	s := m.state
	if m.sel.Sources&FromNode != 0 {
		if c := s.others.Find(hashOf(base) ^ nodeName); c != nil {
			if packed := s.one(c, Ref{Kind: KindNode, Name: base}); !packed.none() {
				m.take(packed)
			}
		}
		exists = s.below.Find(hashOf(base)^nodeName) != nil
	}
	if m.sel.Sources&FromService == 0 {
		return exists
	}
	rest, namespace := cutLast(base)
	if !s.serves(namespace, m.sel) {
		return exists
	}
	if rest == "" {
		return exists || s.below.Find(hashOf(base)^direct) != nil
	}
	rest, name := cutLast(rest)
	service := base
	if rest != "" {
		service = base[len(rest)+1:]
	}
	c := s.others.Find(hashOf(service) ^ direct)
	if c == nil {
		return exists
	}
	packed := s.one(c, Ref{KindService, namespace, name})
	if packed.none() {
		return exists
	}
	if rest != "" {
		asked = asked[len(rest)+1:]
	}
	return m.ofService(packed, rest, asked) || exists
}

// one returns the packed form of the object of c, if ref names it.
func (s *State) one(c *claim, ref Ref) form {
	id := c.id
	if id == severalClaims {
		id = s.find(ref)
	}
	if packed := s.at(id); !packed.none() && compareKeys(packed, ref) == 0 {
		return packed
	}
	return form{}
}

// take assigns the name to the object, unless the object that has it already is older, or is the same by
// a claim.
func (m *Match) take(packed form) bool {
	if m.Outcome != NameError && compareAge(m.packed, packed) <= 0 {
		return false
	}
	m.wild = false
	return m.leads(packed, 0)
}

// ofService looks up rest, the labels before those of the Service.
func (m *Match) ofService(packed form, rest, asked string) (exists bool) {
	s := serviceOf(packed)
	rest, protocol := cutLast(rest)
	rest, port := cutLast(rest)
	switch {
	case rest != "":
		return false
	case s.outside.empty(): // a headless one
		if m.take(packed) {
			m.Outcome = Headless
		}
		return false
	case port != "":
		port, protocol = strings.TrimPrefix(port, "_"), strings.TrimPrefix(protocol, "_")
		if port == "" || protocol == "" || !s.hasPort(port, protocol) {
			return false
		}
	case protocol != "":
		protocol, ok := strings.CutPrefix(protocol, "_")
		return ok && s.hasPort("", protocol)
	}
	if m.take(packed) {
		m.port, m.protocol, m.service = port, protocol, asked
	}
	return false
}

// hasPort reports whether the Service has a port of that name and protocol; an empty one matches any.
func (s *service) hasPort(name, protocol string) bool {
	_, _, r := s.inside()
	for range r.len() {
		if p := r.port(); p.matches(name, protocol) {
			return true
		}
	}
	return false
}

func (p *Port) matches(name, protocol string) bool {
	return (name == "" || p.Name == name) && (protocol == "" || p.Protocol == protocol)
}

// wildcard looks for the wildcard with the most labels that matches the name and that an admitted object has.
func (m *Match) wildcard(name, zone string) bool {
	if m.state.wildcards == 0 {
		return false
	}
	sources := m.sel.Sources
	for below := name; below != zone && below != ""; sources &^= FromIngress {
		if below = parent(below); m.claimed(below, hashOf(below), wild, sources) {
			return true
		}
	}
	return false
}

// anyBelow reports whether an admitted claim exists below the name: among the first maxBelow, or if there are more.
func (s *State) anyBelow(name string, h nameHash, sel *Selection) bool {
	if s.below.Find(h) == nil {
		return false
	}
	left := maxBelow
	run := s.claims.Tail(behind(s.byName(host{first: name})))
	for len(run) > 0 {
		for _, c := range run {
			packed := s.at(c.id)
			switch entry := claimed(packed, c.at); {
			case !entry.within(name):
				return false
			case left == 0 || s.admitted(packed, c.at, sel):
				return true
			}
			left--
		}
		run = s.after(run)
	}
	return false
}
