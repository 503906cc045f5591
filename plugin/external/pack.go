package external

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// packer writes the packed form of an object.
type packer []byte

func (p *packer) byte(b byte)   { *p = append(*p, b) }
func (p *packer) uint(n uint64) { *p = binary.AppendUvarint(*p, n) }
func (p *packer) len(n int)     { p.uint(uint64(n)) } // #nosec G115 -- a length
func (p *packer) text(s string) { p.len(len(s)); *p = append(*p, s...) }
func (p *packer) raw(s string)  { *p = append(*p, s...) }

// short writes a text of up to 255 octets.
func (p *packer) short(s string) { p.byte(byte(len(s))); p.raw(s) }

func (p *packer) texts(all []string) {
	p.len(len(all))
	for _, s := range all {
		p.text(s)
	}
}

func (p *packer) bool(b bool) {
	if b {
		p.byte(1)
	} else {
		p.byte(0)
	}
}

// reader reads the output of a packer from the offset at.
type reader struct {
	s  string
	at int
}

func (r *reader) byte() byte {
	b := r.s[r.at]
	r.at++
	return b
}

func (r *reader) bool() bool { return r.byte() != 0 }

func (r *reader) uint() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := r.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (r *reader) len() int { return int(r.uint()) } // #nosec G115 -- a length

func (r *reader) take(n int) string {
	s := r.s[r.at : r.at+n]
	r.at += n
	return s
}

func (r *reader) text() string { return r.take(r.len()) }

func (r *reader) short() string { return r.take(int(r.byte())) }

// shortAt returns the short text at that offset.
func shortAt(s string, at int) string { return s[at+1 : at+1+int(s[at])] }

func (r *reader) texts() []string {
	var all []string
	for range r.len() {
		all = append(all, r.text())
	}
	return all
}

// ownName is how the name of the object in the zone is written.
const ownName = 1

// hosts writes hosts of an object with that zone and name. The lowest bit of a length is set for a host that is stored
// without the zone.
func (p *packer) hosts(all []string, zone, object string) {
	p.len(len(all))
	for _, name := range all {
		p.host(name, zone, object)
	}
}

func (p *packer) host(name, zone, object string) {
	first := len(name) - len(zone) - 1
	switch {
	case zone == "" || first < 1 || !within(name, zone):
		p.len(len(name) << 1)
		p.raw(name)
	case name[:first] == object:
		p.len(ownName)
	default:
		p.len(first<<1 | 1)
		p.raw(name[:first])
	}
}

// host reads a host of an object.
func (r *reader) host(of form) host {
	n := r.len()
	switch {
	case n == ownName:
		return host{nameOf(of), zoneOf(of)}
	case n&1 != 0:
		return host{r.take(n >> 1), zoneOf(of)}
	}
	return host{r.take(n >> 1), ""}
}

func (r *reader) hosts(of form) []string {
	var all []string
	for range r.len() {
		all = append(all, r.host(of).String())
	}
	return all
}

func (r *reader) skipHosts() {
	for range r.len() {
		r.at += r.len() >> 1
	}
}

// addresses are those for clients: addresses and hostnames of load balancers, each once and sorted. Equal addresses
// have equal packed forms.
type addresses struct{ v4, v6, hosts []string } // the first two as octets

// addressesOf returns the addresses in texts, up to maxAddresses of each sort. It leaves out texts that are neither an
// address nor a hostname.
func addressesOf(texts []string) (a addresses) {
	for _, text := range texts {
		a.add(text)
	}
	a.sort()
	return a
}

func (a *addresses) add(text string) {
	text = strings.TrimSpace(text)
	ip, err := netip.ParseAddr(text)
	switch ip = ip.Unmap().WithZone(""); {
	case err == nil && ip.Is4():
		a.v4 = append(a.v4, string(ip.AsSlice()))
	case err == nil:
		a.v6 = append(a.v6, string(ip.AsSlice()))
	default:
		if host, ok := hostname(text); ok && !strings.HasPrefix(host, "*") {
			a.hosts = append(a.hosts, host+".")
		}
	}
}

func (a *addresses) empty() bool { return len(a.v4)+len(a.v6)+len(a.hosts) == 0 }

// with returns a and the addresses in texts.
func (a addresses) with(texts []string) addresses {
	if len(texts) == 0 {
		return a
	}
	all := addresses{slices.Clone(a.v4), slices.Clone(a.v6), slices.Clone(a.hosts)}
	for _, text := range texts {
		all.add(text)
	}
	all.sort()
	return all
}

// sort sorts all, each once, up to maxAddresses of each sort.
func (a *addresses) sort() {
	for _, all := range []*[]string{&a.v4, &a.v6, &a.hosts} {
		slices.Sort(*all)
		*all = slices.Compact(*all)
		*all = (*all)[:min(len(*all), maxAddresses)]
	}
}

func (p *packer) addresses(a addresses) {
	p.byte(byte(len(a.v4)))
	p.byte(byte(len(a.v6)))
	p.byte(byte(len(a.hosts)))
	for _, all := range [][]string{a.v4, a.v6} {
		for _, ip := range all {
			p.raw(ip)
		}
	}
	for _, host := range a.hosts {
		p.text(host)
	}
}

// places is the packed form of addresses, and a view of it. The zero places are empty.
type places string

const noPlaces places = "\x00\x00\x00"

func (r *reader) places() places {
	start := r.at
	n4, n6, hosts := int(r.byte()), int(r.byte()), int(r.byte())
	r.at += 4*n4 + 16*n6
	for range hosts {
		r.at += r.len()
	}
	return places(r.s[start:r.at])
}

func (p places) empty() bool { return p == "" || p == noPlaces }

// addrs yields the IPv4 addresses and then the IPv6 addresses.
func (p places) addrs(yield func(netip.Addr) bool) bool {
	if p == "" {
		return true
	}
	end4 := 3 + 4*int(p[0])
	end6 := end4 + 16*int(p[1])
	for at := 3; at < end4; at += 4 {
		if !yield(netip.AddrFrom4([4]byte([]byte(p[at : at+4])))) {
			return false
		}
	}
	for at := end4; at < end6; at += 16 {
		if !yield(netip.AddrFrom16([16]byte([]byte(p[at : at+16])))) {
			return false
		}
	}
	return true
}

// has reports whether a is among the addresses.
func (p places) has(a netip.Addr) bool {
	if p == "" {
		return false
	}
	octets := a.As16()
	want, start, n := octets[:], 3+4*int(p[0]), int(p[1])
	if a.Is4() {
		want, start, n = octets[12:], 3, int(p[0])
	}
	i := sort.Search(n, func(i int) bool { return string(p[start+i*len(want):start+(i+1)*len(want)]) >= string(want) })
	return i < n && string(p[start+i*len(want):start+(i+1)*len(want)]) == string(want)
}

// hosts yields the hostnames.
func (p places) hosts(yield func(string) bool) bool {
	if p == "" {
		return true
	}
	r := reader{string(p), 3 + 4*int(p[0]) + 16*int(p[1])}
	for range p[2] {
		if !yield(r.text()) {
			return false
		}
	}
	return true
}

// texts returns all in the form that addressesOf takes.
func (p places) texts() (all []string) {
	p.addrs(func(a netip.Addr) bool { all = append(all, a.String()); return true })
	p.hosts(func(host string) bool { all = append(all, host); return true })
	return all
}

// labels writes labels of an object, sorted.
func (p *packer) labels(all map[string]string) {
	p.len(len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		p.text(key)
		p.text(all[key])
	}
}

func (r *reader) labels() map[string]string {
	n := r.len()
	if n == 0 {
		return nil
	}
	all := make(map[string]string, n)
	for range n {
		key := r.text()
		all[key] = r.text()
	}
	return all
}
