package faults

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

const corefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	pprof 127.0.0.1:OTHER
	kubehosts cluster.local in-addr.arpa {
		kubeconfig KUBECONFIG
		OPTIONS
		hosts {
			192.0.2.1 live.example.org
		}
	}
}
`

const stockCorefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	pprof 127.0.0.1:OTHER
	hosts {
		192.0.2.1 live.example.org
		fallthrough
	}
	kubernetes cluster.local in-addr.arpa {
		kubeconfig KUBECONFIG
	}
}
`

// theConfigMap makes kubehosts follow the one ConfigMap that a role allows. Among the parallel tests only TestReload
// uses it, since it edits it.
const theConfigMap = "configmap kube-system/coredns"

func corefileOf(kubeconfig string, options ...string) string {
	text := corefile
	if stock {
		text = stockCorefile
	}
	return strings.NewReplacer("KUBECONFIG", kubeconfig, "OPTIONS", strings.Join(options, "\n")).Replace(text)
}

// The API server fails in every way and comes back. kubehosts serves the last state throughout.
func TestAPIServer(t *testing.T) {
	tr := changes(t)
	who := account(t)
	gate := api(t).Gate(t)
	proxy := api(t).Proxy(t)
	c := cluster.Run(t, coredns(t), corefileOf(cluster.Kubeconfig(t, gate.URL, who.Token), theConfigMap))
	a := ask(t, c.Addr, tr)
	a.heal(t)

	for _, f := range []struct {
		name            string
		breakIt, repair func()
	}{
		{"the API server refuses connections", gate.Close, func() { gate.Open(t) }},
		{"it accepts them and never answers", func() { gate.Mute(t) }, func() { gate.Open(t) }},
		{"its process is halted", api(t).Freeze, api(t).Thaw},
		{"it is killed, and back with its history compacted", api(t).StopServer, func() {
			if err := api(t).Compact(); err != nil {
				t.Error(err)
			}
			startServer(t)
		}},
	} {
		requests, connections := len(api(t).Audit(t, who)), gate.Accepted()
		start := time.Now()
		a.fault(t, f.name, f.breakIt, f.repair)
		took := time.Since(start)

		// kubehosts watches four resources and retries each after at least 0.8 s. A watch may be preceded by a list,
		// and may first be refused because its version is too old.
		most := 4 * (3 + int(took/(800*time.Millisecond)))
		requests, connections = len(api(t).Audit(t, who))-requests, gate.Accepted()-connections
		t.Logf("%s: %d requests and %d connections in %v", f.name, requests, connections, took.Round(time.Millisecond))
		if !stock && (requests > most || connections > most) {
			t.Errorf("%s: %d requests and %d connections in %v, want at most %d", f.name, requests, connections, took, most)
		}
	}
	a.end()
	if stock { // the rest is about kubehosts's own metrics and delays
		return
	}

	// Slow, but available.
	proxy.Delay = 2 * time.Second
	proxy.Start(t)
	d := cluster.Run(t, coredns(t), corefileOf(cluster.Kubeconfig(t, proxy.URL, who.Token), theConfigMap))
	slow := ask(t, d.Addr, tr)
	slow.fault(t, "it begins each answer two seconds late", func() { proxy.Stop() }, func() { proxy.Start(t) })

	// After the return, the answers are the same as those after a fresh start.
	fresh := cluster.Run(t, coredns(t), corefileOf(cluster.Kubeconfig(t, api(t).URL, who.Token), theConfigMap))
	for _, name := range []string{"coredns_kubehosts_objects", "coredns_kubehosts_stanza_rejected"} {
		for _, kind := range []string{"Service", "Namespace", "EndpointSlice"} {
			if was, is := fresh.Metric(t, name, "kind", kind), c.Metric(t, name, "kind", kind); was != is {
				t.Errorf("%s of %s: %v after the faults, %v after a fresh start", name, kind, is, was)
			}
		}
	}
}

func startServer(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	if err := api(t).StartServer(ctx); err != nil {
		t.Fatal(err)
	}
}

// Without the API server, kubehosts starts from the snapshot.
func TestStart(t *testing.T) {
	t.Parallel()
	tr := changes(t)
	gate := api(t).Gate(t)
	text := corefileOf(cluster.Kubeconfig(t, gate.URL, account(t).Token), "snapshot "+t.TempDir()+"/snapshot")
	c := cluster.Run(t, coredns(t), text)
	cluster.Eventually(t, bound, func() (bool, string) {
		return stock || c.Metric(t, "coredns_kubehosts_snapshot_size_bytes") > 0, "a snapshot"
	})

	// The snapshot is at most six seconds old, as documented, and then ages for as long as the fault lasts.
	tr.mu.Lock()
	tr.held = 0
	tr.mu.Unlock()
	gate.Close()
	start := time.Now()
	d := cluster.Launch(t, coredns(t), text)
	udp := cluster.Dial(t, "udp", d.Addr)
	for {
		if m, err := udp.Ask(still, dns.TypeA); err == nil && (stock || len(m.Answer) == 1) {
			break
		}
		if time.Since(start) > bound {
			t.Fatal("no answer")
		}
		udp.Close()
		udp = cluster.Dial(t, "udp", d.Addr) // a refused socket may stay refused
	}
	t.Logf("the first answer comes %v after the start", time.Since(start).Round(time.Millisecond))
	a := ask(t, d.Addr, tr)
	a.counted(t, fmt.Sprintf("the API server is down at the start (%v to answer)", time.Since(start).Round(10*time.Millisecond)), func() time.Duration {
		<-time.After(lasts)
		gate.Open(t)
		healed := a.heal(t)
		tr.release()
		return healed
	})
}
