// Package growth measures work, for tests that fail if it grows faster than what it is done for. It counts what does
// not depend on how busy the machine is: allocations, bytes, and the time that a CPU spends on one thread.
package growth

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// Four times as many objects may take this many times the work. Work that is proportional to n log n takes five times
// as much, slices that grow by append up to seven times, and quadratic work sixteen times. Time has a little more room,
// because memory beyond the caches is slower.
const (
	times     = 4
	mostBytes = 9
	mostTime  = 10
)

// Work is what a function did.
type Work struct {
	Bytes float64       // allocated
	CPU   time.Duration // 0 where no clock counts the time of one thread
}

// Of returns what f does in the goroutine that calls it.
func Of(f func()) Work {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a thread that allocates helps the garbage collector
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := ThreadTime()
	f()
	took := ThreadTime() - start
	runtime.ReadMemStats(&after)
	return Work{float64(after.TotalAlloc - before.TotalAlloc), took}
}

// least returns the lesser of both bytes and both times. What the rest of the process does counts as well, now and
// then.
func (w Work) least(other Work) Work { return Work{min(w.Bytes, other.Bytes), min(w.CPU, other.CPU)} }

// Linear fails the test unless four times as many objects take four times the work, or a little more. measure returns
// the work for n objects: that of each of several steps, always as many. It is called a few times for both numbers,
// since a busy machine only ever makes work look larger.
func Linear(t *testing.T, n int, measure func(n int) []Work) {
	t.Helper()
	measure(10) // does what is done only once
	few, many := measure(n), measure(times*n)
	for tries := 1; tries < 5 && !linear(few, many); tries++ {
		merge(few, measure(n))
		merge(many, measure(times*n))
	}
	for i := range few {
		a, b := few[i], many[i]
		t.Logf("step %d: %.0f B and %v for each of %d, %.1f and %.1f times as much for %d times as many",
			i+1, a.Bytes/float64(n), a.CPU/time.Duration(n), n, ratio(a.Bytes, b.Bytes), ratio(float64(a.CPU), float64(b.CPU)), times)
	}
	if !linear(few, many) {
		t.Errorf("%d times as many take more than %d times the bytes, or %d times the time", times, mostBytes, mostTime)
	}
}

func merge(all, others []Work) {
	for i := range all {
		all[i] = all[i].least(others[i])
	}
}

func linear(few, many []Work) bool {
	for i := range few {
		if many[i].Bytes > mostBytes*few[i].Bytes+4096 || many[i].CPU > mostTime*few[i].CPU+time.Millisecond { // of work that is next to none
			return false
		}
	}
	return true
}

func ratio(few, many float64) float64 { return many / max(1, few) }

// Updates measures, for Linear, setting n objects of an index and deleting them again, one by one and then all at once.
// world makes an index for n objects. It returns functions that set and delete, in one step, the objects from one
// number up to but not including another.
func Updates(world func(n int) (set, del func(from, to int))) func(n int) []Work {
	return func(n int) (all []Work) {
		for _, batch := range []int{1, n} {
			set, del := world(n)
			for _, do := range []func(from, to int){set, del} {
				all = append(all, Of(func() {
					for from := 0; from < n; from += batch {
						do(from, min(n, from+batch))
					}
				}))
			}
		}
		return all
	}
}

// Allocations returns how many allocations f takes at the least, as testing.AllocsPerRun counts them: that counts what
// other goroutines allocate as well. It counts up to twenty times, until there are no more than most.
func Allocations(runs int, most float64, f func()) float64 {
	n := math.Inf(1)
	for try := 0; try < 20 && n > most; try++ {
		n = min(n, testing.AllocsPerRun(runs, f))
	}
	return n
}
