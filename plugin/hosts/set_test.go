package hosts

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/growth"
)

// drawFile makes a hosts file that shares names and addresses with others of r.
func drawFile(r *rand.Rand) string {
	addrs := strings.Fields("10.0.0.1 10.0.0.2 10.0.1.1 10.9.0.1 192.0.2.1 fd00::1 fd00::2 fd00:1::1 ::ffff:10.0.0.1")
	labels := strings.Fields(`a b c db web \. ü`)
	var b strings.Builder
	for range r.IntN(12) {
		b.WriteString(addrs[r.IntN(len(addrs))])
		for range 1 + r.IntN(4) {
			b.WriteByte(' ')
			if r.IntN(4) == 0 {
				b.WriteString("*.")
			}
			for range r.IntN(3) {
				b.WriteString(labels[r.IntN(len(labels))] + ".")
			}
			b.WriteString([]string{"test", "example.test", "lan"}[r.IntN(3)])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// described returns everything that tables have of some names and addresses, the entries of a name and the names of an
// address each once and in the order of the tables.
func described(tables []*Table, names []string, addrs []netip.Addr) string {
	var b strings.Builder
	for _, name := range names {
		var exact, wild []string
		above := false
		for _, t := range tables {
			a, _ := t.Lookup(name)
			exact = append(exact, append(strings4(a), strings6(a)...)...)
			a, _ = t.LookupWildcard(name)
			wild = append(wild, append(strings4(a), strings6(a)...)...)
			above = above || t.NonTerminal(name)
		}
		families := func(all []string) []string { // the order between the families is that of the question
			all = unique(all)
			slices.SortStableFunc(all, func(v, w string) int { return strings.Count(v, ":") - strings.Count(w, ":") })
			return all
		}
		fmt.Fprintln(&b, name, families(exact), families(wild), above)
	}
	for _, addr := range addrs {
		var all []string
		var within []bool
		for _, t := range tables {
			all = append(all, namesOf(t.Names(addr))...)
		}
		for bits := 0; bits <= addr.BitLen()-4; bits += 4 {
			p := netip.PrefixFrom(addr, bits).Masked()
			within = append(within, slices.ContainsFunc(tables, func(t *Table) bool { return t.HasNames(p) }))
		}
		fmt.Fprintln(&b, addr, unique(all), within)
	}
	var all []string
	for _, t := range tables {
		for name := range t.All {
			all = append(all, name)
		}
		for addr := range t.Addrs {
			all = append(all, addr.String())
		}
	}
	slices.Sort(all)
	fmt.Fprintln(&b, slices.Compact(all))
	return b.String()
}

// A Set of many files has the entries of all of them, in their order, and so has one that does not fit into a table.
func TestSetHasTheEntriesOfAllFiles(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 4))
	most := 0
	for range 60 {
		var files []*Table
		var text strings.Builder
		for range mostApart + 1 + r.IntN(20) {
			file := drawFile(r)
			text.WriteString(file)
			files = append(files, mustParse(t, file, Options{}))
		}
		names, addrs := subjects(text.String())
		want := described(files, names, addrs)
		s := NewSet(files, nil, nil)
		if n := len(s.Tables()); n != 1 {
			t.Fatalf("%d files are %d tables", len(files), n)
		}
		if got := described(s.Tables(), names, addrs); got != want {
			t.Fatalf("the files\n%s\nhave\n%sand together\n%s", text.String(), want, got)
		}
		for _, table := range s.Tables() {
			for addr := range table.Addrs {
				if all := namesOf(table.Names(addr)); len(unique(all)) != len(all) {
					t.Fatalf("%s has %v", addr, all)
				}
			}
		}
		apart := newSet(files, nil, nil, 20)
		most = max(most, len(apart.Tables()))
		if got := described(apart.Tables(), names, addrs); got != want || len(apart.Tables()) > mostTables {
			t.Fatalf("the files\n%s\nhave\n%sand with some apart, in %d tables\n%s", text.String(), want, len(apart.Tables()), got)
		}
		some := merge(files, limits{size: MaxSize, more: 5}, nil)
		if got := described(some, names, addrs); got != want {
			t.Fatalf("the files\n%s\nhave\n%sand in %d tables\n%s", text.String(), want, len(some), got)
		}
	}
	if most != mostTables {
		t.Errorf("no Set has more than %d tables", most)
	}
}

// A look-up goes through few tables, whatever the number of files, and a change makes only what it must.
func TestSetOfManyFiles(t *testing.T) {
	tables := func(from, n, names int) (all []*Table) {
		for i := range n {
			var text strings.Builder
			for j := range names {
				fmt.Fprintf(&text, "10.0.%d.%d n%d.f%d.test\n", j>>8&255, j&255, j, from+i)
			}
			all = append(all, mustParse(t, text.String(), Options{}))
		}
		return all
	}
	var none *Set
	if len(none.Files()) != 0 || len(none.Tables()) != 0 {
		t.Error("a nil Set has tables")
	}
	few := tables(0, mostApart, 3)
	if s := NewSet(few, nil, nil); !slices.Equal(s.Tables(), few) {
		t.Error("a few tables are merged, which takes their memory twice")
	}
	small, large := tables(100, 1000, 10), tables(0, mostLarge+1, largeTable/2+1)
	files := slices.Concat(large[:2], small, large[2:])
	one := NewSet(files, nil, nil)
	// The last large table is merged, since it is no larger than the others.
	if n := len(one.Tables()); n != mostLarge+2 {
		t.Fatalf("%d files are %d tables", len(files), n)
	}
	merged, rest := one.Tables()[2], one.Tables()[4]
	if !slices.Equal(one.Tables(), []*Table{large[0], large[1], merged, large[2], rest}) {
		t.Error("the large tables are not in the order of the files")
	}
	if !slices.Equal(one.Files(), files) {
		t.Error("the files are not those that were set")
	}
	for name, of := range map[string]*Table{"n9.f100.test.": merged, "n9.f1099.test.": merged, "n7.f3.test.": rest} {
		if _, ok := of.Lookup(name); !ok {
			t.Errorf("%s was lost", name)
		}
	}
	changed := slices.Clone(files)
	changed[0] = tables(0, 1, largeTable/2+2)[0]
	if two := NewSet(changed, one, nil); two.Tables()[2] != merged || two.Tables()[0] != changed[0] {
		t.Error("the change of a large file merges the small ones again")
	}
	changed[3] = tables(5000, 1, 10)[0]
	three := NewSet(changed, one, nil)
	if _, ok := three.Tables()[2].Lookup("n9.f5000.test."); !ok {
		t.Error("the change of a small file is lost")
	}
	if three.Tables()[4] != rest {
		t.Error("the change of a small file merges others that are not merged with it")
	}
}

// To merge files takes work in proportion to their number, also where all have the same name or the same address.
func TestSetGrowth(t *testing.T) {
	for what, line := range map[string]func(i int) string{
		"an address": func(i int) string { return fmt.Sprintf("10.0.0.1 n%d.test\n", i) },
		"a name":     func(i int) string { return fmt.Sprintf("10.%d.%d.1 same.test\n", i>>8, i&255) },
		"a line":     func(int) string { return "10.0.0.1 same.test\n" },
	} {
		t.Run(what, func(t *testing.T) {
			growth.Linear(t, 1000, func(n int) []growth.Work {
				var files []*Table
				for i := range n {
					files = append(files, mustParse(t, line(i), Options{}))
				}
				return []growth.Work{growth.Of(func() { NewSet(files, nil, nil) })}
			})
		})
	}
}
