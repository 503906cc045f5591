package message

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
)

// Records are allocated in slabs, together with their addresses.
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

// record is a recordA or a recordAAAA.
type record[T any] interface {
	*T
	init(owner string, ttl uint32, ip netip.Addr) dns.RR
}

func (r *recordA) init(owner string, ttl uint32, ip netip.Addr) dns.RR {
	fill(&r.A.Hdr, owner, dns.TypeA, ttl)
	r.ip = ip.As4()
	r.A.A = r.ip[:]
	return &r.A
}

func (r *recordAAAA) init(owner string, ttl uint32, ip netip.Addr) dns.RR {
	fill(&r.AAAA.Hdr, owner, dns.TypeAAAA, ttl)
	r.ip = ip.As16()
	r.AAAA.AAAA = r.ip[:]
	return &r.AAAA
}

// fill writes the header of a new record. A composite literal would be built elsewhere and then copied: with
// it, headless SRV and A answers with ten endpoints took an eighth longer.
func fill(h *dns.RR_Header, owner string, rrtype uint16, ttl uint32) {
	h.Name, h.Rrtype, h.Class, h.Ttl = owner, rrtype, dns.ClassINET, ttl
}

// address returns an A or AAAA record.
func address(owner string, ttl uint32, ip netip.Addr) dns.RR {
	if ip.Is4() {
		return new(recordA).init(owner, ttl, ip)
	}
	return new(recordAAAA).init(owner, ttl, ip)
}

// addresses returns a message with A or AAAA records.
func addresses[T any, R record[T]](r *dns.Msg, a *answer.Answer) *dns.Msg {
	if ip, ok := a.Only(); ok {
		one := new(struct {
			head
			rrs  [1]dns.RR
			slab [1]T
		})
		m := one.init(r, a)
		one.rrs[0] = R(&one.slab[0]).init(a.Owner(), a.TTL, ip)
		m.Answer = one.rrs[:]
		return m
	}
	n := a.Most()
	slab, m := make([]T, n), new(head).init(r, a)
	m.Answer = make([]dns.RR, 0, n)
	for ip := range a.Addrs {
		m.Answer = append(m.Answer, R(next(&slab)).init(a.Owner(), a.TTL, ip))
	}
	return m
}

// targets returns a message with SRV records, and with the addresses of their targets in the additional section.
func targets(r *dns.Msg, a *answer.Answer) *dns.Msg {
	b := newTargetSlab(r, a)
	weight := a.Weight()
	for t := range a.Targets {
		t.Text = b.name(&t.Name, a.Owner())
		for port := range t.Ports {
			if len(b.answer) < answer.MaxRecords {
				rr := next(&b.srvs)
				fill(&rr.Hdr, a.Owner(), dns.TypeSRV, a.TTL)
				rr.Weight, rr.Port, rr.Target = weight, port, t.Text
				b.answer = append(b.answer, rr)
			}
		}
		for ip, ttl := range t.Addrs {
			switch {
			case len(b.extra) == answer.MaxRecords:
			case ip.Is4():
				b.extra = append(b.extra, next(&b.as).init(t.Text, ttl, ip))
			default:
				b.extra = append(b.extra, next(&b.aaaas).init(t.Text, ttl, ip))
			}
		}
	}
	b.msg.Answer, b.msg.Extra = b.answer, b.extra
	return b.msg
}

// targetSlab holds the parts of a message with SRV records.
type targetSlab struct {
	msg           *dns.Msg
	answer, extra []dns.RR
	srvs          []dns.SRV
	as            []recordA
	aaaas         []recordAAAA

	// Targets are parts of one string, which is not overwritten once a name was cut from it.
	names strings.Builder
	buf   [512]byte
}

// newTargetSlab returns a slab with room for the records of a. For one port and one IPv4 address, as most Services
// have, it takes one allocation.
func newTargetSlab(r *dns.Msg, a *answer.Answer) targetSlab {
	n, n4, n6 := a.MostTargets()
	if n == 1 && n4 == 1 && n6 == 0 {
		one := new(struct {
			head
			rrs [2]dns.RR
			srv [1]dns.SRV
			a   [1]recordA
		})
		return targetSlab{msg: one.init(r, a), answer: one.rrs[:0:1], extra: one.rrs[1:1], srvs: one.srv[:], as: one.a[:]}
	}
	rrs := make([]dns.RR, n+n4+n6)
	return targetSlab{
		msg: new(head).init(r, a), answer: rrs[:0:n], extra: rrs[n:n],
		srvs: make([]dns.SRV, n), as: make([]recordA, n4), aaaas: make([]recordAAAA, n6),
	}
}

// next cuts an element off a slab. If hosts entries replace a target's addresses, more may be needed than the slab
// holds.
func next[T any](slab *[]T) *T {
	if len(*slab) == 0 {
		*slab = make([]T, 8)
	}
	first := &(*slab)[0]
	*slab = (*slab)[1:]
	return first
}

// name returns n as text, as a part of the question's name if that ends in it.
func (b *targetSlab) name(n *answer.Name, owner string) string {
	text := n.AppendTo(b.buf[:0])
	if at := len(owner) - len(text); at >= 0 && owner[at:] == string(text) {
		return owner[at:]
	}
	if b.names.Cap()-b.names.Len() < len(text) {
		b.names = strings.Builder{} // names already cut share the old one
		b.names.Grow(max(1, len(b.as)+len(b.aaaas)) * (len(text) + 4))
	}
	start := b.names.Len()
	b.names.Write(text)
	return b.names.String()[start:]
}

// pointers returns a message with PTR records.
func pointers(r *dns.Msg, a *answer.Answer) *dns.Msg {
	one := new(struct { // the usual case, one name: one allocation, and the name
		head
		rrs [1]dns.RR
		ptr dns.PTR
	})
	m := one.init(r, a)
	m.Answer = one.rrs[:0]
	var buf [2 * 256]byte
	for p := range a.Pointers {
		rr := &one.ptr
		if len(m.Answer) > 0 {
			rr = new(dns.PTR)
		}
		fill(&rr.Hdr, a.Owner(), dns.TypePTR, p.TTL)
		rr.Ptr = string(p.AppendTo(buf[:0])) // a copy, since a record must not hold a reference to a table
		m.Answer = append(m.Answer, rr)
	}
	return m
}
