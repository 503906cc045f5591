package kubehosts

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// A reply is one message and one slab of records: what most answers hold is allocated with the message. The records are
// the reply's own, as the plugins ahead may change them.

// maxRecords is more records than a message can hold: each takes at least 12 bytes of the 65535 (RFC 1035, section 4.1.3).
// A reply of so many is cut by the server, so there is no use in making the rest of a million.
const maxRecords = 65535/12 + 1

// head is a message with room for its question.
type head struct {
	msg      dns.Msg
	question [1]dns.Question
}

func (h *head) init(r *dns.Msg) *dns.Msg {
	h.question[0] = r.Question[0]
	h.msg.MsgHdr = dns.MsgHdr{Id: r.Id, Response: true, Opcode: r.Opcode, Authoritative: true}
	if r.Opcode == dns.OpcodeQuery {
		h.msg.RecursionDesired = r.RecursionDesired
		h.msg.CheckingDisabled = r.CheckingDisabled
	}
	h.msg.Question = h.question[:]
	return &h.msg
}

// reply returns an authoritative message without records. As it is, it is NODATA without an SOA record, which hosts
// entries have none of.
func (q *question) reply() *dns.Msg { return new(head).init(q.msg) }

type (
	recordA struct {
		dns.A
		ip [4]byte
	}
	recordAAAA struct {
		dns.AAAA
		ip [16]byte
	}
)

// fill writes the header of a record that is new. A composite literal would be made aside and then copied: with it headless
// SRV and A with ten endpoints take an eighth more.
func fill(h *dns.RR_Header, owner string, rrtype uint16, ttl uint32) {
	h.Name, h.Rrtype, h.Class, h.Ttl = owner, rrtype, dns.ClassINET, ttl
}

func (r *recordA) init(owner string, ttl uint32, ip [4]byte) dns.RR {
	fill(&r.A.Hdr, owner, dns.TypeA, ttl)
	r.ip = ip
	r.A.A = r.ip[:]
	return &r.A
}

func (r *recordAAAA) init(owner string, ttl uint32, ip [16]byte) dns.RR {
	fill(&r.AAAA.Hdr, owner, dns.TypeAAAA, ttl)
	r.ip = ip
	r.AAAA.AAAA = r.ip[:]
	return &r.AAAA
}

// addresses4 returns the A records of match, nil if it has none.
func (q *question) addresses4(match *services.Match, ttl uint32) *dns.Msg {
	if ip, ok := match.Only4(); ok { // nearly every Service, and a tenth faster than by way of all the blocks
		rrs, slab, m := q.slab4(1)
		rrs[0] = slab[0].init(q.name, ttl, ip)
		m.Answer = rrs
		return m
	}
	n, _ := match.Count()
	if n == 0 {
		return nil
	}
	n = min(n, maxRecords)
	rrs, slab, m := q.slab4(n)
	i := 0
	if match.Whole() {
		for block := range match.Blocks {
			for j := range min(block.Len4(), n-i) {
				rrs[i] = slab[i].init(q.name, ttl, block.At4(j))
				i++
			}
		}
		m.Answer = rrs[:i]
		return m
	}
	seen := seenOf[netip.Addr](match)
	for member := range match.Members {
		if !member.Addr.Is4() || !first(seen, member.Addr) {
			continue
		}
		if i == n {
			break
		}
		rrs[i] = slab[i].init(q.name, ttl, member.Addr.As4())
		i++
	}
	m.Answer = rrs[:i]
	return m
}

// addresses6 returns the AAAA records of match, nil if it has none.
func (q *question) addresses6(match *services.Match, ttl uint32) *dns.Msg {
	_, n := match.Count()
	if n == 0 {
		return nil
	}
	n = min(n, maxRecords)
	rrs, slab, m := q.slab6(n)
	i := 0
	if match.Whole() {
		for block := range match.Blocks {
			for j := range min(block.Len6(), n-i) {
				rrs[i] = slab[i].init(q.name, ttl, block.At6(j))
				i++
			}
		}
		m.Answer = rrs[:i]
		return m
	}
	seen := seenOf[netip.Addr](match)
	for member := range match.Members {
		if member.Addr.Is4() || !first(seen, member.Addr) {
			continue
		}
		if i == n {
			break
		}
		rrs[i] = slab[i].init(q.name, ttl, member.Addr.As16())
		i++
	}
	m.Answer = rrs[:i]
	return m
}

// slab4 returns a reply with room for n A records.
func (q *question) slab4(n int) ([]dns.RR, []recordA, *dns.Msg) {
	if n == 1 { // nearly every Service: one allocation
		one := new(struct {
			head
			rrs  [1]dns.RR
			slab [1]recordA
		})
		return one.rrs[:], one.slab[:], one.init(q.msg)
	}
	return make([]dns.RR, n), make([]recordA, n), q.reply()
}

// slab6 returns a reply with room for n AAAA records.
func (q *question) slab6(n int) ([]dns.RR, []recordAAAA, *dns.Msg) {
	if n == 1 {
		one := new(struct {
			head
			rrs  [1]dns.RR
			slab [1]recordAAAA
		})
		return one.rrs[:], one.slab[:], one.init(q.msg)
	}
	return make([]dns.RR, n), make([]recordAAAA, n), q.reply()
}

// seenOf returns a set for first, nil where nothing repeats and none is needed.
func seenOf[T comparable](match *services.Match) map[T]struct{} {
	if !match.Repeats() {
		return nil
	}
	return make(map[T]struct{})
}

// first reports whether v is new to seen, and notes it. A nil set takes everything for new.
func first[T comparable](seen map[T]struct{}, v T) bool {
	if seen == nil {
		return true
	}
	if _, ok := seen[v]; ok {
		return false
	}
	seen[v] = struct{}{}
	return true
}

// srv returns the SRV records of match with the addresses of their targets, nil if no port has a number. A pod has none.
func (q *question) srv(match *services.Match, z *answer.Zone, ttl uint32) *dns.Msg {
	pairs := match.Pairs()
	if pairs == 0 {
		return nil
	}
	n4, n6 := match.Count()
	weight := srvWeight(pairs)
	pairs, n4, n6 = min(pairs, maxRecords), min(n4, maxRecords), min(n6, maxRecords)
	tail := q.serviceName(match.Service(), z)
	if m := q.srvOne(match, pairs, n6, tail, ttl, weight); m != nil {
		return m
	}
	if m := q.srvPairs(match, pairs, n4, n6, tail, ttl, weight); m != nil {
		return m
	}
	b := srvBuilder{
		owner:  q.name,
		ttl:    ttl,
		weight: weight,
		rrs:    make([]dns.RR, pairs+n4+n6),
		srvs:   make([]dns.SRV, pairs),
		as:     make([]recordA, n4),
		aaaas:  make([]recordAAAA, n6),
		extra:  pairs,
	}
	if match.Outcome == services.OfService {
		b.service(match, tail)
	} else {
		b.endpoints(match, tail)
	}
	if b.answers == 0 {
		return nil
	}
	m := q.reply()
	m.Answer = b.rrs[:b.answers:b.answers]
	m.Extra = b.rrs[pairs:b.extra]
	return m
}

// srvPair is an SRV record and the address of its target.
type srvPair struct {
	srv dns.SRV
	a   recordA
}

// srvOne is srv for a Service of one port and one address, an IPv4 one: in one allocation, where srvBuilder takes four. It
// returns nil for any other.
func (q *question) srvOne(match *services.Match, pairs, n6 int, service string, ttl uint32, weight uint16) *dns.Msg {
	ip, ok := match.Only4()
	if !ok || pairs != 1 || n6 > 0 {
		return nil
	}
	ports := match.ServicePorts()
	ports.Next()
	port := ports.Number()
	if port == 0 {
		return nil
	}
	one := new(struct {
		head
		rrs [2]dns.RR
		srvPair
	})
	fill(&one.srv.Hdr, q.name, dns.TypeSRV, ttl)
	one.srv.Weight, one.srv.Port, one.srv.Target = weight, port, service
	one.rrs = [2]dns.RR{&one.srv, one.a.init(service, ttl, ip)}
	m := one.head.init(q.msg)
	m.Answer, m.Extra = one.rrs[:1:1], one.rrs[1:]
	return m
}

// srvPairs is srv for what nearly every headless Service is: endpoints with one port and an IPv4 address, after which they
// are named. It returns nil for any other. With 100 endpoints it takes 12.9 us where srvBuilder takes 21.1.
func (q *question) srvPairs(match *services.Match, pairs, n4, n6 int, service string, ttl uint32, weight uint16) *dns.Msg {
	if match.Outcome != services.OfEndpoints || !match.Whole() || pairs != n4 || n6 > 0 || pairs >= maxRecords || len(service) > 255 {
		return nil
	}
	for block := range match.Blocks {
		if !block.Unnamed() || onlyPort(match, block) == 0 {
			return nil
		}
	}
	rrs, slab := make([]dns.RR, 2*pairs), make([]srvPair, pairs)

	// The targets are parts of one string, which is not written again once a target was cut from it. Each is made ahead of
	// the Service's name and copied with it.
	const room = len("255-255-255-255.")
	var names strings.Builder
	names.Grow((room + len(service)) * pairs)
	var target [room + 255]byte
	end := room + copy(target[room:], service)
	i := 0
	for block := range match.Blocks {
		port := onlyPort(match, block)
		for j := range block.Len4() {
			ip := block.At4(j)
			start := names.Len()
			names.Write(target[services.PutLabel((*[room]byte)(target[:]), ip):end])
			name := names.String()[start:]
			pair := &slab[i]
			fill(&pair.srv.Hdr, q.name, dns.TypeSRV, ttl)
			pair.srv.Weight, pair.srv.Port, pair.srv.Target = weight, port, name
			rrs[i], rrs[pairs+i] = &pair.srv, pair.a.init(name, ttl, ip)
			i++
		}
	}
	m := q.reply()
	m.Answer, m.Extra = rrs[:pairs:pairs], rrs[pairs:]
	return m
}

// onlyPort returns the number of a block's one port that the name asks for, 0 if it has none.
func onlyPort(match *services.Match, block services.Block) uint16 {
	ports := match.BlockPorts(block)
	ports.Next()
	return ports.Number()
}

// serviceName returns the name of a Service in the zone, spelled as the query spells the zone.
func (q *question) serviceName(s services.Service, z *answer.Zone) string {
	spelled := q.as(z.Name)
	if spelled == z.Name { // then the name stands in the query as it is
		n := len(s.Owner()) + len(".svc.") + len(z.Name)
		if z.Name == "." {
			n--
		}
		return q.lower[len(q.lower)-n:]
	}
	return s.Owner() + ".svc." + spelled
}

// srvWeight shares a weight of 100 among n records, as stock does: in floating point, and at least 1.
func srvWeight(n int) uint16 {
	return max(1, uint16(100.0/float64(100*n)*100))
}

// srvBuilder fills the slabs of an SRV reply.
type srvBuilder struct {
	owner  string
	ttl    uint32
	weight uint16

	rrs     []dns.RR // SRV records, then the addresses of their targets
	srvs    []dns.SRV
	as      []recordA
	aaaas   []recordAAAA
	answers int // SRV records in rrs
	extra   int // end of the addresses in rrs
	n4, n6  int // of them
}

// service adds a Service: one target, with a record a port and with all the cluster IPs.
func (b *srvBuilder) service(match *services.Match, target string) {
	for member := range match.Members {
		if b.answers == 0 {
			b.addPorts(match.Ports(member), target, nil)
		}
		if b.answers > 0 {
			b.addAddress(target, member.Addr)
		}
	}
}

// targetPort and targetAddr are what records of one name are told apart by.
type (
	targetPort struct {
		target string
		port   uint16
	}
	targetAddr struct {
		target string
		addr   netip.Addr
	}
)

// endpoints adds endpoints: a target each, below the Service.
func (b *srvBuilder) endpoints(match *services.Match, service string) {
	ports, addrs := seenOf[targetPort](match), seenOf[targetAddr](match)

	// The targets are parts of one string, which is not written again once a target was cut from it.
	var names strings.Builder
	names.Grow((len("255-255-255-255.") + len(service)) * (len(b.as) + len(b.aaaas)))
	for member := range match.Members {
		var buf [64]byte
		start := names.Len()
		names.Write(member.AppendLabel(buf[:0]))
		names.WriteByte('.')
		names.WriteString(service)
		target := names.String()[start:]

		if b.addPorts(match.Ports(member), target, ports) && first(addrs, targetAddr{target, member.Addr}) {
			b.addAddress(target, member.Addr)
		}
	}
}

// addPorts adds an SRV record for each port that has a number. It reports whether there is one.
func (b *srvBuilder) addPorts(ports services.Ports, target string, seen map[targetPort]struct{}) (numbered bool) {
	start := b.answers
next:
	for ports.Next() {
		port := ports.Number()
		if port == 0 {
			continue
		}
		numbered = true
		if b.answers == len(b.srvs) || !first(seen, targetPort{target, port}) {
			continue
		}
		for _, before := range b.srvs[start:b.answers] {
			if before.Port == port { // one number, several protocols
				continue next
			}
		}
		srv := &b.srvs[b.answers]
		*srv = dns.SRV{
			Hdr:    dns.RR_Header{Name: b.owner, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: b.ttl},
			Weight: b.weight, Port: port, Target: target,
		}
		b.rrs[b.answers] = srv
		b.answers++
	}
	return numbered
}

// addAddress adds the address of a target to the additional section.
func (b *srvBuilder) addAddress(target string, a netip.Addr) {
	if a.Is4() && b.n4 == len(b.as) || a.Is6() && b.n6 == len(b.aaaas) {
		return
	}
	if a.Is4() {
		b.rrs[b.extra] = b.as[b.n4].init(target, b.ttl, a.As4())
		b.n4++
	} else {
		b.rrs[b.extra] = b.aaaas[b.n6].init(target, b.ttl, a.As16())
		b.n6++
	}
	b.extra++
}

func cname(owner, target string, ttl uint32) *dns.CNAME {
	return &dns.CNAME{
		Hdr:    dns.RR_Header{Name: owner, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl},
		Target: target,
	}
}

// pointer is the target of a PTR record.
type pointer struct {
	name string
	ttl  uint32
}

// pointers returns PTR records.
func (q *question) pointers(names []pointer) *dns.Msg {
	var slab []dns.PTR
	var m *dns.Msg
	if len(names) == 1 { // nearly every address: one allocation
		one := new(struct {
			head
			rrs  [1]dns.RR
			slab [1]dns.PTR
		})
		m, slab = one.init(q.msg), one.slab[:]
		m.Answer = one.rrs[:]
	} else {
		m = q.reply()
		m.Answer, slab = make([]dns.RR, len(names)), make([]dns.PTR, len(names))
	}
	for i, p := range names {
		fill(&slab[i].Hdr, q.name, dns.TypePTR, p.ttl)
		slab[i].Ptr = p.name
		m.Answer[i] = &slab[i]
	}
	return m
}

// version returns the TXT record that names the version of the specification (section 2.2).
func (q *question) version() *dns.Msg {
	const version, ttl = "1.1.0", 28800
	m := q.reply()
	m.Answer = []dns.RR{&dns.TXT{
		Hdr: dns.RR_Header{Name: q.name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: ttl},
		Txt: []string{version},
	}}
	return m
}

// denial returns a reply without an answer: NODATA, NXDOMAIN or SERVFAIL by rcode, with the zone's SOA record
// (RFC 2308, section 2).
func (q *question) denial(z *answer.Zone, l *answer.View, s *services.State, rcode int) *dns.Msg {
	one := new(struct {
		head
		rrs [1]dns.RR
		soa dns.SOA
	})
	m := one.init(q.msg)
	m.Rcode = rcode
	q.fillSOA(&one.soa, z, l, s)
	one.rrs[0] = &one.soa
	m.Ns = one.rrs[:]
	return m
}

// fillSOA makes soa the SOA record of z.
func (q *question) fillSOA(soa *dns.SOA, z *answer.Zone, l *answer.View, s *services.State) {
	ns, mbox := z.NS, z.Mbox
	spelled := q.as(z.Name)
	if spelled != z.Name {
		ns, mbox = answer.Under("ns.dns.", spelled), answer.Under("hostmaster.", spelled)
	}
	*soa = dns.SOA{
		Hdr: dns.RR_Header{Name: spelled, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: min(l.TTL, 300)},
		Ns:  ns, Mbox: mbox, Serial: l.SerialOf(s),
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: l.TTL,
	}
}

// apex answers for the zone's own name.
func (q *question) apex(z *answer.Zone, l *answer.View, s *services.State) *dns.Msg {
	switch q.qtype {
	case dns.TypeSOA:
		m := q.reply()
		soa := new(dns.SOA)
		q.fillSOA(soa, z, l, s)
		m.Answer = []dns.RR{soa}
		return m
	case dns.TypeNS:
		m := q.reply()
		seen := make(map[string]struct{})
		for _, ns := range nameservers(l, s, q.as(z.Name)) {
			m.Extra = append(m.Extra, ns.record(l.TTL))
			if !first(seen, ns.name) {
				continue
			}
			m.Answer = append(m.Answer, &dns.NS{
				Hdr: dns.RR_Header{Name: q.name, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: l.TTL},
				Ns:  ns.name,
			})
		}
		if len(m.Answer) > 0 {
			return m
		}
	}
	return q.denial(z, l, s, dns.RcodeSuccess)
}

// nameserver answers for ns.dns, the name that the SOA record gives as the zone's first server.
func (q *question) nameserver(z *answer.Zone, l *answer.View, s *services.State) *dns.Msg {
	m := q.reply()
	for _, ns := range nameservers(l, s, q.as(z.Name)) {
		if ns.addr.Is4() && q.qtype == dns.TypeA || ns.addr.Is6() && q.qtype == dns.TypeAAAA {
			ns.name = q.name
			m.Answer = append(m.Answer, ns.record(l.TTL))
		}
	}
	if len(m.Answer) == 0 {
		return q.denial(z, l, s, dns.RcodeSuccess)
	}
	return m
}
