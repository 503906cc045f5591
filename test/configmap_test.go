package test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	liveName    = "live.example.org."
	serviceName = "web.shop.svc.cluster.local."
	serviceIP   = "10.96.7.10"
	firstIP     = "192.0.2.1" // address of liveName in the Corefile's own stanza
)

// A Corefile that follows a ConfigMap. KUBECONFIG stands for its kubeconfig.
const followCorefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	kubehosts cluster.local {
		kubeconfig KUBECONFIG
		configmap kube-system/coredns
		hosts {
			192.0.2.1 live.example.org
		}
		hosts DIR/corp.hosts
	}
}
`

// follower is a coredns that follows the ConfigMap kube-system/coredns, which does not exist when it starts.
type follower struct {
	*cluster.CoreDNS
	who        cluster.Account
	kubeconfig string
}

func runFollower(t *testing.T) follower {
	t.Helper()
	removeConfigMap(t)
	t.Cleanup(func() { removeConfigMap(t) })
	objects(t, shop)
	f := follower{who: account(t)}
	f.kubeconfig = cluster.Kubeconfig(t, api(t).URL, f.who.Token)
	f.CoreDNS = cluster.Run(t, coredns(t), strings.ReplaceAll(followCorefile, "KUBECONFIG", f.kubeconfig))
	return f
}

// stanza is a minimal stanza for the ConfigMap, with additional lines.
func stanza(lines ...string) string {
	return "kubehosts cluster.local {\n" + strings.Join(lines, "\n") + "\n}\n"
}

// live is the hosts option that gives liveName an address.
func live(ip string) string { return "hosts {\n" + ip + " live.example.org\n}" }

// whole puts the stanza into a whole Corefile, between blocks with another stanza or none.
func (f follower) whole(stanza string) string {
	return f.Fill("(logging) {\n errors\n}\nexample.com:PORT {\n kubehosts {\n hosts {\n 192.0.2.66 live.example.org\n }\n }\n}\n" +
		".:PORT {\n import logging\n bind 127.0.0.1\n " + stanza + " ready READY\n prometheus METRICS\n cache 30\n forward . /etc/resolv.conf\n}\n" +
		"example.net:PORT {\n whoami\n}\n")
}

// setConfigMap stores text as the Corefile of the ConfigMap, and returns when the API server has stored
// it.
func setConfigMap(t *testing.T, text string) { putConfigMap(t, map[string]string{"Corefile": text}) }

func putConfigMap(t *testing.T, data map[string]string) {
	t.Helper()
	api(t).PutConfigMap(t, "coredns", data)
}

func removeConfigMap(t *testing.T) {
	t.Helper()
	api(t).RemoveConfigMap(t, "coredns")
}

// address queries the only A record of a name.
func address(c *cluster.Client, name string) (string, error) {
	m, err := c.Ask(name, dns.TypeA)
	if err != nil {
		return "", err
	}
	if len(m.Answer) == 1 {
		if a, ok := m.Answer[0].(*dns.A); ok {
			return a.A.String(), nil
		}
	}
	return "", fmt.Errorf("not one address of %s: %s", name, cluster.Text(m))
}

// awaitLive queries until liveName has the address ip.
func awaitLive(t *testing.T, c *cluster.Client, ip string) {
	t.Helper()
	cluster.Eventually(t, bound, func() (bool, string) {
		got, err := address(c, liveName)
		return got == ip, fmt.Sprintf("%s is %s, want %s, %v", liveName, got, ip, err)
	})
}

// editIP is the address of an edit, by its number.
func editIP(i int) string {
	return netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}).String()
}

func editOf(ip string) (int, bool) {
	a, err := netip.ParseAddr(ip)
	if err != nil || !a.Is4() {
		return 0, false
	}
	b := a.As4()
	if ip == firstIP {
		return 0, true
	}
	return int(b[2])<<8 | int(b[3]), b[0] == 10 && b[1] == 9
}

// broken are stanzas that must change nothing. Each has an address that must never be answered.
var broken = []func(ip string) string{
	func(ip string) string { return stanza(live(ip), "bogus") },
	func(ip string) string { return stanza(live(ip), "ttl never") },
	func(ip string) string { return "kubehosts cluster.local {\n" + live(ip) + "\n" },
	func(ip string) string { return stanza(live(ip), "kubeconfig /etc/shadow") },
	func(ip string) string { return stanza(live(ip), "hosts /etc/shadow") },
	func(ip string) string { return "example.org {\n " + stanza(live(ip)) + "}\n" },
	func(ip string) string { return stanza(live(ip)) + "}\n" },
	func(ip string) string { return "" },
}

// asker counts its queries. The writer of the ConfigMap sets which answers are allowed.
type asker struct {
	next atomic.Int64 // the edit in flight, or the last
	seen atomic.Int64 // the newest edit that any client has seen
	at   sync.Map     // edit -> time.Time of its first answer
	asks atomic.Int64
	stop chan struct{}
	wg   sync.WaitGroup
}

// run queries the Service and liveName in turn, without pause, until stop.
func (a *asker) run(t *testing.T, network, addr string) {
	c := cluster.Dial(t, network, addr)
	a.wg.Go(func() {
		for {
			select {
			case <-a.stop:
				return
			default:
			}
			if ip, err := address(c, serviceName); err != nil || ip != serviceIP {
				t.Errorf("%s: %s is %q: %v", network, serviceName, ip, err)
				return
			}
			atLeast := a.seen.Load()
			ip, err := address(c, liveName)
			now := time.Now()
			edit, ok := editOf(ip)
			switch {
			case err != nil || !ok:
				t.Errorf("%s: %s is %q: %v", network, liveName, ip, err)
				return
			case int64(edit) < atLeast:
				t.Errorf("%s: the answer of edit %d after that of edit %d", network, edit, atLeast)
				return
			case int64(edit) > a.next.Load():
				t.Errorf("%s: the answer of edit %d while the newest is %d", network, edit, a.next.Load())
				return
			}
			for old := a.seen.Load(); int64(edit) > old; old = a.seen.Load() {
				if a.seen.CompareAndSwap(old, int64(edit)) {
					a.at.Store(edit, now)
				}
			}
			a.asks.Add(2)
		}
	})
}

// The ConfigMap is edited 200 times, every third edit broken, while clients query without pause: no query is lost, no
// answer is wrong, and nothing is listed again, neither after the edits nor after a reload of the Corefile.
func TestConfigMapEdits(t *testing.T) {
	f := runFollower(t)
	requests := f.checkRequests(t, "services", "namespaces", "endpointslices.discovery.k8s.io", "configmaps")
	if n := f.Metric(t, "coredns_kubehosts_stanza_info", "origin", "corefile"); n != 1 {
		t.Errorf("%v stanzas of the Corefile serve, want 1", n)
	}

	a := &asker{stop: make(chan struct{})}
	for _, network := range []string{"udp", "tcp"} {
		a.run(t, network, f.Addr)
		a.run(t, network, f.Addr)
	}
	var took []time.Duration
	var before, after leaks
	refused := f.Metric(t, "coredns_kubehosts_stanza_rejected_total") // 1: no ConfigMap yet
	const edits = 200
	for i := 1; i <= edits && !t.Failed(); i++ {
		ip := editIP(i)
		if i%3 == 0 {
			setConfigMap(t, broken[i/3%len(broken)](ip))
			refused++
			cluster.Eventually(t, bound, func() (bool, string) {
				n := f.Metric(t, "coredns_kubehosts_stanza_rejected_total")
				return n >= refused || t.Failed(), fmt.Sprintf("edit %d counts as refused: %v, want %v", i, n, refused)
			})
			continue
		}
		a.next.Store(int64(i))
		text := stanza(live(ip))
		if i%2 == 0 {
			text = f.whole(text)
		}
		setConfigMap(t, text)
		saved := time.Now()
		cluster.Eventually(t, bound, func() (bool, string) {
			_, ok := a.at.Load(i)
			return ok || t.Failed(), fmt.Sprintf("an answer of edit %d", i)
		})
		if at, ok := a.at.Load(i); ok {
			took = append(took, max(0, at.(time.Time).Sub(saved)))
		}
		if i == 10 {
			before = f.leaks(t)
		}
	}
	after = f.leaks(t)
	close(a.stop)
	a.wg.Wait()
	if t.Failed() {
		return
	}
	slices.Sort(took)
	t.Logf("%d queries; from the edit to its first answer p50 %v, p99 %v, max %v of %d",
		a.asks.Load(), took[len(took)/2], took[len(took)*99/100], took[len(took)-1], len(took))
	if n := f.Metric(t, "coredns_kubehosts_stanza_rejected_total"); n != refused {
		t.Errorf("%v stanzas counted as refused, want %v", n, refused)
	}
	if n := f.Metric(t, "coredns_kubehosts_stanza_info", "origin", "configmap"); n != 1 {
		t.Errorf("%v stanzas of the ConfigMap serve, want 1", n)
	}
	if n := len(f.Series(t, "coredns_kubehosts_stanza_info")); n != 1 {
		t.Errorf("%d series of stanza_info, want 1", n)
	}
	after.check(t, before)

	if now := f.checkRequests(t, "services", "namespaces", "endpointslices.discovery.k8s.io", "configmaps"); now != requests {
		t.Errorf("%d requests after %d edits, want the %d of the start", now, edits, requests)
	}

	// A reload of the Corefile preserves the running watches, whether its own stanza has changed, has not changed, or
	// is broken. Throughout, the ConfigMap's stanza answers, not the Corefile's. TCP clients must dial again, as with
	// any plugin.
	a = &asker{stop: make(chan struct{})}
	a.next.Store(edits)
	a.seen.Store(edits)
	a.run(t, "udp", f.Addr)
	a.run(t, "udp", f.Addr)
	good := strings.ReplaceAll(followCorefile, "KUBECONFIG", f.kubeconfig)
	for i, corefile := range []string{good, good, strings.Replace(good, "configmap", "ttl 7\nconfigmap", 1), strings.Replace(good, "configmap", "bogus\nconfigmap", 1), good} {
		f.Write(t, corefile)
		f.Reload(t)
		cluster.Eventually(t, bound, func() (bool, string) {
			log := f.Log()
			return strings.Count(log, "Reloading complete")+strings.Count(log, "Restart failed") > i, "a reload in the log"
		})
	}
	close(a.stop)
	a.wg.Wait()
	t.Logf("%d queries during reloads", a.asks.Load())
	if now := f.checkRequests(t, "services", "namespaces", "endpointslices.discovery.k8s.io", "configmaps"); now != requests {
		t.Errorf("%d requests after reloads, want the %d of the start", now, requests)
	}
	f.leaks(t).check(t, before)
}

// checkRequests asserts that each resource has had one watch and at most one list so far, all of them granted. It
// returns the number of requests.
func (f follower) checkRequests(t *testing.T, resources ...string) int {
	t.Helper()
	return checkRequests(t, watching(t, f.who, resources...), resources...)
}

// watching returns the requests once all resources are watched.
func watching(t *testing.T, who cluster.Account, resources ...string) (all []cluster.Request) {
	t.Helper()
	cluster.Eventually(t, bound, func() (bool, string) {
		all = api(t).Audit(t, who)
		watched := map[string]bool{}
		for _, r := range all {
			watched[r.Resource] = watched[r.Resource] || r.Verb == "watch" && r.Code == http.StatusOK
		}
		return !slices.ContainsFunc(resources, func(r string) bool { return !watched[r] }), fmt.Sprintf("watches of %q: %v", resources, all)
	})
	return all
}

func checkRequests(t *testing.T, all []cluster.Request, resources ...string) int {
	t.Helper()
	lists, watches := map[string]int{}, map[string]int{}
	streams := api(t).Has(t, "WatchList")
	all = slices.DeleteFunc(all, func(r cluster.Request) bool { return isEvent(r) || !streams && isRefusedStream(r) })
	for _, r := range all {
		switch {
		case r.Code >= 300:
			t.Errorf("%v was answered with status %d", r, r.Code)
		case !slices.Contains(resources, r.Resource):
			t.Errorf("%v, want none of %s", r, r.Resource)
		case r.Verb == "list" || r.Verb == "get":
			lists[r.Resource]++
		case r.Verb == "watch":
			watches[r.Resource]++
		default:
			t.Errorf("%v", r)
		}
	}
	for _, r := range resources {
		if lists[r] > 1 || watches[r] != 1 {
			t.Errorf("%s: %d lists and %d watches, want one watch and a list at most", r, lists[r], watches[r])
		}
	}
	return len(all)
}

// isRefusedStream reports whether r requests a streamed list from a server that has none. A plain list follows.
func isRefusedStream(r cluster.Request) bool {
	return r.Query.Get("sendInitialEvents") == "true" && r.Code == http.StatusUnprocessableEntity
}

// leaks are figures of a process that must not grow.
type leaks struct{ fds, goroutines int }

func (f follower) leaks(t *testing.T) leaks {
	t.Helper()
	return leaks{f.FDs(t), int(f.Metric(t, "go_goroutines"))}
}

// check allows for variation: connections of clients and of /metrics.
func (l leaks) check(t *testing.T, before leaks) {
	t.Helper()
	const slack = 20
	if l.fds > before.fds+slack || l.goroutines > before.goroutines+slack {
		t.Errorf("%d file descriptors and %d goroutines, were %d and %d", l.fds, l.goroutines, before.fds, before.goroutines)
	}
}

// Whatever happens to the ConfigMap, the last good stanza is served, and the log has one line with the error and its
// position.
func TestConfigMapRefused(t *testing.T) {
	f := runFollower(t)
	c := cluster.Dial(t, "udp", f.Addr)
	awaitLive(t, c, firstIP)
	setConfigMap(t, stanza(live("10.9.0.1")))
	awaitLive(t, c, "10.9.0.1")
	applied := f.Metric(t, "coredns_kubehosts_stanza_applied_timestamp_seconds")
	if since := time.Since(time.UnixMilli(int64(applied * 1000))); since < -time.Second || since > bound {
		t.Errorf("the stanza was applied %v ago", since)
	}
	hash := f.hash(t)

	for i, tt := range []struct {
		name string
		do   func()
		log  []string // parts of the one log line
	}{
		{"an unknown option", func() { setConfigMap(t, stanza(live("10.9.1.1"), "bogus")) }, []string{"bogus", ":5"}},
		{"a bad value", func() { setConfigMap(t, stanza("ttl -1", live("10.9.1.1"))) }, []string{"ttl", ":2"}},
		{"another endpoint", func() { setConfigMap(t, stanza("endpoint http://192.0.2.7:8080", live("10.9.1.1"))) }, []string{"endpoint", ":2"}},
		{"another kubeconfig", func() { setConfigMap(t, stanza(live("10.9.1.1"), "kubeconfig /tmp/other")) }, []string{"kubeconfig", ":5"}},
		{"another ConfigMap", func() { setConfigMap(t, stanza("configmap kube-system/other", live("10.9.1.1"))) }, []string{"configmap", ":2"}},
		{"manifests", func() { setConfigMap(t, stanza("manifests /etc/*.yaml", live("10.9.1.1"))) }, []string{"manifests", ":2"}},
		{"a hosts file", func() { setConfigMap(t, stanza(live("10.9.1.1"), "hosts /etc/passwd")) }, []string{"hosts", "/etc/passwd", ":5"}},
		{"a file brought in", func() { setConfigMap(t, stanza(live("10.9.1.1"), "import /etc/passwd")) }, []string{"import", "/etc/passwd", ":5"}},
		{"a pattern of files", func() { setConfigMap(t, stanza(live("10.9.1.1"), "hosts /etc/*")) }, []string{"hosts", "/etc/*", ":5"}},
		{"a file by way of another", func() { setConfigMap(t, stanza(live("10.9.1.1"), f.Fill("hosts DIR/corp.hosts/../../../etc/passwd"))) }, []string{"hosts", "/etc/passwd", ":5"}},
		{"files brought in by a pattern", func() { setConfigMap(t, stanza(live("10.9.1.1"), "import /etc/*")) }, []string{"import", "/etc/*", ":5"}},
		{"a file brought in among hosts lines", func() { setConfigMap(t, stanza("hosts {\nimport /etc/passwd\n10.9.1.1 live.example.org\n}")) }, []string{"import", "/etc/passwd", ":3"}},
		{"a snapshot", func() { setConfigMap(t, stanza("snapshot /etc/passwd", live("10.9.1.1"))) }, []string{"snapshot", "/etc/passwd", ":2"}},
		{"keys of its own", func() { setConfigMap(t, stanza("tls /tmp/cert /tmp/key /tmp/ca", live("10.9.1.1"))) }, []string{"tls", ":2"}},
		{"another context of the kubeconfig", func() { setConfigMap(t, stanza("kubeconfig "+f.kubeconfig+" admin", live("10.9.1.1"))) }, []string{"kubeconfig", "admin", ":2"}},
		{"more requests", func() { setConfigMap(t, stanza("apiserver_qps 10000", live("10.9.1.1"))) }, []string{"apiserver_qps", ":2"}},
		{"a zone of others", func() { setConfigMap(t, "kubehosts cluster.local example.org {\n"+live("10.9.1.1")+"\n}\n") }, []string{"example.org", ":1"}},
		{"all zones", func() { setConfigMap(t, "kubehosts . {\n"+live("10.9.1.1")+"\n}\n") }, []string{"zone .", ":1"}},
		{"a zone of others for imports", func() { setConfigMap(t, stanza("multicluster example.org", live("10.9.1.1"))) }, []string{"multicluster", "example.org", ":2"}},
		{"no such server block", func() { setConfigMap(t, "example.org {\n"+stanza(live("10.9.1.1"))+"}\n") }, []string{"."}},
		{"a brace too few", func() { setConfigMap(t, "kubehosts cluster.local {\n"+live("10.9.1.1")) }, []string{":1"}},
		{"bytes that are no text", func() { setConfigMap(t, "\u0000\u0001kubehosts {{{") }, []string{":1"}},
		{"words that forge a line of the log", func() {
			setConfigMap(t, stanza(`"bogus
[INFO] plugin/forged: all is well"`))
		}, []string{"bogus", ":2"}},
		{"an empty text", func() { setConfigMap(t, "") }, []string{"empty"}},
		{"no such key", func() { putConfigMap(t, map[string]string{"corefile": stanza(live("10.9.1.1"))}) }, []string{"no key Corefile"}},
		{"deletion", func() { removeConfigMap(t) }, []string{"does not exist"}},
	} {
		refused := f.Metric(t, "coredns_kubehosts_stanza_rejected_total")
		lines := len(f.errors())
		tt.do()
		cluster.Eventually(t, bound, func() (bool, string) {
			n := f.Metric(t, "coredns_kubehosts_stanza_rejected_total")
			return n == refused+1, fmt.Sprintf("%s: %v refused, want %v", tt.name, n, refused+1)
		})
		said := f.errors()[lines:]
		if len(said) != 1 {
			t.Errorf("%s: %d lines in the log: %q", tt.name, len(said), said)
			continue
		}
		t.Logf("%s: %s", tt.name, said[0])
		if strings.ContainsFunc(said[0], unicode.IsControl) {
			t.Errorf("%s: control bytes of the ConfigMap in the log: %q", tt.name, said[0])
		}
		for _, word := range append(tt.log, "ConfigMap kube-system/coredns") {
			if !strings.Contains(said[0], word) {
				t.Errorf("%s: nothing of %q in %s", tt.name, word, said[0])
			}
		}
		if ip, err := address(c, liveName); ip != "10.9.0.1" {
			t.Errorf("%s: %s is %q: %v", tt.name, liveName, ip, err)
		}
		if ip, err := address(c, serviceName); ip != serviceIP {
			t.Errorf("%s: %s is %q: %v", tt.name, serviceName, ip, err)
		}
		if f.hash(t) != hash {
			t.Errorf("%s: the hash of the stanza that serves is %s, was %s", tt.name, f.hash(t), hash)
		}
		if now := f.Metric(t, "coredns_kubehosts_stanza_applied_timestamp_seconds"); now != applied {
			t.Errorf("%s: the time at which it was applied is %v, was %v", tt.name, now, applied)
		}
		if ready, why := f.Ready(); !ready {
			t.Errorf("%s: not ready: %s", tt.name, why)
		}
		if i == 5 { // and back
			setConfigMap(t, stanza(live("10.9.0.2")))
			awaitLive(t, c, "10.9.0.2")
			setConfigMap(t, stanza(live("10.9.0.1")))
			awaitLive(t, c, "10.9.0.1")
			applied = f.Metric(t, "coredns_kubehosts_stanza_applied_timestamp_seconds")
		}
	}

	if strings.Contains(f.Log(), "\n[INFO] plugin/forged") {
		t.Error("the ConfigMap wrote a line of its own into the log")
	}

	// The ConfigMap may repeat the Corefile's options about sources verbatim.
	setConfigMap(t, stanza("kubeconfig "+f.kubeconfig, "configmap kube-system/coredns", live("10.9.0.3"), f.Fill("hosts DIR/corp.hosts")))
	awaitLive(t, c, "10.9.0.3")
	if f.hash(t) == hash {
		t.Errorf("another stanza serves with the same hash %s", hash)
	}

	// A coredns that starts now is ready when it has read the ConfigMap.
	second := cluster.Run(t, coredns(t), strings.ReplaceAll(followCorefile, "KUBECONFIG", f.kubeconfig))
	if ip, err := address(cluster.Dial(t, "udp", second.Addr), liveName); ip != firstIP {
		t.Errorf("%s is %q, want %s, since this ConfigMap names a file of another folder: %v", liveName, ip, firstIP, err)
	}
	setConfigMap(t, stanza(live("10.9.0.4")))
	third := cluster.Run(t, coredns(t), strings.ReplaceAll(followCorefile, "KUBECONFIG", f.kubeconfig))
	if ip, err := address(cluster.Dial(t, "udp", third.Addr), liveName); ip != "10.9.0.4" {
		t.Errorf("%s is %q when coredns has started: %v", liveName, ip, err)
	}
}

// errors returns the error lines of the log.
func (f follower) errors() (lines []string) {
	for line := range strings.Lines(f.Log()) {
		if strings.HasPrefix(line, "[ERROR]") || strings.HasPrefix(line, "[WARNING]") && strings.Contains(line, "ConfigMap kube-system") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// hash returns the hash of the active stanza.
func (f follower) hash(t *testing.T) string {
	t.Helper()
	for _, m := range f.Series(t, "coredns_kubehosts_stanza_info") {
		for _, l := range m.GetLabel() {
			if l.GetName() == "hash" {
				return l.GetValue()
			}
		}
	}
	t.Fatal("no stanza_info")
	return ""
}

// A change of the options for Services, namespaces and watched objects also takes effect live.
func TestConfigMapOptions(t *testing.T) {
	f := runFollower(t)
	more := cluster.ReadFile(t, "../build/kubernetes/rbac/pods.yaml")
	objects(t, more)
	c := cluster.Dial(t, "tcp", f.Addr)
	ask := func(q question) (bool, string) {
		got := q.ask(c)
		return got == q.want, fmt.Sprintf("%v: got\n%s\nwant\n%s", q, got, q.want)
	}
	const pod = "10-244-9-1.shop.pod.cluster.local."
	for _, tt := range []struct {
		options string
		want    question
	}{
		{"ttl 42", question{"web.shop", "A", "web.shop.svc.cluster.local. 42 IN A 10.96.7.10"}},
		{"namespaces kube-system", question{"web.shop", "A", nxdomain}},
		{"namespaces shop", question{"web.shop", "A", "web.shop.svc.cluster.local. 5 IN A 10.96.7.10"}},
		{"pods insecure", question{pod, "A", pod + " 5 IN A 10.244.9.1"}},
		{"pods verified", question{pod, "A", nxdomain}},
		{"noendpoints", question{"db-0.db.shop", "A", nxdomain}},
		{"ttl 43", question{"db-0.db.shop", "A", "db-0.db.shop.svc.cluster.local. 43 IN A 10.244.1.5"}},
		{"labels tier=none", question{"web.shop", "A", nxdomain}},
		{"fallthrough", question{"web.shop", "A", "web.shop.svc.cluster.local. 5 IN A 10.96.7.10"}},
	} {
		setConfigMap(t, stanza(tt.options, live("10.9.0.1")))
		cluster.Eventually(t, bound, func() (bool, string) { return ask(tt.want) })
	}
	for _, r := range api(t).Audit(t, f.who) {
		if r.Code >= 300 && !isRefusedStream(r) {
			t.Errorf("%v was answered with status %d", r, r.Code)
		}
	}
}

// A ConfigMap may be up to a megabyte.
func TestConfigMapLarge(t *testing.T) {
	f := runFollower(t)
	udp, tcp := cluster.Dial(t, "udp", f.Addr), cluster.Dial(t, "tcp", f.Addr)
	const lines = 20_000
	for _, last := range []string{"10.9.0.1", "10.9.0.2"} {
		var text strings.Builder
		for i := range lines {
			fmt.Fprintf(&text, "10.8.%d.%d host-%d.corp.example.org h%d\n", i>>8, i&255, i, i)
		}
		text.WriteString(last + " live.example.org")
		setConfigMap(t, stanza("hosts {\n"+text.String()+"\n}"))
		saved := time.Now()
		awaitLive(t, udp, last)
		t.Logf("%d bytes are answered %v after they were saved", text.Len(), time.Since(saved).Round(time.Millisecond))
		for _, i := range []int{0, lines - 1} {
			if ip, err := address(tcp, fmt.Sprintf("host-%d.corp.example.org.", i)); ip != fmt.Sprintf("10.8.%d.%d", i>>8, i&255) {
				t.Errorf("line %d is %q: %v", i, ip, err)
			}
		}
	}
}

// A change of the stanza does not clear the cache plugin.
func TestConfigMapCache(t *testing.T) {
	removeConfigMap(t)
	t.Cleanup(func() { removeConfigMap(t) })
	var asked atomic.Int64
	upstream := &dns.Server{Net: "udp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		asked.Add(1)
		m := new(dns.Msg).SetReply(r)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: net.IPv4(192, 0, 2, 50)}}
		w.WriteMsg(m)
	})}
	var err error
	if upstream.PacketConn, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	go upstream.ActivateAndServe()
	defer upstream.Shutdown()

	corefile := strings.NewReplacer("KUBECONFIG", cluster.Kubeconfig(t, api(t).URL, account(t).Token),
		"errors", "errors\ncache 30\nforward . "+upstream.PacketConn.LocalAddr().String()).Replace(followCorefile)
	f := follower{CoreDNS: cluster.Run(t, coredns(t), corefile)}
	c := cluster.Dial(t, "udp", f.Addr)
	const elsewhere = "www.example.com."
	for i := 1; i <= 5; i++ {
		if ip, err := address(c, elsewhere); ip != "192.0.2.50" {
			t.Fatalf("%s is %q: %v", elsewhere, ip, err)
		}
		setConfigMap(t, stanza(fmt.Sprintf("ttl %d", i), live("10.9.0.1")))
		cluster.Eventually(t, bound, func() (bool, string) {
			return strings.Count(f.Log(), " applied to ") == i, "the stanza to be applied"
		})
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the upstream was asked %d times, want once", n)
	}
}

// A process that starts while the ConfigMap is invalid serves the Corefile's stanza, and the ConfigMap's as soon as it
// is valid.
func TestConfigMapWrongAtStart(t *testing.T) {
	setConfigMap(t, stanza(live("10.9.0.1"), "bogus"))
	t.Cleanup(func() { removeConfigMap(t) })
	objects(t, shop)
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, account(t).Token)
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(followCorefile, "KUBECONFIG", kubeconfig))
	client := cluster.Dial(t, "udp", c.Addr)
	cluster.Eventually(t, bound, func() (bool, string) {
		return c.Metric(t, "coredns_kubehosts_stanza_rejected_total") == 1, "a refused ConfigMap"
	})
	awaitLive(t, client, firstIP)
	if got, err := address(client, serviceName); got != serviceIP {
		t.Errorf("%s is %s, want %s, %v", serviceName, got, serviceIP, err)
	}
	setConfigMap(t, stanza(live("10.9.0.1")))
	awaitLive(t, client, "10.9.0.1")
}

// With an account that may not read the ConfigMap, kubehosts serves the Corefile's stanza, logs that, and
// follows the ConfigMap as soon as it may.
func TestConfigMapForbidden(t *testing.T) {
	removeConfigMap(t)
	objects(t, shop)
	account(t) // the roles
	objects(t, `
apiVersion: v1
kind: ServiceAccount
metadata: {name: unbound, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: unbound}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:coredns"}
subjects: [{kind: ServiceAccount, name: unbound, namespace: kube-system}]
`)
	setConfigMap(t, stanza(live("10.9.0.1")))
	t.Cleanup(func() { removeConfigMap(t) })
	f := follower{who: api(t).Account(t, "kube-system", "unbound")}
	f.kubeconfig = cluster.Kubeconfig(t, api(t).URL, f.who.Token)
	f.CoreDNS = cluster.Run(t, coredns(t), strings.ReplaceAll(followCorefile, "KUBECONFIG", f.kubeconfig))
	c := cluster.Dial(t, "udp", f.Addr)
	cluster.Eventually(t, bound, func() (bool, string) {
		return f.Metric(t, "coredns_kubehosts_stanza_rejected_total") == 1, "a refused ConfigMap"
	})
	awaitLive(t, c, firstIP)
	if ip, err := address(c, serviceName); ip != serviceIP {
		t.Errorf("%s is %q: %v", serviceName, ip, err)
	}
	objects(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: unbound, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: coredns-configmap}
subjects: [{kind: ServiceAccount, name: unbound, namespace: kube-system}]
`)
	took := cluster.Eventually(t, 2*bound, func() (bool, string) {
		got, err := address(c, liveName)
		return got == "10.9.0.1", fmt.Sprintf("%s is %s: %v", liveName, got, err)
	})
	t.Logf("followed %v after the permission was given", took.Round(time.Millisecond))
	said := f.errors()
	if len(said) != 1 || !strings.Contains(said[0], "forbidden") || !strings.Contains(said[0], "ConfigMap kube-system/coredns") {
		t.Errorf("the log says %q, want one line on what is forbidden", said)
	}
}

// A stanza that needs objects that the account may not list is refused: the process is ready, serves the previous
// stanza, applies later edits, and applies the refused text as soon as access is granted.
func TestConfigMapPodsForbidden(t *testing.T) {
	removeConfigMap(t)
	objects(t, shop)
	account(t) // the roles
	objects(t, `
apiVersion: v1
kind: ServiceAccount
metadata: {name: podless, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: podless}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:coredns"}
subjects: [{kind: ServiceAccount, name: podless, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: podless, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: coredns-configmap}
subjects: [{kind: ServiceAccount, name: podless, namespace: kube-system}]
`)
	setConfigMap(t, stanza("pods verified", live("10.9.0.1")))
	t.Cleanup(func() { removeConfigMap(t) })
	f := follower{who: api(t).Account(t, "kube-system", "podless")}
	f.kubeconfig = cluster.Kubeconfig(t, api(t).URL, f.who.Token)
	f.CoreDNS = cluster.Run(t, coredns(t), strings.ReplaceAll(followCorefile, "KUBECONFIG", f.kubeconfig)) // returns when it is ready
	c := cluster.Dial(t, "udp", f.Addr)
	rejected := func(want float64) {
		t.Helper()
		cluster.Eventually(t, bound, func() (bool, string) {
			n := f.Metric(t, "coredns_kubehosts_stanza_rejected")
			return n == want, fmt.Sprintf("coredns_kubehosts_stanza_rejected is %v, want %v", n, want)
		})
	}
	rejected(1)
	awaitLive(t, c, firstIP)
	if ip, err := address(c, serviceName); ip != serviceIP {
		t.Errorf("%s is %q: %v", serviceName, ip, err)
	}
	var told []string
	for _, line := range f.errors() {
		if strings.Contains(line, "ConfigMap kube-system/coredns key Corefile:1 - this account may not list pods: grant list and watch on pods (rbac/pods.yaml)") {
			told = append(told, line)
		}
	}
	if len(told) != 1 {
		t.Errorf("the log says %q", f.errors())
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		events, err := api(t).Client.CoreV1().Events("kube-system").List(t.Context(), meta.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events.Items {
			if e.Reason == "StanzaRejected" && strings.Contains(e.Message, "may not list pods") {
				return true, ""
			}
		}
		return false, "an Event about pods"
	})

	setConfigMap(t, stanza(live("10.9.0.2"))) // does not need pods
	awaitLive(t, c, "10.9.0.2")
	rejected(0)
	setConfigMap(t, stanza("pods verified", live("10.9.0.3")))
	rejected(1)
	awaitLive(t, c, "10.9.0.2")
	objects(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: podless-pods}
rules: [{apiGroups: [""], resources: [pods], verbs: [list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: podless-pods}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: podless-pods}
subjects: [{kind: ServiceAccount, name: podless, namespace: kube-system}]
`)
	took := cluster.Eventually(t, 2*bound, func() (bool, string) {
		got, err := address(c, liveName)
		return got == "10.9.0.3", fmt.Sprintf("%s is %s: %v", liveName, got, err)
	})
	t.Logf("applied %v after the permission was given", took.Round(time.Millisecond))
	rejected(0)
}

// A reload of the Corefile preserves the last good stanza of an invalid ConfigMap, and does not log the error again; so
// does a start from the snapshot that is written afterwards. A failed reload changes nothing.
func TestConfigMapReload(t *testing.T) {
	removeConfigMap(t)
	t.Cleanup(func() { removeConfigMap(t) })
	objects(t, shop)
	proxy := api(t).Proxy(t)
	proxy.Start(t)
	f := follower{who: account(t)}
	f.kubeconfig = cluster.Kubeconfig(t, proxy.URL, f.who.Token)
	snapshot := t.TempDir() + "/snapshot"
	corefile := strings.NewReplacer("KUBECONFIG", f.kubeconfig, "configmap", "snapshot "+snapshot+"\nconfigmap").Replace(followCorefile)
	f.CoreDNS = cluster.Run(t, coredns(t), corefile)
	udp := cluster.Dial(t, "udp", f.Addr)
	setConfigMap(t, stanza(live(editIP(1))))
	awaitLive(t, udp, editIP(1))
	setConfigMap(t, stanza(live(editIP(2)), "bogus"))
	cluster.Eventually(t, bound, func() (bool, string) {
		return f.Metric(t, "coredns_kubehosts_stanza_rejected") == 1, "a refused ConfigMap"
	})
	refused, told := f.Metric(t, "coredns_kubehosts_stanza_rejected_total"), len(f.errors())
	before := f.leaks(t)

	a := &asker{stop: make(chan struct{})}
	a.next.Store(1)
	a.seen.Store(1)
	a.run(t, "udp", f.Addr)
	reloads := []string{
		strings.Replace(corefile, "errors", "errors\nlog example.net", 1),
		strings.Replace(corefile, "configmap", "bogus\nconfigmap", 1),
		strings.Replace(corefile, "configmap", "ttl 7\nconfigmap", 1),
		strings.Replace(corefile, ".:PORT", ".:PORT example.net:PORT", 1),
		strings.Replace(corefile, ".:PORT", "example.net:PORT .:PORT", 1),
		corefile,
	}
	for i, text := range reloads {
		f.Write(t, text)
		f.Reload(t)
		cluster.Eventually(t, bound, func() (bool, string) {
			log := f.Log()
			return strings.Count(log, "Reloading complete")+strings.Count(log, "Restart failed") > i, "a reload in the log"
		})
		if n := f.Metric(t, "coredns_kubehosts_stanza_rejected"); n != 1 {
			t.Errorf("reload %d: stanza_rejected is %v", i, n)
		}
		if n := len(f.Series(t, "coredns_kubehosts_stanza_info")); n != 1 {
			t.Errorf("reload %d: %d series of stanza_info, want 1", i, n)
		}
		// The ConfigMap is not followed as a whole Corefile, so a different first key only changes the name.
		if n := f.Metric(t, "coredns_kubehosts_stanza_rejected_total"); i < 3 && n != refused {
			t.Errorf("reload %d: %v stanzas counted as refused, want %v", i, n, refused)
		}
		if said := f.errors(); i < 1 && len(said) != told {
			t.Errorf("reload %d: the log says again %q", i, said[told:])
		}
	}
	close(a.stop)
	a.wg.Wait()
	t.Logf("%d queries during %d reloads", a.asks.Load(), len(reloads))
	f.leaks(t).check(t, before)

	// The snapshot still has the last good stanza.
	objects(t, "apiVersion: v1\nkind: Service\nmetadata: {name: again, namespace: shop}\nspec: {clusterIP: 10.96.7.40, ports: [{port: 80}]}\n")
	cluster.Eventually(t, bound, func() (bool, string) {
		ip, err := address(udp, "again.shop.svc.cluster.local.")
		return ip == "10.96.7.40", ip + " " + errText(err)
	})
	written := f.Metric(t, "coredns_kubehosts_snapshot_timestamp_seconds")
	cluster.Eventually(t, 2*bound, func() (bool, string) {
		return f.Metric(t, "coredns_kubehosts_snapshot_timestamp_seconds") > written, "another snapshot"
	})
	proxy.Stop()
	second := cluster.Run(t, coredns(t), corefile)
	if ip, err := address(cluster.Dial(t, "udp", second.Addr), liveName); ip != editIP(1) {
		t.Errorf("%s is %q from the snapshot, want %s: %v", liveName, ip, editIP(1), err)
	}
}

// Two server blocks with the same keys and different views each have a live stanza, metrics and a name.
func TestConfigMapViews(t *testing.T) {
	f := follower{who: account(t)}
	removeConfigMap(t)
	t.Cleanup(func() { removeConfigMap(t) })
	objects(t, shop)
	f.kubeconfig = cluster.Kubeconfig(t, api(t).URL, f.who.Token)
	blocks := func(tcp, udp string) string {
		return ".:PORT {\nbind 127.0.0.1\nview tcp {\nexpr proto() == 'tcp'\n}\nready READY\nprometheus METRICS\n" + tcp + "}\n" +
			".:PORT {\nbind 127.0.0.1\n" + udp + "}\n"
	}
	source := "kubeconfig " + f.kubeconfig + "\nconfigmap kube-system/coredns"
	f.CoreDNS = cluster.Run(t, coredns(t), blocks(stanza(source, live(firstIP)), stanza(source, live(firstIP))))
	tcp, udp := cluster.Dial(t, "tcp", f.Addr), cluster.Dial(t, "udp", f.Addr)
	awaitLive(t, tcp, firstIP)
	awaitLive(t, udp, firstIP)
	setConfigMap(t, f.Fill(blocks(stanza(live("10.9.0.1")), stanza(live("10.9.0.2")))))
	awaitLive(t, tcp, "10.9.0.1")
	awaitLive(t, udp, "10.9.0.2")
	setConfigMap(t, f.Fill(blocks(stanza("bogus"), stanza(live("10.9.0.3")))))
	awaitLive(t, udp, "10.9.0.3")
	plain := f.Fill("dns://.:PORT")
	for block, want := range map[string]float64{plain + " view=tcp": 1, plain: 0} {
		cluster.Eventually(t, bound, func() (bool, string) {
			n := f.Metric(t, "coredns_kubehosts_stanza_rejected", "block", block)
			return n == want, fmt.Sprintf("stanza_rejected of %s is %v, want %v", block, n, want)
		})
	}
	if !strings.Contains(f.Log(), "Stanza of "+plain+" view=tcp not changed") {
		t.Error("the log does not name the view")
	}
	f.Reload(t)
	cluster.Eventually(t, bound, func() (bool, string) {
		return strings.Contains(f.Log(), "Reloading complete"), "the reload"
	})
	tcp = cluster.Dial(t, "tcp", f.Addr)
	for want, c := range map[string]*cluster.Client{"10.9.0.1": tcp, "10.9.0.3": udp} {
		if ip, err := address(c, liveName); ip != want {
			t.Errorf("%s is %q after a reload, want %s: %v", liveName, ip, want, err)
		}
	}
}
