package persistent

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

// A Strings holds what was set, also strings too long for a bundle, and later changes do not affect a copy.
func TestStringsAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	lengths := []int{0, 1, 40, bundleMost, bundleMost + 1, 100_000}
	var s Strings
	want := map[uint32]string{}
	type moment struct {
		s    Strings
		want map[uint32]string
	}
	var moments []moment
	for batch := uint64(1); batch < 200; batch++ {
		for range rnd.IntN(50) {
			i := uint32(rnd.IntN(200))
			want[i] = strings.Repeat(string(rune('a'+rnd.IntN(26))), lengths[rnd.IntN(len(lengths))])
			s.Set(batch, i, want[i])
		}
		if batch%20 == 0 {
			moments = append(moments, moment{s, maps.Clone(want)})
		}
	}
	for at, m := range moments {
		for i := range uint32(300) {
			if got := m.s.At(i); got != m.want[i] {
				t.Fatalf("moment %d: string %d has %d octets, want %d", at, i, len(got), len(m.want[i]))
			}
		}
	}
}

// A bundle of the longest strings that fit is full to the last octet that ends can count.
func TestStringsFullBundle(t *testing.T) {
	var s Strings
	for i := range uint32(bundleLen) {
		s.Set(1, i, strings.Repeat(string(rune('a'+i)), bundleMost))
	}
	for i := range uint32(bundleLen) {
		if got := s.At(i); got != strings.Repeat(string(rune('a'+i)), bundleMost) {
			t.Errorf("string %d is %.10q, %d octets", i, got, len(got))
		}
	}
}

// A string costs little more than its octets.
func TestStringsAreSmall(t *testing.T) {
	const n, length = 50_000, 40
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return float64(stats.HeapAlloc)
	}
	v := strings.Repeat("x", length)
	before := heap()
	var s Strings
	for i := range uint32(n) {
		s.Set(1, i, v)
	}
	if each := (heap() - before) / n; each > length+10 {
		t.Errorf("%.1f octets for a string of %d", each, length)
	}
	runtime.KeepAlive(&s)
}
