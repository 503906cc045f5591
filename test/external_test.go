package test

import (
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// TestK8sExternal runs k8s_external beside kubehosts as plugin/README.md says: with the stock plugin, in a server block of
// its own.
func TestK8sExternal(t *testing.T) {
	objects(t, shop+`---
apiVersion: v1
kind: Service
metadata: {name: open, namespace: shop}
spec: {externalIPs: [198.51.100.7], ports: [{name: http, port: 80}]}
`)
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, account(t).Token)
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(`example.org:PORT {
	bind 127.0.0.1
	kubernetes cluster.local {
		kubeconfig KUBECONFIG
	}
	k8s_external example.org
}
.:PORT {
	bind 127.0.0.1
	ready READY
	kubehosts cluster.local {
		kubeconfig KUBECONFIG
	}
}
`, "KUBECONFIG", kubeconfig))
	udp := cluster.Dial(t, "udp", c.Addr)
	for name, want := range map[string]string{"open.shop.example.org.": "198.51.100.7", serviceName: serviceIP} {
		cluster.Eventually(t, bound, func() (bool, string) {
			m, err := udp.Ask(name, dns.TypeA)
			if err != nil {
				return false, err.Error()
			}
			return len(m.Answer) == 1 && strings.HasSuffix(m.Answer[0].String(), want), cluster.Text(m)
		})
	}
}
