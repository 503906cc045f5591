package source

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
)

func someNames(n int) []objectName {
	names := make([]objectName, n)
	for i := range names {
		names[i] = objectName{fmt.Sprintf("ns-%d", i%7), fmt.Sprintf("svc-%d", i)}
	}
	return names
}

func TestAllocateIsStable(t *testing.T) {
	names := someNames(500)
	got := allocate(names, nil)
	if len(got) != len(names) {
		t.Fatalf("%d addresses for %d names", len(got), len(names))
	}
	seen := make(map[netip.Addr]objectName)
	for name, a := range got {
		if other, twice := seen[a]; twice {
			t.Errorf("%v for both %v and %v", a, name, other)
		}
		seen[a] = name
		if !serviceRange.Contains(a) || a.As4()[2] == 0 || a.As4() == [4]byte{10, 96, 255, 255} {
			t.Errorf("%v for %v is not in the range", a, name)
		}
	}

	slices.Reverse(names)
	if again := allocate(names, nil); !maps.Equal(got, again) {
		t.Error("the order of names changes the addresses")
	}

	// Another Service moves an existing one only if the two collide.
	one := objectName{"another", "one"}
	first, _ := free(one, nil)
	more := allocate(append(names, one), nil)
	for name, a := range got {
		if more[name] != a && a != first {
			t.Errorf("%v moved from %v to %v", name, a, more[name])
		}
	}
}

func TestAllocateGivesWay(t *testing.T) {
	name := objectName{"default", "web"}
	first := allocate([]objectName{name}, nil)[name]
	taken := map[netip.Addr]struct{}{first: {}}
	second := allocate([]objectName{name}, taken)[name]
	if second == first || !second.IsValid() {
		t.Errorf("got %v, but %v is taken", second, first)
	}
	if len(taken) != 1 {
		t.Error("the taken addresses of the caller were changed")
	}
}

func TestAllocateFull(t *testing.T) {
	taken := make(map[netip.Addr]struct{})
	for i := range serviceLast - serviceFirst {
		taken[serviceAddr(i)] = struct{}{}
	}
	got := allocate(someNames(2), taken)
	if len(got) != 1 || got[objectName{"ns-0", "svc-0"}] != serviceAddr(serviceLast-serviceFirst) {
		t.Errorf("with one address free, got %v", got)
	}
}

// Users refer to these addresses, so they must not change between versions.
func TestAllocateForEver(t *testing.T) {
	name := objectName{"default", "web"}
	if got := allocate([]objectName{name}, nil)[name].String(); got != "10.96.218.85" {
		t.Errorf("default/web has %s", got)
	}
}
