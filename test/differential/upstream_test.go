package differential

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// upTargets are the names of the test's own server, one for each way in which an alias may end. Both use it through
// forward.
var upTargets = []string{"all.up.test", "nodata.up.test", "nx.up.test", "fail.up.test", "refused.up.test", "alias.up.test", "into.up.test", "empty.up.test"}

// upRecords are the records of all.up.test.
var upRecords = map[uint16]string{
	dns.TypeA: "192.0.2.44", dns.TypeAAAA: "2001:db8::44", dns.TypeTXT: `"up"`, dns.TypeMX: "10 mail.up.test.",
	dns.TypeSRV: "1 2 3 all.up.test.", dns.TypeHTTPS: `1 . alpn="h2"`, dns.TypeCAA: `0 issue "up.test"`, dns.TypePTR: "up.test.",
}

// startUpstream starts that server and returns its address. It ends with the process.
func startUpstream(t testing.TB) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: conn}, {Listener: ln}} {
		s.Handler = dns.HandlerFunc(answerUpstream)
		go func() { _ = s.ActivateAndServe() }()
	}
	return conn.LocalAddr().String()
}

func answerUpstream(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	q := r.Question[0]
	label, _, _ := strings.Cut(strings.ToLower(q.Name), ".")
	add := func(owner, rdata string, rrtype uint16) {
		if rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN %s %s", owner, dns.TypeToString[rrtype], rdata)); err == nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	deny := func(rcode int) {
		soa, _ := dns.NewRR("up.test. 60 IN SOA ns.up.test. host.up.test. 1 2 3 4 60")
		m.Rcode, m.Ns = rcode, []dns.RR{soa}
	}
	all := func(owner string) {
		if rdata := upRecords[q.Qtype]; rdata != "" {
			add(owner, rdata, q.Qtype)
		} else {
			deny(dns.RcodeSuccess)
		}
	}
	switch label {
	case "all":
		all(q.Name)
	case "alias":
		if add(q.Name, "all.up.test.", dns.TypeCNAME); q.Qtype != dns.TypeCNAME && q.Qtype != dns.TypeANY {
			all("all.up.test.")
		}
	case "into":
		add(q.Name, "web.shop.svc.cluster.local.", dns.TypeCNAME)
	case "nodata":
		deny(dns.RcodeSuccess)
	case "empty": // NODATA without a SOA record, like from small servers
	case "fail":
		m.Rcode = dns.RcodeServerFailure
	case "refused":
		m.Rcode = dns.RcodeRefused
	default:
		deny(dns.RcodeNameError)
	}
	_ = w.WriteMsg(m)
}
