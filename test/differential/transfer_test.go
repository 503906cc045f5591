package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// transferable are the namespaces less the one whose records stock cannot pack, which breaks its transfers off.
var transferable = "namespaces default " + strings.Join(slices.DeleteFunc(slices.Clone(namespaces), func(ns string) bool { return ns == broken }), " ")

const transfer = "transfer {\nto *\n}"

var transferred = []*config{
	{name: "default", before: transfer, options: transferable},
	{name: "endpoint_pod_names", before: transfer, options: transferable + "\nendpoint_pod_names\nttl 30"},
	{name: "noendpoints", before: transfer, options: transferable + "\nnoendpoints"},
	{name: "ignore empty_service", before: transfer, options: transferable + "\nignore empty_service"},
	{name: "labels", before: transfer, options: transferable + "\nlabels tier=front"},
	{name: "two zones", before: transfer, zones: "other.test cluster.local in-addr.arpa", options: transferable},
}

// A zone that is transferred whole holds the same records.
func TestTransfer(t *testing.T) {
	start(t)
	for _, c := range transferred {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			p := run(t, c)
			for _, zone := range c.zonesServed() {
				if strings.HasSuffix(zone, "arpa.") {
					p.compareReverseZone(t, zone)
				} else {
					p.compareZone(t, zone)
				}
				p.upToDate(t, zone)
				p.belowZone(t, zone)
			}
		})
	}
}

// axfr transfers a zone. The records are without the SOA at the end.
func axfr(t *testing.T, addr, zone string) []dns.RR {
	t.Helper()
	m := new(dns.Msg).SetAxfr(zone)
	envelopes, err := (&dns.Transfer{DialTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second}).In(m, addr)
	if err != nil {
		t.Fatal(err)
	}
	var all []dns.RR
	for e := range envelopes {
		if e.Error != nil {
			t.Fatalf("transfer of %s: %v", zone, e.Error)
		}
		all = append(all, e.RR...)
	}
	last := len(all) - 1
	if last < 1 || all[0].Header().Rrtype != dns.TypeSOA || all[last].Header().Rrtype != dns.TypeSOA {
		t.Fatalf("transfer of %s does not begin and end with a SOA record: %v", zone, all)
	}
	return all[:last]
}

// set returns records as lines, each once.
func set(rrs []dns.RR) map[string]bool {
	all := make(map[string]bool)
	for _, rr := range rrs {
		all[lines{ttl: true}.record(rr)] = true
	}
	return all
}

// compareZone compares a zone of Services. Two differences are meant: stock has SRV records of port 65535 for Services
// without ports, which stands for none; and its addresses of name servers have a TTL of 0, and come again with their own
// where the name server is a Service.
func (p *pair) compareZone(t *testing.T, zone string) {
	t.Helper()
	ttl := uint32(0)
	var stock, ours []dns.RR
	ours = axfr(t, p.ours.Addr, zone)
	for _, rr := range ours {
		if ns, ok := rr.(*dns.NS); ok {
			ttl = ns.Hdr.Ttl
		}
	}
	portless, untimed := 0, 0
	for _, rr := range axfr(t, p.stock.Addr, zone) {
		if srv, ok := rr.(*dns.SRV); ok && srv.Port == 65535 { // which no Service of ours has
			portless++
			continue
		}
		if rr.Header().Ttl == 0 {
			untimed++
			rr.Header().Ttl = ttl
		}
		stock = append(stock, rr)
	}
	p.report(t, zone, set(stock), set(ours))
	t.Logf("%s: %d records, %d of stock's for no port, %d of stock's without a TTL", zone, len(ours), portless, untimed)
}

// report fails the test for records that only one has.
func (p *pair) report(t *testing.T, zone string, stock, ours map[string]bool) {
	t.Helper()
	only := func(who string, these, those map[string]bool) {
		n := 0
		for _, rr := range slices.Sorted(maps.Keys(these)) {
			if those[rr] || p.dottedRecord(rr) {
				continue
			}
			if n++; n <= mostShown {
				t.Errorf("%s: only %s has %s", zone, who, rr)
			}
		}
		if n > mostShown {
			t.Errorf("and %d more", n-mostShown)
		}
	}
	only("stock", stock, ours)
	only("kubehosts", ours, stock)
}

// dottedRecord reports whether a record is about an endpoint that is called after a pod whose name has dots in stock, and
// after its address in kubehosts.
func (p *pair) dottedRecord(text string) bool {
	if !strings.Contains(p.config.options, "endpoint_pod_names") {
		return false
	}
	rr, err := dns.NewRR(text)
	if err != nil {
		return false
	}
	name := endpointIn(rr)
	return strings.HasPrefix(name, dottedPod+".") || shared.world.dotted(name[:max(0, strings.LastIndex(name, ".svc."))])
}

// compareReverseZone compares the PTR records of a reverse zone with the replies of stock to PTR questions: its own
// transfer of such a zone holds the names of Services, as if they were below it.
func (p *pair) compareReverseZone(t *testing.T, zone string) {
	t.Helper()
	ours := axfr(t, p.ours.Addr, zone)
	names := make(map[string]bool)
	for _, rr := range ours {
		if rr.Header().Rrtype == dns.TypePTR {
			names[rr.Header().Name] = true
		}
	}
	n := shared.world.names(random("transfer"), nil)
	for _, name := range n.real {
		if name == strings.ToLower(name) && dns.IsSubDomain(zone, name) {
			names[name] = true
		}
	}
	var stock []dns.RR
	b := newBoth(p, clients[0])
	defer b.close()
	for part := range slices.Chunk(slices.Sorted(maps.Keys(names)), 50) {
		var qs []question
		for _, name := range part {
			if a, _ := reverseAddr(name); !shared.world.unowned(a) {
				qs = append(qs, question{name, dns.TypePTR, plain})
			}
		}
		replies, err := b.stock.ask(qs, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for i, wire := range replies {
			r, err := parse(wire)
			if err != nil || r.none {
				t.Fatalf("%v: %v %v", qs[i], r, err)
			}
			stock = append(stock, r.Answer...)
		}
	}
	pointers := slices.DeleteFunc(slices.Clone(ours), func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypePTR })
	left := set(pointers)
	maps.DeleteFunc(left, func(text string, _ bool) bool { // addresses that stock gives no reply for
		rr, _ := dns.NewRR(text)
		a, _ := reverseAddr(rr.Header().Name)
		return shared.world.unowned(a)
	})
	right := set(stock)
	maps.DeleteFunc(right, func(text string, _ bool) bool { return strings.Contains(text, "."+unreachable+".") })
	p.report(t, zone, right, left)
	t.Logf("%s: %d records, %d of them PTR", zone, len(ours), len(pointers))
}

// upToDate asks for a transfer of what is newer than the zone: its SOA record is all of the answer (RFC 1995, section 2).
func (p *pair) upToDate(t *testing.T, zone string) {
	t.Helper()
	for who, addr := range map[string]string{"stock": p.stock.Addr, "kubehosts": p.ours.Addr} {
		soa := axfr(t, addr, zone)[0].(*dns.SOA)
		m := new(dns.Msg).SetIxfr(zone, soa.Serial, soa.Ns, soa.Mbox)
		c := dns.Client{Net: "tcp", Timeout: 10 * time.Second}
		r, _, err := c.Exchange(m, addr)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(r.Answer), fmt.Sprint([]dns.RR{soa}); got != want {
			t.Errorf("IXFR of %s at its own serial from %s: %s, want %s", zone, who, got, want)
		}
	}
}

// belowZone asks for a transfer of a name that is no zone. Stock makes up a zone of that name; kubehosts refuses.
func (p *pair) belowZone(t *testing.T, zone string) {
	t.Helper()
	for _, name := range []string{below("svc", zone), below("web.shop.svc", zone), below("1", zone)} {
		stock, ours := p.ask(name, dns.TypeAXFR)
		if stock.none || stock.Rcode != dns.RcodeSuccess || ours.none || ours.Rcode != dns.RcodeRefused {
			t.Errorf("AXFR of %s: %s from stock, %s from kubehosts", name, dns.RcodeToString[stock.Rcode], dns.RcodeToString[ours.Rcode])
		}
	}
}
