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

// transferable are the namespaces except the one whose records stock can't pack, which breaks off its
// transfers.
var transferable = "namespaces default " + strings.Join(slices.DeleteFunc(slices.Clone(namespaces), func(ns string) bool { return ns == broken }), " ")

const transfer = "transfer {\nto *\n}"

var transferred = []*config{
	{name: "default", before: transfer, options: transferable},
	{name: "endpoint_pod_names", before: transfer, options: transferable + "\nendpoint_pod_names\nttl 30"},
	{name: "noendpoints", before: transfer, options: transferable + "\nnoendpoints"},
	{name: "ignore empty_service", before: transfer, options: transferable + "\nignore empty_service"},
	{name: "labels", before: transfer, options: transferable + "\nlabels tier=front"},
	{name: "two zones", before: transfer, zones: "other.test cluster.local in-addr.arpa", options: transferable},
	{name: "zone in a zone", before: transfer, zones: "cluster.local shop.svc.cluster.local 244.10.in-addr.arpa in-addr.arpa", options: transferable},
	{name: "pods verified", before: transfer, options: transferable + "\npods verified\nzonal"},
	{name: "pods insecure", before: transfer, options: transferable + "\npods insecure"},
	{name: "multicluster", before: transfer, zones: "cluster.local clusterset.local", options: transferable + "\nmulticluster clusterset.local"},
}

// A zone transfer has the same records.
func TestTransfer(t *testing.T) {
	start(t)
	all := transferred
	if _, full := questionCount(t); !full {
		random("transfers").Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:5]
	}
	for _, c := range all {
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

// axfr transfers a zone. It drops the SOA record at the end.
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

// set returns records as lines, without duplicates.
func set(rrs []dns.RR) map[string]bool {
	all := make(map[string]bool)
	for _, rr := range rrs {
		all[lines{ttl: true}.record(rr)] = true
	}
	return all
}

// compareZone compares a zone of Services. For a record that only one of them transfers, stock's answers decide.
func (p *pair) compareZone(t *testing.T, zone string) {
	t.Helper()
	ours, theirs := axfr(t, p.ours.Addr, zone), axfr(t, p.stock.Addr, zone)
	p.transferAndAnswers(t, zone, ours)
	more, less := without(ours, theirs), without(theirs, ours)
	p.judgeRecords(t, more, true)
	p.judgeRecords(t, less, false)
	t.Logf("%s: %d records, %d of them not in stock's transfer, which has %d others", zone, len(ours), len(more), len(less))
}

// judgeRecords checks records that only one of them transfers: stock must answer with the records that only kubehosts
// transfers, and must not answer with those that only stock transfers, unless these answers differ intentionally.
func (p *pair) judgeRecords(t *testing.T, rrs []dns.RR, areOurs bool) {
	t.Helper()
	of := make(map[question][]dns.RR)
	for _, rr := range rrs {
		q := question{rr.Header().Name, rr.Header().Rrtype, plain}
		of[q] = append(of[q], rr)
	}
	for q, rrs := range of {
		d := &difference{pair: p, client: nobody, q: q}
		d.stock, d.ours = p.ask(q.name, q.qtype)
		answered := set(d.stock.Answer)
		wrong := slices.IndexFunc(rrs, func(rr dns.RR) bool { return answered[lines{ttl: true}.record(rr)] != areOurs })
		if wrong >= 0 && d.allowed() == "" {
			t.Errorf("in the transfer of kubehosts alone: %v: %v; %s", areOurs, rrs[wrong], d)
		}
	}
}

// transferAndAnswers compares a transfer of kubehosts with its answers: every record is in the answer to a query for
// it, no record is there twice, and every record of the zone in any answer is in the transfer. Exceptions are records
// that can't be listed: names of pods under "pods insecure", names with a topology zone, a port that the query does not
// contain, and names that match a wildcard.
func (p *pair) transferAndAnswers(t *testing.T, zone string, rrs []dns.RR) {
	t.Helper()
	transferred := set(rrs)
	seen := make(map[string]bool)
	for _, rr := range rrs {
		line := lines{ttl: true}.record(rr)
		if seen[line] {
			t.Errorf("%s: twice in the transfer: %s", zone, line)
		}
		seen[line] = true
	}
	asked := make(map[question]bool)
	var qs []question
	_, full := questionCount(t)
	for _, rr := range rrs {
		q := question{rr.Header().Name, rr.Header().Rrtype, plain}
		if !asked[q] && (full || len(qs) < 500) {
			asked[q] = true
			qs = append(qs, q)
		}
	}
	var bad []string
	answered := p.answers(t, zone, qs)
	for _, rr := range rrs {
		line := lines{ttl: true}.record(rr)
		if asked[question{rr.Header().Name, rr.Header().Rrtype, plain}] && !answered[line] {
			bad = append(bad, "in the transfer, and not in the answer: "+line)
		}
	}

	held, known, _ := shared.world.names(random("transfer "+zone), []string{zone}).crossed()
	r := random("answers " + zone)
	qs = qs[:0]
	for _, q := range slices.Concat(held, known) {
		if dns.IsSubDomain(zone, q.name) && q.qtype != dns.TypeAXFR && !strings.Contains(strings.ToLower(q.name), "._zone.") && (full || r.IntN(30) == 0) {
			qs = append(qs, question{q.name, q.qtype, plain})
		}
	}
	answered = p.answers(t, zone, qs)
	for line := range answered {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		name := rr.Header().Name
		insecure := strings.Contains(p.config.options, "pods insecure") && strings.HasSuffix(name, below("pod", zone))
		if !transferred[line] && !insecure && !strings.HasPrefix(name, "_._") && !p.covered(name) && p.zoneOf(name) == zone {
			bad = append(bad, "in an answer, and not in the transfer: "+line)
		}
	}
	for _, text := range bad[:min(len(bad), mostShown)] {
		t.Errorf("%s: %s", zone, text)
	}
	if len(bad) > mostShown {
		t.Errorf("%s: and %d more", zone, len(bad)-mostShown)
	}
	t.Logf("%s: %d records in answers to %d questions", zone, len(answered), len(qs))
}

// covered reports whether a wildcard among the hosts entries answers the name.
func (p *pair) covered(name string) bool {
	at, end := dns.NextLabel(name, 0)
	return !end && slices.Contains(p.config.entries, "*."+name[at:])
}

// zoneOf returns the zone in which kubehosts answers a name, "" for none.
func (p *pair) zoneOf(name string) (zone string) {
	for _, z := range p.config.zonesServed() {
		if dns.IsSubDomain(z, strings.ToLower(name)) && len(z) > len(zone) {
			zone = z
		}
	}
	return zone
}

// answers returns the records in all sections of the replies of kubehosts, as lines in lower case without the serial.
func (p *pair) answers(t *testing.T, zone string, qs []question) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	b := newBoth(p, nobody)
	defer b.close()
	for part := range slices.Chunk(qs, 50) {
		replies := make([][]byte, len(part))
		for range 3 { // the server closes a connection after some queries
			more, err := b.ours.ask(part, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			for i := range replies {
				if replies[i] == nil {
					replies[i] = more[i]
				}
			}
			if !slices.ContainsFunc(replies, func(wire []byte) bool { return wire == nil }) {
				break
			}
		}
		for i, wire := range replies {
			r, err := parse(wire)
			if err != nil || r.none {
				t.Errorf("%v: %v %v", part[i], r, err)
				continue
			}
			for _, rr := range slices.Concat(r.Answer, r.Ns, r.Extra) {
				if rr.Header().Name = strings.ToLower(rr.Header().Name); dns.IsSubDomain(zone, rr.Header().Name) {
					all[lines{ttl: true}.record(fold(rr))] = true
				}
			}
		}
	}
	return all
}

// fold returns rr with the names in its data in lower case.
func fold(rr dns.RR) dns.RR {
	switch v := rr.(type) {
	case *dns.SRV:
		v.Target = strings.ToLower(v.Target)
	case *dns.NS:
		v.Ns = strings.ToLower(v.Ns)
	case *dns.SOA:
		v.Ns, v.Mbox = strings.ToLower(v.Ns), strings.ToLower(v.Mbox)
	}
	return rr
}

// report fails the test for records that only one of them has.
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

// dottedRecord reports whether a record is about an endpoint that stock names after a pod with dots in its name, and
// kubehosts after its address.
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

// compareReverseZone compares the PTR records of a reverse zone with stock's replies to PTR queries: stock's own
// transfer of such a zone has the names of Services, as if they were below it.
func (p *pair) compareReverseZone(t *testing.T, zone string) {
	t.Helper()
	ours := axfr(t, p.ours.Addr, zone)
	p.transferAndAnswers(t, zone, ours)
	names := make(map[string]bool)
	for _, rr := range ours {
		if rr.Header().Rrtype == dns.TypePTR {
			names[rr.Header().Name] = true
		}
	}
	n := shared.world.names(random("transfer"), nil)
	for _, name := range n.real {
		if name == strings.ToLower(name) && p.zoneOf(name) == zone {
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
	maps.DeleteFunc(left, func(text string, _ bool) bool { // addresses without a reply from stock
		rr, _ := dns.NewRR(text)
		a, _ := reverseAddr(rr.Header().Name)
		return shared.world.unowned(a)
	})
	right := set(stock)
	maps.DeleteFunc(right, func(text string, _ bool) bool { return strings.Contains(text, "."+unreachable+".") })
	p.report(t, zone, right, left)
	t.Logf("%s: %d records, %d of them PTR", zone, len(ours), len(pointers))
}

// upToDate requests a transfer of changes newer than the zone: its SOA record is the whole answer (RFC 1995, section
// 2).
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

// belowZone requests a transfer of a name that is not a zone. Stock makes up a zone of that name; kubehosts refuses.
func (p *pair) belowZone(t *testing.T, zone string) {
	t.Helper()
	for _, name := range []string{below("svc", zone), below("web.shop.svc", zone), below("1", zone)} {
		stock, ours := p.ask(name, dns.TypeAXFR)
		if stock.none || stock.Rcode != dns.RcodeSuccess || ours.none || ours.Rcode != dns.RcodeRefused {
			t.Errorf("AXFR of %s: %s from stock, %s from kubehosts", name, dns.RcodeToString[stock.Rcode], dns.RcodeToString[ours.Rcode])
		}
	}
}
