package follow

import (
	"fmt"
	"net"

	"github.com/coredns/coredns/plugin/pkg/reuseport"

	"github.com/kubehosts/kubehosts/build/corefile"
)

// httpPlugins are the plugins that serve HTTP, with their default addresses.
var httpPlugins = map[string]string{"prometheus": "localhost:9153", "health": ":8080", "ready": ":8181", "pprof": "localhost:6053"}

// addressesOf returns the addresses on which a plugin of a server block serves HTTP.
func addressesOf(b *corefile.Block, name string) (all []string) {
	for _, words := range b.Stanzas(name) {
		addr := httpPlugins[name]
		if line := corefile.Lines(words)[0]; len(line) > 1 && line[1].Text != "{" {
			addr = line[1].Text
		}
		all = append(all, addr)
	}
	return all
}

// listeners returns the addresses that a Corefile listens on, over TCP and, where true, UDP.
func listeners(blocks []corefile.Block) map[string]bool {
	all := map[string]bool{}
	for i := range blocks {
		b := &blocks[i]
		for name := range httpPlugins {
			for _, addr := range addressesOf(b, name) {
				all[addr] = false
			}
		}
		hosts := []string{}
		for _, words := range b.Stanzas("bind") {
			for _, w := range corefile.Lines(words)[0][1:] {
				if net.ParseIP(w.Text) != nil { // else an interface, whose addresses exist
					hosts = append(hosts, w.Text)
				}
			}
		}
		if b.Directives["bind"] == nil {
			hosts = append(hosts, "")
		}
		for _, port := range b.Ports() {
			for _, host := range hosts {
				all[net.JoinHostPort(host, port)] = true
			}
		}
	}
	return all
}

// listenable returns why the server can't listen on an address that is in the Corefile after and not in the one before.
// If CoreDNS notices this during a restart, it leaves sockets open, and their packets are lost when somebody listens
// there later.
func listenable(before, after []corefile.Block) error {
	had := listeners(before)
	for addr, udp := range listeners(after) {
		if _, ok := had[addr]; ok {
			continue
		}
		ln, err := reuseport.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("the server can't listen on %s: %w", addr, err)
		}
		ln.Close()
		if !udp {
			continue
		}
		pc, err := reuseport.ListenPacket("udp", addr)
		if err != nil {
			return fmt.Errorf("the server can't listen on %s: %w", addr, err)
		}
		pc.Close()
	}
	return nil
}
