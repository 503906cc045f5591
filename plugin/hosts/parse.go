package hosts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// MaxSize is the length in octets of the longest file that [Parse] takes. That
// is about 7 million names, in a table of 300 MB.
const MaxSize = 256 << 20

const (
	// maxField is the length of the longest field that is looked at, as in
	// CoreDNS. No name of 255 octets is longer.
	maxField = 1024

	// maxProblems is how many problems are kept with their reasons.
	maxProblems = 10

	// readSize is how much of a line is in memory at once.
	readSize = 64 << 10
)

// Options say which entries of a file count.
type Options struct {
	// Origins are the zones whose names count, lower case and fully
	// qualified. With none, all names do.
	Origins []string

	// NoReverse makes no PTR records.
	NoReverse bool

	// Rest is called every 256 names or so, and may take its time. Nil is
	// no rest.
	Rest func()
}

var (
	errTooLong  = fmt.Errorf("file is longer than %d MiB", MaxSize>>20)
	errTooLarge = errors.New("file has more names or addresses than a table can hold")
)

// Parse reads a hosts file to its end. Lines and names that cannot be used are
// left out and counted, see [Table.Problems]; they are no error. There is an
// error, and no table, only if reading fails or the file is too large: longer
// than [MaxSize], or with so many names that they do not fit 32-bit offsets.
//
// The memory in use while reading does not depend on the length of a line.
func Parse(r io.Reader, o Options) (*Table, error) {
	return parse(r, o, defaults)
}

func parse(r io.Reader, o Options, max limits) (*Table, error) {
	p := parser{origins: o.Origins, line: 1, b: newBuilder(o, max)}
	in := bufio.NewReaderSize(r, readSize)
	for size := 0; ; {
		chunk, err := in.ReadSlice('\n')
		if size += len(chunk); size > max.size {
			return nil, fmt.Errorf("line %d: %w", p.line, errTooLong)
		}
		// A full buffer is all that leaves a line unfinished.
		if perr := p.feed(chunk, err != bufio.ErrBufferFull); perr != nil {
			return nil, perr
		}
		switch err {
		case nil, bufio.ErrBufferFull:
		case io.EOF:
			t := p.b.table()
			t.problems, t.bad = p.problems, p.bad
			return t, nil
		default:
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
	}
}

// parser takes a file in pieces and hands the names and addresses to a builder.
type parser struct {
	b       builder
	origins []string

	line    int
	comment bool   // the rest of the line is a comment
	fields  int    // fields of the line so far
	addr    []byte // the line's address in 4 or 16 octets, nil if it has none
	part    []byte // the beginning of a field that the next piece continues
	long    bool   // that field is longer than maxField, and not in part

	addrBuf [16]byte
	nameBuf []byte

	problems []Problem
	bad      int
}

// feed takes a piece of a line; end tells whether the line ends with it.
func (p *parser) feed(b []byte, end bool) error {
	if p.comment {
		b = nil
	} else if i := bytes.IndexByte(b, '#'); i >= 0 {
		b, p.comment = b[:i], true
	}
	if err := p.split(b, end || p.comment); err != nil {
		return err
	}
	if end {
		p.comment, p.fields, p.addr = false, 0, nil
		p.line++
	}
	return nil
}

// split cuts a piece of a line into fields. A field that runs up to the end of
// the piece goes on in the next one, unless this is the last.
func (p *parser) split(b []byte, last bool) error {
	for len(b) > 0 {
		n := 0
		for n < len(b) && !space(b[n]) {
			n++
		}
		if n == len(b) && !last {
			p.keep(b)
			return nil
		}
		if err := p.field(b[:n]); err != nil {
			return err
		}
		for n < len(b) && space(b[n]) {
			n++
		}
		b = b[n:]
	}
	if last {
		return p.field(nil)
	}
	return nil
}

func space(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// keep adds to the field that the next piece continues.
func (p *parser) keep(b []byte) {
	if p.long || len(p.part)+len(b) > maxField {
		p.long, p.part = true, p.part[:0]
		return
	}
	p.part = append(p.part, b...)
}

// field takes a field, of which an earlier piece may have held the beginning.
// There may be none at all.
func (p *parser) field(b []byte) error {
	long := len(b) > maxField
	if len(p.part) > 0 || p.long {
		p.keep(b)
		b, long = p.part, p.long
		p.part, p.long = p.part[:0], false
	}
	if len(b) == 0 && !long {
		return nil
	}
	p.fields++
	switch {
	case p.fields == 1:
		p.address(b, long)
		return nil
	case p.addr == nil:
		return nil // the line is reported already
	case long:
		p.problem("a name is longer than %d bytes; left out", maxField)
		return nil
	}
	return p.name(b)
}

// address takes the first field of a line.
func (p *parser) address(b []byte, long bool) {
	if long {
		p.problem("the address is longer than %d bytes; line left out", maxField)
		return
	}
	s := b
	if i := bytes.IndexByte(s, '%'); i >= 0 {
		s = s[:i]
	}
	// Only an error holds on to the string, and it is dropped here.
	addr, err := netip.ParseAddr(view(s))
	if err != nil {
		p.problem("%s is not an IP address; line left out", quote(b))
		return
	}
	if addr = addr.Unmap(); addr.Is4() {
		a := addr.As4()
		p.addr = append(p.addrBuf[:0], a[:]...)
		return
	}
	p.addrBuf = addr.As16()
	p.addr = p.addrBuf[:]
}

// name takes one of the names that follow the address.
func (p *parser) name(field []byte) error {
	name, fault := normalize(p.nameBuf, field)
	p.nameBuf = name
	if fault != "" {
		p.problem("%s is not a domain name: %s; left out", quote(field), fault)
		return nil
	}
	if !within(p.origins, name) {
		return nil
	}
	if len(name) > 1 && name[0] == '*' && name[1] == '.' {
		if name = name[1:]; len(name) == 1 {
			p.problem(`"*" names no domain that it is a wildcard of and matches nothing; left out`)
			return nil
		}
	}
	if !p.b.add(name, p.addr) {
		return fmt.Errorf("line %d: %w", p.line, errTooLarge)
	}
	return nil
}

func (p *parser) problem(format string, args ...any) {
	if p.bad++; len(p.problems) < maxProblems {
		p.problems = append(p.problems, Problem{Line: p.line, Reason: fmt.Sprintf(format, args...)})
	}
}

// quote returns a field for a message, cut to a length that suits a log.
func quote(field []byte) string {
	const most = 64
	if len(field) <= most {
		return fmt.Sprintf("%q", field)
	}
	return fmt.Sprintf("%q...", field[:most])
}

// normalize returns a field as a lower-case and fully qualified name, in the
// storage of buf, and why it is none, in a few words. Escapes (\. and \DDD, RFC
// 1035 section 5.1) stay as they are written, and one counts as one octet.
func normalize(buf, field []byte) (name []byte, fault string) {
	name = append(buf[:0], field...)
	for i, c := range name {
		if c >= 0x80 {
			// What CoreDNS does to letters beyond ASCII.
			name = append(name[:0], strings.ToLower(string(field))...)
			break
		}
		if c >= 'A' && c <= 'Z' {
			name[i] = c + 'a' - 'A'
		}
	}
	if string(name) == "." {
		return name, ""
	}

	total, label := 1, 0 // octets on the wire: the root's, and of this label
	for i := 0; i < len(name); i++ {
		if name[i] != '.' {
			label++
			if name[i] == '\\' {
				i += escape(name[i+1:])
			}
			if i == len(name) {
				return name, "nothing follows the backslash"
			}
			if i < len(name)-1 {
				continue
			}
			name = append(name, '.')
			i++
		}
		switch {
		case label == 0:
			return name, "it has an empty label"
		case label > 63:
			return name, "it has a label of more than 63 octets"
		}
		total += 1 + label
		label = 0
	}
	if total > 255 {
		return name, "it has more than 255 octets"
	}
	return name, ""
}

// escape returns how many characters a backslash escapes.
func escape(b []byte) int {
	if len(b) >= 3 && digit(b[0]) && digit(b[1]) && digit(b[2]) {
		return 3
	}
	return 1
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// within tells whether name is in one of the zones; with no zones it is.
func within(zones []string, name []byte) bool {
	for _, z := range zones {
		if z == "." || string(name) == z {
			return true
		}
		dot := len(name) - len(z) - 1
		if dot > 0 && name[dot] == '.' && string(name[dot+1:]) == z && !escaped(name[:dot]) {
			return true
		}
	}
	return len(zones) == 0
}

// escaped tells whether the character after b is escaped: an odd number of
// backslashes come before it.
func escaped[T string | []byte](b T) bool {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// parent returns a fully qualified name from the dot after its first label on,
// or nothing if it has but one label.
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
