package live

import (
	"path/filepath"
	"testing"
	"time"
)

func TestSnapshotOutdated(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	for _, tc := range []struct {
		name      string
		now, news time.Duration // after it was written
		want      bool
	}{
		{"just written", time.Second, time.Second, false},
		{"not old enough", 29 * time.Minute, 29 * time.Minute, false},
		{"old, with current content", 30 * time.Minute, 29 * time.Minute, true},
		{"old, without news since", 2 * time.Hour, -time.Second, false},
		{"the clock was set back", -time.Hour, time.Second, false},
	} {
		if got := (&writtenFile{at: at}).outdated(at.Add(tc.now), at.Add(tc.news)); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// A snapshot without changes is written again when it is outdated.
func TestSnapshotIsRenewed(t *testing.T) {
	a := newAPIServer(t)
	b := running(t, 1, following(a, "snapshot "+filepath.Join(t.TempDir(), "snapshot")))
	file := b.snapshot
	eventually(t, "a snapshot", func() bool { return file.last.Load() != nil })
	first := file.last.Load()
	old := *first
	old.at = old.at.Add(-time.Hour)
	file.last.Store(&old)
	eventually(t, "another one", func() bool { return file.last.Load() != &old })
	if last := file.last.Load(); !last.capture.Same(first.capture) || last.at.Before(first.at) {
		t.Errorf("it was written at %v, after %v", last.at, first.at)
	}
}
