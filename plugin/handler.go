package kubehosts

import (
	"context"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/message"
)

// Name implements plugin.Handler.
func (k *Kubehosts) Name() string { return pluginName }

// ServeDNS implements plugin.Handler. Hosts entries come first, then Services and other objects. A name that none of
// them has goes to the next plugin, and so does a name that the zones deny if fallthrough covers it. Opcodes other than
// QUERY go to the next plugin.
func (k *Kubehosts) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if r.Opcode != dns.OpcodeQuery {
		return plugin.NextOrFailure(k.Name(), k.Next, ctx, w, r)
	}
	q := r.Question[0]
	a := k.block.View().Answer(answer.NewQuestion(q.Name, q.Qtype, q.Qclass))
	switch a.Outcome {
	case answer.NotOurs:
		return plugin.NextOrFailure(k.Name(), k.Next, ctx, w, r)
	case answer.Refused:
		return dns.RcodeRefused, nil
	}
	m := message.Reply(r, &a)
	switch {
	case a.Behind:
		m = k.gather(ctx, w, r, m, a)
	case a.Outcome == answer.Follow:
		k.follow(ctx, w, r, m, a.Target())
	}
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil // the client has its answer
}
