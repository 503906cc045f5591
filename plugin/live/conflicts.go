package live

import (
	"fmt"
	"sync"

	"k8s.io/client-go/util/flowcontrol"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// maxConflicts is how many conflicts are remembered as told, and how many are told at once; then one a second is, as an object
// that is edited again and again may have as many names as it likes. The others are only counted.
const maxConflicts = 1000

// conflicts are the names that an object claims and does not have, of all server blocks: one that several serve is told once.
var conflicts = newConflictLog()

type conflictLog struct {
	mu    sync.Mutex
	told  map[external.Conflict]struct{}
	limit flowcontrol.RateLimiter
}

func newConflictLog() *conflictLog {
	return &conflictLog{told: make(map[external.Conflict]struct{}), limit: flowcontrol.NewTokenBucketRateLimiter(1, maxConflicts)}
}

// add takes note of conflicts, and tells of those that are new: in the log, and in an Event on the object that loses.
func (l *conflictLog) add(s *source.Source, lost []external.Conflict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range lost {
		if _, known := l.told[c]; known || len(l.told) == maxConflicts || !l.limit.TryAccept() {
			continue
		}
		l.told[c] = struct{}{}
		log.Warningf("%s does not have the name %s, which the older %s has; the two differ in their addresses", source.Printable(c.Loser.String()),
			source.Printable(c.Name), source.Printable(c.Winner.String()))
		s.Tell(c.Loser, fmt.Sprintf("The name %s leads to the older %s, which has other addresses", c.Name, c.Winner))
	}
}

// remove takes note that conflicts are over.
func (l *conflictLog) remove(settled []external.Conflict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range settled {
		delete(l.told, c)
	}
}

// watchConflicts begins to follow who loses names in the zones of the external options of s.
func (b *Block) watchConflicts(s *serving) {
	if s.outside == nil {
		return
	}
	changed := func(lost, settled []external.Conflict) {
		conflicts.remove(settled)
		conflicts.add(b.source, lost)
	}
	seen := make(map[*external.Selection]bool)
	for i := range s.view.Zones {
		z := &s.view.Zones[i]
		if z.External == nil || seen[&z.External.Selection] {
			continue
		}
		seen[&z.External.Selection] = true
		s.conflicts = append(s.conflicts, s.view.Outside.Watch(&z.External.Selection, changed))
	}
}

// losers returns how many names in the zones of the external options of s an object claims and does not have.
func (s *serving) losers() (n int) {
	for _, c := range s.conflicts {
		n += c.Len()
	}
	return n
}
