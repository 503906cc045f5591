// Package message turns an Answer into a dns.Msg. The message and its records belong to the caller. Plugins ahead may
// change them, so no two replies share one.
package message

import (
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
)

// head is a message with room for its question. Most answers need nothing else and are allocated together
// with it.
type head struct {
	msg      dns.Msg
	question [1]dns.Question
}

func (h *head) init(r *dns.Msg, a *answer.Answer) *dns.Msg {
	h.question[0] = r.Question[0]
	h.msg.MsgHdr = dns.MsgHdr{
		Id: r.Id, Response: true, Opcode: r.Opcode, Authoritative: true, Rcode: a.Rcode,
		RecursionDesired: r.RecursionDesired, CheckingDisabled: r.CheckingDisabled,
	}
	h.msg.Question = h.question[:]
	return &h.msg
}

// Reply returns the reply to the query r with the Answer a, whose Outcome is Ours. With Follow it holds only the CNAME
// records or, if Behind is true, the addresses that are known without a look-up.
func Reply(r *dns.Msg, a *answer.Answer) *dns.Msg {
	var m *dns.Msg
	switch {
	case len(a.Aliases) > 0:
		m = aliased(r, a)
	case a.Denied:
		m = denial(r, a)
	default:
		m = records(r, a)
	}
	extend(m, r, a)
	return m
}

// records returns a message with the records of a.Kind.
func records(r *dns.Msg, a *answer.Answer) *dns.Msg {
	switch a.Kind {
	case answer.Addresses:
		if a.Type == dns.TypeA {
			return addresses[recordA](r, a)
		}
		return addresses[recordAAAA](r, a)
	case answer.Targets:
		return targets(r, a)
	case answer.Pointers:
		return pointers(r, a)
	}
	m := new(head).init(r, a)
	switch a.Kind {
	case answer.SOA:
		m.Answer = []dns.RR{fillSOA(new(dns.SOA), a)}
	case answer.Nameservers:
		nameservers(m, a)
	case answer.Version:
		txt := &dns.TXT{Txt: []string{answer.VersionText}}
		fill(&txt.Hdr, a.Owner(), dns.TypeTXT, a.TTL)
		m.Answer = []dns.RR{txt}
	case answer.Texts:
		texts(m, a)
	case answer.Mails:
		for mail := range a.Mails {
			rr := &dns.MX{Preference: mail.Preference, Mx: mail.Host}
			fill(&rr.Hdr, a.Owner(), dns.TypeMX, a.TTL)
			m.Answer = append(m.Answer, rr)
		}
	case answer.Servers:
		servers(m, a)
	}
	return m
}

// texts adds the TXT records.
func texts(m *dns.Msg, a *answer.Answer) {
	for text := range a.Texts {
		rr := new(dns.TXT)
		fill(&rr.Hdr, a.Owner(), dns.TypeTXT, a.TTL)
		for more := true; more; more = text != "" {
			n := min(len(text), answer.MaxString)
			rr.Txt = append(rr.Txt, strings.ReplaceAll(text[:n], `\`, `\\`)) // in presentation form
			text = text[n:]
		}
		m.Answer = append(m.Answer, rr)
	}
}

// servers adds the SRV records of an external zone, and the addresses of the target that belongs to
// this zone.
func servers(m *dns.Msg, a *answer.Answer) {
	for s := range a.Servers {
		rr := &dns.SRV{Priority: s.Priority, Weight: s.Weight, Port: s.Port, Target: s.Target}
		fill(&rr.Hdr, a.Owner(), dns.TypeSRV, a.TTL)
		m.Answer = append(m.Answer, rr)
	}
	for target, ip := range a.ServerAddrs {
		m.Extra = append(m.Extra, address(target, a.TTL, ip))
	}
}

// aliased returns a message with the CNAME records, followed by the records that they lead to.
func aliased(r *dns.Msg, a *answer.Answer) *dns.Msg {
	var m *dns.Msg
	if a.Denied {
		m = denial(r, a)
	} else {
		m = records(r, a)
	}
	all := make([]dns.RR, 0, len(a.Aliases)+len(m.Answer))
	owner := a.Name
	for _, target := range a.Aliases {
		rr := &dns.CNAME{Target: target}
		fill(&rr.Hdr, owner, dns.TypeCNAME, a.AliasTTL)
		all = append(all, rr)
		owner = target
	}
	m.Answer = append(all, m.Answer...)
	return m
}

// denial returns a message with the zone's SOA record in the authority section (RFC 2308, section 2).
func denial(r *dns.Msg, a *answer.Answer) *dns.Msg {
	one := new(struct {
		head
		rrs [1]dns.RR
		soa dns.SOA
	})
	m := one.init(r, a)
	one.rrs[0] = fillSOA(&one.soa, a)
	m.Ns = one.rrs[:]
	return m
}

func fillSOA(rr *dns.SOA, a *answer.Answer) *dns.SOA {
	soa := a.Authority()
	fill(&rr.Hdr, soa.Owner, dns.TypeSOA, soa.TTL)
	rr.Ns, rr.Mbox, rr.Serial = soa.NS, soa.Mbox, soa.Serial
	rr.Refresh, rr.Retry, rr.Expire, rr.Minttl = soa.Refresh, soa.Retry, soa.Expire, soa.Minimum
	return rr
}

// nameservers adds the NS records, each once, and the servers' addresses.
func nameservers(m *dns.Msg, a *answer.Answer) {
	seen := make(map[string]struct{})
	for ns := range a.Nameservers {
		if ns.Addr.IsValid() {
			m.Extra = append(m.Extra, address(ns.Name, ns.TTL, ns.Addr))
		}
		if _, ok := seen[ns.Name]; ok {
			continue
		}
		seen[ns.Name] = struct{}{}
		rr := &dns.NS{Ns: ns.Name}
		fill(&rr.Hdr, a.Owner(), dns.TypeNS, a.TTL)
		m.Answer = append(m.Answer, rr)
	}
}

// extend adds the Extended DNS Error of a, if the query has an OPT record. The server fills in the rest of the reply's
// OPT record.
func extend(m, r *dns.Msg, a *answer.Answer) {
	if !a.NotReady && a.Stale == 0 || r.IsEdns0() == nil {
		return
	}
	code, text, _ := a.Extended()
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: code, ExtraText: text}}
	m.Extra = append(m.Extra, opt)
}
