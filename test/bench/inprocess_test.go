package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/k8s_external"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	"github.com/miekg/dns"
	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"

	_ "github.com/kubehosts/kubehosts/plugin"
	"github.com/kubehosts/kubehosts/test/cluster"
)

// These benchmarks call ServeDNS in process, without a network. They measure one plugin, selected in the environment,
// in a process of its own: otherwise the collector would also mark another plugin's objects. By default they measure
// kubehosts.
const (
	envPlugin     = "BENCH_PLUGIN"     // kubehosts, kubernetes or hosts
	envKubeconfig = "BENCH_KUBECONFIG" // for the server with the objects
	envServices   = "BENCH_SERVICES"   // their number
)

// The number of rounds. The contenders take turns, so that disturbances of the machine affect both. benchstat needs six
// to compute the uncertainty of a median.
const rounds = 6

// grabbed is the first handler of the last server block that was set up.
var grabbed plugin.Handler

func init() {
	// This plugin precedes all others. It is not in the chain of handlers, but stores the next one: the plugin
	// under test, as its own setup configured it.
	plugin.Register("grab", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
			grabbed = next
			return next
		})
		return nil
	})
	dnsserver.Directives = []string{"grab", "kubehosts", "hosts", "k8s_external", "kubernetes"}
}

// handler runs a stanza in a server of its own and returns the plugin's handler, once it is ready.
func handler(b *testing.B, stanza string) plugin.Handler {
	b.Helper()
	if err := dnsserver.Register(); err != nil {
		b.Fatal(err)
	}
	caddy.Quiet, dnsserver.Quiet = true, true
	corefile := fmt.Sprintf(".:%d {\ngrab\n%s\n}\n", cluster.FreePort(), stanza)
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(corefile), Filepath: "Corefile", ServerTypeName: "dns"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, err := range instance.ShutdownCallbacks() {
			b.Error(err)
		}
		instance.Stop()
	})
	return grabbed
}

// heap is the live heap after a collection, in bytes.
func heap() uint64 {
	goruntime.GC()
	goruntime.GC() // finalizers and pools
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.HeapAlloc
}

// drop is a writer that discards the reply, or stores it if requested.
type drop struct {
	keep  bool
	reply *dns.Msg
}

var client = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40212}

func (d *drop) WriteMsg(m *dns.Msg) error {
	if d.keep {
		d.reply = m
	}
	return nil
}
func (d *drop) Write(b []byte) (int, error) { return len(b), nil }
func (d *drop) LocalAddr() net.Addr         { return client }
func (d *drop) RemoteAddr() net.Addr        { return client }
func (d *drop) Close() error                { return nil }
func (d *drop) TsigStatus() error           { return nil }
func (d *drop) TsigTimersOnly(bool)         {}
func (d *drop) Hijack()                     {}

// reply returns the answer of h in the format of cluster.Text.
func reply(b *testing.B, h plugin.Handler, q *dns.Msg) string {
	b.Helper()
	w := &drop{keep: true}
	if _, err := h.ServeDNS(context.Background(), w, q); err != nil {
		b.Fatal(err)
	}
	if w.reply == nil {
		return "no reply"
	}
	return cluster.Text(w.reply)
}

// race measures how long h takes for the queries from name, one after the other, and first checks that the answers have
// the rcode and the number of records that the query should have. It prints the answers, for comparison.
func race(b *testing.B, what string, h plugin.Handler, asked int, qtype uint16, rcode, records int, name func(i int) string) {
	b.Helper()
	b.Run(what, func(b *testing.B) {
		questions := make([]*dns.Msg, asked)
		for i := range questions {
			questions[i] = new(dns.Msg).SetQuestion(name(i), qtype)
		}
		sum := sha256.New()
		for _, q := range questions[:20] {
			got := reply(b, h, q)
			if n := strings.Count(got, "\n") - strings.Count(got, "\na"); !strings.HasPrefix(got, dns.RcodeToString[rcode]) || n != records {
				b.Fatalf("%s: %s", q.Question[0].String(), got)
			}
			fmt.Fprintln(sum, got)
		}
		fmt.Printf("%s%s %x\n", answersLine, what, sum.Sum(nil))
		b.ReportAllocs()
		w, ctx, i := &drop{}, context.Background(), 0
		for b.Loop() {
			h.ServeDNS(ctx, w, questions[i])
			if i++; i == len(questions) {
				i = 0
			}
		}
	})
}

// answersLine is the prefix of a line with the answers.
const answersLine = "Answers "

// subject is the measured plugin.
func subject() string {
	if name := os.Getenv(envPlugin); name != "" {
		return name
	}
	return "kubehosts"
}

// loaded runs the stanza, and reports its memory for n objects once it answers for each of names: it is ready before it
// has read the objects of external names.
func loaded(b *testing.B, stanza string, n int, names ...string) plugin.Handler {
	b.Helper()
	before := heap()
	h := handler(b, stanza)
	for _, name := range names {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		waitFor(b, 5*time.Minute, func() bool { return strings.HasPrefix(reply(b, h, q), dns.RcodeToString[dns.RcodeSuccess]) })
	}
	held := float64(heap()) - float64(before)
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(held/float64(n), unitHeld)
		b.ReportMetric(0, "ns/op")
	})
	return h
}

const unitHeld = "B/object" // heap for an endpoint or a line

func kubeStanza(name, kubeconfig string) string {
	return name + " cluster.local in-addr.arpa {\nkubeconfig " + kubeconfig + "\nstartup_timeout 600s\n}"
}

// BenchmarkServices queries a cluster of 8,000 Services with 10 endpoints each.
func BenchmarkServices(b *testing.B) {
	kubeconfig, n := os.Getenv(envKubeconfig), manyServices
	if kubeconfig == "" {
		if of := os.Getenv(envServices); of != "" {
			n, _ = strconv.Atoi(of)
		}
		kubeconfig = serve(b, n, bigServices).kubeconfig(b)
	} else {
		n, _ = strconv.Atoi(os.Getenv(envServices))
	}
	asked := 1000
	if n != manyServices {
		asked = 500 // 1,000 Services have this many with a cluster IP; larger clusters use no more
	}
	h := loaded(b, kubeStanza(subject(), kubeconfig), n*endpointsEach)
	even := func(i int) string { return serviceName(i * max(2, n/asked) % n &^ 1) }
	odd := func(i int) string { return serviceName(i*max(2, n/asked)%n | 1) }
	big := func(i int) string { return fmt.Sprintf("big-%d.ns-0.svc.cluster.local.", i%bigServices) }

	race(b, "ClusterIP-A", h, asked, dns.TypeA, dns.RcodeSuccess, 1, even)
	if n != manyServices {
		return
	}
	race(b, "ClusterIP-AAAA", h, asked, dns.TypeAAAA, dns.RcodeSuccess, 0, even)
	race(b, "ClusterIP-SRV", h, asked, dns.TypeSRV, dns.RcodeSuccess, 1, func(i int) string { return "_http._tcp." + even(i) })
	race(b, "PTR", h, asked, dns.TypePTR, dns.RcodeSuccess, 1, func(i int) string {
		name, _ := dns.ReverseAddr(clusterIP(i * 8 % n))
		return name
	})
	race(b, "NXDOMAIN-search", h, asked, dns.TypeA, dns.RcodeNameError, 0, func(i int) string {
		return fmt.Sprintf("example.com.ns-%d.svc.cluster.local.", i%spaces)
	})
	race(b, "headless-A-10", h, asked, dns.TypeA, dns.RcodeSuccess, 10, odd)
	race(b, "headless-A-100", h, asked, dns.TypeA, dns.RcodeSuccess, 100, big)
	race(b, "headless-SRV-10", h, asked, dns.TypeSRV, dns.RcodeSuccess, 10, func(i int) string { return "_http._tcp." + odd(i) })
	race(b, "headless-SRV-100", h, asked, dns.TypeSRV, dns.RcodeSuccess, 100, func(i int) string { return "_http._tcp." + big(i) })
}

// BenchmarkHosts queries a hosts file of 100,000 lines.
func BenchmarkHosts(b *testing.B) {
	const lines = 100_000
	path := hostsFile(b, b.TempDir(), lines, 0)
	h := loaded(b, hostsStanza(subject(), path, ""), lines)
	race(b, "A", h, 1000, dns.TypeA, dns.RcodeSuccess, 1, func(i int) string { return hostName(i * 97) })
	race(b, "PTR", h, 1000, dns.TypePTR, dns.RcodeSuccess, 1, func(i int) string {
		name, _ := dns.ReverseAddr(podIP(i * 97))
		return name
	})
}

// BenchmarkFloor is the lower limit for any plugin: a handler that writes one constant A reply.
func BenchmarkFloor(b *testing.B) {
	address := net.IPv4(10, 96, 0, 1).To4()
	floor := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg).SetReply(r)
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5},
			A:   address,
		}}
		w.WriteMsg(m)
		return dns.RcodeSuccess, nil
	})
	race(b, "A", floor, 1000, dns.TypeA, dns.RcodeSuccess, 1, func(int) string { return "svc.ns.svc.cluster.local." })
}

// figures are the results of benchmarks: the values of each unit by benchmark, and their answers.
type figures struct {
	values  map[string]map[string][]float64
	answers map[string]string
}

// How long a benchmark runs: long if a collection takes a good part of short.
const (
	short = 150 * time.Millisecond
	long  = 3 * time.Second
)

// measure runs a benchmark for a plugin in a process of its own and adds its results to f.
func (f *figures) measure(t *testing.T, benchmark, name, kubeconfig string, services int, lasts time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^"+benchmark+"$", "-test.benchtime="+lasts.String(), "-test.timeout=15m")
	cmd.Env = append(os.Environ(), envPlugin+"="+name, envKubeconfig+"="+kubeconfig, envServices+"="+strconv.Itoa(services))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s of %s: %v\n%s", benchmark, name, err, out)
	}
	if f.values == nil {
		f.values, f.answers = map[string]map[string][]float64{}, map[string]string{}
	}
	for line := range bytes.Lines(out) {
		if rest, ok := strings.CutPrefix(string(line), answersLine); ok {
			what, sum, _ := strings.Cut(strings.TrimSpace(rest), " ")
			f.answers[what] = sum
		}
	}
	for r := benchfmt.NewReader(bytes.NewReader(out), name); r.Scan(); {
		res, ok := r.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		_, what, _ := strings.Cut(string(res.Name.Full()), "/")
		what = strings.TrimSuffix(what, "-"+strconv.Itoa(goruntime.GOMAXPROCS(0)))
		if f.values[what] == nil {
			f.values[what] = map[string][]float64{}
		}
		for _, v := range res.Values {
			f.values[what][v.Unit] = append(f.values[what][v.Unit], v.Value)
		}
	}
}

// of returns the median and its uncertainty, computed like benchstat.
func (f *figures) of(what, unit string) (float64, string) {
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(f.values[what][unit]), &benchmath.DefaultThresholds), 0.95)
	return s.Center, s.PctRangeString()
}

// texts returns the time and the allocations of a benchmark, as text for the table and as numbers.
func (f *figures) texts(what string) (text string, seconds, allocs float64) {
	seconds, spread := f.of(what, "sec/op")
	allocs, _ = f.of(what, "allocs/op")
	return fmt.Sprintf("%.2f µs %s, %.0f", seconds*1e6, spread, allocs), seconds, allocs
}

// inProcess measures ServeDNS, without a network.
func inProcess(t *testing.T) {
	kubeconfig := serve(t, manyServices, bigServices).kubeconfig(t)
	var ours, stock, oursHosts, stockHosts, floor figures
	for i := range rounds {
		progress("in process, round %d of %d", i+1, rounds)
		stock.measure(t, "BenchmarkServices", "kubernetes", kubeconfig, manyServices, short)
		ours.measure(t, "BenchmarkServices", "kubehosts", kubeconfig, manyServices, short)
		stockHosts.measure(t, "BenchmarkHosts", "hosts", "", 0, short)
		oursHosts.measure(t, "BenchmarkHosts", "kubehosts", "", 0, short)
		floor.measure(t, "BenchmarkFloor", "", "", 0, short)
	}
	for _, r := range []struct {
		what, name string
		faster     float64
		allocs     float64
	}{
		{"ClusterIP-A", "in process: ClusterIP A", 10, 4},
		{"ClusterIP-AAAA", "ClusterIP AAAA (NODATA)", 10, 4},
		{"ClusterIP-SRV", "ClusterIP SRV", 10, 4},
		{"PTR", "PTR", 10, 4},
		{"NXDOMAIN-search", "NXDOMAIN of the search list", 10, 4},
		{"headless-A-10", "headless A, 10 endpoints", 15, 6},
		{"headless-A-100", "headless A, 100 endpoints", 15, 6},
		{"headless-SRV-10", "headless SRV, 10 endpoints", 15, 6},
		{"headless-SRV-100", "headless SRV, 100 endpoints", 15, 6},
	} {
		compare(t, r.what, r.name, &stock, &ours, r.faster, r.allocs)
	}
	compare(t, "A", "hosts A, 100,000 lines", &stockHosts, &oursHosts, 2, 4)
	compare(t, "PTR", "hosts PTR", &stockHosts, &oursHosts, 2, 4)
	ns, spread := floor.of("A", "sec/op")
	allocs, _ := floor.of("A", "allocs/op")
	table.add("a constant A reply, no plugin", "", fmt.Sprintf("%.2f µs %s, %.0f", ns*1e6, spread, allocs), "", "", false)
}

// compare adds a row with time and allocations.
func compare(t *testing.T, what, name string, stock, ours *figures, faster, allocs float64) {
	t.Helper()
	if stock.answers[what] == "" || stock.answers[what] != ours.answers[what] {
		t.Errorf("%s: stock and kubehosts do not give the same answers", name)
	}
	a, stockTime, _ := stock.texts(what)
	b, ourTime, n := ours.texts(what)
	ratio := stockTime / ourTime
	table.add(name+", allocs", a, b, times(ratio), fmt.Sprintf("%.0f times faster, ≤ %.0f allocs", faster, allocs), ratio >= faster && n <= allocs)
}
