package services

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/kubehosts/kubehosts/plugin/persistent"
)

// addressSet is an ordered set of addresses. It answers whether names exist below a reverse name, which the tries
// can't. It is small beside them: an IPv4 address is one bit in the block of its /24, and all private networks have
// fewer than 70,000 blocks; an IPv6 address takes some 23 bytes.
type addressSet struct {
	v4 persistent.Ordered[block4]
	v6 persistent.Ordered[addr6]
}

// block4 holds the addresses of a /24.
type block4 struct {
	net  uint32 // the first three octets
	bits [4]uint64
}

// addr6 is an IPv6 address.
type addr6 struct{ hi, lo uint64 }

func split4(a netip.Addr) (net uint32, octet int) {
	ip := a.As4()
	return binary.BigEndian.Uint32(ip[:]) >> 8, int(ip[3])
}

func split6(a netip.Addr) addr6 {
	ip := a.As16()
	return addr6{binary.BigEndian.Uint64(ip[:8]), binary.BigEndian.Uint64(ip[8:])}
}

func byNet(net uint32) func(block4) int {
	return func(b block4) int { return cmp.Compare(b.net, net) }
}

func byAddr6(a addr6) func(addr6) int {
	return func(o addr6) int { return cmp.Or(cmp.Compare(o.hi, a.hi), cmp.Compare(o.lo, a.lo)) }
}

// block returns the block of the network net, empty if it is not in the set.
func (s *addressSet) block(net uint32) block4 {
	if b, ok := s.v4.From(byNet(net)); ok && b.net == net {
		return b
	}
	return block4{net: net}
}

func (s *addressSet) add(batch uint64, a netip.Addr) {
	if !a.Is4() {
		s.v6.Set(batch, split6(a), byAddr6(split6(a)))
		return
	}
	net, octet := split4(a)
	if b := s.v4.Own(batch, byNet(net)); b != nil {
		b.bits[octet/64] |= 1 << (octet % 64)
		return
	}
	b := block4{net: net}
	b.bits[octet/64] = 1 << (octet % 64)
	s.v4.Set(batch, b, byNet(net))
}

func (s *addressSet) del(batch uint64, a netip.Addr) {
	if !a.Is4() {
		s.v6.Delete(batch, byAddr6(split6(a)))
		return
	}
	net, octet := split4(a)
	b := s.v4.Own(batch, byNet(net))
	if b == nil {
		return
	}
	if b.bits[octet/64] &^= 1 << (octet % 64); b.bits == [4]uint64{} {
		s.v4.Delete(batch, byNet(net))
	}
}

// next returns the first address in the family of a that is not before a. It allocates nothing.
func (s *addressSet) next(a netip.Addr) (netip.Addr, bool) {
	if !a.Is4() {
		found, ok := s.v6.From(byAddr6(split6(a)))
		var ip [16]byte
		binary.BigEndian.PutUint64(ip[:8], found.hi)
		binary.BigEndian.PutUint64(ip[8:], found.lo)
		return netip.AddrFrom16(ip), ok
	}
	net, octet := split4(a)
	b := s.block(net)
	if octet = b.next(octet); octet < 0 {
		var ok bool
		if b, ok = s.v4.From(byNet(net + 1)); !ok {
			return netip.Addr{}, false
		}
		octet = b.next(0)
	}
	return netip.AddrFrom4([4]byte{byte(b.net >> 16), byte(b.net >> 8), byte(b.net), byte(octet)}), true
}

// next returns the first octet of the block from octet on, -1 if there is none.
func (b *block4) next(octet int) int {
	rest := b.bits[octet/64] &^ (1<<(octet%64) - 1)
	for at := octet / 64; ; rest = b.bits[at] {
		if rest != 0 {
			return 64*at + bits.TrailingZeros64(rest)
		}
		if at++; at == len(b.bits) {
			return -1
		}
	}
}
