package kubehosts

import (
	"context"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// Name implements plugin.Handler.
func (k *Kubehosts) Name() string { return pluginName }

// ServeDNS implements plugin.Handler. Hosts entries answer first, then Services; a name of neither goes to the next
// plugin, as does one that the zones deny where fallthrough says so.
func (k *Kubehosts) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	l := k.block.View()
	q := newQuestion(r)

	if m := fromHosts(l, &q); m != nil {
		if l.Snapshot != 0 {
			stale(m, r, l.Snapshot)
		}
		return write(w, m)
	}
	z := l.ZoneOf(q.lower)
	if z == nil {
		return plugin.NextOrFailure(k.Name(), k.Next, ctx, w, r)
	}
	if q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR {
		return dns.RcodeRefused, nil // a zone transfer is the transfer plugin's
	}

	state := l.Index.State()
	m := k.fromServices(ctx, w, l, state, z, &q)
	if m == nil && l.FallsThrough(q.lower) {
		return plugin.NextOrFailure(k.Name(), k.Next, ctx, w, r)
	}
	written := max(state.Snapshot(), l.Snapshot)
	if m == nil && !state.Known(&l.Options, z.Imported) {
		m = q.denial(z, l, state, dns.RcodeServerFailure)
		return write(w, explain(m, r, dns.ExtendedErrorCodeNotReady, "nothing was read from the Kubernetes API yet"))
	}
	if m == nil {
		m = q.denial(z, l, state, dns.RcodeNameError)
	}
	if written != 0 {
		stale(m, r, written)
	}
	return write(w, m)
}

// write sends m. The code tells the plugins ahead that the client has its answer.
func write(w dns.ResponseWriter, m *dns.Msg) (int, error) {
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil
}

// question is the query that is being answered.
type question struct {
	msg   *dns.Msg
	name  string // as asked
	lower string
	qtype uint16
}

func newQuestion(r *dns.Msg) question {
	name := r.Question[0].Name
	return question{msg: r, name: name, lower: toLower(name), qtype: r.Question[0].Qtype}
}

// toLower is strings.ToLower, eight bytes at a time: nearly every name is in lower case already, and to find that out byte
// by byte was 8 % of the time of an answer.
func toLower(name string) string {
	if len(name) < 8 {
		return strings.ToLower(name)
	}
	for at := 0; at < len(name); at += 8 {
		at := min(at, len(name)-8)
		x := binary.LittleEndian.Uint64([]byte(name[at : at+8]))
		const ones = 0x0101010101010101
		// The top bit of each byte: of x beyond ASCII, from 'A' on, and behind 'Z'.
		if beyond, from, behind := x, x+(0x80-'A')*ones, x+(0x80-'Z'-1)*ones; (beyond|from&^behind)&(0x80*ones) != 0 {
			return strings.ToLower(name)
		}
	}
	return name
}

// as returns name in the spelling of the query, which ends in it.
func (q *question) as(name string) string { return q.name[len(q.name)-len(name):] }

// fromHosts returns the reply of the hosts entries, nil if they don't hold the name.
func fromHosts(l *answer.View, q *question) *dns.Msg {
	if len(l.Hosts) == 0 {
		return nil
	}
	var names []pointer
	if a, ok := services.ParseReverse(q.lower); ok {
		names = overlay(l.Hosts).names(a)
	}
	var found heldAddresses
	held := overlay(l.Hosts).lookup(q.lower, &found) // a reverse name may be held as any other
	switch {
	case q.qtype == dns.TypePTR && len(names) > 0:
		return q.pointers(names)
	case !held && len(names) > 0:
		return q.reply()
	case !held:
		return nil
	case q.qtype == dns.TypeA:
		return q.held4(&found)
	case q.qtype == dns.TypeAAAA:
		return q.held6(&found)
	case found.passOn && q.qtype != dns.TypePTR:
		return nil
	}
	return q.reply()
}

// fromServices returns the reply of zone z, nil if it has no such name.
func (k *Kubehosts) fromServices(ctx context.Context, w dns.ResponseWriter, l *answer.View, s *services.State, z *answer.Zone, q *question) *dns.Msg {
	base := z.Below(q.lower)
	switch base {
	case "":
		return q.apex(z, l, s)
	case "dns-version":
		if q.qtype == dns.TypeTXT {
			return q.version()
		}
		return q.denial(z, l, s, dns.RcodeSuccess)
	case "ns.dns":
		return q.nameserver(z, l, s)
	case "dns": // only there because ns.dns is (RFC 8020, section 2)
		return q.denial(z, l, s, dns.RcodeSuccess)
	}

	if z.Reverse {
		return q.reverse(z, l, s)
	}
	if q.qtype == dns.TypePTR {
		if m := q.reverse(z, l, s); m != nil {
			return m
		}
	}
	n := services.ParseName(base, z.Grammar)
	match := s.Lookup(&n, &l.Options)
	switch match.Outcome {
	case services.NameError:
		return nil
	case services.Alias:
		return k.alias(ctx, w, l, s, z, q, &match)
	case services.NoData:
		return q.denial(z, l, s, dns.RcodeSuccess)
	}

	var m *dns.Msg
	switch q.qtype {
	case dns.TypeA:
		m = q.addresses4(&match, l.TTL)
	case dns.TypeAAAA:
		m = q.addresses6(&match, l.TTL)
	case dns.TypeSRV:
		m = q.srv(&match, z, l.TTL)
	}
	if m == nil {
		return q.denial(z, l, s, dns.RcodeSuccess)
	}
	return m
}

// reverse answers for a name in a reverse zone, nil if no Service or endpoint has its address.
func (q *question) reverse(z *answer.Zone, l *answer.View, s *services.State) *dns.Msg {
	if base := z.Below(q.lower); base == "svc" || base == "pod" {
		return q.denial(z, l, s, dns.RcodeSuccess)
	}
	a, ok := services.ParseReverse(q.lower)
	if !ok {
		return nil
	}
	var one [1]pointer // nearly always
	names := pointers(l, one[:0], s, a)
	switch {
	case len(names) == 0:
		return nil
	case q.qtype != dns.TypePTR:
		return q.denial(z, l, s, dns.RcodeSuccess)
	}
	return q.pointers(names)
}

// pointers appends the PTR records' targets for the address a.
func pointers(l *answer.View, names []pointer, s *services.State, a netip.Addr) []pointer {
	s.Pointers(a, &l.Options, func(p services.Pointer) bool {
		names = append(names, pointer{p.In(l.Pointed), l.TTL})
		return true
	})
	return names
}

// alias answers for an ExternalName. An address is followed to where the target leads: through the own zone, else
// through all of this server.
func (k *Kubehosts) alias(ctx context.Context, w dns.ResponseWriter, l *answer.View, s *services.State, z *answer.Zone, q *question, match *services.Match) *dns.Msg {
	switch q.qtype {
	case dns.TypeCNAME:
		m := q.reply()
		m.Answer = []dns.RR{cname(q.name, match.Service().ExternalName(), l.TTL)}
		return m
	case dns.TypeA, dns.TypeAAAA:
		f := follower{ctx: ctx, w: w, k: k, l: l, s: s, z: z, msg: q.msg, qtype: q.qtype}
		if records := f.follow(q.name, match.Service().ExternalName(), nil); len(records) > 0 {
			m := q.reply()
			m.Answer, m.Truncated = records, f.truncated
			return m
		}
	}
	return q.denial(z, l, s, dns.RcodeSuccess)
}

// maxChain is the number of CNAME records that are followed for one query, as many as stock follows.
const maxChain = 10

// follower collects the records that a chain of CNAME records leads to.
type follower struct {
	ctx       context.Context
	w         dns.ResponseWriter
	k         *Kubehosts
	l         *answer.View
	s         *services.State
	z         *answer.Zone
	msg       *dns.Msg // the query; a pointer to the question would take each one to the heap
	qtype     uint16
	truncated bool
}

// follow returns the CNAME record from owner to target and what stands behind it, nothing if that leads nowhere. chain
// holds the targets before.
func (f *follower) follow(owner, target string, chain []string) []dns.RR {
	lower := strings.ToLower(target)
	if answer.InZone(lower, strings.ToLower(owner)) || len(chain) > maxChain {
		return nil
	}
	for _, before := range chain {
		if before == lower {
			return nil
		}
	}
	first := []dns.RR{cname(owner, target, f.l.TTL)}
	if !answer.InZone(lower, f.z.Name) {
		answer, err := f.k.upstream.Lookup(f.ctx, request.Request{W: f.w, Req: f.msg}, target, f.qtype)
		if err != nil || answer == nil {
			return nil
		}
		f.truncated = f.truncated || answer.Truncated
		return append(first, answer.Answer...)
	}

	// The target is asked for as if by a query of its own, so the records are made the same way.
	asked := question{msg: f.msg, name: target, lower: lower, qtype: f.qtype}
	if m := fromHosts(f.l, &asked); m != nil {
		if len(m.Answer) == 0 {
			return nil
		}
		return append(first, m.Answer...)
	}
	base := f.z.Below(lower)
	if base == "ns.dns" {
		if m := asked.nameserver(f.z, f.l, f.s); len(m.Answer) > 0 {
			return append(first, m.Answer...)
		}
		return nil
	}
	n := services.ParseName(base, f.z.Grammar)
	match := f.s.Lookup(&n, &f.l.Options)
	var m *dns.Msg
	switch {
	case match.Outcome == services.NameError || match.Outcome == services.NoData:
		return nil
	case match.Outcome == services.Alias:
		rest := f.follow(target, match.Service().ExternalName(), append(chain, lower))
		if rest == nil {
			return nil
		}
		return append(first, rest...)
	case f.qtype == dns.TypeA:
		m = asked.addresses4(&match, f.l.TTL)
	default:
		m = asked.addresses6(&match, f.l.TTL)
	}
	if m == nil {
		return nil
	}
	return append(first, m.Answer...)
}
