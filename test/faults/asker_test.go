package faults

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// asker sends queries to one server, 1,600 a second if the machine is not too busy, and checks the
// answers.
type asker struct {
	truth *truth
	stop  chan struct{}
	wg    sync.WaitGroup

	asked, failed, wrong atomic.Int64
	seen                 atomic.Int64 // the newest change that was answered

	mu   sync.Mutex
	said []string // the first errors
}

// ask starts sending queries to the server at addr over UDP, until the end of the test.
func ask(t *testing.T, addr string, tr *truth) *asker {
	t.Helper()
	return askOver(t, "udp", addr, tr)
}

func askOver(t *testing.T, network, addr string, tr *truth) *asker {
	t.Helper()
	a := &asker{truth: tr, stop: make(chan struct{})}
	for range 2 {
		c := cluster.Dial(t, network, addr)
		a.wg.Go(func() { a.run(c) })
	}
	t.Cleanup(a.end)
	return a
}

func (a *asker) end() {
	select {
	case <-a.stop:
	default:
		close(a.stop)
	}
	a.wg.Wait()
}

func (a *asker) run(c *cluster.Client) {
	tick := time.NewTicker(1250 * time.Microsecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-a.stop:
			return
		case <-tick.C:
		}
		name := [...]string{a.truth.name(), still, nobody, entry}[i%4]
		asked := time.Now()
		m, err := c.Ask(name, dns.TypeA)
		a.asked.Add(1)
		switch {
		case err != nil:
			a.failed.Add(1)
			a.say("%v", err)
		case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
			a.failed.Add(1)
			a.say("%s: %s", name, dns.RcodeToString[m.Rcode])
		default:
			a.judge(name, asked, m)
		}
	}
}

func (a *asker) judge(name string, asked time.Time, m *dns.Msg) {
	got := "NXDOMAIN"
	if m.Rcode == dns.RcodeSuccess {
		got = "NODATA"
	}
	if len(m.Answer) == 1 {
		if rr, ok := m.Answer[0].(*dns.A); ok {
			got = rr.A.String()
		}
	}
	if want, ok := map[string]string{still: stillIP, nobody: "NXDOMAIN", entry: entryIP}[name]; ok {
		if got != want {
			a.wrong.Add(1)
			a.say("%s is %s, want %s", name, got, want)
		}
		return
	}
	from, to := a.truth.allowed(asked)
	for i := to; i >= from; i-- { // addresses repeat after 65,536 changes
		if got == addressOf(i) {
			for old := a.seen.Load(); int64(i) > old && !a.seen.CompareAndSwap(old, int64(i)); old = a.seen.Load() {
			}
			return
		}
	}
	a.wrong.Add(1)
	a.say("%s is %s, want %s to %s", name, got, addressOf(from), addressOf(to))
}

func (a *asker) say(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.said) < 5 {
		a.said = append(a.said, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// healed returns how long it took until the server answered a change that was stored after now, and whether that was
// within bound.
func (a *asker) healed() (time.Duration, bool) {
	start, before := time.Now(), a.truth.newest()
	for tick := time.Tick(10 * time.Millisecond); int(a.seen.Load()) <= before; <-tick {
		if time.Since(start) > bound {
			return bound, false
		}
	}
	return time.Since(start), true
}

// heal waits until the server answers a change that was stored after now, and returns how long that took. It then waits
// for another change: the first may come from a list whose watch has not begun.
func (a *asker) heal(t *testing.T) time.Duration {
	t.Helper()
	took := a.awaitChange(t)
	a.awaitChange(t)
	return took
}

func (a *asker) awaitChange(t *testing.T) time.Duration {
	t.Helper()
	before := a.truth.newest()
	return cluster.Eventually(t, bound, func() (bool, string) {
		newest, seen := a.truth.newest(), int(a.seen.Load())
		return newest > before && seen > before, fmt.Sprintf("change %d is stored, %d is answered, there were %d", newest, seen, before)
	})
}

// fault breaks something for the duration lasts, repairs it, waits until the server has healed, and adds a row to the
// table.
func (a *asker) fault(t *testing.T, name string, breakIt, repair func()) {
	t.Helper()
	a.counted(t, name, func() time.Duration {
		a.truth.hold()
		breakIt()
		<-time.After(lasts)
		repair()
		healed := a.heal(t)
		a.truth.release()
		return healed
	})
}

// tally is the number of queries and results up to some time.
type tally struct {
	asked, failed, wrong int64
	at                   time.Time
}

func (a *asker) tally() tally {
	return tally{a.asked.Load(), a.failed.Load(), a.wrong.Load(), time.Now()}
}

// since returns the row of the table for the queries since an earlier tally.
func (a *asker) since(before tally, name string, healed time.Duration) row {
	now := a.tally()
	r := row{fault: name, asked: now.asked - before.asked, failed: now.failed - before.failed, wrong: now.wrong - before.wrong, heal: healed}
	r.rate = float64(r.asked) / now.at.Sub(before.at).Seconds()
	return r
}

// counted adds a row to the table for the queries sent while do runs.
func (a *asker) counted(t *testing.T, name string, do func() (healed time.Duration)) {
	t.Helper()
	before := a.tally()
	r := a.since(before, name, do())
	table.add(r)
	if !stock && (r.asked == 0 || r.failed != 0 || r.wrong != 0) {
		a.mu.Lock()
		defer a.mu.Unlock()
		t.Errorf("%s: %d queries, %d failed, %d wrong: %q", name, r.asked, r.failed, r.wrong, a.said)
	}
}
