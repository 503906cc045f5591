package kubehosts

import (
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/message"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

// Transfer implements transfer.Transferer. It sends the records of a zone from one State, the same records that queries
// get. If serial is the zone's own, the SOA record alone is the whole answer to an IXFR (RFC 1995, section 2). A zone
// whose objects were not read yet is not transferred.
func (k *Kubehosts) Transfer(name string, serial uint32) (<-chan []dns.RR, error) {
	zone, err := k.block.View().Transfer(name)
	if err != nil {
		return nil, err
	}
	if zone == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	ch := make(chan []dns.RR)
	go func() {
		defer close(ch)
		// A panic ends the transfer without its last SOA record, so secondaries do not take it for complete.
		_ = safe.Recovered("the transfer of "+name, func() { send(ch, zone, serial != 0 && serial == zone.Serial()) })
	}()
	return ch, nil
}

// send sends the records of zone, or its SOA record alone.
func send(ch chan<- []dns.RR, zone *answer.Transfer, soaOnly bool) {
	r := &dns.Msg{Question: make([]dns.Question, 1)}
	var soa []dns.RR
	for a := range zone.Answers {
		r.Question[0] = dns.Question{Name: a.Name, Qtype: a.Type, Qclass: dns.ClassINET}
		rrs := message.Reply(r, a).Answer
		if soa == nil {
			soa = []dns.RR{dns.Copy(rrs[0])}
		}
		if ch <- rrs; soaOnly {
			return
		}
	}
	ch <- soa
}
