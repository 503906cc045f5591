package services

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

type numbered struct {
	name string
	n    int
}

func (e numbered) key() nameKey { return nameKey(e.name) }

// clashing is a key whose hashes are all alike, so that every node on the way down is walked.
type clashing string

func (clashing) hash() uint64 { return 7 }

type clash struct {
	name clashing
	n    int
}

func (e clash) key() clashing { return e.name }

func TestTrieAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var tr trie[nameKey, numbered]
	want := map[string]int{}

	type moment struct {
		tr   trie[nameKey, numbered]
		want map[string]int
	}
	var moments []moment
	for batch := uint64(1); batch < 200; batch++ {
		for range rnd.IntN(100) {
			name := fmt.Sprint(rnd.IntN(3000))
			if rnd.IntN(3) == 0 {
				tr.del(batch, nameKey(name))
				delete(want, name)
				continue
			}
			n := rnd.Int()
			tr.set(batch, numbered{name, n})
			want[name] = n
		}
		if batch%20 == 0 {
			copied := map[string]int{}
			for k, v := range want {
				copied[k] = v
			}
			moments = append(moments, moment{tr, copied})
		}
	}
	// What was published must not have moved with what came after.
	for i, m := range moments {
		if m.tr.n != len(m.want) {
			t.Fatalf("moment %d: %d entries counted, want %d", i, m.tr.n, len(m.want))
		}
		got := map[string]int{}
		m.tr.all(func(e numbered) bool { got[e.name] = e.n; return true })
		if len(got) != len(m.want) {
			t.Fatalf("moment %d: %d entries yielded, want %d", i, len(got), len(m.want))
		}
		for name, n := range m.want {
			if e, ok := m.tr.get(nameKey(name)); !ok || e.n != n || got[name] != n {
				t.Fatalf("moment %d: %s is %v %v, want %d", i, name, e, ok, n)
			}
		}
	}
}

func TestTrieAllHashesAlike(t *testing.T) {
	var tr trie[clashing, clash]
	for i := range 50 {
		tr.set(uint64(i), clash{clashing(fmt.Sprint(i)), i})
	}
	for i := 0; i < 50; i += 2 {
		tr.del(100, clashing(fmt.Sprint(i)))
	}
	tr.set(101, clash{"7", 700})
	for i := range 50 {
		want := i
		if i == 7 {
			want = 700
		}
		e, ok := tr.get(clashing(fmt.Sprint(i)))
		if ok != (i%2 == 1) || ok && e.n != want {
			t.Errorf("%d is %v %v", i, e, ok)
		}
	}
	for i := range 50 {
		tr.del(102, clashing(fmt.Sprint(i)))
	}
	if tr.n != 0 || tr.root != nil {
		t.Errorf("%d entries left, root %v", tr.n, tr.root)
	}
}
