package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// mix is the list of queries that dnsperf repeats: the queries of a pod that resolves a Service and a name outside the
// cluster by their short forms, and one PTR in ten. All answers have one record, like the constant one.
func mix() string {
	var b strings.Builder
	for i := range 1000 {
		svc, space := serviceName(i*8), i%spaces
		reverse, _ := dns.ReverseAddr(clusterIP(i * 8))
		fmt.Fprintf(&b, "%s A\n%s AAAA\n%s A\n", svc, svc, serviceName(i*8+2))
		for _, search := range []string{fmt.Sprintf("ns-%d.svc.cluster.local.", space), "svc.cluster.local.", "cluster.local."} {
			fmt.Fprintf(&b, "www.example.com.%s A\nwww.example.com.%s AAAA\n", search, search)
		}
		fmt.Fprintf(&b, "%s PTR\n", reverse)
	}
	return b.String()
}

// asked matches dnsperf's output: the number of answers, and the seconds.
var asked = regexp.MustCompile(`Queries completed:\s+([0-9]+)[^$]*Run time \(s\):\s+([0-9.]+)`)

// dnsperf queries a server for some seconds, with at most 100 queries in flight, and returns how many it answered, and
// how many per second. cpu is the CPU that it runs on, "" for any.
func dnsperf(t *testing.T, addr, questions string, seconds int, cpu string) (answers, perSecond float64) {
	t.Helper()
	args := []string{tool(t, "dnsperf", "dnsperf"), "-s", "127.0.0.1", "-p", addr[strings.LastIndexByte(addr, ':')+1:],
		"-d", questions, "-l", strconv.Itoa(seconds), "-c", "8"}
	if cpu != "" {
		args = append([]string{"taskset", "-c", cpu}, args...)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	m := asked.FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("dnsperf: %v\n%s", err, out)
	}
	answers, _ = strconv.ParseFloat(string(m[1]), 64)
	took, _ := strconv.ParseFloat(string(m[2]), 64)
	return answers, answers / took
}

// echo starts the program that sends each packet back, and returns its listen address and process.
func echo(t *testing.T, args ...string) (addr string, pid int) {
	t.Helper()
	cmd := exec.Command("../bin/echo", args...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("%v: `make bench` builds it", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), cmd.Process.Pid
}

// cpuTime is the CPU time that a process has used, in seconds.
func cpuTime(t testing.TB, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')'):]))
	user, _ := strconv.ParseFloat(f[12], 64)
	system, _ := strconv.ParseFloat(f[13], 64)
	return (user + system) / 100 // USER_HZ
}

// pin restricts all threads of a process to one CPU, or lets them run anywhere again.
func pin(t testing.TB, pid int, cpus string) {
	t.Helper()
	if out, err := exec.Command("taskset", "-a", "-c", "-p", cpus, strconv.Itoa(pid)).CombinedOutput(); err != nil {
		t.Fatalf("taskset: %v\n%s", err, out)
	}
}

// contender is a server under load.
type contender struct {
	name   string
	addr   string
	pid    int
	pprof  string  // "" for none
	qps    samples // answers per second
	cost   samples // CPU time per answer, in microseconds
	pinned samples // answers per second with one core for the server and one for dnsperf
	memory samples // RssAnon
	share  samples // of the collector in the CPU time
}

type samples []float64

func (s samples) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	return median(s)
}

// load runs dnsperf against c, and samples the results.
func (c *contender) load(t *testing.T, questions string) {
	t.Helper()
	dnsperf(t, c.addr, questions, 1, "")
	before := cpuTime(t, c.pid)
	answers, qps := dnsperf(t, c.addr, questions, 3, "")
	c.qps = append(c.qps, qps)
	c.cost = append(c.cost, (cpuTime(t, c.pid)-before)/answers*1e6)
	c.memory = append(c.memory, anonymous(t, c.pid))
}

// loadPinned is load with one core each.
func (c *contender) loadPinned(t *testing.T, questions string) {
	t.Helper()
	pin(t, c.pid, "0")
	_, qps := dnsperf(t, c.addr, questions, 2, "1")
	c.pinned = append(c.pinned, qps)
	pin(t, c.pid, fmt.Sprintf("0-%d", runtime.NumCPU()-1))
}

// corefiles are the plugins around kubehosts, and around kubernetes, under load: none, and a common set.
var corefiles = []struct{ what, plugins string }{
	{"no other plugin", ""},
	{"with *errors* and *prometheus*", "errors\nprometheus METRICS"},
	{"with *errors*, *prometheus*, *loadbalance*, `cache 30`", "errors\nprometheus METRICS\nloadbalance\ncache 30"},
	{"with those of kubeadm, whose *cache* leaves cluster.local out",
		"errors\nprometheus METRICS\nloadbalance\ncache 30 {\ndisable success cluster.local\ndisable denial cluster.local\n}"},
}

// udp measures how many answers per second a server gives on the two cores that it shares with dnsperf, the CPU time of
// each answer, and the collector's share of it.
func udp(t *testing.T) {
	tool(t, "dnsperf", "dnsperf")
	kubeconfig := serve(t, manyServices, 0).kubeconfig(t)
	questions := filepath.Join(t.TempDir(), "questions")
	cluster.WriteFile(t, questions, mix())
	var all []*contender
	start := func(name, plugin, stanza string) *contender {
		c, _ := run(t, plugin, stanza)
		all = append(all, &contender{name: name, addr: c.Addr, pid: c.PID(), pprof: c.Other})
		return all[len(all)-1]
	}
	// The program that sends packets back in batches runs right before kubehosts, which is compared with it: the speed
	// of the machine changes little in between.
	var echoes [2]*contender
	for i, args := range [][]string{nil, {"-batch"}} {
		addr, pid := echo(t, args...)
		echoes[i] = &contender{name: "echo", addr: addr, pid: pid}
		all = append(all, echoes[i])
	}
	var stock, ours [4]*contender
	for i, corefile := range corefiles {
		around := "\n" + corefile.plugins + "\npprof 127.0.0.1:OTHER"
		ours[i] = start("kubehosts", "kubehosts", kubeStanza("kubehosts", kubeconfig)+around)
		stock[i] = start("kubernetes", "kubernetes", kubeStanza("kubernetes", kubeconfig)+around)
	}
	off := start("wire off", "kubehosts", strings.TrimSuffix(kubeStanza("kubehosts", kubeconfig), "}")+"wire off\n}\npprof 127.0.0.1:OTHER")
	floor := start("constant", "constant", kubeStanza("constant", kubeconfig)+"\npprof 127.0.0.1:OTHER")
	for i := range rounds {
		progress("UDP, round %d of %d", i+1, rounds)
		for _, c := range all {
			c.load(t, questions)
		}
		for _, c := range []*contender{stock[0], echoes[1], ours[0]} {
			c.loadPinned(t, questions)
			if c.pprof == "" {
				continue
			}
			profiled := make(chan float64)
			go func() { profiled <- collector(t, c.name, c.pprof, 2) }()
			dnsperf(t, c.addr, questions, 3, "")
			c.share = append(c.share, <-profiled)
		}
	}

	thousand := func(n float64) string { return fmt.Sprintf("%.1f k", n/1000) }
	micro := func(n float64) string { return fmt.Sprintf("%.1f µs", n) }
	for i, corefile := range corefiles {
		s, o := stock[i], ours[i]
		goal := 2.0
		if i == 0 {
			goal = 2.3
		}
		ratio, cost := o.qps.median()/s.qps.median(), o.cost.median()/s.cost.median()
		table.add("UDP answers a second, "+corefile.what, thousand(s.qps.median()), thousand(o.qps.median()), fmt.Sprintf("%.2f", ratio),
			fmt.Sprintf("%.1f times stock", goal), ratio >= goal)
		table.add("the server's CPU time of each", micro(s.cost.median()), micro(o.cost.median()), fmt.Sprintf("%.2f", cost), "a quarter of stock's", cost <= 0.25)
	}
	of := func(what string, c *contender, goal string, reached bool) {
		s, o := stock[0].qps.median(), ours[0].qps.median()
		table.add(fmt.Sprintf("UDP answers a second, of %s, %s and %s", what, thousand(c.qps.median()), micro(c.cost.median())),
			percent(s/c.qps.median()), percent(o/c.qps.median()), "", goal, reached)
	}
	of("kubehosts with `wire off`", off, "", false)
	of("a constant reply in CoreDNS", floor, "", false)
	of("a Go program that sends each packet back", echoes[0], "", false)
	of("one that does so in batches", echoes[1], "95 %", ours[0].qps.median()/echoes[1].qps.median() >= 0.95)
	table.add("UDP answers a second with a core for the server and one for dnsperf, echo in batches "+thousand(echoes[1].pinned.median()),
		thousand(stock[0].pinned.median()), thousand(ours[0].pinned.median()), fmt.Sprintf("%.2f", ours[0].pinned.median()/stock[0].pinned.median()), "", false)
	gcStock, gcOurs := stock[0].share.median(), ours[0].share.median()
	table.add("CPU in garbage collection under that load", percent(gcStock), percent(gcOurs), "", "< 4 %", gcOurs < 0.04)
	most, mostOurs := slices.Max(stock[0].memory), slices.Max(ours[0].memory)
	table.add("RssAnon of the whole process, the most under that load", mb(most), mb(mostOurs), times(most/mostOurs), "a third of stock's", mostOurs <= most/3)
	udpLatency(t, stock[0], ours[0], off)
}

// udpLatency measures the latency of answers at a rate that is easy for every server: first while a process of the
// lowest priority keeps each core awake, and then without one. A virtual CPU that has halted takes up to 300 µs to
// wake, which is longer than an answer.
func udpLatency(t *testing.T, stock, ours, off *contender) {
	var qs []*dns.Msg
	for line := range strings.Lines(mix()) {
		name, qtype, _ := strings.Cut(strings.TrimSpace(line), " ")
		qs = append(qs, new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[qtype]))
	}
	for _, awake := range []bool{true, false} {
		sleep := func() {}
		if awake {
			sleep = keepAwake(t)
		}
		took := map[*contender][2]samples{}
		for range rounds {
			for _, c := range []*contender{stock, ours, off} {
				l := latencies(t, c.addr, qs, 1000, 5*time.Second)
				took[c] = [2]samples{append(took[c][0], quantile(l, 0.5)), append(took[c][1], quantile(l, 0.99))}
			}
		}
		sleep()
		for i, what := range []string{"an answer's median at 1,000 questions a second", "its p99"} {
			s, o, w := took[stock][i].median(), took[ours][i].median(), took[off][i].median()
			if !awake {
				what += ", on cores that halt in between"
			}
			table.add(fmt.Sprintf("%s; with `wire off` %.0f µs", what, w), fmt.Sprintf("%.0f µs", s), fmt.Sprintf("%.0f µs", o), fmt.Sprintf("%.2f", o/s),
				"no longer than with `wire off`", o <= w)
		}
	}
}

// keepAwake keeps every core from halting, with a process that runs only when no other one wants the core. It returns a
// function that ends them.
func keepAwake(t *testing.T) (end func()) {
	t.Helper()
	var all []*exec.Cmd
	end = func() {
		for _, cmd := range all {
			cmd.Process.Kill()
			cmd.Wait()
		}
		all = nil
	}
	t.Cleanup(end)
	for cpu := range runtime.NumCPU() {
		cmd := exec.Command("chrt", "--idle", "0", "taskset", "-c", strconv.Itoa(cpu), "sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatalf("chrt: %v", err)
		}
		all = append(all, cmd)
	}
	return end
}

// collecting matches the runtime's functions for garbage collection: in the background, in allocations, and between
// collections.
var collecting = regexp.MustCompile(`^runtime\.(gcBgMarkWorker|gcAssistAlloc|gcStart|gcMarkTermination|gcWriteBarrier|bgsweep|bgscavenge|\(\*mcentral\)\.cacheSpan|\(\*mheap\)\.reclaim)`)

// envProfile is the file for the last CPU profile of kubehosts.
const envProfile = "BENCH_PROFILE"

// collector returns the collector's share of a server's CPU time over some seconds, from a CPU profile.
func collector(t *testing.T, name, pprof string, seconds int) float64 {
	t.Helper()
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", pprof, seconds))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
		return 0
	}
	p, err := profile.ParseData(raw)
	if err != nil {
		t.Error(err)
		return 0
	}
	if path := os.Getenv(envProfile); path != "" && name == "kubehosts" {
		cluster.WriteFile(t, path, string(raw))
	}
	var all, gc int64
	for _, s := range p.Sample {
		all += s.Value[0]
		if slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
			return slices.ContainsFunc(l.Line, func(l profile.Line) bool { return collecting.MatchString(l.Function.Name) })
		}) {
			gc += s.Value[0]
		}
	}
	return float64(gc) / float64(all)
}
