package answer

import (
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

// Question is the question of a query. Names are in the presentation form of miekg/dns, fully qualified.
type Question struct {
	Name  string // as in the query
	Lower string // in lower case
	Type  uint16
	Class uint16
}

// NewQuestion returns the Question for a name as in the query, a type and a class.
func NewQuestion(name string, qtype, class uint16) Question {
	return Question{Name: name, Lower: ToLower(name), Type: qtype, Class: class}
}

// ours reports whether this server has records of the class.
func (q *Question) ours() bool { return q.Class == dns.ClassINET || q.Class == dns.ClassANY }

// transfer reports whether the question asks for a zone transfer.
func (q *Question) transfer() bool { return q.Type == dns.TypeAXFR || q.Type == dns.TypeIXFR }

// ToLower is strings.ToLower, eight bytes at a time. Nearly every name is in lower case already. Checking that byte by
// byte took 8 % of the time of an answer.
func ToLower(name string) string {
	if len(name) < 8 {
		return strings.ToLower(name)
	}
	for at := 0; at < len(name); at += 8 {
		at := min(at, len(name)-8)
		x := binary.LittleEndian.Uint64([]byte(name[at : at+8]))
		const ones = 0x0101010101010101
		// The top bit of each byte: of x beyond ASCII, from 'A' on, and after 'Z'.
		if beyond, from, behind := x, x+(0x80-'A')*ones, x+(0x80-'Z'-1)*ones; (beyond|from&^behind)&(0x80*ones) != 0 {
			return strings.ToLower(name)
		}
	}
	return name
}
