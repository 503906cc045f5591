package wire

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// steering sends the packets of a SO_REUSEPORT group to one of its sockets. The kernel holds the sockets of a group in
// an array, and a classic BPF program returns the index of the one that gets a packet, its place. A place changes when
// a socket before it is closed, so probes find it, and check it from time to time.
//
// The kernel picks a socket by hash without a program, and when the program returns a place that does not exist.
type steering struct {
	raw   syscall.RawConn // the socket that gets the packets
	to    netip.AddrPort  // where a probe is sent; it reaches the group
	nonce uint64          // the first octets of a probe
	place atomic.Uint32

	mu      sync.Mutex    // held while probes are sent
	arrived chan uint32   // the places requested by the probes that reached the socket
	packets atomic.Uint64 // read from the socket so far, not counting probes
}

const (
	nowhere   = 1<<32 - 1 // a place that no group has
	maxPlaces = 2048      // the number of sockets of a group that are tried; *multisocket* opens 1,024 at most
	atOnce    = 64        // probes in flight; all of them fit into the buffer of a socket
	probeSize = 16        // octets: the nonce, the place, and a number that distinguishes probes of one place

	probeWait = 50 * time.Millisecond // for a probe to arrive; over loopback that takes microseconds
	maxWaits  = 10                    // each of that length, while the socket's reader has packets to read
	attempts  = 3                     // at finding the place, since sockets may be opened and closed meanwhile

	// checks is the number of probes in a check, each from another port. When the place no longer exists, the kernel
	// spreads them by hash. With two sockets in the group, all of them reach one socket once in 65,536 times.
	checks = 16
)

// newSteering makes the steering for a socket that is bound to local.
func newSteering(raw syscall.RawConn, local netip.AddrPort) *steering {
	var random [12]byte
	rand.Read(random[:])
	random[2] |= 1 << 7 // QR: a server that gets a probe by mistake takes it for a reply and ignores it
	to := local
	if local.Addr().IsUnspecified() {
		// Any address of this machine leads to the group, unless another socket listens on that very address.
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, random[8], random[9], random[10] | 2}), local.Port())
	}
	s := &steering{raw: raw, to: to, nonce: binary.BigEndian.Uint64(random[:8]), arrived: make(chan uint32, atOnce)}
	s.place.Store(nowhere)
	return s
}

// begin finds the socket's place and steers the group's packets to it. On an error the kernel spreads them over all
// sockets of the group.
func (s *steering) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.attach(s.program(nowhere)); err != nil {
		return fmt.Errorf("attaching a BPF program to the sockets: %w", err)
	}
	return s.find()
}

// find looks for the socket's place among those of the group, and steers to it.
func (s *steering) find() error {
	for range attempts {
		place, ok := s.look()
		if !ok {
			break
		}
		if err := s.attach(s.program(place)); err != nil {
			return err
		}
		s.place.Store(place)
		if s.check() {
			return nil
		}
	}
	return fmt.Errorf("not all probes to %s arrive", s.to)
}

// look returns the socket's place.
func (s *steering) look() (place uint32, ok bool) {
	for first := uint32(0); first < maxPlaces && !ok; first += atOnce {
		place, ok = s.probe(first)
	}
	return place, ok
}

// probe asks for atOnce places from first on, and returns the first that leads to the socket. Probes for places that do
// not exist are spread by hash, but they come after the one for the socket's own place.
func (s *steering) probe(first uint32) (place uint32, ok bool) {
	s.forget()
	for i := range uint32(atOnce) {
		s.send(first+i, 0)
	}
	return s.next()
}

// again checks that packets still reach the socket, and looks for its place if they don't. Probes get lost while
// packets come in faster than the socket takes them; then the packets that arrive show that the place is right.
func (s *steering) again() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.packets.Load()
	for range attempts { // on a busy machine a probe may take longer
		if s.check() {
			return nil
		}
	}
	err := s.find()
	if err == nil || s.packets.Load() > before {
		return nil
	}
	s.place.Store(nowhere)
	s.attach(s.program(nowhere))
	return err
}

// away leaves the choice to the kernel, and takes the socket out of it: a connected socket only gets packets from its
// peer, which is itself. The packets in its buffer stay.
func (s *steering) away(local netip.AddrPort) error {
	s.place.Store(nowhere)
	if err := s.attach(s.program(nowhere)); err != nil {
		return err
	}
	return s.control(func(fd int) error {
		family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return err
		}
		self := local.Addr()
		if family == unix.AF_INET {
			if self.IsUnspecified() {
				self = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
			return unix.Connect(fd, &unix.SockaddrInet4{Port: int(local.Port()), Addr: self.As4()})
		}
		if self.IsUnspecified() {
			self = netip.IPv6Loopback()
		}
		to := unix.SockaddrInet6{Port: int(local.Port()), Addr: self.As16()}
		if zone := self.Zone(); zone != "" {
			iface, err := net.InterfaceByName(zone)
			if err != nil {
				return err
			}
			to.ZoneId = uint32(iface.Index)
		}
		return unix.Connect(fd, &to)
	})
}

// check reports whether probes reach the socket.
func (s *steering) check() bool {
	s.forget()
	for i := range uint32(checks) {
		s.send(nowhere, i)
	}
	for range checks {
		if _, ok := s.next(); !ok {
			return false
		}
	}
	return true
}

// program returns a program that yields the place that a probe requests, else place.
func (s *steering) program(place uint32) []unix.SockFilter {
	const (
		length = unix.BPF_LD | unix.BPF_W | unix.BPF_LEN
		word   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		result = unix.BPF_RET | unix.BPF_K
		loaded = unix.BPF_RET | 0x10 // BPF_A: the value loaded last
	)
	return []unix.SockFilter{
		{Code: length},
		{Code: equal, K: probeSize, Jf: 7},
		{Code: word, K: 0},
		{Code: equal, K: uint32(s.nonce >> 32), Jf: 5},
		{Code: word, K: 4},
		{Code: equal, K: uint32(s.nonce), Jf: 3},
		{Code: word, K: 8},
		{Code: equal, K: nowhere, Jt: 1},
		{Code: loaded},
		{Code: result, K: place},
	}
}

func (s *steering) attach(program []unix.SockFilter) error {
	return s.control(func(fd int) error {
		p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &p)
	})
}

func (s *steering) control(f func(fd int) error) error {
	var err error
	if outer := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); outer != nil {
		return outer
	}
	return err
}

// send sends a probe from a port of its own. If that fails, the probe does not arrive.
func (s *steering) send(place, number uint32) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.to))
	if err != nil {
		return
	}
	var probe [probeSize]byte
	binary.BigEndian.PutUint64(probe[:], s.nonce)
	binary.BigEndian.PutUint32(probe[8:], place)
	binary.BigEndian.PutUint32(probe[12:], number)
	c.Write(probe[:])
	c.Close()
}

// isProbe reports whether a packet is a probe, and if so records it. The socket's reader calls it.
func (s *steering) isProbe(packet []byte) bool {
	if len(packet) != probeSize || binary.BigEndian.Uint64(packet) != s.nonce {
		return false
	}
	select {
	case s.arrived <- binary.BigEndian.Uint32(packet[8:]):
	default:
	}
	return true
}

// next waits for a probe. On a busy machine the reader may be late: while packets wait in the socket's buffer, the
// probe may be among them.
func (s *steering) next() (place uint32, ok bool) {
	for range maxWaits {
		select {
		case place = <-s.arrived:
			return place, true
		case <-time.After(probeWait):
		}
		if !s.unread() {
			break
		}
	}
	return 0, false
}

// unread reports whether packets wait in the socket's buffer.
func (s *steering) unread() (yes bool) {
	s.control(func(fd int) error {
		n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		yes = err == nil && n > 0
		return err
	})
	return yes
}

// forget drops probes that arrived late.
func (s *steering) forget() {
	for {
		select {
		case <-s.arrived:
		default:
			return
		}
	}
}
