package source

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// While objects are first listed, garbage is collected a little later than usual: 80,000 endpoints are read in an
// eighth less time, for 1 MB. When they are listed again it is collected sooner: nearly everything decoded is garbage
// then, and must not make memory grow. The process has 24 MB of its own, and at most 25 MB while it lists them again.
//
// Between lists, so little memory is in use (10 MB with 80,000 endpoints) that a server under load would collect many
// times a second: the collector took 13 % of its CPU time, and takes 4 % with this. So garbage may grow to
// garbageServing, if that is more than the memory in use, which is measured after each collection: a growing index or
// hosts file brings no more garbage. If a collection has much to scan, garbage may grow to garbageScanned times as
// much, up to garbageMost: with 100,000 Services, 24 MB, an answer takes a tenth less time. GOGC in the environment
// turns all this off.
const (
	garbageServing = 80 << 20 // bytes
	garbageMost    = 240 << 20
	garbageScanned = 8
)

// collector sets the pace of the garbage collector, for all lists of the process.
var collector = pace{listing: make(map[any]struct{})}

type pace struct {
	mu      sync.Mutex
	listing map[any]struct{} // lists in progress
	served  bool             // everything was listed once
	percent int              // the percentage last set
}

// list records that the list into store begins.
func (p *pace) list(store any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listing[store] = struct{}{}
	if p.served {
		p.set(againPercent)
	} else {
		p.set(firstPercent)
	}
}

// listed records that the list into store is complete, or never will be.
func (p *pace) listed(store any) {
	p.mu.Lock()
	_, was := p.listing[store]
	delete(p.listing, store)
	last := was && len(p.listing) == 0
	p.mu.Unlock()
	if !last {
		return
	}
	safe.Go(context.Background(), "the pace of the garbage collector", func(context.Context) { p.measure() })
}

// measure sets the pace for serving after the last list.
func (p *pace) measure() {
	runtime.GC() // to measure what is in use
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.listing) > 0 {
		return
	}
	if !p.served {
		p.served = true
		p.follow()
	}
	p.set(percentFor(inUse()))
}

// follow makes the next collection call collected, through an object without references.
func (p *pace) follow() {
	runtime.AddCleanup(&struct{ *pace }{p}, (*pace).collected, p)
}

// collected sets the pace for the memory now in use. The runtime calls it on a goroutine of its own.
func (p *pace) collected() {
	_ = safe.Recovered("the pace of the garbage collector", func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.follow()
		if len(p.listing) == 0 {
			p.set(percentFor(inUse()))
		}
	})
}

// set changes the pace, unless it is nearly the same: all goroutines stop for a moment when it changes.
func (p *pace) set(percent int) {
	if os.Getenv("GOGC") != "" || 8*max(percent-p.percent, p.percent-percent) <= p.percent {
		return
	}
	p.percent = percent
	debug.SetGCPercent(percent)
}

// The growth of garbage, in percent of the memory in use: Go's default, during the first lists, and during later lists.
const (
	usualPercent = 100
	firstPercent = 150
	againPercent = 50
)

// percentFor returns how far garbage may grow, in percent of the bytes in use, if a collection scans scanned bytes.
// That exceeds inUse if more was allocated since the last one.
func percentFor(inUse, scanned uint64) int {
	garbage := max(garbageServing, min(garbageMost, garbageScanned*min(scanned, inUse)))
	return max(usualPercent, int(100*garbage/max(inUse, 1<<20))) // #nosec G115 -- at most 8000
}

// inUse returns the bytes that the last collection found in use, and the bytes that the next one has to scan, among
// those and the ones allocated since. The rest has no pointers.
func inUse() (all, scanned uint64) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64(), sample[1].Value.Uint64()
}
