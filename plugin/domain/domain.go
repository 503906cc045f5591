// Package domain reads domain names as people and programs write them.
//
// Names are compared in their wire form. So this package returns a name in the presentation form that the DNS library
// uses for a question's name: octets that are not printable ASCII are \DDD, and a few printable ones are escaped with a
// backslash. Each name has one such form, so two strings are equal if and only if the names have the same octets.
package domain

import (
	"errors"

	"golang.org/x/net/idna"
)

// Parse returns the name in text in lower case, fully qualified and in the form of a question's name, and reports
// whether it has octets beyond ASCII, for which [ASCII] returns another form. The text may have escapes (RFC 1035,
// section 5.1). The error says what is wrong with it: a label of more than 63 octets, an empty label, more than 255
// octets, a space or a control character that is not escaped.
func Parse(text string) (name string, wide bool, err error) {
	if text == "" {
		return "", false, errors.New("it is empty")
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c <= ' ' || c == 0x7f:
			return "", false, errors.New("it has a space or a control character")
		}
	}
	b, wide, fault := Normalize(nil, []byte(text))
	if fault != "" {
		return "", wide, errors.New(fault)
	}
	return string(b), wide, nil
}

// ASCII returns the name in text in the form in which hostnames are on the wire: with labels beyond ASCII as A-labels
// (RFC 5890, section 2.3.2.1). The error means that one of them has no such form.
func ASCII(text string) (string, error) {
	b, err := ToASCII(nil, []byte(text))
	return string(b), err
}

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

// Normalize is Parse for text without spaces, with the name in the storage of buf, and its fault in a few words. Only
// ASCII letters become lower case (RFC 4343). wide reports whether the text has an octet beyond ASCII, even if there is
// a fault.
func Normalize(buf, text []byte) (name []byte, wide bool, fault string) {
	name = buf[:0]
	if string(text) == "." {
		return append(name, '.'), false, ""
	}
	total, label := 1, 0 // octets on the wire: with the root's, and of this label
	for i := 0; i < len(text); {
		c, size := text[i], 1
		switch shapes[c] {
		case plain:
			for i+size < len(text) && shapes[text[i+size]] == plain {
				size++
			}
			name = append(name, text[i:i+size]...)
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
			if c, size, wrong = unescape(text[i:]); wrong != "" {
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

// ToASCII is ASCII for text without spaces, with the name in the storage of buf. It leaves labels of ASCII unchanged.
func ToASCII(buf, text []byte) (name []byte, err error) {
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
	for i := 0; i < len(text); {
		c, size := text[i], 1
		switch c {
		case '.':
			if err := end(); err != nil {
				return nil, err
			}
			ascii = append(ascii, '.')
			i++
			continue
		case '\\':
			var wrong string
			if c, size, wrong = unescape(text[i:]); wrong != "" {
				return nil, errNotIDN
			}
			inner = inner || c == '.'
		}
		wide = wide || c >= 0x80
		label = append(label, c)
		i += size
	}
	if err := end(); err != nil {
		return nil, err
	}
	name, wide, fault := Normalize(buf, ascii)
	if wide || fault != "" {
		return nil, errNotIDN
	}
	return name, nil
}
