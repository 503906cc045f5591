package status

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// offlinePatience is how long an offline start waits for manifests to be read.
const offlinePatience = 30 * time.Second

// Offline reads a Corefile and the manifests, hosts files and snapshots that its kubehosts stanzas name, and returns
// its server blocks ready to answer. It opens no socket, contacts no API server, and writes nothing; of other plugins
// it uses only the names. The caller calls close at the end.
func Offline(path string, text []byte) (s *Servers, close func(), err error) {
	blocks, err := caddyfile.Parse(path, bytes.NewReader(text), nil)
	if err != nil {
		return nil, nil, err
	}
	s = &Servers{Path: path, Text: string(text), Offline: true}
	close = func() {
		for i := range s.All {
			if b := s.All[i].Block; b != nil {
				b.Stop()
			}
		}
	}
	corefile := new(byte) // identifies the Corefile: each has another pointer
	for _, b := range blocks {
		server, err := offline(path, b, corefile)
		if err != nil {
			close()
			return nil, nil, err
		}
		s.All = append(s.All, server)
	}
	s.wait()
	return s, close, nil
}

// offline returns one server block.
func offline(path string, b caddyfile.ServerBlock, corefile any) (s Server, err error) {
	if s.Keys, s.Zones, err = stanza.ServerKeys(b.Keys); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	s.Plugins = pluginsOf(b)
	s.View = argument(b, "view")
	tokens := b.Tokens[stanza.Name]
	if tokens == nil {
		return s, nil
	}
	d := caddyfile.NewDispenserTokens(path, tokens)
	config, err := stanza.Parse(&d, s.Keys)
	if err != nil {
		return s, err
	}
	s.Block = live.New(config, live.ServerBlock{Keys: s.Keys, Root: argument(b, "root"), Corefile: corefile, Offline: true})
	if err := s.Block.Start(s.View, nil); err != nil {
		s.Block.Stop()
		return s, err
	}
	return s, nil
}

// argument returns the first argument of a directive, "" if there is none.
func argument(b caddyfile.ServerBlock, directive string) string {
	if t := b.Tokens[directive]; len(t) > 1 {
		return t[1].Text
	}
	return ""
}

// pluginsOf returns the directives of a server block in the order in which plugins get a query.
func pluginsOf(b caddyfile.ServerBlock) (all []string) {
	for name := range b.Tokens {
		all = append(all, name)
	}
	place := func(name string) int {
		if i := slices.Index(dnsserver.Directives, name); i >= 0 {
			return i
		}
		return len(dnsserver.Directives)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(place(a), place(b)), strings.Compare(a, b)) })
	return all
}

// wait waits until the files were read.
func (s *Servers) wait() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < offlinePatience; <-tick.C {
		settled := true
		for i := range s.All {
			if b := s.All[i].Block; b != nil && len(b.Base().Manifests) > 0 && !b.Settled() {
				settled = false
			}
		}
		if settled {
			return
		}
	}
}
