package test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// wired is a Corefile whose queries over UDP kubehosts answers outside CoreDNS's own server. 192.0.2.9 is the address
// of the manifest's one Service. www.example.org belongs to the hosts plugin, so that queries for it are passed on.
const wired = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	loadbalance
	kubehosts cluster.local {
		manifests DIR/objects.yaml
		ttl 7
	}
	hosts {
		192.0.2.80 www.example.org
	}
}
`

const wiredObjects = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 192.0.2.9, ports: [{port: 80}]}\n"

// runWired starts coredns on a Corefile, with the objects that the Corefile refers to.
func runWired(t *testing.T, corefile string) *cluster.CoreDNS {
	t.Helper()
	c := cluster.Launch(t, coredns(t), corefile)
	cluster.WriteFile(t, c.Path("objects.yaml"), wiredObjects)
	c.WaitReady(t)
	cluster.Eventually(t, 20*time.Second, func() (bool, string) {
		conn := cluster.Dial(t, "tcp", c.Addr)
		defer conn.Close()
		m, err := conn.Ask("web.shop.svc.cluster.local", dns.TypeA)
		return err == nil && len(m.Answer) == 1, fmt.Sprint(m, err)
	})
	return c
}

// flood sends queries without pause, from eight sockets, until it is stopped: kubehosts answers three of four, and one
// is passed on.
type flood struct {
	asked, lost, wrong atomic.Int64

	stop chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	said []string
}

func startFlood(t *testing.T, addr string) *flood {
	t.Helper()
	f := &flood{stop: make(chan struct{})}
	for i := range 8 {
		conn := cluster.Dial(t, "udp", addr)
		f.wg.Go(func() { f.run(conn, i) })
	}
	return f
}

func (f *flood) run(conn *cluster.Client, i int) {
	for ; ; i++ {
		select {
		case <-f.stop:
			return
		default:
		}
		name, want := "web.shop.svc.cluster.local.", "192.0.2.9"
		if i%4 == 0 {
			name, want = "www.example.org.", "192.0.2.80"
		}
		m, err := conn.Ask(name, dns.TypeA)
		f.asked.Add(1)
		switch {
		case err != nil:
			f.lost.Add(1)
			f.say(err.Error())
		case len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), "\t"+want):
			f.wrong.Add(1)
			f.say(cluster.Text(m))
		}
	}
}

func (f *flood) say(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.said) < 5 {
		f.said = append(f.said, what)
	}
}

// more waits until that many more queries were sent.
func (f *flood) more(t *testing.T, n int64) {
	t.Helper()
	from := f.asked.Load()
	cluster.Eventually(t, 20*time.Second, func() (bool, string) {
		now := f.asked.Load() - from
		return now >= n, fmt.Sprintf("%d of %d questions", now, n)
	})
}

// end stops it and reports lost and wrong answers.
func (f *flood) end(t *testing.T) {
	t.Helper()
	close(f.stop)
	f.wg.Wait()
	if f.lost.Load()+f.wrong.Load() > 0 || f.asked.Load() == 0 {
		t.Errorf("of %d questions %d were lost and %d answered wrongly:\n%s", f.asked.Load(), f.lost.Load(), f.wrong.Load(), strings.Join(f.said, "\n"))
	}
	t.Logf("%d questions, none lost or answered wrongly", f.asked.Load())
}

// reload stores another Corefile, and waits until the log has the result.
func reload(t *testing.T, c *cluster.CoreDNS, corefile, says string) {
	t.Helper()
	before := strings.Count(c.Log(), says)
	c.Write(t, corefile)
	c.Reload(t)
	cluster.Eventually(t, 20*time.Second, func() (bool, string) {
		return strings.Count(c.Log(), says) > before, "in the log: " + says
	})
}

const (
	reloaded = "Reloading complete"
	failed   = "SIGUSR1: starting with listener file descriptors"
)

// answers returns how many queries were answered outside CoreDNS's own server.
func answers(t *testing.T, c *cluster.CoreDNS) float64 {
	t.Helper()
	return c.Metric(t, "coredns_kubehosts_wire_answers_total")
}

// TestWireAnswers checks where queries were answered, and the counters.
func TestWireAnswers(t *testing.T) {
	c := runWired(t, wired)
	conn := cluster.Dial(t, "udp", c.Addr)
	for range 100 {
		if m, err := conn.Ask("web.shop.svc.cluster.local", dns.TypeA); err != nil || len(m.Answer) != 1 || m.Answer[0].Header().Ttl != 7 {
			t.Fatalf("%v, %v", m, err)
		}
		if m, err := conn.Ask("www.example.org", dns.TypeA); err != nil || len(m.Answer) != 1 {
			t.Fatalf("%v, %v", m, err)
		}
	}
	cluster.Eventually(t, 5*time.Second, func() (bool, string) { // an answer is counted after it was sent
		here, on := answers(t, c), c.Metric(t, "coredns_kubehosts_wire_passed_on_total", "reason", "plugin")
		counted := c.Metric(t, "coredns_dns_requests_total", "proto", "udp", "type", "A")
		// The first query may have arrived before the socket was taken over.
		return here >= 99 && here <= 100 && on >= 99 && on <= 100 && counted == 200,
			fmt.Sprintf("of 200 questions %v were answered outside CoreDNS's own server, %v passed on, and %v counted", here, on, counted)
	})
}

// TestWireOff has server blocks whose queries CoreDNS's server answers, and checks the log about that.
func TestWireOff(t *testing.T) {
	for what, tc := range map[string]struct{ corefile, says string }{
		"wire off":   {strings.Replace(wired, "ttl 7", "wire off", 1), ""},
		"log":        {strings.Replace(wired, "errors", "log", 1), "because of plugin log"},
		"proxyproto": {strings.Replace(wired, "errors", "proxyproto {\nallow 192.0.2.0/24\ndefault ignore\n}", 1), "because of plugin proxyproto"},
		"view":       {strings.Replace(wired, "errors", "view all {\nexpr true\n}", 1), "because of plugin view"},
		"shed":       {strings.Replace(wired, "errors", "shed", 1), "because of plugin shed"},
		"shed there": {wired + "example.org:PORT {\nbind 127.0.0.1\nshed\n}\n", "because of a plugin that decorates the writer"},
		"wildcards": {strings.Replace(wired, "bind 127.0.0.1", "bind 0.0.0.0", 1) + "example.org:PORT {\nbind ::\nwhoami\n}\n",
			"which is the same socket address"},
	} {
		t.Run(what, func(t *testing.T) {
			c := runWired(t, tc.corefile)
			if what != "wildcards" { // where either server block may answer
				conn := cluster.Dial(t, "udp", c.Addr)
				if m, err := conn.Ask("web.shop.svc.cluster.local", dns.TypeA); err != nil || len(m.Answer) != 1 {
					t.Fatalf("%v, %v", m, err)
				}
			}
			if n := answers(t, c); n != 0 {
				t.Errorf("%v questions were answered outside CoreDNS's own server", n)
			}
			if strings.Count(c.Log(), "go through CoreDNS's server") != min(1, len(tc.says)) || !strings.Contains(c.Log(), tc.says) {
				t.Errorf("the log does not say %q once:\n%s", tc.says, c.Log())
			}
		})
	}
}

// TestWireShed has a server block with *shed* on the same address; its hook is still called.
func TestWireShed(t *testing.T) {
	c := runWired(t, "example.org:PORT {\nbind 127.0.0.1\nshed\nhosts {\n192.0.2.81 www.example.org\n}\n}\n"+wired)
	conn := cluster.Dial(t, "udp", c.Addr)
	for name, want := range map[string]string{"web.shop.svc.cluster.local": "192.0.2.9", "www.example.org": "192.0.2.81"} {
		for range 50 {
			if m, err := conn.Ask(name, dns.TypeA); err != nil || len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), "\t"+want) {
				t.Fatalf("%v, %v", m, err)
			}
		}
	}
	if answers(t, c) == 0 {
		t.Error("no question was answered outside CoreDNS's own server")
	}
	if len(c.Series(t, "coredns_shed_dropped_total")) == 0 {
		t.Error("shed does not know of the server")
	}
}

// TestWireReload reloads the Corefile again and again under queries, with valid Corefiles and some that fail at each
// stage. It adds and removes addresses, plugins that leave the answers to CoreDNS, and sockets. No query is lost, and
// nothing stays open.
func TestWireReload(t *testing.T) {
	c := runWired(t, wired)
	taken, err := net.Listen("tcp", "127.0.0.1:0") // so that a server block on it can't start
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f := startFlood(t, c.Addr)
	f.more(t, 500)
	const added = "example.org:OTHER {\nbind 127.0.0.1\nkubehosts example.net {\nmanifests DIR/objects.yaml\n}\nhosts {\n192.0.2.80 www.example.org\n}\n}\n"
	other := func(rest string) string { return strings.Replace(wired, "ttl 7", "ttl 8", 1) + rest }
	broken := map[string]string{
		"not understood": strings.Replace(wired, "ttl 7", "ttl x", 1),
		"no socket":      other(added + fmt.Sprintf("example.org:%d {\nbind 127.0.0.1\nwhoami\n}\n", taken.Addr().(*net.TCPAddr).Port)),
	}
	for i := range 6 {
		reload(t, c, strings.Replace(wired, "ttl 7", fmt.Sprintf("ttl %d", 10+i), 1), reloaded)
		f.more(t, 500)
		for _, corefile := range broken {
			reload(t, c, corefile, failed)
			f.more(t, 500)
		}
	}
	files := c.FDs(t)
	before := answers(t, c)
	for range 3 {
		// When the reload failed, CoreDNS left sockets open on the address that nothing reads.
		reload(t, c, other(added), reloaded)
		f.more(t, 500)
		ask := func() error {
			conn := cluster.Dial(t, "udp", c.Other)
			defer conn.Close()
			m, err := conn.Ask("www.example.org", dns.TypeA)
			if err == nil && len(m.Answer) != 1 {
				err = fmt.Errorf("%v", m)
			}
			return err
		}
		// CoreDNS reports the reload before its servers read, and until then the kernel may choose an abandoned socket.
		cluster.Eventually(t, 30*time.Second, func() (bool, string) {
			for range 50 {
				if err := ask(); err != nil {
					return false, fmt.Sprintf("the address that was added: %v", err)
				}
			}
			return true, ""
		})
		for _, corefile := range []string{
			strings.Replace(wired, "errors", "log . {\nclass error\n}", 1),
			strings.Replace(wired, "ttl 7", "wire off", 1),
			wired,
			strings.Replace(wired, "errors", "multisocket 4", 1),
			strings.Replace(wired, "errors", "multisocket 2", 1),
			strings.Replace(wired, "bind 127.0.0.1", "bind 127.0.0.1 127.0.0.2", 1),
			wired,
		} {
			reload(t, c, corefile, reloaded)
			f.more(t, 500)
		}
	}
	if n := answers(t, c); n < before+1000 {
		t.Errorf("%v questions were answered outside CoreDNS's own server", n-before)
	}
	f.end(t)
	cluster.Eventually(t, 10*time.Second, func() (bool, string) {
		now := c.FDs(t)
		return now <= files, fmt.Sprintf("%d files are open, %d were", now, files)
	})
}

// TestWireGone removes kubehosts from the Corefile and adds it again.
func TestWireGone(t *testing.T) {
	c := runWired(t, wired)
	without := ".:PORT {\nbind 127.0.0.1\nready READY\nprometheus METRICS\nhosts {\n192.0.2.9 web.shop.svc.cluster.local\n192.0.2.80 www.example.org\n}\n}\n"
	f := startFlood(t, c.Addr)
	for range 3 {
		reload(t, c, without, reloaded)
		f.more(t, 500)
		reload(t, c, wired, reloaded)
		f.more(t, 500)
	}
	f.end(t)
	if answers(t, c) == 0 {
		t.Error("no question was answered outside CoreDNS's own server")
	}
}

// TestWireEnds stops coredns under queries. During health's lameduck all are answered; lost queries were sent when the
// process was about to end.
func TestWireEnds(t *testing.T) {
	c := runWired(t, strings.Replace(wired, "errors", "health 127.0.0.1:OTHER {\nlameduck 5s\n}", 1))
	f := startFlood(t, c.Addr)
	f.more(t, 500)
	began := answers(t, c)
	ended := make(chan struct{})
	go func() { defer close(ended); c.Stop() }()
	cluster.Eventually(t, 10*time.Second, func() (bool, string) {
		return strings.Contains(c.Log(), "Going into lameduck mode"), "that it is lame"
	})
	f.more(t, 200) // few, so that a busy machine answers them in time
	if f.lost.Load() > 0 || f.wrong.Load() > 0 {
		t.Errorf("while it was lame, %d questions were lost and %d answered wrongly: %q", f.lost.Load(), f.wrong.Load(), f.said)
	}
	if n := answers(t, c); n < began+100 {
		t.Errorf("while it was lame, %v questions were answered outside CoreDNS's own server", n-began)
	}
	<-ended
	close(f.stop)
	f.wg.Wait()
	refused := slices.IndexFunc(f.said, func(said string) bool { return !strings.Contains(said, "refused") }) < 0
	if !refused {
		t.Errorf("as it ended, questions were lost that were not refused: %q", f.said)
	}
}

// TestWireAddresses listens on all addresses and on several.
func TestWireAddresses(t *testing.T) {
	for bind, addrs := range map[string][]string{
		"all":                          {"127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"},
		"bind 0.0.0.0":                 {"127.0.0.1", "127.0.0.2", "127.1.2.3"},
		"bind 127.0.0.1 127.0.0.2 ::1": {"127.0.0.1", "127.0.0.2", "::1"},
		"bind lo":                      {"127.0.0.1"},
	} {
		t.Run(bind, func(t *testing.T) {
			c := runWired(t, strings.Replace(wired, "bind 127.0.0.1", strings.TrimPrefix(bind, "all"), 1))
			port := c.Addr[strings.LastIndexByte(c.Addr, ':')+1:]
			asked := 0.0
			for _, addr := range addrs {
				conn := cluster.Dial(t, "udp", net.JoinHostPort(addr, port)) // which only accepts replies from there
				for i := range 20 {
					name := []string{"web.shop.svc.cluster.local", "www.example.org"}[i%2]
					if m, err := conn.Ask(name, dns.TypeA); err != nil || len(m.Answer) != 1 {
						t.Fatalf("%s at %s: %v, %v", name, addr, m, err)
					}
				}
				asked += 10
			}
			if n := answers(t, c); n < asked-float64(len(addrs)) || n > asked {
				t.Errorf("of %v questions %v were answered outside CoreDNS's own server", asked, n)
			}
		})
	}
}
