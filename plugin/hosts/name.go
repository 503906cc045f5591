package hosts

import (
	"errors"

	"golang.org/x/net/idna"
)

// Names are compared in their wire form. A table stores each name in the presentation form that the
// DNS library uses for a question's name: octets that are not printable ASCII are \DDD, and a few
// printable ones are escaped with a backslash. Each name has one such form, so two strings are
// equal if and only if the names have the same octets.

// shape is the form of an octet in presentation form.
type shape uint8

const (
	plain     shape = iota // unchanged
	upper                  // as its lower-case letter (RFC 4343)
	special                // with a backslash
	decimal                // as \DDD
	dot                    // with a backslash, unless it ends the label
	backslash              // with another backslash
)

var shapes = func() (all [256]shape) {
	for c := range all {
		switch {
		case c >= 'A' && c <= 'Z':
			all[c] = upper
		case c < ' ' || c > '~':
			all[c] = decimal
		}
	}
	for _, c := range ` "'();@` {
		all[c] = special
	}
	all['.'], all['\\'] = dot, backslash
	return all
}()

// appendOctet appends an octet of a label.
func appendOctet(name []byte, c byte) []byte {
	switch shapes[c] {
	case upper:
		return append(name, c+'a'-'A')
	case special, dot, backslash:
		return append(name, '\\', c)
	case decimal:
		return append(name, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
	}
	return append(name, c)
}

// nulFault is the fault of a NUL that is not written \000. No text contains
// one.
const nulFault = "it has a NUL octet"

// unescape returns the octet of an escape and the escape's length (RFC 1035, section 5.1), or the
// reason why it is not valid. b begins with a backslash.
func unescape(b []byte) (c byte, size int, fault string) {
	switch {
	case len(b) == 1:
		return 0, 0, "nothing follows the backslash"
	case b[1] == 0:
		return 0, 0, nulFault
	case len(b) < 4 || !digit(b[1]) || !digit(b[2]) || !digit(b[3]):
		return b[1], 2, ""
	}
	n := 100*int(b[1]-'0') + 10*int(b[2]-'0') + int(b[3]-'0')
	if n > 255 {
		return 0, 0, "an escape has a number over 255"
	}
	return byte(n), 4, ""
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// normalize returns a field as a fully qualified name in the form of the table, in the storage of
// buf, or its fault in a few words. Only ASCII letters become lower case (RFC 4343). wide reports
// whether the field has an octet beyond ASCII, even if there is a fault.
func normalize(buf, field []byte) (name []byte, wide bool, fault string) {
	name = buf[:0]
	if string(field) == "." {
		return append(name, '.'), false, ""
	}
	total, label := 1, 0 // octets on the wire: with the root's, and of this label
	for i := 0; i < len(field); {
		c, size := field[i], 1
		switch shapes[c] {
		case plain:
			for i+size < len(field) && shapes[field[i+size]] == plain {
				size++
			}
			name = append(name, field[i:i+size]...)
			label += size
			i += size
			continue
		case dot:
			fault = lengthFault(fault, label)
			total += 1 + label
			label = 0
			name = append(name, '.')
			i++
			continue
		case backslash:
			var wrong string
			if c, size, wrong = unescape(field[i:]); wrong != "" {
				return name, false, wrong
			}
		case decimal:
			if c == 0 {
				return name, false, nulFault
			}
		}
		name = appendOctet(name, c)
		wide = wide || c >= 0x80
		label++
		i += size
	}
	if label > 0 {
		fault = lengthFault(fault, label)
		total += 1 + label
		name = append(name, '.')
	}
	if total > 255 && fault == "" {
		fault = "it has more than 255 octets"
	}
	return name, wide, fault
}

// lengthFault returns the fault of a label of that many octets, or the earlier fault before.
func lengthFault(before string, octets int) string {
	switch {
	case before != "":
		return before
	case octets == 0:
		return "it has an empty label"
	case octets > 63:
		return "it has a label of more than 63 octets"
	}
	return ""
}

// maxWide is the length in octets of the longest label that is tried as an internationalized one.
// The time for a label grows with the square of its length. A label whose encoded form fits into 63
// octets has at most 59 characters.
const maxWide = 255

var errNotIDN = errors.New("not an internationalized label")

// toASCII returns a field that normalize accepts, with each label beyond ASCII as the A-label of
// RFC 5890: the form of hostnames on the wire, in which the rest of the label is encoded in ASCII
// letters. It leaves other labels unchanged.
func toASCII(buf, field []byte) (name []byte, err error) {
	var ascii, label []byte
	wide, inner := false, false // the label is beyond ASCII; it has a dot in it
	end := func() error {
		switch {
		case !wide:
			for _, c := range label {
				ascii = appendOctet(ascii, c)
			}
		case inner || len(label) > maxWide:
			return errNotIDN
		default:
			s, err := idna.Lookup.ToASCII(string(label))
			if err != nil {
				return err
			}
			if s == "" { // nothing but what IDNA ignores, such as a byte order mark
				return errNotIDN
			}
			ascii = append(ascii, s...)
		}
		label, wide, inner = label[:0], false, false
		return nil
	}
	for i := 0; i < len(field); {
		c, size := field[i], 1
		switch c {
		case '.':
			if err := end(); err != nil {
				return nil, err
			}
			ascii = append(ascii, '.')
			i++
			continue
		case '\\':
			c, size, _ = unescape(field[i:])
			inner = inner || c == '.'
		}
		wide = wide || c >= 0x80
		label = append(label, c)
		i += size
	}
	if err := end(); err != nil {
		return nil, err
	}
	name, wide, fault := normalize(buf, ascii)
	if wide || fault != "" {
		return nil, errNotIDN
	}
	return name, nil
}

// within reports whether name is in one of the zones, or there are no zones.
func within(zones []string, name []byte) bool {
	for _, z := range zones {
		if z == "." || string(name) == z || below(view(name), z) {
			return true
		}
	}
	return len(zones) == 0
}

// below reports whether name is below node. Both are fully qualified, and
// node is not the root.
func below(name, node string) bool {
	dot := len(name) - len(node) - 1
	return dot >= 0 && name[dot] == '.' && name[dot+1:] == node && !escaped(name[:dot])
}

// escaped reports whether the character after s is escaped: an odd number of
// backslashes come before it.
func escaped(s string) bool {
	n := 0
	for n < len(s) && s[len(s)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// parent returns a fully qualified name from the dot after its first label on, or nothing if it has
// only one label.
func parent(name string) string {
	for i := 0; i < len(name)-1; i++ {
		switch name[i] {
		case '\\':
			i++
		case '.':
			return name[i:]
		}
	}
	return ""
}

// above returns a fully qualified name without its first label, or nothing if it has only one. For
// a wildcard, whose record has no asterisk, it returns the part after the dot.
func above(name string) string {
	if p := parent(name); p != "" {
		return p[1:]
	}
	return ""
}
