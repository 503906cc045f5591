package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// question is a query without its ID.
type question struct {
	name  string
	qtype uint16
	via   variant
}

// variant is the form of a query.
type variant struct {
	tcp   bool
	edns  uint16 // UDP size in the OPT record, 0 for none
	do    bool   // of that record
	rd    bool
	cd    bool
	ad    bool
	class uint16
}

// plain is the variant that gets the whole answer.
var plain = variant{tcp: true, rd: true, class: dns.ClassINET}

// draw returns a random variant: mostly UDP, with all sizes of the OPT record.
func draw(r *rand.Rand) variant {
	v := variant{tcp: r.IntN(8) == 0, rd: r.IntN(4) > 0, cd: r.IntN(16) == 0, ad: r.IntN(16) == 0, class: dns.ClassINET}
	if r.IntN(200) == 0 {
		v.class = pick(r, []uint16{dns.ClassCHAOS, dns.ClassANY, dns.ClassHESIOD, 0})
	}
	if v.edns = pick(r, []uint16{0, 0, 512, 1232, 4096}); v.edns > 0 {
		v.do = r.IntN(2) == 0
	}
	return v
}

func (q question) String() string {
	s := q.name + " "
	if q.via.class != dns.ClassINET {
		s += dns.Class(q.via.class).String() + " "
	}
	s += dns.Type(q.qtype).String()
	for _, f := range []struct {
		on   bool
		name string
	}{{q.via.tcp, "+tcp"}, {!q.via.rd, "+norec"}, {q.via.cd, "+cd"}, {q.via.ad, "+ad"}, {q.via.do, "+dnssec"}} {
		if f.on {
			s += " " + f.name
		}
	}
	if q.via.edns > 0 {
		s += fmt.Sprintf(" +bufsize=%d", q.via.edns)
	}
	return s
}

// pack encodes the query, with an ID of 0.
func (q question) pack() ([]byte, error) {
	m := dns.Msg{
		MsgHdr:   dns.MsgHdr{RecursionDesired: q.via.rd, CheckingDisabled: q.via.cd, AuthenticatedData: q.via.ad},
		Question: []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: q.via.class}},
	}
	if q.via.edns > 0 {
		m.SetEdns0(q.via.edns, q.via.do)
	}
	return m.Pack()
}

// askable reports whether a message can contain name.
func askable(name string) bool {
	if _, ok := dns.IsDomainName(name); !ok || !dns.IsFqdn(name) {
		return false
	}
	var buf [512]byte
	n, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	return err == nil && n <= 255
}

// asker queries one server from one address, on one persistent socket each for UDP and TCP.
type asker struct {
	local, remote string
	udp           net.Conn
	tcp           net.Conn
	id            uint16
}

// dial opens the socket of a network, udp or tcp.
func (a *asker) dial(network string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(a.local)}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(a.local)}
	}
	return d.Dial(network, a.remote)
}

func (a *asker) close() {
	for _, c := range []net.Conn{a.udp, a.tcp} {
		if c != nil {
			c.Close()
		}
	}
	a.udp, a.tcp = nil, nil
}

// ask sends all queries at once and returns the replies, nil for those that do not arrive within
// patience.
func (a *asker) ask(qs []question, patience time.Duration) ([][]byte, error) {
	replies := make([][]byte, len(qs))
	for _, network := range []string{"udp", "tcp"} {
		if err := a.exchange(network, qs, replies, patience); err != nil {
			return nil, err
		}
	}
	return replies, nil
}

// exchange is ask for the queries of one network that have no reply yet.
func (a *asker) exchange(network string, qs []question, replies [][]byte, patience time.Duration) error {
	tcp := network == "tcp"
	var out []byte
	at := make(map[uint16]int)
	var err error
	conn := &a.udp
	if tcp {
		conn = &a.tcp
	}
	for i, q := range qs {
		if q.via.tcp != tcp || replies[i] != nil {
			continue
		}
		if *conn == nil {
			if *conn, err = a.dial(network); err != nil {
				return err
			}
		}
		if len(at) == 0 {
			(*conn).SetDeadline(time.Now().Add(patience))
		}
		wire, err := q.pack()
		if err != nil {
			return fmt.Errorf("%v: %w", q, err)
		}
		a.id++ // a new one each time, so that a late reply does not match another query
		at[a.id] = i
		binary.BigEndian.PutUint16(wire, a.id)
		if tcp {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(wire))), wire...)
		} else if _, err := (*conn).Write(wire); errors.Is(err, os.ErrDeadlineExceeded) {
			return nil // a busy machine: the caller repeats queries without a reply
		} else if err != nil && !refused(err) {
			return err
		}
	}
	if len(at) == 0 {
		return nil
	}
	if tcp {
		if _, err := (*conn).Write(out); err != nil {
			(*conn).Close()
			*conn = nil
			return nil // the server may close a connection; the caller repeats the query
		}
	}
	buf := make([]byte, dns.MaxMsgSize)
	for len(at) > 0 {
		wire, err := read(*conn, tcp, buf)
		if err != nil {
			if tcp { // the rest of the stream is undefined
				(*conn).Close()
				*conn = nil
			}
			return nil
		}
		if len(wire) < 12 {
			continue
		}
		id := binary.BigEndian.Uint16(wire)
		i, ok := at[id]
		if !ok {
			continue
		}
		delete(at, id)
		if tcp { // a connection's queries are answered in order: earlier ones get no reply
			maps.DeleteFunc(at, func(_ uint16, other int) bool { return other < i })
		}
		replies[i] = append([]byte(nil), wire...)
		replies[i][0], replies[i][1] = 0, 0
	}
	return nil
}

func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && strings.Contains(err.Error(), "refused")
}

func read(conn net.Conn, tcp bool, buf []byte) ([]byte, error) {
	if !tcp {
		n, err := conn.Read(buf)
		return buf[:n], err
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return nil, err
	}
	wire := buf[:binary.BigEndian.Uint16(buf)]
	_, err := io.ReadFull(conn, wire)
	return wire, err
}

// both sends the same queries to stock and kubehosts.
type both struct{ stock, ours asker }

func newBoth(p *pair, client string) *both {
	return &both{asker{local: client, remote: p.stock.Addr}, asker{local: client, remote: p.ours.Addr}}
}

func (b *both) close() {
	b.stock.close()
	b.ours.close()
}

// ask returns the replies of both.
func (b *both) ask(qs []question, patience time.Duration) (stock, ours [][]byte, err error) {
	var wg sync.WaitGroup
	var errStock, errOurs error
	wg.Go(func() { stock, errStock = b.stock.ask(qs, patience) })
	wg.Go(func() { ours, errOurs = b.ours.ask(qs, patience) })
	wg.Wait()
	return stock, ours, errors.Join(errStock, errOurs)
}
