package test

import (
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

const readyCorefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	kubehosts cluster.local in-addr.arpa {
		kubeconfig KUBECONFIG
		startup_timeout 100ms
		hosts {
			192.0.2.1 live.example.org
		}
	}
}
`

// Until kubehosts has reached the API server for the first time, it answers what it has and returns SERVFAIL for the
// rest, never a wrong denial. Afterwards, outages of the API server lose no queries.
func TestReady(t *testing.T) {
	objects(t, shop)
	proxy := api(t).Proxy(t) // not started: connections are refused
	kubeconfig := cluster.Kubeconfig(t, proxy.URL, account(t).Token)
	c := cluster.Launch(t, coredns(t), strings.ReplaceAll(readyCorefile, "KUBECONFIG", kubeconfig))
	c.WaitServing(t)
	udp := cluster.Dial(t, "udp", c.Addr)
	unready := func() {
		t.Helper()
		if ready, why := c.Ready(); ready || why != "kubehosts" {
			t.Errorf("ready is %v (%s) before the first sync", ready, why)
		}
	}
	unready()
	for name, want := range map[string]int{serviceName: dns.RcodeServerFailure, "nobody.shop.svc.cluster.local.": dns.RcodeServerFailure} {
		m, err := udp.Ask(name, dns.TypeA)
		if err != nil {
			t.Fatal(err)
		}
		if m.Rcode != want || len(m.Answer) != 0 {
			t.Errorf("%s before the first sync:\n%s", name, cluster.Text(m))
		}
	}
	if ip, err := address(udp, liveName); ip != firstIP {
		t.Errorf("%s before the first sync is %q: %v", liveName, ip, err)
	}
	unready()

	proxy.Start(t)
	cluster.Eventually(t, 2*bound, c.Ready)
	good := func() {
		t.Helper()
		if ip, err := address(udp, serviceName); ip != serviceIP {
			t.Errorf("%s is %q: %v", serviceName, ip, err)
		}
		if m, err := udp.Ask("nobody.shop.svc.cluster.local.", dns.TypeA); err != nil || m.Rcode != dns.RcodeNameError {
			t.Errorf("a name that does not exist: %v, %v", err, m)
		}
		if ready, why := c.Ready(); !ready {
			t.Errorf("not ready: %s", why)
		}
	}
	good()
	proxy.Stop()
	for range 100 {
		good()
	}
}

// The API server itself ends and returns, with a change in between.
func TestAPIServerRestart(t *testing.T) {
	objects(t, shop)
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, account(t).Token)
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(readyCorefile, "KUBECONFIG", kubeconfig))
	udp := cluster.Dial(t, "udp", c.Addr)
	good := func() {
		t.Helper()
		if ip, err := address(udp, serviceName); ip != serviceIP {
			t.Errorf("%s is %q: %v", serviceName, ip, err)
		}
		if ready, why := c.Ready(); !ready {
			t.Errorf("not ready: %s", why)
		}
	}
	good()
	api(t).StopServer()
	started := make(chan error, 1)
	go func() { started <- api(t).StartServer(t.Context()) }()
	asked := 0
	for running := false; !running; asked++ {
		good()
		select {
		case err := <-started:
			if err != nil {
				t.Fatal(err)
			}
			running = true
		default:
		}
	}
	t.Logf("%d queries while the API server was away", asked)
	objects(t, "apiVersion: v1\nkind: Service\nmetadata: {name: again, namespace: shop}\nspec: {clusterIP: 10.96.7.40, ports: [{port: 80}]}\n")
	took := cluster.Eventually(t, 4*bound, func() (bool, string) {
		ip, err := address(udp, "again.shop.svc.cluster.local.")
		return ip == "10.96.7.40", ip + " " + errText(err)
	})
	t.Logf("a new Service is answered %v after the API server came back", took)
	good()
}

func errText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
