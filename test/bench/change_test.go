package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// changes is the number of objects written, one after the other, to measure when each is answered.
const changes = 300

// change measures the time from the API server's watch event for a change to the new answer. It uses the real
// API server and a client-go watch beside the server's own.
func change(t *testing.T) {
	progress("changes, with the real API server")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	a := realServer(ctx, t)
	kubeconfig := cluster.Kubeconfig(t, a.URL, cluster.AdminToken)
	a.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns-0}\n")

	created, changed := map[string][]time.Duration{}, map[string][]time.Duration{}
	for _, name := range []string{"kubernetes", "kubehosts"} {
		c, _ := run(t, name, kubeStanza(name, kubeconfig))
		ask := cluster.Dial(t, "udp", c.Addr)
		created[name] = beyond(t, a.Client.CoreV1().Services("ns-0").Watch, func(i int) string {
			s := service("ns-0", fmt.Sprintf("%s-%d", name, i), "", i)
			s.ObjectMeta = meta.ObjectMeta{Name: s.Name}
			s.Spec.ClusterIPs = nil
			s, err := a.Client.CoreV1().Services("ns-0").Create(ctx, s, meta.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return s.Spec.ClusterIP
		}, func(i int, address string) bool {
			return answered(ask, fmt.Sprintf("%s-%d.ns-0.svc.cluster.local.", name, i), address)
		})

		slices := a.Client.DiscoveryV1().EndpointSlices("ns-0")
		headless := service("ns-0", name, core.ClusterIPNone, 0)
		headless.ObjectMeta = meta.ObjectMeta{Name: name}
		if _, err := a.Client.CoreV1().Services("ns-0").Create(ctx, headless, meta.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		endpoints := slice("ns-0", name, 0, 0, 1)
		endpoints.ObjectMeta = meta.ObjectMeta{Name: name, Labels: map[string]string{discovery.LabelServiceName: name}}
		endpoints, err := slices.Create(ctx, endpoints, meta.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		changed[name] = beyond(t, slices.Watch, func(i int) string {
			endpoints.Endpoints[0].Addresses[0] = podIP(i + 1)
			if endpoints, err = slices.Update(ctx, endpoints, meta.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			return podIP(i + 1)
		}, func(_ int, address string) bool { return answered(ask, name+".ns-0.svc.cluster.local.", address) })
		c.Stop()
	}
	changeRow("Service created to answered, beyond a watch beside: p99 (p50)", created)
	changeRow("EndpointSlice changed to answered, the same", changed)
}

// changeRow adds a row with the times that a plugin took to answer changes, sorted.
func changeRow(what string, took map[string][]time.Duration) {
	text := func(d []time.Duration) string {
		if len(d) == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f ms (%.1f)", quantile(d, 0.99)/1000, quantile(d, 0.5)/1000)
	}
	ours := took["kubehosts"]
	table.add(what, text(took["kubernetes"]), text(ours), "", "p99 < 10 ms", quantile(ours, 0.99) < 10_000)
}

// beyond makes changes, one after the other, and returns for each how long after the event in a client-go watch the
// answer was there, sorted. The value is negative if the answer was there first. The test polls both from the moment of
// the change.
func beyond(t *testing.T, open func(context.Context, meta.ListOptions) (watch.Interface, error), change func(i int) string, answered func(i int, address string) bool) []time.Duration {
	t.Helper()
	w, err := open(context.Background(), meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	told := make(chan time.Time, 4*changes)
	go func() {
		defer close(told)
		for range w.ResultChan() {
			told <- time.Now()
		}
	}()
	for quiet := false; !quiet; { // the objects that existed before
		select {
		case <-told:
		case <-time.After(500 * time.Millisecond):
			quiet = true
		}
	}
	took := make([]time.Duration, 0, changes)
	for i := range changes {
		address := change(i)
		tick := time.NewTicker(200 * time.Microsecond)
		for start := time.Now(); !answered(i, address); <-tick.C {
			if time.Since(start) > 10*time.Second {
				t.Fatalf("change %d is not answered after 10 s", i)
			}
		}
		tick.Stop()
		now := time.Now()
		select {
		case at := <-told:
			took = append(took, now.Sub(at))
		case <-time.After(10 * time.Second):
			t.Fatal("the watch does not tell of a change")
		}
	}
	slices.Sort(took)
	return took
}

// underChange measures the latency of answers while 1,000 EndpointSlices change each second.
func underChange(t *testing.T) {
	const rate = 1000
	api := serve(t, manyServices, 0)
	var events [][]byte
	for i := range 2 * rate {
		service := i % rate * 2
		s := slice(fmt.Sprintf("ns-%d", service%spaces), fmt.Sprintf("svc-%d", service), service, service*endpointsEach, endpointsEach)
		if i < rate {
			s.Endpoints[0].Addresses[0] = podIP(5<<20 + i)
		}
		events = append(events, event(t, watch.Modified, s))
	}
	questions := make([]*dns.Msg, 1000)
	for i := range questions {
		questions[i] = new(dns.Msg).SetQuestion(serviceName(i*8), dns.TypeA)
	}
	const window = 10 * time.Second
	quiet, busy := map[string][]time.Duration{}, map[string][]time.Duration{}
	for _, name := range []string{"kubernetes", "kubehosts"} {
		progress("%s under %d changes a second", name, rate)
		c, _ := run(t, name, kubeStanza(name, api.kubeconfig(t)))
		time.Sleep(5 * time.Second) // after the start
		quiet[name] = latencies(t, c.Addr, questions, askRate, window)
		end, done := make(chan struct{}), make(chan int)
		go func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			sent := 0
			for start := time.Now(); ; {
				select {
				case <-end:
					done <- sent
					return
				case <-tick.C:
				}
				for due := int(rate * time.Since(start).Seconds()); sent < due; sent++ {
					select {
					case api.change["endpointslices"] <- events[sent%len(events)]:
					case <-end:
						done <- sent
						return
					}
				}
			}
		}()
		busy[name] = latencies(t, c.Addr, questions, askRate, window)
		close(end)
		if n := <-done; n < int(0.9*rate*window.Seconds()) {
			progress("only %d changes were read in %v", n, window)
		}
		c.Stop()
	}
	text := func(name string) string {
		return fmt.Sprintf("%.0f µs, quiet %.0f µs", quantile(busy[name], 0.5), quantile(quiet[name], 0.5))
	}
	slower := func(name string, q float64) float64 { return quantile(busy[name], q)/quantile(quiet[name], q) - 1 }
	table.add("an answer under 1,000 changes a second, median", text("kubernetes"), text("kubehosts"),
		fmt.Sprintf("%+.0f %%, stock %+.0f %%", 100*slower("kubehosts", 0.5), 100*slower("kubernetes", 0.5)),
		"≤ 20 % slower", slower("kubehosts", 0.5) <= 0.2)
	table.add("its p99", fmt.Sprintf("%.0f µs, quiet %.0f µs", quantile(busy["kubernetes"], 0.99), quantile(quiet["kubernetes"], 0.99)),
		fmt.Sprintf("%.0f µs, quiet %.0f µs", quantile(busy["kubehosts"], 0.99), quantile(quiet["kubehosts"], 0.99)),
		fmt.Sprintf("%+.0f %%, stock %+.0f %%", 100*slower("kubehosts", 0.99), 100*slower("kubernetes", 0.99)), "", false)
}
