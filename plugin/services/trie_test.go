package services

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// clashing is a key whose hashes are all alike, so that every node on the way down is walked.
type clashing string

func (clashing) hash() uint64 { return 7 }

func TestTrieAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var tr trie[nameKey, int]
	want := map[string]int{}

	type moment struct {
		tr   trie[nameKey, int]
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
			tr.set(batch, nameKey(name), n)
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
		for name, n := range m.tr.all {
			got[string(name)] = *n
		}
		if len(got) != len(m.want) {
			t.Fatalf("moment %d: %d entries yielded, want %d", i, len(got), len(m.want))
		}
		for name, n := range m.want {
			if v := m.tr.find(nameKey(name)); v == nil || *v != n || got[name] != n {
				t.Fatalf("moment %d: %s is %v, want %d", i, name, m.tr.get(nameKey(name)), n)
			}
		}
	}
}

func TestTrieAllHashesAlike(t *testing.T) {
	var tr trie[clashing, int]
	for i := range 50 {
		tr.set(uint64(i), clashing(fmt.Sprint(i)), i)
	}
	for i := 0; i < 50; i += 2 {
		tr.del(100, clashing(fmt.Sprint(i)))
	}
	tr.set(101, "7", 700)
	for i := range 50 {
		want := i
		if i == 7 {
			want = 700
		}
		v := tr.find(clashing(fmt.Sprint(i)))
		if (v != nil) != (i%2 == 1) || v != nil && *v != want {
			t.Errorf("%d is %v", i, v)
		}
	}
	for i := range 50 {
		tr.del(102, clashing(fmt.Sprint(i)))
	}
	if tr.n != 0 || tr.root != nil {
		t.Errorf("%d entries left, root %v", tr.n, tr.root)
	}
}

// A branch that lost most of what was below it is a leaf again, and one entry more or less is no reason to change that.
func TestTrieMerges(t *testing.T) {
	var tr trie[nameKey, int]
	name := func(i int) nameKey { return nameKey(fmt.Sprint(i)) }
	for i := range 20 * leafMost {
		tr.set(1, name(i), i)
	}
	if !tr.root.branch() {
		t.Fatalf("%d entries in a leaf", tr.n)
	}
	for i := leafMost / 2; i < 20*leafMost; i++ {
		tr.del(uint64(i), name(i))
	}
	if tr.root.branch() || len(tr.root.entries) != leafMost/2 {
		t.Errorf("%d entries, and a branch", tr.n)
	}
	for i := range leafMost {
		tr.set(1e6, name(i), -i)
	}
	if tr.root.branch() {
		t.Errorf("a leaf has no room for %d entries", leafMost)
	}
	for i := range leafMost {
		if v := tr.find(name(i)); v == nil || *v != -i {
			t.Errorf("%d is %v", i, v)
		}
	}
}
