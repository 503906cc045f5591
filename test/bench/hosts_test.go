package bench

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const million = 1_000_000

func hostName(i int) string { return fmt.Sprintf("host-%d.example.org.", i) }

// hostsFile writes a hosts file with n names into dir and returns its path. Files of different editions have different
// addresses.
func hostsFile(t testing.TB, dir string, n, edition int) string {
	t.Helper()
	return lines(t, filepath.Join(dir, fmt.Sprintf("hosts-%d", edition)), n, func(w *bufio.Writer, i int) {
		fmt.Fprintf(w, "%s %s\n", podIP(i+edition<<23), strings.TrimSuffix(hostName(i), "."))
	})
}

func lines(t testing.TB, path string, n int, write func(w *bufio.Writer, i int)) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for i := range n {
		write(w, i)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// hostsStanza serves a hosts file with the stock plugin or kubehosts, with additional options.
func hostsStanza(name, path, options string) string {
	if name == "hosts" {
		return "hosts " + path + " {\n" + options + "\n}"
	}
	return name + " {\nhosts " + path + "\n}"
}

// hostsFiles measures servers with a hosts file of 1,000,000 names, beside dnsmasq and unbound.
func hostsFiles(t *testing.T) {
	dnsmasq, unbound := tool(t, "dnsmasq", "dnsmasq-base"), tool(t, "unbound", "unbound")
	dir := t.TempDir()
	path := hostsFile(t, dir, million, 0)
	progress("hosts file of %d names: dnsmasq and unbound", million)
	dnsmasqRSS, dnsmasqTook := other(t, dnsmasq, func(port int) []string {
		return []string{"-k", "-C", "/dev/null", "-p", fmt.Sprint(port), "-a", "127.0.0.1", "-z", "-R", "-h", "-H", path, "-u", "root", "-x", "", "-8", "/dev/null"}
	})
	unboundRSS, unboundTook := other(t, unbound, func(port int) []string {
		return []string{"-d", "-c", unboundConf(t, dir, port)}
	})

	rss, took := map[string]float64{}, map[string][]float64{}
	for _, name := range []string{"hosts", "kubehosts"} {
		progress("hosts file of %d names: %s", million, name)
		for i := range 3 {
			start := time.Now()
			c := launch(t, name, hostsStanza(name, path, ""))
			ask := cluster.Dial(t, "udp", c.Addr)
			waitFor(t, 5*time.Minute, func() bool { return answered(ask, hostName(million-1), podIP(million-1)) })
			took[name] = append(took[name], time.Since(start).Seconds())
			if i == 0 {
				time.Sleep(settle)
				now, _ := c.Memory(t)
				rss[name] = float64(now)
			}
			c.Stop()
		}
	}
	table.add("RSS with a hosts file of 1,000,000 names, unbound "+mb(unboundRSS), mb(rss["hosts"]), mb(rss["kubehosts"]),
		times(rss["hosts"]/rss["kubehosts"]), "< dnsmasq's "+mb(dnsmasqRSS), rss["kubehosts"] < dnsmasqRSS)
	stock, ours := median(took["hosts"]), median(took["kubehosts"])
	table.add(fmt.Sprintf("start to the first answer out of it, dnsmasq %.2f s, unbound %.2f s", dnsmasqTook.Seconds(), unboundTook.Seconds()),
		fmt.Sprintf("%.2f s", stock), fmt.Sprintf("%.2f s", ours), times(stock/ours), "less than stock", ours < stock)
	quiet, reload := reloading(t, "hosts", dir)
	quietOurs, reloadOurs := reloading(t, "kubehosts", dir)
	text := func(quiet, reload float64) string { return fmt.Sprintf("%.0f µs, quiet %.0f µs", reload, quiet) }
	table.add("p99 of an answer while it loads the file again, every second", text(quiet, reload), text(quietOurs, reloadOurs),
		fmt.Sprintf("%.1f, stock %.1f", reloadOurs/quietOurs, reload/quiet), "≤ 2 times quiet", reloadOurs <= 2*quietOurs)
}

// answered reports whether the answer to name is one A record with that address.
func answered(c *cluster.Client, name, address string) bool {
	m, err := c.Ask(name, dns.TypeA)
	if err != nil || len(m.Answer) != 1 {
		return false
	}
	a, ok := m.Answer[0].(*dns.A)
	return ok && a.A.String() == address
}

// other starts another DNS server and returns its resident memory when it answers, and how long that took.
func other(t *testing.T, bin string, args func(port int) []string) (rss float64, took time.Duration) {
	t.Helper()
	port := cluster.FreePort()
	arguments := args(port)
	start := time.Now()
	p, err := cluster.Spawn(t.TempDir(), filepath.Join(t.TempDir(), "log"), bin, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	waitFor(t, 5*time.Minute, func() bool {
		c := cluster.Dial(t, "udp", fmt.Sprintf("127.0.0.1:%d", port))
		defer c.Close()
		return answered(c, hostName(million-1), podIP(million-1))
	})
	took = time.Since(start)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var kb int
	for line := range strings.Lines(string(b)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &kb)
	}
	return float64(kb) * 1024, took
}

// unboundConf is a configuration with the lines of the hosts file as local data.
func unboundConf(t *testing.T, dir string, port int) string {
	t.Helper()
	return lines(t, filepath.Join(dir, "unbound.conf"), million+1, func(w *bufio.Writer, i int) {
		if i == 0 {
			fmt.Fprintf(w, "server:\ninterface: 127.0.0.1@%d\nport: %d\nnum-threads: 1\nusername: \"\"\nchroot: \"\"\npidfile: \"\"\nuse-syslog: no\ndo-daemonize: no\nlocal-zone: example.org. static\n", port, port)
			return
		}
		fmt.Fprintf(w, "local-data: \"%s A %s\"\nlocal-data-ptr: \"%s %s\"\n", hostName(i-1), podIP(i-1), podIP(i-1), hostName(i-1))
	})
}

// reloading returns the p99 latency of answers in microseconds, first without changes, and then while the file changes
// every second.
func reloading(t *testing.T, name, dir string) (quiet, reload float64) {
	t.Helper()
	progress("hosts file of %d names: %s answers while it reloads", million, name)
	editions := []string{hostsFile(t, dir, million, 0), hostsFile(t, dir, million, 1)}
	path := filepath.Join(dir, name)
	replace := func(i int) {
		if err := os.Link(editions[i%2], path+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	replace(0)
	c, _ := run(t, name, hostsStanza(name, path, "reload 500ms"))
	defer c.Stop()
	ask := cluster.Dial(t, "udp", c.Addr)
	edition := func(i int) func() bool {
		return func() bool { return answered(ask, hostName(7), podIP(7+i%2<<23)) }
	}
	waitFor(t, 5*time.Minute, edition(0))
	questions := make([]*dns.Msg, 1000)
	for i := range questions {
		questions[i] = new(dns.Msg).SetQuestion(hostName(i*997), dns.TypeA)
	}
	const window = 10 * time.Second
	quiet = quantile(latencies(t, c.Addr, questions, askRate, window), 0.99)

	end, done := make(chan struct{}), make(chan int)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := 1; ; i++ {
			replace(i)
			select {
			case <-tick.C:
			case <-end:
				done <- i
				return
			}
		}
	}()
	reload = quantile(latencies(t, c.Addr, questions, askRate, window), 0.99)
	close(end)
	waitFor(t, 5*time.Minute, edition(<-done)) // else the server has not read the file
	return quiet, reload
}
