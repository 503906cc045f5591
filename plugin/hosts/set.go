package hosts

import (
	"iter"
	"slices"
)

const (
	mostApart = 4 // files, all of which have a table of their own
	mostLarge = 3 // tables of more files that are not merged

	// mostTables is the number of tables that a look-up in the entries of any number of files goes through: the large
	// ones, and those of the small ones before, between and after them.
	mostTables = 2*mostLarge + 1

	// largeTable is the number of entries from which a table is worth a look-up of its own. A merged table would hold
	// its entries a second time, and take long to make.
	largeTable = 1 << 14
)

// Set holds the tables of any number of files. A look-up goes through few tables, however many files there are: small
// tables are merged. A Set never changes. A nil *Set is an empty one.
type Set struct {
	files  []*Table
	tables []*Table
	runs   []run
}

// run is a run of files whose tables are small, and what these are merged into.
type run struct{ files, merged []*Table }

// NewSet returns a Set of the tables of files, which the caller must not change afterwards. last is the Set that it
// replaces, or nil: small tables in a row that were in a row there are not merged again. Merging takes as long as
// reading their files. pause is called about every 256 names and may sleep; it may be nil.
func NewSet(files []*Table, last *Set, pause func()) *Set {
	return newSet(files, last, pause, largeTable)
}

// newSet is NewSet, where a table of size entries is a large one.
func newSet(files []*Table, last *Set, pause func(), size int) *Set {
	s := &Set{files: files, tables: files}
	if len(files) <= mostApart {
		return s
	}
	s.tables = make([]*Table, 0, mostTables)
	start := 0
	for _, i := range append(largest(files, size), len(files)) {
		if start < i {
			r := last.run(files[start:i])
			if r.merged == nil {
				r.merged = merge(r.files, defaults, pause)
			}
			s.runs = append(s.runs, r)
			s.tables = append(s.tables, r.merged...)
		}
		if i < len(files) {
			s.tables = append(s.tables, files[i])
		}
		start = i + 1
	}
	return s
}

// largest returns the indexes of the tables that are not merged, in their order.
func largest(files []*Table, size int) (large []int) {
	for i, t := range files {
		if t.Len() >= size {
			large = append(large, i)
		}
	}
	slices.SortStableFunc(large, func(i, j int) int { return files[j].Len() - files[i].Len() })
	large = large[:min(len(large), mostLarge)]
	slices.Sort(large)
	return large
}

// run returns the run of files, with the merged tables if s has it.
func (s *Set) run(files []*Table) run {
	if s != nil {
		for _, r := range s.runs {
			if slices.Equal(r.files, files) {
				return r
			}
		}
	}
	return run{files: files}
}

// Files returns the tables of the files, in their order. The caller must not change it.
func (s *Set) Files() []*Table {
	if s == nil {
		return nil
	}
	return s.files
}

// Tables returns tables with the entries of all files, in the order of the files: up to seven, and one more for each 2
// GiB of small tables. The caller must not change it.
func (s *Set) Tables() []*Table {
	if s == nil {
		return nil
	}
	return s.tables
}

// merge returns a table with the entries of all tables, each once and in the order of the tables, or several if one
// can't hold them.
func merge(all []*Table, max limits, pause func()) (merged []*Table) {
	for len(all) > 1 {
		b := newBuilder(Options{Pause: pause}, max)
		n := 0
		for n < len(all) && b.addTable(all[n]) {
			n++
		}
		if n == 0 {
			merged, all = append(merged, all[0]), all[1:]
			continue
		}
		merged = append(merged, b.tableOf(all[:n]))
		all = all[n:]
	}
	return append(merged, all...)
}

// addTable adds the names of t. It returns false if there is no room for all of them.
func (b *builder) addTable(t *Table) bool {
	if t == nil {
		return true
	}
	for off := range t.all {
		head, name, _ := t.record(off)
		addrs, pointer := t.addresses(off), head&noPointer == 0
		for i := range addrs.Len4() {
			if !b.add(name, addrs.v4[4*i:4*i+4], pointer) {
				return false
			}
		}
		for i := range addrs.Len6() {
			if !b.add(name, addrs.v6[16*i:16*i+16], pointer) {
				return false
			}
		}
	}
	return true
}

// tableOf returns the finished table of tables that were added.
func (b *builder) tableOf(merged []*Table) *Table {
	b.merged, b.addrs4, b.addrs6 = merged, 0, 0
	for _, t := range merged {
		if t != nil {
			b.addrs4, b.addrs6 = b.addrs4+t.rev4.used, b.addrs6+t.rev6.used
		}
	}
	return b.table()
}

// eachMerged is each for a table that others are merged into. The names of an address are in the order of the tables,
// and in that of the file within a table. A name that several tables have for an address comes several times.
func (b *builder) eachMerged(size int) iter.Seq2[uint32, []byte] {
	return func(yield func(uint32, []byte) bool) {
		for _, t := range b.merged {
			if t == nil {
				continue
			}
			r := &t.rev4
			if size == 16 {
				r = &t.rev6
			}
			var buf [16]byte
			for i, value := range r.slots {
				if r.tags[i] == 0 {
					continue
				}
				addr := r.addr(&t.store, value, buf[:size])
				for j := range r.names(t, value, size).Len() {
					record, _ := b.t.find(r.names(t, value, size).At(j))
					if !yield(record, addr) {
						return
					}
				}
			}
		}
	}
}

// unrepeat removes the repetitions of names in groups of addresses of size octets.
func (r *reverse) unrepeat(size int) {
	for i, value := range r.slots {
		if r.tags[i] == 0 || value&isGroup == 0 {
			continue
		}
		g := r.groups[int(value&^isGroup)+size/4:]
		names := g[1 : 1+g[0]]
		kept := names[:0]
		var seen map[uint32]struct{} // for more than a few
		if len(names) > 8 {
			seen = make(map[uint32]struct{}, len(names))
		}
		for _, name := range names {
			again := seen == nil && slices.Contains(kept, name)
			if seen != nil {
				_, again = seen[name]
				seen[name] = struct{}{}
			}
			if !again {
				kept = append(kept, name)
			}
		}
		g[0] = uint32(len(kept))
	}
}
