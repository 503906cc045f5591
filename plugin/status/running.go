package status

import (
	"slices"
	"sync"

	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// running are the Corefiles that serve, or soon will. During a reload there are two.
var running registry

type registry struct {
	mu  sync.Mutex
	all []*corefile // newest last
}

// corefile is a Corefile that was read.
type corefile struct {
	of      any // as in live.ServerBlock
	servers Servers
	open    int // the number of Blocks that are not stopped
}

// Add adds the Block of the server block with that index, until it is stopped. of identifies the Corefile, as in
// live.ServerBlock, and layout returns its server blocks without their Blocks; it is called once for each Corefile.
func Add(block *live.Block, index int, layout func() Servers) {
	r := &running
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.IndexFunc(r.all, func(c *corefile) bool { return c.of == block.Corefile })
	if at < 0 {
		at = len(r.all)
		r.all = append(r.all, &corefile{of: block.Corefile, servers: layout()})
	}
	c := r.all[at]
	if index >= len(c.servers.All) {
		return
	}
	c.servers.All[index].Block = block
	c.open++
	go block.AtStop(func() { r.drop(c) }) // it takes the Block's lock, whose holder may be waiting for this one
}

// drop records that a Block of c was stopped.
func (r *registry) drop(c *corefile) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.open--; c.open == 0 {
		r.all = slices.DeleteFunc(r.all, func(o *corefile) bool { return o == c })
	}
}

// Running returns the server blocks of the Corefile that serves: the newest whose stanzas have all started.
func Running() *Servers {
	r := &running
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range slices.Backward(r.all) {
		if c.whole() {
			return c.copy()
		}
	}
	if len(r.all) > 0 {
		return r.all[0].copy()
	}
	return new(Servers)
}

// whole reports whether all stanzas of c have a Block.
func (c *corefile) whole() bool {
	return !slices.ContainsFunc(c.servers.All, func(s Server) bool {
		return s.Block == nil && slices.Contains(s.Plugins, stanza.Name)
	})
}

func (c *corefile) copy() *Servers {
	s := c.servers
	s.All = slices.Clone(s.All)
	return &s
}
