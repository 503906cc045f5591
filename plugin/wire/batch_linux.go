package wire

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 32
	queryRoom = 512 // octets of a packet that CoreDNS reads (dns.MinMsgSize); it ignores the rest

	// Room for the replies of a batch. They are sent early when the next one might not fit.
	replyRoom  = 2 * maxReply
	maxReply   = 1<<16 - 1
	controlMax = 64 // octets of control messages: one with packet info takes 28 or 32, and padding
)

// batch reads up to batchSize packets from a socket at once, and likewise sends replies. All its memory is allocated
// once. A single goroutine uses it.
type batch struct {
	raw  syscall.RawConn
	info bool // packets come with packet info

	in, out  [batchSize]unix.Mmsghdr
	queries  [batchSize]unix.Iovec
	replies  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6  // or RawSockaddrInet4, which is shorter
	controls [batchSize][controlMax / 8]uint64 // aligned as a Cmsghdr must be
	packets  [batchSize][queryRoom]byte
	room     [replyRoom]byte

	n    int // packets read
	held int // replies waiting to be sent
	used int // of room

	replied int  // packets of the batch with a reply
	busy    bool // the last batch was a large one, and all of it had replies
	idle    bool // the last batch was a single packet that came after a pause

	receiver, sender func(fd uintptr) bool // stored, because a closure would be allocated each time
	err              error                 // the error of either
	sent             int
}

func newBatch(raw syscall.RawConn, info bool) *batch {
	b := &batch{raw: raw, info: info}
	for i := range batchSize {
		b.queries[i].Base = &b.packets[i][0]
		b.queries[i].SetLen(queryRoom)
		b.in[i].Hdr.Iov = &b.queries[i]
		b.in[i].Hdr.SetIovlen(1)
		b.in[i].Hdr.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		b.out[i].Hdr.Iov = &b.replies[i]
		b.out[i].Hdr.SetIovlen(1)
		b.reset(i)
	}
	b.n = 0
	b.receiver, b.sender = b.receive, b.transmit
	return b
}

// reset prepares the header of a packet for the next one, since the kernel overwrites it.
func (b *batch) reset(i int) {
	h := &b.in[i].Hdr
	h.Namelen = unix.SizeofSockaddrInet6
	h.Flags = 0
	if b.info {
		h.Control = (*byte)(unsafe.Pointer(&b.controls[i]))
		h.SetControllen(controlMax)
	}
}

// read waits for packets and reads them. It returns the error of a closed socket, or a kernel error that concerns no
// packet.
func (b *batch) read() error {
	for i := range b.n {
		b.reset(i)
	}
	b.busy = b.replied == b.n && b.n >= batchSize/4
	b.n, b.replied, b.err = 0, 0, nil
	if err := b.raw.Read(b.receiver); err != nil {
		return err
	}
	return b.err
}

// The calls below never wait, so they are raw ones: during others the Go scheduler gives the processor away after 20
// µs, which a batch takes. On two cores shared with dnsperf that costs 4 % of the answers.
//
// The exception is the last read before an idle reader waits. An ordinary call wakes the monitor of the Go scheduler,
// whose thread looks a few times whether work is left. If that runs on another core, the kernel wakes the reader more
// often on the core that sends the packet (75 % of packets with ordinary calls alone, 43 % with raw ones), and not on
// one that has halted: on virtual cores that takes 150 to 300 µs longer. At 1,000 questions a second the p99 of an
// answer is 160 to 170 µs for most processes, not 270, and an answer takes 45 µs of CPU time, not 30.

// receive reads the packets that have arrived. A busy reader without any lets other processes run once: on shared cores
// a client then sends more, batches grow by a third, and answers a second by 3 %. One that hands packets to CoreDNS
// does not, since that runs in this process.
func (b *batch) receive(fd uintptr) bool {
	yield := b.busy
	for {
		n, errno := b.recvmmsg(fd)
		switch errno {
		case 0:
			b.n = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			if !yield {
				return false
			}
			yield = false
			unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		default:
			b.err = errno
			return true
		}
	}
}

// recvmmsg makes an ordinary call if the reader is idle, and a raw one otherwise.
func (b *batch) recvmmsg(fd uintptr) (n uintptr, errno syscall.Errno) {
	if b.idle {
		b.idle = false
		n, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		return n, errno
	}
	n, _, errno = unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	return n, errno
}

// empty reports whether no packet waits to be read.
func (b *batch) empty() bool {
	var waiting int // octets of the first packet
	var err error
	b.raw.Control(func(fd uintptr) { waiting, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	return err == nil && waiting == 0
}

// packet returns packet i as far as it was read, and whether that is all of it.
func (b *batch) packet(i int) (packet []byte, whole bool) {
	m := &b.in[i]
	return b.packets[i][:min(m.Len, queryRoom)], m.Hdr.Flags&unix.MSG_TRUNC == 0
}

// reply returns room for the longest reply.
func (b *batch) reply() []byte {
	if len(b.room)-b.used < maxReply {
		b.send()
	}
	return b.room[b.used : b.used+maxReply]
}

// add queues the first n octets of reply's result as the reply to packet i.
func (b *batch) add(i, n int) {
	in, out := &b.in[i].Hdr, &b.out[b.held].Hdr
	b.replies[b.held].Base = &b.room[b.used]
	b.replies[b.held].SetLen(n)
	out.Name, out.Namelen = in.Name, in.Namelen
	out.Control, out.Controllen = nil, 0
	if control := b.control(i); control != nil {
		out.Control = &control[0]
		out.SetControllen(len(control))
	}
	b.held++
	b.replied++
	b.used += n
}

// send sends the queued replies. One that can't be sent is lost, as in CoreDNS.
func (b *batch) send() {
	for b.sent = 0; b.sent < b.held; {
		b.err = nil
		if err := b.raw.Write(b.sender); err != nil { // closed
			break
		}
		if b.err != nil {
			b.sent++
		}
	}
	b.forget()
}

// forget drops the queued replies.
func (b *batch) forget() { b.held, b.used = 0, 0 }

// transmit sends what the socket's buffer takes of the replies.
func (b *batch) transmit(fd uintptr) bool {
	for {
		left := b.out[b.sent:b.held]
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&left[0])), uintptr(len(left)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b.sent += int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			b.err = errno
			return true
		}
	}
}

// control returns the control message with which a reply to packet i leaves from the address that the packet was sent
// to, nil if there is none. It is the one that came with the packet, without the interface: the routes decide how a
// reply leaves, except for a link-local address.
func (b *batch) control(i int) []byte {
	h := &b.in[i].Hdr
	if !b.info || h.Flags&unix.MSG_CTRUNC != 0 || int(h.Controllen) < unix.SizeofCmsghdr {
		return nil
	}
	m := (*unix.Cmsghdr)(unsafe.Pointer(&b.controls[i]))
	control := unsafe.Slice((*byte)(unsafe.Pointer(m)), h.Controllen)
	data := control[unix.CmsgLen(0):]
	switch {
	case m.Level == unix.IPPROTO_IP && m.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex = 0
		return control[:unix.CmsgSpace(unix.SizeofInet4Pktinfo)]
	case m.Level == unix.IPPROTO_IPV6 && m.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
			info.Ifindex = 0
		}
		return control[:unix.CmsgSpace(unix.SizeofInet6Pktinfo)]
	}
	return nil
}

// v4 reports whether packet i came over IPv4.
func (b *batch) v4(i int) bool {
	name := &b.names[i]
	return name.Family == unix.AF_INET || netip.AddrFrom16(name.Addr).Is4In6()
}

// from returns the address that packet i came from. The control message of a reply follows the address in memory, so
// that controlOf finds it when CoreDNS replies.
func (b *batch) from(i int) *net.UDPAddr {
	control := b.control(i)
	ip := make([]byte, net.IPv6len, net.IPv6len+len(control))
	copy(ip[net.IPv6len:cap(ip)], control)
	name := &b.names[i]
	port := (*[2]byte)(unsafe.Pointer(&name.Port))
	addr := &net.UDPAddr{IP: ip, Port: int(port[0])<<8 | int(port[1])}
	if name.Family == unix.AF_INET {
		a := netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr).As16()
		copy(ip, a[:])
		return addr
	}
	copy(ip, name.Addr[:])
	if name.Scope_id != 0 {
		addr.Zone = zones.name(name.Scope_id)
	}
	return addr
}

// controlOf returns the control message that follows an address returned by from.
func controlOf(addr *net.UDPAddr) []byte {
	if len(addr.IP) != net.IPv6len || cap(addr.IP) == net.IPv6len {
		return nil
	}
	return addr.IP[net.IPv6len:cap(addr.IP)]
}

// zoneNames are the names of interfaces by their index. They are looked up again after a minute.
type zoneNames struct {
	mu    sync.Mutex
	names map[uint32]string
	since time.Time
}

var zones zoneNames

// name returns the name of an IPv6 address's zone, or the index itself if there is no such interface.
func (z *zoneNames) name(index uint32) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	if time.Since(z.since) > time.Minute {
		z.names, z.since = make(map[uint32]string), time.Now()
	}
	name, ok := z.names[index]
	if !ok {
		name = strconv.FormatUint(uint64(index), 10)
		if i, err := net.InterfaceByIndex(int(index)); err == nil {
			name = i.Name
		}
		z.names[index] = name
	}
	return name
}
