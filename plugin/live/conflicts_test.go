package live

import (
	"fmt"
	"os"
	"path/filepath"
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
		l.add(new(source.Source), lost) // in the zones of another option as well
		l.remove(lost)
		l.remove(lost)
	}
	n := strings.Count(text(), "does not have the name")
	if n < maxConflicts || n > 2*maxConflicts {
		t.Errorf("%d lines about %d conflicts, want about %d", n, 100*len(lost), maxConflicts)
	}
}

// A conflict is logged once for all server blocks that serve the name, and forgotten with the last of them.
func TestConflictsAreForgotten(t *testing.T) {
	const ingress = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %s, namespace: shop}
spec: {rules: [{host: twice.example.org}]}
status: {loadBalancer: {ingress: [{ip: %s}]}}
---
`
	text := logged(t)
	manifest := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(manifest, []byte(fmt.Sprintf(ingress, "first", "192.0.2.1")+fmt.Sprintf(ingress, "second", "192.0.2.2")), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(key, more string) *Block {
		return startIn(t, 1, []string{key}, "", "kubehosts {\nnoservices\nmanifests "+manifest+"\nexternal example.org {\n"+more+"\n}\n}")
	}
	remembered := func() (options int) {
		conflicts.mu.Lock()
		defer conflicts.mu.Unlock()
		for c, n := range conflicts.logged {
			if c.Name == "twice.example.org." {
				options += n
			}
		}
		return options
	}
	one, two := start("dns://.:53", ""), start("dns://.:54", "ttl 9")
	eventually(t, "both know of the conflict", func() bool { return remembered() == 2 })
	if n := strings.Count(text(), "does not have the name twice.example.org."); n != 1 {
		t.Errorf("%d lines about it, want 1", n)
	}
	one.Stop()
	if n := remembered(); n != 1 {
		t.Errorf("%d options are remembered beside the one that is left", n)
	}
	two.Stop()
	if n := remembered(); n != 0 {
		t.Errorf("%d options are remembered when there is none", n)
	}
}
