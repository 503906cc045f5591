// Package growth checks that work grows with the number of objects and no faster, for tests.
package growth

import (
	"runtime"
	"testing"
)

// most limits what twice as many objects may cost, as a multiple of what the objects cost. Quadratic work would be four times as
// much.
const most = 2.6

// Linear fails the test unless twice as many objects take twice the work, or a little more, whether they are set and deleted at
// once or one by one. world makes a world for n objects. It returns functions that set and delete, in one step, the objects from
// one number up to but not including another.
func Linear(t *testing.T, n int, world func(n int) (set, del func(from, to int))) {
	t.Helper()
	for _, batch := range []int{1, 2 * n} {
		work := func(n int) (set, del float64) {
			steps := func(do func(from, to int)) float64 {
				return Allocated(func() {
					for from := 0; from < n; from += batch {
						do(from, min(n, from+batch))
					}
				})
			}
			toSet, toDelete := world(n)
			return steps(toSet), steps(toDelete)
		}
		work(10) // makes what is made only once
		set1, del1 := work(n)
		set2, del2 := work(2 * n)
		if set2 > most*set1 || del2 > most*del1 {
			t.Errorf("%d at a time: setting %d takes %.0f KB, and twice as many %.1f times that; deleting them %.0f KB, and %.1f times that",
				batch, n, set1/1e3, set2/set1, del1/1e3, del2/del1)
		}
		of := float64(2 * n)
		t.Logf("%d at a time: set %.0f B each, %.2f; delete %.0f B each, %.2f", batch, set2/of, set2/set1, del2/of, del2/del1)
	}
}

// Allocated returns the bytes that f allocates. They stand for the work that f does on an index that never changes what it
// published: code that goes through a list of length n for each of n objects also builds that list anew for each.
func Allocated(f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc - before.TotalAlloc)
}
