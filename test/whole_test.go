package test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// A whole Corefile, live. ADDRESS is the address of liveName, from kubehosts, and TEXT the text of editName, from the
// plugin template.
const wholeCorefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	kubehosts cluster.local {
		kubeconfig KUBECONFIG
		hosts {
			ADDRESS live.example.org
		}
	}
	template IN TXT edit.example.org {
		answer "edit.example.org 60 IN TXT TEXT"
	}
}
`

const editName = "edit.example.org."

// wholeFollower is a coredns whose Corefile is the ConfigMap kube-system/coredns.
type wholeFollower struct {
	*cluster.CoreDNS
	who        cluster.Account
	kubeconfig string
	args       []string
}

// prepareWhole prepares a coredns with the given flags. Its mounted file has the address 192.0.2.2 and the text
// "mounted". The objects of the Services exist, but no ConfigMap.
func prepareWhole(t *testing.T, args ...string) *wholeFollower {
	t.Helper()
	for _, name := range []string{"coredns", "coredns-last-good", "coredns-custom"} {
		api(t).RemoveConfigMap(t, name)
		t.Cleanup(func() { api(t).RemoveConfigMap(t, name) })
	}
	objects(t, shop)
	f := &wholeFollower{who: account(t), args: append([]string{"-configmap", "kube-system/coredns"}, args...)}
	api(t).GrantConfigMap(t, "coredns-custom")
	f.kubeconfig = cluster.Kubeconfig(t, api(t).URL, f.who.Token)
	t.Setenv("KUBECONFIG", f.kubeconfig)
	f.CoreDNS = cluster.Prepare(t, "")
	f.Write(t, f.corefile("192.0.2.2", "mounted"))
	return f
}

// start starts coredns and waits until it is ready.
func (f *wholeFollower) start(t *testing.T) {
	t.Helper()
	f.Start(t, coredns(t), f.args...)
	f.WaitReady(t)
}

// corefile is a valid one.
func (f *wholeFollower) corefile(ip, text string) string {
	return f.Fill(strings.NewReplacer("ADDRESS", ip, "TEXT", text, "KUBECONFIG", f.kubeconfig).Replace(wholeCorefile))
}

// textRecord queries the only TXT record of a name.
func textRecord(c *cluster.Client, name string) (string, error) {
	m, err := c.Ask(name, dns.TypeTXT)
	if err != nil {
		return "", err
	}
	if len(m.Answer) == 1 {
		if txt, ok := m.Answer[0].(*dns.TXT); ok {
			return strings.Join(txt.Txt, ""), nil
		}
	}
	return "", fmt.Errorf("not one text of %s: %s", name, cluster.Text(m))
}

// await queries until both names have the values of a Corefile, and returns how long it took.
func (f *wholeFollower) await(t *testing.T, c *cluster.Client, ip, text string) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		gotIP, errIP := address(c, liveName)
		got, err := textRecord(c, editName)
		if gotIP == ip && got == text {
			return time.Since(start)
		}
		if time.Since(start) > bound {
			t.Fatalf("%s is %q, want %q (%v); %s is %q, want %q (%v)", liveName, gotIP, ip, errIP, editName, got, text, err)
		}
		<-tick.C
	}
}

func (f *wholeFollower) awaitLog(t *testing.T, what string) {
	t.Helper()
	cluster.Eventually(t, 45*time.Second, func() (bool, string) {
		return strings.Contains(f.Log(), what), fmt.Sprintf("%q in the log", what)
	})
}

func (f *wholeFollower) awaitRejected(t *testing.T, want float64) {
	t.Helper()
	cluster.Eventually(t, bound, func() (bool, string) {
		n := f.Metric(t, "coredns_kubehosts_corefile_rejected_total")
		return n == want, fmt.Sprintf("%v Corefiles refused, want %v", n, want)
	})
}

// Every edit of the ConfigMap is served at once: an edit of kubehosts stanzas in place, without a restart, any other
// with one. An invalid edit changes nothing, and its error has the line.
func TestWholeEdits(t *testing.T) {
	f := prepareWhole(t)
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile("10.9.9.9", "text0")})
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, "10.9.9.9", "text0") // not the mounted one
	restarts := func() int { return strings.Count(f.Log(), "Reloading complete") }
	took := map[string][]time.Duration{}
	for i := 1; i <= 60; i++ {
		before, how := restarts(), "in_place"
		text := fmt.Sprintf("text%d", i/3)
		if i%3 == 0 {
			how = "restart"
		}
		n := f.Metric(t, "coredns_kubehosts_corefile_applied_total", "how", how)
		api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile(editIP(i), text)})
		took[how] = append(took[how], f.await(t, c, editIP(i), text))
		cluster.Eventually(t, bound, func() (bool, string) {
			got := f.Metric(t, "coredns_kubehosts_corefile_applied_total", "how", how)
			return got == n+1, fmt.Sprintf("%v edits applied (%s), want %v", got, how, n+1)
		})
		if got := restarts() - before; got != 0 && how == "in_place" {
			t.Fatalf("edit %d: %d restarts for an edit of a stanza", i, got)
		}
	}
	for how, all := range took {
		slices.Sort(all)
		t.Logf("%s: from stored to answered p50 %v, p99 %v of %d", how, all[len(all)/2], all[len(all)*99/100], len(all))
	}
	if n := f.Metric(t, "coredns_kubehosts_corefile_rejected_total"); n != 0 {
		t.Errorf("%v Corefiles refused", n)
	}
}

// Broken Corefiles, each with an address and a text that must never be answered, and a part of its error.
var brokenWholes = []struct {
	of   func(good string) string
	says string
}{
	{func(good string) string { return strings.Replace(good, "\terrors\n", "\terrors\n\tbogus\n", 1) }, "key Corefile:4 - Unknown directive 'bogus'"},
	{func(good string) string { return strings.Replace(good, "hosts {", "hosts {\n\t\t\tttl never", 1) }, "key Corefile:9 - plugin/kubehosts: ttl needs a number"},
	{func(good string) string {
		return strings.Replace(good, "IN TXT edit.example.org {", "IN TXT edit.example.org {\n\t\tmatch (", 1)
	}, "key Corefile:13 - plugin/template: "},
	{func(good string) string { return good[:strings.Index(good, "\t\tanswer")] }, "key Corefile:12 - Unexpected EOF"},
	{func(good string) string { return strings.Replace(good, " {", "{", 1) }, "key Corefile:1 - "},
	{func(good string) string {
		return strings.Replace(good, "\terrors\n", "\terrors\n\timport nowhere\n", 1)
	}, "key Corefile:4 - import nowhere"},
	{func(good string) string { return good + good }, "it is already defined"},
	{func(string) string { return "example.org {\n forward\n}\n" }, "key Corefile:2 - plugin/forward"},
	{func(good string) string {
		return strings.Replace(good, "\terrors\n", "\tforward . 127.0.0.1"+good[1:strings.Index(good, " ")]+"\n", 1)
	}, "key Corefile:3 - forward sends queries back to this server block"},
}

// load sends 1,000 queries a second over UDP, and counts those that fail and those with a wrong answer: one from no
// edit, from an edit not stored yet, or from an edit before the newest one seen.
type load struct {
	asked, failed, wrong atomic.Int64
	stored               atomic.Int64          // the newest edit
	restarts             func(edit int64) bool // reports whether an edit restarts the server blocks; nil if none does
	stop                 func()                // and waits
}

func (l *load) run(t *testing.T, addr string) {
	t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	l.stop = sync.OnceFunc(func() { close(stop); wg.Wait() })
	const clients, rate = 10, 1000
	for range clients {
		c := cluster.Dial(t, "udp", addr)
		wg.Go(func() {
			tick := time.NewTicker(time.Second * clients / rate)
			defer tick.Stop()
			seen := int64(0)
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				ip, err := address(c, liveName)
				edit, ok := editOf(ip)
				l.asked.Add(1)
				switch {
				case err != nil:
					l.failed.Add(1)
					t.Logf("%s is %q: %v", liveName, ip, err)
				case !ok || l.stale(int64(edit), seen) || int64(edit) > l.stored.Load():
					l.wrong.Add(1)
					t.Logf("%s is %q, of edit %d, after that of %d", liveName, ip, edit, seen)
				default:
					seen = int64(edit)
				}
			}
		})
	}
	t.Cleanup(l.stop)
}

// stale reports whether an answer is of an edit before the newest one seen. While CoreDNS restarts its server blocks,
// the servers before and after it both read, so the edit just before a restart may answer once more.
func (l *load) stale(edit, seen int64) bool {
	overlap := l.restarts != nil && l.restarts(seen) && edit == seen-1
	return edit < seen && !overlap
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	t.Logf("%d questions: %d failed, %d wrong", l.asked.Load(), l.failed.Load(), l.wrong.Load())
	if l.failed.Load()+l.wrong.Load() > 0 || l.asked.Load() == 0 {
		t.Errorf("of %d questions %d failed and %d were answered wrong", l.asked.Load(), l.failed.Load(), l.wrong.Load())
	}
}

// 100 edits, a third of them broken, with 1,000 queries a second: no query fails, no answer is wrong. Each broken edit
// is refused and reported with its line: in the log, in an Event, in the gauge and in the counter.
func TestWholeEditsUnderLoad(t *testing.T) {
	f := prepareWhole(t)
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile(editIP(0), "text0")})
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, editIP(0), "text0")
	l := load{restarts: func(edit int64) bool { return edit%3 == 1 }}
	l.run(t, f.Addr)
	took := map[string][]time.Duration{}
	text, refused := "text0", 0.0
	var before, after leaks
	for i := 1; i <= 100; i++ {
		how := []string{"in_place", "restart", "broken"}[i%3]
		good := f.corefile(editIP(i), text)
		if how == "broken" {
			b := brokenWholes[i/3%len(brokenWholes)]
			refused++
			api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": b.of(good)})
			f.awaitRejected(t, refused)
			f.awaitLog(t, b.says)
			if n := f.Metric(t, "coredns_kubehosts_corefile_rejected"); n != 1 {
				t.Errorf("edit %d: the gauge is %v", i, n)
			}
			continue
		}
		if how == "restart" {
			text = fmt.Sprintf("text%d", i)
			good = f.corefile(editIP(i), text)
		}
		l.stored.Store(int64(i))
		api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": good})
		took[how] = append(took[how], f.await(t, c, editIP(i), text))
		if i == 21 {
			before = leaks{f.FDs(t), int(f.Metric(t, "go_goroutines"))}
		}
	}
	after = leaks{f.FDs(t), int(f.Metric(t, "go_goroutines"))}
	l.end(t)
	after.check(t, before)
	for how, all := range took {
		slices.Sort(all)
		t.Logf("%s: from stored to answered p50 %v, p99 %v of %d", how, all[len(all)/2], all[len(all)*99/100], len(all))
	}
	if n := f.Metric(t, "coredns_kubehosts_corefile_rejected"); n != 0 {
		t.Errorf("the gauge is %v at the end", n)
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		events, err := api(t).Client.CoreV1().Events("kube-system").List(t.Context(), meta.ListOptions{FieldSelector: "reason=CorefileRejected"})
		return err == nil && len(events.Items) > 0 && strings.Contains(events.Items[0].Message, "the last good one goes on serving"), fmt.Sprint("an Event CorefileRejected ", err)
	})
}

// A change to a Corefile without kubehosts and back loses no query; the server's sockets are closed and opened
// again.
func TestWholeWayBack(t *testing.T) {
	f := prepareWhole(t)
	with := strings.Split(strings.Replace(f.corefile(editIP(0), "text"), "\ttemplate", "}\n#", 1), "#")[0]
	without := f.Fill(".:PORT {\n bind 127.0.0.1\n errors\n ready READY\n prometheus METRICS\n hosts {\n  " + editIP(0) + " live.example.org\n  ttl 5\n }\n}\n")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": with})
	f.start(t)
	var l load
	l.run(t, f.Addr)
	for i := range 10 {
		api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": []string{without, with}[i%2]})
		cluster.Eventually(t, bound, func() (bool, string) {
			n := strings.Count(f.Log(), "applied with a restart")
			return n == i+1, fmt.Sprintf("%d restarts, want %d", n, i+1)
		})
	}
	l.end(t)
}

// If the ConfigMap's Corefile can't be used for a start, the process starts from the last good Corefile, is ready, logs
// that, and applies the next good edit.
func TestWholeStart(t *testing.T) {
	for _, tt := range []struct {
		name     string
		corefile func(f *wholeFollower) string // "" for no ConfigMap
		says     string
	}{
		{"broken", func(f *wholeFollower) string { return f.corefile("10.9.0.1", "new") + "}\n" }, "key Corefile:16 - '}' is where"},
		{"a setup that fails", func(f *wholeFollower) string {
			return strings.Replace(f.corefile("10.9.0.1", "new"), "\terrors", "\tcache 0", 1)
		}, "key Corefile:3 - plugin/cache: "},
		{"deleted", func(*wholeFollower) string { return "" }, "ConfigMap kube-system/coredns does not exist"},
		{"another key", func(*wholeFollower) string { return "-" }, "has no key Corefile"},
		{"too much", func(f *wholeFollower) string {
			return strings.Replace(f.corefile("10.9.0.1", "new"), "\terrors", "\ttls /dev/zero /dev/zero", 1)
		}, "the setup of its plugins ended the process that checked it"},
		{"a start that fails", func(f *wholeFollower) string {
			return f.corefile("10.9.0.1", "new") + "example.com:53 {\n\tbind 203.0.113.1\n}\n"
		}, "the server does not start with it: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := prepareWhole(t, "-last-good", "kube-system/coredns-last-good")
			switch corefile := tt.corefile(f); corefile {
			case "":
			case "-":
				api(t).PutConfigMap(t, "coredns", map[string]string{"other": "text"})
			default:
				api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": corefile})
			}
			api(t).PutConfigMap(t, "coredns-last-good", map[string]string{"Corefile": f.corefile("10.9.0.7", "good")})
			f.start(t)
			c := cluster.Dial(t, "udp", f.Addr)
			f.await(t, c, "10.9.0.7", "good")
			f.awaitLog(t, tt.says)
			if n := f.Metric(t, "coredns_kubehosts_corefile_info", "origin", "last-good"); n != 1 {
				t.Errorf("%v Corefiles that serve are the last good one", n)
			}
			if n := f.Metric(t, "coredns_kubehosts_corefile_rejected"); n != 1 {
				t.Errorf("the gauge is %v", n)
			}
			api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile("10.9.0.8", "repaired")})
			f.await(t, c, "10.9.0.8", "repaired")
			cluster.Eventually(t, bound, func() (bool, string) {
				n := f.Metric(t, "coredns_kubehosts_corefile_rejected")
				return n == 0 && f.Metric(t, "coredns_kubehosts_corefile_info", "origin", "configmap") == 1, fmt.Sprintf("the gauge is %v", n)
			})
			if n := strings.Count(f.Log(), "The server starts with"); n != 1 {
				t.Errorf("it is said %d times what the start was made from", n)
			}
		})
	}
}

// Without a good Corefile there is no start, but an error and an exit code.
func TestWholeNoStart(t *testing.T) {
	f := prepareWhole(t, "-last-good", "kube-system/coredns-last-good")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": ".:53 {\n bogus\n}\n"})
	f.Write(t, ".:53 {\n forward\n}\n")
	out, err := runOnce(t, append([]string{"-conf", f.Path("Corefile")}, f.args...)...)
	for _, want := range []string{"there is no Corefile to start with", "Corefile:2 - Unknown directive 'bogus'", "ConfigMap kube-system/coredns-last-good does not exist", "Corefile:2 - plugin/forward"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v, want %q in\n%s", err, want, out)
		}
	}
	for _, args := range [][]string{{"-last-good", "a/b"}, {"-configmap", "a/b/c"}, {"-configmap", "a/b", "-import", "x"}, {"-configmap", "a/b", "-conf", "stdin"}} {
		if out, err := runOnce(t, args...); err == nil || !strings.Contains(err.Error(), "status 2") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// If the API server is unreachable, the process starts from the file within a time limit, and follows the ConfigMap as
// soon as it can.
func TestWholeAPIServerAway(t *testing.T) {
	f := prepareWhole(t, "-last-good", "kube-system/coredns-last-good")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile("10.9.0.1", "new")})
	gate := api(t).Gate(t)
	gate.Mute(t)
	f.kubeconfig = cluster.Kubeconfig(t, gate.URL, f.who.Token)
	t.Setenv("KUBECONFIG", f.kubeconfig)
	f.Write(t, strings.Replace(f.corefile("192.0.2.2", "mounted"), "\t\thosts {", "\t\tstartup_timeout 100ms\n\t\thosts {", 1))
	start := time.Now()
	f.Start(t, coredns(t), f.args...)
	f.WaitServing(t)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the start took %v", took)
	}
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, "192.0.2.2", "mounted")
	if n := f.Metric(t, "coredns_kubehosts_corefile_info", "origin", "file"); n != 1 {
		t.Errorf("%v Corefiles that serve are the file", n)
	}
	gate.Open(t)
	cluster.Eventually(t, 45*time.Second, func() (bool, string) {
		ip, err := address(c, liveName)
		return ip == "10.9.0.1", fmt.Sprint(ip, err)
	})
	f.await(t, c, "10.9.0.1", "new")
}

// A Corefile that has been served for a while is stored, once, and stored again if the stored text is no longer a
// Corefile. A process that starts later begins with it.
func TestWholeLastGood(t *testing.T) {
	f := prepareWhole(t, "-last-good", "kube-system/coredns-last-good")
	api(t).PutConfigMap(t, "coredns-last-good", nil)
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile("10.9.0.1", "one")})
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, "10.9.0.1", "one")
	want := f.corefile("10.9.0.2", "one")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": want})
	f.await(t, c, "10.9.0.2", "one")
	want += "# a comment is no reason to wait for another edit\n"
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": want})
	started := time.Now()
	kept := func(want string) {
		t.Helper()
		cluster.Eventually(t, 45*time.Second, func() (bool, string) {
			cm, err := api(t).Client.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns-last-good", meta.GetOptions{})
			return err == nil && cm.Data["Corefile"] == want, fmt.Sprint("the last good Corefile ", err)
		})
	}
	kept(want)
	if took := time.Since(started); took < 25*time.Second {
		t.Errorf("it is kept after %v", took)
	}
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": "broken {\n"})
	api(t).RemoveConfigMap(t, "coredns-last-good")
	api(t).PutConfigMap(t, "coredns-last-good", map[string]string{"Corefile": "edited by hand"})
	kept(want) // the active one, though it is no longer in the ConfigMap
	f.Stop()
	f.start(t)
	f.await(t, cluster.Dial(t, "udp", f.Addr), "10.9.0.2", "one")
}

// Imports are keys of other ConfigMaps, live, including keys that are added later; an error has the ConfigMap, key
// and line.
func TestWholeImports(t *testing.T) {
	f := prepareWhole(t, "-import", "kube-system/coredns-custom=custom")
	whole := strings.Replace(f.corefile("10.9.0.1", "one"), "\terrors\n", "\terrors\n\timport custom/*.override\n\timport beside\n", 1) + "import custom/*.server\n"
	cluster.WriteFile(t, f.Path("beside"), "nsid beside\n")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": whole})
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, "10.9.0.1", "one")
	custom := func(override, server string) {
		api(t).PutConfigMap(t, "coredns-custom", map[string]string{"a.override": override, "b.server": server, "ignored": "}"})
	}
	awaitText := func(name, want string) {
		t.Helper()
		cluster.Eventually(t, bound, func() (bool, string) {
			got, err := textRecord(c, name)
			return got == want, fmt.Sprintf("%s is %q, want %q: %v", name, got, want, err)
		})
	}
	custom("template IN TXT override.example {\n answer \"override.example 60 IN TXT first\"\n}", f.Fill("server.example:PORT {\n bind 127.0.0.1\n template IN TXT {\n  answer \"server.example 60 IN TXT server\"\n }\n}\n"))
	awaitText("override.example.", "first")
	awaitText("server.example.", "server")
	f.await(t, c, "10.9.0.1", "one")
	custom("template IN TXT override.example {\n answer \"override.example 60 IN TXT second\"\n}", "")
	awaitText("override.example.", "second")

	custom("# a comment\ntemplate IN TXT override.example {\n match (\n}", "")
	f.awaitRejected(t, 1)
	f.awaitLog(t, "ConfigMap kube-system/coredns-custom key a.override:3 - plugin/template: ")
	custom("", "bogus.example:53 {\n\n bogus\n}\n")
	f.awaitRejected(t, 2)
	f.awaitLog(t, "ConfigMap kube-system/coredns-custom key b.server:3 - Unknown directive 'bogus'")
	awaitText("override.example.", "second")

	api(t).RemoveConfigMap(t, "coredns-custom")
	cluster.Eventually(t, bound, func() (bool, string) {
		got, err := textRecord(c, "override.example.")
		return err != nil && got == "", got
	})
	f.await(t, c, "10.9.0.1", "one")
}

// The plugin reload, and a signal, read the live Corefile, never an older one: stanzas replaced in place stay,
// without a restart.
func TestWholeReload(t *testing.T) {
	f := prepareWhole(t)
	reloading := func(ip, text string) string {
		return strings.Replace(f.corefile(ip, text), "\terrors\n", "\terrors\n\treload 2s 0s\n", 1)
	}
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": reloading("10.9.0.1", "one")})
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, "10.9.0.1", "one")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": reloading("10.9.0.2", "one")})
	f.await(t, c, "10.9.0.2", "one")
	until := time.Now().Add(5 * time.Second)
	cluster.Eventually(t, 10*time.Second, func() (bool, string) { return time.Now().After(until), "two looks of reload" })
	if strings.Contains(f.Log(), "[INFO] Reloading") {
		t.Error("an edit in place leads to a restart")
	}
	f.Write(t, f.corefile("192.0.2.3", "file")) // not read any more
	f.Reload(t)
	f.awaitLog(t, "Reloading complete")
	f.await(t, c, "10.9.0.2", "one")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": reloading("10.9.0.2", "two")})
	f.await(t, c, "10.9.0.2", "two")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": reloading("10.9.0.1", "three")}) // the stanza of the start again
	f.await(t, c, "10.9.0.1", "three")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": reloading("10.9.0.4", "three")})
	f.await(t, c, "10.9.0.4", "three")
}

// With -configmap, the option configmap of a stanza that names the same ConfigMap changes nothing: there is one watch,
// each edit is applied once, and only the limits of a Corefile apply.
func TestWholeAndOption(t *testing.T) {
	f := prepareWhole(t)
	both := func(ip, text string) string {
		return strings.Replace(f.corefile(ip, text), "\t\thosts {", "\t\tconfigmap kube-system/coredns\n\t\thosts {", 1)
	}
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": both("10.9.0.1", "one")})
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, "10.9.0.1", "one")
	for i := 2; i < 10; i++ {
		api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": both(editIP(i), "one")})
		f.await(t, c, editIP(i), "one")
	}
	beyond := strings.Replace(both("10.9.0.20", "one"), "kubehosts cluster.local {", "kubehosts cluster.local example.net {", 1)
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": beyond})
	f.await(t, c, "10.9.0.20", "one")
	if n := f.Metric(t, "coredns_kubehosts_corefile_applied_total", "how", "in_place"); n != 9 {
		t.Errorf("%v edits applied, want 9", n)
	}
	log := f.Log()
	if n := strings.Count(log, "of the Corefile applied to"); n != 9 || strings.Contains(log, "of ConfigMap kube-system/coredns applied") {
		t.Errorf("%d stanzas applied", n)
	}
	watches := 0
	for _, r := range api(t).Audit(t, f.who) {
		if r.Resource == "configmaps" && r.Verb == "watch" && !isRefusedStream(r) {
			watches++
		}
	}
	if watches != 1 {
		t.Errorf("%d watches of ConfigMaps, want 1", watches)
	}
}

// A failed restart changes nothing, and is retried.
func TestWholeRestartFails(t *testing.T) {
	f := prepareWhole(t)
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile(editIP(0), "text0")})
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, editIP(0), "text0")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	var l load
	l.run(t, f.Addr)
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile(editIP(0), "text1") + fmt.Sprintf("example.com:%d {\n bind 127.0.0.1\n whoami\n}\n", port)})
	f.awaitRejected(t, 1)
	f.awaitLog(t, fmt.Sprintf("the server can't listen on 127.0.0.1:%d", port))
	f.await(t, c, editIP(0), "text0")
	if ready, why := f.Ready(); !ready {
		t.Error(why)
	}
	taken.Close()
	cluster.Eventually(t, 45*time.Second, func() (bool, string) {
		got, err := textRecord(c, editName)
		return got == "text1", fmt.Sprint(got, err)
	})
	l.end(t)
}

// A Corefile that needs something missing is refused once, and served as soon as that exists, without another
// edit.
func TestWholeComesLater(t *testing.T) {
	f := prepareWhole(t)
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": f.corefile("10.9.0.1", "one")})
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, "10.9.0.1", "one")
	api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": strings.Replace(f.corefile("10.9.0.2", "two"), "\terrors\n", "\terrors\n\ttls "+f.Path("tls.crt")+" "+f.Path("tls.key")+"\n", 1)})
	f.awaitRejected(t, 1)
	f.awaitLog(t, "key Corefile:4 - plugin/tls: ")
	f.await(t, c, "10.9.0.1", "one")
	certificate := api(t).Certificate() // any will do
	cluster.WriteFile(t, f.Path("tls.crt"), cluster.ReadFile(t, certificate))
	cluster.WriteFile(t, f.Path("tls.key"), cluster.ReadFile(t, strings.TrimSuffix(certificate, "crt")+"key"))
	cluster.Eventually(t, 45*time.Second, func() (bool, string) {
		got, err := textRecord(c, editName)
		return got == "two", fmt.Sprint(got, err)
	})
	f.await(t, c, "10.9.0.2", "two")
	if n := f.Metric(t, "coredns_kubehosts_corefile_rejected_total"); n != 1 {
		t.Errorf("%v Corefiles refused", n)
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		n := f.Metric(t, "coredns_kubehosts_corefile_rejected")
		return n == 0, fmt.Sprintf("the gauge is %v", n)
	})
}

// A Corefile whose objects this account may not list changes nothing: it is refused in place, with a restart and at a
// start, and the process is ready. It is served as soon as access is granted, without another edit.
func TestWholeNotGranted(t *testing.T) {
	pods := cluster.ReadFile(t, "../build/kubernetes/rbac/pods.yaml")
	verified := func(corefile string) string {
		return strings.Replace(corefile, "\t\thosts {", "\t\tpods verified\n\t\thosts {", 1)
	}
	for name, text := range map[string]string{"in place": "one", "restart": "two"} {
		t.Run(name, func(t *testing.T) {
			f := prepareWhole(t, "-last-good", "kube-system/coredns-last-good")
			api(t).Delete(t, pods)
			t.Cleanup(func() { api(t).Delete(t, pods) })
			good := f.corefile("10.9.0.1", "one")
			api(t).PutConfigMap(t, "coredns-last-good", map[string]string{"Corefile": good})
			api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": good})
			f.start(t)
			c := cluster.Dial(t, "udp", f.Addr)
			f.await(t, c, "10.9.0.1", "one")
			api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": verified(f.corefile("10.9.0.2", text))})
			refused := func() {
				t.Helper()
				cluster.Eventually(t, bound, func() (bool, string) {
					n := f.Metric(t, "coredns_kubehosts_corefile_rejected") + f.Metric(t, "coredns_kubehosts_stanza_rejected")
					return n == 1, fmt.Sprintf("the gauges are %v", n)
				})
				f.awaitLog(t, "ConfigMap kube-system/coredns key Corefile:6 - ")
				f.await(t, c, "10.9.0.1", "one")
				if ready, why := f.Ready(); !ready {
					t.Errorf("it is not ready: %s", why)
				}
				if m, err := c.Ask("nobody.shop.svc.cluster.local", dns.TypeA); err != nil || m.Rcode != dns.RcodeNameError {
					t.Errorf("a Service that does not exist: %v %v", m, err)
				}
			}
			refused()
			f.Reload(t)
			f.awaitLog(t, "Reloading complete")
			refused()
			f.Stop()
			f.start(t)
			c = cluster.Dial(t, "udp", f.Addr)
			refused()
			if n := f.Metric(t, "coredns_kubehosts_corefile_info", "origin", "last-good"); n != 1 {
				t.Errorf("%v Corefiles that serve are the last good one", n)
			}
			api(t).Apply(t, pods)
			f.await(t, c, "10.9.0.2", text)
		})
	}
}

// Whatever happens to the ConfigMap, and to the right to read it, the last good Corefile is served, no query fails, and
// the next good edit is served.
func TestWholeComesAndGoes(t *testing.T) {
	f := prepareWhole(t, "-last-good", "kube-system/coredns-last-good", "-import", "kube-system/coredns-custom=custom")
	gate := api(t).Gate(t)
	f.kubeconfig = cluster.Kubeconfig(t, gate.URL, f.who.Token)
	t.Setenv("KUBECONFIG", f.kubeconfig)
	f.Write(t, f.corefile("192.0.2.2", "mounted"))
	imports := func(ip string) string {
		return strings.Replace(f.corefile(ip, "one"), "\terrors\n", "\terrors\n\timport custom/*.override\n\timport custom/here\n", 1)
	}
	custom := func() {
		api(t).PutConfigMap(t, "coredns-custom", map[string]string{"a.override": "nsid here", "here": "chaos a b"})
	}
	custom()
	store := func(text string) { api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": text}) }
	store(imports(editIP(0)))
	f.start(t)
	c := cluster.Dial(t, "udp", f.Addr)
	f.await(t, c, editIP(0), "one")
	var l load
	l.run(t, f.Addr)
	// A withdrawn right takes effect when the watch ends.
	without := func(withdraw func()) func() {
		return func() {
			withdraw()
			gate.Close()
			gate.Open(t)
		}
	}
	rights := cluster.ReadFile(t, "../build/kubernetes/rbac/rbac.yaml")
	binding := "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: coredns-configmap, namespace: kube-system}\n"
	for i, tt := range []struct {
		what       string
		away, back func()
		says       string
	}{
		{"the ConfigMap is deleted", func() { api(t).RemoveConfigMap(t, "coredns") }, func() {}, "ConfigMap kube-system/coredns does not exist"},
		{"its key is gone", func() { api(t).PutConfigMap(t, "coredns", map[string]string{"other": "text"}) }, func() {}, "has no key Corefile"},
		{"it is empty", func() { store("") }, func() {}, "no server block has a plugin"},
		{"it is no text", func() { store("edited by hand") }, func() {}, "no server block has a plugin"},
		{"an imported ConfigMap is deleted", func() { api(t).RemoveConfigMap(t, "coredns-custom") }, custom, "ConfigMap kube-system/coredns-custom: there is no key here"},
		{"an imported ConfigMap may not be read", without(func() { api(t).RevokeConfigMap(t, "coredns-custom") }), func() { api(t).GrantConfigMap(t, "coredns-custom") }, "ConfigMap kube-system/coredns-custom can't be read"},
		{"the ConfigMap may not be read", without(func() { api(t).Delete(t, binding) }), func() { api(t).Apply(t, rights) }, "ConfigMap kube-system/coredns can't be read"},
	} {
		tt.away()
		f.awaitLog(t, tt.says)
		cluster.Eventually(t, bound, func() (bool, string) {
			n := f.Metric(t, "coredns_kubehosts_corefile_rejected")
			return n == 1, fmt.Sprintf("%s: the gauge is %v", tt.what, n)
		})
		f.await(t, c, editIP(i), "one")
		tt.back()
		l.stored.Store(int64(i + 1))
		store(imports(editIP(i + 1)))
		cluster.Eventually(t, 45*time.Second, func() (bool, string) {
			ip, err := address(c, liveName)
			return ip == editIP(i+1), fmt.Sprintf("after this: %s: %s %v", tt.what, ip, err)
		})
	}
	l.end(t)
	if n := f.Metric(t, "coredns_kubehosts_corefile_rejected"); n != 0 {
		t.Errorf("the gauge is %v at the end", n)
	}
}

// A Corefile that ends the process, like the plugin loop when it finds a loop, or the kernel when memory runs out, does
// so once: the next process begins with the last good Corefile and does not try the other again. The next edit is
// served.
func TestWholeKills(t *testing.T) {
	f := prepareWhole(t, "-last-good", "kube-system/coredns-last-good")
	good := f.corefile("10.9.0.1", "one")
	store := func(text string) { api(t).PutConfigMap(t, "coredns", map[string]string{"Corefile": text}) }
	api(t).PutConfigMap(t, "coredns-last-good", map[string]string{"Corefile": good})
	store(strings.Replace(f.corefile("10.9.0.2", "two"), "\terrors\n", f.Fill("\terrors\n\tloop\n\tforward . 127.0.0.1:OTHER\n"), 1) +
		f.Fill(".:OTHER {\n\tbind 127.0.0.1\n\tforward . 127.0.0.1:PORT\n}\n"))
	f.Start(t, coredns(t), f.args...)
	cluster.Eventually(t, bound, func() (bool, string) { return f.Ended(), "the process does not end" })
	if !strings.Contains(f.Log(), "Loop (") {
		t.Fatal("it does not end for the loop")
	}
	for i := range 2 {
		f.start(t)
		c := cluster.Dial(t, "udp", f.Addr)
		f.await(t, c, "10.9.0.1", "one")
		if n := strings.Count(f.Log(), "a process that had it ended without a word"); n != i+1 {
			t.Errorf("it is said %d times why the ConfigMap's Corefile does not serve", n)
		}
		if n := f.Metric(t, "coredns_kubehosts_corefile_rejected"); n != 1 {
			t.Errorf("the gauge is %v", n)
		}
		text := fmt.Sprintf("edited%d", i)
		store(f.corefile("10.9.0.3", text))
		f.await(t, c, "10.9.0.3", text)
		f.Kill()
	}
}
