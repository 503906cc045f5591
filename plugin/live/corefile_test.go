package live

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coredns/caddy"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// config reads a stanza of a Corefile.
func config(t *testing.T, text string) *stanza.Config {
	t.Helper()
	c := caddy.NewTestController("dns", text)
	config, err := stanza.Parse(&c.Dispenser, []string{dot})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// wholeCorefile follows the whole Corefile until the test ends.
func wholeCorefile(t *testing.T, a *apiServer) {
	t.Helper()
	FollowCorefile(Corefile{Spec: source.Spec{Endpoint: a.URL}, Namespace: "kube-system", Name: "coredns", Key: "Corefile"})
	t.Cleanup(func() {
		whole.mu.Lock()
		defer whole.mu.Unlock()
		whole.of, whole.base, whole.next = nil, nil, nil
	})
}

// asked is the stanza of a Corefile that uses the API server a, with one hosts entry and options.
func asked(a *apiServer, name string, options ...string) string {
	return "kubehosts cluster.local {\nendpoint " + a.URL + "\n" + strings.Join(options, "\n") + "\nhosts {\n192.0.2.9 " + name + "\n}\n}\n"
}

// Replace replaces stanzas of the Corefile, all or none, and a start that reads the same Corefile again uses them.
func TestReplace(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	wholeCorefile(t, a)
	first, second := running(t, 1, asked(a, "a.example")), startIn(t, 1, []string{"dns://example.org.:53"}, "", asked(a, "b.example.org"))
	eventually(t, "the objects", func() bool { return first.Settled() && second.Settled() })
	index := first.View().Index

	if err := Replace(map[int]*stanza.Config{1: config(t, asked(a, "c.example.org", "ttl 7"))}); err != nil {
		t.Fatal(err)
	}
	if !holds(first, "a.example.") || !holds(second, "c.example.org.") || holds(second, "b.example.org.") || second.View().TTL != 7 {
		t.Error("the second stanza is not replaced, or the first is")
	}
	if first.View().Index != index || second.View().Index != index {
		t.Error("the objects are listed again")
	}

	wrong := config(t, asked(a, "e.example.org", "hosts /etc/hosts corp.example"))
	err := Replace(map[int]*stanza.Config{0: config(t, asked(a, "d.example")), 1: wrong})
	if err == nil || !strings.Contains(err.Error(), "'corp.example' is a zone") || holds(first, "d.example.") || !holds(second, "c.example.org.") {
		t.Errorf("a bad stanza: %v, and one of two is replaced", err)
	}
	if err := Replace(map[int]*stanza.Config{2: config(t, asked(a, "d.example"))}); !errors.Is(err, ErrRestart) {
		t.Errorf("a stanza without a server block: %v", err)
	}

	again := newIn(t, 2, []string{dot}, asked(a, "a.example"))
	later := newIn(t, 2, []string{"dns://example.org.:53"}, asked(a, "b.example.org"))
	for _, b := range []*Block{again, later} {
		if err := b.Start("", nil); err != nil {
			t.Fatal(err)
		}
	}
	if !holds(later, "c.example.org.") || holds(later, "b.example.org.") {
		t.Error("a start with the same Corefile does not use the replaced stanzas")
	}

	undo := Forget()
	other := running(t, 3, asked(a, "a.example"))
	fresh := startIn(t, 3, []string{"dns://example.org.:53"}, "", asked(a, "b.example.org"))
	if !holds(other, "a.example.") || !holds(fresh, "b.example.org.") {
		t.Error("a start with another Corefile does not use that Corefile")
	}
	undo()
	if whole.base[1] == nil {
		t.Error("undo does not reverse Forget")
	}
}

// A stanza whose objects are not listed waits for them, and the one before it serves.
func TestReplaceWaits(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	wholeCorefile(t, a)
	b := running(t, 1, asked(a, "a.example"))
	eventually(t, "the objects", b.Settled)
	release := a.hold("pods")
	if err := Replace(map[int]*stanza.Config{0: config(t, asked(a, "b.example.org", "pods verified"))}); err != nil {
		t.Fatal(err)
	}
	if !holds(b, "a.example.") {
		t.Error("the previous stanza does not serve")
	}
	release()
	eventually(t, "the objects of the new stanza", func() bool { return holds(b, "b.example.org.") })
}

// A stanza whose objects the API server refuses counts as refused: once, also over a reload, which goes on with the one
// before. It serves when they are granted.
func TestReplaceRefused(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	wholeCorefile(t, a)
	var events atomic.Int64
	whole.of.Report = func(r source.Report) {
		if !r.Refused || strings.Contains(r.Note, "pods") {
			events.Add(1)
		}
	}
	b := running(t, 1, asked(a, "a.example"))
	eventually(t, "the objects", b.Settled)
	a.answer("pods", 403)
	if err := Replace(map[int]*stanza.Config{0: config(t, asked(a, "b.example.org", "pods verified"))}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal", func() bool { return strings.Contains(b.Refused(), "pods") })
	if !holds(b, "a.example.") || !Waits() {
		t.Errorf("the stanza before does not go on, or nothing waits: %v", Waits())
	}

	again := running(t, 2, asked(a, "a.example"))
	b.Stop()
	eventually(t, "the refusal after a reload", func() bool { return again.Refused() != "" })
	if !again.Settled() || !holds(again, "a.example.") {
		t.Error("the stanza before does not go on after a reload, or it is not ready")
	}
	if n := testutil.ToFloat64(stanzaRejected.WithLabelValues(again.Name())); n != 1 || events.Load() != 1 {
		t.Errorf("%v refusals are counted, and there are %d Events", n, events.Load())
	}
	a.answer("pods", 0)
	eventually(t, "the objects of the new stanza", func() bool { return holds(again, "b.example.org.") })
	if why := again.Refused(); why != "" || Waits() || events.Load() != 2 {
		t.Errorf("when they are granted: %q, waits: %v, %d Events", why, Waits(), events.Load())
	}

	if base, next := replacedAt(0); base == nil || base.Pods != stanza.Verified || next != nil {
		t.Errorf("what serves is not what a reload goes on with: %v %v", base, next)
	}
}

// The objects that a Corefile needs are listed ahead of a restart with it. Those that the API server refuses are waited
// for.
func TestAhead(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	b := running(t, 1, asked(a, "a.example"))
	eventually(t, "the objects", b.Settled)
	open := func(stanzas ...string) *Ahead {
		t.Helper()
		var all []*stanza.Config
		for _, text := range stanzas {
			all = append(all, config(t, text))
		}
		ahead, err := OpenAhead(all)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ahead.Close)
		return ahead
	}
	a.answer("pods", 403)
	fresh := open(asked(a, "b.example"), "kubehosts {\nhosts {\n192.0.2.9 a\n}\n}")
	if err := fresh.Wait(t.Context(), nil); err != nil {
		t.Errorf("those that serve already: %v", err)
	}
	ahead := open(asked(a, "b.example"), asked(a, "b.example", "pods verified"))
	ctx, stop := context.WithCancelCause(t.Context())
	if err := ahead.Wait(ctx, stop); err == nil || !strings.Contains(context.Cause(ctx).Error(), "Testfile:1") || !strings.Contains(context.Cause(ctx).Error(), "pods") {
		t.Errorf("those that are refused: %v, %v", err, context.Cause(ctx))
	}
	a.answer("pods", 0)
	if err := ahead.Wait(t.Context(), nil); err != nil {
		t.Errorf("those that are granted: %v", err)
	}
	next := newIn(t, 2, []string{dot}, asked(a, "b.example", "pods verified"))
	if err := next.Start("", nil); err != nil {
		t.Fatal(err)
	}
	if !next.Settled() {
		t.Error("a start does not find them")
	}
	ahead.Close()
	if !next.Settled() || !b.Settled() {
		t.Error("they are closed while they are in use")
	}
	a.answer("pods", 403)
	closed := open(asked(a, "b.example", "pods verified", "labels a=b"))
	ended := make(chan error)
	go func() { ended <- closed.Wait(t.Context(), nil) }()
	closed.Close()
	if err := <-ended; err == nil {
		t.Error("the wait for what is closed goes on or succeeds")
	}
}

// The configmap option is inactive where it names the ConfigMap of the whole Corefile, and follows its ConfigMap
// elsewhere.
func TestOptionOfWholeCorefile(t *testing.T) {
	quietly(t)
	for option, alone := range map[string]bool{"kube-system/coredns": false, "kube-system/coredns/other": true, "kube-system/other": true, "shop/coredns": true} {
		t.Run(option, func(t *testing.T) {
			a := newAPIServer(t)
			wholeCorefile(t, a)
			option := strings.Replace(option, "coredns/other", "coredns other", 1)
			c := config(t, fmt.Sprintf("kubehosts cluster.local {\nendpoint %s\nconfigmap %s\n}", a.URL, option))
			b := New(c, ServerBlock{Keys: []string{dot}, Corefile: 1})
			if got := baseOf(c, b).ConfigMap != nil; got != alone {
				t.Errorf("follows by itself: %t, want %t", got, alone)
			}
		})
	}
}
