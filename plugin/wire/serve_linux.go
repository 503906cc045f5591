// Package wire answers questions over UDP outside CoreDNS's own server. It reads packets and writes replies in batches,
// and allocates nothing on the way.
//
// On each address for plain DNS that serves a kubehosts stanza, wire opens a socket beside CoreDNS's own and steers the
// packets to it. It answers plain questions for kubehosts. Any other packet goes unchanged to CoreDNS's server through
// a net.PacketConn that exists in memory only; everything that a server block may do to it is CoreDNS's code. If the
// plugins ahead of kubehosts would require that for every packet, no socket is opened at all.
package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

var log = clog.NewWithPlugin(stanza.Name)

// grace is how long CoreDNS may take to answer the packets handed to it when a socket is closed or a reload ends.
// CoreDNS allows itself the same.
const grace = 5 * time.Second

// Serve answers the questions over UDP for the server block of c from view, if its plugins allow that. The setup of the
// block's stanza calls it.
func Serve(c *caddy.Controller, view func() *answer.View) {
	in, _ := c.Get(instanceKey{}).(*instance)
	if in == nil {
		in = &instance{
			blocks:    make(map[int]*block),
			listeners: make(map[string]*listener),
			hooks:     make(map[string]hook),
			began:     make(map[string]*serving),
		}
		c.Set(instanceKey{}, in)
		c.OnStartup(func() error { in.start(c); return nil })
		c.OnRestart(func() error { in.restarting(true); return nil })
		c.OnRestartFailed(func() error { in.restarting(false); return nil })
		c.OnShutdown(func() error { in.replaced(); return nil })
		c.OnFinalShutdown(func() error { in.end(); return nil })
	}
	config := dnsserver.GetConfig(c)
	in.blocks[c.ServerBlockIndex] = &block{view: view, hook: config.UDPDecorateWriterFunc}
	config.UDPDecorateWriterFunc = in.decorate
}

type instanceKey struct{}

// instance is one reading of the Corefile.
type instance struct {
	blocks    map[int]*block       // those with a kubehosts stanza, by their index
	listeners map[string]*listener // by address, those that are answered here
	hooks     map[string]hook      // by address, those of other plugins

	mu      sync.Mutex
	began   map[string]*serving // by address, once the first server of the address starts to serve; nil if that failed
	restart bool                // another reading is about to replace this one
}

// block is a server block with a kubehosts stanza.
type block struct {
	view func() *answer.View
	hook hook // set earlier by another plugin of the block
}

// hook is a UDPDecorateWriterFunc. dnsserver calls it when a server is about to serve packets.
type hook = func(*dnsserver.Server) dns.DecorateWriter

// start determines what is answered here. CoreDNS has made its servers, and has not opened a socket
// yet.
func (in *instance) start(c *caddy.Controller) {
	byAddr := make(map[string][]blockOf)
	chains := make(map[int]*chain)
	for _, b := range serverBlocks(c) {
		for _, addr := range listens(b.config) {
			byAddr[addr] = append(byAddr[addr], b)
		}
		ours := in.blocks[b.block]
		if _, done := chains[b.block]; ours == nil || done {
			continue
		}
		ch, err := newChain(b.config, ours.view)
		if err != nil {
			log.Infof("Questions over UDP for %q go through CoreDNS's server because of %v", b.config.Zone, err)
		}
		chains[b.block] = ch
	}
	for addr, all := range byAddr {
		hook, called := in.hooksOf(all)
		in.hooks[addr] = hook
		if !slices.ContainsFunc(all, func(b blockOf) bool { return chains[b.block] != nil }) {
			continue
		}
		if err := allowed(addr, all, byAddr, called); err != nil {
			log.Infof("Questions over UDP to %s go through CoreDNS's server because of %v", addr, err)
			continue
		}
		in.listeners[addr] = newListener(addr, all, chains)
	}
	sockets.expect(in)
}

// serverBlocks returns all zones of all server blocks, in the order of the Corefile.
func serverBlocks(c *caddy.Controller) (all []blockOf) {
	for block, config := range Configs(c) {
		all = append(all, blockOf{config, block})
	}
	return all
}

// hooksOf returns the hook of other plugins for an address that serves the zones of all, nil if there is none, and
// whether dnsserver calls this package's hook. It calls the one that was set last.
func (in *instance) hooksOf(all []blockOf) (others hook, called bool) {
	for _, b := range all {
		set := b.config.UDPDecorateWriterFunc
		if ours := in.blocks[b.block]; ours != nil {
			called = true
			set = ours.hook
		} else if set != nil {
			called = false
		}
		if set != nil {
			others = set
		}
	}
	return others, called
}

// allowed returns why an address can't be answered here, whatever the plugins of its server blocks. called is whether
// dnsserver calls the hook.
func allowed(addr string, all []blockOf, byAddr map[string][]blockOf, called bool) error {
	if slices.ContainsFunc(all, func(b blockOf) bool { return b.config.ProxyProtoConnPolicy != nil }) {
		return errors.New("plugin proxyproto")
	}
	if !called {
		return errors.New("a plugin that decorates the writer, such as shed")
	}
	port := wildcardPort(addr)
	for other := range byAddr {
		if other != addr && port != "" && port == wildcardPort(other) {
			return fmt.Errorf("%s, which is the same socket address", other)
		}
	}
	return nil
}

// wildcardPort returns the port of a wildcard address, "" for any other address.
func wildcardPort(addr string) string {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(addr, transport.DNS+"://"))
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return ""
	}
	return port
}

// decorate is the hook. It starts to answer the address here, and then lets the server serve the packets handed to it.
func (in *instance) decorate(s *dnsserver.Server) dns.DecorateWriter {
	if l := in.listeners[s.Addr]; l != nil && in.begins(s.Addr) {
		served := sockets.serve(l, s)
		in.mu.Lock()
		in.began[s.Addr] = served
		in.mu.Unlock()
	}
	if h := in.hooks[s.Addr]; h != nil {
		return h(s)
	}
	return nil
}

// begins reports whether an address starts to be served. The hook runs again for the server that gets the handed
// packets, and for each further server that *multisocket* makes.
func (in *instance) begins(addr string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, ok := in.began[addr]; ok {
		return false
	}
	in.began[addr] = nil
	return true
}

func (in *instance) restarting(now bool) {
	in.mu.Lock()
	in.restart = now
	in.mu.Unlock()
	if !now {
		sockets.expect(in)
	}
}

// replaced waits until the next instance serves the sockets of in, and CoreDNS has answered the packets that in handed
// to it. It closes the sockets of addresses that are no longer served. If the process is shutting down, it does
// nothing: questions are answered until *health*'s lameduck is over.
func (in *instance) replaced() {
	in.mu.Lock()
	restart := in.restart
	in.mu.Unlock()
	if !restart {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	next := sockets.expected()
	for _, s := range in.all() {
		if next != in && next.listeners[s.listener.addr] != nil {
			s.await(ctx)
		}
		sockets.close(ctx, s)
	}
	sockets.check()
}

// end closes the sockets when the process ends.
func (in *instance) end() {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	for _, s := range in.all() {
		sockets.close(ctx, s)
	}
}

// all returns everything that in serves.
func (in *instance) all() (all []*serving) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, s := range in.began {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}
