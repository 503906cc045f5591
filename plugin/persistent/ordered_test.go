package persistent

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func inOrder[E any](o *Ordered[E]) (all []E) {
	for e := range o.All {
		all = append(all, e)
	}
	return all
}

// number is an element, and the value it was set to.
type number struct{ key, value int }

func at(key int) func(number) int { return func(n number) int { return cmp.Compare(n.key, key) } }

func TestOrderedAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int{10, 200, 20_000} {
		var o Ordered[number]
		want := map[int]int{}
		type moment struct {
			o    Ordered[number]
			want map[int]int
		}
		var moments []moment
		for batch := uint64(1); batch < 300; batch++ {
			grows := batch%100 < 50
			for range rnd.IntN(200) {
				key := rnd.IntN(most)
				if rnd.IntN(4) > 0 != grows {
					_, there := want[key]
					if o.Delete(batch, at(key)) != there {
						t.Fatalf("deleted %d: %v", key, !there)
					}
					delete(want, key)
					continue
				}
				n := number{key, rnd.Int()}
				if found := o.Own(batch, at(key)); found != nil {
					found.value = n.value
				} else {
					o.Set(batch, n, at(key))
				}
				want[key] = n.value
			}
			checkPages(t, o.root, true)
			if batch%20 == 0 {
				moments = append(moments, moment{o, maps.Clone(want)})
			}
		}
		// Later changes must not affect published states.
		for i, m := range moments {
			keys := slices.Sorted(maps.Keys(m.want))
			got := inOrder(&m.o)
			if len(got) != len(keys) {
				t.Fatalf("moment %d: %d elements, want %d", i, len(got), len(keys))
			}
			for j, n := range got {
				if n.key != keys[j] || n.value != m.want[n.key] {
					t.Fatalf("moment %d: %v at %d, want %d", i, n, j, keys[j])
				}
			}
			for range 50 {
				from := rnd.IntN(most+2) - 1
				j, _ := slices.BinarySearch(keys, from)
				n, ok := m.o.From(at(from))
				if ok != (j < len(keys)) || ok && n.key != keys[j] {
					t.Fatalf("moment %d: %v from %d on", i, n, from)
				}
			}
		}
	}
}

// checkPages fails the test if p, or a page below it, is invalid.
func checkPages(t *testing.T, p *page[number], root bool) {
	t.Helper()
	switch {
	case p == nil:
		return
	case len(p.elems) == 0 || len(p.elems) > pageMost || p.below != nil && len(p.below) != len(p.elems):
		t.Fatalf("a page has %d elements, and %d pages below", len(p.elems), len(p.below))
	case root && len(p.below) == 1:
		t.Fatal("the root has one page below")
	}
	for i, next := range p.below {
		if next.elems[0].key != p.elems[i].key {
			t.Fatalf("%v is the first of a page, but %v above it", next.elems[0], p.elems[i])
		}
		checkPages(t, next, false)
	}
}

// Several elements may be equal to the one searched for. The first of them is found, wherever it is.
func TestOrderedRange(t *testing.T) {
	var o Ordered[number]
	for key := range 5000 {
		o.Set(1, number{key: key}, at(key))
	}
	for tens := range 500 {
		n, ok := o.From(func(n number) int { return cmp.Compare(n.key/10, tens) })
		if !ok || n.key != 10*tens {
			t.Fatalf("from %d on: %v", 10*tens, n)
		}
	}
	if n, ok := o.From(at(5000)); ok {
		t.Errorf("after the last there is %v", n)
	}
}

// Pages stay well filled whatever is added and removed, and published ones cost little to change.
func TestOrderedFills(t *testing.T) {
	const n = 50_000
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, keys := range map[string]func(int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return n - i },
		"random":     func(int) int { return rnd.Int() },
		"inwards":    func(i int) int { return (n - i) * (1 - i%2*2) },
	} {
		var o Ordered[number]
		for i := range n {
			o.Set(1, number{key: keys(i)}, at(keys(i)))
		}
		pages := 0
		for range o.Pages {
			pages++
		}
		if most := n/pageLeast + 1; pages > most {
			t.Errorf("%s: %d pages for %d elements", name, pages, n)
		}
		depth := 0
		for p := o.root; p.below != nil; p = p.below[0] {
			depth++
		}
		if depth > 3 {
			t.Errorf("%s: %d pages lead to an element", name, depth)
		}
	}
}

func TestOrderedEmpties(t *testing.T) {
	for _, n := range []int{1, 2, pageMost, pageMost + 1, 10_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var o Ordered[number]
			for key := range n {
				o.Set(1, number{key: key}, at(key))
			}
			for i := range n {
				key := i * 7919 % n // 7919 is prime to all n
				if only, ok := o.Only(); ok != (i == n-1) || ok && only.key != key {
					t.Fatalf("Only returned %v, with %d left", only, n-i)
				}
				if !o.Delete(uint64(i), at(key)) {
					t.Fatalf("%d is missing", key)
				}
				checkPages(t, o.root, true)
			}
			if o.root != nil {
				t.Errorf("left: %v", inOrder(&o))
			}
		})
	}
}
