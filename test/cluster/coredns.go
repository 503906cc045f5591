package cluster

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// CoreDNS is a running coredns binary.
type CoreDNS struct {
	Addr  string // 127.0.0.1:PORT, UDP and TCP
	Other string // a second address, for a Corefile with a second server block

	Panics bool // the test causes panics: a panic in the log is not a failure

	conf, ready, metrics string
	*Process
}

// Run starts the coredns binary on a Corefile and waits, for 20 seconds at most, until the ready plugin reports ready.
// In the Corefile, PORT and OTHER stand for free ports to serve on, READY and METRICS for addresses for those plugins,
// and DIR for a temporary folder, which is the working directory. args are further flags. The process ends with the
// test; if that fails, the end of the log is printed.
func Run(t testing.TB, bin, corefile string, args ...string) *CoreDNS {
	t.Helper()
	c := Launch(t, bin, corefile, args...)
	c.WaitReady(t)
	return c
}

// Launch is Run without the wait.
func Launch(t testing.TB, bin, corefile string, args ...string) *CoreDNS {
	t.Helper()
	c := Prepare(t, corefile)
	c.Start(t, bin, args...)
	return c
}

// Prepare is Launch without the start: it chooses the addresses and writes the Corefile.
func Prepare(t testing.TB, corefile string) *CoreDNS {
	t.Helper()
	addr := func() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort())) }
	c := &CoreDNS{Addr: addr(), Other: addr(), ready: addr(), metrics: addr()}
	dir := t.TempDir()
	c.conf = filepath.Join(dir, "Corefile")
	c.Write(t, corefile)
	return c
}

// Start starts coredns like Launch, for the first time or after it has ended.
func (c *CoreDNS) Start(t testing.TB, bin string, args ...string) {
	t.Helper()
	dir := filepath.Dir(c.conf)
	var err error
	if c.Process, err = Spawn(dir, filepath.Join(dir, "coredns.log"), bin, append([]string{"-conf", c.conf}, args...)...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		for _, bad := range []string{"panic: ", "Recovered from panic", "WARNING: DATA RACE"} {
			if strings.Contains(c.Log(), bad) && !c.Panics {
				t.Errorf("%q in the log of coredns", bad)
			}
		}
		if t.Failed() {
			t.Log(Tail(c.log))
		}
	})
}

// Stop stops coredns before the end of the test.
func (c *CoreDNS) Stop() { c.stop(syscall.SIGTERM, 10*time.Second) }

// Write saves a new Corefile. Reload makes the running coredns load it.
func (c *CoreDNS) Write(t testing.TB, corefile string) {
	t.Helper()
	WriteFile(t, c.conf, c.Fill(corefile))
}

// Fill replaces the placeholders of Run in a text with the addresses of c.
func (c *CoreDNS) Fill(corefile string) string {
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	return strings.NewReplacer("PORT", port(c.Addr), "OTHER", port(c.Other), "READY", c.ready, "METRICS", c.metrics,
		"DIR", filepath.Dir(c.conf)).Replace(corefile)
}

// Path returns the path of a file in the working directory of c.
func (c *CoreDNS) Path(name string) string { return filepath.Join(filepath.Dir(c.conf), name) }

// Reload makes coredns read its Corefile again.
func (c *CoreDNS) Reload(t testing.TB) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
}

// Ready returns the reply of the ready plugin: whether everything is ready, and if not, what is
// missing.
func (c *CoreDNS) Ready() (bool, string) {
	if c.Ended() {
		return false, "coredns ended"
	}
	code, body, err := get("http://" + c.ready + "/ready")
	if err != nil {
		return false, err.Error()
	}
	return code == http.StatusOK, body
}

// WaitReady waits until coredns serves and the ready plugin is ready, for 20 seconds at most.
func (c *CoreDNS) WaitReady(t testing.TB) {
	t.Helper()
	c.WaitServing(t)
	Eventually(t, 20*time.Second, c.Ready)
}

// WaitServing waits, for 20 seconds at most, until every socket is open, which may be a little after the ready plugin
// is ready. coredns prints its version when it has opened the last one.
func (c *CoreDNS) WaitServing(t testing.TB) {
	t.Helper()
	Eventually(t, 20*time.Second, func() (bool, string) {
		if c.Ended() {
			t.Fatalf("coredns ended: %v", c.err)
		}
		return strings.Contains(c.Log(), "\nCoreDNS-"), "the version in coredns's log"
	})
}

// Log returns the whole output of coredns.
func (c *CoreDNS) Log() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Metric returns the sum of a counter or gauge over the series whose labels include the given name, value pairs. It is
// 0 if there are none.
func (c *CoreDNS) Metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	var sum float64
	for _, m := range c.Series(t, name) {
		have := map[string]string{}
		for _, l := range m.GetLabel() {
			have[l.GetName()] = l.GetValue()
		}
		match := true
		for i := 0; i < len(labels); i += 2 {
			match = match && have[labels[i]] == labels[i+1]
		}
		if match {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// Series returns the samples of one metric family.
func (c *CoreDNS) Series(t testing.TB, name string) []*dto.Metric {
	t.Helper()
	code, body, err := get("http://" + c.metrics + "/metrics")
	if err != nil || code != http.StatusOK {
		t.Fatalf("metrics: %d %v", code, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return families[name].GetMetric()
}

// MetricsAddr is the address of the prometheus plugin.
func (c *CoreDNS) MetricsAddr() string { return c.metrics }

// PID is the process id.
func (c *CoreDNS) PID() int { return c.cmd.Process.Pid }

// FDs counts the open file descriptors of the process.
func (c *CoreDNS) FDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Memory returns the resident memory of the process and its peak so far, in bytes.
func (c *CoreDNS) Memory(t testing.TB) (now, peak int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &now)
		fmt.Sscanf(line, "VmHWM: %d kB", &peak)
	}
	return now << 10, peak << 10
}
