// Package main builds the slim CoreDNS: kubehosts, and the stock plugins that the Corefiles of kube-system use. The
// imports below are the list. To add another plugin, add its line and run `make image`.
//
// It leaves out clients of clouds and other stores (route53, azure, clouddns, etcd, nomad), tracing and packet capture
// (trace, dnstap), DNSSEC signing, and servers for protocols other than DNS, TLS and HTTPS: most of the size of
// CoreDNS.
package main

import (
	"slices"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/kubehosts/kubehosts/build/command"
	"github.com/kubehosts/kubehosts/build/follow"
	"github.com/kubehosts/kubehosts/build/version"
	_ "github.com/kubehosts/kubehosts/plugin"

	// Plugins that distributions put into the Corefile (test/testdata/check), or expect `import` to add.
	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/any"
	_ "github.com/coredns/coredns/plugin/autopath"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/bufsize"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/cancel"
	_ "github.com/coredns/coredns/plugin/chaos"
	_ "github.com/coredns/coredns/plugin/debug"
	_ "github.com/coredns/coredns/plugin/dns64"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/header"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/local"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/minimal"
	_ "github.com/coredns/coredns/plugin/multisocket"
	_ "github.com/coredns/coredns/plugin/nsid"
	_ "github.com/coredns/coredns/plugin/pprof"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/root"
	_ "github.com/coredns/coredns/plugin/shed"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/timeouts"
	_ "github.com/coredns/coredns/plugin/transfer"
	_ "github.com/coredns/coredns/plugin/view"
	_ "github.com/coredns/coredns/plugin/whoami"
)

// As in the full build, kubehosts comes just before hosts.
func init() {
	at := slices.Index(dnsserver.Directives, "hosts")
	dnsserver.Directives = slices.Insert(dnsserver.Directives, at, "kubehosts")
}

func main() {
	command.Run()
	version.Announce()
	follow.Main()
}
