package bench

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// mix is what dnsperf asks, over and over: what a pod does that looks up a Service and a name outside the cluster by its
// short forms, and one PTR in ten. All answers are of one record, as the constant one is.
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

var perSecond = regexp.MustCompile(`Queries per second:\s+([0-9.]+)`)

// dnsperf asks a server for some seconds, with never more than 100 questions open, and returns the answers a second.
func dnsperf(t *testing.T, addr, questions string, seconds int) float64 {
	t.Helper()
	out, err := exec.Command(tool(t, "dnsperf", "dnsperf"), "-s", "127.0.0.1", "-p", addr[strings.LastIndexByte(addr, ':')+1:],
		"-d", questions, "-l", strconv.Itoa(seconds), "-c", "8").CombinedOutput()
	m := perSecond.FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("dnsperf: %v\n%s", err, out)
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64)
	return n
}

// echo sends each packet back as it came, marked as a reply, and returns where: what a Go program can do that knows no DNS.
func echo(t *testing.T) (addr string) {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, dns.MinMsgSize)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			b[2] |= 1 << 7 // QR (RFC 1035, section 4.1.1)
			c.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

// udp is how many answers a second a server gives on the two cores that it shares with dnsperf, and what of its CPU
// time the collector takes.
func udp(t *testing.T) {
	tool(t, "dnsperf", "dnsperf")
	kubeconfig := serve(t, manyServices, 0).kubeconfig(t)
	questions := filepath.Join(t.TempDir(), "questions")
	cluster.WriteFile(t, questions, mix())
	servers, qps := map[string]*cluster.CoreDNS{}, map[string][]float64{}
	share, memory := map[string][]float64{}, map[string][]float64{}
	contenders := []string{"kubernetes", "kubehosts", "constant"}
	for _, name := range contenders {
		servers[name], _ = run(t, name, kubeStanza(name, kubeconfig)+"\npprof 127.0.0.1:OTHER")
	}
	echoed := echo(t)
	for i := range rounds {
		progress("UDP, round %d of %d", i+1, rounds)
		qps["echo"] = append(qps["echo"], dnsperf(t, echoed, questions, 3))
		for _, name := range contenders {
			c := servers[name]
			dnsperf(t, c.Addr, questions, 1)
			qps[name] = append(qps[name], dnsperf(t, c.Addr, questions, 3))
			profiled := make(chan float64)
			go func() { profiled <- collector(t, name, c, 2) }()
			dnsperf(t, c.Addr, questions, 3)
			share[name] = append(share[name], <-profiled)
			memory[name] = append(memory[name], anonymous(t, c.PID()))
		}
	}
	stock, ours, floor := median(qps["kubernetes"]), median(qps["kubehosts"]), median(qps["constant"])
	thousand := func(n float64) string { return fmt.Sprintf("%.1f k", n/1000) }
	table.add("UDP answers a second", thousand(stock), thousand(ours), fmt.Sprintf("%.2f", ours/stock), "1.7 times stock", ours/stock >= 1.7)
	table.add("the same, of the floor: a constant reply, "+thousand(floor), percent(stock/floor), percent(ours/floor), "", "95 %", ours/floor >= 0.95)
	echoes := median(qps["echo"])
	table.add("the same, of a Go program that sends each packet back, "+thousand(echoes), percent(stock/echoes), percent(ours/echoes), "", "", false)
	gcStock, gcOurs := median(share["kubernetes"]), median(share["kubehosts"])
	table.add("CPU in garbage collection under that load (constant reply: "+percent(median(share["constant"]))+")",
		percent(gcStock), percent(gcOurs), times(gcStock/gcOurs), "< 4 %", gcOurs < 0.04)
	stock, ours = slices.Max(memory["kubernetes"]), slices.Max(memory["kubehosts"])
	table.add("RssAnon of the whole process, the most under that load", mb(stock), mb(ours), times(stock/ours), "", false)
}

// collecting are the functions of the runtime that do the collector's work: in the background, on behalf of who allocates,
// and between collections.
var collecting = regexp.MustCompile(`^runtime\.(gcBgMarkWorker|gcAssistAlloc|gcStart|gcMarkTermination|gcWriteBarrier|bgsweep|bgscavenge|\(\*mcentral\)\.cacheSpan|\(\*mheap\)\.reclaim)`)

// envProfile names a file for the last CPU profile of kubehosts.
const envProfile = "BENCH_PROFILE"

// collector returns the share of a server's CPU time that its collector takes over some seconds, out of a CPU profile.
func collector(t *testing.T, name string, c *cluster.CoreDNS, seconds int) float64 {
	t.Helper()
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.Other, seconds))
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
