package differential

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	discovery "k8s.io/api/discovery/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// allowed is an intended difference.
type allowed struct {
	name string
	why  string
	is   func(*difference) bool
}

// differences are all intended differences; plugin/README.md lists them for users.
var differences []allowed

func init() { // some check whether another one applies at the end of an alias
	differences = servicesDifferences
}

var servicesDifferences = []allowed{
	{
		"classes other than IN and ANY are the next plugin's",
		"there are no records of these; stock answers as if IN were asked for, where a plugin such as chaos or forward lets the question in",
		func(d *difference) bool {
			other := d.q.via.class != dns.ClassINET && d.q.via.class != dns.ClassANY
			passedOn := !d.ours.none && d.ours.Rcode == dns.RcodeServerFailure && len(d.ours.Answer) == 0 && !d.ours.Authoritative
			return other && (passedOn || isMark(d.ours))
		},
	},
	{
		"TXT of a name that exists is NODATA",
		"stock's NXDOMAIN denies the name for all types (RFC 2308, section 2.1; RFC 8020, section 2)",
		func(d *difference) bool {
			return d.q.qtype == dns.TypeTXT && d.deniedByStock() && d.isNoData(d.ours) && d.existsInStock(d.q.name)
		},
	},
	{
		"SOA of a missing name is NXDOMAIN",
		"as it is for all other types; stock says NODATA (RFC 2308, section 2)",
		func(d *difference) bool {
			return d.q.qtype == dns.TypeSOA && d.isNoData(d.stock) && d.deniedByUs() && !d.existsInStock(d.q.name)
		},
	},
	{
		"dns-version exists for all types",
		"RFC 8020, section 2",
		func(d *difference) bool {
			return d.base() == "dns-version" && d.q.qtype != dns.TypeTXT && d.deniedByStock() && d.isNoData(d.ours)
		},
	},
	{
		"ns.dns and dns exist for all types",
		"one is the name server of the SOA record, the other stands above it (RFC 8020, section 2)",
		func(d *difference) bool {
			return slices.Contains([]string{"ns.dns", "dns"}, d.base()) && d.deniedByStock() && d.isNoData(d.ours)
		},
	},
	{
		"ns.dns, an alias of it and a zone's NS records are found in any case",
		"names are compared without regard to case (RFC 4343, section 3); stock compares these as they are written",
		func(d *difference) bool {
			named := d.base() == "ns.dns" || d.base() == "" && d.q.qtype == dns.TypeNS || leadsToServer(d.ours)
			if !named || d.q.name == strings.ToLower(d.q.name) {
				return false
			}
			lower := &difference{pair: d.pair, client: nobody, q: question{strings.ToLower(d.q.name), d.q.qtype, plain}}
			lower.stock, lower.ours = d.pair.ask(lower.q.name, d.q.qtype)
			return (d.deniedByStock() || d.isNoData(d.stock)) && sameFolded(lower.ours, d.ours) &&
				(sameFolded(lower.stock, d.ours) || lower.listed() != "")
		},
	},
	{
		"a zone's name servers are names that it has",
		"stock gives the names of Services, which it denies in a reverse zone, in one of ServiceImports and in a namespace that is not served, " +
			"or none at all (RFC 1034, section 4.2.1)",
		func(d *difference) bool { return d.fromOwnServers() },
	},
	{
		"a reverse name with a PTR record is NODATA for other types",
		"stock's NXDOMAIN denies the PTR record as well (RFC 2308, section 2)",
		func(d *difference) bool {
			_, ok := reverseAddr(d.q.name)
			return ok && d.q.qtype != dns.TypePTR && d.deniedByStock() && d.isNoData(d.ours) && d.bothPoint(d.q.name)
		},
	},
	{
		"a name in ip6.arpa with more than 32 nibbles is NXDOMAIN",
		"stock drops up to three labels and answers for the address that is left (RFC 3596, section 2.5)",
		func(d *difference) bool {
			labels := dns.SplitDomainName(strings.ToLower(d.q.name))
			if len(labels) < 35 || len(labels) > 37 || d.q.qtype != dns.TypePTR {
				return false
			}
			a, ok := reverseAddr(strings.Join(labels[len(labels)-34:], ".") + ".")
			return ok && (len(d.stock.Answer) > 0 || d.stock.none && (d.zone() == "." || shared.world.unowned(a))) && d.deniedByUs()
		},
	},
	{
		"an alias ends as its target does",
		"whatever type is asked for, rcode, records and authority are those of the target (RFC 1034, section 3.6.2; RFC 6604; RFC 2308, section 2.1); " +
			"stock follows A, AAAA and TXT alone, and answers NODATA, or the CNAME record alone, where there is no such record at the end",
		func(d *difference) bool { return d.endsAsTarget() },
	},
	{
		"an alias is all that a question for any type gets",
		"it is what the name has (RFC 1034, section 3.6.2); stock says NODATA",
		func(d *difference) bool {
			alias, _ := d.whole(dns.TypeCNAME)
			return d.q.qtype == dns.TypeANY && d.isNoData(d.stock) && isAlias(alias) && sameFolded(alias, d.ours)
		},
	},
	{
		"an alias whose end cannot be found out is SERVFAIL",
		"as is the question for its target, or else there are too many aliases; stock answers NODATA, or the CNAME record alone, which is cached as such",
		func(d *difference) bool { return d.endsNowhere() },
	},
	{
		"a name above reverse names is NODATA",
		"it exists because the names of addresses below it do (RFC 8020, section 2); stock says NXDOMAIN",
		func(d *difference) bool { return d.deniedByStock() && d.isNoData(d.ours) && d.abovePointers() },
	},
	{
		"the protocol above SRV records is NODATA",
		"_tcp.web.shop.svc stands above the SRV records of its ports (RFC 8020, section 2)",
		func(d *difference) bool {
			label, _, _ := strings.Cut(d.base(), ".")
			return strings.HasPrefix(label, "_") && d.deniedByStock() && d.isNoData(d.ours) && d.existsInStock("_."+d.q.name)
		},
	},
	{
		"the names above topology zones are NODATA",
		"pin._zone.db.shop.svc stands above the names of endpoints in a zone (RFC 8020, section 2); stock says NXDOMAIN",
		func(d *difference) bool {
			left, owner, zonal := strings.Cut(d.base(), "_zone.")
			above := zonal && strings.Contains(d.pair.config.options, "zonal") && slices.Contains([]string{"", "pin.", "prefer."}, left)
			return above && d.deniedByStock() && d.isNoData(d.ours) && d.existsInStock("any.pin._zone."+below(owner, d.zone()))
		},
	},
	{
		"SRV of a pod's name is NODATA",
		"stock answers with port 0, where no Service has a port (RFC 2782; specification, section 2.2)",
		func(d *difference) bool {
			if d.q.qtype != dns.TypeSRV || !strings.HasSuffix(d.base(), ".pod") || !d.isNoData(d.ours) || !isPositive(d.stock) {
				return false
			}
			return !slices.ContainsFunc(d.stock.Answer, func(rr dns.RR) bool { return rr.(*dns.SRV).Port != 0 })
		},
	},
	{
		"an ExternalName that fits no message is NXDOMAIN",
		"stock's reply cannot be packed (RFC 1035, section 2.3.4)",
		func(d *difference) bool {
			return strings.TrimPrefix(d.base(), "_._.") == "long."+broken+".svc" && (d.stock.none || d.isNoData(d.stock)) && d.deniedByUs()
		},
	},
	{
		"an alias of such an ExternalName is NODATA, or its own CNAME record where the target is in another zone",
		"stock's reply holds the CNAME record of the target, and cannot be packed either",
		func(d *difference) bool {
			return strings.TrimPrefix(d.base(), "_._.") == "to-long."+broken+".svc" && d.stock.none && (d.isNoData(d.ours) || isAlias(d.ours))
		},
	},
	{
		"an EndpointSlice of a Service whose name is no label is not served",
		"no query can reach the Service; stock still has PTR records of its endpoints",
		func(d *difference) bool {
			if d.stock.none && d.zone() == "." {
				a, _ := reverseAddr(d.q.name)
				return d.q.qtype == dns.TypePTR && d.deniedByUs() && shared.world.has(unreachable, a)
			}
			if d.stock.none || d.ours.none || d.q.qtype != dns.TypePTR {
				return false
			}
			only, more := without(d.stock.Answer, d.ours.Answer), without(d.ours.Answer, d.stock.Answer)
			return len(only) > 0 && len(more) == 0 && (len(d.ours.Answer) > 0 || d.deniedByUs()) &&
				!slices.ContainsFunc(only, func(rr dns.RR) bool { return !strings.Contains(endpointIn(rr), "."+strings.ToLower(unreachable)+".") })
		},
	},
	{
		"an EndpointSlice without a Service has no PTR record",
		"stock's has an empty label and cannot be packed (RFC 1035, section 2.3.4)",
		func(d *difference) bool {
			a, _ := reverseAddr(d.q.name)
			return d.q.qtype == dns.TypePTR && d.stock.none && shared.world.unowned(a)
		},
	},
	{
		"names in an EndpointSlice of addressType FQDN are not served",
		"the API gives them no meaning and has deprecated them; stock makes CNAME records of them",
		func(d *difference) bool {
			left, of := strings.CutSuffix(d.base(), fqdnOwner+".svc")
			if of && strings.HasSuffix(left, ".prefer._zone.") {
				return isPositive(d.stock) && d.isNoData(d.ours)
			}
			held := left == "" || strings.HasPrefix(left, "_") || slices.Contains(fqdnLabels, strings.TrimSuffix(left, "."))
			return of && held && !d.deniedByStock() && (d.deniedByUs() || d.isNoData(d.ours) && d.aboveEntry())
		},
	},
	{
		"under endpoint_pod_names, an endpoint whose pod's name has dots is called after its address",
		"no query finds it by the several labels that stock makes of the name",
		func(d *difference) bool {
			if !strings.Contains(d.pair.config.options, "endpoint_pod_names") {
				return false
			}
			if asked := shared.world.dotted(strings.TrimSuffix(d.base(), ".svc")); asked || d.deniedByStock() {
				return asked
			}
			whole := *d
			if d.stock.Truncated || d.ours.Truncated {
				whole.stock, whole.ours = d.pair.ask(d.q.name, d.q.qtype)
			}
			onlyStock, onlyOurs := whole.records()
			return !slices.ContainsFunc(onlyStock, func(rr dns.RR) bool { return !strings.HasPrefix(endpointIn(rr), dottedPod+".") }) &&
				!slices.ContainsFunc(onlyOurs, func(rr dns.RR) bool {
					name := endpointIn(rr)
					return !shared.world.dotted(name[:max(0, strings.LastIndex(name, ".svc."))])
				})
		},
	},
	{
		"an address that a slice has in two topology zones is in both",
		"in stock the last of the slice counts for all of them, and with the weight of all",
		func(d *difference) bool {
			_, owner, zonal := strings.Cut(strings.TrimSuffix(d.base(), ".svc"), "._zone.")
			return zonal && inTwoZones(shared.api, owner)
		},
	},
	{
		"a ServiceImport without ports has its addresses",
		"as a Service has; stock says NXDOMAIN",
		func(d *difference) bool {
			i := d.imported(strings.TrimPrefix(d.base(), "_._."))
			return i != nil && len(i.Spec.Ports) == 0 && i.Spec.Type == mcs.ClusterSetIP && d.deniedByStock() && !d.deniedByUs()
		},
	},
	{
		"a port of a ServiceImport without a protocol is TCP",
		"says the API, which leaves it to the reader to fill in",
		func(d *difference) bool {
			left, owner, _ := strings.Cut(d.base(), "_tcp.")
			i := d.imported(owner)
			return i != nil && strings.Count(left, ".") < 2 && d.deniedByStock() && !d.deniedByUs() &&
				slices.ContainsFunc(i.Spec.Ports, func(p mcs.ServicePort) bool { return p.Protocol == "" })
		},
	},
	{
		"an imported EndpointSlice without a cluster has SRV records",
		"stock's have an empty label in its place and cannot be packed (RFC 1035, section 2.3.4)",
		func(d *difference) bool {
			return d.q.qtype == dns.TypeSRV && d.inMulticluster() && d.stock.none && isPositive(d.ours) &&
				slices.ContainsFunc(shared.world.slices, func(s *discovery.EndpointSlice) bool {
					return s.Labels[mcs.LabelSourceCluster] == "" && strings.HasSuffix(d.base(), s.Labels[mcs.LabelServiceName]+"."+s.Namespace+".svc")
				})
		},
	},
	{
		"the cluster above imported endpoints is NODATA",
		"names of endpoints are below it (RFC 8020, section 2)",
		func(d *difference) bool {
			from, owner, _ := strings.Cut(d.base(), ".")
			return d.imported(owner) != nil && d.deniedByStock() && d.isNoData(d.ours) &&
				shared.world.exports(from, strings.TrimSuffix(owner, ".svc"))
		},
	},
	{
		"with noendpoints there are no imported endpoints",
		"the option is to do without EndpointSlices; stock watches those of other clusters all the same",
		func(d *difference) bool {
			return strings.Contains(d.pair.config.options, "noendpoints") && d.inMulticluster() && d.deniedByUs() && !d.deniedByStock()
		},
	},
	{
		"the root zone has PTR and SRV records, and ns.dns",
		"stock's records have an empty label at their end and cannot be packed (RFC 1035, section 2.3.4), nor does it find ns.dns for that",
		func(d *difference) bool {
			if d.pair.config.zones == "." && (d.base() == "ns.dns" || leadsToServer(d.ours)) {
				return (d.deniedByStock() || d.isNoData(d.stock)) && isPositive(d.ours)
			}
			return d.pair.config.zones == "." && (d.q.qtype == dns.TypePTR || d.q.qtype == dns.TypeSRV) && d.stock.none && isPositive(d.ours)
		},
	},
	{
		"a server that is bound to addresses has them as its name server's",
		"stock knows its addresses only where it listens on all of them, and leaves out those of loopback",
		func(d *difference) bool {
			base := d.base()
			return d.pair.config.bind != "" && (base == "" && d.q.qtype == dns.TypeNS || base == "ns.dns" || leadsToServer(d.ours)) &&
				(d.isNoData(d.stock) || d.deniedByStock()) && isPositive(d.ours)
		},
	},
}

// allowed returns the name of the intended difference that explains d, directly or at the end of an alias, ""
// if there is none.
func (d *difference) allowed() string {
	if why := d.listed(); why != "" {
		return why
	}
	for _, name := range d.behind() {
		next := &difference{pair: d.pair, client: nobody, q: question{name, d.q.qtype, plain}}
		next.stock, next.ours = d.pair.ask(name, d.q.qtype)
		if sameReply(next.stock, next.ours, lines{ttl: true}) {
			continue
		}
		if why := next.listed(); why != "" {
			return why
		}
	}
	return ""
}

// whole returns the replies of both to the question with another type. For the same type these are the replies of d,
// unless they are truncated.
func (d *difference) whole(qtype uint16) (stock, ours reply) {
	if qtype == d.q.qtype && !d.stock.Truncated && !d.ours.Truncated {
		return d.stock, d.ours
	}
	return d.ask(d.q.name, qtype)
}

// endsAsTarget reports whether the question's name is an alias, kubehosts answers it like one of its targets, and stock
// stops before that target, or both answer for the target with an intended difference.
func (d *difference) endsAsTarget() bool {
	stock, ours := d.whole(d.q.qtype)
	right, own := d.whole(dns.TypeCNAME)
	if !isAlias(own) || !sameFolded(right, own) {
		return false
	}
	target, rest, ok := nextAlias(d.q.name, ours)
	if !ok || !strings.EqualFold(target, own.Answer[0].(*dns.CNAME).Target) {
		return false
	}
	for ; ok; target, rest, ok = nextAlias(target, rest) {
		next := &difference{pair: d.pair, client: d.client, q: question{target, d.q.qtype, plain}}
		next.stock, next.ours = d.ask(target, d.q.qtype)
		if end := next.ours; !sameFolded(rest, end) && !(d.pair.config.minimal && sameRecords(rest, end) && rest.Rcode == end.Rcode) {
			continue
		}
		short := d.isNoData(stock) || d.deniedByStock() || stock.Rcode == dns.RcodeSuccess && within(stock, ours)
		return short && sameFolded(next.stock, next.ours) || next.listed() != ""
	}
	return false
}

// nextAlias returns the target of owner's CNAME record in r, and the other records of r.
func nextAlias(owner string, r reply) (target string, rest reply, ok bool) {
	i := slices.IndexFunc(r.Answer, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeCNAME && strings.EqualFold(rr.Header().Name, owner)
	})
	if i < 0 {
		return "", r, false
	}
	target = r.Answer[i].(*dns.CNAME).Target
	r.Answer = slices.Delete(slices.Clone(r.Answer), i, i+1)
	return target, r, true
}

// within reports whether b has all records of a's answer section.
func within(a, b reply) bool {
	all := folded(b.Answer)
	return !slices.ContainsFunc(folded(a.Answer), func(line string) bool { return !slices.Contains(all, line) })
}

// endsNowhere reports whether the question's name is an alias that leads in a circle, through too many names, or to a
// target without an answer in kubehosts.
func (d *difference) endsNowhere() bool {
	_, ours := d.whole(d.q.qtype)
	if ours.none || ours.Rcode != dns.RcodeServerFailure || len(ours.Answer) > 0 {
		return false
	}
	end, aliases, zones := d.q.name, 0, 0
	for ; aliases <= maxAliases && zones <= maxDepth; aliases++ {
		right, own := d.ask(end, dns.TypeCNAME)
		if !isAlias(own) || !sameFolded(right, own) {
			break
		}
		target := own.Answer[0].(*dns.CNAME).Target
		if d.pair.zoneOf(target) != d.pair.zoneOf(end) {
			zones++
		}
		end = target
	}
	if aliases > maxAliases || zones > maxDepth {
		return true
	}
	_, ours = d.ask(end, d.q.qtype)
	return aliases > 0 && (ours.none || ours.Rcode != dns.RcodeSuccess && ours.Rcode != dns.RcodeNameError)
}

// The maximum numbers of consecutive CNAME records, within a zone and out of zones.
const (
	maxAliases = 10
	maxDepth   = 8
)

// abovePointers reports whether the question's name is above the reverse name of an address with a PTR record in both.
func (d *difference) abovePointers() bool {
	suffix := "." + strings.ToLower(d.name())
	return slices.ContainsFunc(d.pair.reverseNames(), func(name string) bool {
		return strings.HasSuffix(name, suffix) && d.bothPoint(name)
	})
}

// behind returns the names that a preceding plugin queries to answer the question. The client of p.ask is not a pod, so
// autopath appends nothing to its names, and it requests no signatures, so dnssec makes none.
func (d *difference) behind() []string {
	name := strings.ToLower(d.q.name)
	for _, namespace := range d.pair.config.search {
		first := namespace + ".svc.cluster.local."
		if strings.HasSuffix(name, "."+first) {
			base := d.q.name[:len(name)-len(first)]
			names := []string{d.q.name, base + "svc.cluster.local.", base + "cluster.local.", base}
			return slices.DeleteFunc(names, func(name string) bool { return !askable(name) })
		}
	}
	if d.pair.config.signed {
		return []string{d.q.name}
	}
	return nil
}

// listed returns the name of the intended difference that d matches directly.
func (d *difference) listed() string {
	all := slices.Concat(d.pair.config.also, differences)
	if d.pair.config.hosts {
		all = hostsDifferences
	}
	for i := range all {
		if all[i].is(d) {
			return all[i].name
		}
	}
	return ""
}

// inMulticluster reports whether the question is in a zone of ServiceImports.
func (d *difference) inMulticluster() bool { return d.zone() == "clusterset.local." }

// imported returns the ServiceImport of the name "name.namespace.svc", nil if there is none or the question is in
// another zone.
func (d *difference) imported(name string) *mcs.ServiceImport {
	for _, i := range shared.world.imports {
		if d.inMulticluster() && i.Name+"."+i.Namespace+".svc" == name {
			return i
		}
	}
	return nil
}

// records returns the records that only one of the replies has.
func (d *difference) records() (stock, ours []dns.RR) {
	if d.stock.none || d.ours.none || d.stock.Rcode != d.ours.Rcode || len(d.stock.Ns) != len(d.ours.Ns) {
		return []dns.RR{nil}, []dns.RR{nil}
	}
	of := func(m reply) []dns.RR { return append(slices.Clone(m.Answer), m.Extra...) }
	return without(of(d.stock), of(d.ours)), without(of(d.ours), of(d.stock))
}

// without returns the records of rrs that are not in those.
func without(rrs, those []dns.RR) (rest []dns.RR) {
	seen := set(those)
	for _, rr := range rrs {
		if !seen[lines{ttl: true}.record(rr)] {
			rest = append(rest, rr)
		}
	}
	return rest
}

// endpointIn returns the name of the endpoint in a record, in lower case.
func endpointIn(rr dns.RR) string {
	switch v := rr.(type) {
	case *dns.PTR:
		return strings.ToLower(v.Ptr)
	case *dns.SRV:
		return strings.ToLower(v.Target)
	case *dns.NS:
		return strings.ToLower(v.Ns)
	case *dns.A, *dns.AAAA:
		return strings.ToLower(v.Header().Name)
	}
	return ""
}

// zone returns the zone of the question, "" if it is in none.
func (d *difference) zone() (zone string) {
	for _, z := range d.pair.config.zonesServed() {
		if dns.IsSubDomain(z, d.name()) && len(z) > len(zone) {
			zone = z
		}
	}
	return zone
}

// base returns the question's name without its zone, in lower case. It is "." outside all zones.
func (d *difference) base() string {
	zone := d.zone()
	if zone == "" {
		return "."
	}
	return strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(d.name()), zone), ".")
}

// name is the name as the plugin sees it.
func (d *difference) name() string {
	if d.pair.config.means != nil {
		return d.pair.config.means(d.q.name)
	}
	return d.q.name
}

// isDenial reports whether r is a denial, with the SOA record of the question's zone.
func (d *difference) isDenial(r reply, rcode int) bool {
	if r.none || r.Rcode != rcode || len(r.Answer) > 0 || len(r.Ns) != 1 || !r.Authoritative && !d.pair.config.remade {
		return false
	}
	soa, ok := r.Ns[0].(*dns.SOA)
	return ok && strings.EqualFold(soa.Hdr.Name, d.zone())
}

// ask queries both again, from the same client.
func (d *difference) ask(name string, qtype uint16) (stock, ours reply) {
	return d.pair.askAs(d.client, name, qtype)
}

func (d *difference) isNoData(r reply) bool { return d.isDenial(r, dns.RcodeSuccess) }

// denied reports whether r denies the name: NXDOMAIN, or the answer of the next plugin for names that fall through.
func (d *difference) denied(r reply) bool {
	return d.isDenial(r, dns.RcodeNameError) || d.pair.config.fallsThrough(d.q.name) && isMark(r)
}

func (d *difference) deniedByStock() bool { return d.denied(d.stock) }
func (d *difference) deniedByUs() bool    { return d.denied(d.ours) }

// existsInStock reports whether the name exists in stock, according to an address query.
func (d *difference) existsInStock(name string) bool {
	stock, _ := d.pair.ask(name, dns.TypeA)
	return !stock.none && stock.Rcode == dns.RcodeSuccess && !isMark(stock)
}

// fromOwnServers reports whether kubehosts has name servers for the zone, all with addresses, and stock has none, or
// some that it denies. In stock, ns.dns has no address if there are none.
func (d *difference) fromOwnServers() bool {
	switch {
	case !isPositive(d.ours):
		return false
	case d.base() == "ns.dns":
		stock, _ := d.pair.ask(d.zone(), dns.TypeNS)
		return d.isNoData(d.stock) && !isPositive(stock)
	case d.base() != "" || d.q.qtype != dns.TypeNS:
		return false
	}
	for _, rr := range d.ours.Answer {
		if v4, v6 := d.addressesOf(rr.(*dns.NS).Ns); !v4 && !v6 {
			return false
		}
	}
	left := without(d.stock.Answer, d.ours.Answer)
	return (len(left) > 0 || d.isNoData(d.stock)) && !slices.ContainsFunc(left, func(rr dns.RR) bool {
		stock, _ := d.pair.ask(rr.(*dns.NS).Ns, dns.TypeA)
		return !stock.none && stock.Rcode != dns.RcodeNameError && !isMark(stock)
	})
}

// addressesOf reports whether kubehosts has addresses for name.
func (d *difference) addressesOf(name string) (v4, v6 bool) {
	_, a := d.pair.ask(name, dns.TypeA)
	_, aaaa := d.pair.ask(name, dns.TypeAAAA)
	return isPositive(a), isPositive(aaaa)
}

// bothPoint reports whether both have PTR records for name, though one of stock's may not fit into a message.
func (d *difference) bothPoint(name string) bool {
	stock, ours := d.pair.ask(strings.ToLower(name), dns.TypePTR)
	a, _ := reverseAddr(name)
	return (isPositive(stock) || stock.none && (d.zone() == "." || shared.world.unowned(a))) && isPositive(ours)
}

func isAlias(r reply) bool {
	return !r.none && len(r.Answer) == 1 && r.Answer[0].Header().Rrtype == dns.TypeCNAME
}

// leadsToServer reports whether r is an alias of the zone's name server.
func leadsToServer(r reply) bool {
	return isPositive(r) && slices.ContainsFunc(r.Answer, func(rr dns.RR) bool {
		c, ok := rr.(*dns.CNAME)
		return ok && strings.HasPrefix(strings.ToLower(c.Target), "ns.dns.")
	})
}

func isPositive(r reply) bool { return !r.none && len(r.Answer) > 0 && !isMark(r) }

// isMark reports whether r comes from the zone behind the plugin.
func isMark(r reply) bool {
	if r.none {
		return false
	}
	for _, rr := range append(slices.Clone(r.Answer), r.Ns...) {
		switch v := rr.(type) {
		case *dns.A:
			return v.A.String() == markAddr
		case *dns.AAAA:
			return v.AAAA.String() == "2001:db8::99"
		case *dns.TXT:
			return v.Txt[0] == "mark"
		case *dns.PTR:
			return v.Ptr == "mark."
		case *dns.SOA:
			return v.Ns == "mark."
		case *dns.NS:
			return v.Ns == "mark."
		}
	}
	return false
}

// sameFolded compares the records of two replies regardless of case, and of TTLs, as the client of p.ask may be in
// another view.
func sameFolded(a, b reply) bool {
	if a.none || b.none || a.Rcode != b.Rcode {
		return false
	}
	return slices.Equal(folded(a.Answer), folded(b.Answer)) && slices.Equal(folded(a.Ns), folded(b.Ns)) && slices.Equal(folded(a.Extra), folded(b.Extra))
}

// sameRecords compares the records of the answer sections like sameFolded.
func sameRecords(a, b reply) bool { return slices.Equal(folded(a.Answer), folded(b.Answer)) }

// folded returns records as lines in lower case, without TTLs, sorted.
func folded(rrs []dns.RR) (all []string) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			all = append(all, strings.ToLower(lines{}.record(rr)))
		}
	}
	slices.Sort(all)
	return all
}

// reverseAddr returns the address of a reverse name.
func reverseAddr(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	labels := dns.SplitDomainName(name)
	slices.Reverse(labels)
	var text string
	switch {
	case len(labels) == 6 && labels[1] == "in-addr":
		text = strings.Join(labels[2:], ".")
	case len(labels) == 34 && labels[1] == "ip6":
		for i := 2; i < 34; i += 4 {
			text += strings.Join(labels[i:i+4], "") + ":"
		}
		text = strings.TrimSuffix(text, ":")
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, false
	}
	again, err := dns.ReverseAddr(a.String())
	return a, err == nil && (again == name || a.Is4In6())
}
