package persistent

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// clashing is a key type whose hashes are all equal, so that every node on the path down is
// visited.
type clashing string

func (clashing) Hash() uint64 { return 7 }

func TestTrieAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var tr Trie[NameKey, int]
	want := map[string]int{}

	type moment struct {
		tr   Trie[NameKey, int]
		want map[string]int
	}
	var moments []moment
	for batch := uint64(1); batch < 200; batch++ {
		for range rnd.IntN(100) {
			name := fmt.Sprint(rnd.IntN(3000))
			if rnd.IntN(3) == 0 {
				tr.Delete(batch, NameKey(name))
				delete(want, name)
				continue
			}
			n := rnd.Int()
			tr.Set(batch, NameKey(name), n)
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
	// Later changes must not affect published states.
	for i, m := range moments {
		if m.tr.n != len(m.want) {
			t.Fatalf("moment %d: %d entries counted, want %d", i, m.tr.n, len(m.want))
		}
		got := map[string]int{}
		for name, n := range m.tr.All {
			got[string(name)] = *n
		}
		if len(got) != len(m.want) {
			t.Fatalf("moment %d: %d entries yielded, want %d", i, len(got), len(m.want))
		}
		for name, n := range m.want {
			if v := m.tr.Find(NameKey(name)); v == nil || *v != n || got[name] != n {
				t.Fatalf("moment %d: %s is %v, want %d", i, name, m.tr.Get(NameKey(name)), n)
			}
		}
	}
}

func TestTrieAllHashesAlike(t *testing.T) {
	var tr Trie[clashing, int]
	for i := range 50 {
		tr.Set(uint64(i), clashing(fmt.Sprint(i)), i)
	}
	published := tr
	for i := 0; i < 50; i += 2 {
		tr.Delete(100, clashing(fmt.Sprint(i)))
	}
	tr.Set(101, "7", 700)
	for i := range 50 {
		want := i
		if i == 7 {
			want = 700
		}
		v := tr.Find(clashing(fmt.Sprint(i)))
		if (v != nil) != (i%2 == 1) || v != nil && *v != want {
			t.Errorf("%d is %v", i, v)
		}
	}
	for i := range 50 {
		tr.Delete(102, clashing(fmt.Sprint(i)))
	}
	if tr.n != 0 || tr.root != nil {
		t.Errorf("%d entries left, root %v", tr.n, tr.root)
	}
	for i := range 50 {
		if v := published.Find(clashing(fmt.Sprint(i))); v == nil || *v != i {
			t.Errorf("in a published state, %d is %v", i, v)
		}
	}
}

// Leaves that lost most of their entries are joined, and a single entry more or less does not change that.
func TestTrieJoins(t *testing.T) {
	var tr Trie[NameKey, int]
	name := func(i int) NameKey { return NameKey(fmt.Sprint(i)) }
	one := func() bool { l := tr.root.leaves[0]; return l != nil && l.bits == 0 }
	const most = 20 * leafMost
	for i := range most {
		tr.Set(1, name(i), i)
	}
	if one() {
		t.Fatalf("%d entries in a leaf", tr.n)
	}
	for i := leafMost / 2; i < most; i++ {
		tr.Delete(uint64(i), name(i))
	}
	if !one() || tr.root.leaves[0].n != leafMost/2 {
		t.Errorf("%d entries in more than one leaf", tr.n)
	}
	for i := range leafMost {
		tr.Set(1e6, name(i), -i)
	}
	if !one() {
		t.Errorf("a leaf has no room for %d entries", leafMost)
	}
	for i := range leafMost {
		if v := tr.Find(name(i)); v == nil || *v != -i {
			t.Errorf("%d is %v", i, v)
		}
	}
}

// Leaves stay well filled for any number of entries, since the collector scans each.
func TestTrieFills(t *testing.T) {
	var tr Trie[Key4, int]
	for i := range 100_000 {
		tr.Set(1, Key4{byte(i >> 16), byte(i >> 8), byte(i)}, i)
		if i < 1000 || i%1000 != 0 {
			continue
		}
		leaves, entries := 0, 0
		tr.root.each(func(l *leaf[Key4, int]) { leaves++; entries += int(l.n) })
		if entries != tr.n || leaves > tr.n/(leafMost/2) {
			t.Fatalf("%d entries: %d in %d leaves", tr.n, entries, leaves)
		}
	}
}

func (b *branch[K, V]) each(yield func(*leaf[K, V])) {
	for n, l := range b.leaves {
		switch {
		case l == nil:
			b.below[n].each(yield)
		case n < 1<<l.bits:
			yield(l)
		}
	}
}
