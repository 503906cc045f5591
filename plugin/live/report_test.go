package live

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
)

// The last maxEdits edits are stored with their outcomes, also over a reload.
func TestEdits(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	b := running(t, "one", following(a))
	eventually(t, "a start without the ConfigMap", b.Settled)
	verdicts := func(b *Block) (all []string) {
		for _, e := range b.Edits() {
			verdict, _, _ := strings.Cut(e.Verdict, ":")
			all = append(all, verdict)
		}
		return all
	}
	latest := func(name, want string) {
		t.Helper()
		eventually(t, name, func() bool { e := b.Edits(); return len(e) > 0 && strings.HasPrefix(e[0].Verdict, want) })
	}
	latest("the missing ConfigMap", "refused: ConfigMap kube-system/coredns does not exist")
	a.put(entry("one.example"))
	latest("the first stanza", "applied")
	if e := b.Edits()[0]; e.Version == "" || e.Hash == "" || e.Time.IsZero() {
		t.Errorf("%+v", e)
	}
	a.put("kubehosts {\nbogus\n}")
	latest("the bad one", "refused: ConfigMap kube-system/coredns key Corefile:2")
	a.put(entry("one.example"))
	latest("the first again", "already serves")
	want := []string{"already serves", "refused", "applied", "refused"}
	if got := verdicts(b); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	reloaded := running(t, "two", following(a))
	if got := verdicts(reloaded); !slices.Equal(got, want) {
		t.Errorf("after a reload %q, want %q", got, want)
	}
	for i := range maxEdits {
		a.put(entry(fmt.Sprintf("n%d.example", i)))
		latest("an edit", "applied")
		eventually(t, "the edit", func() bool { return holds(b, fmt.Sprintf("n%d.example.", i)) })
	}
	if n := len(b.Edits()); n != maxEdits {
		t.Errorf("%d edits are stored, want %d", n, maxEdits)
	}
}

// AtStop runs functions once b has stopped, whether they were added before or after.
func TestAtStop(t *testing.T) {
	b := start(t, dot, "kubehosts {\nhosts {\n192.0.2.1 a.example\n}\n}")
	n := 0
	b.AtStop(func() { n++ })
	if n != 0 {
		t.Error("called before the end")
	}
	b.Stop()
	b.Stop()
	b.AtStop(func() { n += 10 })
	if n != 11 {
		t.Errorf("%d, want 11", n)
	}
}

// Places finds an entry's line, in a file and in the stanza. It returns a deleted file without a line.
func TestPlaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.hosts")
	if err := os.WriteFile(path, []byte("# none\n192.0.2.1 a.example b.example\n192.0.2.2 a.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, dot, "kubehosts {\nhosts "+path+" {\n192.0.2.3 a.example\n}\n}")
	places := func() (all []string) {
		now, ok := b.Now()
		if !ok {
			t.Fatal("nothing serves")
		}
		a := now.View.Answer(answer.NewQuestion("a.example.", dns.TypeA, dns.ClassINET))
		for layer, table := range a.Held {
			all = append(all, now.Places(t.Context(), layer, table, func(name string, _ netip.Addr) bool { return name == "a.example." })...)
		}
		return all
	}
	if got, want := places(), []string{path + ":2", path + ":3"}; len(got) != 3 || !slices.Equal(got[:2], want) || !strings.HasSuffix(got[2], ":3") {
		t.Errorf("%q, want %q and line 3 of the stanza", got, want)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := places(); len(got) != 2 || got[0] != path {
		t.Errorf("without the file: %q", got)
	}
}
