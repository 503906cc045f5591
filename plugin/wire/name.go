package wire

import (
	"hash/maphash"
	"strings"
	"unsafe"
)

// unsafeString returns b as a string, which is valid until b is written to.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// putBytes is put for a name in a buffer.
func (r *reply) putBytes(name []byte, point bool) { r.put(unsafeString(name), point) }

// put writes a name, given in presentation form and fully qualified. While the message is compressed, put stores each
// new suffix, and writes a pointer for a suffix that the message already has if point is set (RFC 1035, section 4.1.4).
func (r *reply) put(name string, point bool) {
	if !r.compress {
		r.plain(name)
		return
	}
	if name == r.q.Name && point && name != "." { // the usual case
		r.uint16(0xc000 | headerSize)
		return
	}
	if strings.IndexByte(name, '\\') >= 0 {
		r.failed = true
		return
	}
	for at := 0; at < len(name) && name != "."; {
		suffix := name[at:]
		if pointer, ok := r.names.find(r.b, suffix); ok {
			if !point { // shorter suffixes are stored as well
				break
			}
			r.labels(name[:at])
			r.uint16(0xc000 | pointer)
			return
		}
		r.names.insert(suffix, r.n+at)
		dot := strings.IndexByte(suffix, '.')
		if dot <= 0 {
			r.failed = true
			return
		}
		at += dot + 1
	}
	r.plain(name)
}

// plain writes all of a name.
func (r *reply) plain(name string) {
	if name != "." {
		r.labels(name)
	}
	r.byte(0)
}

// labels writes the labels of a name. Each ends in a dot.
func (r *reply) labels(name string) {
	if strings.IndexByte(name, '\\') >= 0 {
		r.escaped(name)
		return
	}
	b := r.room(len(name))
	if len(b) == 0 {
		return
	}
	copy(b[1:], name[:len(name)-1])
	last := 0 // the octet before a label is its length, in place of the dot before it
	for i := range len(name) {
		if name[i] != '.' {
			continue
		}
		length := i - last
		if length == 0 || length > 63 {
			r.failed = true
			return
		}
		b[last] = byte(length)
		last = i + 1
	}
	if last != len(name) {
		r.failed = true
	}
}

// escaped is labels for names with escapes: \DDD, or an octet after a backslash (RFC 1035, section 5.1).
func (r *reply) escaped(name string) {
	length := r.n // where the length of the label goes
	r.byte(0)
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '.':
			n := r.n - length - 1
			if n == 0 || n > 63 {
				r.failed = true
				return
			}
			if r.n <= len(r.b) {
				r.b[length] = byte(n)
			}
			if length = r.n; i < len(name)-1 {
				r.byte(0)
			}
			continue
		case c == '\\' && isNumber(name[i+1:]):
			c = (name[i+1]-'0')*100 + (name[i+2]-'0')*10 + name[i+3] - '0'
			i += 3
		case c == '\\' && i+1 < len(name):
			i++
			c = name[i]
		}
		r.byte(c)
	}
	if length != r.n { // the last label does not end in a dot
		r.failed = true
	}
}

// isNumber reports whether s begins with three digits.
func isNumber(s string) bool {
	return len(s) >= 3 && isDigit(s[0]) && isDigit(s[1]) && isDigit(s[2])
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// names holds the suffixes of the names in a message, and their offsets.
type names struct {
	slots   []slot // a hash table, whose length is a power of two
	message uint32 // the number of this message; slots of an earlier one count as empty
	n       int
}

type slot struct {
	message uint32
	hash    uint32
	at      uint16
}

const (
	slots      = 1 << 13
	maxPointer = 1<<14 - 1 // the highest offset of a pointer (RFC 1035, section 4.1.4)
)

var seed = maphash.MakeSeed()

// begin drops the names of the previous message.
func (n *names) begin() {
	if n.slots == nil {
		n.slots = make([]slot, slots)
	}
	n.n = 0
	if n.message++; n.message == 0 {
		clear(n.slots)
		n.message = 1
	}
}

// add stores all suffixes of a name at an offset.
func (n *names) add(name string, at int) {
	for name != "" && name != "." {
		n.insert(name, at)
		dot := strings.IndexByte(name, '.')
		name, at = name[dot+1:], at+dot+1
	}
}

// insert stores a suffix at an offset, unless that is beyond maxPointer.
func (n *names) insert(suffix string, at int) {
	if at > maxPointer || n.n == slots/4*3 {
		return
	}
	hash := uint32(maphash.String(seed, suffix))
	i := hash % slots
	for n.slots[i].message == n.message {
		i = (i + 1) % slots
	}
	n.slots[i] = slot{n.message, hash, uint16(at)}
	n.n++
}

// find returns the offset of a suffix in msg.
func (n *names) find(msg []byte, suffix string) (at uint16, ok bool) {
	hash := uint32(maphash.String(seed, suffix))
	for i := hash % slots; n.slots[i].message == n.message; i = (i + 1) % slots {
		if s := &n.slots[i]; s.hash == hash && stands(msg, int(s.at), suffix) {
			return s.at, true
		}
	}
	return 0, false
}

// stands reports whether msg has a name, given in presentation form without escapes, at an offset.
func stands(msg []byte, at int, name string) bool {
	for at < len(msg) {
		length := int(msg[at])
		switch {
		case length == 0:
			return name == ""
		case length >= 0xc0: // a pointer back, never to itself
			if at+1 == len(msg) {
				return false
			}
			at = (length&0x3f)<<8 | int(msg[at+1])
			continue
		case len(name) <= length || name[length] != '.' || at+1+length > len(msg) || string(msg[at+1:at+1+length]) != name[:length]:
			return false
		}
		name, at = name[length+1:], at+1+length
	}
	return false
}
