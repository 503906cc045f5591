// Package main queries the server of corefile.example, and shows the dig commands for the same queries.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const server, port = "127.0.0.1", "1053"

// asked are the questions, each with the point of its answer.
var asked = []struct{ name, qtype, about string }{
	{"web.shop.svc.cluster.local", "A", "a Service"},
	{"web.shop.svc.cluster.local", "AAAA", "and its IPv6 address"},
	{"_http._tcp.web.shop.svc.cluster.local", "SRV", "its port by name"},
	{"10.7.96.10.in-addr.arpa", "PTR", "and back"},
	{"db.shop.svc.cluster.local", "A", "a headless Service: the endpoints that are ready"},
	{"db-0.db.shop.svc.cluster.local", "A", "one of them"},
	{"docs.shop.svc.cluster.local", "CNAME", "an ExternalName"},
	{"cart.shop.svc.cluster.local", "A", "a Service without a clusterIP in its manifest"},
	{"www.shop.example", "A", "a host of an Ingress, as seen from outside the cluster"},
	{"any.apps.shop.example", "A", "a wildcard of an HTTPRoute, which leads to its Gateway"},
	{"registry.corp.example", "A", "a line of the hosts file"},
	{"any.apps.corp.example", "A", "a wildcard of it"},
	{"live.corp.example", "A", "a line from the ConfigMap"},
}

func main() {
	pid, _ := strconv.Atoi(os.Args[1])
	if err := wait(pid); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, q := range asked {
		fmt.Printf("\n# %s\n$ dig @%s -p %s +short %s %s\n", q.about, server, port, q.name, q.qtype)
		answer, err := ask(q.name, q.qtype)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for _, rr := range answer.Answer {
			fmt.Println(strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	fmt.Print("\nServing until Ctrl-C. Now edit build/example/coredns.yaml, corp.hosts, shop.yaml or outside.yaml, and query again.\n")
}

// wait waits until the server with that process id answers.
func wait(pid int) error {
	for range 200 {
		if _, err := ask(asked[0].name, asked[0].qtype); err == nil {
			return nil
		}
		if err := syscall.Kill(pid, 0); err != nil {
			return fmt.Errorf("the server did not start")
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("no answer on %s port %s", server, port)
}

func ask(name, qtype string) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	answer, _, err := new(dns.Client).Exchange(m, server+":"+port)
	return answer, err
}
