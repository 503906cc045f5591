package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const (
	memoryLimit = 170 << 20 // that of CoreDNS in the manifests of kubeadm and kops
	memoryRoom  = 120 << 20 // what kubehosts may use of it: 25 MB of its own, 80 MB of garbage, and a reserve

	// With this many Services of this many endpoints each, stock uses three quarters of the limit.
	loadServices, loadEndpoints = 1200, 100
)

// The API server is killed and started again, so that replicas with the usual memory limit list everything again
// (kubernetes/kubernetes#139117). The test reports whether the kernel kills stock, and fails if it kills kubehosts.
func TestMemoryLimit(t *testing.T) {
	a := loaded(t)
	tr := changesOf(t, a)
	kubeconfig := cluster.Kubeconfig(t, a.URL, accountOf(t, a).Token)
	theirs := limit(t, cluster.Stock, strings.ReplaceAll(stockCorefile, "KUBECONFIG", kubeconfig), tr)
	own := limit(t, cluster.Kubehosts, strings.NewReplacer("KUBECONFIG", kubeconfig, "OPTIONS", "").Replace(corefile), tr)
	both := replicas{theirs, own}
	both.heal(t)
	if own.healed == bound {
		t.Fatalf("kubehosts follows no changes within %v", bound)
	}
	t.Logf("stock was killed %d times at the start", len(theirs.killed))

	both.sample()
	both.watch(t)
	before := theirs.asker.tally()
	var down, up time.Time
	own.asker.counted(t, "it restarts, 120,000 endpoints at 170 MiB", func() time.Duration {
		tr.hold()
		down = time.Now()
		a.StopServer()
		if err := a.Write(1); err != nil { // like another API server: no watch can resume
			t.Error(err)
		}
		<-time.After(lasts)
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		defer cancel()
		if err := a.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		up = time.Now()
		both.heal(t)
		tr.release()
		both.watch(t)
		return own.healed
	})
	both.end()
	name := fmt.Sprintf("likewise, stock, killed %d times, away for %.1f s", len(theirs.killed), theirs.away.Seconds())
	table.add(theirs.asker.since(before, name, theirs.healed))
	if n := own.group.Killed(t); n != 0 || len(own.killed) != 0 {
		t.Errorf("kubehosts ended %d times, the kernel killed %d", len(own.killed), n)
	}
	if own.most() > memoryRoom {
		t.Errorf("kubehosts had %d MiB, want at most %d", own.most()>>20, memoryRoom>>20)
	}
	for _, r := range both {
		t.Logf("%s: %d MiB before the restart, %d MiB at the most, %d ended, %d of them killed by the kernel",
			r.name, r.at(down.Sub(r.start))>>20, r.most()>>20, len(r.killed), r.group.Killed(t))
	}
	if path := os.Getenv("FAULTS_PICTURE"); path != "" {
		cluster.WriteFile(t, path, record(theirs, own, down.Sub(own.start), up.Sub(own.start)))
	}
}

// The kernel kills a process that exceeds the limit, and no other.
func TestLimit(t *testing.T) {
	g := cluster.LimitMemory(t, 20<<20)
	if out, err := exec.Command(g.Program(t, "/bin/echo"), "in", "it").CombinedOutput(); err != nil || string(out) != "in it\n" {
		t.Fatalf("%v %q", err, out)
	}
	if n := g.Killed(t); n != 0 {
		t.Errorf("%d killed before anything was large", n)
	}
	program, err := exec.LookPath("tail")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(g.Program(t, program), "/dev/zero") // one endless line, kept in memory
	cmd.Run()
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Errorf("it ended by %v", cmd.ProcessState)
	}
	if n := g.Killed(t); n != 1 {
		t.Errorf("%d killed, want 1", n)
	}
}

// loaded is an API server with many endpoints, used by this test only.
func loaded(t *testing.T) *cluster.API {
	t.Helper()
	kube, err := cluster.Kube()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	a, err := cluster.Start(ctx, kube, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	a.Fill(t, loadServices, loadEndpoints)
	return a
}

// replica is a server with the limit that gets queries.
type replica struct {
	*cluster.CoreDNS
	name, script string
	group        *cluster.Cgroup
	asker        *asker

	broken time.Time       // when healing began
	change int             // the newest one stored at that time
	healed time.Duration   // time to heal; bound if it did not heal
	killed []time.Duration // after start
	gone   time.Time       // when it became not ready, after it was killed
	away   time.Duration   // how long it was not ready

	pid     atomic.Int64 // of the process that is sampled
	stop    chan struct{}
	sampler sync.WaitGroup
	start   time.Time // of the samples
	samples []memorySample
}

// memorySample is the maximum of a process's anonymous memory, RssAnon, in an interval. The kernel can't reclaim this
// memory. It is 0 if there was no process.
type memorySample struct {
	at   time.Duration // start of the interval
	most int
}

// limit starts a server with the limit and starts sending queries to it.
func limit(t *testing.T, program func() (string, error), corefile string, tr *truth) *replica {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{name: filepath.Base(path), group: cluster.LimitMemory(t, memoryLimit), stop: make(chan struct{}), start: time.Now()}
	r.script = r.group.Program(t, path)
	r.CoreDNS = cluster.Launch(t, r.script, corefile)
	r.pid.Store(int64(r.PID()))
	r.asker = ask(t, r.Addr, tr)
	return r
}

// replicas are the servers to compare.
type replicas []*replica

// heal waits until all have answered a change that was stored after now, for bound at most.
func (all replicas) heal(t *testing.T) {
	t.Helper()
	now := time.Now()
	for _, r := range all {
		r.broken = now
		r.begin()
	}
	all.tend(t, bound, all.healthy)
}

// begin marks the beginning of healing.
func (r *replica) begin() { r.change, r.healed = r.asker.truth.newest(), bound }

// healthy reports whether all have healed, and are ready.
func (all replicas) healthy() bool {
	for _, r := range all {
		if r.healed == bound || !r.gone.IsZero() {
			return false
		}
	}
	return true
}

// watch waits for late effects, and then until all have healed.
func (all replicas) watch(t *testing.T) {
	t.Helper()
	all.tend(t, max(lasts, 5*time.Second), func() bool { return false })
	all.tend(t, bound, all.healthy)
}

// tend restarts servers that have ended, at once, as a kubelet does the first time, until done or for most.
func (all replicas) tend(t *testing.T, most time.Duration, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < most && !done(); <-tick.C {
		for _, r := range all {
			r.tend(t)
		}
	}
}

func (r *replica) tend(t *testing.T) {
	t.Helper()
	if r.Ended() {
		r.gone = time.Now()
		r.killed = append(r.killed, r.gone.Sub(r.start))
		r.begin()
		r.Start(t, r.script)
		r.pid.Store(int64(r.PID()))
	}
	if !r.gone.IsZero() && r.isReady() {
		r.away += time.Since(r.gone)
		r.gone = time.Time{}
	}
	if r.healed == bound && int(r.asker.seen.Load()) > r.change {
		r.healed = time.Since(r.broken)
	}
}

func (r *replica) isReady() bool {
	ready, _ := r.Ready()
	return ready
}

// sampling is the length of a sample.
const sampling = 100 * time.Millisecond

// sample begins sampling the memory and counting.
func (all replicas) sample() {
	start := time.Now()
	for _, r := range all {
		r.start, r.killed, r.away = start, nil, 0
		r.sampler.Go(r.sample)
	}
}

func (r *replica) sample() {
	tick := time.NewTicker(sampling / 20)
	defer tick.Stop()
	var now memorySample
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		if at := time.Since(r.start).Truncate(sampling); at != now.at {
			r.samples = append(r.samples, now)
			now = memorySample{at: at}
		}
		now.most = max(now.most, anonymous(int(r.pid.Load())))
	}
}

// end ends the samples and the queries.
func (all replicas) end() {
	for _, r := range all {
		close(r.stop)
		r.sampler.Wait()
		r.asker.end()
	}
}

// anonymous returns RssAnon of a process in bytes, 0 if it has ended.
func anonymous(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var kb int
	for line := range strings.Lines(string(b)) {
		fmt.Sscanf(line, "RssAnon: %d kB", &kb)
	}
	return kb << 10
}

// most returns the maximum of all samples.
func (r *replica) most() (most int) {
	for _, s := range r.samples {
		most = max(most, s.most)
	}
	return most
}

// at returns the memory at a time.
func (r *replica) at(then time.Duration) (most int) {
	for _, s := range r.samples {
		if s.at <= then {
			most = s.most
		}
	}
	return most
}

// record formats a run for docs/draw.
func record(stock, ours *replica, down, up time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Memory of replicas with a limit of %d MiB, of %d Services with %d endpoints each, on %s.\nsecond,stock,kubehosts,event\n",
		memoryLimit>>20, loadServices, loadEndpoints, time.Now().Format(time.DateOnly))
	text := func(bytes int) string {
		if bytes == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f", float64(bytes)/(1<<20))
	}
	of := make(map[time.Duration]int)
	for _, s := range stock.samples {
		of[s.at] = s.most
	}
	for _, s := range ours.samples {
		if theirs, ok := of[s.at]; ok {
			fmt.Fprintf(&b, "%.1f,%s,%s,\n", s.at.Seconds(), text(theirs), text(s.most))
		}
	}
	event := func(at time.Duration, name string) { fmt.Fprintf(&b, "%.1f,,,%s\n", at.Seconds(), name) }
	event(down, "down")
	event(up, "up")
	for _, at := range stock.killed {
		event(at, "killed")
	}
	return b.String()
}
