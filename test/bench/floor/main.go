// Package main is CoreDNS with a plugin that writes one constant A reply to every query. It is the lower limit for any
// plugin: the rest of the time is the server's own.
package main

import (
	"context"
	"net"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/pprof"
	"github.com/miekg/dns"
)

func init() {
	plugin.Register("constant", setup)
	dnsserver.Directives = append(dnsserver.Directives, "constant")
}

func setup(c *caddy.Controller) error {
	dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return plugin.HandlerFunc(reply) })
	return nil
}

func reply(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	m.Answer = []dns.RR{&dns.A{
		Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5},
		A:   net.IPv4(10, 96, 0, 1).To4(),
	}}
	w.WriteMsg(m)
	return dns.RcodeSuccess, nil
}

func main() { coremain.Run() }
