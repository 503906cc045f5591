package external

// Names returns an iterator over the names of zone that have records under sel, fully qualified: first those that
// objects claim, in the order of RFC 4034, section 6.1, wildcards as written in a zone (*.x), and then those that
// Services and Nodes have without claiming them. For a headless Service that is only the Service, not its endpoints. No
// name comes twice. Lookup has its records, and accepts a wildcard like any name.
func (s *State) Names(zone string, sel *Selection) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		zone := trimDot(zone)
		if s.claimedIn(zone, sel, yield) && s.nodesIn(zone, sel, yield) {
			s.servicesIn(zone, sel, yield)
		}
	}
}

func (s *State) claimedIn(zone string, sel *Selection, yield func(string) bool) bool {
	last := ""
	run := s.claims.Tail(s.byName(host{first: zone}))
	for len(run) > 0 {
		for _, c := range run {
			packed := s.at(c.id)
			entry := claimed(packed, c.at)
			if !entry.within(zone) {
				return true
			}
			if entry.is(last) {
				continue
			}
			name := entry.String()
			if sel.cut(name) || !s.admitted(packed, c.at, sel) {
				continue
			}
			if last = name; !yield(name + ".") {
				return false
			}
		}
		run = s.after(run)
	}
	return true
}

func (s *State) nodesIn(zone string, sel *Selection, yield func(string) bool) bool {
	if sel.Sources&FromNode == 0 {
		return true
	}
	for _, packed := range s.from(Ref{Kind: KindNode}) {
		if kindOf(packed) != KindNode {
			break
		}
		if _, _, ok := directName(packed); ok && !s.yieldDirect(inZone(nameOf(packed), zone), sel, yield) {
			return false
		}
	}
	return true
}

func (s *State) servicesIn(zone string, sel *Selection, yield func(string) bool) {
	if sel.Sources&FromService == 0 {
		return
	}
	for _, packed := range s.from(Ref{Kind: KindService}) {
		if kindOf(packed) != KindService {
			return
		}
		name, _, ok := directName(packed)
		if !ok || !s.serves(namespaceOf(packed), sel) {
			continue
		}
		name = inZone(name, zone)
		if !s.yieldDirect(name, sel, yield) {
			return
		}
		svc := serviceOf(packed)
		if svc.outside.empty() {
			continue
		}
		seen := make(map[string]struct{})
		_, _, r := svc.inside()
		for range r.len() {
			p := r.port()
			srv := "_" + p.Name + "._" + p.Protocol
			if _, again := seen[srv]; again || p.Name == "" {
				continue
			}
			seen[srv] = struct{}{}
			if !s.yieldDirect(srv+"."+name, sel, yield) {
				return
			}
		}
	}
}

// yieldDirect yields a name unless it is also claimed.
func (s *State) yieldDirect(name string, sel *Selection, yield func(string) bool) bool {
	m := Match{state: s, sel: sel, left: fullBudget}
	if _, ok := m.winner(host{first: name}, sel.Sources); ok || len(name) > 253 || sel.cut(name) {
		return true
	}
	return yield(name + ".")
}

// inZone returns the name of base in a zone. Neither name has a final dot.
func inZone(base, zone string) string {
	if zone == "" {
		return base
	}
	return base + "." + zone
}

// cut reports whether the name, which has no final dot, belongs to another option.
func (sel *Selection) cut(name string) bool {
	for _, zone := range sel.Cuts {
		if within(name, trimDot(zone)) {
			return true
		}
	}
	return false
}
