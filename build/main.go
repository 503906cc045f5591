// Package main builds the CoreDNS of kubehosts: every stock plugin, and kubehosts.
package main

import (
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // every stock plugin

	"github.com/kubehosts/kubehosts/build/command"
	"github.com/kubehosts/kubehosts/build/follow"
	"github.com/kubehosts/kubehosts/build/version"
	_ "github.com/kubehosts/kubehosts/plugin"
)

// Directives is the order in which plugins get a query. kubehosts comes just before hosts.
func init() {
	at := slices.Index(dnsserver.Directives, "hosts")
	dnsserver.Directives = slices.Insert(dnsserver.Directives, at, "kubehosts")
}

func main() {
	command.Run()
	version.Announce()
	follow.Main()
}
