package kubehosts

import (
	"time"

	"github.com/miekg/dns"
)

// explain adds an Extended DNS Error (RFC 8914) to the reply m, if the query r can take one: if it has an OPT record.
// The server fills in the rest of the reply's OPT record.
func explain(m, r *dns.Msg, code uint16, text string) *dns.Msg {
	if r.IsEdns0() == nil {
		return m
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: code, ExtraText: text}}
	m.Extra = append(m.Extra, opt)
	return m
}

// stale explains that m is out of a snapshot, written at that Unix time.
func stale(m, r *dns.Msg, written uint32) *dns.Msg {
	return explain(m, r, dns.ExtendedErrorCodeStaleAnswer, "snapshot of "+time.Unix(int64(written), 0).UTC().Format(time.RFC3339))
}
