package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

const dot = "dns://.:53"

// running starts a Block as the only one of a Corefile.
func running(t *testing.T, corefile any, text string) *Block {
	t.Helper()
	return startIn(t, corefile, []string{dot}, "", text)
}

// goodThenBad makes b serve good.example from the ConfigMap, which then turns bad.
func goodThenBad(t *testing.T, a *apiServer, b *Block) {
	t.Helper()
	eventually(t, "a start without the ConfigMap", b.Settled)
	a.put(entry("good.example", "ttl 9"))
	eventually(t, "a good text", func() bool { return holds(b, "good.example.") })
	a.put("kubehosts {\nbogus\n}")
	eventually(t, "a bad text", func() bool { return strings.Contains(b.Refused(), "bogus") && len(a.written()) == 2 })
}

// A reload of the Corefile keeps the last good stanza of an invalid ConfigMap, and does not log the error again.
func TestReloadKeepsLastGood(t *testing.T) {
	for _, tt := range []struct {
		name     string
		corefile func(a *apiServer) string
		keys     []string
	}{
		{"the same Corefile", func(a *apiServer) string { return following(a) }, []string{dot}},
		{"another stanza", func(a *apiServer) string { return following(a, "ttl 7", "hosts {\n192.0.2.1 base.example\n}") }, []string{dot}},
		{"another rate of requests", func(a *apiServer) string { return following(a, "apiserver_qps 50") }, []string{dot}},
		{"an additional key", func(a *apiServer) string { return following(a) }, []string{"dns://example.org.:53", dot}},
		{"another key", func(a *apiServer) string { return following(a) }, []string{"dns://.:1053"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := logged(t)
			a := newAPIServer(t)
			old := running(t, 1, following(a))
			goodThenBad(t, a, old)
			counted := testutil.ToFloat64(stanzaRejected.WithLabelValues(dot))
			lines := len(linesWith(l(), "[ERROR]"))

			b := newIn(t, 2, tt.keys, tt.corefile(a))
			if err := b.Start("", nil); err != nil {
				t.Fatal(err)
			}
			if !holds(b, "good.example.") || b.View().TTL != 9 {
				t.Fatal("the first View is not that of the last good stanza")
			}
			old.Stop()
			eventually(t, "the new Block", b.Settled)
			if !holds(b, "good.example.") || gauge(t, "stanza_rejected", b.name) != 1 {
				t.Errorf("the last good stanza serves: %v; rejected: %v", holds(b, "good.example."), gauge(t, "stanza_rejected", b.name))
			}
			if b.name == dot {
				if got := testutil.ToFloat64(stanzaRejected.WithLabelValues(dot)); got != counted {
					t.Errorf("%v rejected stanzas are counted, want %v", got, counted)
				}
				if got := linesWith(l(), "[ERROR]"); len(got) != lines {
					t.Errorf("%q is logged again", got[lines:])
				}
				if told := a.written(); len(told) != 2 {
					t.Errorf("Events: %q", told)
				}
			}
			a.put(entry("next.example"))
			eventually(t, "the next edit", func() bool { return holds(b, "next.example.") && gauge(t, "stanza_rejected", b.name) == 0 })
		})
	}
}

// A reload may change the keys of server blocks. Those with the same ConfigMap and view continue with its state, as far
// as the text is for their keys, even while the API server does not respond: the last good stanza, the reason why the
// newest text is refused, and what was reported of it.
func TestReloadWithOtherKeys(t *testing.T) {
	type block struct {
		keys, view string
		good       string // the name that its last good stanza has; "" if the Corefile's stanza serves
		refused    string // why the newest text is refused; "" if nothing is known of it
		reported   bool   // that was not reported before
	}
	const net, org, com = "dns://example.net.:53", "dns://example.org.:53", "dns://example.com.:53"
	one := func(name string) string { return "kubehosts cluster.local {\nhosts {\n192.0.2.9 " + name + "\n}\n}\n" }
	bare, bogus := one("good.example.net good.example.org good.example.com"), "kubehosts {\nbogus\n}\n"
	in := func(keys, stanza string) string { return keys + " {\n" + stanza + "}\n" }
	view := func(name, stanza string) string { return "view " + name + " {\nexpr true\n}\n" + stanza }
	for _, tt := range []struct {
		name       string
		before     []block
		good, text string
		after      []block
	}{
		{
			"a key more", []block{{keys: net}}, bare, bogus,
			[]block{{keys: net + " " + org, good: "good.example.org.", refused: "bogus"}},
		}, {
			"a new first key", []block{{keys: net}}, bare, bogus,
			[]block{{keys: org + " " + net, good: "good.example.net.", refused: "bogus"}},
		}, {
			"a key less", []block{{keys: net + " " + org}}, bare, bogus,
			[]block{{keys: org, good: "good.example.org.", refused: "bogus"}},
		}, {
			"the only key renamed", []block{{keys: net}}, bare, bogus,
			[]block{{keys: org, good: "good.example.org.", refused: "bogus"}},
		}, {
			"keys in another order", []block{{keys: net + " " + org}}, bare, bogus,
			[]block{{keys: org + " " + net, good: "good.example.net.", refused: "bogus"}},
		}, {
			"split into two", []block{{keys: net + " " + org}}, bare, bogus,
			[]block{{keys: net, good: "good.example.net.", refused: "bogus"}, {keys: org, good: "good.example.org.", refused: "bogus"}},
		}, {
			"two with one ConfigMap, of which one is renamed", []block{{keys: net}, {keys: org}},
			in("example.net", one("a.example.net")) + in("example.org", one("b.example.org")) + in("example.com", one("c.example.com")),
			in("example.net", bogus) + in("example.org", one("d.example.org")) + in("example.com", one("e.example.com")),
			[]block{{keys: com, good: "c.example.com."}, {keys: org, good: "d.example.org."}},
		}, {
			"two with one ConfigMap, in another order", []block{{keys: net}, {keys: org}},
			in("example.net", one("a.example.net")) + in("example.org", one("b.example.org")),
			in("example.net", bogus) + in("example.org", one("d.example.org")),
			[]block{{keys: org, good: "d.example.org."}, {keys: net, good: "a.example.net.", refused: "bogus"}},
		}, {
			"a text that does not know the new keys", []block{{keys: net}}, in("example.net", one("a.example.net")), in("example.net", bogus),
			[]block{{keys: net + " " + org, refused: "no server block with the keys of the running one", reported: true}},
		}, {
			"views that get a key", []block{{keys: net, view: "in"}, {keys: net}},
			in("example.net", view("in", one("a.example.net"))) + in("example.net", one("b.example.net")) + in("example.net example.org", view("in", one("c.example.net"))),
			in("example.net", view("in", bogus)) + in("example.net", one("d.example.net")) + in("example.net example.org", view("in", bogus)),
			[]block{{keys: net + " " + org, view: "in", good: "c.example.net.", refused: "bogus", reported: true}, {keys: net, good: "d.example.net."}},
		}, {
			"a view of another name", []block{{keys: net, view: "in"}}, bare, bogus,
			[]block{{keys: net, view: "out", good: "good.example.net."}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := logged(t)
			a := newAPIServer(t)
			var old []*Block
			for _, b := range tt.before {
				old = append(old, startIn(t, 1, strings.Fields(b.keys), b.view, following(a)))
			}
			for step, text := range []string{tt.good, tt.text} {
				a.put(text)
				for _, b := range old {
					version := fmt.Sprint(step + 2)
					eventually(t, "the ConfigMap", func() bool { e := b.edit.Load(); return e != nil && e.event.ResourceVersion == version })
				}
			}
			errors := len(linesWith(l(), "[ERROR]"))

			release := a.hold("configmaps")
			defer release()
			for _, want := range tt.after {
				keys := strings.Fields(want.keys)
				b := startIn(t, 2, keys, want.view, following(a, "apiserver_qps 50")) // so the ConfigMap is read again
				if got := b.Refused(); want.refused == "" && got != "" || !strings.Contains(got, want.refused) {
					t.Errorf("%s: refused because of %q, want %q", want.keys, got, want.refused)
				}
				if got := gauge(t, "stanza_rejected", b.name); (got == 1) != (want.refused != "") {
					t.Errorf("%s: stanza_rejected is %v", want.keys, got)
				}
				if want.good != "" && !holds(b, want.good) || (want.good == "") != (b.serving.Load().origin == fromCorefile) {
					t.Errorf("%s: the stanza that serves is from the %s and does not have %s", want.keys, b.serving.Load().origin, want.good)
				}
				if want.refused != "" && len(b.Edits()) < 2 {
					t.Errorf("%s: the edits are %v", want.keys, b.Edits())
				}
				if b.good.Load() == nil {
					t.Errorf("%s: the last good text is lost", want.keys)
				}
				if want.reported {
					errors++
				}
				if got := linesWith(l(), "[ERROR]"); len(got) != errors {
					t.Errorf("%s: the log has %q", want.keys, got[errors-1:])
				}
			}
			for _, b := range old {
				b.Stop()
			}
		})
	}
}

// A last good stanza that the new Corefile does not allow is replaced by the Corefile's, and is not lost for the next
// one.
func TestReloadThatForbidsLastGood(t *testing.T) {
	l := logged(t)
	a := newAPIServer(t)
	first := running(t, 1, following(a))
	eventually(t, "a start without the ConfigMap", first.Settled)
	a.put("kubehosts cluster.local {\nhosts {\n192.0.2.9 good.example\n}\n}")
	eventually(t, "a good text", func() bool { return holds(first, "good.example.") })

	second := running(t, 2, strings.Replace(following(a), "cluster.local", "other.local", 1))
	first.Stop()
	eventually(t, "the second Block", second.Settled)
	if holds(second, "good.example.") || second.serving.Load().origin != fromCorefile {
		t.Error("a stanza serves that reaches further than the Corefile")
	}
	if got := linesWith(l(), "[WARNING]", "The last good stanza of ConfigMap kube-system/coredns", "does not fit this Corefile", "zone cluster.local."); len(got) != 1 {
		t.Errorf("the log has %q", got)
	}
	if second.Refused() == "" {
		t.Error("the ConfigMap's stanza is not refused")
	}

	third := startIn(t, 3, []string{dot}, "", following(a))
	if !holds(third, "good.example.") {
		t.Error("the stanza is lost")
	}
	second.Stop()
	eventually(t, "the third Block", func() bool { return third.Settled() && third.Refused() == "" })
}

// A reload that fails leaves the Block that serves and its metrics unchanged, and closes what it opened.
func TestReloadThatFails(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	file := filepath.Join(t.TempDir(), "snapshot")
	old := running(t, 1, following(a, "snapshot "+file))
	goodThenBad(t, a, old)
	counted := testutil.ToFloat64(stanzaRejected.WithLabelValues(dot))
	info := func() string {
		return fmt.Sprint(gauge(t, "stanza_info", dot), gauge(t, "stanza_applied_timestamp_seconds", dot), gauge(t, "stanza_rejected", dot))
	}
	before := info()
	elsewhere := running(t, "another server in this process", following(a))
	for range 3 {
		RestartBegan(1)
		fresh := running(t, new(int), following(a, "snapshot "+file, "ttl 11"))
		RestartFailed(1)
		RestartFailed(1) // as for each server block of the old Corefile
		if !fresh.stopped || old.stopped || elsewhere.stopped {
			t.Errorf("stopped: the new one %v, the old one %v, one of another server %v", fresh.stopped, old.stopped, elsewhere.stopped)
		}
	}
	elsewhere.Stop()
	if got := info(); got != before || testutil.ToFloat64(stanzaRejected.WithLabelValues(dot)) != counted {
		t.Errorf("metrics are %s, want %s", got, before)
	}
	a.put(entry("next.example"))
	eventually(t, "the next edit", func() bool { return holds(old, "next.example.") })
	old.Stop()
	for _, name := range []string{"stanza_info", "stanza_rejected", "stanza_rejected_total", "stanza_applied_timestamp_seconds", "snapshot_errors_total"} {
		if got := gauge(t, name, dot); got != -1 {
			t.Errorf("%s is %v after the end of the server block", name, got)
		}
	}
}

// A reload that another plugin prevents, before or after a successful one, stops nothing.
func TestReloadThatNeverBegan(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	first := running(t, 1, following(a))
	RestartFailed(1)
	RestartBegan(1)
	second := running(t, 2, following(a))
	first.Stop()
	RestartFailed(1)
	RestartFailed(2)
	if second.stopped {
		t.Error("the Block that serves is stopped")
	}
}

// A Corefile may be refused while no server block with a stanza exists that would be notified. Its leftovers disturb
// nothing.
func TestReloadThatFailsUnheard(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	text := following(a, "snapshot "+filepath.Join(t.TempDir(), "snapshot"))
	running(t, 1, text)
	b := running(t, 2, text)
	if b.name != dot || blocks.newest()[dot] != b || snapshots.user(b.snapshot) != b {
		t.Errorf("%s is not the server block of that name, or not the one that writes the snapshot", b.name)
	}
}

// The snapshot file belongs to a server block, whatever its keys are, and to no other. A reload takes over its content,
// so that it is neither rewritten needlessly nor loses the last good stanza.
func TestReloadKeepsSnapshot(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	file := filepath.Join(t.TempDir(), "snapshot")
	text := following(a, "snapshot "+file)
	old := running(t, 1, text)
	goodThenBad(t, a, old)
	eventually(t, "a snapshot", func() bool {
		last := old.snapshot.last.Load()
		return last != nil && last.capture.Same(old.capture())
	})
	written := old.snapshot.last.Load()

	renamed := startIn(t, 2, []string{"dns://.:1053"}, "", text)
	twin := newIn(t, 2, []string{dot}, text)
	if err := twin.Start("", nil); err == nil || !strings.Contains(err.Error(), "is already that of dns://.:1053") {
		t.Errorf("two server blocks of one Corefile share a snapshot file: %v", err)
	}
	twin.Stop()
	old.Stop()
	eventually(t, "the new Block", renamed.Settled)
	if renamed.snapshot.last.Load() != written || !written.capture.Same(renamed.capture()) {
		t.Error("the snapshot is about to be rewritten without a change")
	}
	if gauge(t, "snapshot_size_bytes", "dns://.:1053") != float64(written.size) || gauge(t, "snapshot_size_bytes", dot) != -1 {
		t.Error("the metrics of the snapshot are not those of the server block")
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() != written.size {
		t.Errorf("the file: %v, %v", info, err)
	}
}

// Server blocks with the same keys and different views each have a name, an outcome and a live stanza.
func TestViewTwins(t *testing.T) {
	l := logged(t)
	a := newAPIServer(t)
	var of [3]*Block
	views := []string{"internal", "", "b\xff\nad"}
	names := []string{dot + " view=internal", dot, `"` + dot + ` view=b\xff\nad"`}
	for i, view := range views {
		of[i] = startIn(t, 1, []string{dot}, view, following(a))
		if of[i].name != names[i] {
			t.Errorf("the name of view %q is %q, want %q", view, of[i].name, names[i])
		}
	}
	again := startIn(t, 1, []string{dot}, "internal", following(a))
	if want := names[0] + " (2)"; again.name != want {
		t.Errorf("a second view of one name is called %q, want %q", again.name, want)
	}
	again.Stop()
	for _, b := range of {
		eventually(t, "a start without the ConfigMap", b.Settled)
	}

	block := func(view, stanza string) string {
		if view != "" {
			view = "view " + view + " {\nexpr true\n}\n"
		}
		return ". {\n" + view + stanza + "}\n"
	}
	a.put(block("internal", entry("in.example")) + block("", entry("out.example")))
	eventually(t, "both stanzas", func() bool { return holds(of[0], "in.example.") && holds(of[1], "out.example.") })
	if holds(of[0], "out.example.") || holds(of[1], "in.example.") {
		t.Error("one view serves the other's stanza")
	}
	a.put(block("internal", "kubehosts {\nbogus\n}\n") + block("", entry("next.example")))
	eventually(t, "the next stanza", func() bool { return holds(of[1], "next.example.") && strings.Contains(of[0].Refused(), "bogus") })
	for i, want := range []float64{1, 0, 1} { // the third has no address
		eventually(t, fmt.Sprint("stanza_rejected of ", names[i], " to be ", want), func() bool { return gauge(t, "stanza_rejected", names[i]) == want })
	}
	if got := linesWith(l(), "[ERROR]", "Stanza of dns://.:53 view=internal not changed", "bogus"); len(got) != 1 {
		t.Errorf("the log has %q", got)
	}

	// Each continues with its own over a reload.
	var after [2]*Block
	for i := range after {
		after[i] = startIn(t, 2, []string{dot}, views[i], following(a))
	}
	if !holds(after[0], "in.example.") || !holds(after[1], "next.example.") {
		t.Error("a reload mixes up the twins")
	}
}

// The serial of the zones rises with each stanza that may change their content, and never falls: not with another
// index, not when the clock is set back, not over a reload.
func TestSerial(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	b := running(t, 1, following(a))
	eventually(t, "a start without the ConfigMap", b.Settled)
	serial := func(b *Block) uint32 { return b.View().Latest().Now() }
	last := serial(b)
	later := func(b *Block, what string) {
		t.Helper()
		eventually(t, "a later serial with "+what, func() bool { return int32(serial(b)-last) > 0 && serial(b) == b.View().Latest().Last() })
		last = serial(b)
	}
	for i, options := range []string{"ttl 9", "ttl 10", "labels a=b", "pods verified", "noendpoints", "ttl 11"} {
		a.put(entry("x.example", options))
		version := fmt.Sprint(i + 2)
		eventually(t, options, func() bool { g := b.good.Load(); return g != nil && g.event.ResourceVersion == version })
		later(b, options)
	}
	a.put(entry("x.example", "# no change", "ttl 11"))
	eventually(t, "the same stanza", func() bool { return b.edit.Load().event.ResourceVersion == "8" })
	if serial(b) != last {
		t.Errorf("the serial rose from %d to %d without a change", last, serial(b))
	}

	same := running(t, 2, following(a))
	b.Stop()
	eventually(t, "the new Block", same.Settled)
	if serial(same) != last {
		t.Errorf("the serial is %d after a reload without a change, want %d", serial(same), last)
	}
	other := running(t, 3, following(a, "hosts {\n192.0.2.1 base.example\n}", "apiserver_qps 70")) // with an index of its own
	same.Stop()
	eventually(t, "the new Block", other.Settled)
	if now := serial(other); int32(now-last) < 0 {
		t.Errorf("a reload lowered the serial from %d to %d", last, now)
	}
}
