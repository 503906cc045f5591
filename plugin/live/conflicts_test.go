package live

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// An object that repeatedly loses names and gets them back does not flood the log.
func TestConflictsThatComeAndGo(t *testing.T) {
	text := logged(t)
	l := newConflictLog()
	var lost []external.Conflict
	for i := range maxConflicts / 2 {
		ref := external.Ref{Kind: external.KindIngress, Namespace: "shop", Name: "web"}
		lost = append(lost, external.Conflict{Name: fmt.Sprintf("h%d.example.org.", i), Loser: ref, Winner: ref})
	}
	for range 100 {
		l.add(new(source.Source), lost)
		l.add(new(source.Source), lost)
		l.remove(lost)
	}
	n := strings.Count(text(), "does not have the name")
	if n < maxConflicts || n > 2*maxConflicts {
		t.Errorf("%d lines about %d conflicts, want about %d", n, 100*len(lost), maxConflicts)
	}
}
