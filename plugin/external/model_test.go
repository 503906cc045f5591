package external

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The rules once more, slow and in the order of the specifications: each question goes through all objects. Nothing
// here uses parts of the index but the types of objects.

// model is a cluster.
type model struct {
	objects map[Ref]any // specs
	counted map[Ref]map[string]acceptedNames
}

// acceptedNames are the hostnames of a route that a parent accepted: a set of its own, or also those of the
// listeners.
type acceptedNames struct {
	own  map[string]bool
	open bool
}

func newModel() *model {
	return &model{objects: map[Ref]any{}, counted: map[Ref]map[string]acceptedNames{}}
}

// modelClaim is one claim of a name.
type modelClaim struct {
	name     string
	ref      Ref
	created  int64
	internal bool     // an alias
	leads    []leads  // otherwise
	records  []string // of a DNSEndpoint, besides addresses
}

// leads is where a name leads through a Gateway of a class.
type leads struct {
	class     string
	addresses []string
}

const apiGroup = "gateway.networking.k8s.io"

// set stores an object that was created or edited.
func (m *model) set(ref Ref, spec any) {
	if rt, ok := spec.(RouteSpec); ok {
		m.counted[ref] = m.accept(ref, &rt)
	}
	m.objects[ref] = spec
}

func (m *model) delete(ref Ref) {
	delete(m.objects, ref)
	delete(m.counted, ref)
}

// accept returns the hostnames that count for each parent: all if it accepted the current route, the earlier ones if it
// accepted the route before.
func (m *model) accept(ref Ref, rt *RouteSpec) map[string]acceptedNames {
	next := map[string]acceptedNames{}
	now := acceptedNames{own: map[string]bool{}, open: len(rt.Hostnames) == 0}
	for _, host := range slices.Concat(rt.Hostnames, words(rt.Annotations["external-dns.kubernetes.io/hostname"])) {
		now.own[strings.ToLower(host)] = true
	}
	for _, parent := range rt.Parents {
		key := parentKey(parent, rt.Namespace)
		best := 0
		for _, status := range rt.Status {
			for _, c := range status.Conditions {
				if parentKey(status.ParentRef, rt.Namespace) != key || c.Type != "Accepted" || c.Status != "True" {
					continue
				}
				if c.Generation == rt.Generation {
					best = 2
				} else {
					best = max(best, 1)
				}
			}
		}
		switch before, known := m.counted[ref][key]; {
		case best == 2:
			next[key] = now
		case best == 1 && known:
			both := acceptedNames{own: map[string]bool{}, open: before.open && now.open}
			for host := range now.own {
				if before.own[host] {
					both.own[host] = true
				}
			}
			next[key] = both
		}
	}
	return next
}

func words(list string) []string {
	var all []string
	for _, word := range strings.Split(list, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}

func parentKey(p ParentRef, namespace string) string {
	group := apiGroup
	if p.Group != nil {
		group = *p.Group
	}
	return fmt.Sprint(group, "|", cmp.Or(p.Kind, "Gateway"), "|", cmp.Or(p.Namespace, namespace), "|", p.Name, "|", p.Section, "|", p.Port)
}

// claims returns the claims of all objects.
func (m *model) claims() []modelClaim {
	var all []modelClaim
	for ref, spec := range m.objects {
		switch spec := spec.(type) {
		case IngressSpec:
			for _, host := range valid(spec.Hosts) {
				all = append(all, modelClaim{name: host, ref: ref, created: spec.Created, leads: []leads{{spec.Class, spec.Addresses}}})
			}
		case ServiceSpec:
			for _, host := range valid(words(spec.Annotations["external-dns.kubernetes.io/internal-hostname"])) {
				all = append(all, modelClaim{name: host, ref: ref, created: spec.Created, internal: true})
			}
			for _, host := range valid(words(spec.Annotations["coredns.io/hostname"])) {
				all = slices.DeleteFunc(all, func(c modelClaim) bool { return c.ref == ref && c.name == host && len(outside(spec)) > 0 })
				all = append(all, modelClaim{name: host, ref: ref, created: spec.Created, leads: []leads{{"", outside(spec)}}})
			}
		case DNSEndpointSpec:
			byName := map[string]*modelClaim{}
			for _, e := range spec.Endpoints {
				c := byName[e.Name]
				if c == nil {
					c = &modelClaim{name: e.Name, ref: ref, created: spec.Created, leads: []leads{{}}}
					byName[e.Name] = c
				}
				if e.Type == "A" {
					c.leads[0].addresses = append(c.leads[0].addresses, e.Targets...)
				} else {
					c.records = append(c.records, fmt.Sprintf("%s %q", e.Type, e.Targets[0]))
				}
			}
			for _, c := range byName {
				slices.Sort(c.records)
				c.records = slices.Compact(c.records)
				all = append(all, *c)
			}
		case RouteSpec:
			all = append(all, m.routeClaims(ref, &spec)...)
		}
	}
	slices.SortFunc(all, func(a, b modelClaim) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.ref.Namespace, b.ref.Namespace), strings.Compare(a.ref.Name, b.ref.Name), cmp.Compare(a.ref.Kind, b.ref.Kind))
	})
	return all
}

// valid returns the hosts that are hostnames. In the generated worlds, the others contain a blank.
func valid(hosts []string) []string {
	var all []string
	for _, host := range hosts {
		if !strings.Contains(host, " ") && !slices.Contains(all, strings.ToLower(host)) {
			all = append(all, strings.ToLower(host))
		}
	}
	return all
}

// outside returns the addresses of a Service for clients outside the cluster.
func outside(spec ServiceSpec) []string {
	all := slices.Clone(spec.ExternalIPs)
	if spec.LoadBalancer {
		all = append(all, spec.Addresses...)
	}
	return all
}

// routeClaims returns the names of a route: of each listener of each parent that it attaches to.
func (m *model) routeClaims(ref Ref, rt *RouteSpec) []modelClaim {
	byName := map[string]*modelClaim{}
	for _, parent := range rt.Parents {
		hosts, ok := m.counted[ref][parentKey(parent, rt.Namespace)]
		if !ok || parent.Group != nil && *parent.Group != apiGroup {
			continue
		}
		listeners, namespace, to := m.parent(parent, rt.Namespace)
		for _, l := range listeners {
			if !m.attaches(ref.Kind, rt, parent, l, namespace) {
				continue
			}
			listenerHost := strings.ToLower(l.Hostname)
			if l.Protocol == "TCP" || l.Protocol == "UDP" {
				listenerHost = ""
			}
			var names []string
			for host := range hosts.own {
				if name, ok := common(listenerHost, host); ok && !strings.Contains(host, " ") {
					names = append(names, name)
				}
			}
			if hosts.open && listenerHost != "" {
				names = append(names, listenerHost)
			}
			for _, name := range names {
				if byName[name] == nil {
					byName[name] = &modelClaim{name: name, ref: ref, created: rt.Created}
				}
				byName[name].leads = append(byName[name].leads, to)
			}
		}
	}
	var all []modelClaim
	for _, c := range byName {
		all = append(all, *c)
	}
	return all
}

// parent returns the listeners of the object that a route refers to, their namespace, and where their
// names lead.
func (m *model) parent(p ParentRef, namespace string) (listeners []Listener, owner string, to leads) {
	owner = cmp.Or(p.Namespace, namespace)
	switch cmp.Or(p.Kind, "Gateway") {
	case "Gateway":
		gw, ok := m.objects[Ref{KindGateway, owner, p.Name}].(GatewaySpec)
		if !ok {
			return nil, "", leads{}
		}
		for _, l := range gw.Listeners {
			if !refused(l) {
				listeners = append(listeners, l)
			}
		}
		return listeners, owner, leadsTo(gw)
	case "ListenerSet":
		set, ok := m.objects[Ref{KindListenerSet, owner, p.Name}].(ListenerSetSpec)
		if !ok {
			return nil, "", leads{}
		}
		gw, ok := m.objects[Ref{KindGateway, cmp.Or(set.Parent.Namespace, set.Namespace), set.Parent.Name}].(GatewaySpec)
		if !ok || !acceptedNow(set.Conditions, set.Generation) || !m.from(gw.AllowedListeners, "None", gw.Namespace, set.Namespace) {
			return nil, "", leads{}
		}
		for _, l := range set.Listeners {
			if acceptedNow(l.Conditions, set.Generation) && !refused(l) {
				listeners = append(listeners, l)
			}
		}
		to = leadsTo(gw)
		if target := set.Annotations["external-dns.kubernetes.io/target"]; target != "" {
			to.addresses = words(target)
		}
		return listeners, owner, to
	}
	return nil, "", leads{}
}

func refused(l Listener) bool {
	return slices.ContainsFunc(l.Conditions, func(c Condition) bool {
		return c.Type == "Accepted" && c.Status == "False" || c.Type == "Conflicted" && c.Status == "True"
	})
}

func acceptedNow(conditions []Condition, generation int64) bool {
	return slices.Contains(conditions, Condition{"Accepted", "True", generation})
}

func leadsTo(gw GatewaySpec) leads {
	to := leads{class: gw.Class}
	for _, a := range gw.Addresses {
		if a.Type != "NamedAddress" {
			to.addresses = append(to.addresses, a.Value)
		}
	}
	if target := gw.Annotations["external-dns.alpha.kubernetes.io/target"]; target != "" {
		to.addresses = words(target)
	}
	return to
}

// attaches reports whether a listener takes a route of that kind, apart from hostnames.
func (m *model) attaches(kind Kind, rt *RouteSpec, p ParentRef, l Listener, namespace string) bool {
	if p.Section != "" && p.Section != l.Name || p.Port != 0 && p.Port != l.Port {
		return false
	}
	takes := map[string][]Kind{"HTTP": {KindHTTPRoute, KindGRPCRoute}, "HTTPS": {KindHTTPRoute, KindGRPCRoute}, "TLS": {KindTLSRoute, KindTCPRoute}, "TCP": {KindTCPRoute}, "UDP": {KindUDPRoute}}[l.Protocol]
	if l.Protocol == "TLS" && l.TLSMode == "Passthrough" {
		takes = []Kind{KindTLSRoute}
	}
	if !slices.Contains(takes, kind) {
		return false
	}
	if len(l.Kinds) > 0 && !slices.ContainsFunc(l.Kinds, func(k GroupKind) bool {
		return k.Kind == kind.String() && (k.Group == nil || *k.Group == apiGroup)
	}) {
		return false
	}
	return m.from(l.Routes, "Same", namespace, rt.Namespace)
}

func (m *model) from(f From, byDefault, own, namespace string) bool {
	switch cmp.Or(f.Namespaces, byDefault) {
	case "All":
		return true
	case "Same":
		return own == namespace
	case "Selector":
		ns, ok := m.objects[Ref{Kind: KindNamespace, Name: namespace}].(NamespaceSpec)
		if !ok || f.Selector == nil {
			return false
		}
		for key, value := range f.Selector.Labels {
			if got, ok := ns.Labels[key]; !ok || got != value {
				return false
			}
		}
		for _, e := range f.Selector.Expressions {
			value, has := ns.Labels[e.Key]
			in := has && slices.Contains(e.Values, value)
			if !map[string]bool{"In": in, "NotIn": !in, "Exists": has, "DoesNotExist": !has}[e.Operator] {
				return false
			}
		}
		return true
	}
	return false
}

// matches reports whether a hostname of the Gateway API matches a host: a wildcard is a suffix match.
func matches(pattern, host string) bool {
	if pattern == "" || pattern == host {
		return true
	}
	return strings.HasPrefix(pattern, "*.") && strings.HasSuffix(host, pattern[1:]) && len(host) > len(pattern)-1
}

// common returns the hosts that both hostnames match: all that the more specific one matches.
func common(a, b string) (string, bool) {
	all := func(specific, pattern string) bool { // whatever specific matches, pattern matches
		if specific == "" {
			return pattern == ""
		}
		return matches(pattern, strings.Replace(specific, "*", "one", 1)) && matches(pattern, strings.Replace(specific, "*", "two.labels", 1))
	}
	switch {
	case all(b, a):
		return b, true
	case all(a, b):
		return a, true
	}
	return "", false
}

// admitted returns where a claim leads under a Selection, and whether it counts.
func (c *modelClaim) admitted(sel *Selection) (addresses []string, ok bool) {
	sources := map[Kind]Source{KindIngress: FromIngress, KindService: FromService, KindDNSEndpoint: FromDNSEndpoint, KindNode: FromNode}
	source, ok := sources[c.ref.Kind]
	if !ok {
		source = FromGateway
	}
	if sel.Sources&source == 0 || sel.Namespaces != nil && c.ref.Kind != KindNode && !slices.Contains(sel.Namespaces, c.ref.Namespace) {
		return nil, false
	}
	for _, to := range c.leads {
		if source&(FromIngress|FromGateway) == 0 || sel.Classes == nil || slices.Contains(sel.Classes, to.class) {
			addresses = append(addresses, to.addresses...)
		}
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	return addresses, c.internal || len(addresses)+len(c.records) > 0
}

// answer returns in words which object has a name, and its records.
func (c *modelClaim) answer(sel *Selection) string {
	addresses, _ := c.admitted(sel)
	if c.internal {
		return "alias of " + c.ref.String()
	}
	return strings.Join(append(addresses, c.records...), " ")
}

// direct returns the names that Services and Nodes have without claiming them.
func (m *model) direct(sel *Selection) (all []modelClaim) {
	for ref, spec := range m.objects {
		switch spec := spec.(type) {
		case ServiceSpec:
			to := outside(spec)
			if len(to) == 0 {
				continue
			}
			name := spec.Name + "." + spec.Namespace + "." + trimDot(sel.Zones[0])
			all = append(all, modelClaim{name: name, ref: ref, created: spec.Created, leads: []leads{{"", to}}})
			for _, p := range spec.Ports {
				all = append(all, modelClaim{name: "_" + p.Name + "._" + strings.ToLower(p.Protocol) + "." + name, ref: ref, created: spec.Created, leads: []leads{{"", to}}})
			}
		case NodeSpec:
			all = append(all, modelClaim{name: spec.Name + "." + trimDot(sel.Zones[0]), ref: ref, created: spec.Created, leads: []leads{{"", spec.InternalIPs}}})
		}
	}
	return all
}

// lookup answers for a name: with the oldest claim of the exact name, else with the wildcard with the most labels, else
// with whether names exist below it.
func (m *model) lookup(name string, claims []modelClaim, sel *Selection) string {
	name = trimDot(name)
	for _, c := range claims {
		if _, ok := c.admitted(sel); ok && c.name == name {
			return c.ref.String() + ": " + c.answer(sel)
		}
	}
	best := ""
	var by modelClaim
	for _, c := range claims {
		if _, ok := c.admitted(sel); !ok || !matches(c.name, name) || c.name == name {
			continue
		}
		if c.ref.Kind == KindIngress && strings.Contains(strings.TrimSuffix(name, c.name[1:]), ".") {
			continue // an Ingress's matches one label
		}
		if len(c.name) > len(best) {
			best, by = c.name, c
		}
	}
	if best != "" {
		return by.ref.String() + ": " + by.answer(sel) + " by " + best
	}
	for _, c := range claims {
		if _, ok := c.admitted(sel); ok && strings.HasSuffix(c.name, "."+name) {
			return "NODATA"
		}
	}
	if name+"." == sel.Zones[0] {
		return "NODATA"
	}
	return "NXDOMAIN"
}

// conflicts returns the objects that lose a name.
func (m *model) conflicts(claims []modelClaim, sel *Selection) map[Conflict]bool {
	first := map[string]*modelClaim{}
	lost := map[Conflict]bool{}
	for i := range claims {
		c := &claims[i]
		if _, ok := c.admitted(sel); !ok || !("."+c.name == "."+trimDot(sel.Zones[0]) || strings.HasSuffix(c.name, "."+trimDot(sel.Zones[0]))) || strings.HasPrefix(c.name, "_") {
			continue
		}
		winner := first[c.name]
		if winner == nil {
			first[c.name] = c
		} else if winner.ref != c.ref && winner.answer(sel) != c.answer(sel) {
			lost[Conflict{c.name + ".", c.ref, winner.ref}] = true
		}
	}
	return lost
}

// modelAnswer returns the answer of the index, in the words of the model.
func modelAnswer(s *State, name string, sel *Selection) string {
	m := s.Lookup(zone, name, sel)
	switch m.Outcome {
	case NameError:
		return "NXDOMAIN"
	case NoData:
		return "NODATA"
	}
	var all, records []string
	if m.Outcome == Internal {
		all = append(all, "alias of "+m.Object().String())
	}
	for a := range m.Addrs {
		all = append(all, a.String())
	}
	if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) {
		return fmt.Sprint("an address twice: ", all)
	}
	for host := range m.Hosts {
		all = append(all, trimDot(host))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for text := range m.Texts {
		records = append(records, fmt.Sprintf("TXT %q", text))
	}
	answer := m.Object().String() + ": " + strings.Join(append(all, records...), " ")
	if below := m.Wildcard(); below != "" && name != "*."+below+"." {
		answer += " by *." + below
	}
	return answer
}

// worldMaker draws objects at random.
type worldMaker struct {
	*rand.Rand
	likely bool // most things that routes depend on are as they need them
}

func pick[T any](w worldMaker, all ...T) T { return all[w.IntN(len(all))] }

var hostPool = func() (all []string) {
	for _, base := range []string{"example.org", "x.example.org", "y.x.example.org", "s1.n1.example.org", "node1.example.org", "example.net"} {
		all = append(all, base, "a."+base, "b."+base, "*."+base, "a.b."+base)
	}
	return append(all, "A.Example.Org", "no host")
}()

func (w worldMaker) hosts(most int) (all []string) {
	for range w.IntN(most + 1) {
		all = append(all, pick(w, hostPool...))
	}
	return all
}

func (w worldMaker) addresses() (all []string) {
	for range w.IntN(3) {
		all = append(all, pick(w, "192.0.2.1", "192.0.2.2", "2001:db8::1", "lb.example.com"))
	}
	return all
}

func (w worldMaker) meta() Meta {
	return Meta{Namespace: pick(w, "n1", "n2", "n3"), Name: pick(w, "s1", "s2", "s3"), Created: int64(w.IntN(3)), Generation: int64(1 + w.IntN(2)), Annotations: map[string]string{}}
}

func (w worldMaker) parentMeta() Meta {
	m := w.meta()
	if w.likely && w.IntN(2) == 0 {
		m.Namespace, m.Name = "n1", "s1"
	}
	return m
}

func (w worldMaker) selector() *Selector {
	s := &Selector{}
	if w.IntN(2) == 0 {
		s.Labels = map[string]string{pick(w, "team", "env"): pick(w, "a", "b")}
	}
	for range w.IntN(2) {
		e := Expression{Key: pick(w, "team", "env"), Operator: pick(w, "In", "NotIn", "Exists", "DoesNotExist")}
		if e.Operator == "In" || e.Operator == "NotIn" {
			e.Values = []string{pick(w, "a", "b")}
		}
		s.Expressions = append(s.Expressions, e)
	}
	return s
}

func (w worldMaker) from() From {
	if w.likely && w.IntN(3) > 0 {
		return From{Namespaces: "All"}
	}
	f := From{Namespaces: pick(w, "", "All", "All", "Same", "Selector", "None")}
	if f.Namespaces == "Selector" && w.IntN(8) > 0 {
		f.Selector = w.selector()
	}
	return f
}

func (w worldMaker) listeners(generation int64, accepted bool) (all []Listener) {
	group := apiGroup
	most := 4
	if w.likely {
		most = 7
	}
	for i := range w.IntN(most) {
		l := Listener{Name: fmt.Sprint("l", i), Protocol: pick(w, "HTTP", "HTTPS", "TLS", "TCP", "UDP", "example.com/own"), TLSMode: pick(w, "", "Terminate", "Passthrough"), Port: int32(80 + w.IntN(2)), Routes: w.from()}
		if w.likely {
			l.Protocol = pick(w, l.Protocol, "HTTP", "TLS", "TCP")
		}
		if w.IntN(3) > 0 {
			l.Hostname = pick(w, hostPool[:len(hostPool)-1]...)
		}
		if w.IntN(4) == 0 {
			l.Kinds = []GroupKind{{pick(w, nil, &group, new(string)), pick(w, "HTTPRoute", "TLSRoute", "TCPRoute", "Other")}}
		}
		switch w.IntN(6) {
		case 0:
			l.Conditions = []Condition{{"Accepted", "False", generation}}
		case 1:
			l.Conditions = []Condition{{"Accepted", "True", generation}, {"Conflicted", "True", generation}}
		case 2:
			l.Conditions = []Condition{{"Accepted", "True", generation - 1}}
		default:
			if accepted {
				l.Conditions = []Condition{{"Accepted", "True", generation}, {"Conflicted", "False", generation}}
			}
		}
		all = append(all, l)
	}
	return all
}

func (w worldMaker) parent() ParentRef {
	group := apiGroup
	if w.likely && w.IntN(4) > 0 {
		return ParentRef{Kind: pick(w, "", "", "ListenerSet"), Namespace: "n1", Name: "s1", Section: pick(w, "", "", "", "l0"), Port: pick(w, int32(0), 0, 0, 80)}
	}
	return ParentRef{Group: pick(w, nil, nil, nil, &group, new(string)), Kind: pick(w, "", "Gateway", "ListenerSet", "ListenerSet", "Service"), Namespace: pick(w, "", "n1", "n2"),
		Name: pick(w, "s1", "s2"), Section: pick(w, "", "", "", "l0", "l1"), Port: pick(w, int32(0), 0, 0, 80, 81)}
}

func (w worldMaker) gateway() (Ref, any) {
	spec := GatewaySpec{Meta: w.parentMeta(), Class: pick(w, "c1", "c2"), AllowedListeners: w.from()}
	spec.Listeners = w.listeners(spec.Generation, false)
	for _, a := range w.addresses() {
		spec.Addresses = append(spec.Addresses, Address{pick(w, "", "IPAddress", "Hostname", "NamedAddress"), a})
	}
	if w.IntN(8) == 0 {
		spec.Annotations["external-dns.alpha.kubernetes.io/target"] = "192.0.2.9"
	}
	return Ref{KindGateway, spec.Namespace, spec.Name}, spec
}

func (w worldMaker) listenerSet() (Ref, any) {
	spec := ListenerSetSpec{Meta: w.parentMeta(), Parent: ParentRef{Namespace: pick(w, "", "n1", "n2"), Name: pick(w, "s1", "s2")}}
	spec.Listeners = w.listeners(spec.Generation, true)
	spec.Conditions = []Condition{{"Programmed", "True", spec.Generation}, {"Accepted", pick(w, "True", "True", "True", "False"), spec.Generation - int64(w.IntN(8)/7)}}
	if w.IntN(8) == 0 {
		spec.Annotations["external-dns.kubernetes.io/target"] = "192.0.2.10, lb2.example.com"
	}
	return Ref{KindListenerSet, spec.Namespace, spec.Name}, spec
}

func (w worldMaker) route() (Ref, any) {
	spec := RouteSpec{Meta: w.meta(), Kind: pick(w, KindHTTPRoute, KindHTTPRoute, KindGRPCRoute, KindTLSRoute, KindTCPRoute, KindUDPRoute)}
	if spec.Kind != KindTCPRoute && spec.Kind != KindUDPRoute {
		spec.Hostnames = w.hosts(3)
	}
	if w.IntN(3) == 0 {
		spec.Annotations["external-dns.kubernetes.io/hostname"] = strings.Join(w.hosts(2), " , ")
	}
	for range 1 + w.IntN(3) {
		p := w.parent()
		if slices.ContainsFunc(spec.Parents, func(o ParentRef) bool { return parentKey(o, spec.Namespace) == parentKey(p, spec.Namespace) }) {
			continue // references are distinct
		}
		spec.Parents = append(spec.Parents, p)
		accepted := w.IntN(3)
		if w.likely {
			accepted++
		}
		for range accepted {
			spec.Status = append(spec.Status, ParentStatus{p, []Condition{{"ResolvedRefs", "True", spec.Generation}, {"Accepted", pick(w, "True", "True", "True", "False"), spec.Generation - int64(w.IntN(3)/2)}}})
		}
	}
	return Ref{spec.Kind, spec.Namespace, spec.Name}, spec
}

func (w worldMaker) object() (Ref, any) {
	what := w.IntN(12)
	if w.likely {
		what = pick(w, what, w.IntN(7))
	}
	switch what {
	case 0, 1:
		return w.gateway()
	case 2:
		return w.listenerSet()
	case 3, 4, 5:
		return w.route()
	case 6:
		spec := NamespaceSpec{Name: pick(w, "n1", "n2", "n3"), Labels: map[string]string{pick(w, "team", "env"): pick(w, "a", "b")}}
		if w.IntN(4) == 0 {
			spec.Labels = nil
		}
		return Ref{Kind: KindNamespace, Name: spec.Name}, spec
	case 7, 8:
		spec := IngressSpec{Meta: w.meta(), Class: pick(w, "", "c1", "c2"), Hosts: w.hosts(3), Addresses: w.addresses()}
		return Ref{KindIngress, spec.Namespace, spec.Name}, spec
	case 9:
		spec := ServiceSpec{Meta: w.meta(), LoadBalancer: w.IntN(3) > 0, Addresses: w.addresses(), ClusterIPs: []string{"10.96.0.1"}, Ports: []Port{{"http", "TCP", 80}}}
		if w.IntN(3) == 0 {
			spec.ExternalIPs = []string{"192.0.2.3"}
		}
		if w.IntN(2) == 0 {
			spec.Annotations["coredns.io/hostname"] = strings.Join(w.hosts(2), ",")
		}
		if w.IntN(3) == 0 {
			spec.Annotations["external-dns.kubernetes.io/internal-hostname"] = strings.Join(w.hosts(2), ",")
		}
		return Ref{KindService, spec.Namespace, spec.Name}, spec
	case 10:
		spec := DNSEndpointSpec{Meta: w.meta()}
		for range w.IntN(4) {
			e := Endpoint{Name: pick(w, hostPool[:len(hostPool)-2]...), Type: pick(w, "A", "A", "TXT")}
			e.Targets = []string{pick(w, "192.0.2.1", "192.0.2.2")}
			spec.Endpoints = append(spec.Endpoints, e)
		}
		return Ref{KindDNSEndpoint, spec.Namespace, spec.Name}, spec
	}
	spec := NodeSpec{Meta: Meta{Name: pick(w, "node1", "node2.rack"), Created: int64(w.IntN(3))}, InternalIPs: pick(w, nil, []string{"10.0.0.1"}, []string{"10.0.0.2", "fd00::2"})}
	return Ref{Kind: KindNode, Name: spec.Name}, spec
}

func pack(spec any) *Object {
	switch spec := spec.(type) {
	case IngressSpec:
		return NewIngress(spec)
	case ServiceSpec:
		return NewService(spec)
	case GatewaySpec:
		return NewGateway(spec)
	case ListenerSetSpec:
		return NewListenerSet(spec)
	case RouteSpec:
		return NewRoute(spec)
	case DNSEndpointSpec:
		return NewDNSEndpoint(spec)
	case NodeSpec:
		return NewNode(spec)
	case NamespaceSpec:
		return NewNamespace(spec)
	}
	panic(fmt.Sprintf("no kind has %T", spec))
}

// put sets the object, or deletes it if nothing of it is stored, as a watch does.
func put(tx *Tx, ref Ref, spec any) {
	if o := pack(spec); o != nil {
		tx.Set(o)
	} else {
		tx.Delete(ref.Kind, ref.Namespace, ref.Name)
	}
}

func (w worldMaker) selection() *Selection {
	sel := &Selection{Zones: []string{zone}, Sources: everything.Sources}
	if w.IntN(3) == 0 {
		sel.Sources = Source(w.IntN(32))
	}
	if w.IntN(3) == 0 {
		sel.Classes = NamesOf(pick(w, "c1", "c2", "c3"))
	}
	sel.Listed = w.IntN(4) == 0
	if w.IntN(3) == 0 {
		sel.Namespaces = NamesOf(pick(w, "n1", "n2"), pick(w, "n2", "n3"))
	}
	return sel
}

var askedNames = func() (all []string) {
	for _, host := range hostPool[:len(hostPool)-2] {
		if strings.HasSuffix(host, "example.org") {
			all = append(all, host+".", "q."+host+".", "q.r."+host+".", "q.r.s."+host+".")
		}
	}
	for _, ns := range []string{"n1", "n2"} {
		all = append(all, ns+".example.org.", "s1."+ns+".example.org.", "_tcp.s1."+ns+".example.org.", "_http._tcp.s1."+ns+".example.org.", "q.s1."+ns+".example.org.")
	}
	return append(all, "rack.example.org.", "node2.rack.example.org.", "node1.example.org.")
}()

func TestIndexAgainstModel(t *testing.T) {
	worlds := 350 // six states each
	if testing.Short() {
		worlds = 50
	}
	outcomes := map[string]int{}
	for seed := range uint64(worlds) {
		w := worldMaker{rand.New(rand.NewPCG(seed, 7)), seed%2 == 0}
		m, ix := newModel(), NewIndex()
		sels := []*Selection{w.selection(), w.selection()}
		lost := make([]map[Conflict]bool, len(sels))
		for i, sel := range sels {
			lost[i] = map[Conflict]bool{}
			defer ix.Watch(sel, func(more, less []Conflict) {
				for _, c := range more {
					lost[i][c] = true
				}
				for _, c := range less {
					delete(lost[i], c)
				}
			}).Stop()
		}
		for step := range 6 {
			ix.Update(func(tx *Tx) {
				for range 1 + w.IntN(12) {
					ref, spec := w.object()
					if w.IntN(5) == 0 {
						m.delete(ref)
						tx.Delete(ref.Kind, ref.Namespace, ref.Name)
						continue
					}
					m.set(ref, spec)
					put(tx, ref, spec)
				}
			})
			claims := m.claims()
			for i, sel := range sels {
				checkGroups(t, ix.State(), sel)
				all := slices.DeleteFunc(append(slices.Clone(claims), m.direct(sel)...), func(c modelClaim) bool { return sel.Listed && !m.listed(c.ref.Namespace) })
				slices.SortStableFunc(all, func(a, b modelClaim) int {
					return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.ref.Namespace, b.ref.Namespace), strings.Compare(a.ref.Name, b.ref.Name), cmp.Compare(a.ref.Kind, b.ref.Kind))
				})
				for _, name := range askedNames {
					want, got := m.lookup(name, all, sel), modelAnswer(ix.State(), name, sel)
					if got != want {
						t.Fatalf("seed %d, step %d, %+v: %s\n got %s\nwant %s\nclaims %+v\n%s", seed, step, *sel, name, got, want, all, m)
					}
					if len(want) < 9 {
						outcomes[want]++
					} else {
						outcomes[strings.Fields(want)[0]]++
					}
				}
				if got, want := slices.Collect(ix.State().Names(zone, sel)), m.names(all, sel); !sameNames(got, want) {
					t.Fatalf("seed %d, step %d, %+v: names\n got %v\nwant %v\n%s", seed, step, *sel, got, want, m)
				}
				if want := m.conflicts(all, sel); !maps.Equal(lost[i], want) {
					t.Fatalf("seed %d, step %d, %+v: conflicts\n got %v\nwant %v\n%s", seed, step, *sel, lost[i], want, m)
				}
			}
		}
		w.checkUnpacking(t, ix.State())
		checkSlots(t, ix.State())
		ix.Update(func(tx *Tx) {
			for ref := range m.objects {
				tx.Delete(ref.Kind, ref.Namespace, ref.Name)
			}
		})
		checkEmpty(t, ix)
	}
	t.Log(outcomes)
}

// listed reports whether the namespace exists.
func (m *model) listed(namespace string) bool {
	_, ok := m.objects[Ref{Kind: KindNamespace, Name: namespace}]
	return ok || namespace == ""
}

// names returns the names that have records.
func (m *model) names(claims []modelClaim, sel *Selection) map[string]bool {
	names := map[string]bool{}
	for _, c := range claims {
		if _, ok := c.admitted(sel); ok && strings.HasSuffix("."+c.name+".", "."+sel.Zones[0]) {
			names[c.name+"."] = true
		}
	}
	return names
}

func sameNames(got []string, want map[string]bool) bool {
	seen := map[string]bool{}
	for _, name := range got {
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	return maps.Equal(seen, want)
}

// checkUnpacking packs the unpacked objects again.
func (w worldMaker) checkUnpacking(t *testing.T, s *State) {
	t.Helper()
	for kind := range Kind(kinds) {
		n := 0
		for o := range s.Objects(kind) {
			n++
			if again := pack(unpack(o)); again == nil || !again.Equal(o) {
				t.Fatalf("%s: %+v differs when it is packed again", o.Ref(), unpack(o))
			}
		}
		if n != s.Len(kind) {
			t.Fatalf("%d objects are a %s, and %d are counted", n, kind, s.Len(kind))
		}
	}
}

// checkSlots checks that a name with a single claim has a slot of its own.
func checkSlots(t *testing.T, s *State) {
	t.Helper()
	for h, n := range s.several.All {
		if *n < 2 {
			t.Fatalf("%d claims under %x, among several", *n, h)
		}
	}
	grouped := map[claim]bool{}
	for c := range s.groups.All {
		grouped[c] = true
	}
	for c := range s.claims.All {
		name := claimed(s.at(c.id), c.at).String()
		h, sort := hashClaim(name)
		if several := s.slotsOf(sort).Get(h).id == severalClaims; several != grouped[c] {
			t.Fatalf("%s: of a name with several claims: %v; in a group: %v", name, several, grouped[c])
		}
		delete(grouped, c)
	}
	if len(grouped) > 0 {
		t.Fatalf("deleted claims are in groups: %v", grouped)
	}
}

// checkGroups checks that a look-up finds the same claim by its group as by its age.
func checkGroups(t *testing.T, s *State, sel *Selection) {
	t.Helper()
	for c := range s.groups.All {
		name := host{first: claimed(s.at(c.id), c.at).String()}
		if below, wild := wildcard(name.first); wild {
			name = wildcardBelow(below)
		}
		byAge, byGroup := Match{state: s, sel: sel, left: fullBudget}, Match{state: s, sel: sel, left: fullBudget}
		want, found := byAge.winner(name, sel.Sources)
		if got, ok := byGroup.oldest(name, sel.Sources); got != want || ok != found || byGroup.left.groups == 0 {
			t.Fatalf("%+v, %s: by age %v %v, by group %v %v with %+v left", *sel, name, want, found, got, ok, byGroup.left)
		}
	}
}

func unpack(o *Object) any {
	switch kind := o.Kind(); {
	case kind == KindIngress:
		return o.Ingress()
	case kind == KindService:
		return o.Service()
	case kind == KindGateway:
		return o.Gateway()
	case kind == KindListenerSet:
		return o.ListenerSet()
	case kind == KindDNSEndpoint:
		return o.DNSEndpoint()
	case kind == KindNode:
		return o.Node()
	case kind == KindNamespace:
		return o.NamespaceSpec()
	}
	return o.Route()
}

// checkEmpty checks that nothing is left of objects that were deleted.
func checkEmpty(t *testing.T, ix *Index) {
	t.Helper()
	s := ix.State()
	if !s.keys.Empty() || !s.claims.Empty() || !s.groups.Empty() || !s.children.Empty() || !s.referring.Empty() || !s.sharing.Empty() || !s.balancers.Empty() || s.slots.Len()+s.others.Len()+s.several.Len()+s.below.Len() > 0 || s.counts != [kinds]int{} || s.wildcards != 0 || len(ix.ids.free) != int(ix.ids.last) || len(ix.sharedIDs.free) != int(ix.sharedIDs.last) || len(ix.uses) > 0 {
		t.Fatalf("left over: %d slots, %d several, %d below, counts %v, %d of %d numbers of objects and %d of %d of shared parts are free", s.slots.Len(), s.several.Len(), s.below.Len(), s.counts, len(ix.ids.free), ix.ids.last, len(ix.sharedIDs.free), ix.sharedIDs.last)
	}
	for c := range ix.watchers {
		if c.Len() != 0 || len(c.lost) != 0 {
			t.Fatalf("%d conflicts without objects", c.Len())
		}
	}
}

func (m *model) String() string {
	var b strings.Builder
	for ref, spec := range m.objects {
		fmt.Fprintf(&b, "%s: %+v\n", ref, spec)
	}
	return b.String()
}
