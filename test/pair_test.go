package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// bound limits the time from a change in the API server to the new answer. Beyond it the server counts as broken;
// it is not a goal.
const bound = 15 * time.Second

// pair is a coredns that serves the same objects twice: with kubehosts on one port and with the stock plugin on
// another.
type pair struct {
	*cluster.CoreDNS
	clients map[string]*cluster.Client
}

// runPair starts a pair, both with the given options.
func runPair(t *testing.T, options string) pair {
	t.Helper()
	return runCorefile(t, strings.ReplaceAll(pairCorefile, "OPTIONS", options))
}

// runCorefile starts a pair with a Corefile like pairCorefile.
func runCorefile(t *testing.T, corefile string) pair {
	t.Helper()
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, account(t).Token)
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(corefile, "KUBECONFIG", kubeconfig))
	p := pair{c, map[string]*cluster.Client{}}
	for _, network := range []string{"udp", "tcp"} {
		p.clients["kubehosts "+network] = cluster.Dial(t, network, c.Addr)
		p.clients["stock "+network] = cluster.Dial(t, network, c.Other)
	}
	return p
}

const pairCorefile = `
.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	kubehosts cluster.local in-addr.arpa ip6.arpa {
		kubeconfig KUBECONFIG
		hosts {
			192.0.2.99 www.example.org
			2001:db8::99 www.example.org
			ttl 60
		}
		OPTIONS
	}
}
.:OTHER {
	bind 127.0.0.1
	errors
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig KUBECONFIG
		OPTIONS
	}
	hosts {
		192.0.2.99 www.example.org
		2001:db8::99 www.example.org
		ttl 60
		fallthrough
	}
}
`

// check sends the query with every client.
func (p pair) check(t *testing.T, q question) {
	t.Helper()
	p.checkUnlike(t, q, q.want)
}

// checkUnlike is check for queries that the stock plugin is known to answer differently.
func (p pair) checkUnlike(t *testing.T, q question, stock string) {
	t.Helper()
	for who, client := range p.clients {
		want := q.want
		if strings.HasPrefix(who, "stock") {
			want = stock
		}
		if got := q.ask(client); got != want {
			t.Errorf("%s: %v: got\n%s\nwant\n%s", who, q, got, want)
		}
	}
}

// await sends the query with every client until all get the expected answer.
func (p pair) await(t *testing.T, q question) {
	t.Helper()
	for who, client := range p.clients {
		cluster.Eventually(t, bound, func() (bool, string) {
			got := q.ask(client)
			return got == q.want, fmt.Sprintf("%s: %v: got\n%s\nwant\n%s", who, q, got, q.want)
		})
	}
}

// account returns a token of the ServiceAccount in the RBAC objects that the project ships.
func account(t *testing.T) cluster.Account {
	t.Helper()
	api(t).Apply(t, cluster.ReadFile(t, "../build/kubernetes/rbac/rbac.yaml"))
	return api(t).Account(t, "kube-system", "coredns")
}

// objects stores the objects of the YAML text until the end of the test.
func objects(t *testing.T, text string) {
	t.Helper()
	api(t).Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
	api(t).Apply(t, text)
	t.Cleanup(func() { api(t).Delete(t, text) })
}
