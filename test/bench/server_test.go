package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// The servers to compare, by plugin, built by `make bench`.
var binaries = map[string]string{
	"kubehosts":  "../../coredns",
	"kubernetes": "../bin/stock",
	"hosts":      "../bin/stock",
	"constant":   "../bin/floor",
}

// program is the full path of the server with the plugin.
func program(t testing.TB, plugin string) string {
	t.Helper()
	path, err := filepath.Abs(binaries[plugin])
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: `make bench` builds it", err)
	}
	return path
}

// block is a server block with the stanza of a plugin. The ready plugin reports when it serves.
func block(stanza string) string { return ".:PORT {\nbind 127.0.0.1\nready READY\n" + stanza + "\n}\n" }

// launch starts a server and does not wait; it ends with the test, or by Stop.
func launch(t testing.TB, plugin, stanza string) *cluster.CoreDNS {
	t.Helper()
	if plugin == "constant" {
		_, stanza, _ = strings.Cut(stanza, "}") // the lines after the stanza of a plugin
		return cluster.Launch(t, program(t, plugin), ".:PORT {\nbind 127.0.0.1\nconstant\n"+stanza+"\n}\n")
	}
	return cluster.Launch(t, program(t, plugin), block(stanza))
}

// run starts a server, waits until it is ready, and returns how long that took.
func run(t testing.TB, plugin, stanza string) (*cluster.CoreDNS, time.Duration) {
	t.Helper()
	start := time.Now()
	c := launch(t, plugin, stanza)
	if plugin != "constant" {
		waitFor(t, 5*time.Minute, func() bool { ok, _ := c.Ready(); return ok })
	}
	took := time.Since(start)
	waitFor(t, 5*time.Minute, func() bool { return strings.Contains(c.Log(), "\nCoreDNS-") }) // every socket is open
	return c, took
}

// realServer starts an etcd and a kube-apiserver, which end with the test.
func realServer(ctx context.Context, t *testing.T) *cluster.API {
	t.Helper()
	kube, err := cluster.Kube()
	if err != nil {
		t.Fatal(err)
	}
	a, err := cluster.Start(ctx, kube, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	return a
}

// waitFor calls ok every five milliseconds until it returns true.
func waitFor(t testing.TB, bound time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); !ok(); <-tick.C {
		if time.Since(start) > bound {
			t.Fatalf("not within %v", bound)
		}
	}
}

// tool returns the path of a program from Debian, or fails the test.
func tool(t testing.TB, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		t.Fatalf("%s is missing: apt-get install --no-install-recommends %s", name, debian)
	}
	return path
}

// anonymous is the process's anonymous memory, RssAnon, in bytes: without the pages of its executable, which the kernel
// may drop.
func anonymous(t testing.TB, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var kb int
	for line := range bytes.Lines(b) {
		fmt.Sscanf(string(line), "RssAnon: %d kB", &kb)
	}
	return float64(kb) * 1024
}

// peak samples the memory of a process every five milliseconds until stop is called, which returns the maximum.
func peak(t testing.TB, pid int) (stop func() float64) {
	end, most := make(chan struct{}), make(chan float64)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var top float64
		for {
			top = max(top, anonymous(t, pid))
			select {
			case <-end:
				most <- top
				return
			case <-tick.C:
			}
		}
	}()
	return func() float64 { close(end); return <-most }
}
