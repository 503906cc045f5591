package live

import (
	"fmt"
	"sync"

	"k8s.io/client-go/util/flowcontrol"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// maxConflicts limits the logged conflicts that are stored, and the burst of conflicts that are logged at once. After a
// burst, one a second is logged, because an object that is edited again and again may have any number of names. The
// others are only counted.
const maxConflicts = 1000

// conflicts are the names that an object claims but does not get, for all server blocks. A conflict in several server
// blocks is logged once.
var conflicts = newConflictLog()

type conflictLog struct {
	mu     sync.Mutex
	logged map[external.Conflict]int // and in the zones of how many options they are
	limit  flowcontrol.RateLimiter
}

func newConflictLog() *conflictLog {
	return &conflictLog{logged: make(map[external.Conflict]int), limit: flowcontrol.NewTokenBucketRateLimiter(1, maxConflicts)}
}

// add logs new conflicts, and writes an Event on the object that loses.
func (l *conflictLog) add(s *source.Source, lost []external.Conflict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range lost {
		if l.logged[c] > 0 {
			l.logged[c]++
			continue
		}
		if len(l.logged) == maxConflicts || !l.limit.TryAccept() {
			continue
		}
		l.logged[c] = 1
		log.Warningf("%s does not have the name %s, which the older %s has; the two differ in their addresses", safe.Printable(c.Loser.String()),
			safe.Printable(c.Name), safe.Printable(c.Winner.String()))
		s.Tell(c.Loser, fmt.Sprintf("The name %s leads to the older %s, which has other addresses", safe.Printable(c.Name), safe.Printable(c.Winner.String())))
	}
}

// remove drops conflicts that are over in the zones of one option. Those in the zones of another option stay.
func (l *conflictLog) remove(settled []external.Conflict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range settled {
		if l.logged[c] > 1 {
			l.logged[c]--
		} else {
			delete(l.logged, c)
		}
	}
}

// watchConflicts starts to follow the conflicts over names in the zones of the external options of
// s.
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

// unwatchConflicts stops that and drops the conflicts that no other stanza has.
func (s *serving) unwatchConflicts() {
	for _, c := range s.conflicts {
		c.Stop()
		conflicts.remove(c.All())
	}
}

// losers returns the number of names in the zones of the external options of s that an object claims but does
// not have.
func (s *serving) losers() (n int) {
	for _, c := range s.conflicts {
		n += c.Len()
	}
	return n
}
