package answer

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/serial"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// ZoneOf looks many zones up in a map, and compares few one by one. Both find the same.
func TestZoneOf(t *testing.T) {
	names := []string{"cluster.local.", "sub.cluster.local.", "10.in-addr.arpa.", "in-addr.arpa.", `a\.b.local.`}
	few := &View{Fallthrough: names}
	for _, name := range names {
		few.Zones = append(few.Zones, Zone{Name: name})
	}
	many := &View{Zones: slices.Clone(few.Zones), Fallthrough: slices.Clone(names)}
	for i := range 2 * fewZones {
		name := fmt.Sprintf("z%d.example.", i)
		many.Zones, many.Fallthrough = append(many.Zones, Zone{Name: name}), append(many.Fallthrough, name)
	}
	New(few)
	New(many)
	if few.byName != nil || many.byName == nil || many.through == nil {
		t.Fatal("the wrong View has a map")
	}
	for name, want := range map[string]string{
		"cluster.local.": "cluster.local.", "a.cluster.local.": "cluster.local.", "sub.cluster.local.": "sub.cluster.local.",
		"a.b.sub.cluster.local.": "sub.cluster.local.", "xcluster.local.": "", `x\.cluster.local.`: "", "local.": "", ".": "",
		`a\.b.local.`: `a\.b.local.`, `x.a\.b.local.`: `a\.b.local.`, "b.local.": "", "1.10.in-addr.arpa.": "10.in-addr.arpa.",
		"110.in-addr.arpa.": "in-addr.arpa.",
	} {
		for _, v := range []*View{few, many} {
			got := ""
			if z := v.ZoneOf(name); z != nil {
				got = z.Name
			}
			if got != want || v.FallsThrough(name) != (want != "") {
				t.Errorf("%s, %d zones: in %q, falls through %v; want %q", name, len(v.Zones), got, v.FallsThrough(name), want)
			}
		}
	}
	if got := many.ZoneOf("a.z9.example."); got == nil || got.Name != "z9.example." {
		t.Errorf("a.z9.example. is in %v", got)
	}
	many.Zones = append(many.Zones, Zone{Name: "."})
	if got := New(many).ZoneOf("example.org."); got == nil || got.Name != "." {
		t.Errorf("example.org. is in %v, want the root", got)
	}
}

// The serial rises with each change of a hosts file, within a second too, but not when it is first read or written
// again with the same lines.
func TestSerialOfHosts(t *testing.T) {
	state := services.NewIndex().State()
	tables := new(Tables)
	v := New(&View{Serial: serial.Of(7), Index: services.NewIndex(), Hosts: []Layer{{Tables: NewTables()}, {Tables: tables}}})
	set := func(text string) {
		t.Helper()
		table, err := hosts.Parse(strings.NewReader(text), hosts.Options{})
		if err != nil {
			t.Fatal(err)
		}
		tables.Set([]*hosts.Table{table}, nil)
	}
	set("")
	last := v.SerialOf(state, nil)
	if last != 7 {
		t.Errorf("after the first reading: serial %d, want the View's, 7", last)
	}
	// later waits for a later serial than before: after many changes, as of other tests, it begins within a second.
	later := func(before uint32) bool {
		for begun := time.Now(); time.Since(begun) < 10*time.Second; runtime.Gosched() {
			if serial.Before(before, v.SerialOf(state, nil)) {
				return true
			}
		}
		return false
	}
	for n := range 3 {
		set(fmt.Sprintf("192.0.2.%d a.example", n))
		if !later(last) {
			t.Errorf("after a change: serial %d, want a later one than %d", v.SerialOf(state, nil), last)
		}
		now := v.Latest().Last()
		set(fmt.Sprintf("192.0.2.%d a.example", n))
		if again := v.Latest().Last(); again != now {
			t.Errorf("after the same lines: serial %d, want %d", again, now)
		}
		last = v.SerialOf(state, nil)
	}
}
