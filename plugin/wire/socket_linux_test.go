package wire

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics/vars"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/pkg/reuseport"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/growth"
)

// server is a CoreDNS server with one server block, whose questions over UDP are answered here.
type server struct {
	*dnsserver.Server
	conn  net.PacketConn // CoreDNS's own
	ended chan struct{}
	in    *instance
}

// start starts a server on addr, beside existing listeners.
func start(t testing.TB, addr string, view func() *answer.View) *server {
	t.Helper()
	config := &dnsserver.Config{Zone: ".", ListenHosts: []string{""}, Port: "53", Transport: "dns"}
	config.AddPlugin(func(plugin.Handler) plugin.Handler { return byMessage{theWorld(t)} })
	l := &listener{addr: "dns://" + addr, zones: []zone{{name: ".", chain: &chain{view: view}}}}
	in := &instance{listeners: map[string]*listener{l.addr: l}, began: make(map[string]*serving)}
	config.UDPDecorateWriterFunc = in.decorate
	s, err := dnsserver.NewServer(l.addr, []*dnsserver.Config{config})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.ListenPacket()
	if err != nil {
		t.Fatal(err)
	}
	srv := &server{Server: s, conn: conn, ended: make(chan struct{}), in: in}
	sockets.expect(in)
	go func() { defer close(srv.ended); s.ServePacket(conn) }()
	t.Cleanup(func() { in.end(); s.Stop(); <-srv.ended })
	within5s(t, "the server begins to serve", func() bool { return len(in.all()) == 1 })
	return srv
}

// steered waits until the socket of s gets the packets.
func (s *server) steered(t testing.TB) *socket {
	t.Helper()
	k := s.in.all()[0].socket
	within5s(t, "the socket finds its place", func() bool { return k.steering.place.Load() != nowhere })
	return k
}

func within5s(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within five seconds: %s", what)
		}
	}
}

// freePort returns an address with a port that is free for TCP and UDP.
func freePort(t testing.TB, host string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return net.JoinHostPort(host, strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port))
}

// deaf opens a socket beside the others on addr that nothing reads.
func deaf(t testing.TB, addr string) net.PacketConn {
	t.Helper()
	c, err := reuseport.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends one query from a port of its own.
func exchange(addr string, packet []byte, wait time.Duration) ([]byte, error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(packet); err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 4096)
	n, err := c.Read(b)
	return b[:n], err
}

// TestSteered opens sockets that nothing reads before and after the one that answers, and closes
// them.
func TestSteered(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1", ""} {
		addr := freePort(t, host)
		before := []net.PacketConn{deaf(t, addr), deaf(t, addr), deaf(t, addr)}
		s := start(t, addr, func() *answer.View { return theWorld(t) })
		k := s.steered(t)
		deaf(t, addr)
		deaf(t, addr)
		all := func(what string) {
			t.Helper()
			for i := range 200 {
				packet := queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, optOf(uint16(i+512), false))
				if got, err := exchange(addr, packet, 5*time.Second); err != nil || got[7] != 1 {
					t.Fatalf("%s, %s: question %d: %x, %v", addr, what, i, got, err)
				}
			}
		}
		all("at the start")
		for i, c := range before {
			c.Close()
			if err := k.steering.again(); err != nil {
				t.Fatal(err)
			}
			all(fmt.Sprintf("%d closed", i+1))
		}
	}
}

// TestOpenClose opens and closes the socket beside a server again and again. No question is lost.
func TestOpenClose(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1", ""} {
		addr := freePort(t, host)
		others := start(t, addr, func() *answer.View { return theWorld(t) })
		others.in.end() // CoreDNS's own socket answers now
		files := openFiles(t)
		stop := askAll(t, addr)
		for range 10 {
			l := others.in.listeners["dns://"+addr]
			s := sockets.serve(l, mustServer(t, l.addr))
			if s == nil {
				t.Fatal("the socket does not open")
			}
			within5s(t, "the socket finds its place", func() bool { return s.socket.steering.place.Load() != nowhere })
			before := s.socket.steering.packets.Load()
			within5s(t, "the socket gets packets", func() bool { return s.socket.steering.packets.Load() > before+50 })
			closeSocket(s)
		}
		if asked, lost, wrong := stop(); lost+wrong > 0 || asked == 0 {
			t.Errorf("%s: of %d questions, %d were lost and %d answered wrongly", addr, asked, lost, wrong)
		}
		if now := openFiles(t); now > files {
			t.Errorf("%s: %d files are open, %d were before", addr, now, files)
		}
	}
}

func closeSocket(s *serving) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	sockets.close(ctx, s)
}

// mustServer makes a server that packets are passed on to.
func mustServer(t testing.TB, addr string) *dnsserver.Server {
	t.Helper()
	config := &dnsserver.Config{Zone: ".", ListenHosts: []string{""}, Port: "53", Transport: "dns"}
	config.AddPlugin(func(plugin.Handler) plugin.Handler { return byMessage{theWorld(t)} })
	s, err := dnsserver.NewServer(addr, []*dnsserver.Config{config})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// askAll sends queries that are answered here and queries that are passed on, one after the other and four at a time,
// until stop is called.
func askAll(t testing.TB, addr string) (stop func() (asked, lost, wrong int64)) {
	t.Helper()
	var asked, lost, wrong atomic.Int64
	end := make(chan struct{})
	var wg sync.WaitGroup
	here, on := queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, nil), queryOf(t, "one.shop.svc.cluster.local.", dns.TypeA, optOf(1232, false, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}))
	for i := range 4 {
		wg.Go(func() {
			packet, want := here, []byte{10, 96, 7, 10}
			if i%2 == 1 {
				packet, want = on, []byte{10, 96, 7, 11}
			}
			for {
				select {
				case <-end:
					return
				default:
				}
				asked.Add(1)
				got, err := exchange(addr, packet, 5*time.Second)
				switch {
				case err != nil:
					lost.Add(1)
					t.Logf("lost: %v", err)
				case !bytes.Contains(got, want):
					wrong.Add(1)
				}
			}
		})
	}
	return func() (int64, int64, int64) {
		close(end)
		wg.Wait()
		return asked.Load(), lost.Load(), wrong.Load()
	}
}

// TestExchanged replaces one server by the other again and again. No question is lost, and each old server ends.
func TestExchanged(t *testing.T) {
	addr := freePort(t, "127.0.0.1")
	s := start(t, addr, func() *answer.View { return theWorld(t) })
	s.steered(t)
	stop := askAll(t, addr)
	var last *serving
	for range 20 {
		l := s.in.listeners["dns://"+addr]
		next := sockets.serve(l, mustServer(t, l.addr))
		if last != nil {
			last.await(t.Context())
			closeSocket(last) // a server that no longer serves the socket does not close it
			select {
			case <-last.coredns.ended:
			default:
				t.Error("the server that was replaced did not end")
			}
		}
		last = next
		before := next.socket.steering.packets.Load()
		within5s(t, "the socket gets packets", func() bool { return next.socket.steering.packets.Load() > before+50 })
	}
	if asked, lost, wrong := stop(); lost+wrong > 0 || asked == 0 {
		t.Errorf("of %d questions, %d were lost and %d answered wrongly", asked, lost, wrong)
	}
	closeSocket(last)
}

// TestFullBuffer closes the socket when its buffer is full. All queries in it are answered.
func TestFullBuffer(t *testing.T) {
	addr := freePort(t, "127.0.0.1")
	s := start(t, addr, func() *answer.View { return theWorld(t) })
	k := s.steered(t)
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	packet := queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, nil)
	k.mu.Lock() // the reader stops after one batch
	const n = 200
	for range n {
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan struct{})
	go func() { defer close(closed); s.in.end() }()
	k.mu.Unlock()
	b := make([]byte, 512)
	for i := range n {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(b); err != nil {
			t.Fatalf("of %d questions, %d were answered: %v", n, i, err)
		}
	}
	<-closed
}

// TestWildcard queries several addresses of a socket that is bound to all. Replies come from the address that the query
// went to, whichever server answers.
func TestWildcard(t *testing.T) {
	addr := freePort(t, "")
	s := start(t, addr, func() *answer.View { return theWorld(t) })
	s.steered(t)
	port := netip.MustParseAddrPort("0.0.0.0" + addr).Port()
	here := queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, nil)
	on := queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, optOf(1232, false, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}))
	for _, to := range []string{"127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(to), port)
		for what, packet := range map[string][]byte{"answered": here, "passed on": on} {
			before := testutil.ToFloat64(answersTotal)
			c, err := net.ListenPacket("udp", ":0")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.WriteTo(packet, net.UDPAddrFromAddrPort(to)); err != nil {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			b := make([]byte, 512)
			n, from, err := c.ReadFrom(b)
			c.Close()
			if err != nil {
				t.Fatalf("%v, %s: %v", to, what, err)
			}
			if got := from.(*net.UDPAddr).AddrPort(); got.Addr().Unmap() != to.Addr() || !bytes.Contains(b[:n], []byte{10, 96, 7, 10}) {
				t.Errorf("%v, %s: the reply is from %v: %x", to, what, got, b[:n])
			}
			want := before
			if what == "answered" {
				want++
			}
			within5s(t, fmt.Sprintf("%v, %s: %v answers are counted in total", to, what, want), func() bool { // after the batch was sent
				return testutil.ToFloat64(answersTotal) == want
			})
		}
	}
}

// TestPanics checks that a panic costs no more than passing a packet on.
func TestPanics(t *testing.T) {
	addr := freePort(t, "127.0.0.1")
	var fault atomic.Bool
	s := start(t, addr, func() *answer.View {
		if fault.Load() {
			panic("a fault")
		}
		return theWorld(t)
	})
	s.steered(t)
	before := testutil.ToFloat64(passedOn[panicked])
	for i := range 10 {
		fault.Store(i%2 == 1)
		if got, err := exchange(addr, queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, nil), 5*time.Second); err != nil || !bytes.Contains(got, []byte{10, 96, 7, 10}) {
			t.Fatalf("question %d: %x, %v", i, got, err)
		}
	}
	if got := testutil.ToFloat64(passedOn[panicked]) - before; got != 5 {
		t.Errorf("%v packets were passed on for a panic", got)
	}
}

// TestReasons checks why packets are passed on.
func TestReasons(t *testing.T) {
	k := newReader(theWorld(t), new(chain))
	k.serving.listener.zones = append([]zone{{name: "other.org."}}, k.serving.listener.zones...)
	plain := func() []byte { return queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, nil) }
	change := func(at int, to byte) []byte { p := plain(); p[at] = to; return p }
	tsig := new(dns.Msg).SetQuestion("web.shop.svc.cluster.local.", dns.TypeA)
	tsig.Extra = []dns.RR{&dns.TSIG{Hdr: dns.RR_Header{Name: "key.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256, MAC: "00", MACSize: 1}}
	signed, err := tsig.Pack()
	if err != nil {
		t.Fatal(err)
	}
	version := optOf(1232, false)
	version.SetVersion(1)
	for what, tc := range map[string]struct {
		packet []byte
		want   reason
	}{
		"plain":                  {plain(), answered},
		"AD and CD":              {change(3, 0x30), answered},
		"empty":                  {nil, notPlain},
		"half a header":          {plain()[:6], notPlain},
		"half a question":        {plain()[:20], notPlain},
		"a reply":                {change(2, 0x80), notPlain},
		"NOTIFY":                 {change(2, 0x20), notPlain},
		"truncated":              {change(2, 0x02), notPlain},
		"two questions":          {change(5, 2), notPlain},
		"no question":            {change(5, 0), notPlain},
		"an answer":              {change(7, 1), notPlain},
		"class CH":               {change(len(plain())-1, dns.ClassCHAOS), notPlain},
		"trailing octets":        {append(plain(), 0), notPlain},
		"a compressed name":      {change(12, 0xc0), notPlain},
		"TSIG":                   {signed, notPlain},
		"600 octets":             {queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, optOf(1232, false, &dns.EDNS0_PADDING{Padding: make([]byte, 600)})), notPlain},
		"EDNS version 1":         {queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, version), unusualOPT},
		"client subnet":          {queryOf(t, "web.shop.svc.cluster.local.", dns.TypeA, optOf(1232, false, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, Address: net.IPv4zero.To4()})), unusualOPT},
		"AXFR":                   {queryOf(t, "cluster.local.", dns.TypeAXFR, nil), otherType},
		"DS":                     {queryOf(t, "cluster.local.", dns.TypeDS, nil), otherType},
		"of another block":       {queryOf(t, "a.other.org.", dns.TypeA, nil), otherZone},
		"of the next plugin":     {queryOf(t, "www.nobody.test.", dns.TypeA, nil), nextPlugin},
		"an alias out of a zone": {queryOf(t, "out.shop.svc.cluster.local.", dns.TypeA, nil), nextPlugin},
	} {
		if _, got := k.ask(tc.packet, true); got != tc.want {
			t.Errorf("%s: %q, want %q", what, reasonNames[got], reasonNames[tc.want])
		}
	}
}

// TestAllocations counts what is allocated for an answer.
func TestAllocations(t *testing.T) {
	for _, name := range []string{"web.shop.svc.cluster.local.", "no.shop.svc.cluster.local.", "plain.shop.svc.cluster.local.", "many.example.org.", "10.7.96.10.in-addr.arpa."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeSRV} {
			for what, ch := range map[string]*chain{"": {}, ", shuffled": {shuffle: true}} {
				k := newReader(theWorld(t), ch)
				packet := queryOf(t, name, qtype, nil)
				k.ask(packet, true)
				if n := growth.Allocations(100, 0, func() { k.ask(packet, true) }); n > 0 {
					t.Errorf("%s %s%s: %v allocations", name, dns.Type(qtype), what, n)
				}
			}
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	for _, name := range []string{"web.shop.svc.cluster.local.", "no.shop.svc.cluster.local.", "plain.shop.svc.cluster.local.", "h200.shop.svc.cluster.local."} {
		k := newReader(theWorld(b), new(chain))
		packet := queryOf(b, name, dns.TypeA, nil)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k.ask(packet, true)
			}
		})
	}
}

// A panic while packets are read or CoreDNS's server runs costs at most a batch or a pause: both go on.
func TestPanicsOfGoroutines(t *testing.T) {
	clog.SetOutput(t.Output())
	t.Cleanup(func() { clog.SetOutput(os.Stderr) })
	before := testutil.ToFloat64(vars.Panic)
	k, err := listen("dns://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	receive, calls, again := k.batch.receiver, 0, make(chan struct{})
	k.batch.receiver = func(fd uintptr) bool {
		if calls++; calls == 1 {
			panic("hostile")
		} else if calls == 2 {
			close(again)
		}
		return receive(fd)
	}
	go k.read()
	<-again
	k.conn.Close()
	<-k.done
	if n := testutil.ToFloat64(vars.Panic) - before; n != 1 {
		t.Errorf("%v panics are counted, want 1", n)
	}

	v := newVirtual(k.conn)
	if !v.run(nil) { // there is no server
		t.Error("what reads from it does not go on after a panic")
	}
	v.finish()
	if v.run(nil) {
		t.Error("it goes on after the end of the packets")
	}
	if n := testutil.ToFloat64(vars.Panic) - before; n != 3 {
		t.Errorf("%v panics are counted, want 3", n)
	}
}
