package wire

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
)

// From these lengths on, CoreDNS compresses a reply that would fit uncompressed, to avoid
// fragments.
const (
	fragment4 = 1480
	fragment6 = 1220
)

// Sections of a message after the question.
const (
	answers = iota
	authority
	additional
)

// reply writes an Answer as a message, octet by octet the same as CoreDNS: the result of request.ScrubWriter, packed by
// miekg/dns. Its memory is reused for the next one.
type reply struct {
	q     *Query
	a     *answer.Answer
	chain *chain

	b      []byte // room for the message
	n      int    // octets so far; more than len(b) if they don't fit
	counts [3]uint16
	ttl    uint32 // the lowest of all records

	section  int
	limit    int  // the maximum length of the message
	compress bool // names are written as pointers where possible
	mark     int  // where the record begins
	rdata    int  // where its data begins
	full     bool // the remaining records are left out
	cut      bool // records were left out
	failed   bool // a part can't be written as CoreDNS writes it

	names names
	name  [2 * maxPresented]byte // room for building a name
	texts []byte                 // several names
	addrs []netip.Addr           // of the answer section, if it is to be shuffled
	extra []extra                // of the additional section
}

// extra is a record of the additional section: an address of a target.
type extra struct {
	name answer.Name
	addr netip.Addr
	ttl  uint32
}

// written are the lengths of a reply, for counting.
type written struct {
	n      int // octets of the message
	length int // as *prometheus* counts it: neither compressed nor cut, and without the OPT record that the server adds
}

// write writes a as the reply to q into b. ok is false if CoreDNS has to write it.
func (r *reply) write(b []byte, q *Query, a *answer.Answer, c *chain) (w written, ok bool) {
	r.q, r.a, r.chain, r.b = q, a, c, b
	r.compress, r.failed = false, false
	w, ok = r.message()
	clear(r.extra) // don't retain the objects of a cluster
	r.addrs, r.extra = r.addrs[:0], r.extra[:0]
	return w, ok
}

func (r *reply) message() (w written, ok bool) {
	q, a := r.q, r.a
	var code uint16
	var text string
	explained, opt := false, 0
	if q.OPT {
		opt = optSize
		if code, text, explained = a.Extended(); explained {
			opt += 4 + 2 + len(text)
		}
	}

	r.records(math.MaxInt)
	w.length = r.n
	if explained {
		w.length += opt
	}
	switch total := r.n + opt; {
	case total > q.limit():
		r.compress = true
		r.records(q.limit() - opt)
	case total > fragment4 && q.v4, total > fragment6 && !q.v4:
		r.compress = true
		r.records(math.MaxInt)
	}
	if r.chain.shuffle && explained && r.counts[additional] > 0 {
		return w, false // *loadbalance* puts the OPT record before the addresses
	}
	if r.failed || r.n+opt > len(r.b) {
		return w, false
	}
	if r.chain.cache != nil {
		r.cached()
	}
	if q.OPT {
		r.opt(explained, code, text)
	}
	r.header()
	w.n = r.n
	return w, true
}

// records writes the question and the records, up to the limit.
func (r *reply) records(limit int) {
	r.n = headerSize + copy(r.b[headerSize:], r.q.question)
	r.counts, r.ttl, r.limit, r.full, r.cut = [3]uint16{}, math.MaxUint32, limit, false, false
	if r.compress {
		if strings.IndexByte(r.q.Name, '\\') >= 0 {
			r.failed = true // miekg/dns counts octets in presentation form
			return
		}
		r.names.begin()
		r.names.add(r.q.Name, headerSize)
	}

	r.section = answers
	owner := r.q.Name
	for _, target := range r.a.Aliases {
		if r.start(owner, dns.TypeCNAME, r.a.AliasTTL) {
			r.put(target, r.compress)
			r.end()
		}
		owner = target
	}
	if r.a.Denied {
		r.section = authority
		r.soa()
		return
	}
	switch r.a.Kind {
	case answer.Addresses:
		r.addresses()
	case answer.Targets:
		r.targets()
	case answer.Pointers:
		for p := range r.a.Pointers {
			if r.start(r.a.Owner(), dns.TypePTR, p.TTL) {
				r.putBytes(p.AppendTo(r.name[:0]), r.compress)
				r.end()
			}
		}
	case answer.SOA:
		r.soa()
	case answer.Nameservers:
		r.nameservers()
	case answer.Version:
		if r.start(r.a.Owner(), dns.TypeTXT, r.a.TTL) {
			r.byte(uint8(len(answer.VersionText)))
			r.string(answer.VersionText)
			r.end()
		}
	case answer.Texts:
		r.hostTexts()
	case answer.Mails:
		r.mails()
	case answer.Servers:
		r.servers()
	}
}

// hostTexts writes TXT records.
func (r *reply) hostTexts() {
	for text := range r.a.Texts {
		if strings.IndexByte(text, '\\') >= 0 {
			r.failed = true // miekg/dns counts octets in presentation form
			return
		}
		if !r.start(r.a.Owner(), dns.TypeTXT, r.a.TTL) {
			continue
		}
		for more := true; more; more = text != "" {
			n := min(len(text), answer.MaxString)
			r.byte(uint8(n))
			r.string(text[:n])
			text = text[n:]
		}
		r.end()
	}
}

// mails writes MX records.
func (r *reply) mails() {
	if r.chain.shuffle { // MX records are shuffled too; CoreDNS does it, since few queries ask for them
		r.failed = true
		return
	}
	for mail := range r.a.Mails {
		if r.start(r.a.Owner(), dns.TypeMX, r.a.TTL) {
			r.uint16(mail.Preference)
			r.put(mail.Host, r.compress)
			r.end()
		}
	}
}

// servers writes the SRV records of an external zone, and the addresses of the target that belongs to
// this zone.
func (r *reply) servers() {
	if r.chain.shuffle { // the addresses are shuffled; CoreDNS does it, since few queries ask for SRV records
		r.failed = true
		return
	}
	for s := range r.a.Servers {
		if r.start(r.a.Owner(), dns.TypeSRV, r.a.TTL) {
			r.uint16(s.Priority)
			r.uint16(s.Weight)
			r.uint16(s.Port)
			r.put(s.Target, false) // RFC 2782: no compression
			r.end()
		}
	}
	r.section = additional
	for target, ip := range r.a.ServerAddrs {
		r.address(target, ip, r.a.TTL)
	}
}

// addresses writes A or AAAA records.
func (r *reply) addresses() {
	if ip, ok := r.a.Only(); ok {
		r.address(r.a.Owner(), ip, r.a.TTL)
		return
	}
	if !r.chain.shuffle {
		for ip := range r.a.Addrs {
			r.address(r.a.Owner(), ip, r.a.TTL)
		}
		return
	}
	if len(r.addrs) == 0 { // else in the usual order
		for ip := range r.a.Addrs {
			r.addrs = append(r.addrs, ip)
		}
		rand.Shuffle(len(r.addrs), func(i, j int) { r.addrs[i], r.addrs[j] = r.addrs[j], r.addrs[i] })
	}
	for _, ip := range r.addrs {
		r.address(r.a.Owner(), ip, r.a.TTL)
	}
}

func (r *reply) address(owner string, ip netip.Addr, ttl uint32) {
	if ip.Is4() {
		if r.start(owner, dns.TypeA, ttl) {
			a := ip.As4()
			r.bytes(a[:])
			r.end()
		}
		return
	}
	if r.start(owner, dns.TypeAAAA, ttl) {
		a := ip.As16()
		r.bytes(a[:])
		r.end()
	}
}

// targets writes SRV records, and the addresses of their targets.
func (r *reply) targets() {
	if len(r.extra) == 0 { // else in the usual order
		r.collect()
	}
	weight, n := r.a.Weight(), 0
	r.texts = r.texts[:0]
	for t := range r.a.Targets {
		t.Text = r.text(&t.Name)
		for port := range t.Ports {
			if n++; n > answer.MaxRecords || !r.start(r.a.Owner(), dns.TypeSRV, r.a.TTL) {
				continue
			}
			r.uint16(0) // priority
			r.uint16(weight)
			r.uint16(port)
			r.put(t.Text, false) // RFC 2782: no compression
			r.end()
		}
	}
	r.section = additional
	for i := range r.extra {
		x := &r.extra[i]
		r.address(unsafeString(x.name.AppendTo(r.name[:0])), x.addr, x.ttl)
	}
}

// collect gathers the addresses of targets.
func (r *reply) collect() {
	r.texts = r.texts[:0]
	for t := range r.a.Targets {
		t.Text = r.text(&t.Name)
		for ip, ttl := range t.Addrs {
			if len(r.extra) < answer.MaxRecords {
				r.extra = append(r.extra, extra{t.Name, ip, ttl})
			}
		}
	}
	if r.chain.shuffle {
		rand.Shuffle(len(r.extra), func(i, j int) { r.extra[i], r.extra[j] = r.extra[j], r.extra[i] })
	}
}

// text returns a name as text, which is valid until texts is emptied.
func (r *reply) text(name *answer.Name) string {
	start := len(r.texts)
	r.texts = name.AppendTo(r.texts)
	return unsafeString(r.texts[start:])
}

// nameservers writes NS records, and the addresses of the servers.
func (r *reply) nameservers() {
	if r.chain.shuffle { // the addresses are shuffled; CoreDNS does it, since few queries ask for NS records
		r.failed = true
		return
	}
	var names [64]string
	n := 0
	for ns := range r.a.Nameservers {
		if known(names[:n], ns.Name) {
			continue
		}
		if n == len(names) {
			r.failed = true
			return
		}
		names[n] = ns.Name
		n++
		if r.start(r.a.Owner(), dns.TypeNS, r.a.TTL) {
			r.put(ns.Name, r.compress)
			r.end()
		}
	}
	r.section = additional
	for ns := range r.a.Nameservers {
		if ns.Addr.IsValid() {
			r.address(ns.Name, ns.Addr, ns.TTL)
		}
	}
}

func known(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// soa writes the zone's SOA record.
func (r *reply) soa() {
	soa := r.a.Authority()
	if !r.start(soa.Owner, dns.TypeSOA, soa.TTL) {
		return
	}
	r.put(soa.NS, r.compress)
	r.put(soa.Mbox, r.compress)
	for _, v := range [...]uint32{soa.Serial, soa.Refresh, soa.Retry, soa.Expire, soa.Minimum} {
		r.uint32(v)
	}
	r.end()
}

// start begins a record, and reports whether there is room.
func (r *reply) start(owner string, rrtype uint16, ttl uint32) bool {
	r.ttl = min(r.ttl, ttl)
	if r.full {
		r.cut = true
		return false
	}
	r.mark = r.n
	r.put(owner, r.compress)
	if b := r.room(10); b != nil {
		binary.BigEndian.PutUint16(b, rrtype)
		binary.BigEndian.PutUint16(b[2:], dns.ClassINET)
		binary.BigEndian.PutUint32(b[4:], ttl)
	}
	r.rdata = r.n
	return true
}

// end ends a record, and removes it if it goes beyond the limit.
func (r *reply) end() {
	if r.n > r.limit {
		r.n, r.full, r.cut = r.mark, true, true
		return
	}
	r.full = r.n == r.limit
	r.counts[r.section]++
	if r.n <= len(r.b) {
		binary.BigEndian.PutUint16(r.b[r.rdata-2:], uint16(r.n-r.rdata))
	}
}

// opt writes the OPT record, which mirrors the query's, with an Extended DNS Error (RFC 8914) if there is one.
func (r *reply) opt(explained bool, code uint16, text string) {
	b := r.room(optSize)
	ttl, length := uint32(0), 0
	if r.q.DO {
		ttl = bitDO
	}
	if explained {
		length = 4 + 2 + len(text)
	}
	b[0] = 0
	binary.BigEndian.PutUint16(b[1:], dns.TypeOPT)
	binary.BigEndian.PutUint16(b[3:], r.q.size)
	binary.BigEndian.PutUint32(b[5:], ttl)
	binary.BigEndian.PutUint16(b[9:], uint16(length))
	if explained {
		r.uint16(dns.EDNS0EDE)
		r.uint16(uint16(2 + len(text)))
		r.uint16(code)
		r.string(text)
	}
	r.counts[additional]++
}

func (r *reply) header() {
	flags := bitQR | bitAA | r.q.flags&(bitRD|bitCD) | uint16(r.a.Rcode)
	if r.cut {
		flags |= bitTC
	}
	copy(r.b, r.q.packet[:2])
	binary.BigEndian.PutUint16(r.b[2:], flags)
	binary.BigEndian.PutUint16(r.b[4:], 1)
	for i, n := range r.counts {
		binary.BigEndian.PutUint16(r.b[6+2*i:], n)
	}
}

// cached sets the TTL that *cache* would set on all records.
func (r *reply) cached() {
	ttl, ok := r.chain.cache.ttl(r.a, r.ttl)
	if !ok {
		return
	}
	at := headerSize + len(r.q.question)
	for range int(r.counts[answers]) + int(r.counts[authority]) + int(r.counts[additional]) {
		for r.b[at] != 0 && r.b[at] < 0xc0 {
			at += 1 + int(r.b[at])
		}
		if r.b[at] != 0 {
			at++
		}
		at++
		binary.BigEndian.PutUint32(r.b[at+4:], ttl)
		at += 10 + int(binary.BigEndian.Uint16(r.b[at+8:]))
	}
}

// room returns the next n octets, nil if they exceed b.
func (r *reply) room(n int) []byte {
	at := r.n
	r.n += n
	if r.n > len(r.b) {
		return nil
	}
	return r.b[at:r.n:r.n]
}

func (r *reply) byte(v uint8)    { copy(r.room(1), []byte{v}) }
func (r *reply) bytes(v []byte)  { copy(r.room(len(v)), v) }
func (r *reply) string(v string) { copy(r.room(len(v)), v) }

func (r *reply) uint16(v uint16) {
	if b := r.room(2); b != nil {
		binary.BigEndian.PutUint16(b, v)
	}
}

func (r *reply) uint32(v uint32) {
	if b := r.room(4); b != nil {
		binary.BigEndian.PutUint32(b, v)
	}
}
