package hosts

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/kubehosts/kubehosts/plugin/domain"
)

// MaxSize is the length in octets of the longest file that [Parse] accepts. That is about 7 million
// names, in a table of 300 MB.
const MaxSize = 256 << 20

const (
	// maxField is the length of the longest field that is read, as in CoreDNS. No name of 255 octets
	// is longer.
	maxField = 1024

	// maxProblems is the number of problems that are stored with their reasons.
	maxProblems = 10

	// readSize is the length of the part of a line that is in memory at once.
	readSize = 64 << 10
)

// Options select the entries of a file that count.
type Options struct {
	// Origins are the zones whose names count, lower case and fully qualified.
	// If it is empty, all names count.
	Origins []string

	// NoReverse makes no PTR records.
	NoReverse bool

	// Pause is called about every 256 names. It may sleep, so that a long file
	// leaves the CPU to others. It may be nil.
	Pause func()
}

var (
	errTooLong  = fmt.Errorf("file is longer than %d MiB", MaxSize>>20)
	errTooLarge = errors.New("file has more names or addresses than a table can hold")
	errUTF16    = errors.New("file is UTF-16, by the byte order mark at its beginning: save it as UTF-8")
)

// Parse reads a hosts file to its end. A line ends with LF, CR, or CRLF. Lines and names that can't
// be used are left out and counted, see [Table.Problems]; they are not errors. It returns an error,
// and no table, only if reading fails, if the file is UTF-16, or if it is too large: longer than
// [MaxSize], or with so many names that they do not fit into 32-bit offsets.
//
// The memory in use while reading does not depend on the length of a line.
func Parse(r io.Reader, o Options) (*Table, error) {
	return parse(r, o, defaults)
}

func parse(r io.Reader, o Options, max limits) (*Table, error) {
	p := parser{origins: normalizeAll(o.Origins), line: 1, b: newBuilder(o, max)}
	sum := sha256.New()
	if err := p.read(io.TeeReader(r, sum), max); err != nil {
		return nil, err
	}
	t := p.table()
	sum.Sum(t.sum[:0])
	return t, nil
}

// read reads the whole file.
func (p *parser) read(r io.Reader, max limits) error {
	in := bufio.NewReaderSize(r, readSize)
	if mark, _ := in.Peek(2); string(mark) == "\xff\xfe" || string(mark) == "\xfe\xff" {
		return errUTF16
	}
	for size := 0; ; {
		chunk, err := in.ReadSlice('\n')
		if size += len(chunk); size > max.size {
			return fmt.Errorf("line %d: %w", p.line, errTooLong)
		}
		// Only a full buffer leaves a line unfinished.
		if perr := p.feed(chunk, err != bufio.ErrBufferFull); perr != nil {
			return perr
		}
		switch err {
		case nil, bufio.ErrBufferFull:
		case io.EOF:
			return nil
		default:
			return fmt.Errorf("line %d: %w", p.line, err)
		}
	}
}

// normalizeAll returns zones in the form of the table's names. One that is not a domain name stays
// unchanged: no name is in it.
func normalizeAll(zones []string) []string {
	all := slices.Clone(zones)
	for i, z := range zones {
		if name, _, fault := domain.Normalize(nil, []byte(z)); fault == "" {
			all[i] = string(name)
		}
	}
	return all
}

// parser reads a file in pieces and passes the names and addresses to a builder.
type parser struct {
	b       builder
	origins []string

	line    int
	returns int    // CRs since the end of the previous line; line does not count them yet
	comment bool   // the rest of the line is a comment
	fields  int    // fields of the line so far
	addr    []byte // the line's address in 4 or 16 octets, nil if it has none
	part    []byte // the beginning of a field that continues in the next piece
	long    bool   // the field is longer than maxField, and not in part

	addrBuf [16]byte
	nameBuf []byte

	// For Find: called with each name and its address instead of building a
	// table.
	seen func(name, addr []byte)

	problems, warnings faults
}

// faults are the first few faults to report, and the total number.
type faults struct {
	first []Problem
	n     int
}

// table returns the table of the entries read.
func (p *parser) table() *Table {
	t := p.b.table()
	t.problems, t.warnings = p.problems, p.warnings
	return t
}

// feed processes a piece of the file, which contains nothing after an LF. end reports whether the
// last line in it ends with it.
func (p *parser) feed(b []byte, end bool) error {
	lf := len(b) > 0 && b[len(b)-1] == '\n'
	if lf {
		b = b[:len(b)-1]
	}
	for {
		piece := b
		cr := bytes.IndexByte(b, '\r')
		if cr >= 0 {
			piece = b[:cr]
		}
		if len(piece) > 0 {
			p.line += p.returns // no LF follows these, so each of them ended a line
			p.returns = 0
		}
		if err := p.piece(piece, end || cr >= 0); err != nil {
			return err
		}
		if cr < 0 {
			break
		}
		p.returns++
		b = b[cr+1:]
	}
	if lf {
		p.line++
		p.returns = 0
	}
	return nil
}

// piece processes a piece of a line. end reports whether the line ends with it.
func (p *parser) piece(b []byte, end bool) error {
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
	}
	return nil
}

// split splits a piece of a line into fields. A field at the end of the piece continues in the next
// one, unless this is the last.
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

// keep adds to the field that continues in the next piece.
func (p *parser) keep(b []byte) {
	if p.long || len(p.part)+len(b) > maxField {
		p.long, p.part = true, p.part[:0]
		return
	}
	p.part = append(p.part, b...)
}

// field processes a field, or the rest of one that began in an earlier piece. It may be empty.
func (p *parser) field(b []byte) error {
	long := len(b) > maxField
	if len(p.part) > 0 || p.long {
		p.keep(b)
		b, long = p.part, p.long
		p.part, p.long = p.part[:0], false
	}
	if p.fields == 0 {
		// Editors put a byte order mark before the first line. In concatenated files, it comes before
		// other lines.
		b = bytes.TrimPrefix(b, []byte("\ufeff"))
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
		return nil // the line was reported
	case long:
		p.problem("a name is longer than %d bytes; left out", maxField)
		return nil
	}
	return p.name(b)
}

// address processes the first field of a line.
func (p *parser) address(b []byte, long bool) {
	if long {
		p.problem("the address is longer than %d bytes; line left out", maxField)
		return
	}
	s := b
	if i := bytes.IndexByte(s, '%'); i >= 0 {
		s = s[:i]
	}
	// Only an error refers to the string, and the error is dropped here.
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

// name processes one of the names that follow the address.
func (p *parser) name(field []byte) error {
	name, wide, fault := domain.Normalize(p.nameBuf, field)
	p.nameBuf = name
	if wide {
		return p.wideName(field, name, fault)
	}
	if fault != "" {
		p.problem("%s is not a domain name: %s; left out", quote(field), fault)
		return nil
	}
	_, err := p.add(field, name, true)
	return err
}

// wideName processes a name beyond ASCII. It is served by its own octets, and by the ASCII form
// that most clients use, which is also the PTR target.
func (p *parser) wideName(field, name []byte, fault string) error {
	ascii, err := domain.ToASCII(nil, field)
	switch {
	case err != nil && fault != "":
		p.problem("%s is not a domain name: %s; left out", quote(field), fault)
		return nil
	case err != nil:
		p.warn("%s is not a valid internationalized name; served only as its octets", quote(field))
		_, err := p.add(field, name, true)
		return err
	}
	pointed, err := p.add(field, ascii, true)
	if err != nil || fault != "" { // a label may be too long in its octets but have an ASCII form that fits
		return err
	}
	_, err = p.add(field, name, !pointed)
	return err
}

// add adds the line's address to the name in a field, unless the name is in none of the zones. With
// pointer, PTR records of the address lead to the name.
func (p *parser) add(field, name []byte, pointer bool) (added bool, err error) {
	if !within(p.origins, name) {
		return false, nil
	}
	if len(name) > 1 && name[0] == '*' && name[1] == '.' {
		if len(name) == 2 {
			p.problem(`"*" is a wildcard without a domain and matches nothing; left out`)
			return false, nil
		}
		name = name[1:]
	}
	if p.seen != nil {
		p.seen(name, p.addr)
		return true, nil
	}
	if bytes.IndexByte(name, '*') >= 0 && pointer {
		p.warn(`%s has a "*" that is not its whole first label, so it is not a wildcard; served as written`, quote(field))
	}
	if !p.b.add(name, p.addr, pointer) {
		return false, fmt.Errorf("line %d: %w", p.line, errTooLarge)
	}
	return true, nil
}

func (p *parser) problem(format string, args ...any) { p.problems.add(p.line, format, args...) }

func (p *parser) warn(format string, args ...any) { p.warnings.add(p.line, format, args...) }

func (f *faults) add(line int, format string, args ...any) {
	if f.n++; len(f.first) < maxProblems {
		f.first = append(f.first, Problem{Line: line, Reason: fmt.Sprintf(format, args...)})
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
