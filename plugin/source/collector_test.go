package source

import (
	"runtime"
	"testing"
)

func TestPercentFor(t *testing.T) {
	for _, tt := range []struct {
		inUse, scanned uint64
		want           int
	}{
		{0, 0, 8000}, {8 << 20, 4 << 20, 1000}, {16 << 20, 10 << 20, 500}, {80 << 20, 1 << 20, 100}, {1 << 30, 1 << 20, 100},
		{60 << 20, 15 << 20, 200}, {64 << 20, 32 << 20, 375}, {5 << 20, 60 << 20, 1600}, {1 << 30, 1 << 29, 100},
	} {
		if got := percentFor(tt.inUse, tt.scanned); got != tt.want {
			t.Errorf("%d%% with %d bytes in use and %d to scan, want %d%%", got, tt.inUse, tt.scanned, tt.want)
		}
	}
}

// Memory that comes into use after the lists, such as a hosts file, must not slow the pace down further: garbage
// would grow with it.
func TestPaceFollows(t *testing.T) {
	var p pace
	t.Setenv("GOGC", "") // since it would be obeyed
	p.listing = make(map[any]struct{})
	defer p.set(usualPercent)
	percent := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.percent
	}
	p.list(&p)
	if got := percent(); got != firstPercent {
		t.Errorf("%d%% at the first list, want %d%%", got, firstPercent)
	}
	p.listed(&p)
	eventually(t, "a slower pace with little in use", func() bool { return percent() > 2*usualPercent })

	held := make([]byte, 4*garbageServing)
	runtime.GC()
	eventually(t, "the usual pace with much in use", func() bool { return percent() == usualPercent })
	runtime.KeepAlive(held)

	p.list(&p)
	if got := percent(); got != againPercent {
		t.Errorf("%d%% at the next list, want %d%%", got, againPercent)
	}
}
