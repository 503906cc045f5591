package kubehosts

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/message"
)

// Limits on following aliases out of a zone, for one query, through all server blocks and plugins that lead back here.
// Beyond them, the answer is SERVFAIL.
const (
	maxDepth   = 8               // look-ups within look-ups; file and rewrite count them too
	maxLookups = 16              // in all
	maxTime    = 5 * time.Second // for starting look-ups, and for each one if the plugins heed their context
)

// budget is what remains of these limits for a query. It is in the context, so that all look-ups of a
// query share it.
type budget struct {
	lookups  atomic.Int32
	deadline time.Time
}

type budgetKey struct{}

// follow completes m, the reply to r with the CNAME records that lead to target, with this server's answer for target.
// The rcode, records and authority are those of the end of the chain (RFC 6604; RFC 2308, section 2.1). If the target
// can't be resolved, the reply is SERVFAIL.
func (k *Kubehosts) follow(ctx context.Context, w dns.ResponseWriter, r, m *dns.Msg, target string) {
	end := k.lookup(ctx, w, r, target)
	if end == nil || end.Rcode != dns.RcodeSuccess && end.Rcode != dns.RcodeNameError {
		m.Rcode, m.Answer = dns.RcodeServerFailure, nil
		return
	}
	m.Answer = append(m.Answer, end.Answer...)
	if leadsBack(m.Answer) {
		m.Rcode, m.Answer = dns.RcodeServerFailure, nil
		return
	}
	m.Rcode, m.Truncated = end.Rcode, end.Truncated
	m.Ns = end.Ns
	for _, rr := range end.Extra {
		if rr.Header().Rrtype != dns.TypeOPT { // the server writes its own
			m.Extra = append(m.Extra, rr)
		}
	}
}

// gather completes m, the reply to r with the known addresses of a, with this server's answers for the hostnames of
// load balancers. Their addresses become the name's own where a CNAME record is not allowed: at a zone's apex, or with
// more than one hostname. If none of them can be resolved, the reply is SERVFAIL.
func (k *Kubehosts) gather(ctx context.Context, w dns.ResponseWriter, r, m *dns.Msg, a answer.Answer) *dns.Msg {
	ctx = withBudget(ctx)
	failed := 0
	for host := range a.Hostnames {
		end := k.lookup(ctx, w, r, host)
		if end == nil || end.Rcode != dns.RcodeSuccess && end.Rcode != dns.RcodeNameError {
			failed++
			continue
		}
		m.Truncated = m.Truncated || end.Truncated
		m.Answer = append(m.Answer, owned(end.Answer, a.Owner(), a.Type, a.TTL)...)
	}
	m.Answer = dns.Dedup(m.Answer, nil)
	sameTTL(m.Answer[len(a.Aliases):])
	switch {
	case len(m.Answer) > len(a.Aliases):
	case failed > 0:
		m.Rcode, m.Answer = dns.RcodeServerFailure, nil
	default:
		a.Deny()
		return message.Reply(r, &a)
	}
	return m
}

// sameTTL sets the TTL of all records of an RRset to the lowest (RFC 2181, section 5.2).
func sameTTL(rrs []dns.RR) {
	ttl := uint32(math.MaxUint32)
	for _, rr := range rrs {
		ttl = min(ttl, rr.Header().Ttl)
	}
	for _, rr := range rrs {
		rr.Header().Ttl = ttl
	}
}

// owned returns the records of a type in chain as records of owner. Their TTL is the lowest in the chain.
func owned(chain []dns.RR, owner string, qtype uint16, ttl uint32) (rrs []dns.RR) {
	for _, rr := range chain {
		ttl = min(ttl, rr.Header().Ttl)
	}
	for _, rr := range chain {
		if rr.Header().Rrtype == qtype {
			rr = dns.Copy(rr)
			rr.Header().Name, rr.Header().Ttl = owner, ttl
			rrs = append(rrs, rr)
		}
	}
	return rrs
}

// leadsBack reports whether the CNAME records among rrs form a loop. A plugin that answers for a target in between,
// such as template, may take the end of its own look-up for a success.
func leadsBack(rrs []dns.RR) bool {
	owners := make(map[string]struct{})
	for _, rr := range rrs {
		if c, ok := rr.(*dns.CNAME); ok {
			owners[answer.ToLower(c.Hdr.Name)] = struct{}{}
			if _, ok := owners[answer.ToLower(c.Target)]; ok {
				return true
			}
		}
	}
	return false
}

// withBudget returns ctx with the budget of its query, which starts at the first look-up.
func withBudget(ctx context.Context) context.Context {
	if _, ok := ctx.Value(budgetKey{}).(*budget); ok {
		return ctx
	}
	left := &budget{deadline: time.Now().Add(maxTime)}
	left.lookups.Store(maxLookups)
	return context.WithValue(ctx, budgetKey{}, left)
}

// lookup looks up target on this server, as r asks. It returns nil if there is no reply or the budget is
// spent.
func (k *Kubehosts) lookup(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, target string) *dns.Msg {
	depth, _ := ctx.Value(dnsserver.LoopKey{}).(int)
	ctx = withBudget(ctx)
	left := ctx.Value(budgetKey{}).(*budget)
	if depth >= maxDepth || left.lookups.Add(-1) < 0 || time.Now().After(left.deadline) {
		return nil
	}
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, depth+1)
	ctx, cancel := context.WithDeadline(ctx, left.deadline)
	defer cancel()
	m, err := k.upstream.Lookup(ctx, request.Request{W: w, Req: r}, target, r.Question[0].Qtype)
	if err != nil {
		log.Debugf("Looking up %s, the target of alias %s: %v", target, r.Question[0].Name, err)
		return nil
	}
	return m
}
