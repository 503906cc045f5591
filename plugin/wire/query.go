package wire

import (
	"encoding/binary"
	"unsafe"

	"github.com/coredns/coredns/plugin/pkg/edns"
	"github.com/miekg/dns"
)

// Sizes and bits of a message (RFC 1035, section 4.1; RFC 6891, section 6.1).
const (
	headerSize   = 12
	optSize      = 11 // an OPT record without options
	maxName      = 255
	maxPresented = 4 * maxName // octets of a name in presentation form; each octet may become \DDD

	bitQR = 1 << 15
	bitAA = 1 << 10
	bitTC = 1 << 9
	bitRD = 1 << 8
	bitAD = 1 << 5
	bitCD = 1 << 4
	bitDO = 1 << 15 // in the TTL field of an OPT record
)

// Query is a packet with a plain question: opcode QUERY, one question of class IN, and nothing else but an OPT record
// of version 0. Its memory is reused for the next one.
type Query struct {
	packet   []byte
	question []byte // of packet: name, type and class
	flags    uint16
	v4       bool // it came over IPv4

	Name  string // as in the query, fully qualified, in the presentation form of miekg/dns
	Lower string // Name in lower case
	Type  uint16

	OPT  bool   // there is an OPT record
	DO   bool   // the OPT record has the bit that requests DNSSEC records
	size uint16 // UDP payload size of the OPT record

	presented, lowered [maxPresented]byte // the memory of Name and Lower
}

// parse reads a packet. It returns why the packet is not a plain question, or that it is one.
func (q *Query) parse(packet []byte, v4 bool) reason {
	if len(packet) < headerSize {
		return notPlain
	}
	flags := binary.BigEndian.Uint16(packet[2:])
	if flags&^(bitRD|bitAD|bitCD) != 0 { // a reply, another opcode, or a bit that means nothing in a query
		return notPlain
	}
	counts := binary.BigEndian.Uint64(packet[4:])
	if counts != 1<<48 && counts != 1<<48|1 { // one question, and at most one additional record
		return notPlain
	}
	end := q.parseName(packet)
	if end < 0 || end+4 > len(packet) {
		return notPlain
	}
	q.Type = binary.BigEndian.Uint16(packet[end:])
	if binary.BigEndian.Uint16(packet[end+2:]) != dns.ClassINET {
		return notPlain
	}
	end += 4
	q.packet, q.question, q.flags, q.v4 = packet, packet[headerSize:end], flags, v4
	q.OPT, q.DO, q.size = false, false, 0
	if counts&1 == 0 {
		if end != len(packet) {
			return notPlain
		}
		return answered
	}
	return q.parseOPT(packet[end:])
}

// parseName reads the name of the question. It returns where the name ends, -1 if it is invalid or compressed.
func (q *Query) parseName(packet []byte) int {
	at, n := headerSize, 0
	for {
		if at >= len(packet) {
			return -1
		}
		length := int(packet[at])
		at++
		if length == 0 {
			break
		}
		if length > 63 || at+length > len(packet) || at+length-headerSize >= maxName {
			return -1
		}
		for _, c := range packet[at : at+length] {
			n = q.present(c, n)
		}
		q.presented[n], q.lowered[n] = '.', '.'
		n++
		at += length
	}
	if n == 0 {
		q.presented[0], q.lowered[0] = '.', '.'
		n = 1
	}
	q.Name, q.Lower = unsafe.String(&q.presented[0], n), unsafe.String(&q.lowered[0], n)
	return at
}

// present appends an octet of a label to the presentation form of the name, which has n octets, and returns its new
// length.
func (q *Query) present(c byte, n int) int {
	lower := c
	if 'A' <= c && c <= 'Z' {
		lower += 'a' - 'A'
	}
	switch presentedAs[c] {
	case asEscaped:
		q.presented[n], q.lowered[n] = '\\', '\\'
		n++
	case asNumber:
		ddd := [4]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10}
		copy(q.presented[n:], ddd[:])
		copy(q.lowered[n:], ddd[:])
		return n + len(ddd)
	}
	q.presented[n], q.lowered[n] = c, lower
	return n + 1
}

// The forms of an octet of a label (RFC 1035, section 5.1, and miekg/dns).
const (
	asItIs = iota
	asEscaped
	asNumber
)

var presentedAs = func() (as [256]uint8) {
	for c := range as {
		if c < ' ' || c > '~' {
			as[c] = asNumber
		}
	}
	for _, c := range `. '@;()"\` {
		as[c] = asEscaped
	}
	return as
}()

// parseOPT reads what follows the question, which must be an OPT record. It skips options that no reply depends on and
// that miekg/dns accepts with any data.
func (q *Query) parseOPT(rr []byte) reason {
	if len(rr) < optSize || rr[0] != 0 || binary.BigEndian.Uint16(rr[1:]) != dns.TypeOPT {
		return notPlain
	}
	q.size = binary.BigEndian.Uint16(rr[3:])
	ttl := binary.BigEndian.Uint32(rr[5:])
	options := rr[optSize:]
	if int(binary.BigEndian.Uint16(rr[9:])) != len(options) {
		return notPlain
	}
	if ttl&^bitDO != 0 { // another version, or unknown flags
		return unusualOPT
	}
	for len(options) > 0 {
		if len(options) < 4 {
			return notPlain
		}
		code, length := binary.BigEndian.Uint16(options), int(binary.BigEndian.Uint16(options[2:]))
		if len(options) < 4+length {
			return notPlain
		}
		switch code {
		case dns.EDNS0COOKIE, dns.EDNS0PADDING, dns.EDNS0NSID:
			if edns.SupportedOption(code) { // at a plugin's request, CoreDNS copies it into replies
				return unusualOPT
			}
		default:
			return unusualOPT
		}
		options = options[4+length:]
	}
	q.OPT, q.DO = true, ttl&bitDO != 0
	return answered
}

// limit returns the maximum length of the reply.
func (q *Query) limit() int { return max(int(q.size), dns.MinMsgSize) }
