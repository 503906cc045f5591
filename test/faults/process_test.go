package faults

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// logReader waits for lines of a growing log, without reading it from the start each time.
type logReader struct {
	file *bufio.Reader
	rest string
}

func readLog(t *testing.T, c *cluster.CoreDNS) *logReader {
	t.Helper()
	f, err := os.Open(c.Path("coredns.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &logReader{file: bufio.NewReader(f)}
}

// await reads on to a line that contains one of the words.
func (l *logReader) await(t *testing.T, words ...string) (line string) {
	t.Helper()
	cluster.Eventually(t, bound, func() (bool, string) {
		for {
			part, err := l.file.ReadString('\n')
			l.rest += part
			if err != nil {
				return false, fmt.Sprintf("a line with one of %q", words)
			}
			line, l.rest = l.rest, ""
			for _, w := range words {
				if strings.Contains(line, w) {
					return true, ""
				}
			}
		}
	})
	return line
}

// held is the resources of a process that must not grow. bytes is the heap in use, without garbage: the process lets
// much garbage accumulate, and objects with a finalizer are only freed by the second collection.
type held struct{ files, goroutines, bytes int }

func holds(t *testing.T, c *cluster.CoreDNS) held {
	t.Helper()
	for range 2 {
		res, err := http.Get("http://127.0.0.1" + c.Other[strings.LastIndexByte(c.Other, ':'):] + "/debug/pprof/heap?gc=1")
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		if res.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return held{c.FDs(t), int(c.Metric(t, "go_goroutines")), int(c.Metric(t, "go_memstats_heap_alloc_bytes"))}
}

// check allows for variation: connections, and allocations for each query and each change.
func (h held) check(t *testing.T, c *cluster.CoreDNS) {
	t.Helper()
	now := holds(t, c)
	resident, _ := c.Memory(t)
	t.Logf("files %d to %d, goroutines %d to %d, heap in use %.1f to %.1f MiB, %d MiB resident", h.files, now.files, h.goroutines, now.goroutines,
		float64(h.bytes)/(1<<20), float64(now.bytes)/(1<<20), resident>>20)
	const few, much = 20, 8 << 20
	if stock {
		return
	}
	if now.files > h.files+few || now.goroutines > h.goroutines+few || now.bytes > h.bytes+much {
		t.Errorf("%+v, were %+v", now, h)
	}
}

// The Corefile is reloaded again and again; now and then it is broken. The watches continue. They also continue during
// edits of the ConfigMap.
func TestReload(t *testing.T) {
	t.Parallel()
	tr := changes(t)
	who := account(t)
	text := corefileOf(cluster.Kubeconfig(t, api(t).URL, who.Token), "snapshot DIR/snapshot", theConfigMap)
	setConfigMap(t, configMap(0, ""))
	t.Cleanup(func() { api(t).RemoveConfigMap(t, "coredns") })
	c := cluster.Run(t, coredns(t), text)
	a := ask(t, c.Addr, tr)
	a.heal(t)
	log := readLog(t, c)
	reload := func(i int) {
		want := "Reloading complete"
		if i%10 == 9 {
			c.Write(t, strings.Replace(text, "kubeconfig", "bogus\nkubeconfig", 1))
			want = "Restart failed"
		} else if i%10 == 0 {
			c.Write(t, text)
		}
		c.Reload(t)
		if line := log.await(t, "Reloading complete", "Restart failed"); !strings.Contains(line, want) {
			t.Fatalf("reload %d: %s, want %s", i, line, want)
		}
	}
	for i := range 20 {
		reload(i)
	}
	requests := watches(t, who)
	before := holds(t, c)
	a.counted(t, fmt.Sprintf("%d reloads of the Corefile, each tenth broken", reloads), func() time.Duration {
		start := time.Now()
		for i := range reloads {
			reload(i)
		}
		t.Logf("%d reloads in %v", reloads, time.Since(start).Round(time.Millisecond))
		return a.heal(t)
	})
	before.check(t, c)
	if stock { // stock follows no ConfigMap
		return
	}

	before = holds(t, c)
	a.counted(t, "200 edits of the ConfigMap, every other one wrong", func() time.Duration {
		for i := range 200 {
			wrong := ""
			if i%2 == 0 {
				wrong = "bogus\n"
			}
			setConfigMap(t, configMap(i, wrong))
		}
		return a.heal(t)
	})
	before.check(t, c)
	if now := watches(t, who); now != requests {
		t.Errorf("%d lists and watches, were %d before: something was listed again", now, requests)
	}
}

// watches counts the lists and watches in the API server's log.
func watches(t *testing.T, who cluster.Account) (n int) {
	t.Helper()
	for _, r := range api(t).Audit(t, who) {
		if r.Verb == "list" || r.Verb == "watch" {
			n++
		}
	}
	return n
}

func setConfigMap(t *testing.T, text string) {
	t.Helper()
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": text})
}

// The volume of the snapshot is full: the previous file stays intact, one line reports it, and writing resumes when
// there is room.
func TestSnapshotVolume(t *testing.T) {
	t.Parallel()
	tr := changes(t)
	dir := t.TempDir()
	// A volume of its own, which is unmounted when the process ends.
	script := filepath.Join(t.TempDir(), "coredns")
	err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec unshare --mount --map-root-user sh -c 'mount -t tmpfs -o size=64k tmpfs %s && exec %s \"$@\"' sh \"$@\"\n", dir, coredns(t)), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.Run(t, script, corefileOf(cluster.Kubeconfig(t, api(t).URL, account(t).Token), "snapshot "+dir+"/snapshot"))
	a := ask(t, c.Addr, tr)
	cluster.Eventually(t, bound, func() (bool, string) {
		return c.Metric(t, "coredns_kubehosts_snapshot_size_bytes") > 0, "a snapshot"
	})
	inside := fmt.Sprintf("/proc/%d/root%s/", c.PID(), dir)
	a.counted(t, "the volume of the snapshot is full", func() time.Duration {
		filler, err := os.Create(inside + "filler")
		if err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 512); err == nil; { // up to the last page
			_, err = filler.Write(buf)
		}
		filler.Close()
		log := readLog(t, c)
		if line := log.await(t, "Snapshot not written"); !strings.Contains(line, "no space left on device") {
			t.Errorf("the log says %s", line)
		}
		whole(t, inside+"snapshot")
		if err := os.Remove(inside + "filler"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		log.await(t, "snapshot is written again")
		healed := time.Since(start)
		whole(t, inside+"snapshot")
		return healed
	})
	if n := strings.Count(c.Log(), "Snapshot not written"); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
	left, err := filepath.Glob(inside + ".*")
	if err != nil || len(left) > 0 {
		t.Errorf("left beside the snapshot: %v %v", left, err)
	}
}

// whole asserts that a file is a complete snapshot.
func whole(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil || !strings.Contains(string(b), `"name":"web"`) {
		t.Errorf("%s: %v, %d bytes", path, err, len(b))
	}
}
