package differential

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// entriesTTL is the TTL of hosts entries; nothing else has this TTL.
const entriesTTL = 77

// entriesIn draws hosts lines with names in the zones: the names of Services, endpoints and pods, names above and
// below them, the zones' own names, and unused names. Their addresses are new, or belong to Services and endpoints.
// names has the name of each entry.
func (w *world) entriesIn(r *rand.Rand) (lines []string, names []string) {
	all := []string{
		"cluster.local", "in-addr.arpa", "ns.dns.cluster.local", "dns-version.cluster.local", "svc.cluster.local", "pod.cluster.local", "dns.cluster.local",
		"a.ns.dns.cluster.local", "shop.svc.cluster.local", "missing.svc.cluster.local", "x.missing.svc.cluster.local", "db.corp.cluster.local", "a.b.c.d.cluster.local",
		"*.apps.cluster.local", "own-0.apps.cluster.local", "own-1.apps.cluster.local", "own-2.apps.cluster.local", "*.wild.shop.svc.cluster.local", "_tcp.wild.shop.svc.cluster.local", "10-1-2-3.shop.pod.cluster.local",
		"kubernetes.default.svc.cluster.local", "kube-dns.prod.svc.cluster.local", "dns-0.kube-dns-headless.shop.svc.cluster.local", "chain-14.shop.svc.cluster.local",
		"alias-3.shop.svc.cluster.local", "hop-10.shop.svc.cluster.local", "1.0.96.10.in-addr.arpa", "77.77.10.in-addr.arpa", "router.9.10.in-addr.arpa",
		"one.ext.test", "outside.example", "*.example",
	}
	for _, s := range w.services {
		owner := s.Name + "." + s.Namespace + ".svc.cluster.local"
		if s.Name+"."+s.Namespace == fqdnOwner { // a difference of its own
			continue
		}
		switch r.IntN(8) {
		case 0, 1:
			all = append(all, owner)
		case 2:
			all = append(all, "below."+owner)
		case 3:
			for _, p := range s.Spec.Ports[:min(1, len(s.Spec.Ports))] {
				all = append(all, "_"+p.Name+"._"+strings.ToLower(string(p.Protocol))+"."+owner)
			}
		case 4:
			all = append(all, "*."+owner)
		}
	}
	for _, s := range w.slices {
		if owner := s.Labels["kubernetes.io/service-name"]; owner != "" && owner != unreachable && r.IntN(3) == 0 {
			for _, ep := range s.Endpoints[:min(2, len(s.Endpoints))] {
				all = append(all, dashed(ep.Addresses[0])+"."+owner+"."+s.Namespace+".svc.cluster.local")
			}
		}
	}
	for i, name := range all {
		addrs := []string{fmt.Sprintf("10.77.%d.%d", i/256, i%256), fmt.Sprintf("fd00:77::%x", i+1)}
		switch n := r.IntN(4); {
		case strings.HasPrefix(name, "*"): // of both families
		case n == 0, strings.HasPrefix(name, "own"):
			addrs = addrs[:1]
		case n == 1:
			addrs = addrs[1:]
		case n == 2:
			if s := pick(r, w.services); len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] != "None" {
				addrs = append(addrs, s.Spec.ClusterIPs...)
			}
		}
		for _, a := range addrs {
			lines = append(lines, a+" "+name)
		}
		names = append(names, dns.Fqdn(name))
	}
	return lines, names
}

// Hosts entries inside zones get the same answers as those of the hosts plugin before kubernetes, and form one zone
// with the names of Services. In kubehosts they are in several files.
func TestHostsInZones(t *testing.T) {
	_, w := start(t)
	r := random("hosts in zones")
	lines, names := w.entriesIn(r)
	dir := t.TempDir()
	cluster.WriteFile(t, filepath.Join(dir, "all"), strings.Join(lines, "\n")+"\n")
	files := make([]string, 3)
	for _, line := range lines {
		files[r.IntN(len(files))] += line + "\n"
	}
	for i, text := range files {
		cluster.WriteFile(t, filepath.Join(dir, fmt.Sprintf("%d.hosts", i)), text)
	}
	const text = ".:PORT {\nready READY\nBIND\n" + transfer + "\n%s\n}\n" + upstream
	options := "kubeconfig KUBECONFIG\n" + transferable + "\n"
	c := &config{name: "hosts in zones", also: inZoneDifferences, entries: names}
	p := runBoth(t, c, fmt.Sprintf(text, fmt.Sprintf("hosts %s/all {\nttl %d\nfallthrough\n}\nkubernetes %s {\n%s}", dir, entriesTTL, "cluster.local in-addr.arpa ip6.arpa", options)),
		fmt.Sprintf(text, fmt.Sprintf("kubehosts %s {\n%shosts %s/*.hosts {\nttl %d\n}\n}", "cluster.local in-addr.arpa ip6.arpa", options, dir, entriesTTL)))

	n := &namer{w: w, r: random("names of entries"), seen: make(map[string]bool)}
	for i, name := range names {
		at, end := dns.NextLabel(name, 0)
		n.have(name, strings.Replace(name, "*", "x", 1))
		if n.add("x." + name); end {
			continue
		}
		n.add(name[at:], "x."+name[at:], "*."+name[at:])
		for _, a := range []string{fmt.Sprintf("10.77.%d.%d", i/256, i%256), fmt.Sprintf("fd00:77::%x", i+1)} {
			reverse, _ := dns.ReverseAddr(a)
			n.have(reverse)
			if i%7 == 0 {
				n.near(reverse)
			}
		}
	}
	n.services("cluster.local.")
	n.addresses()
	_, full := questionCount(t)
	asked := 3000
	if full {
		asked = 40_000
	}
	s := p.compare(t, slices.DeleteFunc(n.questions(asked), isTransfer))
	s.report(t)
	for _, a := range inZoneDifferences {
		t.Logf("%8d times: %s - %s", s.uses[a.name], a.name, a.why)
		if s.uses[a.name] == 0 && full {
			t.Errorf("allowed and never seen: %s", a.name)
		}
	}
	for _, zone := range p.config.zonesServed() {
		rrs := axfr(t, p.ours.Addr, zone)
		p.transferAndAnswers(t, zone, rrs)
		p.transferHasEntries(t, zone, rrs)
	}
}

// transferHasEntries fails the test if the transfer of a zone lacks one of its entries.
func (p *pair) transferHasEntries(t *testing.T, zone string, rrs []dns.RR) {
	t.Helper()
	held := make(map[string]bool)
	for _, rr := range rrs {
		if rr.Header().Ttl == entriesTTL {
			held[rr.Header().Name] = true
		}
	}
	n := 0
	for _, name := range p.config.entries {
		if p.zoneOf(name) != zone {
			continue
		}
		if n++; !held[name] {
			t.Errorf("%s: the transfer lacks the hosts entry %s", zone, name)
		}
	}
	t.Logf("%s: %d names of hosts entries in the zone", zone, n)
}

// inZoneDifferences are the additional intended differences for hosts entries in a zone.
var inZoneDifferences []allowed

func init() { // some check whether another one applies at the end of an alias
	inZoneDifferences = []allowed{
		{
			"NODATA of a hosts entry in a zone has the zone's SOA record",
			"RFC 2308, section 2.2; without it a resolver does not remember the answer",
			func(d *difference) bool { return isEmpty(d.stock) && d.isNoData(d.ours) && d.entry(d.q.name) },
		},
		{
			"a hosts entry is NODATA for each type that it lacks",
			"it is all that the name has; stock asks Services, or denies the name (RFC 2308, section 2)",
			func(d *difference) bool {
				return d.q.qtype != dns.TypeA && d.q.qtype != dns.TypeAAAA && d.isNothing(d.ours) && d.entry(d.q.name)
			},
		},
		{
			"SOA and NS of a zone stay beside a hosts entry with the zone's name",
			"a zone has them (RFC 1034, section 4.2.1); stock has only the entry",
			func(d *difference) bool {
				apex := d.base() == "" && (d.q.qtype == dns.TypeSOA || d.q.qtype == dns.TypeNS)
				return apex && isEmpty(d.stock) && isPositive(d.ours) && d.exact(d.q.name)
			},
		},
		{
			"a name above hosts entries in a zone is NODATA",
			"it exists because they do (RFC 8020, section 2)",
			func(d *difference) bool { return d.deniedByStock() && d.isNoData(d.ours) && d.aboveEntry() },
		},
		{
			"the addresses of an SRV record's target, and of a name server, are those of its hosts entry",
			"as in the answer to a question for them; stock has those of the Service",
			func(d *difference) bool {
				stock, ours := d.whole(d.q.qtype)
				if !isPositive(ours) || !sameRecords(stock, ours) || !slices.ContainsFunc(ours.Extra, isEntry) {
					return false
				}
				return !slices.ContainsFunc(ours.Extra, func(rr dns.RR) bool {
					if rr.Header().Rrtype == dns.TypeOPT {
						return false
					}
					_, own := d.pair.ask(rr.Header().Name, rr.Header().Rrtype)
					return !within(reply{Msg: dns.Msg{Answer: []dns.RR{rr}}}, own)
				})
			},
		},
		{
			"an alias of a hosts entry ends there",
			"as a question for the target does; stock goes on to the Service of that name, or finds nothing",
			func(d *difference) bool {
				_, ours := d.whole(d.q.qtype)
				target, rest, ok := nextAlias(d.q.name, ours)
				for ; ok; target, rest, ok = nextAlias(target, rest) {
					if _, own := d.ask(target, d.q.qtype); d.entry(target) && sameFolded(rest, own) {
						return true
					}
				}
				return false
			},
		},
		{
			"the owner name is spelled as in the question",
			"stock's is in lower case, which resolvers that check the case of a reply do not like",
			func(d *difference) bool {
				return d.q.name != strings.ToLower(d.q.name) && sameFolded(d.stock, d.ours) && d.entryOrReverse()
			},
		},
		{
			"an exact name hides the wildcard that covers it",
			"stock takes the wildcard's addresses for a family that the name lacks (RFC 4592, section 3.3.1)",
			func(d *difference) bool {
				at, end := dns.NextLabel(d.q.name, 0)
				return !end && isPositive(d.stock) && d.isNothing(d.ours) && d.exact(d.q.name) && d.exact("*."+d.q.name[at:])
			},
		},
		{
			"a wildcard covers only names that do not exist",
			"stock's also covers names of objects and names above entries (RFC 4592, section 2.2.2)",
			func(d *difference) bool {
				at, end := dns.NextLabel(d.q.name, 0)
				stock, ours := d.whole(d.q.qtype)
				return !end && d.exact("*."+d.q.name[at:]) && !d.exact(d.q.name) && (isEmpty(stock) || slices.ContainsFunc(stock.Answer, isEntry)) &&
					(isPositive(ours) || d.isNoData(ours)) && !slices.ContainsFunc(ours.Answer, isEntry)
			},
		},
		{
			"a reverse name of a hosts entry's address is NODATA for other types",
			"stock denies the name, or has what Services make of it (RFC 2308, section 2)",
			func(d *difference) bool {
				_, ours := d.pair.ask(d.q.name, dns.TypePTR)
				return d.q.qtype != dns.TypePTR && d.isNothing(d.ours) && slices.ContainsFunc(ours.Answer, isEntry)
			},
		},
	}
}

// isEntry reports whether a record comes from a hosts entry.
func isEntry(rr dns.RR) bool { return rr.Header().Ttl == entriesTTL }

// isNothing reports whether r is NODATA, in a zone or outside all zones.
func (d *difference) isNothing(r reply) bool {
	if d.zone() == "" {
		return isEmpty(r)
	}
	return d.isNoData(r)
}

// exact reports whether a hosts entry has the name itself.
func (d *difference) exact(name string) bool {
	return slices.Contains(d.pair.config.entries, strings.ToLower(name))
}

// entry reports whether both answer for the name from a hosts entry.
func (d *difference) entry(name string) bool {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		stock, ours := d.pair.ask(name, qtype)
		if slices.ContainsFunc(stock.Answer, isEntry) && slices.ContainsFunc(ours.Answer, isEntry) {
			return true
		}
	}
	return false
}

// entryOrReverse reports whether the answer comes from a hosts entry.
func (d *difference) entryOrReverse() bool { return slices.ContainsFunc(d.ours.Answer, isEntry) }

// aboveEntry reports whether a hosts entry, or the reverse name of its address, is below the question's name.
func (d *difference) aboveEntry() bool {
	suffix := "." + strings.ToLower(d.q.name)
	for i, name := range d.pair.config.entries {
		for _, a := range []string{fmt.Sprintf("10.77.%d.%d", i/256, i%256), fmt.Sprintf("fd00:77::%x", i+1)} {
			if reverse, _ := dns.ReverseAddr(a); strings.HasSuffix(reverse, suffix) {
				return true
			}
		}
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
