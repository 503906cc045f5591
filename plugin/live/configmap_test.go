package live

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/source"
)

// TestMain redirects client-go's log before any test uses it, as a process does.
func TestMain(m *testing.M) {
	source.RouteKlog()
	m.Run()
}

// linesWith returns the lines of a log that have all the words.
func linesWith(log string, words ...string) (found []string) {
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, line)
		}
	}
	return found
}

// gauge returns the value of a metric of a server block, -1 if there is none.
func gauge(t *testing.T, name, block string) float64 {
	t.Helper()
	for labels, value := range series(t, name) {
		if labels == block || name == "stanza_info" && strings.HasPrefix(labels, block+" ") {
			return value
		}
	}
	return -1
}

// entry is a bare stanza with one hosts entry, and options.
func entry(name string, options ...string) string {
	return "kubehosts {\n" + strings.Join(options, "\n") + "\nhosts {\n192.0.2.9 " + name + "\n}\n}\n"
}

// following is a stanza of a Corefile that follows the ConfigMap kube-system/coredns of a.
func following(a *apiServer, options ...string) string {
	return "kubehosts cluster.local {\nendpoint " + a.URL + "\nconfigmap kube-system/coredns\n" + strings.Join(options, "\n") + "\n}"
}

// A verdict on the ConfigMap concerns its current text. A good stanza whose objects are listed late serves, and does
// not make a later bad text good.
func TestLateObjects(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	b := start(t, dot, following(a))
	eventually(t, "a start without the ConfigMap", b.Settled)

	release := a.hold("pods")
	a.put(entry("late.example", "pods verified"))
	eventually(t, "the stanza to wait", func() bool { return b.edit.Load().event.ResourceVersion == "2" })
	if holds(b, "late.example.") || gauge(t, "stanza_rejected", dot) != 0 {
		t.Error("a stanza whose objects were not listed yet serves, or is rejected")
	}
	a.put("kubehosts {\nbogus\n}")
	rejected := func() bool { return gauge(t, "stanza_rejected", dot) == 1 }
	eventually(t, "the bad text", func() bool { return strings.Contains(b.Refused(), "bogus") && rejected() })
	release()
	eventually(t, "the good stanza's objects", func() bool { return holds(b, "late.example.") })
	if !rejected() || !strings.Contains(b.Refused(), "bogus") {
		t.Errorf("the ConfigMap is bad, but Refused is %q", b.Refused())
	}
	if got := b.good.Load().event.ResourceVersion; got != "2" {
		t.Errorf("the last good text is of version %s, want 2", got)
	}
	a.put(entry("late.example", "pods verified"))
	eventually(t, "the good text again", func() bool { return !rejected() })
}

// A good stanza replaces one that waits for its objects.
func TestLateObjectsGivenUp(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	b := start(t, dot, following(a))
	eventually(t, "a start without the ConfigMap", b.Settled)
	release := a.hold("pods")
	a.put(entry("late.example", "pods verified"))
	eventually(t, "the stanza to wait", func() bool { return b.edit.Load().event.ResourceVersion == "2" })
	a.put(entry("next.example"))
	eventually(t, "the next stanza", func() bool { return holds(b, "next.example.") })
	release()
	b.mu.Lock()
	if b.waiting != nil {
		t.Error("an outdated stanza is still waiting")
	}
	b.mu.Unlock()
}

// A stanza whose objects the API server refuses is rejected. It delays neither readiness nor later edits, and serves
// once the objects are granted.
func TestRefusedObjects(t *testing.T) {
	l := logged(t)
	a := newAPIServer(t)
	a.answer("pods", http.StatusForbidden)
	a.put(entry("pods.example", "pods verified"))
	b := start(t, dot, following(a))
	refused := func() bool {
		return b.Settled() && gauge(t, "stanza_rejected", dot) == 1 &&
			strings.HasPrefix(b.Refused(), "ConfigMap kube-system/coredns key Corefile:1 - ") && strings.Contains(b.Refused(), "may not list pods")
	}
	eventually(t, "a start with such a stanza", refused)
	if holds(b, "pods.example.") {
		t.Error("the stanza serves without its objects")
	}

	a.put(entry("next.example"))
	eventually(t, "the next edit", func() bool { return holds(b, "next.example.") && gauge(t, "stanza_rejected", dot) == 0 })
	a.put(entry("pods.example", "pods verified"))
	eventually(t, "the stanza again", refused)

	// The Block of the reloaded Corefile takes over, and logs nothing again.
	lines := len(linesWith(l(), "[ERROR]", "not changed"))
	fresh := startIn(t, 2, []string{dot}, "", following(a))
	b.Stop()
	b = fresh
	eventually(t, "the new Block", refused)
	if !holds(b, "next.example.") {
		t.Error("the last good stanza does not serve")
	}
	a.put(entry("again.example"))
	eventually(t, "an edit ahead of it", func() bool { return holds(b, "again.example.") })
	a.put(entry("pods.example", "pods verified"))
	eventually(t, "the stanza for the third time", refused)
	if got := linesWith(l(), "[ERROR]", "not changed"); len(got) != lines+1 {
		t.Errorf("log: %q", got)
	}

	a.answer("pods", 0)
	eventually(t, "what is granted", func() bool {
		return holds(b, "pods.example.") && gauge(t, "stanza_rejected", dot) == 0 && b.Refused() == ""
	})
	eventually(t, "6 Events", func() bool { return len(a.written()) == 6 })
	for i, told := range a.written() { // the three bad and the three good states, in turn
		if isApplied(told) != (i%2 == 1) {
			t.Errorf("Event %d: %s", i, told)
		}
	}
}

// unlisted are the ways in which an API server that works otherwise may fail to return a resource for ever.
var unlisted = []struct {
	name string
	fail func(a *apiServer, resource string) (mend func())
	why  string
}{
	{"500", answers(http.StatusInternalServerError), "is not for you"},
	{"429", answers(http.StatusTooManyRequests), "is not for you"},
	{"a page of HTML with status 200", answers(page), "a proxy's login page"},
	{"a connection that hangs", (*apiServer).hold, "it does not reply"},
	{"a connection that is reset", answers(reset), "reset"},
}

func answers(status int) func(*apiServer, string) func() {
	return func(a *apiServer, resource string) func() {
		a.answer(resource, status)
		return func() { a.answer(resource, 0) }
	}
}

// A stanza whose objects the API server fails to return, in whatever way, is rejected in time, like one whose objects
// it refuses. So is a ConfigMap. Readiness and later edits do not wait, and the stanza serves as soon as its objects
// are listed. Objects that come two seconds late are waited for, and so is a server that does not reply at all.
func TestUnlistedObjects(t *testing.T) {
	l := logged(t)
	type one struct {
		name    string
		a       *apiServer
		b       *Block
		mend    func()
		refused func() bool
	}
	var all []one
	port := 1053
	begin := func(a *apiServer) *Block {
		port++
		return start(t, fmt.Sprintf("dns://.:%d", port), following(a))
	}
	for _, resource := range []string{"pods", "configmaps"} {
		for _, tt := range unlisted {
			o := one{name: tt.name + " for " + resource, a: newAPIServer(t)}
			o.mend = tt.fail(o.a, resource)
			t.Cleanup(o.mend)
			o.a.put(entry("pods.example", "pods verified"))
			o.b = begin(o.a)
			place, why := "ConfigMap kube-system/coredns key Corefile:1 - the API server returns no pods (", tt.why
			if resource == "configmaps" {
				place, why = "ConfigMap kube-system/coredns can't be read: the API server does not return it", ""
			}
			o.refused = func() bool {
				return o.b.Settled() && gauge(t, "stanza_rejected", o.b.Name()) == 1 &&
					strings.HasPrefix(o.b.Refused(), place) && strings.Contains(o.b.Refused(), why)
			}
			all = append(all, o)
		}
	}
	slow := newAPIServer(t)
	release := slow.hold("pods")
	t.Cleanup(release)
	slow.put(entry("slow.example", "pods verified"))
	late := begin(slow)
	eventually(t, "the stanza to wait", func() bool { return late.edit.Load() != nil })
	time.AfterFunc(2*time.Second, release)
	down := newAPIServer(t)
	down.put(entry("down.example"))
	down.CloseClientConnections()
	down.Listener.Close()
	outage := begin(down)

	for _, o := range all {
		eventually(t, "a start with "+o.name, o.refused)
		if lines := linesWith(l(), "[ERROR]", o.b.Name()+" not changed", "ConfigMap kube-system/coredns"); len(lines) != 1 {
			t.Errorf("%s: the log has %q", o.name, lines)
		}
		if holds(o.b, "pods.example.") {
			t.Errorf("%s: the stanza serves without its objects", o.name)
		}
	}
	if !holds(late, "slow.example.") || len(slow.written()) != 1 || !isApplied(slow.written()[0]) {
		t.Errorf("objects that are 2 s late: serves %v, Events %q", holds(late, "slow.example."), slow.written())
	}
	if outage.Settled() || outage.Refused() != "" || gauge(t, "stanza_rejected", outage.Name()) != 0 {
		t.Errorf("without an API server: settled %v, refused %q", outage.Settled(), outage.Refused())
	}

	for _, o := range all[:len(unlisted)] {
		eventually(t, "the Event for "+o.name, func() bool { return len(o.a.written()) == 1 })
		if told := o.a.written()[0]; isApplied(told) || !strings.Contains(told, "pods") {
			t.Errorf("%s: Event %q", o.name, told)
		}
	}
	last := all[len(unlisted)-1]
	last.a.put(entry("next.example"))
	eventually(t, "an edit after "+last.name, func() bool { return holds(last.b, "next.example.") && last.b.Refused() == "" })
	last.a.put(entry("pods.example", "pods verified"))
	for _, o := range all {
		o.mend()
	}
	for _, o := range all {
		eventually(t, "the stanza after "+o.name, func() bool {
			return holds(o.b, "pods.example.") && gauge(t, "stanza_rejected", o.b.Name()) == 0 && o.b.Refused() == ""
		})
		eventually(t, "the Event after "+o.name, func() bool { told := o.a.written(); return len(told) > 0 && isApplied(told[len(told)-1]) })
	}
}

// A stanza that panics when its objects are listed, after a wait, is rejected like one that panics at once. It holds no
// lock, and the server becomes ready.
func TestPanicAfterWait(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	release := a.hold("pods")
	t.Cleanup(release)
	a.put(entry("late.example", "pods verified"))
	b := start(t, dot, following(a))
	eventually(t, "the stanza to wait", func() bool { return b.edit.Load() != nil })
	b.mu.Lock()
	b.waiting.next.view = nil
	b.mu.Unlock()
	release()
	eventually(t, "a verdict", func() bool { return strings.Contains(b.Refused(), "panic") && b.Settled() })
	a.put(entry("next.example"))
	eventually(t, "the next stanza", func() bool { return holds(b, "next.example.") && b.Refused() == "" })
}

// Each edit has one Event and one outcome, and an error names the ConfigMap, the key and the line.
func TestOneOutcome(t *testing.T) {
	l := logged(t)
	a := newAPIServer(t)
	b := start(t, dot, following(a))
	eventually(t, "a start without the ConfigMap", b.Settled)
	for _, tt := range []struct{ text, where string }{
		{"kubehosts {\nhosts {\n192.0.2.9 good.example\n192.0.2.10 " + strings.Repeat("x", 64) + ".example\n}\n}", ":4 "},
		{"kubehosts {\n\nttl never\n}", ":3 "},
		{"kubehosts {\nlabels a==b==c\n}", ":2 "},
		{"kubehosts {\nnamespace_labels !\n}", ":2 "},
	} {
		before, version := len(a.written()), b.edit.Load().event.ResourceVersion
		a.put(tt.text)
		eventually(t, tt.text, func() bool { return b.edit.Load().event.ResourceVersion != version && len(a.written()) > before })
		if !strings.Contains(b.Refused(), "ConfigMap kube-system/coredns key Corefile"+tt.where) {
			t.Errorf("%q is refused with %q, which does not name the place", tt.text, b.Refused())
		}
		if holds(b, "good.example.") {
			t.Errorf("%q serves", tt.text)
		}
	}
	a.put(entry("good.example"))
	eventually(t, "the Event of a good edit", func() bool { return slices.ContainsFunc(a.written(), isApplied) })
	told := a.written()
	if len(told) != 5 || slices.IndexFunc(told, isApplied) != 4 {
		t.Errorf("Events for 4 bad edits and a good one: %q", told)
	}
	if lines := linesWith(l(), "[ERROR]", "not changed"); len(lines) != 5 { // and one for the missing ConfigMap
		t.Errorf("log: %q", lines)
	}
}

func isApplied(event string) bool { return strings.HasPrefix(event, "StanzaApplied: ") }

// Parsing a text holds nothing that readiness, metrics and queries need.
func TestParsingHoldsNobodyUp(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	b := start(t, dot, following(a))
	eventually(t, "a start without the ConfigMap", b.Settled)
	b.mu.Lock() // as while a stanza is applied
	defer b.mu.Unlock()
	done := make(chan string)
	go func() {
		done <- fmt.Sprint(b.Settled(), b.View() != nil, b.Refused() != "", gauge(t, "stanza_rejected", dot))
	}()
	if got := <-done; got != "true true true 1" {
		t.Errorf("Settled, View, Refused and the gauge are %s", got)
	}
}
