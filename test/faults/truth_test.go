package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The objects that do not change.
const (
	still   = "web.shop.svc.cluster.local."
	stillIP = "10.96.7.10"
	nobody  = "nobody.shop.svc.cluster.local."
	entry   = "live.example.org."
	entryIP = "192.0.2.1"
)

const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.7.10, ports: [{port: 80}]}
`

// truth is the history of a headless Service with one endpoint, whose address counts its changes.
type truth struct {
	service string

	mu     sync.Mutex
	stored []time.Time // when each change was known to be stored, by its number
	begun  int         // the newest change that may be stored
	held   int         // while the API server is unreachable: the oldest change that may be answered; else -1

	wasHeld  int       // held, before the release
	released time.Time // the time of the last release; zero for never
}

// declared is the maximum age of an answer while nothing is broken and no process is starved.
const declared = time.Second

// starved measures for how long the machine gave this process no time: a goroutine that should run every few
// milliseconds ran late. The servers are starved then too, which is not their fault.
var starved = struct {
	sync.Mutex
	at   []time.Time
	late []time.Duration
}{}

func init() {
	go func() {
		const beat, much, kept = 10 * time.Millisecond, 50 * time.Millisecond, 10 * time.Second
		for last := time.Now(); ; {
			<-time.After(beat)
			now := time.Now()
			late := now.Sub(last) - beat
			last = now
			starved.Lock()
			if late > much {
				starved.at, starved.late = append(starved.at, now), append(starved.late, late)
			}
			for len(starved.at) > 0 && now.Sub(starved.at[0]) > kept {
				starved.at, starved.late = starved.at[1:], starved.late[1:]
			}
			starved.Unlock()
		}
	}()
}

// recently returns how long this process was starved in the last ten seconds.
func recently() (sum time.Duration) {
	starved.Lock()
	defer starved.Unlock()
	for _, late := range starved.late {
		sum += late
	}
	return sum
}

func addressOf(change int) string { return fmt.Sprintf("10.9.%d.%d", change>>8&255, change&255) }

// name is the Service's name in a query.
func (tr *truth) name() string { return tr.service + ".shop.svc.cluster.local." }

// changes creates a Service for the test, and writes changes at intervals until the test ends.
func changes(t *testing.T) *truth {
	t.Helper()
	return changesOf(t, api(t))
}

// applying makes tests that run in parallel apply the shared objects one after the other. The API server refuses two
// requests at once that create Services with one cluster IP, even equal ones.
var applying sync.Mutex

// changesOf is changes for another API server.
func changesOf(t *testing.T, a *cluster.API) *truth {
	t.Helper()
	func() {
		applying.Lock()
		defer applying.Unlock()
		a.Apply(t, objects)
	}()
	name, _, _ := strings.Cut(strings.ToLower(t.Name()), "/")
	tr := &truth{service: name, held: -1}
	service := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {clusterIP: None}\n", tr.service)
	a.Apply(t, service)
	t.Cleanup(func() { a.Delete(t, service) })
	slices := a.Client.DiscoveryV1().EndpointSlices("shop")
	first, err := slices.Create(t.Context(), tr.slice(0), meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slices.Delete(context.Background(), first.Name, meta.DeleteOptions{}) })
	tr.store()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		const pause = 100 * time.Millisecond
		for slice, i := first.DeepCopy(), 1; ctx.Err() == nil; {
			tr.begin(i)
			slice.Endpoints[0].Addresses[0] = addressOf(i)
			slice.ResourceVersion = ""
			within, stop := context.WithTimeout(ctx, 2*time.Second)
			_, err := slices.Update(within, slice, meta.UpdateOptions{})
			stop()
			if err == nil {
				tr.store()
				i++
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	})
	return tr
}

func (tr *truth) slice(change int) *discovery.EndpointSlice {
	return &discovery.EndpointSlice{
		ObjectMeta:  meta.ObjectMeta{Name: tr.service + "-1", Namespace: "shop", Labels: map[string]string{discovery.LabelServiceName: tr.service}},
		AddressType: discovery.AddressTypeIPv4,
		Endpoints:   []discovery.Endpoint{{Addresses: []string{addressOf(change)}}},
	}
}

func (tr *truth) begin(i int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.begun = i
}

func (tr *truth) store() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.stored = append(tr.stored, time.Now())
}

// newest returns the last change known to be stored.
func (tr *truth) newest() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.stored) - 1
}

// allowed returns which changes are right answers to a query sent at that time and answered now.
func (tr *truth) allowed(asked time.Time) (from, to int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	from = tr.oldest(asked)
	if tr.held >= 0 {
		from = min(from, tr.held)
	}
	if asked.Before(tr.released) { // it may have been answered from the state before
		from = min(from, tr.wasHeld)
	}
	return from, tr.begun
}

// oldest returns the newest change at a time that is declared earlier.
func (tr *truth) oldest(asked time.Time) int {
	i, then := len(tr.stored)-1, asked.Add(-declared-recently())
	for i > 0 && tr.stored[i].After(then) {
		i--
	}
	return i
}

// hold begins a time in which the API server is unreachable, so that what is true now stays a right answer.
func (tr *truth) hold() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.held = tr.oldest(time.Now())
}

// holdFrom is hold for an API server that may return to a change as old as this one.
func (tr *truth) holdFrom(change int) {
	tr.hold()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.held = min(tr.held, change)
}

func (tr *truth) release() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.wasHeld, tr.held, tr.released = tr.held, -1, time.Now()
}

// A query sent while the API server was unreachable may be answered from the last state, and the answer may be checked
// after the repair: it is right. The same answer to a later query is wrong.
func TestTruth(t *testing.T) {
	now := time.Now()
	tr := &truth{held: -1}
	for i := range 100 { // one each second, all of them long ago
		tr.stored = append(tr.stored, now.Add(time.Duration(i-200)*time.Second))
	}
	tr.held = 42
	if from, _ := tr.allowed(now); from != 42 {
		t.Errorf("held: from %d, want 42", from)
	}
	asked := time.Now()
	tr.release()
	if from, _ := tr.allowed(asked.Add(-time.Millisecond)); from != 42 {
		t.Errorf("asked before the release: from %d, want 42", from)
	}
	if from, _ := tr.allowed(time.Now().Add(time.Millisecond)); from != 99 {
		t.Errorf("asked after it: from %d, want 99", from)
	}
}

// account is a token of the ServiceAccount in the RBAC objects that the project ships.
func account(t *testing.T) cluster.Account {
	t.Helper()
	return accountOf(t, api(t))
}

// accountOf is account for another API server.
func accountOf(t *testing.T, a *cluster.API) cluster.Account {
	t.Helper()
	a.Apply(t, cluster.ReadFile(t, "../../build/kubernetes/rbac/rbac.yaml"))
	return a.Account(t, "kube-system", "coredns")
}
