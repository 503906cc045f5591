package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// settle is how long a process runs before its memory is measured: it takes the collector some seconds to return the
// memory that a start needed.
const settle = 30 * time.Second

// held is the memory of a server at stages of its life, in bytes of RssAnon.
type held struct{ empty, start, steady, relist float64 }

// memory measures the memory of a server for a cluster of 8,000 Services with 80,000 endpoints.
func memory(t *testing.T) {
	empty, full := serve(t, 0, 0), serve(t, manyServices, 0)
	stock, ours := life(t, "kubernetes", empty, full), life(t, "kubehosts", empty, full)
	a, b := stock.steady-stock.empty, ours.steady-ours.empty
	table.add("RssAnon beyond an empty server, 8,000 Services, 80,000 endpoints", mb(a), mb(b), times(a/b), "a fifth of stock's", b <= a/5)
	table.add("RssAnon of the whole process, steady (empty)", fmt.Sprintf("%s (%s)", mb(stock.steady), mb(stock.empty)),
		fmt.Sprintf("%s (%s)", mb(ours.steady), mb(ours.empty)), times(stock.steady/ours.steady), "", false)
	peakRow("its peak during the start", stock.start, stock.steady, ours.start, ours.steady)
	peakRow("its peak while everything is listed again", stock.relist, stock.steady, ours.relist, ours.steady)
}

// peakRow adds a row with the peak memory of stock (a) and kubehosts (b), beside their later memory. Without a, stock
// can't do the same.
func peakRow(what string, a, steadyA, b, steadyB float64) {
	text := func(peak, steady float64) string { return fmt.Sprintf("%s, %.2f times steady", mb(peak), peak/steady) }
	stock, ratio := "", ""
	if a > 0 {
		stock, ratio = text(a, steadyA), times(a/b)
	}
	table.add(what, stock, text(b, steadyB), ratio, "< 1.3 times steady", b < 1.3*steadyB)
}

// begin starts a server and lets it run for a while. It returns the server's peak memory in that time, and its memory
// at the end.
func begin(t *testing.T, name, stanza string) (c *cluster.CoreDNS, most, steady float64) {
	t.Helper()
	c = launch(t, name, stanza)
	stop := peak(t, c.PID())
	c.WaitReady(t)
	time.Sleep(settle)
	return c, stop(), anonymous(t, c.PID())
}

// life starts a server, first without and then with objects, and makes it list them again.
func life(t *testing.T, name string, empty, full *objectServer) (h held) {
	t.Helper()
	progress("memory of %s", name)
	c, _ := run(t, name, kubeStanza(name, empty.kubeconfig(t)))
	time.Sleep(settle)
	h.empty = anonymous(t, c.PID())
	c.Stop()

	c, h.start, h.steady = begin(t, name, kubeStanza(name, full.kubeconfig(t)))
	stop := peak(t, c.PID())
	streams := full.sent() + len(paths)
	full.forget()
	waitFor(t, 2*time.Minute, func() bool { return full.sent() >= streams })
	time.Sleep(10 * time.Second) // the server is still processing the objects
	h.relist = stop()
	c.Stop()
	return h
}

// start measures the time from a server's start until it is ready.
func start(t *testing.T) {
	kubeconfig := serve(t, manyServices, 0).kubeconfig(t)
	took := map[string][]float64{}
	for i := range rounds {
		progress("start, round %d of %d", i+1, rounds)
		for _, name := range []string{"kubernetes", "kubehosts"} {
			c, d := run(t, name, kubeStanza(name, kubeconfig))
			took[name] = append(took[name], d.Seconds())
			c.Stop()
		}
	}
	stock, ours := median(took["kubernetes"]), median(took["kubehosts"])
	table.add("start to ready, 8,000 Services, 80,000 endpoints", fmt.Sprintf("%.2f s", stock), fmt.Sprintf("%.2f s", ours),
		times(stock/ours), "half of stock's", ours <= stock/2)
}
