package differential

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// config is a Corefile that both serve, each with its own plugin.
type config struct {
	name    string
	keys    string // of the server block
	zones   string // of the plugin
	options string // of the plugin, one per line
	ours    string // options that stock lacks, one per line
	before  string // preceding plugins in the chain
	after   string // following plugins
	blocks  string // other server blocks

	served   []string                            // the zones it serves; those of zones if nil
	asks     func(question, *rand.Rand) question // replaces a query
	means    func(string) string                 // the name that the plugin receives for a queried name
	search   []string                            // namespaces of clients for whose names autopath uses the search list
	signed   bool                                // with dnssec
	bind     string                              // instead of all addresses
	isolated bool                                // needs a network of its own
	through  []string                            // zones that fall through to the zone of marks
	lower    bool                                // query in lower case only
	hosts    bool                                // compare with the hosts plugin
	spelled  map[string]bool                     // names that no query spells like its file
	above    map[string]bool                     // names above those in its file
	also     []allowed                           // intended differences besides those of Services
	entries  []string                            // names of hosts entries in the zones
	minimal  bool                                // a preceding plugin drops the other sections if the answer section has records
	remade   bool                                // a preceding plugin recreates replies, which are not authoritative then
	loose    bool                                // ignore TTLs
	logged   bool                                // also compare the lines of the log plugin
}

// corefile returns the Corefile of c for a plugin.
func (c *config) corefile(plugin string) string {
	keys, zones := c.keys, c.zones
	if keys == "" {
		keys = ".:PORT"
	}
	if zones == "" && c.keys == "" {
		zones = "cluster.local in-addr.arpa ip6.arpa"
	}
	options := c.options
	if plugin == "kubehosts" {
		options += "\n" + c.ours
	}
	text := keys + ` {
    ready READY
    BIND
    errors
    ` + c.before + `
    PLUGIN ` + zones + ` {
        kubeconfig KUBECONFIG
        ` + options + `
    }
    ` + c.after + `
}
` + c.blocks + upstream
	return strings.ReplaceAll(text, "PLUGIN", plugin)
}

// fill inserts the values that are only known at runtime into a Corefile.
func (c *config) fill(corefile string) string {
	bind := c.bind
	if bind == "" && !isolated {
		bind = "bind 127.0.0.1"
	}
	many := ""
	for i := range 60 {
		many += fmt.Sprintf("198.51.100.%d many.ext.test\n", i+1)
	}
	return strings.NewReplacer("KUBECONFIG", shared.kubeconfig, "UPSTREAM", shared.upstream, "BIND", bind, "MANY", many,
		"MARK", filepath.Join(shared.dir, "mark.zone"), "KEY", filepath.Join(shared.dir, "key")).Replace(corefile)
}

// zonesServed returns the zones of the plugin, fully qualified.
func (c *config) zonesServed() (all []string) {
	if c.served != nil {
		return c.served
	}
	for _, z := range strings.Fields(c.zones) {
		all = append(all, dns.Fqdn(z))
	}
	if all == nil {
		return []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}
	}
	return all
}

// fallsThrough reports whether such names are passed to the next plugin.
func (c *config) fallsThrough(name string) bool {
	return slices.ContainsFunc(c.through, func(zone string) bool { return dns.IsSubDomain(zone, name) })
}

// upstream answers for the external targets of ExternalNames.
const upstream = `
ext.test:PORT {
    BIND
    hosts {
        192.0.2.1 one.ext.test two.ext.test
        192.0.2.2 two.ext.test
        2001:db8::1 two.ext.test
        2001:db8::6 six.ext.test
        MANY
    }
}
back.test:PORT {
    BIND
    template IN ANY back.test {
        answer "{{ .Name }} 60 IN CNAME chain-14.shop.svc.cluster.local."
    }
}
nx.test:PORT {
    BIND
    template IN ANY nx.test {
        rcode NXDOMAIN
        authority "nx.test. 60 IN SOA ns.nx.test. host.nx.test. 1 2 3 4 5"
    }
}
fail.test:PORT {
    BIND
    template IN ANY fail.test {
        rcode SERVFAIL
    }
}
up.test:PORT {
    BIND
    forward . UPSTREAM
}
`

// markZone is behind the plugin and gets the names that fall through: every name in it exists, with its own
// addresses.
const (
	markZone = `. 60 IN SOA mark. mark. 1 2 3 4 5
. 60 IN NS mark.
* 60 IN A 192.0.2.99
* 60 IN AAAA 2001:db8::99
* 60 IN TXT mark
* 60 IN PTR mark.
`
	markAddr = "192.0.2.99"
)

// pair is stock CoreDNS and kubehosts side by side on one Corefile.
type pair struct {
	config      *config
	stock, ours *cluster.CoreDNS

	mu     sync.Mutex
	probes map[string]*both // by client
	probed map[string][2]reply

	reverseNames func() []string // of all addresses of Services and endpoints, listed once
}

// run starts both on c.
func run(t *testing.T, c *config) *pair {
	t.Helper()
	return runBoth(t, c, c.corefile("kubernetes"), c.corefile("kubehosts"))
}

// runBoth starts both, each with its Corefile.
func runBoth(t *testing.T, c *config, stock, ours string) *pair {
	t.Helper()
	if err := os.WriteFile(filepath.Join(shared.dir, "mark.zone"), []byte(markZone), 0o644); err != nil {
		t.Fatal(err)
	}
	if c.signed {
		writeKey(t, filepath.Join(shared.dir, "key"))
	}
	p := &pair{config: c, probes: make(map[string]*both), probed: make(map[string][2]reply)}
	p.reverseNames = sync.OnceValue(func() (all []string) {
		addrs, err := addresses(shared.api)
		if err != nil {
			t.Error(err)
		}
		for _, a := range addrs {
			if name, err := dns.ReverseAddr(a); err == nil {
				all = append(all, name)
			}
		}
		return all
	})
	p.stock = cluster.Launch(t, stockBinary(t), c.fill(stock))
	p.ours = cluster.Launch(t, ourBinary(t), c.fill(ours))
	p.stock.WaitReady(t)
	p.ours.WaitReady(t)
	for _, client := range clients {
		p.probes[client] = newBoth(p, client)
		t.Cleanup(p.probes[client].close)
	}
	return p
}

// writeKey writes a key with which dnssec signs cluster.local.
func writeKey(t *testing.T, path string) {
	t.Helper()
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "cluster.local.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	cluster.WriteFile(t, path+".key", key.String()+"\n")
	cluster.WriteFile(t, path+".private", key.PrivateKeyString(private))
}

// ask returns the replies of both to a client that is not a pod.
func (p *pair) ask(name string, qtype uint16) (stock, ours reply) {
	return p.askAs(nobody, name, qtype)
}

// askAs returns the replies of both to a client, over TCP. It caches replies, as nothing changes.
func (p *pair) askAs(client, name string, qtype uint16) (stock, ours reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := client + " " + name + dns.Type(qtype).String()
	if r, ok := p.probed[key]; ok {
		return r[0], r[1]
	}
	// A reply to the second query shows that the first gets none.
	qs := []question{{name, qtype, plain}, {".", dns.TypeNS, plain}}
	stock, ours = reply{none: true}, reply{none: true}
	for range 3 { // an idle connection may be closed by now
		s, o, err := p.probes[client].ask(qs, 5*time.Second)
		if err != nil {
			continue
		}
		if r, err := parse(s[0]); err == nil && !r.none {
			stock = r
		}
		if r, err := parse(o[0]); err == nil && !r.none {
			ours = r
		}
		if s[1] != nil && o[1] != nil {
			break
		}
	}
	p.probed[key] = [2]reply{stock, ours}
	return stock, ours
}

// mute reports whether stock may give no reply to q because it can't pack it, so that waiting is useless.
func (p *pair) mute(q question) bool {
	name := strings.ToLower(q.name)
	a, _ := reverseAddr(name)
	switch {
	case p.config.hosts, shared.world.unowned(a):
		return q.qtype == dns.TypePTR
	case p.config.zones == ".":
		return q.qtype == dns.TypePTR || q.qtype == dns.TypeSRV
	}
	return strings.Contains(name, "long."+broken+".") || q.qtype == dns.TypeSRV && strings.HasSuffix(name, ".clusterset.local.")
}

// tally counts results.
type tally struct {
	mu        sync.Mutex
	asked     int
	positive  int // replies with records in the answer section
	truncated int
	silent    int // queries without a reply from stock
	uses      map[string]int
	differ    int
	shown     []string
}

const mostShown = 12

func newTally() *tally { return &tally{uses: make(map[string]int)} }

func (s *tally) add(o *tally) {
	s.asked, s.positive, s.truncated, s.silent, s.differ = s.asked+o.asked, s.positive+o.positive, s.truncated+o.truncated, s.silent+o.silent, s.differ+o.differ
	s.shown = append(s.shown, o.shown...)
	s.shown = s.shown[:min(len(s.shown), mostShown)]
	for name, n := range o.uses {
		s.uses[name] += n
	}
}

// report fails the test for unintended differences.
func (s *tally) report(t *testing.T) {
	t.Helper()
	t.Logf("%d questions, %d with records in the answer, %d truncated, %d without a reply from stock", s.asked, s.positive, s.truncated, s.silent)
	for _, name := range slices.Sorted(maps.Keys(s.uses)) {
		t.Logf("%8d allowed: %s", s.uses[name], name)
	}
	for _, d := range s.shown {
		t.Errorf("%s\n", d)
	}
	if s.differ > len(s.shown) {
		t.Errorf("and %d differences more; DIFFERENTIAL_SEED=%d repeats this", s.differ-len(s.shown), seed)
	}
}

// compare sends all queries to both and returns the results.
func (p *pair) compare(t *testing.T, qs []question) *tally {
	t.Helper()
	const batch, workers = 48, 6
	s := newTally()
	var late []question

	work := make(chan []question)
	var wg sync.WaitGroup
	for i := range workers {
		b := newBoth(p, clients[i%len(clients)])
		wg.Go(func() {
			defer b.close()
			for qs := range work {
				stock, ours, err := b.ask(qs, 500*time.Millisecond)
				if err != nil {
					t.Error(err)
					continue
				}
				for i, q := range qs {
					if stock[i] == nil || ours[i] == nil {
						s.mu.Lock()
						late = append(late, q)
						s.mu.Unlock()
						continue
					}
					p.judge(t, s, b.stock.local, q, stock[i], ours[i])
				}
			}
		})
	}
	var next []question
	for _, q := range qs {
		if p.mute(q) {
			s.mu.Lock()
			late = append(late, q)
			s.mu.Unlock()
			continue
		}
		if next = append(next, q); len(next) == batch {
			work <- next
			next = nil
		}
	}
	work <- next
	close(work)
	wg.Wait()
	p.again(t, s, late)
	return s
}

// again repeats queries without a reply, a few times and with more patience.
func (p *pair) again(t *testing.T, s *tally, qs []question) {
	const batch = 100
	b := newBoth(p, clients[0])
	defer b.close()
	for part := range slices.Chunk(qs, batch) {
		stock, ours := make([][]byte, len(part)), make([][]byte, len(part))
		for _, patience := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
			moreStock, moreOurs, err := b.ask(part, patience)
			if err != nil {
				t.Error(err)
				return
			}
			missing := false
			for i := range part {
				if stock[i] == nil {
					stock[i] = moreStock[i]
				}
				if ours[i] == nil {
					ours[i] = moreOurs[i]
				}
				missing = missing || ours[i] == nil || stock[i] == nil && !p.mute(part[i])
			}
			if !missing {
				break
			}
		}
		for i, q := range part {
			p.judge(t, s, clients[0], q, stock[i], ours[i])
		}
	}
}

// judge compares two replies to a client.
func (p *pair) judge(t *testing.T, s *tally, client string, q question, stockWire, oursWire []byte) {
	name, d := "", &difference{pair: p, client: client, q: q}
	same := sameWire(stockWire, oursWire)
	if !same {
		var err error
		if d.stock, err = parse(stockWire); err != nil { // stock sends names that are too long
			d.stock = reply{none: true}
		}
		if d.ours, err = parse(oursWire); err != nil {
			t.Errorf("%v: kubehosts: %v", q, err)
		}
		if same = sameReply(d.stock, d.ours, lines{ttl: !p.config.loose}); !same {
			name = d.allowed()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if len(stockWire) >= headerLen {
		if stockWire[7] > 0 || stockWire[6] > 0 {
			s.positive++
		}
		if stockWire[2]&flagTC != 0 {
			s.truncated++
		}
	} else {
		s.silent++
	}
	switch {
	case same:
	case name != "":
		s.uses[name]++
	default:
		if s.differ++; len(s.shown) < mostShown {
			s.shown = append(s.shown, d.String())
		}
	}
}

// difference is a pair of different replies to one query.
type difference struct {
	pair        *pair
	client      string
	q           question
	stock, ours reply
}

func (d *difference) String() string {
	const most = 20
	text := func(r reply) string {
		all := strings.Split(lines{ttl: true, records: true}.text(r), "\n")
		if len(all) > most {
			all = append(all[:most], fmt.Sprintf("and %d lines more", len(all)-most))
		}
		return strings.Join(all, "\n")
	}
	return fmt.Sprintf("%s: %v\nstock: %s\nkubehosts: %s", d.pair.config.name, d.q, text(d.stock), text(d.ours))
}
