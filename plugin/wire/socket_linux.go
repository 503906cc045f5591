package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/coredns/coredns/plugin/pkg/reuseport"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/kubehosts/kubehosts/plugin/answer"
)

// sockets are the sockets of this process. They outlive a reload of the Corefile, which exchanges what they
// serve.
var sockets = registry{open: make(map[string]*socket)}

type registry struct {
	mu   sync.Mutex
	open map[string]*socket // by address, in the form of dnsserver.Server
	next *instance          // the instance that started last
}

// expect records that in started, and may serve.
func (r *registry) expect(in *instance) {
	r.mu.Lock()
	r.next = in
	r.mu.Unlock()
}

func (r *registry) expected() *instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// addresses returns the addresses of the open sockets, sorted.
func addresses() []string {
	sockets.mu.Lock()
	defer sockets.mu.Unlock()
	return slices.Sorted(maps.Keys(sockets.open))
}

// serving is what a socket serves. It never changes; another instance has another one.
type serving struct {
	socket   *socket
	listener *listener
	coredns  *virtual
	replaced chan struct{} // closed when the socket serves something else
}

// serve opens the socket of an address, or takes the open one, and makes it answer for l and hand other packets to s.
// It returns nil if that fails. CoreDNS then serves the address as if there were no such socket.
func (r *registry) serve(l *listener, s *dnsserver.Server) *serving {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.open[l.addr]
	if k == nil {
		var err error
		if k, err = listen(l.addr); err != nil {
			log.Warningf("Questions over UDP to %s go through CoreDNS's server: %v", l.addr, err)
			return nil
		}
	}
	next := &serving{socket: k, listener: l, coredns: newVirtual(k.conn), replaced: make(chan struct{})}
	if !next.coredns.serve(s) {
		log.Warningf("Questions over UDP to %s go through CoreDNS's server: it does not read the packets handed to it", l.addr)
		if r.open[l.addr] == nil {
			k.conn.Close()
		}
		return nil
	}
	k.exchange(next)
	if r.open[l.addr] == nil {
		r.open[l.addr] = k
		go k.read() // it recovers from a panic over each batch
		go k.keep() // and over each look at the steering
	}
	return next
}

// close closes the socket of s, if it still serves s, and waits for CoreDNS to answer the packets handed to it.
func (r *registry) close(ctx context.Context, s *serving) {
	r.mu.Lock()
	k := s.socket
	last := r.open[s.listener.addr] == k && k.current() == s
	if last {
		delete(r.open, s.listener.addr)
	}
	r.mu.Unlock()
	if last {
		k.close(ctx, s)
		return
	}
	s.coredns.wait(ctx)
}

// check makes each socket check whether it still gets the packets.
func (r *registry) check() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.open {
		select {
		case k.now <- struct{}{}:
		default:
		}
	}
}

// await waits until the socket serves something else.
func (s *serving) await(ctx context.Context) {
	select {
	case <-s.replaced:
	case <-ctx.Done():
	}
}

// socket is a socket beside CoreDNS's own on an address.
type socket struct {
	conn     *net.UDPConn
	steering *steering
	now      chan struct{} // requests a check now whether packets still arrive
	stop     chan struct{} // closed when the socket is about to be closed
	kept     chan struct{} // closed when keep has returned
	done     chan struct{} // closed when read has returned

	mu      sync.Mutex // held while a batch is processed, and while serving is exchanged
	serving *serving

	// The reader uses the following.
	batch    *batch
	query    Query
	answer   answer.Answer
	reply    reply
	counting []counting
	answered int // number answered in the batch
	probes   int
	finished time.Time // when the last batch was answered

	panicked atomic.Int64 // Unix time in nanoseconds of the last logged panic
}

// every is the interval at which a socket checks whether packets still arrive.
const every = 3 * time.Second

// listen opens a socket on an address.
func listen(addr string) (*socket, error) {
	p, err := reuseport.ListenPacket("udp", strings.TrimPrefix(addr, transport.DNS+"://"))
	if err != nil {
		return nil, err
	}
	conn, ok := p.(*net.UDPConn)
	if !ok {
		p.Close()
		return nil, fmt.Errorf("a socket of type %T", p)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	wildcard := local.Addr().IsUnspecified()
	if wildcard {
		if err := requestPacketInfo(raw); err != nil {
			conn.Close()
			return nil, fmt.Errorf("requesting packet info: %w", err)
		}
	}
	return &socket{
		conn:     conn,
		steering: newSteering(raw, local),
		now:      make(chan struct{}, 1),
		stop:     make(chan struct{}),
		kept:     make(chan struct{}),
		done:     make(chan struct{}),
		batch:    newBatch(raw, wildcard),
		counting: make([]counting, 0, batchSize),
	}, nil
}

// requestPacketInfo makes packets come with the address that they were sent to.
func requestPacketInfo(raw syscall.RawConn) error {
	var err error
	outer := raw.Control(func(fd uintptr) {
		family, e := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		switch {
		case e != nil:
			err = e
		case family == unix.AF_INET6: // covers IPv4 as well
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		default:
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	return errors.Join(outer, err)
}

// exchange makes the socket serve next. What it served before gets no more packets.
func (k *socket) exchange(next *serving) {
	k.mu.Lock()
	last := k.serving
	k.serving = next
	k.mu.Unlock()
	if last != nil {
		last.coredns.finish()
		close(last.replaced)
	}
}

func (k *socket) current() *serving {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.serving
}

// keep steers the packets of the address to this socket until it is about to be closed.
func (k *socket) keep() {
	defer close(k.kept)
	tick := time.NewTicker(every)
	defer tick.Stop()
	failed := k.look(k.steering.begin, nil)
	for {
		select {
		case <-k.stop:
			return
		case <-tick.C:
		case <-k.now:
		}
		failed = k.look(k.steering.again, failed)
	}
}

// look calls after, which checks the steering, and logs a failure once. last is the previous result.
func (k *socket) look(after func() error, last error) (err error) {
	defer k.recovered(nil)
	if err = after(); err != nil && last == nil {
		log.Warningf("CoreDNS's server answers some of the questions over UDP to %s: %v", k.conn.LocalAddr(), err)
	}
	return err
}

// close sends new packets elsewhere, answers those in the socket, and closes it. The socket must serve s, and nothing
// else from now on.
func (k *socket) close(ctx context.Context, s *serving) {
	close(k.stop)
	<-k.kept
	if err := k.steering.away(k.conn.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		log.Warningf("Questions over UDP to %s may be lost while its socket is closed: %v", k.conn.LocalAddr(), err)
	}
	k.drain(ctx)
	k.exchange(nil)
	s.coredns.wait(ctx)
	k.conn.Close()
	<-k.done
}

// drain waits until the socket is empty and stays empty for a moment: the kernel may be about to put a packet there.
func (k *socket) drain(ctx context.Context) {
	const moment = 5 * time.Millisecond
	tick := time.NewTicker(moment)
	defer tick.Stop()
	for empty := 0; empty < 2; empty++ {
		if !k.batch.empty() {
			empty = -1
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// read reads packets and answers them, or passes them on, until the socket is closed.
func (k *socket) read() {
	defer close(k.done)
	for k.next() {
	}
}

// next reads a batch and processes it. It returns false once the socket is closed. A panic costs at most the batch.
func (k *socket) next() (open bool) {
	defer k.recovered(func() { open = true })
	switch err := k.batch.read(); {
	case err == nil:
		k.round()
	case errors.Is(err, net.ErrClosed):
		return false
	default: // not caused by a packet, but by a lack of memory
		time.Sleep(time.Millisecond)
	}
	return true
}

// round processes a batch. A panic costs at most the batch.
func (k *socket) round() {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.recovered(k.batch.forget)
	if k.serving != nil {
		k.work()
	}
}

// recovered recovers from a panic, and calls then if there was one.
func (k *socket) recovered(then func()) {
	p := recover()
	if p == nil {
		return
	}
	vars.Panic.Inc()
	// Log once a second at most: a client that can cause a panic may do so with every packet.
	if now, last := time.Now().UnixNano(), k.panicked.Load(); now-last > int64(time.Second) && k.panicked.CompareAndSwap(last, now) {
		log.Errorf("Recovered from a panic while answering questions over UDP to %s: %v\n%s", k.conn.LocalAddr(), p, debug.Stack())
	}
	if then != nil {
		then()
	}
}

// pause is the time without packets after which the reader is idle.
const pause = 100 * time.Microsecond

// work answers a batch.
func (k *socket) work() {
	start := time.Now()
	k.batch.idle = k.batch.n == 1 && start.Sub(k.finished) > pause
	k.answered, k.probes, k.counting = 0, 0, k.counting[:0]
	for i := 0; i < k.batch.n; {
		i = k.packets(i)
	}
	took := time.Since(start)
	k.finished = start.Add(took)
	k.batch.send()
	k.answer = answer.Answer{} // don't retain the objects of a cluster
	answersTotal.Add(float64(k.answered))
	for i := range k.counting {
		k.counting[i].count(took)
	}
	k.steering.packets.Add(uint64(k.batch.n - k.probes))
}

// packets answers the packets of a batch from number i on. A panic costs one packet; packets then returns the number of
// the next.
func (k *socket) packets(i int) (next int) {
	defer k.recovered(func() {
		k.pass(i, panicked)
		next = i + 1
	})
	for ; i < k.batch.n; i++ {
		if why := k.packet(i); why != answered {
			k.pass(i, why)
		}
	}
	return i
}

// packet answers packet i. If it can't, it returns the reason.
func (k *socket) packet(i int) reason {
	packet, whole := k.batch.packet(i)
	if k.steering.isProbe(packet) {
		k.probes++
		return answered
	}
	q := &k.query
	if !whole {
		return notPlain
	}
	if why := q.parse(packet, k.batch.v4(i)); why != answered {
		return why
	}
	switch q.Type {
	case dns.TypeDS, dns.TypeOPT, dns.TypeTKEY, dns.TypeTSIG, dns.TypeIXFR, dns.TypeAXFR:
		return otherType
	}
	z := k.serving.listener.find(q.Lower)
	if z == nil || z.chain == nil {
		return otherZone
	}
	k.answer = z.chain.view().Answer(answer.Question{Name: q.Name, Lower: q.Lower, Type: q.Type, Class: dns.ClassINET})
	if k.answer.Outcome != answer.Ours {
		return nextPlugin
	}
	w, ok := k.reply.write(k.batch.reply(), q, &k.answer, z.chain)
	if !ok {
		return nextPlugin
	}
	k.batch.add(i, w.n)
	k.answered++
	if c := z.counter(q.Lower); c != nil {
		k.counting = append(k.counting, newCounting(c, q, k.answer.Rcode, w))
	}
	return answered
}

// pass hands packet i to CoreDNS.
func (k *socket) pass(i int, why reason) {
	packet, _ := k.batch.packet(i)
	passedOn[why].Inc()
	k.serving.coredns.pass(packet, k.batch.from(i))
}
