package source

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// While objects are first listed, garbage is collected a little later than usual: with 80,000 endpoints they are read in an
// eighth less time, for 1 MB. When they are listed once more it is collected sooner: nearly all that is decoded is garbage
// then, and memory is not to grow by it. The process has 24 MB of its own, and 25 MB at the most while it lists them again.
//
// Between lists so little is in use, 10 MB at 80,000 endpoints, that a server under load would collect many times a second:
// the collector had 13 % of its CPU time, and 4 % with this. So garbage may grow to garbageServing, if that is more than
// what is in use, which is looked at after each collection: an index or a hosts file that grows brings no more of it. Where a
// collection has much to look through, it may grow to garbageScanned times as much as that, up to garbageMost: with 100,000
// Services, 24 MB, an answer takes a tenth less time. Who sets GOGC is obeyed.
const (
	garbageServing = 80 << 20 // bytes
	garbageMost    = 240 << 20
	garbageScanned = 8
)

// collector is the pace of the garbage collector, which all lists of the process share.
var collector = pace{listing: make(map[any]struct{})}

type pace struct {
	mu      sync.Mutex
	listing map[any]struct{} // what is being listed
	served  bool             // all was listed once
	percent int              // that was set last
}

// list takes note that the list into store begins.
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

// listed takes note that the list into store is complete, or will never be.
func (p *pace) listed(store any) {
	p.mu.Lock()
	_, was := p.listing[store]
	delete(p.listing, store)
	last := was && len(p.listing) == 0
	p.mu.Unlock()
	if !last {
		return
	}
	go func() {
		runtime.GC() // to know what is in use
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
	}()
}

// follow sees to it that collected is called after the next collection, which is when an object that nothing refers to is
// found.
func (p *pace) follow() {
	runtime.AddCleanup(&struct{ *pace }{p}, (*pace).collected, p)
}

// collected sets the pace for what is in use now.
func (p *pace) collected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.listing) == 0 {
		p.set(percentFor(inUse()))
	}
	p.follow()
}

// set changes the pace, unless it is nearly the same: all goroutines stop for a moment when it changes.
func (p *pace) set(percent int) {
	if os.Getenv("GOGC") != "" || 8*max(percent-p.percent, p.percent-percent) <= p.percent {
		return
	}
	p.percent = percent
	debug.SetGCPercent(percent)
}

// What garbage may grow to, in percent of what is in use: Go's default, while objects are first listed, and once more.
const (
	usualPercent = 100
	firstPercent = 150
	againPercent = 50
)

// percentFor returns the percentage of the bytes in use that garbage may grow to, where a collection looks through that many
// of them. More than are in use were made since the last one.
func percentFor(inUse, scanned uint64) int {
	garbage := max(garbageServing, min(garbageMost, garbageScanned*min(scanned, inUse)))
	return max(usualPercent, int(100*garbage/max(inUse, 1<<20))) // #nosec G115 -- at most 8000
}

// inUse returns the bytes that the last collection found in use, and how many of them, and of those that were made since, the
// next has to look through: the rest has no pointers.
func inUse() (all, scanned uint64) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64(), sample[1].Value.Uint64()
}
