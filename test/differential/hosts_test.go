package differential

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// ugly is a hosts file with everything that people and programs write into one.
var ugly = "\ufeff10.0.0.1 after-bom.test\n" + `# a comment
127.0.0.1	localhost localhost.localdomain
::1		localhost ip6-localhost
10.0.0.2 one.test two.test # three.test
10.0.0.2 one.test
10.0.0.3 one.test one.test
10.0.0.4 glued.test#comment
10.0.0.5#glued address.test
 	10.0.0.6   	 indented.test
10.0.0.7
10.0.0.8 # nothing
not-an-address name.test
10.0.0.256 overflow.test
10.0.0 short.test
010.0.0.1 octal.test
0x0a.0.0.1 hex.test
10.0.0.9/24 network.test
::ffff:10.0.0.10 mapped.test
fe80::1%eth0 zoned.test
fe80::1%eth1 zoned.test zoned-too.test
10.0.0.11%eth0 zoned-four.test
2001:DB8::A upper-address.test
2001:db8:0:0:0:0:0:a same-address.test
2001:db8::10.0.0.1 tail.test
[2001:db8::b] bracketed.test
10.0.0.12 UPPER.Test MiXeD.tEsT
10.0.0.13 upper.test
10.0.0.14 dotted.test. a.b.c.d.e.f.g.test
10.0.0.15 plain
10.0.0.16 *.wild.test
10.0.0.17 exact.wild.test
2001:db8::17 six.wild.test
2001:db8::16 *.wild.test
10.0.0.18 *.*.deep.test a.*.mid.test *x.test x*.test
10.0.0.19 *.sub.wild.test
10.0.0.20 * *.
10.0.0.21 . .. .leading.test a..b.test trailing.test..
10.0.0.22 escaped\.dot.test \104ecimal.test back\\slash.test ends\ 
10.0.0.23 under_score.test -dash.test dash-.test 1.2.3.4 10.in-addr.arpa
10.0.0.24 bücher.test БОЛЬШЕ.test ẞ.test K.test
10.0.0.25 no-break` + "\u00a0" + `space.test
10.0.0.26 23.0.0.10.in-addr.arpa
10.0.0.27 web.shop.svc.cluster.local cluster.local
10.0.0.28 "quoted.test" 'single.test' a,b.test a;b.test (paren).test a@b.test $dollar.test
0.0.0.0 ads.test tracker.ads.test
:: ads.test
10.0.0.29 many.test
10.0.0.30 many.test
10.0.0.31 many.test
255.255.255.255 broadcast.test
` + "10.0.0.32 carriage.test\r\n10.0.0.33 form\fform-feed.test\v vertical.test\r10.0.0.34 lone-return.test\n" +
	"10.0.0.35 nul\x00nul.test \x01control.test del\x7f.test bad-utf8\xff\xfe.test\n" +
	"10.0.0.36 " + strings.Repeat("l", 63) + ".test " + strings.Repeat("l", 64) + ".test\n" +
	"10.0.0.37 " + strings.Repeat(strings.Repeat("n", 49)+".", 5) + "test " + strings.Repeat(strings.Repeat("n", 49)+".", 6) + "test\n" +
	"10.0.0.38 " + strings.Repeat("k", 1000) + " " + strings.Repeat("k", 1025) + " after-long.test\n" +
	strings.Repeat("9", 1025) + " long-address.test\n" +
	"10.0.0.39 " + strings.Repeat("short.test ", 3000) + "end-of-line.test\n" +
	"10.0.0.40 before-the-end.test\n10.0.0.41 no-newline.test"

// hostsFile draws a hosts file whose lines share names and addresses.
func hostsFile(r *rand.Rand) string {
	pieces := strings.Fields("a b web *. . .. test example.org EXAMPLE.org. sub. * x-y 10. \\. \\046 # :: % _")
	addresses := strings.Fields("10.1.0.1 10.1.0.2 10.1.0.3 2001:db8::1 2001:DB8:0::1 fe80::1%en0 ::ffff:10.1.0.1 10.1.0 junk 10.1.0.1#")
	blanks := []string{" ", "\t", "  ", " \t ", "\f"}
	var b strings.Builder
	for range 400 {
		b.WriteString(pick(r, addresses))
		for range r.IntN(5) {
			b.WriteString(pick(r, blanks))
			for range 1 + r.IntN(4) {
				b.WriteString(pick(r, pieces))
			}
			if r.IntN(3) == 0 {
				b.WriteString(".test")
			}
		}
		b.WriteString(pick(r, []string{"\n", "\n", "\r\n", " #\n", "\n\n"}))
	}
	return b.String()
}

// hostsCase is a hosts file and the configuration that serves it.
type hostsCase struct {
	name    string
	keys    string // of the server block
	zones   []string
	options string
	text    string
	inline  string // lines in the Corefile
}

func hostsCases() []hostsCase {
	return []hostsCase{
		{name: "ugly", text: ugly},
		{name: "no_reverse", text: ugly, options: "no_reverse\nttl 65535"},
		{name: "zones", text: ugly, keys: "test:PORT wild.test:PORT in-addr.arpa:PORT", zones: []string{"test.", "in-addr.arpa."}},
		{name: "drawn", text: hostsFile(random("hosts-1"))},
		{name: "drawn in zones", text: hostsFile(random("hosts-2")), keys: "example.org:PORT ip6.arpa:PORT", zones: []string{"example.org.", "ip6.arpa."}},
		{name: "inline", text: hostsFile(random("hosts-3")), inline: "10.2.0.1 inline.test a.test *.wild.test\n2001:db8::2 inline.test", options: "ttl 1"},
		{name: "empty", text: ""},
		{name: "comment without end", text: "10.0.0.1 a.test #" + strings.Repeat("#x.test ", 20_000)},
	}
}

// Hosts lines in any format get the same answers from the hosts plugin and from the option of that name.
func TestHosts(t *testing.T) {
	start(t)
	total := newTally()
	cases := hostsCases()
	_, full := questionCount(t)
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hosts")
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			keys := c.keys
			if keys == "" {
				keys = ".:PORT"
			}
			text := keys + " {\nready READY\nBIND\n%s\n" + mark + "\n}\n"
			stanza := "kubehosts {\n"
			if c.keys != "" { // else the zones of the server block would become zones of Services
				stanza = "kubehosts cluster.local {\nkubeconfig KUBECONFIG\n"
			}
			options := c.inline + "\n" + c.options + "\n"
			p := runBoth(t, &config{name: "hosts " + c.name, served: c.zones, hosts: true, spelled: spelled(c.text + "\n" + c.inline), above: above(c.text + "\n" + c.inline)},
				fmt.Sprintf(text, "hosts "+path+" {\n"+options+"fallthrough\n}"),
				fmt.Sprintf(text, stanza+"hosts "+path+" {\n"+options+"}\n}"))
			n := hostsNames(random(c.name), c.text+"\n"+c.inline)
			asked := 1200
			if full {
				asked = 3 * 4 * len(n.real) // a third of the queries are for these records, with four types
			}
			s := p.compare(t, n.questions(asked))
			t.Logf("%d names held, %d others", len(n.real), len(n.other))
			s.report(t)
			total.add(s)
		})
	}
	for _, a := range hostsDifferences {
		t.Logf("%8d times: %s - %s", total.uses[a.name], a.name, a.why)
		if total.uses[a.name] == 0 && full {
			t.Errorf("allowed and never seen: %s", a.name)
		}
	}
}

// hostsNames collects the names to query for a hosts file.
func hostsNames(r *rand.Rand, text string) *namer {
	n := &namer{r: r, seen: make(map[string]bool)}
	n.add(".", "test.", "nowhere.test.", "x.nowhere.test.", "*.", "in-addr.arpa.", "254.254.254.10.in-addr.arpa.", "localhost.")
	for field := range strings.FieldsFuncSeq(text, between) {
		host, _, _ := strings.Cut(field, "%")
		if a, err := netip.ParseAddr(host); err == nil {
			if name, err := dns.ReverseAddr(a.Unmap().String()); err == nil {
				n.have(name, "x."+name) // which stock takes for the address, in ip6.arpa
				n.add(name[strings.IndexByte(name, '.')+1:], strings.ToUpper(name))
			}
		}
		name := onWire(field)
		if len(n.seen) > 30_000 || name == "" {
			continue
		}
		n.have(name)
		if ascii := toASCII(name); ascii != "" {
			n.have(ascii)
		}
		n.add("x."+name, "y.x."+name, `y\.x.`+name, "*."+name)
		if at, end := dns.NextLabel(name, 0); !end {
			n.have("x." + name[at:])
			n.add(name[at:], "y.x."+name[at:], "*."+name[at:])
		}
	}
	return n
}

// between reports whether a character separates fields.
func between(c rune) bool { return c == '#' || c < 0x80 && unicode.IsSpace(c) }

// spelled returns the names that stock does not find, because no query spells them like the hosts file.
func spelled(text string) map[string]bool {
	all := make(map[string]bool)
	for field := range strings.FieldsFuncSeq(text, between) {
		name := strings.ToLower(onWire(field))
		if name == strings.ToLower(dns.Fqdn(field)) {
			continue
		}
		all[name] = true
		all[toASCII(name)] = true
	}
	delete(all, "")
	return all
}

// above returns the names above those in a hosts file.
func above(text string) map[string]bool {
	all := make(map[string]bool)
	for field := range strings.FieldsFuncSeq(text, between) {
		name := strings.ToLower(onWire(field))
		for at, end := dns.NextLabel(name, 0); name != "" && !end; at, end = dns.NextLabel(name, at) {
			all[name[at:]] = true
		}
	}
	return all
}

// toASCII returns the hostname form of a non-ASCII name, "" if it has none.
func toASCII(name string) string {
	octets := make([]byte, 256)
	n, err := dns.PackDomainName(name, octets, 0, nil, false)
	if err != nil || n == 0 || n > 255 {
		return ""
	}
	var labels []string
	for octets := octets[:n]; octets[0] > 0; octets = octets[1+octets[0]:] {
		labels = append(labels, string(octets[1:1+octets[0]]))
	}
	ascii := strings.Join(labels, ".")
	if strings.IndexFunc(ascii, func(c rune) bool { return c >= 0x80 }) < 0 {
		return ""
	}
	ascii, err = idna.Lookup.ToASCII(ascii)
	if err != nil {
		return ""
	}
	return dns.Fqdn(ascii)
}

// onWire returns the name of a query for field, "" if it does not fit into a message.
func onWire(field string) string {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(strings.ReplaceAll(field, " ", "")), dns.TypeA)
	wire, err := m.Pack()
	if err != nil || m.Unpack(wire) != nil {
		return ""
	}
	return m.Question[0].Name
}

// hostsDifferences are all intended differences between the hosts plugin and the option; plugin/README.md lists
// them.
var hostsDifferences = []allowed{
	{
		"a held name is NODATA for PTR",
		"stock denies the name, or lets the next plugin do so (RFC 2308, section 2)",
		func(d *difference) bool {
			return d.q.qtype == dns.TypePTR && isMark(d.stock) && isEmpty(d.ours) && (d.holds(d.q.name, dns.TypeA) || d.holds(d.q.name, dns.TypeAAAA))
		},
	},
	{
		"a reverse name of a held address is NODATA for other types",
		"stock denies the name, or lets the next plugin do so (RFC 2308, section 2)",
		func(d *difference) bool {
			return d.q.qtype != dns.TypePTR && (isMark(d.stock) || d.refusedByNext()) && isEmpty(d.ours) && d.holds(d.q.name, dns.TypePTR)
		},
	},
	{
		"the owner name is spelled as in the question",
		"stock's is in lower case, which resolvers that check the case of a reply do not like",
		func(d *difference) bool {
			return !slices.ContainsFunc(d.ours.Answer, func(rr dns.RR) bool { return rr.Header().Name != d.q.name }) &&
				!slices.ContainsFunc(d.stock.Answer, func(rr dns.RR) bool { return rr.Header().Name != strings.ToLower(d.q.name) }) &&
				d.q.name != strings.ToLower(d.q.name) && slices.Equal(recordsFolded(d.stock), recordsFolded(d.ours))
		},
	},
	{
		"an address that a name has twice is served once",
		"RFC 2181, section 5",
		func(d *difference) bool {
			stock, ours := d.stock, d.ours
			if stock.Truncated {
				stock, ours = d.pair.ask(d.q.name, d.q.qtype)
			}
			all, once := recordsFolded(stock), recordsFolded(ours)
			return len(all) > len(once) && slices.Equal(slices.Compact(all), once)
		},
	},
	{
		"an exact name hides the wildcard that covers it",
		"stock takes the wildcard's addresses for a family that the name lacks in a file or the inline lines (RFC 4592, section 3.3.1)",
		func(d *difference) bool {
			other := map[uint16]uint16{dns.TypeA: dns.TypeAAAA, dns.TypeAAAA: dns.TypeA}[d.q.qtype]
			held := isPositive(d.ours) || isEmpty(d.ours) && d.holds(d.q.name, other)
			stock, ours := rdata(d.stock), rdata(d.ours)
			return other != 0 && held && contains(stock, ours) && contains(append(ours, d.wildcard()...), stock)
		},
	},
	{
		"a wildcard covers only names that do not exist",
		"stock's also covers a name above another entry (RFC 4592, section 2.2.2)",
		func(d *difference) bool {
			at, end := dns.NextLabel(d.q.name, 0)
			passedOn := isMark(d.ours) || d.q.qtype == dns.TypeAXFR && d.ours.Rcode == dns.RcodeRefused
			if end || !passedOn || !d.pair.config.above[strings.ToLower(d.q.name)] {
				return false
			}
			covered := d.holds("*."+d.q.name[at:], dns.TypeA) || d.holds("*."+d.q.name[at:], dns.TypeAAAA)
			return covered && (isEmpty(d.stock) || isPositive(d.stock) && contains(d.wildcard(), rdata(d.stock)))
		},
	},
	{
		"names are compared as they are on the wire",
		"stock compares how the file spells them, which is how no question does (RFC 1035, section 5.1; RFC 4343)",
		func(d *difference) bool {
			name := strings.ToLower(d.q.name)
			at, end := dns.NextLabel(name, 0)
			covered := d.pair.config.spelled[name] || !end && d.pair.config.spelled["*."+name[at:]]
			stock := rdata(d.stock)
			switch {
			case isMark(d.stock) || d.refusedByNext():
				stock = nil
			case d.pair.config.spelled[name] && slices.Equal(stock, d.wildcard()):
				stock = nil // stock does not find this name
			}
			return covered && (isPositive(d.ours) || isEmpty(d.ours)) && contains(rdata(d.ours), stock)
		},
	},
	{
		"a name beyond ASCII is the target of PTR records in its ASCII form",
		"hostnames are ASCII on the wire (RFC 5890, section 2.3.2.1)",
		func(d *difference) bool {
			want := rdata(d.stock)
			for i, name := range want {
				if ascii := toASCII(name); ascii != "" {
					want[i] = ascii
				}
			}
			slices.Sort(want)
			return d.q.qtype == dns.TypePTR && isPositive(d.ours) && slices.Equal(slices.Compact(want), rdata(d.ours))
		},
	},
	{
		"octets that are no UTF-8 stay, and a name with a NUL in it is left out",
		"stock makes three octets of each of the former; no text has the latter, and no client asks for it",
		func(d *difference) bool {
			const name = "nul\\000nul.test."
			stock, ours := rdata(d.stock), rdata(d.ours)
			for i := range ours {
				ours[i] = strings.ReplaceAll(ours[i], `bad-utf8\255\254`, `bad-utf8\239\191\189\239\191\189`)
			}
			return d.q.qtype == dns.TypePTR && slices.Contains(stock, name) && slices.Equal(append(ours, name), stock)
		},
	},
	{
		"a byte order mark does not hide the line behind it",
		"editors put it there; it is no part of the text",
		func(d *difference) bool {
			return slices.Contains([]string{"after-bom.test.", "1.0.0.10.in-addr.arpa."}, strings.ToLower(d.q.name)) &&
				(isMark(d.stock) || d.refusedByNext()) && (isPositive(d.ours) || isEmpty(d.ours))
		},
	},
	{
		"CR alone ends a line",
		"old Macs wrote such files; stock takes the next line's fields for more names",
		func(d *difference) bool {
			switch name := strings.ToLower(d.q.name); name {
			case "10.0.0.34.": // a name in stock
				return isPositive(d.stock) && isMark(d.ours) || isEmpty(d.stock) && (isMark(d.ours) || d.ours.Rcode == dns.RcodeRefused)
			case "lone-return.test.":
				return slices.Equal(rdata(d.stock), []string{"10.0.0.33"}) && slices.Equal(rdata(d.ours), []string{"10.0.0.34"})
			case "33.0.0.10.in-addr.arpa.":
				more := []string{"10.0.0.34.", "lone-return.test."}
				left := slices.DeleteFunc(rdata(d.stock), func(name string) bool { return slices.Contains(more, name) })
				return len(left) < len(d.stock.Answer) && isPositive(d.ours) && slices.Equal(left, rdata(d.ours))
			case "34.0.0.10.in-addr.arpa.":
				return (isMark(d.stock) || d.refusedByNext()) && (isPositive(d.ours) || isEmpty(d.ours))
			}
			return false
		},
	},
	{
		"names that fit no message are left out of PTR replies",
		"stock's reply cannot be packed, or not be read (RFC 1035, section 2.3.4)",
		func(d *difference) bool {
			stock := d.stock
			if stock.Truncated {
				stock, _ = d.pair.ask(d.q.name, d.q.qtype)
			}
			return d.q.qtype == dns.TypePTR && stock.none && !d.ours.none
		},
	},
	{
		"a name that ends in a backslash is left out",
		"the backslash would escape the dot at the end",
		func(d *difference) bool {
			left := func(r reply) []string {
				return slices.DeleteFunc(recordsFolded(r), func(record string) bool { return strings.HasSuffix(record, `\..`) })
			}
			return len(left(d.stock)) < len(d.stock.Answer) && slices.Equal(left(d.stock), recordsFolded(d.ours))
		},
	},
	{
		"a name in ip6.arpa with more than 32 nibbles is not held",
		"stock drops up to three labels and answers for the address that is left (RFC 3596, section 2.5)",
		func(d *difference) bool {
			return d.q.qtype == dns.TypePTR && isPositive(d.stock) && isMark(d.ours) && dns.CountLabel(d.q.name) > 34
		},
	},
}

// refusedByNext reports whether stock passed a transfer to the next plugin, which refused it.
func (d *difference) refusedByNext() bool {
	return d.q.qtype == dns.TypeAXFR && d.stock.Rcode == dns.RcodeRefused
}

// wildcard returns stock's records of the wildcard that matches the name.
func (d *difference) wildcard() []string {
	next, end := dns.NextLabel(d.q.name, 0)
	if end {
		return nil
	}
	r, _ := d.pair.ask("*."+strings.ToLower(d.q.name[next:]), d.q.qtype)
	return rdata(r)
}

// contains reports whether all contains each element of some.
func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// rdata returns the data of the records of the answer section, sorted.
func rdata(r reply) (all []string) {
	for _, rr := range r.Answer {
		all = append(all, dns.Field(rr, 1))
	}
	slices.Sort(all)
	return all
}

// isEmpty reports whether r is NODATA from hosts entries: without a SOA record.
func isEmpty(r reply) bool {
	return !r.none && r.Rcode == dns.RcodeSuccess && r.Authoritative && len(r.Answer)+len(r.Ns) == 0
}

// holds reports whether both have records of that type for the name.
func (d *difference) holds(name string, qtype uint16) bool {
	stock, ours := d.pair.ask(strings.ToLower(name), qtype)
	return (stock.none || isPositive(stock)) && isPositive(ours)
}

// recordsFolded returns the records of the answer section, sorted and in lower case.
func recordsFolded(r reply) (all []string) {
	for _, rr := range r.Answer {
		all = append(all, strings.ToLower(lines{ttl: true}.record(rr)))
	}
	slices.Sort(all)
	return all
}
