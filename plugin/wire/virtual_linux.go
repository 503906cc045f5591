package wire

import (
	"context"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/metrics/vars"
)

// virtual is the net.PacketConn from which a CoreDNS server reads the packets that are not answered here. The server's
// replies leave through the socket that the packets came in on.
type virtual struct {
	socket *net.UDPConn
	queue  chan *datagram
	free   sync.Pool // of *datagram

	once    sync.Once
	reading chan struct{} // closed when the server reads for the first time
	end     sync.Once
	done    chan struct{} // closed when no more packets come
	ended   chan struct{} // closed when the server has answered all its packets
}

// datagram is a packet for CoreDNS's server.
type datagram struct {
	packet [queryRoom]byte
	n      int
	from   *net.UDPAddr
}

// waiting limits the packets that wait for the server. Further ones stay in the socket's buffer. The server reads
// packets without waiting for answers.
const waiting = 1024

func newVirtual(socket *net.UDPConn) *virtual {
	return &virtual{
		socket:  socket,
		queue:   make(chan *datagram, waiting),
		free:    sync.Pool{New: func() any { return new(datagram) }},
		reading: make(chan struct{}),
		done:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
}

// serve makes a server read from v, and returns once it does. It returns false if the server fails, or takes longer
// than a second.
//
// For Stop, the server stores the last connection that it serves, and that must be its own: its ServePacket may go on
// only after v was read from.
func (v *virtual) serve(s *dnsserver.Server) bool {
	go func() {
		defer close(v.ended)
		for v.run(s) {
		}
	}()
	timeout := time.NewTimer(time.Second)
	defer timeout.Stop()
	select {
	case <-v.reading:
		return true
	case <-v.ended:
	case <-timeout.C:
		v.finish()
	}
	return false
}

// run makes a server read from v until v ends. It returns true if the server has panicked, other than over a query, and
// more packets may come.
func (v *virtual) run(s *dnsserver.Server) (again bool) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		vars.Panic.Inc()
		log.Errorf("Recovered from a panic of CoreDNS's server, which reads again in %s: %v\n%s", serveAgain, p, debug.Stack())
		select {
		case <-time.After(serveAgain):
			again = true
		case <-v.done:
		}
	}()
	s.ServePacket(v) // the error is that v ended
	return false
}

// serveAgain is the pause after a panic of the server.
const serveAgain = time.Second

// pass hands a packet to the server. It must not be called after finish.
func (v *virtual) pass(packet []byte, from *net.UDPAddr) {
	p := v.free.Get().(*datagram)
	p.n, p.from = copy(p.packet[:], packet), from
	select {
	case v.queue <- p:
	case <-v.ended:
	}
}

// finish ends the stream of packets. The server ends when it has answered its remaining packets.
func (v *virtual) finish() { v.end.Do(func() { close(v.done) }) }

// wait waits until the server has ended.
func (v *virtual) wait(ctx context.Context) {
	select {
	case <-v.ended:
	case <-ctx.Done():
	}
}

// ReadFrom implements net.PacketConn.
func (v *virtual) ReadFrom(b []byte) (int, net.Addr, error) {
	v.once.Do(func() { close(v.reading) })
	select {
	case p := <-v.queue:
		return v.take(p, b)
	case <-v.done:
	}
	select {
	case p := <-v.queue: // it came before the end
		return v.take(p, b)
	default:
		return 0, nil, net.ErrClosed
	}
}

func (v *virtual) take(p *datagram, b []byte) (int, net.Addr, error) {
	n, from := copy(b, p.packet[:p.n]), p.from
	p.from = nil
	v.free.Put(p)
	return n, from, nil
}

// WriteTo implements net.PacketConn.
func (v *virtual) WriteTo(b []byte, to net.Addr) (int, error) {
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, os.ErrInvalid
	}
	n, _, err := v.socket.WriteMsgUDP(b, controlOf(addr), addr)
	return n, err
}

// LocalAddr implements net.PacketConn.
func (v *virtual) LocalAddr() net.Addr { return v.socket.LocalAddr() }

// Close implements net.PacketConn. The socket stays open.
func (v *virtual) Close() error {
	v.finish()
	return nil
}

// SetReadDeadline implements net.PacketConn. A server that is shut down sets one in the past to stop reading.
func (v *virtual) SetReadDeadline(t time.Time) error {
	if time.Until(t) < 0 {
		v.finish()
	}
	return nil
}

// SetDeadline implements net.PacketConn.
func (v *virtual) SetDeadline(t time.Time) error { return v.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn. Writing to a UDP socket does not block for long.
func (v *virtual) SetWriteDeadline(time.Time) error { return nil }
