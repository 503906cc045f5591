package serial

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// change returns the serial of a change.
func change(c *Clock, now time.Time) (serial uint32) {
	c.Change(now, func(s Stamp) { serial = s.at(now) })
	return serial
}

// A secondary transfers a zone only if its serial has risen (RFC 1982), so each change has a later one: within a
// second, after the time was set back, and where the number wraps.
func TestChange(t *testing.T) {
	at := uint32(noon.Unix())
	for _, tt := range []struct {
		name string
		last uint32
		now  time.Time
		want uint32
	}{
		{"the first one", 0, noon, at},
		{"a later second", at - 1, noon, at},
		{"the same second", at, noon, at + 1},
		{"the time was set back", at, noon.Add(-6 * time.Hour), at + 1},
		{"hours later", at, noon.Add(6 * time.Hour), at + 6*3600},
		{"a serial that wraps", 1<<32 - 5, time.Unix(1<<32+5, 0), 5},
		{"a time that was set back before it", 5, time.Unix(1<<32-5, 0), 6},
		{"none is 0", 1<<32 - 1, time.Unix(1<<32-1, 0), 1},
	} {
		c := Clock{last: Of(tt.last)}
		if got := change(&c, tt.now); got != tt.want {
			t.Errorf("%s: after %d at %v: %d, want %d", tt.name, tt.last, tt.now, got, tt.want)
		}
	}
}

// However many changes there are, serials stay near the time, since a process that starts anew begins there. If the
// time was set back by hours, they do not get further ahead than that, and return to the time.
func TestMaxAhead(t *testing.T) {
	for _, back := range []time.Duration{0, 6 * time.Hour} {
		var c Clock
		change(&c, noon.Add(back))
		for second := range int64(200) {
			now, last := noon.Add(time.Duration(second)*time.Second), uint32(0)
			for range 1000 {
				last = change(&c, now)
			}
			if ahead := int64(last) - now.Unix(); ahead > MaxAhead+int64(back/time.Second) {
				t.Fatalf("set back by %v: serials are %d s ahead after %d s of changes", back, ahead, second)
			}
		}
		if now := noon.Add(7 * time.Hour); change(&c, now) != uint32(now.Unix()) {
			t.Errorf("set back by %v: serials do not return to the time", back)
		}
	}
}

// A secondary may transfer the zone between any two changes, however fast they come. Two seconds after the last one at
// the latest, the zone has a later serial than whatever it transferred before that one.
func TestNoChangeIsMissed(t *testing.T) {
	var c Clock
	now := noon
	var last Stamp
	for i := range 5000 {
		seen := last.at(now)
		before := seen
		c.Change(now, func(s Stamp) { last = s })
		if got := last.at(now); Before(got, before) {
			t.Fatalf("change %d lowered the serial from %d to %d", i, before, got)
		}
		if soon := last.at(now.Add(2 * time.Second)); !Before(seen, soon) {
			t.Fatalf("change %d: a secondary has %d, and the serial is %d two seconds later", i, seen, soon)
		}
		now = now.Add(time.Duration(i%7) * time.Millisecond)
	}
}

// A change that becomes visible only after a serial has begun does not have that serial: whoever transferred the zone
// without the change in between would never get it.
func TestChangeVisibleLate(t *testing.T) {
	var c Clock
	for range MaxAhead + 1 {
		change(&c, noon)
	}
	var last Stamp
	c.Change(noon, func(s Stamp) { last = s })
	begins := noon
	for ; last.at(begins) != last.n; begins = begins.Add(time.Millisecond) {
	}
	if begins.Equal(noon) {
		t.Fatal("the serial begins at once")
	}
	for before := time.Duration(0); before < shareUntil; before += 50 * time.Millisecond {
		c := Clock{last: c.last, left: c.left, at: c.at}
		c.Change(begins.Add(-before), func(s Stamp) {
			transferred := last.at(begins.Add(shareUntil)) // without this change
			if soon := s.at(begins.Add(2 * time.Second)); !Before(transferred, soon) {
				t.Errorf("%v before it begins, a change has the serial %d too", before, soon)
			}
			if Before(s.at(begins.Add(-before)), last.at(begins.Add(-before))) {
				t.Errorf("%v before it begins, a change lowers the serial", before)
			}
		})
	}
}

// What was listed first, by any number of server blocks, uses up nothing of the bound. It has a later serial than a
// change before it: after a reload, another index may take over a zone.
func TestOpen(t *testing.T) {
	var c Clock
	at := uint32(noon.Unix())
	for range 1000 {
		if got := c.Open(noon).at(noon); got != at {
			t.Fatalf("serial %d, want %d", got, at)
		}
	}
	if got := change(&c, noon); got != at+1 {
		t.Errorf("a change after it has %d, want %d", got, at+1)
	}
	for range 1000 {
		if got := c.Open(noon).at(noon); got != at+2 {
			t.Fatalf("after a change: serial %d, want %d", got, at+2)
		}
	}
	if got := c.Open(noon.Add(time.Minute)).Last(); got != at+60 {
		t.Errorf("a minute later: serial %d, want %d", got, at+60)
	}
}

// A snapshot brings the serials of another process, whose clock may have been ahead.
func TestAdvance(t *testing.T) {
	at := uint32(noon.Unix())
	for _, tt := range []struct{ last, want uint32 }{{0, at + 1}, {at - 100, at + 1}, {at, at + 1}, {at + 3600, at + 3601}} {
		c := Clock{last: Of(at), opened: true}
		c.Advance(tt.last)
		if got := change(&c, noon); got != tt.want {
			t.Errorf("after %d: %d, want %d", tt.last, got, tt.want)
		}
	}
	c := Clock{last: Of(at), opened: true}
	c.Advance(at + 3600)
	if got := c.Open(noon).at(noon); got != at+3601 {
		t.Errorf("what is opened after it has %d, want %d", got, at+3601)
	}
}
