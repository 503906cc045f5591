package kubehosts

import (
	"net/netip"

	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// Transfer implements transfer.Transferer: all records of a zone, out of one State. A serial that is the zone's own gets
// its SOA record alone, as the whole answer to an IXFR (RFC 1995, section 2).
func (k *Kubehosts) Transfer(name string, serial uint32) (<-chan []dns.RR, error) {
	l := k.block.View()
	z := zoneNamed(l, name)
	if z == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	s := l.Index.State()
	ch := make(chan []dns.RR)
	go func() {
		defer close(ch)
		out := zoneWriter{l: l, s: s, z: z, ch: ch}
		out.soa()
		if serial != 0 && serial == l.SerialOf(s) {
			return
		}
		out.nameservers()
		if z.Reverse {
			out.pointers()
		} else {
			out.services()
		}
		out.soa()
	}()
	return ch, nil
}

// zoneNamed returns the zone of that name, nil if it is not one of the zones themselves.
func zoneNamed(l *answer.View, name string) *answer.Zone {
	for i := range l.Zones {
		if dns.CanonicalName(name) == l.Zones[i].Name {
			return &l.Zones[i]
		}
	}
	return nil
}

// zoneWriter sends the records of a zone.
type zoneWriter struct {
	l  *answer.View
	s  *services.State
	z  *answer.Zone
	ch chan<- []dns.RR
}

func (w *zoneWriter) soa() {
	q := question{name: w.z.Name, lower: w.z.Name}
	soa := new(dns.SOA)
	q.fillSOA(soa, w.z, w.l, w.s)
	w.ch <- []dns.RR{soa}
}

func (w *zoneWriter) nameservers() {
	seen := make(map[string]struct{})
	var addrs []dns.RR
	for _, ns := range nameservers(w.l, w.s, w.z.Name) {
		addrs = append(addrs, ns.record(w.l.TTL))
		if first(seen, ns.name) {
			w.ch <- []dns.RR{&dns.NS{
				Hdr: dns.RR_Header{Name: w.z.Name, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: w.l.TTL},
				Ns:  ns.name,
			}}
		}
	}
	if len(addrs) > 0 {
		w.ch <- addrs
	}
}

func (w *zoneWriter) services() {
	for _, svc := range w.s.Served(&w.l.Options, w.z.Imported) {
		name := svc.Owner() + answer.Under(".svc.", w.z.Name)
		switch {
		case svc.ExternalName() != "":
			w.ch <- []dns.RR{cname(name, svc.ExternalName(), w.l.TTL)}
		case svc.Headless():
			if !w.l.Options.NoEndpoints {
				w.endpoints(svc, name)
			}
		default:
			w.clusterIP(svc, name)
		}
	}
}

// clusterIP sends a Service with cluster IPs. Its own name has SRV records too: peer-finder asks for them.
func (w *zoneWriter) clusterIP(svc services.Service, name string) {
	var all []dns.RR
	for a := range svc.Addrs().All {
		all = append(all, nameserver{name, a}.record(w.l.TTL))
	}
	for p := svc.Ports(); p.Next(); {
		if p.Number() == 0 {
			continue
		}
		all = append(all, w.srv(name, name, p.Number(), 100))
		if p.Name() != "" {
			all = append(all, w.srv(portName(&p, name), name, p.Number(), 100))
		}
	}
	if len(all) > 0 {
		w.ch <- all
	}
}

// endpoints sends the endpoints of a headless Service.
func (w *zoneWriter) endpoints(svc services.Service, name string) {
	for _, sl := range w.s.SlicesOf(svc.Owner(), w.z.Imported) {
		addrs := sl.Addrs()
		weight := srvWeight(max(1, addrs.Len4()+addrs.Len6()))
		for label, a := range sl.Labels {
			target := label + "." + name
			all := []dns.RR{
				nameserver{name, a}.record(w.l.TTL),
				nameserver{target, a}.record(w.l.TTL),
			}
			for p := sl.Ports(); p.Next(); {
				if p.Name() != "" && p.Number() != 0 {
					all = append(all, w.srv(portName(&p, name), target, p.Number(), weight))
				}
			}
			w.ch <- all
		}
	}
}

// portName returns the owner name of a named port's SRV record.
func portName(p *services.Ports, service string) string {
	return "_" + p.Name() + "._" + p.Protocol() + "." + service
}

func (w *zoneWriter) srv(owner, target string, port, weight uint16) dns.RR {
	return &dns.SRV{
		Hdr:    dns.RR_Header{Name: owner, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: w.l.TTL},
		Weight: weight, Port: port, Target: target,
	}
}

// pointers sends the PTR records of a reverse zone.
func (w *zoneWriter) pointers() {
	seen := make(map[netip.Addr]struct{})
	for a := range w.s.Addresses {
		owner, err := dns.ReverseAddr(a.String())
		if err != nil || !answer.InZone(owner, w.z.Name) || !first(seen, a) {
			continue
		}
		for _, p := range pointers(w.l, nil, w.s, a) {
			w.ch <- []dns.RR{&dns.PTR{
				Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: p.ttl},
				Ptr: p.name,
			}}
		}
	}
}
