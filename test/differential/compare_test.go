package differential

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// The parts of a message's header (RFC 1035, section 4.1.1).
const (
	headerLen = 12
	flagTC    = 2 // in its third octet
)

// sameWire reports whether two replies are equal except for the serial of a zone's SOA record. It is a fast check for
// almost all replies; those that differ here may still be equivalent.
func sameWire(a, b []byte) bool {
	if len(a) != len(b) || len(a) < headerLen {
		return false
	}
	if bytes.Equal(a, b) {
		return true
	}
	at := serialAt(a)
	return at > 0 && bytes.Equal(a[:at], b[:at]) && bytes.Equal(a[at+4:], b[at+4:])
}

// serialAt returns the offset of the serial in a reply whose first record is a SOA record in the authority section,
// and 0 for others.
func serialAt(m []byte) int {
	counts := [4]uint16{}
	for i := range counts {
		counts[i] = binary.BigEndian.Uint16(m[4+2*i:])
	}
	if counts[0] != 1 || counts[1] != 0 || counts[2] != 1 {
		return 0
	}
	at := skipName(m, headerLen)
	if at == 0 {
		return 0
	}
	at = skipName(m, at+4)
	if at == 0 || at+10 > len(m) || binary.BigEndian.Uint16(m[at:]) != dns.TypeSOA {
		return 0
	}
	at += 10 + int(binary.BigEndian.Uint16(m[at+8:])) - 20
	if at+20 > len(m) {
		return 0
	}
	return at
}

// skipName returns the end of the name at offset at, 0 if it has none.
func skipName(m []byte, at int) int {
	for at < len(m) {
		switch n := int(m[at]); {
		case n == 0:
			return at + 1
		case n >= 0xc0:
			return at + 2
		default:
			at += 1 + n
		}
	}
	return 0
}

// reply is a message, or an empty one marked as missing.
type reply struct {
	dns.Msg
	none bool
}

func parse(wire []byte) (r reply, err error) {
	if wire == nil {
		r.none = true
		return r, nil
	}
	if err := r.Unpack(wire); err != nil {
		return r, fmt.Errorf("%w in % x", err, wire)
	}
	return r, nil
}

// lines is a text form of replies: the header, and the records regardless of order.
type lines struct {
	ttl     bool // with TTLs
	records bool // with records at all
}

// text formats a reply as lines that can be compared, without the serial of a SOA record.
func (l lines) text(r reply) string {
	if r.none {
		return "no reply"
	}
	var b strings.Builder
	h := r.MsgHdr
	fmt.Fprintf(&b, "%s %s", dns.OpcodeToString[h.Opcode], dns.RcodeToString[h.Rcode])
	for _, f := range []struct {
		on   bool
		name string
	}{{h.Response, "qr"}, {h.Authoritative, "aa"}, {h.Truncated, "tc"}, {h.RecursionDesired, "rd"},
		{h.RecursionAvailable, "ra"}, {h.Zero, "z"}, {h.AuthenticatedData, "ad"}, {h.CheckingDisabled, "cd"}} {
		if f.on {
			b.WriteString(" " + f.name)
		}
	}
	for _, q := range r.Question {
		fmt.Fprintf(&b, "\n? %s %s %s", q.Name, dns.Class(q.Qclass), dns.Type(q.Qtype))
	}
	if !l.records {
		return b.String()
	}
	for _, s := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", r.Answer}, {"authority", r.Ns}, {"additional", r.Extra}} {
		var all []string
		for _, rr := range s.rrs {
			all = append(all, "\n"+s.name+": "+l.record(rr))
		}
		slices.Sort(all)
		b.WriteString(strings.Join(all, ""))
	}
	return b.String()
}

// record formats a record as one line.
func (l lines) record(rr dns.RR) string {
	switch v := rr.(type) {
	case *dns.OPT: // its String has several lines, and its header fields have other meanings
		return fmt.Sprintf("OPT size %d do %v version %d rcode %d options %v", v.UDPSize(), v.Do(), v.Version(), v.ExtendedRcode(), v.Option)
	case *dns.SOA:
		unserial := *v
		unserial.Serial = 0
		rr = &unserial
	case *dns.RRSIG: // made for each query, and with a new random number
		undated := *v
		undated.Inception, undated.Expiration, undated.Signature = 0, 0, ""
		rr = &undated
	}
	if !l.ttl {
		rr = dns.Copy(rr)
		rr.Header().Ttl = 0
	}
	return strings.Join(strings.Fields(rr.String()), " ")
}

// sameReply reports whether two replies are the same. For two truncated ones only the headers count: the remaining
// records depend on their order, which is arbitrary.
func sameReply(a, b reply, l lines) bool {
	if a.none || b.none {
		return a.none && b.none
	}
	l.records = !a.Truncated || !b.Truncated
	return l.text(a) == l.text(b)
}
