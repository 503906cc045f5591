package faults

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// packet returns the bytes of a query. change may modify them in ways that the library would not.
func packet(name string, qtype, class uint16, change func([]byte) []byte) []byte {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.Question[0].Qclass = class
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	if change != nil {
		b = change(b)
	}
	return b
}

func opcode(n int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[2] = b[2]&^0x78 | byte(n)<<3
		return b
	}
}

func count(at, n int) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[at:], uint16(n))
		return b
	}
}

// named replaces the name by raw bytes.
func named(raw ...byte) func([]byte) []byte {
	return func(b []byte) []byte {
		return append(append(b[:12:12], raw...), 0, 1, 0, 1)
	}
}

const silence = -1

// Malformed or absurd queries get the right rcode and affect nothing else.
func TestHostile(t *testing.T) {
	tr := changes(t)
	text := strings.Replace(corefileOf(cluster.Kubeconfig(t, api(t).URL, account(t).Token), "pods insecure"), "errors", "errors\nwhoami", 1)
	c := cluster.Run(t, coredns(t), text)

	label := strings.Repeat("x", 63)
	longest := strings.Repeat(label+".", 3) + strings.Repeat("y", 254-3*64-len(".cluster.local.")) + ".cluster.local."
	if n, ok := dns.IsDomainName(longest); !ok || n == 0 || len(longest) != 254 {
		t.Fatalf("%d octets: %v", len(longest)+1, ok)
	}
	type probe struct {
		name  string
		bytes []byte
		rcode int
	}
	probes := []probe{
		{"a good question", packet(still, dns.TypeA, dns.ClassINET, nil), dns.RcodeSuccess},
		{"a name of 255 octets", packet(longest, dns.TypeA, dns.ClassINET, nil), dns.RcodeNameError},
		{"a label of 63 octets", packet(label+".shop.svc.cluster.local.", dns.TypeA, dns.ClassINET, nil), dns.RcodeNameError},
		{"type ANY", packet(still, dns.TypeANY, dns.ClassINET, nil), dns.RcodeSuccess},
		{"a type that is none", packet(still, 65432, dns.ClassINET, nil), dns.RcodeSuccess},
		{"no bytes", nil, silence},
		{"half a header", packet(still, dns.TypeA, dns.ClassINET, func(b []byte) []byte { return b[:6] }), silence},
		{"a response", packet(still, dns.TypeA, dns.ClassINET, func(b []byte) []byte { b[2] |= 0x80; return b }), silence},
		{"half a question", packet(still, dns.TypeA, dns.ClassINET, func(b []byte) []byte { return b[:20] }), dns.RcodeFormatError},
		{"no question", packet(still, dns.TypeA, dns.ClassINET, count(4, 0)), dns.RcodeFormatError},
		{"two questions", packet(still, dns.TypeA, dns.ClassINET, count(4, 2)), dns.RcodeFormatError},
		{"65535 additional records", packet(still, dns.TypeA, dns.ClassINET, count(10, 65535)), dns.RcodeFormatError},
		{"a compression loop", packet(still, dns.TypeA, dns.ClassINET, named(0xc0, 12)), dns.RcodeFormatError},
		{"a pointer out of the message", packet(still, dns.TypeA, dns.ClassINET, named(0xff, 0xff)), dns.RcodeFormatError},
		{"a label of an unknown kind", packet(still, dns.TypeA, dns.ClassINET, named(0x41, 'a', 0)), dns.RcodeFormatError},
		{"a name that is too long", packet(still, dns.TypeA, dns.ClassINET, named(append([]byte(strings.Repeat("\x3f"+label, 4)), 0)...)), dns.RcodeFormatError},
	}
	for n := range 16 {
		want := dns.RcodeNotImplemented
		if n == dns.OpcodeQuery || n == dns.OpcodeNotify {
			want = dns.RcodeSuccess
		}
		probes = append(probes, probe{fmt.Sprintf("opcode %d", n), packet(still, dns.TypeA, dns.ClassINET, opcode(n)), want})
	}
	for _, class := range []uint16{0, 2, dns.ClassCHAOS, dns.ClassHESIOD, dns.ClassNONE, dns.ClassANY, 65535} {
		probes = append(probes, probe{fmt.Sprintf("class %d", class), packet(still, dns.TypeA, class, nil), dns.RcodeRefused})
	}
	conn, err := net.Dial("udp", c.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, p := range probes {
		if got := exchange(t, conn, p.bytes); got != p.rcode {
			t.Errorf("%s: rcode %d, want %d", p.name, got, p.rcode)
		}
	}

	// All of these at full speed, over UDP. The asker uses TCP: a full UDP socket buffer drops anyone's packets.
	a := askOver(t, "tcp", c.Addr, tr)
	a.heal(t)
	flood := func(lasts time.Duration) int {
		var wg sync.WaitGroup
		sent := make([]int, 2)
		end := time.Now().Add(lasts)
		for i := range sent {
			wg.Go(func() { sent[i] = send(c.Addr, end, uint64(i)) })
		}
		wg.Wait()
		return sent[0] + sent[1]
	}
	flood(floods / 2)
	before, lines := holds(t, c), strings.Count(c.Log(), "\n")
	served := c.Metric(t, "coredns_dns_requests_total")
	a.counted(t, fmt.Sprintf("hostile questions for %v", floods), func() time.Duration {
		n := flood(floods)
		t.Logf("%d hostile packets sent, %.0f queries served", n, c.Metric(t, "coredns_dns_requests_total")-served)
		return a.heal(t)
	})
	before.check(t, c)
	if more := strings.Count(c.Log(), "\n") - lines; more > 20 {
		t.Errorf("%d lines more in the log", more)
	}
	for _, p := range probes[:5] {
		if got := exchange(t, conn, p.bytes); got != p.rcode {
			t.Errorf("%s, after the flood: rcode %d, want %d", p.name, got, p.rcode)
		}
	}
}

// exchange sends a packet and returns the rcode of the reply. It detects packets without a reply by sending a good
// query after them.
func exchange(t *testing.T, conn net.Conn, b []byte) int {
	t.Helper()
	id := uint16(rand.Uint32())
	if len(b) >= 2 {
		binary.BigEndian.PutUint16(b, id)
	}
	probe := packet(entry, dns.TypeA, dns.ClassINET, nil)
	binary.BigEndian.PutUint16(probe, id+1)
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write(b)
	conn.Write(probe)
	rcode, probed := silence, false
	buf := make([]byte, 65535)
	for {
		n, err := conn.Read(buf)
		if err != nil && !probed {
			t.Fatalf("%x: %v", b, err)
		}
		if err != nil {
			return rcode
		}
		switch got := binary.BigEndian.Uint16(buf); {
		case got == id && n >= 12:
			return int(buf[3] & 0xf)
		case got == id+1:
			probed = true
			conn.SetDeadline(time.Now().Add(200 * time.Millisecond)) // replies may overtake each other
		}
	}
}

// send sends hostile packets until end, and returns their number.
func send(addr string, end time.Time, seed uint64) (n int) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return 0
	}
	defer conn.Close()
	go func() {
		for buf := make([]byte, 65535); ; {
			if _, err := conn.Read(buf); err != nil {
				return
			}
		}
	}()
	r := rand.New(rand.NewPCG(seed, 1))
	for ; n&1023 != 0 || time.Now().Before(end); n++ {
		conn.Write(hostilePacket(r))
	}
	return n
}

// hostilePacket is a query for a name that does not exist, or bytes that resemble a query.
func hostilePacket(r *rand.Rand) []byte {
	b := make([]byte, 12, 300)
	binary.BigEndian.PutUint16(b, uint16(r.Uint32()))
	b[2], b[5] = 1, 1 // recursion desired, one question
	for range 1 + r.IntN(3) {
		n := 1 + r.IntN(63)
		b = append(b, byte(n))
		for range n {
			b = append(b, byte('a'+r.IntN(26)))
		}
	}
	for _, part := range [...]string{"shop", "svc", "cluster", "local"} {
		b = append(append(b, byte(len(part))), part...)
	}
	b = append(b, 0, 0, byte(r.IntN(40)), 0, 1)
	if r.IntN(2) == 0 {
		return b
	}
	for range 1 + r.IntN(4) {
		b[2+r.IntN(len(b)-2)] = byte(r.Uint32())
	}
	return b[:len(b)-r.IntN(3)*r.IntN(8)]
}
