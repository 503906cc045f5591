package persistent

import (
	"maps"
	"math/rand/v2"
	"testing"
)

func TestArrayAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var a Array[int]
	want := map[uint32]int{}
	type moment struct {
		a    Array[int]
		want map[uint32]int
	}
	var moments []moment
	for batch := uint64(1); batch < 300; batch++ {
		for range rnd.IntN(100) {
			i := uint32(rnd.IntN(1 << rnd.IntN(20)))
			n := rnd.Int()
			a.Set(batch, i, n)
			want[i] = n
		}
		if batch%20 == 0 {
			moments = append(moments, moment{a, maps.Clone(want)})
		}
	}
	// Later changes must not affect published states.
	for at, m := range moments {
		for i := range uint32(1 << 20) {
			if got := m.a.At(i); got != m.want[i] {
				t.Fatalf("moment %d: number %d is %d, want %d", at, i, got, m.want[i])
			}
		}
		if got := m.a.At(1<<32 - 1); got != 0 {
			t.Errorf("moment %d: the last number is %d", at, got)
		}
	}
}
