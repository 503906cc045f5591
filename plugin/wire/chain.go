package wire

import (
	"cmp"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// chain is a server block whose questions may be answered here, and the changes that plugins ahead of kubehosts make
// to the answers.
type chain struct {
	view    func() *answer.View
	shuffle bool      // *loadbalance* puts addresses in random order
	cache   *cacheTTL // nil without *cache*
	counted []string  // the zones that *prometheus* counts for, the longest first; nil without it
	behind  string    // the plugin after *prometheus*, which its metrics name as the one that answered
}

// newChain returns the chain of a server block with these plugins, in their order. The error names the obstacle if
// its questions can't be answered here.
func newChain(c *dnsserver.Config, view func() *answer.View) (*chain, error) {
	handlers := c.Handlers()
	switch {
	case c.ViewName != "" || len(c.FilterFuncs) > 0:
		return nil, fmt.Errorf("plugin view")
	case len(handlers) != len(c.Plugin):
		return nil, fmt.Errorf("a plugin that is not in the list of directives")
	}
	ch := &chain{view: view}
	for i, h := range handlers {
		var err error
		switch h.Name() {
		case stanza.Name:
			return ch, nil
		case "errors", "cancel", "metadata": // nothing fails or waits here, and plugins that read metadata are not allowed
		case "transfer": // handles only zone transfers, which are passed on
		case "prometheus":
			err = ch.countFor(h, handlers[i+1].Name())
		case "loadbalance":
			err = ch.balance(h)
		case "cache":
			ch.cache, err = newCacheTTL(h)
		default:
			err = fmt.Errorf("plugin %s", h.Name())
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no plugin %s", stanza.Name)
}

// countFor determines the zones that *prometheus* counts for.
func (c *chain) countFor(h plugin.Handler, behind string) error {
	m, ok := h.(interface{ ZoneNames() []string })
	if !ok {
		return fmt.Errorf("an unknown plugin prometheus")
	}
	c.behind = behind
	c.counted = slices.SortedFunc(slices.Values(m.ZoneNames()), longest)
	if !slices.Contains(c.counted, ".") {
		c.counted = append(c.counted, ".") // it counts names outside its zones here
	}
	return nil
}

func longest(a, b string) int { return cmp.Compare(len(b), len(a)) }

// balance determines whether *loadbalance* only shuffles: it may have weights or preferred subnets, which it does
// not export.
func (c *chain) balance(h plugin.Handler) error {
	shuffle := field(h, "shuffle", reflect.Func)
	if !shuffle.IsValid() || !strings.HasSuffix(runtime.FuncForPC(shuffle.Pointer()).Name(), "/loadbalance.randomShuffle") {
		return fmt.Errorf("plugin loadbalance with weights or preferred subnets")
	}
	c.shuffle = true
	return nil
}

// field returns a field of h, or of the value that h points to. It returns the zero Value if there is no such field of
// that kind.
func field(h plugin.Handler, name string, kind reflect.Kind) reflect.Value {
	v := reflect.Indirect(reflect.ValueOf(h))
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	if f := v.FieldByName(name); f.IsValid() && f.Kind() == kind {
		return f
	}
	return reflect.Value{}
}

// cacheTTL applies the TTLs that *cache* gives to an answer when it stores it: all records get the lowest, within
// bounds. The cache itself is skipped, because a look-up here takes less time, but clients must not see a longer TTL.
type cacheTTL struct {
	zones           []string
	success, denial bounds
	failure         uint32
}

// bounds are the lowest and the highest TTL, in seconds.
type bounds struct{ min, max uint32 }

// newCacheTTL reads the bounds, which *cache* does not export.
func newCacheTTL(h plugin.Handler) (*cacheTTL, error) {
	unknown := false
	seconds := func(name string) uint32 {
		f := field(h, name, reflect.Int64)
		if !f.IsValid() {
			unknown = true
			return 0
		}
		return uint32(time.Duration(f.Int()).Seconds())
	}
	c := &cacheTTL{
		success: bounds{seconds("minpttl"), seconds("pttl")},
		denial:  bounds{seconds("minnttl"), seconds("nttl")},
		failure: seconds("failttl"),
	}
	zones := field(h, "Zones", reflect.Slice)
	if unknown || !zones.IsValid() || zones.Type().Elem().Kind() != reflect.String {
		return nil, fmt.Errorf("an unknown plugin cache")
	}
	for i := range zones.Len() {
		c.zones = append(c.zones, zones.Index(i).String())
	}
	return c, nil
}

// ttl returns the TTL for all records of an answer whose lowest TTL is lowest. ok is false if the cache would not
// change it.
func (c *cacheTTL) ttl(a *answer.Answer, lowest uint32) (ttl uint32, ok bool) {
	if !slices.ContainsFunc(c.zones, func(zone string) bool { return answer.InZone(a.Lower, zone) }) {
		return 0, false
	}
	of := c.success
	switch {
	case a.Rcode == dns.RcodeServerFailure:
		return c.failure, true
	case a.Rcode == dns.RcodeNameError && len(a.Aliases) > 0: // not stored
		lowest = uint32(dnsutil.MinimalDefaultTTL.Seconds())
	case a.Denied:
		of = c.denial
	}
	return min(max(lowest, of.min), of.max), true
}

// listener holds the zones that are answered on an address.
type listener struct {
	addr  string // as in dnsserver.Server: dns://127.0.0.1:53
	zones []zone // of all server blocks on that address, the longest first
}

// zone is a zone of a server block.
type zone struct {
	name     string
	chain    *chain      // nil if CoreDNS answers the questions
	counters []*counters // for the zones of chain.counted that contain this zone or are in it, the longest first; nil without *prometheus*
}

// find returns the zone that a lower-case name is in, nil if it is in none.
func (l *listener) find(name string) *zone {
	for i := range l.zones {
		if z := &l.zones[i]; answer.InZone(name, z.name) {
			return z
		}
	}
	return nil
}

// counter returns the counters for a lower-case name in z, nil if *prometheus* does not count it.
func (z *zone) counter(name string) *counters {
	for _, c := range z.counters {
		if answer.InZone(name, c.zone) {
			return c
		}
	}
	return nil
}

// blockOf is a server block with one of its zones.
type blockOf struct {
	config *dnsserver.Config
	block  int
}

// newListener returns the listener of addr, which serves the zones of all. chains are those of the server blocks that
// are answered here, by their index.
func newListener(addr string, all []blockOf, chains map[int]*chain) *listener {
	l := &listener{addr: addr}
	for _, b := range all {
		z := zone{name: b.config.Zone, chain: chains[b.block]}
		if at := slices.IndexFunc(l.zones, func(other zone) bool { return other.name == z.name }); at >= 0 {
			l.zones[at].chain = nil // only the view plugin can tell them apart
			continue
		}
		if z.chain != nil {
			z.counters = z.chain.counters(addr, z.name)
		}
		l.zones = append(l.zones, z)
	}
	slices.SortStableFunc(l.zones, func(a, b zone) int { return longest(a.name, b.name) })
	return l
}

// counters returns the counters for names in a zone.
func (c *chain) counters(addr, zone string) (all []*counters) {
	for _, counted := range c.counted {
		if answer.InZone(counted, zone) || answer.InZone(zone, counted) {
			all = append(all, &counters{server: addr, zone: counted, plugin: c.behind})
		}
	}
	return all
}

// listens returns the addresses for plain DNS that a server block listens on, in the form of dnsserver.Server.
func listens(c *dnsserver.Config) (addrs []string) {
	if c.Transport != transport.DNS {
		return nil
	}
	for _, host := range c.ListenHosts {
		addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, c.Port))
		if err != nil {
			continue // CoreDNS would not have started
		}
		addrs = append(addrs, c.Transport+"://"+addr.String())
	}
	return addrs
}
