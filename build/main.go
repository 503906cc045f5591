// Package main builds the CoreDNS that kubehosts users run: every stock plugin, and kubehosts.
package main

import (
	"os"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // every stock plugin
	"github.com/coredns/coredns/coremain"

	"github.com/kubehosts/kubehosts/build/check"
	"github.com/kubehosts/kubehosts/build/version"
	_ "github.com/kubehosts/kubehosts/plugin"
)

// The order of Directives is the order in which plugins see a query. kubehosts stands just ahead of hosts.
func init() {
	at := slices.Index(dnsserver.Directives, "hosts")
	dnsserver.Directives = slices.Insert(dnsserver.Directives, at, "kubehosts")
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "check" {
		os.Exit(check.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	version.Announce()
	coremain.Run()
}
