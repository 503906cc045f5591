package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

const snapshotCorefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	kubehosts cluster.local in-addr.arpa {
		kubeconfig KUBECONFIG
		configmap kube-system/coredns
		snapshot FILE
		hosts {
			192.0.2.1 live.example.org
		}
	}
}
`

// edeOf returns the Extended DNS Error of a reply to a query with an OPT record; code is -1 if there is
// none.
func edeOf(t *testing.T, c *cluster.Client, name string, qtype uint16) (m *dns.Msg, code int, text string) {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(1232, true)
	m, err := c.Exchange(q)
	if err != nil {
		t.Fatal(err)
	}
	opt := m.IsEdns0()
	if opt == nil || opt.UDPSize() != 1232 || !opt.Do() {
		t.Fatalf("%s: the OPT record of the reply is %v", name, opt)
	}
	code = -1
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			code, text = int(e.InfoCode), e.ExtraText
		}
	}
	return m, code, text
}

// started waits until the server at addr answers, and returns the time since the process started.
func started(t *testing.T, addr string, since time.Time) time.Duration {
	t.Helper()
	for {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := &dns.Conn{Conn: conn}
		c.SetDeadline(time.Now().Add(20 * time.Millisecond))
		if c.WriteMsg(new(dns.Msg).SetQuestion(serviceName, dns.TypeA)) == nil {
			if m, err := c.ReadMsg(); err == nil && len(m.Answer) == 1 {
				conn.Close()
				return time.Since(since)
			}
		}
		conn.Close()
		if time.Since(since) > bound {
			t.Fatal("no answer")
		}
	}
}

// After a start without the API server, kubehosts answers from the snapshot at once, with an Extended DNS Error, and
// switches to the API server when it returns.
func TestSnapshot(t *testing.T) {
	removeConfigMap(t)
	t.Cleanup(func() { removeConfigMap(t) })
	objects(t, shop)
	proxy := api(t).Proxy(t)
	file := t.TempDir() + "/state/snapshot"
	if err := os.Mkdir(strings.TrimSuffix(file, "/snapshot"), 0o755); err != nil {
		t.Fatal(err)
	}
	corefile := strings.NewReplacer("KUBECONFIG", cluster.Kubeconfig(t, proxy.URL, account(t).Token), "FILE", file).Replace(snapshotCorefile)

	// Without any state: SERVFAIL with the reason.
	c := cluster.Launch(t, coredns(t), strings.Replace(corefile, "snapshot", "startup_timeout 100ms\nsnapshot", 1))
	c.WaitServing(t)
	udp := cluster.Dial(t, "udp", c.Addr)
	m, code, _ := edeOf(t, udp, serviceName, dns.TypeA)
	if m.Rcode != dns.RcodeServerFailure || code != int(dns.ExtendedErrorCodeNotReady) {
		t.Errorf("with no state at all: %s, Extended DNS Error %d", dns.RcodeToString[m.Rcode], code)
	}
	if m, err := udp.Ask(serviceName, dns.TypeA); err != nil || m.IsEdns0() != nil {
		t.Errorf("an OPT record in the reply to a query without one: %v, %v", m, err)
	}
	if m, code, _ := edeOf(t, udp, liveName, dns.TypeA); len(m.Answer) != 1 || code != -1 {
		t.Errorf("a hosts entry: %v", m)
	}

	// The file gets the API server's state and the stanza of the ConfigMap.
	proxy.Start(t)
	reverse := func(stanza string) string {
		return strings.Replace(stanza, "cluster.local", "cluster.local in-addr.arpa", 1)
	}
	setConfigMap(t, reverse(stanza(live("10.9.0.1"), "ttl 11")))
	awaitLive(t, udp, "10.9.0.1")
	cluster.Eventually(t, bound, func() (bool, string) {
		return c.Metric(t, "coredns_kubehosts_snapshot_timestamp_seconds") > 0, "a snapshot"
	})
	m, code, text := edeOf(t, udp, serviceName, dns.TypeA)
	if len(m.Answer) != 1 || code != -1 {
		t.Errorf("of the API server: %v, %d %s", m, code, text)
	}

	// A start without the API server.
	proxy.Stop()
	start := time.Now()
	d := cluster.Launch(t, coredns(t), corefile)
	took := started(t, d.Addr, start)
	t.Logf("answers from the snapshot %v after the start", took.Round(time.Millisecond))
	if took > 5*time.Second { // startup_timeout; the goal is a second, see the log
		t.Errorf("the first answer came after %v", took)
	}
	d.WaitServing(t)
	if ready, why := d.Ready(); !ready {
		t.Errorf("not ready, though it answers: %s", why)
	}
	udp = cluster.Dial(t, "udp", d.Addr)
	for _, tt := range []struct {
		name  string
		qtype uint16
		rcode int
		n     int
	}{
		{serviceName, dns.TypeA, dns.RcodeSuccess, 1},
		{serviceName, dns.TypeAAAA, dns.RcodeSuccess, 1},
		{"db.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, 3},
		{"_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, 1},
		{"10.7.96.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, 1},
		{serviceName, dns.TypeMX, dns.RcodeSuccess, 0},
		{"nobody.shop.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, 0},
		{liveName, dns.TypeA, dns.RcodeSuccess, 1},
	} {
		m, code, text := edeOf(t, udp, tt.name, tt.qtype)
		if m.Rcode != tt.rcode || len(m.Answer) != tt.n || code != int(dns.ExtendedErrorCodeStaleAnswer) || !strings.HasPrefix(text, "snapshot of 2") {
			t.Errorf("from the snapshot, %d %q:\n%s", code, text, m)
		}
	}
	if ip, err := address(udp, liveName); ip != "10.9.0.1" {
		t.Errorf("%s is %q, not what the last good stanza says: %v", liveName, ip, err)
	}
	if n := d.Metric(t, "coredns_kubehosts_stanza_info", "origin", "snapshot"); n != 1 {
		t.Errorf("%v stanzas of the snapshot serve, want 1", n)
	}

	// The change made meanwhile is served as soon as the API server is back; every answer until then is the old one.
	objects(t, "apiVersion: v1\nkind: Service\nmetadata: {name: again, namespace: shop}\nspec: {clusterIP: 10.96.7.40, ports: [{port: 80}]}\n")
	setConfigMap(t, reverse(stanza(live("10.9.0.2"), "ttl 12")))
	proxy.Start(t)
	asked := 0
	back := cluster.Eventually(t, 4*bound, func() (bool, string) {
		for range 20 {
			asked++
			if ip, err := address(udp, serviceName); ip != serviceIP {
				t.Fatalf("%s is %q: %v", serviceName, ip, err)
			}
			if ip, err := address(udp, liveName); ip != "10.9.0.1" && ip != "10.9.0.2" {
				t.Fatalf("%s is %q: %v", liveName, ip, err)
			}
		}
		_, code, _ := edeOf(t, udp, serviceName, dns.TypeA)
		return code == -1, fmt.Sprintf("an answer that is not stale, got %d", code)
	})
	t.Logf("moved over %v after the API server came back, %d queries", back.Round(time.Millisecond), asked)
	awaitLive(t, udp, "10.9.0.2")
	if ip, err := address(udp, "again.shop.svc.cluster.local."); ip != "10.96.7.40" {
		t.Errorf("the Service that is new is %q: %v", ip, err)
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		return strings.Contains(d.Log(), "come from the Kubernetes API now"), "a line in the log"
	})

	// On a laptop, the file serves as a manifest and contains the ConfigMap.
	laptop := cluster.Run(t, coredns(t), `.:PORT {
	bind 127.0.0.1
	ready READY
	kubehosts cluster.local in-addr.arpa {
		manifests `+file+`
		configmap kube-system/coredns
	}
}
`)
	udp = cluster.Dial(t, "udp", laptop.Addr)
	if ip, err := address(udp, serviceName); ip != serviceIP {
		t.Errorf("on a laptop %s is %q: %v", serviceName, ip, err)
	}
	cluster.Eventually(t, bound, func() (bool, string) { // the snapshot is followed
		ip, err := address(udp, liveName)
		return ip == "10.9.0.2", fmt.Sprintf("on a laptop %s is %q: %v", liveName, ip, err)
	})
}

// The snapshot has the last good stanza, even if the ConfigMap turns out to be deleted. Once that is certain, the
// answers are no longer marked as stale.
func TestSnapshotStanza(t *testing.T) {
	setConfigMap(t, stanza(live("10.9.0.1")))
	t.Cleanup(func() { removeConfigMap(t) })
	corefile := strings.NewReplacer("KUBECONFIG", cluster.Kubeconfig(t, api(t).URL, account(t).Token), "FILE", t.TempDir()+"/snapshot").Replace(snapshotCorefile)
	c := cluster.Run(t, coredns(t), corefile)
	awaitLive(t, cluster.Dial(t, "udp", c.Addr), "10.9.0.1")
	cluster.Eventually(t, bound, func() (bool, string) {
		return c.Metric(t, "coredns_kubehosts_snapshot_timestamp_seconds") > 0, "a snapshot"
	})
	removeConfigMap(t)
	d := cluster.Run(t, coredns(t), corefile)
	udp := cluster.Dial(t, "udp", d.Addr)
	cluster.Eventually(t, bound, func() (bool, string) {
		m, code, _ := edeOf(t, udp, liveName, dns.TypeA)
		if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "10.9.0.1" {
			t.Fatalf("the last good stanza does not serve:\n%s", m)
		}
		return code == -1, "an answer that is not stale"
	})
	if n := d.Metric(t, "coredns_kubehosts_stanza_rejected"); n != 1 {
		t.Errorf("stanza_rejected is %v while the ConfigMap is gone", n)
	}

	// If the stanza does not fit its Corefile, kubehosts serves the Corefile's own stanza.
	e := cluster.Run(t, coredns(t), strings.Replace(corefile, "kubehosts cluster.local", "kubehosts other.local", 1))
	if ip, err := address(cluster.Dial(t, "udp", e.Addr), liveName); ip != firstIP {
		t.Errorf("%s is %q, want the Corefile's: %v", liveName, ip, err)
	}
	if !strings.Contains(e.Log(), "does not fit this Corefile") {
		t.Error("nothing in the log about a stanza that reaches too far")
	}
}

// Two server blocks can't share one file: a Corefile that tries is refused, whether their keys differ or not.
func TestSnapshotClaimed(t *testing.T) {
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, account(t).Token)
	block := func(port, file, more string) string {
		return ".:" + port + " {\nbind 127.0.0.1\n" + more + "\nkubehosts cluster.local {\nkubeconfig " + kubeconfig + "\nsnapshot DIR/" + file + "\n}\n}\n"
	}
	c := cluster.Launch(t, coredns(t), block("PORT", "snapshot", "")+block("OTHER", "snapshot", ""))
	cluster.Eventually(t, bound, func() (bool, string) {
		return strings.Contains(c.Log(), "is already that of dns://.:"), "why coredns does not start"
	})

	const view = "view tcp {\nexpr proto() == 'tcp'\n}"
	taken := func(c *cluster.CoreDNS) func() (bool, string) {
		return func() (bool, string) {
			return strings.Contains(c.Log(), c.Fill("is already that of dns://.:PORT view=tcp")), "why the Corefile is refused"
		}
	}
	c = cluster.Launch(t, coredns(t), block("PORT", "snapshot", view)+block("PORT", "snapshot", ""))
	cluster.Eventually(t, bound, taken(c))

	// With different files they start, and reload.
	two := block("PORT", "one", view+"\nready READY") + block("PORT", "two", "")
	c = cluster.Run(t, coredns(t), two)
	c.Reload(t)
	cluster.Eventually(t, bound, func() (bool, string) {
		return strings.Contains(c.Log(), "Reloading complete"), "the reload"
	})
	c.Write(t, strings.Replace(two, "DIR/two", "DIR/one", 1))
	c.Reload(t)
	cluster.Eventually(t, bound, taken(c))
	if _, err := cluster.Dial(t, "udp", c.Addr).Ask("cluster.local.", dns.TypeSOA); err != nil {
		t.Error(err)
	}
}

// A server block may change its keys, or swap places with another, and retains its file.
func TestSnapshotKeptUnderOtherKeys(t *testing.T) {
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, account(t).Token)
	block := func(keys, file string) string {
		return keys + " {\nbind 127.0.0.1\nready READY\nkubehosts cluster.local {\nkubeconfig " + kubeconfig + "\nsnapshot DIR/" + file + "\n}\n}\n"
	}
	c := cluster.Run(t, coredns(t), block(".:PORT", "one")+block("example.org:PORT", "two"))
	for i, text := range []string{
		block("cluster.local:PORT .:PORT", "one") + block("example.org:PORT", "two"),
		block(".:PORT", "two") + block("example.org:PORT", "one"),
	} {
		c.Write(t, text)
		c.Reload(t)
		cluster.Eventually(t, bound, func() (bool, string) {
			return strings.Count(c.Log(), "Reloading complete") == i+1, "the reload: " + c.Log()
		})
	}
}

// A file that is not a snapshot, or can't be written, is logged once, and everything else works.
func TestSnapshotRefused(t *testing.T) {
	objects(t, shop)
	setConfigMap(t, stanza(live("10.9.0.1")))
	t.Cleanup(func() { removeConfigMap(t) })
	dir := t.TempDir()
	for name, text := range map[string]string{
		"damaged": "\x1f\x8b and then nothing of the kind", "foreign": "apiVersion: v1\nkind: Service\n", "empty": "", "binary": "\x00\x01\x02",
	} {
		cluster.WriteFile(t, dir+"/"+name, text)
	}
	if err := os.Mkdir(dir+"/folder", 0o755); err != nil {
		t.Fatal(err)
	}
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, account(t).Token)
	for _, tt := range []struct {
		file, want string
		mends      bool // a good one replaces it
	}{
		{"damaged", "Snapshot can't be used", true},
		{"foreign", "Snapshot can't be used", true},
		{"empty", "Snapshot can't be used", true},
		{"binary", "Snapshot can't be used", true},
		{"folder", "Snapshot can't be used", false},
		{"missing/snapshot", "Snapshot not written", false},
	} {
		t.Run(tt.file, func(t *testing.T) {
			c := cluster.Run(t, coredns(t), strings.NewReplacer("KUBECONFIG", kubeconfig, "FILE", dir+"/"+tt.file).Replace(snapshotCorefile))
			udp := cluster.Dial(t, "udp", c.Addr)
			cluster.Eventually(t, bound, func() (bool, string) {
				return c.Metric(t, "coredns_kubehosts_snapshot_errors_total") > 0, "an error in the metrics"
			})
			if ip, err := address(udp, serviceName); ip != serviceIP {
				t.Errorf("%s is %q: %v", serviceName, ip, err)
			}
			awaitLive(t, udp, "10.9.0.1")
			if tt.mends {
				cluster.Eventually(t, bound, func() (bool, string) {
					return c.Metric(t, "coredns_kubehosts_snapshot_size_bytes") > 0, "a good snapshot in its place"
				})
			}
			if n := strings.Count(c.Log(), tt.want); n != 1 || !strings.Contains(c.Log(), dir+"/"+tt.file) {
				t.Errorf("%q is %d times in the log, want once, with the file", tt.want, n)
			}
			if n := strings.Count(c.Log(), "[ERROR]"); n > 2 {
				t.Errorf("%d errors in the log", n)
			}
		})
	}
}
