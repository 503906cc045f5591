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

// patience is how long an alert may take to fire, and to clear. It is a limit on broken, not a goal.
const patience = 90 * time.Second

// fault is something that breaks, and the alerts that tell of it, each with its severity.
type fault struct {
	name   string
	alerts []string
	begin  func(*testing.T, *world) (repair func())
}

// faults are there at one time. Alerts of several say that either is enough.
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

// outage ends the rest.
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

// Each alert fires when that breaks which it is for, and clears when it is repaired, in a real Prometheus that scrapes the real
// coredns. Durations are shorter than they are shipped (sped). Meanwhile every query of the dashboard has data, and all metrics
// that dashboard and alerts name are exported.
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

// quiet waits until no alert fires, or is about to.
func (w *world) quiet(t *testing.T, when string) {
	t.Helper()
	took := cluster.Eventually(t, patience, func() (bool, string) {
		active := w.prom.active("firing", "pending")
		return len(active) == 0, fmt.Sprintf("%s: %q", when, slices.Sorted(maps.Keys(active)))
	})
	t.Logf("%s: no alert is active after %v", when, took.Round(time.Second/10))
}

// testExported finds all metrics that are named anywhere among those of the replicas.
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

// testQueries asks Prometheus all that the dashboard asks.
func (w *world) testQueries(t *testing.T) {
	for _, expr := range dashboard(t).exprs() {
		if len(w.prom.queryRange(expr, w.started)) == 0 {
			t.Errorf("no data: %s", expr)
		}
	}
}

// hashOf is the hash of the stanza that a replica serves.
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

// halt stops a process where it is, and returns what lets it go on.
func halt(t *testing.T, c *cluster.CoreDNS) (thaw func()) {
	send := func(s syscall.Signal) {
		if err := syscall.Kill(c.PID(), s); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGSTOP)
	return func() { send(syscall.SIGCONT) }
}

// spoil writes over the method ServeDNS of a type in a process of ours what reads from address 0, so that each call of it
// panics. It returns what puts the old code back.
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
