package monitoring

import (
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	operator "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// patience limits the time until an alert fires, and until it clears. Beyond it the test fails; it
// is not a goal.
const patience = 90 * time.Second

// fault is something broken, and the alerts for it, each with its severity.
type fault struct {
	name   string
	alerts []string
	begin  func(*testing.T, *world) (repair func())
}

// faults happen at the same time. An alert listed for several of them fires for any of them.
var faults = []fault{
	{"the upstream server takes questions and never answers", []string{
		"CoreDNSLatencyHigh critical", "CoreDNSErrorsHigh critical", "CoreDNSErrorsHigh warning",
	}, func(_ *testing.T, w *world) func() {
		w.upstream.mute.Store(true)
		return func() { w.upstream.mute.Store(false) }
	}},
	{"a replica hears nothing from the API server, and the ConfigMap is edited", []string{
		"KubehostsAPIServerSilent critical", "KubehostsReplicasDiffer warning",
	}, func(t *testing.T, w *world) func() {
		w.gate.Mute(t)
		w.gate.Close()
		w.edit(t, "192.0.2.2")
		cluster.Eventually(t, patience, func() (bool, string) {
			return hashOf(t, w.replicas[first]) != hashOf(t, w.replicas[second]), "another stanza on the first replica"
		})
		return func() { w.gate.Open(t) }
	}},
	{"the ConfigMap holds nonsense", []string{"KubehostsStanzaRejected warning"}, func(t *testing.T, w *world) func() {
		w.edit(t, "nonsense")
		return func() { w.edit(t, "192.0.2.3") }
	}},
	{"and so does the key with the whole Corefile", []string{"KubehostsCorefileRejected warning"}, func(t *testing.T, w *world) func() {
		good := w.data["Whole"]
		w.put(t, "Whole", strings.Replace(good, "errors\n", "errrors\n", 1))
		return func() { w.put(t, "Whole", strings.Replace(good, "192.0.2.1", "192.0.2.2", 1)) }
	}},
	{"the folder of a snapshot is gone", []string{"KubehostsSnapshotOld warning"}, func(t *testing.T, w *world) func() {
		return move(t, w.replicas[first].Path("state"))
	}},
	{"an EndpointSlice is of a Service that no query can name", []string{"KubehostsObjectsRejected warning"}, func(t *testing.T, w *world) func() {
		slice := strings.NewReplacer("SERVICE-1", "bad", "SERVICE", "a.b", "TIME", "", "NUMBER", "1").Replace(endpoints)
		w.api.Apply(t, slice)
		return func() { w.api.Delete(t, slice) }
	}},
	{"two Services claim one name", []string{"KubehostsExternalConflicts warning"}, func(t *testing.T, w *world) func() {
		return w.claim(t, "2")
	}},
	{"a Corefile is edited that no CoreDNS takes", []string{"KubehostsReloadFailed warning"}, func(t *testing.T, w *world) func() {
		return breakCorefile(t, w.replicas[first])
	}},
	{"a plugin panics", []string{"KubehostsPanic warning"}, func(t *testing.T, w *world) func() {
		w.replicas[second].Panics = true
		return spoil(t, w.replicas[second].PID(), "github.com/coredns/coredns/plugin/whoami.", "Whoami")
	}},
	{"a replica is halted", []string{"KubehostsReplicaDown warning"}, func(t *testing.T, w *world) func() {
		return halt(t, w.replicas[third])
	}},
}

// outage stops the remaining replicas.
var outage = fault{"all replicas are halted", []string{"CoreDNSDown critical"}, func(t *testing.T, w *world) func() {
	var thaw []func()
	for _, c := range w.replicas {
		thaw = append(thaw, halt(t, c))
	}
	return func() {
		for _, do := range thaw {
			do()
		}
	}
}}

// Each alert fires when its fault occurs and clears after the repair, in a real Prometheus that scrapes the real
// coredns. Durations are shorter than in the shipped alerts (sped). Meanwhile every query of the dashboard has data,
// and all metrics in dashboard and alerts are exported.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	cluster.Eventually(t, patience, func() (bool, string) {
		return w.prom.scrapes() > 30, "enough scrapes for an alert that should not be"
	})
	w.quiet(t, "at the start")

	var names []string
	var repairs []func()
	began := time.Now()
	for _, f := range faults {
		t.Logf("%s", f.name)
		repairs = append(repairs, f.begin(t, w))
		names = append(names, f.alerts...)
	}
	w.fires(t, names)
	for _, repair := range repairs {
		repair()
	}
	ended := time.Now()
	w.quiet(t, "after the faults")

	repair := outage.begin(t, w)
	w.fires(t, outage.alerts)
	repair()
	w.quiet(t, "after the outage")

	names = append(names, outage.alerts...)
	each(alerts(t), func(r *operator.Rule) {
		if name := r.Alert + " " + r.Labels["severity"]; !slices.Contains(names, name) {
			t.Errorf("nothing was broken that %s tells of", name)
		}
	})
	w.testExported(t)
	w.testQueries(t)
	picture := w.draw(t, began, ended)
	if path := os.Getenv("MONITORING_PICTURE"); path != "" {
		cluster.WriteFile(t, path, picture)
	}
}

// fires waits until each of the alerts has fired.
func (w *world) fires(t *testing.T, alerts []string) {
	t.Helper()
	start := time.Now()
	missing := slices.Clone(alerts)
	cluster.Eventually(t, patience, func() (bool, string) {
		firing := w.prom.active("firing")
		missing = slices.DeleteFunc(missing, func(name string) bool {
			if firing[name] {
				t.Logf("%s fires after %v", name, time.Since(start).Round(time.Second/10))
			}
			return firing[name]
		})
		return len(missing) == 0, fmt.Sprintf("%q of %v", missing, slices.Sorted(maps.Keys(firing)))
	})
}

// quiet waits until no alert fires or is pending.
func (w *world) quiet(t *testing.T, when string) {
	t.Helper()
	took := cluster.Eventually(t, patience, func() (bool, string) {
		active := w.prom.active("firing", "pending")
		return len(active) == 0, fmt.Sprintf("%s: %q", when, slices.Sorted(maps.Keys(active)))
	})
	t.Logf("%s: no alert is active after %v", when, took.Round(time.Second/10))
}

// testExported checks that the replicas export all metrics used anywhere.
func (w *world) testExported(t *testing.T) {
	exprs := dashboard(t).exprs()
	each(alerts(t), func(r *operator.Rule) { exprs = append(exprs, r.Expr.StrVal) })
	checked := make(map[string]bool)
	for _, expr := range exprs {
		for _, name := range metricsOf(expr) {
			if name == "up" || checked[name] { // up is Prometheus's own
				continue
			}
			checked[name] = true
			if len(w.replicas[first].Series(t, family(name))) == 0 && len(w.replicas[fourth].Series(t, family(name))) == 0 {
				t.Errorf("coredns exports no %s", name)
			}
		}
	}
	t.Logf("%d metrics", len(checked))
}

// testQueries runs all queries of the dashboard.
func (w *world) testQueries(t *testing.T) {
	for _, expr := range dashboard(t).exprs() {
		if len(w.prom.queryRange(expr, w.started)) == 0 {
			t.Errorf("no data: %s", expr)
		}
	}
}

// hashOf returns the hash of a replica's active stanza.
func hashOf(t *testing.T, c *cluster.CoreDNS) string {
	t.Helper()
	for _, m := range c.Series(t, "coredns_kubehosts_stanza_info") {
		for _, l := range m.GetLabel() {
			if l.GetName() == "hash" {
				return l.GetValue()
			}
		}
	}
	return ""
}

// halt suspends a process, and returns a function that resumes it.
func halt(t *testing.T, c *cluster.CoreDNS) (thaw func()) {
	send := func(s syscall.Signal) {
		if err := syscall.Kill(c.PID(), s); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGSTOP)
	return func() { send(syscall.SIGCONT) }
}

// spoil overwrites the method ServeDNS of a type in a process of ours with code that reads from address 0, so that each
// call panics. It returns a function that restores the old code.
func spoil(t *testing.T, pid int, pkg, typeName string) (repair func()) {
	t.Helper()
	exe, err := elf.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	symbols, err := exe.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	code := []byte{0x31, 0xc0, 0x8b, 0x00} // xor eax, eax; mov eax, [rax]
	old := make(map[int64][]byte)
	for _, s := range symbols {
		if s.Name != pkg+typeName+".ServeDNS" && s.Name != pkg+"(*"+typeName+").ServeDNS" {
			continue
		}
		at, was := int64(s.Value), make([]byte, len(code))
		if _, err := mem.ReadAt(was, at); err != nil {
			t.Fatal(err)
		}
		if _, err := mem.WriteAt(code, at); err != nil {
			t.Fatal(err)
		}
		old[at] = was
	}
	if len(old) == 0 {
		t.Fatalf("no ServeDNS of %s%s", pkg, typeName)
	}
	return func() {
		for at, was := range old {
			if _, err := mem.WriteAt(was, at); err != nil {
				t.Fatal(err)
			}
		}
	}
}
