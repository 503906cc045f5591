package wire

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/cancel"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/minimal"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/transfer"
	_ "github.com/coredns/coredns/plugin/view"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// serverBlock sets plugins up as a server block with these directives has them.
func serverBlock(t testing.TB, view *answer.View, directives ...string) *dnsserver.Config {
	t.Helper()
	config := &dnsserver.Config{Zone: ".", ListenHosts: []string{""}, Port: "53", Transport: "dns"}
	for _, text := range directives {
		name, _, _ := strings.Cut(text, " ")
		if name == stanza.Name {
			config.AddPlugin(func(plugin.Handler) plugin.Handler { return byMessage{view} })
			continue
		}
		c := caddy.NewTestController("dns", text)
		c.ServerBlockKeys = []string{"dns://.:53"}
		setup, err := caddy.DirectiveAction("dns", name)
		if err == nil {
			err = setup(c)
		}
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		config.Plugin = append(config.Plugin, dnsserver.GetConfig(c).Plugin...)
	}
	return config
}

// build makes the handlers of a server block.
func build(t testing.TB, config *dnsserver.Config) *dnsserver.Config {
	t.Helper()
	at := slices.Index(dnsserver.Directives, "hosts")
	if !slices.Contains(dnsserver.Directives, stanza.Name) {
		dnsserver.Directives = slices.Insert(dnsserver.Directives, at, stanza.Name)
	}
	if _, err := dnsserver.NewServer("dns://:53", []*dnsserver.Config{config}); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestNewChain(t *testing.T) {
	for _, tc := range []struct {
		directives []string
		want       string // the chain, or why there is none
	}{
		{[]string{"kubehosts"}, "chain{}"},
		{[]string{"metadata", "cancel", "errors", "kubehosts"}, "chain{}"},
		{[]string{"errors", "transfer {\n to *\n}", "kubehosts"}, "chain{}"},
		{[]string{"errors", "loadbalance", "kubehosts"}, "chain{shuffle}"},
		{[]string{"loadbalance round_robin", "kubehosts"}, "chain{shuffle}"},
		{[]string{"cache", "kubehosts"}, "chain{cache [.] {5 3600} {5 1800} 5}"},
		{[]string{"cache 30", "kubehosts"}, "chain{cache [.] {5 30} {5 30} 5}"},
		{[]string{"cache 30 cluster.local", "kubehosts"}, "chain{cache [cluster.local.] {5 30} {5 30} 5}"},
		{[]string{"cache {\n success 100 60 0\n denial 100 7 1\n servfail 0s\n}", "kubehosts"}, "chain{cache [.] {0 60} {1 7} 0}"},
		{[]string{"prometheus localhost:0", "errors", "kubehosts"}, "chain{counted [.] as errors}"},
		{[]string{"prometheus localhost:0", "kubehosts"}, "chain{counted [.] as kubehosts}"},
		{[]string{"errors", "log", "kubehosts"}, "plugin log"},
		{[]string{"rewrite name a b", "kubehosts"}, "plugin rewrite"},
		{[]string{"minimal", "kubehosts"}, "plugin minimal"},
		{[]string{"loadbalance round_robin {\n prefer 10.0.0.0/8\n}", "kubehosts"}, "plugin loadbalance with weights or preferred subnets"},
		{[]string{"errors", "errors", "kubehosts"}, "a plugin that is not in the list of directives"},
		{[]string{"errors"}, "no plugin kubehosts"},
	} {
		got := ""
		if c, err := newChain(build(t, serverBlock(t, nil, tc.directives...)), nil); err != nil {
			got = err.Error()
		} else {
			got = describe(c)
		}
		if got != tc.want {
			t.Errorf("%q: got %s, want %s", tc.directives, got, tc.want)
		}
	}
	config := build(t, serverBlock(t, nil, "kubehosts"))
	config.ViewName = "inside"
	if _, err := newChain(config, nil); err == nil || err.Error() != "plugin view" {
		t.Errorf("a server block with a view: %v", err)
	}
}

func describe(c *chain) string {
	var all []string
	if c.shuffle {
		all = append(all, "shuffle")
	}
	if c.cache != nil {
		all = append(all, fmt.Sprintf("cache %v %v %v %d", c.cache.zones, c.cache.success, c.cache.denial, c.cache.failure))
	}
	if c.counted != nil {
		all = append(all, fmt.Sprintf("counted %v as %s", c.counted, c.behind))
	}
	return "chain{" + strings.Join(all, ", ") + "}"
}

// TestCached compares the replies with those that *cache* sends for an answer that it has just
// stored.
func TestCached(t *testing.T) {
	view := theWorld(t)
	for _, text := range []string{"cache 30", "cache 3 example.org", "cache {\n success 1000 3600 20\n denial 1000 100 60\n}"} {
		config := build(t, serverBlock(t, view, text, "kubehosts"))
		c, err := newChain(config, nil)
		if err != nil {
			t.Fatal(err)
		}
		k := newReader(view, c)
		s := newStock(t, view, config.Plugin[0])
		asked := map[string]bool{}
		for i, name := range askedNames() {
			if lower := strings.ToLower(name); asked[lower] {
				continue // stored already
			} else {
				asked[lower] = true
			}
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeSOA} {
				opt := opts[i%3+1]
				packet := queryOf(t, name, qtype, opt)
				got, why := k.ask(packet, true)
				if why != answered {
					continue
				}
				if want := s.ask(packet, true); !bytes.Equal(got, want) {
					t.Fatalf("%q: %s %s, %v: got %s\nwant %s", text, name, dns.Type(qtype), opt, unpacked(got), unpacked(want))
				}
			}
		}
	}
}

// TestCounted compares the counts of *prometheus* with the counts here for the same questions.
func TestCounted(t *testing.T) {
	view := theWorld(t)
	config := build(t, serverBlock(t, view, "prometheus localhost:0", "errors", "kubehosts"))
	c, err := newChain(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	k := newReader(view, c)
	const here = "dns://192.0.2.1:53"
	k.serving.listener.zones[0].counters = c.counters(here, ".")
	s := newStock(t, view, config.Plugin[:2]...)
	for i, name := range askedNames() {
		for _, qtype := range askedTypes {
			v4 := i%3 != 0
			packet := queryOf(t, name, qtype, opts[(i+int(qtype))%len(opts)])
			if _, why := k.ask(packet, v4); why == answered {
				s.ask(packet, v4)
			}
		}
	}
	for i := range k.counting {
		k.counting[i].count(0)
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "coredns_dns_") {
			continue
		}
		byServer := map[string][]string{}
		for _, m := range f.Metric {
			server, rest := "", ""
			for _, l := range m.Label {
				if l.GetName() == "server" {
					server = l.GetValue()
				} else {
					rest += fmt.Sprintf("%s=%s ", l.GetName(), l.GetValue())
				}
			}
			byServer[server] = append(byServer[server], rest+countOf(f.GetName(), m))
		}
		want, got := byServer["dns://:53"], byServer[here]
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("%s: got\n%s\nwant\n%s", f.GetName(), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		compared += len(want)
	}
	if compared < 30 {
		t.Errorf("%d series compared", compared)
	}
}

// countOf returns the value of a metric, without the durations.
func countOf(name string, m *dto.Metric) string {
	h := m.GetHistogram()
	switch {
	case h == nil:
		return fmt.Sprint(m.GetCounter().GetValue())
	case strings.HasSuffix(name, "_seconds"):
		return fmt.Sprint(h.GetSampleCount())
	}
	return fmt.Sprint(h.GetSampleCount(), h.GetSampleSum(), h.Bucket)
}

func TestFind(t *testing.T) {
	ours := new(chain)
	at := func(zone string, c int) blockOf { return blockOf{&dnsserver.Config{Zone: zone}, c} }
	l := newListener("dns://:53", []blockOf{at(".", 0), at("cluster.local.", 1), at("in.cluster.local.", 2), at("example.org.", 1), at("example.org.", 3)}, map[int]*chain{1: ours})
	for name, want := range map[string]*chain{
		"cluster.local.": ours, "a.cluster.local.": ours, "a.in.cluster.local.": nil, "in.cluster.local.": nil, "xin.cluster.local.": ours,
		`in\.cluster.local.`: nil, ".": nil, "local.": nil, "example.org.": nil, "a.example.org.": nil,
	} {
		z := l.find(name)
		if z == nil || z.chain != want {
			t.Errorf("%s: in zone %v", name, z)
		}
	}
}
