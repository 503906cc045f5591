package faults

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// stormName is the ConfigMap that only this test uses.
const stormName = "coredns-storm"

// storm updates the ConfigMap again and again.
type storm struct {
	good  string
	edits atomic.Int64
	stop  func() // and waits
}

// text is Corefile number i: of every four, one changes the stanza, one another plugin, one the server blocks, and one
// is broken.
func (s *storm) text(i int) string {
	switch i % 4 {
	case 0:
		return strings.Replace(s.good, "hosts {", fmt.Sprintf("ttl %d\n\t\thosts {", i%3600), 1)
	case 1:
		return strings.Replace(s.good, "\terrors\n", fmt.Sprintf("\terrors\n\tnsid edit%d\n", i), 1)
	case 2:
		return s.good + strings.Replace("more.example:PORT {\n\tbind 127.0.0.1\n\twhoami\n}\n", "PORT", s.port(), 1)
	}
	return strings.Replace(s.good, "\terrors\n", "\terrors\n\tbogus\n", 1)
}

func (s *storm) port() string {
	port, _, _ := strings.Cut(strings.TrimPrefix(s.good, ".:"), " ")
	return port
}

// write stores text as the Corefile.
func write(ctx context.Context, t *testing.T, text string) error {
	return api(t).StoreConfigMap(ctx, stormName, map[string]string{"Corefile": text})
}

// begin starts writing, 100 times a second if the API server is fast enough.
func (s *storm) begin(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.Tick(10 * time.Millisecond); ctx.Err() == nil; <-tick {
			if err := write(ctx, t, s.text(int(s.edits.Add(1)))); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}()
	s.stop = func() {
		cancel()
		<-done
	}
}

// The whole Corefile is edited as fast as the API server accepts it, while kubehosts can reach the API server and while
// it can't: no query fails, no answer is wrong, no resource leaks, and the last Corefile is served in the end.
func TestCorefileStorm(t *testing.T) {
	if stock {
		return // stock follows no ConfigMap
	}
	tr := changes(t)
	who := account(t)
	api(t).GrantConfigMap(t, stormName)
	gate := api(t).Gate(t)
	kubeconfig := cluster.Kubeconfig(t, gate.URL, who.Token)
	t.Setenv("KUBECONFIG", kubeconfig)
	c := cluster.Prepare(t, corefileOf(kubeconfig))
	s := &storm{good: c.Fill(corefileOf(kubeconfig))}
	if err := write(t.Context(), t, s.good); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api(t).RemoveConfigMap(t, stormName) })
	c.Start(t, coredns(t), "-configmap", "kube-system/"+stormName)
	c.WaitReady(t)
	a := ask(t, c.Addr, tr)
	a.heal(t)

	udp := cluster.Dial(t, "udp", c.Addr)
	calm := func() (applied float64) {
		t.Helper()
		s.stop()
		if err := write(t.Context(), t, s.good+fmt.Sprintf("# %d\nlast%d.example:%s {\n\tbind 127.0.0.1\n\twhoami\n}\n", s.edits.Load(), s.edits.Load(), s.port())); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("last%d.example.", s.edits.Load())
		cluster.Eventually(t, bound, func() (bool, string) {
			m, err := udp.Ask(want, dns.TypeA)
			return err == nil && m.Rcode == dns.RcodeSuccess && len(m.Extra) > 0, fmt.Sprint("the last Corefile does not serve: ", m, err)
		})
		if n := c.Metric(t, "coredns_kubehosts_corefile_rejected"); n != 0 {
			t.Errorf("the gauge is %v", n)
		}
		return c.Metric(t, "coredns_kubehosts_corefile_applied_total")
	}
	hold := func() (fds int, goroutines float64) { return c.FDs(t), c.Metric(t, "go_goroutines") }

	s.begin(t)
	<-time.After(lasts / 2)
	calm()
	fds, goroutines := hold()
	a.counted(t, "a storm of edits of the whole Corefile, each fourth wrong", func() time.Duration {
		s.begin(t)
		<-time.After(lasts)
		calm()
		return a.heal(t)
	})
	a.fault(t, "the same, and the API server refuses connections", func() {
		s.begin(t)
		gate.Close()
	}, func() {
		s.stop()
		gate.Open(t)
	})
	applied := calm()
	fdsAfter, goroutinesAfter := hold()
	t.Logf("%d edits, %v applied, %v refused; %d and %d file descriptors, %v and %v goroutines",
		s.edits.Load(), applied, c.Metric(t, "coredns_kubehosts_corefile_rejected_total"), fds, fdsAfter, goroutines, goroutinesAfter)
	if fdsAfter > fds+10 || goroutinesAfter > goroutines+20 {
		t.Errorf("%d file descriptors became %d, and %v goroutines %v", fds, fdsAfter, goroutines, goroutinesAfter)
	}
}
