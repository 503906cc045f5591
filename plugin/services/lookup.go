package services

import (
	"net/netip"
	"strings"
)

// Options are the parts of a stanza that decide which objects of a State are served.
type Options struct {
	Namespaces         Names // nil: all
	Pods               PodMode
	NoEndpoints        bool // as if there were no EndpointSlices
	IgnoreEmptyService bool // hides Services with a cluster IP and no ready endpoint
}

// Names is a set of names of objects.
type Names map[string]struct{}

// NamesOf returns the set of all, nil for none.
func NamesOf(all ...string) Names {
	if len(all) == 0 {
		return nil
	}
	names := make(Names, len(all))
	for _, name := range all {
		names[name] = struct{}{}
	}
	return names
}

// PodMode selects the pod names that exist.
type PodMode uint8

// The modes of the option pods.
const (
	PodsDisabled PodMode = iota // none
	PodsInsecure                // all that encode an address
	PodsVerified                // those that encode the address of a Pod in the namespace
)

func (o *Options) serves(namespace string) bool {
	if len(o.Namespaces) == 0 {
		return true
	}
	_, ok := o.Namespaces[namespace]
	return ok
}

// Outcome is the kind of a Match.
type Outcome uint8

// The outcomes of a look-up.
const (
	NameError Outcome = iota // no such name: NXDOMAIN
	NoData                   // the name exists, but no object provides a record for it
	OfService                // a Service's cluster IPs
	OfEndpoints
	OfPod
	Alias // an ExternalName
)

// Match is the result of a look-up: where the records are, not the records.
type Match struct {
	Outcome Outcome
	Why     Why
	service Service
	owner   *owner // of OfEndpoints
	own     endpointLabel
	repeats bool // an address may come more than once
	pod     netip.Addr

	port, protocol, zone string // as in Name; a pointer to it would move every Name to the heap
}

// Lookup finds the name n. It allocates nothing.
func (s *State) Lookup(n *Name, o *Options) Match {
	switch {
	case n.Kind == Unknown:
		return Match{Why: NotDefined}
	case n.Namespace == "":
		return Match{Outcome: NoData, Why: StandsAbove}
	case !s.exposed(n.Namespace, o):
		return Match{Why: s.hidden(n.Namespace)}
	case n.Kind == Pods:
		return s.lookupPod(n, o)
	case n.Service == "":
		return Match{Outcome: NoData, Why: StandsAbove}
	}
	own := s.ownersOf(n.imported).Find(nameKey(n.owner))
	if own == nil || own.service.IsZero() {
		return Match{Why: NoService}
	}
	m := Match{service: own.service, port: n.Port, protocol: n.Protocol}
	kind := own.service.kind()
	switch {
	case o.IgnoreEmptyService && kind == clusterIP && (o.NoEndpoints || own.unready()):
		return Match{Why: EmptyHidden}
	case n.Zone != "" && kind != headless:
		return Match{Why: NotHeadless}
	case kind == externalName:
		if own.service.ExternalName() == "" {
			return Match{Why: BadAlias}
		}
		if n.Endpoint != "" || n.Port != "" || n.Protocol != "" {
			return Match{Why: BelowAlias}
		}
		m.Outcome = Alias
		return m
	case kind == headless || n.Endpoint != "":
		if o.NoEndpoints {
			if kind == clusterIP && own.namesProtocol(n.Endpoint) {
				return Match{Outcome: NoData, Why: StandsAbove}
			}
			return Match{Why: EndpointsHidden}
		}
		if kind == headless && n.aboveZonal {
			return Match{Outcome: NoData, Why: StandsAbove}
		}
		return m.endpoints(own, n)
	case own.service.ports().has(n.Port, n.Protocol):
		m.Outcome = OfService
		return m
	}
	return Match{Why: NoPort}
}

// exposed reports whether the namespace exists and the options serve it.
func (s *State) exposed(name string, o *Options) bool {
	return s.namespaces.Find(nameKey(name)) != nil && o.serves(name)
}

// endpoints narrows m to the endpoints of own that match the name.
func (m Match) endpoints(own *owner, n *Name) Match {
	m.Outcome = OfEndpoints
	m.owner = own
	m.zone = n.Zone
	m.repeats = own.repeats() || n.imported // imported addresses are not indexed: they may repeat
	if n.Endpoint != "" {
		m.own = parseEndpointLabel(n.Endpoint, n.Cluster)
		m.repeats = true // one name, and few addresses
	}
	if m.members() {
		return m
	}
	if n.Zone != "" {
		if m.zone = ""; n.Prefer && m.members() {
			return m
		}
		return Match{Outcome: NoData, Why: NoZone} // the name exists for any zone, as in stock
	}
	if own.standsAbove(n) {
		return Match{Outcome: NoData, Why: StandsAbove}
	}
	return Match{Why: m.lacking(own)}
}

// members reports whether there is one.
func (m *Match) members() bool {
	switch {
	case m.narrow():
		for range m.Members {
			return true
		}
		return false
	case m.port == "" && m.protocol == "":
		return !m.owner.unready()
	}
	for run := m.owner.first(); len(run) > 0; run = m.owner.after(run) {
		for _, s := range run {
			if s.count() > 0 && s.ports().has(m.port, m.protocol) {
				return true
			}
		}
	}
	return false
}

// standsAbove reports whether names exist below n, so that n exists without records of its own (RFC 8020, section 2):
// the protocol of SRV records, as in _tcp.web.shop.svc, or the cluster of imported endpoints.
func (o *owner) standsAbove(n *Name) bool {
	if n.imported && n.Cluster == "" && n.Endpoint != "" {
		for run := o.first(); len(run) > 0; run = o.after(run) {
			for _, s := range run {
				if s.count() > 0 && s.Cluster() == n.Endpoint {
					return true
				}
			}
		}
	}
	return o.namesProtocol(n.Endpoint)
}

// namesProtocol reports whether label is the protocol in the name of an SRV record, such as _tcp.
func (o *owner) namesProtocol(label string) bool {
	protocol, ok := strings.CutPrefix(label, "_")
	if !ok || protocol == "" {
		return false
	}
	if o.service.kind() == clusterIP {
		return o.service.ports().has("", protocol)
	}
	for run := o.first(); len(run) > 0; run = o.after(run) {
		for _, s := range run {
			if s.count() > 0 && s.ports().has("", protocol) {
				return true
			}
		}
	}
	return false
}

func (s *State) lookupPod(n *Name, o *Options) Match {
	if o.Pods == PodsDisabled {
		return Match{Why: PodsHidden}
	}
	if n.Service == "" {
		return Match{Outcome: NoData, Why: StandsAbove}
	}
	a, ok := parsePodLabel(n.Service)
	if !ok {
		return Match{Why: NoPodAddress}
	}
	m := Match{Outcome: OfPod, pod: a}
	if o.Pods == PodsInsecure {
		return m
	}
	h := s.pods.Find(a.As16())
	if h != nil && isPodLabel(n.Service, a) && podIn(h, n.Namespace) {
		return m
	}
	return Match{Why: NoPod}
}

// podIn reports whether one of the Pods is in the namespace.
func podIn(h *holders[*Pod], namespace string) bool {
	p, ok := h.more.From(func(p *Pod) int { return p.compare(namespace, "") })
	if !ok {
		p = h.one
	}
	return p != nil && p.Namespace() == namespace
}

// parsePodLabel returns the address in a pod's label: 10-1-2-3, or fd00--1 (specification, section 2.6). It accepts the
// same as netip.ParseAddr, with dashes for dots or colons, and allocates nothing.
func parsePodLabel(label string) (a netip.Addr, ok bool) {
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		return parseDashed4(label)
	}
	return parseDashed6(label)
}

func parseDashed4(label string) (a netip.Addr, ok bool) {
	var ip [4]byte
	for i := range ip {
		octet, rest, _ := strings.Cut(label, "-")
		n, ok := parseOctet(octet)
		if !ok {
			return netip.Addr{}, false
		}
		ip[i], label = n, rest
	}
	return netip.AddrFrom4(ip), true
}

// parseOctet parses a number up to 255 without leading zeros.
func parseOctet(s string) (byte, bool) {
	if len(s) == 0 || len(s) > 3 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return byte(n), n < 256
}

func parseDashed6(label string) (a netip.Addr, ok bool) {
	var ip, behind [16]byte
	before, after, gap := strings.Cut(label, "--")
	n, ok := parseGroups(before, ip[:])
	if !ok || gap == (n == len(ip)) {
		return netip.Addr{}, false
	}
	m, ok := parseGroups(after, behind[:])
	if !ok || gap && n+m >= len(ip) {
		return netip.Addr{}, false
	}
	copy(ip[len(ip)-m:], behind[:m])
	return netip.AddrFrom16(ip).Unmap(), true
}

// parseGroups writes groups of up to four hexadecimal digits, separated by dashes, to ip, and returns the number of
// bytes written.
func parseGroups(s string, ip []byte) (n int, ok bool) {
	if s == "" {
		return 0, true
	}
	for more := true; more; n += 2 {
		var group string
		if group, s, more = strings.Cut(s, "-"); group == "" || len(group) > 4 || n == len(ip) {
			return 0, false
		}
		value := 0
		for i := range len(group) {
			digit, ok := parseNibble(group[i])
			if !ok {
				return 0, false
			}
			value = value<<4 | int(digit)
		}
		ip[n], ip[n+1] = byte(value>>8), byte(value)
	}
	return n, true
}

// parseNibble parses a hexadecimal digit in lower case.
func parseNibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// isPodLabel reports whether label is the label that Kubernetes derives from a pod's address: 10-1-2-3, or
// fd00--1.
func isPodLabel(label string, a netip.Addr) bool {
	var buf [64]byte
	text := a.AppendTo(buf[:0])
	if len(text) != len(label) {
		return false
	}
	for i, c := range text {
		if c == '.' || c == ':' {
			c = '-'
		}
		if c != label[i] {
			return false
		}
	}
	return true
}

// endpointLabel is the label of an endpoint in a query: a name and, if the name is derived from an address, that
// address.
type endpointLabel struct {
	text    string
	addr    netip.Addr
	cluster string // of an imported endpoint
}

func parseEndpointLabel(label, cluster string) endpointLabel {
	l := endpointLabel{text: label, cluster: cluster}
	if strings.Count(label, "-") < 2 { // most names; an address has more
		return l
	}
	if a, ok := parsePodLabel(label); ok {
		var buf [64]byte
		if string(appendDerived(buf[:0], a)) == label {
			l.addr = a
		}
	}
	return l
}

// appendDerived appends the label of an endpoint without a name of its own: its address with dashes, and a 0 after a
// final dash, because a label can't end in one (RFC 1123, section 2.1).
func appendDerived(b []byte, a netip.Addr) []byte {
	start := len(b)
	b = a.AppendTo(b)
	for i := start; i < len(b); i++ {
		if b[i] == '.' || b[i] == ':' {
			b[i] = '-'
		}
	}
	if b[len(b)-1] == '-' {
		b = append(b, '0')
	}
	return b
}
