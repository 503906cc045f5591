package differential

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	discovery "k8s.io/api/discovery/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// allowed is a difference that is meant.
type allowed struct {
	name string
	why  string
	is   func(*difference) bool
}

// differences are all that are meant; plugin/README.md lists them for users.
var differences = []allowed{
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
			right, _ := d.pair.ask(strings.ToLower(d.q.name), d.q.qtype)
			return (d.deniedByStock() || d.isNoData(d.stock)) && sameFolded(right, d.ours)
		},
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
		"the protocol above SRV records is NODATA",
		"_tcp.web.shop.svc stands above the SRV records of its ports (RFC 8020, section 2)",
		func(d *difference) bool {
			label, _, _ := strings.Cut(d.base(), ".")
			return strings.HasPrefix(label, "_") && d.deniedByStock() && d.isNoData(d.ours) && d.existsInStock("_."+d.q.name)
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
			return of && held && !d.deniedByStock() && d.deniedByUs()
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

// allowed returns the name of the allowed difference that d is, or one that it comes of, "" if there is none.
func (d *difference) allowed() string {
	if why := d.listed(); why != "" {
		return why
	}
	for _, name := range d.behind() {
		next := &difference{pair: d.pair, q: question{name, d.q.qtype, plain}}
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

// behind returns the names that a plugin ahead asks for to answer the question. The client that p.ask asks as is no pod,
// so autopath puts nothing behind its names, and it wants no signatures, so that dnssec makes none.
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

// listed returns the name of the allowed difference that d is by itself.
func (d *difference) listed() string {
	all := differences
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

// imported returns the ServiceImport of the name "name.namespace.svc", nil if there is none or the question is in another
// zone.
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

// without returns the records that are not among those.
func without(rrs, those []dns.RR) (rest []dns.RR) {
	l := lines{ttl: true}
	for _, rr := range rrs {
		if !slices.ContainsFunc(those, func(o dns.RR) bool { return l.record(o) == l.record(rr) }) {
			rest = append(rest, rr)
		}
	}
	return rest
}

// endpointIn returns the name of the endpoint that a record is about, in lower case.
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

// zone returns the zone that the question is in, "" if it is in none.
func (d *difference) zone() (zone string) {
	for _, z := range d.pair.config.zonesServed() {
		if dns.IsSubDomain(z, d.name()) && len(z) > len(zone) {
			zone = z
		}
	}
	return zone
}

// base returns what the question has before its zone, in lower case. It is "." outside of all zones.
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

// isDenial reports whether r says that there is nothing, with the SOA record of the question's zone.
func (d *difference) isDenial(r reply, rcode int) bool {
	if r.none || r.Rcode != rcode || len(r.Answer) > 0 || len(r.Ns) != 1 || !r.Authoritative && !d.pair.config.remade {
		return false
	}
	soa, ok := r.Ns[0].(*dns.SOA)
	return ok && strings.EqualFold(soa.Hdr.Name, d.zone())
}

func (d *difference) isNoData(r reply) bool { return d.isDenial(r, dns.RcodeSuccess) }

// denied reports whether r denies the name: NXDOMAIN, or what the plugin behind says where such names fall through.
func (d *difference) denied(r reply) bool {
	return d.isDenial(r, dns.RcodeNameError) || d.pair.config.fallsThrough(d.q.name) && isMark(r)
}

func (d *difference) deniedByStock() bool { return d.denied(d.stock) }
func (d *difference) deniedByUs() bool    { return d.denied(d.ours) }

// existsInStock reports whether stock knows the name as one that exists, when it is asked for an address.
func (d *difference) existsInStock(name string) bool {
	stock, _ := d.pair.ask(name, dns.TypeA)
	return !stock.none && stock.Rcode == dns.RcodeSuccess && !isMark(stock)
}

// bothPoint reports whether both have PTR records for name, though stock may have one that no message can hold.
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

// isMark reports whether r is of the zone that answers behind the plugin.
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

// sameFolded compares the records of two replies without regard to the case of names, nor to TTLs, as the client that
// p.ask asks as may be in another view.
func sameFolded(a, b reply) bool {
	if a.none || b.none || a.Rcode != b.Rcode {
		return false
	}
	fold := func(rrs []dns.RR) (all []string) {
		for _, rr := range rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				all = append(all, strings.ToLower(lines{}.record(rr)))
			}
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(fold(a.Answer), fold(b.Answer)) && slices.Equal(fold(a.Ns), fold(b.Ns)) && slices.Equal(fold(a.Extra), fold(b.Extra))
}

// reverseAddr returns the address that a reverse name stands for.
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
