package live

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/metrics/vars"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

const patience = 20 * time.Second

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, end := time.Tick(time.Millisecond), time.After(patience)
	for !ok() {
		select {
		case <-tick:
		case <-end:
			t.Fatalf("%s: not reached after %v", what, patience)
		}
	}
}

// logged collects the log until the test ends.
func logged(t *testing.T) func() string {
	t.Helper()
	w := new(lockedBuffer)
	clog.SetOutput(w)
	t.Cleanup(func() { clog.SetOutput(os.Stderr) })
	return w.String
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// series returns the values of the metric of that name, by the values of its labels.
func series(t *testing.T, name string) map[string]float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != "coredns_kubehosts_"+name {
			continue
		}
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			all[strings.Join(labels, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

func tablesOf(b *Block) (all []*hosts.Table) {
	for _, l := range b.View().Hosts {
		all = append(all, l.Tables.All()...)
	}
	return all
}

// Options that name one FILE share one table, which is checked at the shortest of their reload intervals.
func TestOptionsShareTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	save(t, path, "192.0.2.1 one.example\n")
	var text strings.Builder
	text.WriteString("kubehosts {\n")
	for i := range 100 {
		fmt.Fprintf(&text, "hosts %s {\nreload %ds\nttl %d\nfallthrough_unsupported\n%s}\n", path, 400-i, 500-i, strings.Repeat("no_reverse\n", i&1))
	}
	text.WriteString("}\n")
	b := start(t, "dns://.:53", text.String())
	layers := b.View().Hosts
	if len(layers) != 1 || len(tablesOf(b)) != 1 {
		t.Fatalf("%d layers with %d tables, want one of each", len(layers), len(tablesOf(b)))
	}
	if l := layers[0]; l.TTL != 401 || l.NoReverse || !l.PassOn {
		t.Errorf("the layer is %+v, want the lowest TTL, and PTR records since some options have them", l)
	}
	of := b.serving.Load().hosts[path].of
	if openTables.mu.Lock(); of.reload() != 301*time.Second {
		t.Errorf("it is checked every %s, want 301s", of.reload())
	}
	openTables.mu.Unlock()
}

// Identical inline lines share one table.
func TestInlineLinesShareTable(t *testing.T) {
	var text strings.Builder
	text.WriteString("kubehosts {\n")
	for i := range 50 {
		fmt.Fprintf(&text, "hosts {\n::1 a\nttl %d\n}\nhosts {\n::2 b%d\nttl 7\n}\n", 1000-i, i%2)
	}
	text.WriteString("}\n")
	b := start(t, "dns://.:53", text.String())
	if n := len(b.View().Hosts); n != 3 {
		t.Errorf("%d layers, want the layers of a, b0 and b1", n)
	}
	for _, l := range b.View().Hosts {
		if _, ok := l.Tables.All()[0].Lookup("a."); ok && l.TTL != 951 {
			t.Errorf("TTL %d, want the lowest, 951", l.TTL)
		}
	}
}

// A reloaded Corefile finds the existing tables, whether they are followed or not.
func TestTablesSurviveReload(t *testing.T) {
	for _, reload := range []string{"5s", "0"} {
		t.Run("reload "+reload, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hosts")
			save(t, path, "192.0.2.1 one.example\n")
			eventually(t, "a file that need not be read twice, since it did not just change", func() bool {
				info, err := os.Stat(path)
				return err == nil && time.Since(info.ModTime()) > time.Second/10
			})
			text := fmt.Sprintf("kubehosts {\n hosts %s {\n reload %s\n }\n}", path, reload)
			b := start(t, "dns://.:53", text)
			first := tablesOf(b)[0]
			for range 3 {
				next := start(t, "dns://.:53", text)
				b.Stop()
				b = next
				if tablesOf(b)[0] != first {
					t.Fatal("the file was read again")
				}
			}
			save(t, path+"~", "192.0.2.2 two.example\n")
			if err := os.Rename(path+"~", path); err != nil {
				t.Fatal(err)
			}
			next := start(t, "dns://.:53", text)
			b.Stop()
			eventually(t, "the file that changed", func() bool { return holds(next, "two.example.") })
		})
	}
}

// A file has metrics for each server block that uses it, as long as one does.
func TestFileMetrics(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	save(t, path, "192.0.2.1 a.one.example b.one.example c.two.example\n")
	text := fmt.Sprintf("kubehosts {\n manifests ../../build/example/shop.yaml\n hosts %s\n hosts %s/*\n}", path, filepath.Dir(path))
	one, two := start(t, "one.example.:53", text), start(t, "two.example.:53", text)
	again := startIn(t, "read again", []string{"one.example.:53"}, "", text)
	check := func(what string, entries, files int, want ...string) {
		t.Helper()
		got := series(t, "hosts_entries")
		if len(got) != entries || len(series(t, "hosts_reload_timestamp_seconds")) != files || len(series(t, "hosts_rejected_total")) != files {
			t.Errorf("%s: hosts_entries %v, and %v, %v of a file", what, got, series(t, "hosts_reload_timestamp_seconds"), series(t, "hosts_rejected_total"))
		}
		for i := 0; i < len(want); i += 2 {
			if n := fmt.Sprint(got[want[i]+" "+path]); n != want[i+1] {
				t.Errorf("%s: %s entries of %s, want %s", what, n, want[i], want[i+1])
			}
		}
	}
	check("two server blocks", 2, 1, "one.example.:53", "4", "two.example.:53", "2")
	one.Stop()
	check("after a reload", 2, 1, "one.example.:53", "4", "two.example.:53", "2")
	again.Stop()
	check("one server block", 1, 1, "two.example.:53", "2")
	save(t, path, "192.0.2.1 a.one.example b.one.example c.two.example d.two.example\n")
	eventually(t, "the file changes", func() bool { return series(t, "hosts_entries")["two.example.:53 "+path] == 4 })
	two.Stop()
	check("none", 0, 0)
}

// A file deleted from a folder has no metrics any more.
func TestFileMetricsOfFolder(t *testing.T) {
	dir := t.TempDir()
	save(t, dir+"/a", "192.0.2.1 a.example\n")
	save(t, dir+"/b", "192.0.2.1 b.example\n")
	start(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s/*\n}", dir))
	if n := len(series(t, "hosts_rejected_total")); n != 2 {
		t.Errorf("%d files, want 2", n)
	}
	if err := os.Remove(dir + "/b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one file fewer", func() bool {
		return len(series(t, "hosts_rejected_total"))+len(series(t, "hosts_entries"))+len(series(t, "hosts_reload_timestamp_seconds")) == 3
	})
}

// Names of files are encoded in labels: they may have any bytes, and there may be any number of
// them.
func TestFileLabels(t *testing.T) {
	lines := logged(t)
	dir := t.TempDir()
	save(t, dir+"/m\xfcller.hosts", "192.0.2.1 a.example\nx y\n")
	save(t, dir+"/a\n[ERROR] forged.hosts", "192.0.2.1 b.example\nx y\n")
	b := start(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s/*.hosts\n}", dir))
	got := series(t, "hosts_entries")
	for _, file := range []string{dir + "/m\xfcller.hosts", dir + "/a\n[ERROR] forged.hosts"} {
		if got["dns://.:53 "+safe.Printable(file)] != 2 {
			t.Errorf("%v, want 2 entries of %q", got, file)
		}
	}
	if strings.Contains(lines(), "\n[ERROR] forged") || strings.Count(lines(), "is not an IP address") != 2 {
		t.Errorf("the log is\n%s", lines())
	}
	b.Stop()

	for i := range maxFileLabels + 100 {
		save(t, fmt.Sprintf("%s/%d.list", dir, i), "192.0.2.1 a.example\n")
	}
	start(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s/*.list\n}", dir))
	got = series(t, "hosts_entries")
	if len(got) != maxFileLabels || got["dns://.:53 "+otherFiles] != 2*101 {
		t.Errorf("%d series, and %v entries of the other files; want %d and 202", len(got), got["dns://.:53 "+otherFiles], maxFileLabels)
	}
}

// Unusable parts of a file are logged with their lines, up to a bound, and not again while they stay.
func TestProblemsAreLogged(t *testing.T) {
	lines := logged(t)
	path := filepath.Join(t.TempDir(), "hosts")
	text := "192.0.2.1 a.example a..example\n192.0.2.2 b.example\nx c.example\n"
	save(t, path, text)
	start(t, "dns://.:53", fmt.Sprintf("kubehosts {\n hosts %s\n}", path))
	for _, want := range []string{
		path + `:1: "a..example" is not a domain name: it has an empty label; left out`,
		path + `:3: "x" is not an IP address; line left out`,
	} {
		if strings.Count(lines(), want) != 1 {
			t.Errorf("the log lacks %q:\n%s", want, lines())
		}
	}
	save(t, path, text+"192.0.2.3 d.example\n")
	eventually(t, "the file changes", func() bool { return series(t, "hosts_entries")["dns://.:53 "+path] == 6 })
	save(t, path, strings.Repeat("y\n", 30))
	eventually(t, "no line is usable", func() bool { return strings.Contains(lines(), path+": 20 more") })
	if n := strings.Count(lines(), `"x" is not`); n != 1 {
		t.Errorf("an unchanged line is logged %d times", n)
	}
	if n := strings.Count(lines(), `"y" is not`); n != 10 {
		t.Errorf("%d of 30 lines are logged, want 10", n)
	}
}

// An error of inline lines lists all bad lines.
func TestInlineProblems(t *testing.T) {
	b := newIn(t, nil, []string{"dns://.:53"}, "kubehosts {\n hosts {\n 192.0.2.1 a..b\n 192.0.2.1 c\n 192.0.2.1 d..e\n }\n}")
	err := b.Start("", nil)
	want := `Testfile:3 - Error during parsing: hosts line 3: "a..b" is not a domain name: it has an empty label; hosts line 5: "d..e" is not a domain name: it has an empty label`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A panic over the metrics of one server block costs the scrape nothing but these.
func TestPanicOfMetrics(t *testing.T) {
	quietly(t)
	before := testutil.ToFloat64(vars.Panic)
	good := start(t, dot, "kubehosts {\nhosts {\n192.0.2.9 a\n}\n}")
	bad := newIn(t, 1, []string{"dns://.:54"}, "kubehosts {\nhosts {\n192.0.2.9 a\n}\n}")
	bad.name = "bad"
	bad.serving.Store(&serving{conflicts: []*external.Conflicts{nil}})
	blocks.mu.Lock()
	blocks.all = append(blocks.all, bad)
	blocks.mu.Unlock()
	t.Cleanup(func() {
		bad.serving.Store(nil)
		blocks.remove(bad)
	})
	if gauge(t, "stanza_rejected", good.Name()) != 0 || gauge(t, "stanza_rejected", "bad") != 0 {
		t.Error("gauges are missing")
	}
	if n := testutil.ToFloat64(vars.Panic) - before; n != 2 { // one for each scrape
		t.Errorf("%v panics are counted, want 2", n)
	}
}
