package differential

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
)

// types are the types queried for every name: those that the plugins support, others, and a private one.
var types = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeCNAME, dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeSOA,
	dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY, dns.TypeCAA, dns.TypeNAPTR, dns.TypeDS, dns.TypeDNSKEY, dns.TypeAXFR, 65280,
}

// questions draws queries from all combinations: a third are for records that should exist, a sixth for other types
// of these names, the rest for all other names.
func (n *namer) questions(count int) []question {
	held, known, other := n.crossed()
	all := n.draw(held, count/3)
	all = append(all, n.draw(known, count/6)...)
	all = append(all, n.draw(other, count-len(all))...)
	n.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// crossed returns all combinations of names and types: names that should have records with these types, and with all
// types; and the other names.
func (n *namer) crossed() (held, known, other []question) {
	for _, name := range n.real {
		records := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeCNAME}
		if strings.HasSuffix(name, ".arpa.") {
			records = []uint16{dns.TypePTR}
		}
		held = append(held, cross(name, records)...)
		known = append(known, cross(name, types)...)
	}
	for _, name := range n.other {
		other = append(other, cross(name, types)...)
	}
	return held, known, other
}

func cross(name string, types []uint16) (all []question) {
	for _, qtype := range types {
		all = append(all, question{name: name, qtype: qtype})
	}
	return all
}

// draw returns count queries, each once or, if there are fewer, several times.
func (n *namer) draw(from []question, count int) (all []question) {
	for len(from) > 0 && len(all) < count {
		n.r.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
		all = append(all, from[:min(len(from), count-len(all))]...)
	}
	for i := range all {
		all[i].via = draw(n.r)
	}
	return all
}

// namer collects the names to query for a world.
type namer struct {
	w     *world
	r     *rand.Rand
	seen  map[string]bool
	real  []string // names that should have records
	other []string
}

// names collects names to query for w in zones: existing ones, similar ones, and others.
func (w *world) names(r *rand.Rand, zones []string) *namer {
	n := &namer{w: w, r: r, seen: make(map[string]bool)}
	for _, zone := range zones {
		n.zone(zone)
		if strings.HasSuffix(zone, "arpa.") {
			continue
		}
		n.services(zone)
		n.endpoints(zone)
		n.imports(zone)
		n.pods(zone)
	}
	n.addresses()
	n.outside(zones)
	return n
}

// add adds names, and changes the case of some.
func (n *namer) add(names ...string) { n.put(&n.other, names) }

// have adds names that should have records, and changes the case of some.
func (n *namer) have(names ...string) { n.put(&n.real, names) }

func (n *namer) put(list *[]string, names []string) {
	for _, name := range names {
		if !askable(name) {
			continue
		}
		if !n.seen[name] {
			n.seen[name] = true
			*list = append(*list, name)
		}
		if mixed := mixCase(n.r, name); n.r.IntN(6) == 0 && !n.seen[mixed] {
			n.seen[mixed] = true
			*list = append(*list, mixed)
		}
	}
}

func mixCase(r *rand.Rand, name string) string {
	b := []byte(name)
	for i, c := range b {
		if c >= 'a' && c <= 'z' && r.IntN(2) == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// below prepends labels to a zone, which may be the root.
func below(labels, zone string) string {
	if zone == "." {
		return labels + "."
	}
	return labels + "." + zone
}

// zone adds names that a zone has in any cluster.
func (n *namer) zone(zone string) {
	n.have(zone, mixCase(n.r, zone), below("ns.dns", zone), below("dns-version", zone), below("svc", zone), below("pod", zone))
	for _, labels := range []string{
		"svc", "pod", "dns", "ns.dns", "a.ns.dns", "b.a.ns.dns", "dns-version", "x.dns-version", "apex.dns", "hostmaster", "any", "*",
		"_", "a", "a.b", "svc.svc", "pod.svc", "svc.pod", "pod.pod", "*.svc", "*.pod", "_tcp.svc", "a.b.svc.svc", "ns", "nsdns",
		`svc\.svc`, `a\.svc`, `ns\.dns`, `\000.svc`, `svc\000`, "svcs", "vc", "svc.x", "_zone.svc", "ns.dns.svc", "dns-version.svc",
		"1-2-3-4.pod", "web.shop", "web.shop.svc.cluster.local", "cluster.local", "10.in-addr.arpa", strings.Repeat("a", 63),
	} {
		n.add(below(labels, zone))
	}
	n.have("NS.dns."+zone, below("ns.dns", strings.ToUpper(zone)), "DNS-VERSION."+zone)
	n.add(`x\.`+zone, "x"+zone)
	if parent := zone[strings.IndexByte(zone, '.')+1:]; parent != "" {
		n.add(parent, "sub."+parent)
	}
}

// services adds the names of each Service, with all labels that may precede them.
func (n *namer) services(zone string) {
	for _, ns := range append(slices.Clone(namespaces), "default", "kube-system", "missing") {
		for _, labels := range []string{"svc", "pod", "other", "svc.svc"} {
			n.add(below(ns+"."+labels, zone), below("web."+ns+"."+labels, zone), below("*."+ns+"."+labels, zone))
		}
		n.add(below(ns, zone), below("_tcp."+ns+".svc", zone), below("a.b.c.d.e."+ns+".svc", zone))
	}
	for _, s := range n.w.services {
		owner := s.Name + "." + s.Namespace
		n.have(below(owner+".svc", zone), mixCase(n.r, below(owner+".svc", zone)))
		for _, p := range s.Spec.Ports {
			n.have(below("_"+p.Name+"._"+strings.ToLower(string(p.Protocol))+"."+owner+".svc", zone))
		}
		if s.Name == twoZones {
			for _, label := range []string{"zone-a.pin", "zone-b.pin", "zone-a.prefer", "zone-b.prefer"} {
				n.have(below(label+"._zone."+owner+".svc", zone))
			}
		}
		n.add(below(owner+".pod", zone), below(owner, zone))
		n.add(below(s.Name+"."+pick(n.r, namespaces)+".svc", zone), below(s.Name+`\.`+s.Namespace+".svc", zone), below(s.Name+"x."+s.Namespace+".svc", zone))
		for _, left := range n.left(s) {
			n.add(below(left+"."+owner+".svc", zone))
		}
	}
	n.add(below("kubernetes.default.svc", zone), below("_https._tcp.kubernetes.default.svc", zone))
}

// left returns labels that may precede a Service's name.
func (n *namer) left(s *core.Service) []string {
	all := []string{
		"_tcp", "_udp", "_sctp", "_", "tcp", "*", "_*", "any", "a", "-", "0", "_._", "_._tcp", "_http._", "*.*", "*._tcp", "_http.*",
		"_http._tcp", "_http._udp", "_dns._udp", "http.tcp", "http._tcp", "_http.tcp", "__http.__tcp", "_tcp._http", "_80._tcp",
		`_http\._tcp`, "a.b", "a._b", "_a.b", "a.b.c", "_http._tcp.a", "a._http._tcp", "a.b.c.d",
		"zone-a.pin._zone", "zone-b.prefer._zone", "eu.west.1.pin._zone", "eu.west.1.prefer._zone", "ZONE-C.pin._zone",
		"zone-c.prefer._zone", "pin.pin._zone", "pin._zone", "_zone", "missing.pin._zone", "missing.prefer._zone", "zone-a.other._zone",
		"zone-a.pin.zone", `eu\.west.1.pin._zone`, "host-0.zone-a.pin._zone", "*.pin._zone", "_http._tcp.zone-a.pin._zone",
		"host-0", "host-1", "host-2.cluster-a", "host-0.cluster-b", "10-244-0-1", "10-244-0-1.cluster-a", "cluster-a", "x.cluster-a", "web-0.cluster-c",
		"1", "10-244-0-1.x", strings.Repeat("b", 63),
	}
	n.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:len(all)/2]
	for _, p := range s.Spec.Ports[:min(4, len(s.Spec.Ports))] {
		proto := strings.ToLower(string(p.Protocol))
		all = append(all, "_"+p.Name+"._"+proto, p.Name+"."+proto, "_"+p.Name+"._"+pick(n.r, []string{"tcp", "udp", "sctp", "dccp"}),
			"_"+p.Name+"x._"+proto, "_._"+proto, "_"+proto, fmt.Sprintf("_%d._%s", p.Port, proto))
	}
	return all
}

// endpoints adds the names of endpoints, below their own Service and below others.
func (n *namer) endpoints(zone string) {
	for _, s := range n.w.slices {
		owner := s.Labels["kubernetes.io/service-name"] + "." + s.Namespace
		if strings.HasPrefix(owner, ".") {
			owner = "web" + owner
		}
		for _, ep := range s.Endpoints {
			labels := []string{dashed(ep.Addresses[0]), dashed(ep.Addresses[0]) + "0", strings.TrimSuffix(dashed(ep.Addresses[0]), "0")}
			if a, err := netip.ParseAddr(ep.Addresses[0]); err == nil {
				labels = append(labels, dashed(a.StringExpanded()))
			}
			if ep.Hostname != nil {
				labels = append(labels, *ep.Hostname)
			}
			if ep.TargetRef != nil {
				labels = append(labels, ep.TargetRef.Name)
			}
			n.have(below(labels[0]+"."+owner+".svc", zone), below(labels[len(labels)-1]+"."+owner+".svc", zone))
			for _, l := range labels {
				n.add(below(l+"."+owner+".svc", zone))
			}
			l := pick(n.r, labels)
			other := pick(n.r, n.w.services)
			n.add(below(l+"."+other.Name+"."+other.Namespace+".svc", zone), below("x."+l+"."+owner+".svc", zone), below("_http._tcp."+l+"."+owner+".svc", zone),
				below(strings.ReplaceAll(l, "-", `\.`)+"."+owner+".svc", zone), below(l+".cluster-a."+owner+".svc", zone))
		}
	}
}

// dashed is an address as a label.
func dashed(addr string) string { return strings.NewReplacer(".", "-", ":", "-").Replace(addr) }

// pods adds names made from addresses, of existing pods and others.
func (n *namer) pods(zone string) {
	labels := []string{
		"1-2-3-4", "10-9-0-1", "10-9-0-2", "0-0-0-0", "255-255-255-255", "256-1-1-1", "01-2-3-4", "1-2-3", "1-2-3-4-5", "1-2-3-x", "-1-2-3", "1-2-3-",
		"1--2-3", "---", "fd00--1", "FD00--1", "fd00-0-0-0-0-0-0-1", "--1", "--", "1--", "fd00--1--2", "1-2-3-4-5-6-7-8", "1-2-3-4-5-6-7-8-9",
		"--ffff-10-9-0-1", "--ffff-a09-1", "0--ffff-a09-1", "--10-9-0-1", "fe80--1%eth0", "fe80--1%", "1-2-3-4%1", `1\.2\.3\.4`, "1.2.3.4", `1-2-3-4\000`, `\0491-2-3-4`,
		"10-9-0-01", "0x1-2-3-4", "10-9-1", "fd00-244--1", "fd00-244--01", "fd00-0244--1", "g--1", "12345--1", "*", "any", "_1-2-3-4", " 1-2-3-4", "1-2-3-4 ",
		"127-0-0-1", "--1-2", "fd00-244-0-0-0-0-0-1", "fd00-244-0--1",
	}
	for _, p := range n.w.pods {
		for _, ip := range p.Status.PodIPs {
			labels = append(labels, dashed(ip.IP))
			n.have(below(dashed(ip.IP)+"."+p.Namespace+".pod", zone))
			n.add(below(p.Name+"."+p.Namespace+".pod", zone),
				below("x."+dashed(ip.IP)+"."+p.Namespace+".pod", zone), below("_http._tcp."+dashed(ip.IP)+"."+p.Namespace+".pod", zone))
		}
	}
	for _, l := range labels {
		n.add(below(l+"."+pick(n.r, namespaces)+".pod", zone), below(l+".shop.pod", zone), below(l+".missing.pod", zone))
	}
}

// addresses adds the reverse names of all addresses, and similar names.
func (n *namer) addresses() {
	var all []string
	for _, s := range n.w.services {
		all = append(all, s.Spec.ClusterIPs...)
		all = append(all, s.Spec.ExternalIPs...)
	}
	for _, s := range n.w.slices {
		for _, ep := range s.Endpoints {
			all = append(all, ep.Addresses...)
		}
	}
	for _, p := range n.w.pods {
		for _, ip := range p.Status.PodIPs {
			all = append(all, ip.IP)
		}
	}
	all = append(all, "10.96.0.1", "192.0.2.53", "2001:db8::53", "203.0.113.1", "2001:db8::1", "::ffff:10.244.0.1", "::", "0.0.0.0")
	slices.Sort(all)
	for i, addr := range slices.Compact(all) {
		name, err := dns.ReverseAddr(addr)
		if err != nil {
			continue
		}
		n.have(name)
		if i%5 == 0 {
			n.near(name)
		}
	}
	n.add("arpa.", "in-addr.arpa.", "ip6.arpa.", "svc.in-addr.arpa.", "web.shop.svc.in-addr.arpa.", "1-2-3-4.shop.pod.ip6.arpa.",
		"256.0.96.10.in-addr.arpa.", "01.0.96.10.in-addr.arpa.", "a.0.96.10.in-addr.arpa.", "0/25.0.96.10.in-addr.arpa.", `1\.0.96.10.in-addr.arpa.`,
		"1.0.96.10.ip6.arpa.", "-1.0.96.10.in-addr.arpa.", "1.0.96.010.in-addr.arpa.", "+1.0.96.10.in-addr.arpa.", "0x1.0.96.10.in-addr.arpa.",
		"a.f.f.f.0.1.0.9.0.0.0.in-addr.arpa.", "1.0.96.10.in-addr.arpa.cluster.local.", "1.0.96.10.in-addr.arp.", "x1.0.96.10.in-addr.arpa.")
}

// near adds names similar to a reverse name: with fewer, more, or other labels.
func (n *namer) near(name string) {
	labels := dns.SplitDomainName(name)
	for i := 1; i < len(labels); i++ {
		n.add(strings.Join(labels[i:], ".") + ".")
	}
	for _, left := range []string{"x", "0", "1.2", "a.b.c", "0.0.0.0", "1.2.3.4.5", "1.2.3.4.5.6.7.8", "svc", "_http._tcp"} {
		n.add(left + "." + name)
	}
	n.add(strings.ToUpper(name), "x"+name, "0"+name, labels[0]+labels[1]+"."+strings.Join(labels[2:], ".")+".")
	if strings.HasSuffix(name, "ip6.arpa.") {
		n.add("g"+name[1:], strings.Replace(name, ".", `\.`, 1))
	}
}

// outside adds names outside the zones, and the targets of ExternalNames.
func (n *namer) outside(zones []string) {
	for _, name := range []string{
		".", "com.", "example.com.", "local.", "x.local.", "cluster.local.example.com.", "notcluster.local.", `a\.cluster.local.`,
		"one.ext.test.", "two.ext.test.", "missing.ext.test.", "back.test.", "web.back.test.", "x.nx.test.", "many.ext.test.",
		"all.up.test.", "into.up.test.", "alias.up.test.", "refused.up.test.",
		"web.shop.svc.other.test.", "version.bind.", "id.server.",
	} {
		n.add(name)
	}
}
