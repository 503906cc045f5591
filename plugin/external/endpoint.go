package external

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// RecordType is a type of records, with its number in DNS.
type RecordType uint16

// The types.
const (
	TypeA     RecordType = 1
	TypeCNAME RecordType = 5
	TypeMX    RecordType = 15
	TypeTXT   RecordType = 16
	TypeAAAA  RecordType = 28
	TypeSRV   RecordType = 33
)

// types are the types in the order of their TTLs in the packed form.
var types = [...]RecordType{TypeA, TypeAAAA, TypeCNAME, TypeTXT, TypeSRV, TypeMX}

var typeNames = [len(types)]string{"A", "AAAA", "CNAME", "TXT", "SRV", "MX"}

// Mail is the content of an MX record.
type Mail struct {
	Preference uint16
	Host       string // fully qualified
}

// Server is the content of an SRV record.
type Server struct {
	Priority, Weight, Port uint16
	Target                 string // fully qualified
}

// records are the records of one name in a DNSEndpoint.
type records struct {
	ttl     [len(types)]uint64 // the lowest TTL of the endpoints plus one; 0 without a TTL
	places  addresses          // its hostname is the target of a CNAME record
	texts   []string
	servers []string // packed, like mails
	mails   []string
}

// NewDNSEndpoint packs spec: the records of each name, from all of its endpoints. A record that can't be parsed is left
// out. A name with a CNAME record has no other (RFC 1034, section 3.6.2): if there are addresses as well the CNAME is
// left out, else all others are.
func NewDNSEndpoint(spec DNSEndpointSpec) *Object {
	all := make(map[string]*records)
	var names []string // in their order in spec
	for _, e := range spec.Endpoints {
		for _, name := range forms(e.Name) {
			set := all[name]
			if set == nil {
				if len(names) == maxNames {
					continue
				}
				set = new(records)
				all[name], names = set, append(names, name)
			}
			set.add(&e)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !all[name].complete() })
	d := begin(KindDNSEndpoint, &spec.Meta, names)
	if d == nil {
		return nil
	}
	d.len(len(names))
	for _, name := range names {
		d.host(name, d.zone, spec.Name)
		var blob packer
		blob.records(all[name])
		d.text(string(blob))
	}
	return d.object()
}

// add adds the records of one endpoint.
func (s *records) add(e *Endpoint) {
	typ := slices.Index(typeNames[:], strings.ToUpper(e.Type))
	if typ < 0 {
		return
	}
	if ttl, ok := validTTL(e.TTL); ok && e.TTL > 0 && (s.ttl[typ] == 0 || uint64(ttl)+1 < s.ttl[typ]) {
		s.ttl[typ] = uint64(ttl) + 1
	}
	for _, target := range e.Targets {
		s.addTarget(types[typ], target)
	}
}

func (s *records) addTarget(typ RecordType, target string) {
	switch typ {
	case TypeTXT:
		if len(target) <= maxText {
			s.texts = append(s.texts, target)
		}
		return
	case TypeSRV:
		if numbers, host, ok := rdata(target, 3); ok {
			s.servers = append(s.servers, numbers+host)
		}
		return
	case TypeMX:
		if numbers, host, ok := rdata(target, 1); ok {
			s.mails = append(s.mails, numbers+host)
		}
		return
	}
	ip, err := netip.ParseAddr(strings.TrimSpace(target))
	if err != nil == (typ == TypeCNAME) && (err != nil || ip.Unmap().Is4() == (typ == TypeA)) {
		s.places.add(target)
	}
}

// rdata returns n numbers of 16 bits, each in two octets, and the name after them.
func rdata(text string, n int) (numbers, host string, ok bool) {
	words := strings.Fields(text)
	if len(words) != n+1 {
		return "", "", false
	}
	b := make([]byte, 0, 2*n)
	for _, word := range words[:n] {
		number, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			return "", "", false
		}
		b = append(b, byte(number>>8), byte(number))
	}
	if words[n] == "." { // no such service (RFC 2782), no mail (RFC 7505)
		return string(b), ".", true
	}
	host, ok = hostname(words[n])
	if _, wild := wildcard(host); wild {
		ok = false
	}
	return string(b), host + ".", ok
}

// complete sorts the records and reports whether there are any.
func (s *records) complete() bool {
	s.places.sort()
	for _, all := range []*[]string{&s.texts, &s.servers, &s.mails} {
		slices.Sort(*all)
		*all = slices.Compact(*all)
		*all = (*all)[:min(len(*all), maxRecords)]
	}
	switch {
	case len(s.places.v4)+len(s.places.v6) > 0:
		s.places.hosts = nil
	case len(s.places.hosts) > 0:
		s.places.hosts, s.texts, s.servers, s.mails = s.places.hosts[:1], nil, nil, nil
	}
	return !s.places.empty() || len(s.texts)+len(s.servers)+len(s.mails) > 0
}

func (p *packer) records(s *records) {
	for _, ttl := range s.ttl {
		p.uint(ttl)
	}
	p.addresses(s.places)
	for _, all := range [][]string{s.texts, s.servers, s.mails} {
		p.texts(all)
	}
}

// recordsAt returns a reader of the records of a name of a DNSEndpoint, whose entry is at that offset: after the
// TTLs.
func recordsAt(packed form, at int) (ttl reader, r reader) {
	r = reader{packed.own, at}
	r.at += r.len() >> 1 // the name
	r.len()
	ttl = r
	for range types {
		r.uint()
	}
	return ttl, r
}

// DNSEndpoint returns a spec from which NewDNSEndpoint makes an equal Object.
func (o *Object) DNSEndpoint() DNSEndpointSpec {
	spec := DNSEndpointSpec{Meta: o.meta()}
	r := bodyOf(o.packed)
	for range r.len() {
		ttl, set := recordsAt(o.packed, r.at)
		name := r.host(o.packed).String()
		r.text()
		var targets [len(types)][]string
		places := set.places()
		places.addrs(func(a netip.Addr) bool {
			typ := 1
			if a.Is4() {
				typ = 0
			}
			targets[typ] = append(targets[typ], a.String())
			return true
		})
		places.hosts(func(host string) bool { targets[2] = append(targets[2], host); return true })
		targets[3] = set.texts()
		for range set.len() {
			s := serverOf(set.text())
			targets[4] = append(targets[4], strings.Join([]string{utoa(uint32(s.Priority)), utoa(uint32(s.Weight)), utoa(uint32(s.Port)), spelled(s.Target)}, " "))
		}
		for range set.len() {
			m := mailOf(set.text())
			targets[5] = append(targets[5], utoa(uint32(m.Preference))+" "+spelled(m.Host))
		}
		for typ, all := range targets {
			e := Endpoint{name + ".", typeNames[typ], int64(ttl.uint()) - 1, all} // #nosec G115 -- a TTL
			if e.TTL = max(0, e.TTL); len(all) > 0 || e.TTL > 0 {
				spec.Endpoints = append(spec.Endpoints, e)
			}
		}
	}
	return spec
}

func uint16At(s string, at int) uint16 { return uint16(s[at])<<8 | uint16(s[at+1]) }

func serverOf(packed string) Server {
	return Server{uint16At(packed, 0), uint16At(packed, 2), uint16At(packed, 4), packed[6:]}
}

func mailOf(packed string) Mail { return Mail{uint16At(packed, 0), packed[2:]} }
