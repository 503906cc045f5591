package cluster

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Client sends all queries to one server from one socket: a new socket for each query would fill the
// connection-tracking table.
type Client struct{ conn *dns.Conn }

// patience is how long Client waits for a reply.
const patience = 2 * time.Second

// Dial opens a socket to addr, network being udp or tcp. It is closed with the test.
func Dial(t testing.TB, network, addr string) *Client {
	t.Helper()
	conn, err := dns.DialTimeout(network, addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	conn.UDPSize = dns.MaxMsgSize
	t.Cleanup(func() { conn.Close() })
	return &Client{conn}
}

// Ask sends one query, without EDNS, and waits up to 2 seconds for the reply.
func (c *Client) Ask(name string, qtype uint16) (*dns.Msg, error) {
	return c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype))
}

// Exchange sends a query and waits up to 2 seconds for the reply.
func (c *Client) Exchange(q *dns.Msg) (*dns.Msg, error) {
	c.conn.SetDeadline(time.Now().Add(patience))
	if err := c.conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		m, err := c.conn.ReadMsg()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", q.Question[0].Name, dns.TypeToString[q.Question[0].Qtype], err)
		}
		if m.Id == q.Id {
			return m, nil
		}
	}
}

// Close closes the client before the end of the test.
func (c *Client) Close() { c.conn.Close() }

// Text formats a reply as lines to compare: first the RCODE, with aa, tc and ra if they are set, then a line for each
// record, prefixed by its section unless that is the answer: "NOERROR aa", "web.shop.svc.cluster.local. 5 IN A
// 10.96.7.10", "authority: cluster.local. 5 IN SOA ...". Records are sorted within their section, blanks are single,
// and the serial of a SOA, a time, is replaced by SERIAL.
func Text(m *dns.Msg) string {
	head := dns.RcodeToString[m.Rcode]
	if m.Authoritative {
		head += " aa"
	}
	if m.Truncated {
		head += " tc"
	}
	if m.RecursionAvailable {
		head += " ra"
	}
	lines := []string{head}
	lines = append(lines, section("", m.Answer)...)
	lines = append(lines, section("authority: ", m.Ns)...)
	lines = append(lines, section("additional: ", m.Extra)...)
	return strings.Join(lines, "\n")
}

func section(name string, rrs []dns.RR) (lines []string) {
	for _, rr := range rrs {
		f := strings.Fields(rr.String())
		if rr.Header().Rrtype == dns.TypeSOA {
			f[6] = "SERIAL"
		}
		lines = append(lines, name+strings.Join(f, " "))
	}
	slices.Sort(lines)
	return lines
}

// get fetches a page of one of coredns's HTTP servers.
func get(url string) (code int, body string, err error) {
	res, err := (&http.Client{Timeout: patience}).Get(url)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}
