package faults

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// All of these in random order, again and again, on one process; FAULTS_SEED repeats an order. Memory and goroutines
// stay constant.
func TestSoak(t *testing.T) {
	seed := uint64(numberOf("FAULTS_SEED", rand.IntN(1_000_000)))
	t.Logf("FAULTS_SEED=%d repeats this order", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	tr := changes(t)
	gate := api(t).Gate(t)
	text := corefileOf(cluster.Kubeconfig(t, gate.URL, account(t).Token), "snapshot DIR/snapshot", theConfigMap)
	setConfigMap(t, configMap(0, ""))
	t.Cleanup(func() { api(t).RemoveConfigMap(t, "coredns") })
	c := cluster.Run(t, coredns(t), text)
	a := ask(t, c.Addr, tr)
	a.heal(t)

	some := func() time.Duration { return time.Duration(200+r.IntN(2800)) * time.Millisecond }
	log := readLog(t, c)
	faults := []struct {
		name string
		do   func()
	}{
		{"refuses", func() { gate.Close(); <-time.After(some()); gate.Open(t) }},
		{"mute", func() { gate.Mute(t); <-time.After(some()); gate.Open(t) }},
		{"breaks off", func() { gate.Open(t) }},
		{"halted", func() { api(t).Freeze(); <-time.After(some()); api(t).Thaw() }},
		{"killed and compacted", func() {
			api(t).StopServer()
			<-time.After(some())
			if err := api(t).Compact(); err != nil {
				t.Error(err)
			}
			startServer(t)
		}},
		{"reloads", func() {
			for range 1 + r.IntN(20) {
				c.Reload(t)
				log.await(t, "Reloading complete")
			}
		}},
		{"a broken reload", func() {
			c.Write(t, strings.Replace(text, "configmap", "bogus\nconfigmap", 1))
			c.Reload(t)
			log.await(t, "Restart failed")
			c.Write(t, text)
		}},
		{"edits", func() {
			for i := range 20 {
				setConfigMap(t, configMap(i, []string{"", "bogus\n"}[r.IntN(2)]))
			}
		}},
	}
	one := func(i int) time.Duration {
		tr.hold()
		faults[i].do()
		healed := a.heal(t)
		tr.release()
		return healed
	}
	if soak > time.Minute { // allocates what is allocated only once, before the measurement
		for i := range faults {
			one(i)
		}
	}
	before := holds(t, c)
	a.counted(t, fmt.Sprintf("all of it in random order for %v", soak), func() (longest time.Duration) {
		for start, done := time.Now(), 0; ; {
			for _, i := range r.Perm(len(faults)) {
				longest = max(longest, one(i))
				if done++; time.Since(start) > soak {
					t.Logf("%d faults", done)
					return longest
				}
			}
			now := holds(t, c)
			t.Logf("after %v: %d files, %d goroutines, %d MiB, %d queries", time.Since(start).Round(time.Second), now.files, now.goroutines, now.bytes>>20, a.asked.Load())
		}
	})
	before.check(t, c)
}

// configMap is the text of the ConfigMap; wrong adds errors.
func configMap(ttl int, wrong string) string {
	return fmt.Sprintf("kubehosts cluster.local {\n%sttl %d\nhosts {\n192.0.2.1 live.example.org\n}\n}\n", wrong, ttl)
}
