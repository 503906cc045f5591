package source

import "testing"

func TestPercentFor(t *testing.T) {
	for inUse, want := range map[uint64]int{0: 6400, 8 << 20: 800, 16 << 20: 400, 64 << 20: 100, 1 << 30: 100} {
		if got := percentFor(inUse); got != want {
			t.Errorf("%d%% with %d bytes in use, want %d%%", got, inUse, want)
		}
	}
}
