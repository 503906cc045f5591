package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// lost is a Service whose changes are lost. No later change repairs it: there are none.
func lost(ip string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: lost, namespace: shop}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: lost-1, namespace: shop, labels: {kubernetes.io/service-name: lost}}
addressType: IPv4
endpoints: [{addresses: [%q]}]
`, ip)
}

// Events of watches get lost without notice. The next audit detects that.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	tr := changes(t)
	proxy := api(t).Proxy(t)
	proxy.Start(t)
	api(t).Apply(t, lost("10.8.0.1"))
	t.Cleanup(func() { api(t).Delete(t, lost("10.8.0.1")) })
	c := cluster.Run(t, coredns(t), corefileOf(cluster.Kubeconfig(t, proxy.URL, account(t).Token), "audit 3s"))
	a := ask(t, c.Addr, tr)
	a.heal(t)
	client := cluster.Dial(t, "udp", c.Addr)
	address := func() string {
		m, err := client.Ask("lost.shop.svc.cluster.local.", dns.TypeA)
		if err != nil || len(m.Answer) != 1 {
			return fmt.Sprint(m, err)
		}
		return m.Answer[0].(*dns.A).A.String()
	}
	if got := address(); got != "10.8.0.1" {
		t.Fatalf("lost is %s", got)
	}

	a.counted(t, "events of a watch vanish (audit every 3 s)", func() time.Duration {
		proxy.Lose("lost-1")
		api(t).Apply(t, lost("10.8.0.2"))
		for start := time.Now(); proxy.Lost() == 0; <-time.After(10 * time.Millisecond) {
			if time.Since(start) > bound {
				t.Fatal("nothing was lost")
			}
		}
		proxy.Lose("")
		start := time.Now()
		for address() != "10.8.0.2" {
			if time.Since(start) > bound {
				if !stock {
					t.Errorf("after %v, lost is still %s", bound, address())
				}
				return bound
			}
			<-time.After(10 * time.Millisecond)
		}
		return time.Since(start)
	})
	if stock {
		return
	}
	if n := c.Metric(t, "coredns_kubehosts_audit_healed_total", "kind", "EndpointSlice"); n != 1 {
		t.Errorf("%v EndpointSlices were healed, want 1", n)
	}
	if n := c.Metric(t, "coredns_kubehosts_audit_healed_total"); n != 1 {
		t.Errorf("%v objects were healed, want 1", n)
	}
	if !strings.Contains(c.Log(), "Audit: the watch of endpointslices lost changes to 1 objects: shop/lost-1;") {
		t.Error("nothing in the log about it")
	}

	// Everything else works, and audits of a server that loses nothing find nothing.
	a.counted(t, "none vanish, with audits under changes", func() time.Duration {
		before := c.Metric(t, "coredns_kubehosts_audits_total", "kind", "EndpointSlice")
		took := cluster.Eventually(t, bound, func() (bool, string) {
			n := c.Metric(t, "coredns_kubehosts_audits_total", "kind", "EndpointSlice") - before
			return n >= 3, fmt.Sprintf("%v audits, want 3", n)
		})
		t.Logf("three audits in %v", took.Round(time.Millisecond))
		return a.heal(t)
	})
	if n := c.Metric(t, "coredns_kubehosts_audit_healed_total"); n != 1 {
		t.Errorf("%v objects were healed, want 1", n)
	}
}
