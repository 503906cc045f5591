//go:build !linux

package files

import (
	"errors"
	"os"
	"time"
)

// watches stands in for a system without notifications: files are checked now and then.
type watches struct{ wake chan struct{} }

type writer struct{ open, wrote, closed bool }

func newWatches() *watches { return &watches{wake: make(chan struct{}, 1)} }

func (*watches) add(string, names) (bool, error) {
	return false, errors.New("there is no inotify on this system")
}

func (*watches) keep(map[string]names)       {}
func (*watches) close()                      {}
func (*watches) writer(string, int64) writer { return writer{} }
func (*watches) forget(string)               {}

func (w *watches) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func changedAt(os.FileInfo) time.Time { return time.Time{} }
