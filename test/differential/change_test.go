package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// How fast objects change, how often both are compared meanwhile, and the maximum number of objects of each kind.
const (
	changesPerSecond = 100
	betweenChecks    = 2500 * time.Millisecond
	changingServices = 60
	changingSlices   = 120
	changingPods     = 40
	fleeting         = 3 // namespaces that are created and deleted
)

// changing are the namespaces of the objects that change.
var changing = []string{"change-0", "change-1", "change-2"}

// marker is the name of the objects that show how many changes a server has seen.
const marker = "marker"

// churn makes changes, sequential for each object, and many in parallel.
type churn struct {
	api     *cluster.API
	w       *world // for its random choices; each worker has its own
	ctx     context.Context
	pause   sync.RWMutex // read-locked during a change, write-locked while both are compared
	made    atomic.Int64
	refused atomic.Int64
	failed  func(error)
}

// Both give the same answers while objects are created, changed and deleted, and have the same
// zones in the end.
func TestChange(t *testing.T) {
	api, _ := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := slices.Concat(changing, []string{marker})
	for i := range 200 {
		served = append(served, fmt.Sprintf("%s-%d", marker, i))
	}
	for i := range fleeting {
		served = append(served, fmt.Sprint("fleeting-", i))
	}
	c := &churn{api: api, ctx: ctx, failed: func(err error) { t.Error(err); cancel() }}
	c.prepare(t)
	pairs := []*pair{
		run(t, &config{name: "change", before: transfer, options: "pods verified\nendpoint_pod_names\nnamespaces " + strings.Join(served, " ")}),
		run(t, &config{name: "change of what is selected", before: transfer,
			options: "pods verified\nlabels tier=front\nnamespace_labels team=red\nignore empty_service\nzonal"}),
	}
	total, checks := newTally(), 0
	check := func() {
		c.pause.Lock()
		defer c.pause.Unlock()
		checks++
		c.mark(t, checks)
		for _, p := range pairs {
			p.await(t, checks)
			total.add(p.compare(t, changeQuestions(random(fmt.Sprint("change", checks)))))
			p.forget()
		}
	}

	changes := int64(changeTime(t).Seconds() * changesPerSecond) // that long, not counting the comparisons
	var workers sync.WaitGroup
	tick := time.NewTicker(time.Second / changesPerSecond)
	defer tick.Stop()
	done := make(chan struct{})
	for i := range 8 {
		one := &churn{api: api, ctx: ctx, w: &world{r: random(fmt.Sprint("churn", i))}, failed: c.failed}
		workers.Go(func() { one.work(c, i, 8, tick.C, done) })
	}
	check()
	for c.made.Load() < changes && ctx.Err() == nil {
		pause := time.NewTimer(betweenChecks)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		check()
	}
	close(done)
	workers.Wait()
	check()
	total.report(t)
	t.Logf("%d changes, %d more that the API server refused, compared %d times", c.made.Load(), c.refused.Load(), checks)
	for _, p := range pairs {
		p.compareZone(t, "cluster.local.")
	}
}

// prepare creates the objects that the changes need: namespaces, and Services in those that are created
// and deleted.
func (c *churn) prepare(t *testing.T) {
	t.Helper()
	for i, name := range slices.Concat(changing, []string{marker}) {
		team := pick(random(name), teams)
		if i < 2 || name == marker {
			team = "red"
		}
		_, err := c.api.Client.CoreV1().Namespaces().Create(c.ctx, &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name, Labels: labelled("team", team)}}, meta.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	labels := labelled("tier", "front")
	for i := range fleeting {
		name := fmt.Sprint("fleeting-", i)
		c.namespace(name, "red")
		_, err := c.api.Client.CoreV1().Services(name).Create(c.ctx, &core.Service{
			ObjectMeta: meta.ObjectMeta{Namespace: name, Name: "web", Labels: labels}, Spec: clusterIP(port("http", 80, core.ProtocolTCP)),
		}, meta.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*core.Service{
		{ObjectMeta: meta.ObjectMeta{Namespace: marker, Name: marker, Labels: labels}, Spec: external("0.ext.test")},
		{ObjectMeta: meta.ObjectMeta{Namespace: marker, Name: marker + "-endpoints", Labels: labels}, Spec: headless()},
	} {
		if _, err := c.api.Client.CoreV1().Services(marker).Create(c.ctx, s, meta.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	slice := &discovery.EndpointSlice{
		ObjectMeta:  meta.ObjectMeta{Namespace: marker, Name: marker, Labels: map[string]string{"tier": "front", discovery.LabelServiceName: marker + "-endpoints"}},
		AddressType: discovery.AddressTypeIPv4, Endpoints: []discovery.Endpoint{{Addresses: []string{markerAddr(253, 0)}}},
	}
	if _, err := c.api.Client.DiscoveryV1().EndpointSlices(marker).Create(c.ctx, slice, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func markerAddr(net, n int) string {
	return netip.AddrFrom4([4]byte{10, byte(net), byte(n >> 8), byte(n)}).String()
}

// mark changes one object of each kind, as each kind has a watch of its own.
func (c *churn) mark(t *testing.T, n int) {
	t.Helper()
	k := c.api.Client
	patch := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := k.CoreV1().Services(marker).Get(c.ctx, marker, meta.GetOptions{})
	patch(err)
	s.Spec.ExternalName = fmt.Sprintf("%d.ext.test", n)
	_, err = k.CoreV1().Services(marker).Update(c.ctx, s, meta.UpdateOptions{})
	patch(err)
	e, err := k.DiscoveryV1().EndpointSlices(marker).Get(c.ctx, marker, meta.GetOptions{})
	patch(err)
	e.Endpoints[0].Addresses[0] = markerAddr(253, n)
	_, err = k.DiscoveryV1().EndpointSlices(marker).Update(c.ctx, e, meta.UpdateOptions{})
	patch(err)
	patch(createPod(c.ctx, c.api, &core.Pod{
		ObjectMeta: meta.ObjectMeta{Namespace: marker, Name: fmt.Sprintf("%s-%d", marker, n), Labels: labelled("tier", "front")},
		Spec:       core.PodSpec{NodeName: "node-1", Containers: []core.Container{{Name: "c", Image: "i"}}},
		Status:     core.PodStatus{Phase: core.PodRunning, PodIP: markerAddr(252, n), PodIPs: []core.PodIP{{IP: markerAddr(252, n)}}},
	}))
	c.namespace(fmt.Sprintf("%s-%d", marker, n), "red")
}

// await waits until both have seen mark n, and so all earlier changes.
func (p *pair) await(t *testing.T, n int) {
	t.Helper()
	cluster.Eventually(t, serverBound, func() (bool, string) {
		p.forget()
		var missing []string
		for _, q := range []struct {
			name  string
			qtype uint16
			want  string
		}{
			{marker + "." + marker + ".svc.cluster.local.", dns.TypeCNAME, fmt.Sprintf("%d.ext.test.", n)},
			{marker + "-endpoints." + marker + ".svc.cluster.local.", dns.TypeA, markerAddr(253, n)},
			{dashed(markerAddr(252, n)) + "." + marker + ".pod.cluster.local.", dns.TypeA, markerAddr(252, n)},
			{fmt.Sprintf("%s-%d.svc.cluster.local.", marker, n), dns.TypeA, ""},
		} {
			stock, ours := p.ask(q.name, q.qtype)
			for who, r := range map[string]reply{"stock": stock, "kubehosts": ours} {
				if r.none || r.Rcode != dns.RcodeSuccess || q.want != "" && (len(r.Answer) != 1 || !strings.HasSuffix(r.Answer[0].String(), "\t"+q.want)) {
					missing = append(missing, who+" does not see "+q.name)
				}
			}
		}
		return len(missing) == 0, strings.Join(missing, ", ")
	})
}

// forget discards the cached replies.
func (p *pair) forget() {
	p.mu.Lock()
	clear(p.probed)
	p.mu.Unlock()
}

// changeQuestions draws queries about all possible results of the changes.
func changeQuestions(r *rand.Rand) []question {
	n := &namer{r: r, seen: make(map[string]bool)}
	for j, ns := range changing {
		for i := range changingServices {
			owner := fmt.Sprintf("svc-%d.%s.svc.cluster.local.", i, ns)
			if i%len(changing) != j {
				n.add(owner)
				continue
			}
			n.have(owner)
			for _, left := range []string{"_http._tcp", "_dns._udp", "_any._tcp", "_tcp", "host-0", "host-1", "host-2", "web-0", "web-1", "10-244-0-3", "zone-a.pin._zone", "zone-b.prefer._zone"} {
				n.have(left + "." + owner)
			}
		}
		for i := range 12 {
			n.have(fmt.Sprintf("10-244-0-%d.%s.pod.cluster.local.", i, ns), fmt.Sprintf("fd00-244--%x.%s.pod.cluster.local.", i, ns))
		}
	}
	for i := range fleeting {
		n.have(fmt.Sprintf("web.fleeting-%d.svc.cluster.local.", i), fmt.Sprintf("fleeting-%d.svc.cluster.local.", i))
	}
	for i := range 12 {
		for _, a := range []string{fmt.Sprintf("10.244.0.%d", i), fmt.Sprintf("fd00:244::%x", i), fmt.Sprintf("10.96.200.%d", i)} {
			name, _ := dns.ReverseAddr(a)
			n.have(name, name)
		}
	}
	for i := range 8 {
		for j := range 256 {
			name, _ := dns.ReverseAddr(fmt.Sprintf("10.244.%d.%d", i+1, j))
			n.have(name)
		}
	}
	held, _, other := n.crossed()
	return append(n.draw(held, len(held)), slices.DeleteFunc(n.draw(other, 500), isTransfer)...)
}

// isTransfer reports whether q is for a zone transfer, which TestTransfer compares.
func isTransfer(q question) bool { return q.qtype == dns.TypeAXFR }

// work makes a change at each tick, to its own objects: those whose number is i modulo n.
func (c *churn) work(all *churn, i, n int, tick <-chan time.Time, done <-chan struct{}) {
	services, slices, pods := make(map[int]*core.Service), make(map[int]*discovery.EndpointSlice), make(map[int]*core.Pod)
	own := func(of int) int { return i + n*c.w.r.IntN((of-i+n-1)/n) }
	for {
		select {
		case <-tick:
		case <-done:
			return
		case <-c.ctx.Done():
			return
		}
		all.pause.RLock()
		var err error
		switch c.w.r.IntN(10) {
		case 0, 1, 2:
			err = c.changeService(services, own(changingServices))
		case 3, 4, 5, 6:
			err = c.changeSlice(slices, own(changingSlices))
		case 7, 8:
			err = c.changePod(pods, own(changingPods))
		default:
			if i < fleeting {
				c.changeNamespace(fmt.Sprint("fleeting-", i))
			}
		}
		all.pause.RUnlock()
		switch {
		case err == nil, apierrors.IsNotFound(err): // a Pod that has ended terminates quickly
			all.made.Add(1)
		case apierrors.IsInvalid(err): // another Service has the cluster IP
			all.refused.Add(1)
		case c.ctx.Err() == nil:
			c.failed(err)
			return
		}
	}
}

// changeService creates Service i, or changes it, or deletes it.
func (c *churn) changeService(have map[int]*core.Service, i int) error {
	client := c.api.Client.CoreV1().Services(changing[i%len(changing)])
	s := have[i]
	switch {
	case s == nil:
		spec := c.spec()
		made, err := client.Create(c.ctx, &core.Service{
			ObjectMeta: meta.ObjectMeta{Name: fmt.Sprint("svc-", i), Labels: labelled("tier", pick(c.w.r, tiers))}, Spec: spec,
		}, meta.CreateOptions{})
		if err == nil {
			have[i] = made
		}
		return err
	case c.w.chance(3):
		delete(have, i)
		return client.Delete(c.ctx, s.Name, meta.DeleteOptions{})
	}
	s.Labels = labelled("tier", pick(c.w.r, tiers))
	switch {
	case s.Spec.Type == core.ServiceTypeExternalName:
		s.Spec.ExternalName = c.target()
	case c.w.chance(2):
		s.Spec.Ports = c.w.ports()
	}
	made, err := client.Update(c.ctx, s, meta.UpdateOptions{})
	if err == nil {
		have[i] = made
	}
	return err
}

// spec draws a Service of any kind. Some request the same few cluster IPs.
func (c *churn) spec() core.ServiceSpec {
	switch c.w.r.IntN(5) {
	case 0:
		return external(c.target())
	case 1:
		return headless(c.w.ports()...)
	case 2:
		s := clusterIP(c.w.ports()...)
		s.ClusterIP = fmt.Sprintf("10.96.200.%d", 1+c.w.r.IntN(8))
		return s
	}
	return pick(c.w.r, kinds).spec(c.w)
}

func (c *churn) target() string {
	return pick(c.w.r, []string{"one.ext.test", "two.ext.test", "nowhere.invalid",
		fmt.Sprintf("svc-%d.change-0.svc.cluster.local", c.w.r.IntN(changingServices)), fmt.Sprintf("svc-%d.change-1.svc.cluster.local", c.w.r.IntN(changingServices))})
}

// changeSlice creates EndpointSlice i, or changes it, or deletes it.
func (c *churn) changeSlice(have map[int]*discovery.EndpointSlice, i int) error {
	client := c.api.Client.DiscoveryV1().EndpointSlices(changing[i%len(changing)])
	s := have[i]
	if s != nil && c.w.chance(4) {
		delete(have, i)
		return client.Delete(c.ctx, s.Name, meta.DeleteOptions{})
	}
	drawn := c.w.addSlice("", fmt.Sprintf("svc-%d", c.w.r.IntN(changingServices)), c.w.ports())
	for e := range drawn.Endpoints { // intended differences are not the subject of this test
		ep := &drawn.Endpoints[e]
		ep.Addresses = ep.Addresses[:1]
		if ep.TargetRef != nil {
			ep.TargetRef.Name = pick(c.w.r, podNames[:4])
		}
	}
	if s == nil {
		drawn.Name = fmt.Sprint("slice-", i)
		made, err := client.Create(c.ctx, drawn, meta.CreateOptions{})
		if err == nil {
			have[i] = made
		}
		return err
	}
	if c.w.chance(2) { // another Service, selected or not
		s.Labels = drawn.Labels
	}
	if drawn.AddressType == s.AddressType {
		s.Endpoints, s.Ports = drawn.Endpoints, drawn.Ports
	}
	for e := range s.Endpoints {
		if c.w.chance(3) {
			s.Endpoints[e].Conditions.Ready = new(c.w.chance(2))
		}
	}
	made, err := client.Update(c.ctx, s, meta.UpdateOptions{})
	if err == nil {
		have[i] = made
	}
	return err
}

// changePod creates Pod i, changes its addresses or phase, or deletes it, at once or with a long grace period.
func (c *churn) changePod(have map[int]*core.Pod, i int) error {
	namespace := changing[i%len(changing)]
	client := c.api.Client.CoreV1().Pods(namespace)
	p := have[i]
	if p == nil {
		p = &core.Pod{
			ObjectMeta: meta.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("pod-", i), Labels: labelled("tier", pick(c.w.r, tiers))},
			Spec:       core.PodSpec{NodeName: "node-1", Containers: []core.Container{{Name: "c", Image: "i"}}},
			Status:     c.podStatus(core.PodRunning),
		}
		have[i] = p
		return createPod(c.ctx, c.api, p)
	}
	now := meta.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	if p.Annotations[leaving] != "" || c.w.chance(3) {
		delete(have, i)
		return client.Delete(c.ctx, p.Name, now)
	}
	if c.w.chance(4) {
		p.Annotations = map[string]string{leaving: "yes"}
		return client.Delete(c.ctx, p.Name, meta.DeleteOptions{GracePeriodSeconds: new(int64(100_000))})
	}
	p.Status = c.podStatus(pick(c.w.r, []core.PodPhase{core.PodRunning, core.PodRunning, core.PodSucceeded, core.PodUnknown}))
	_, err := client.UpdateStatus(c.ctx, p, meta.UpdateOptions{})
	return err
}

func (c *churn) podStatus(phase core.PodPhase) core.PodStatus {
	ips := []core.PodIP{{IP: fmt.Sprintf("10.244.0.%d", c.w.r.IntN(12))}}
	if c.w.chance(2) {
		ips = append(ips, core.PodIP{IP: fmt.Sprintf("fd00:244::%x", 1+c.w.r.IntN(11))})
	}
	return core.PodStatus{Phase: phase, PodIP: ips[0].IP, PodIPs: ips}
}

// changeNamespace deletes a namespace or recreates it. No controller finalizes or empties it.
func (c *churn) changeNamespace(name string) {
	client := c.api.Client.CoreV1().Namespaces()
	ns, err := client.Get(c.ctx, name, meta.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		c.namespace(name, pick(c.w.r, teams))
		return
	case err == nil && c.w.chance(2):
		ns.Labels["team"] = pick(c.w.r, teams)
		_, err = client.Update(c.ctx, ns, meta.UpdateOptions{})
	case err == nil:
		if err = client.Delete(c.ctx, name, meta.DeleteOptions{}); err == nil {
			if ns, err = client.Get(c.ctx, name, meta.GetOptions{}); err == nil {
				ns.Spec.Finalizers = nil
				_, err = client.Finalize(c.ctx, ns, meta.UpdateOptions{})
			}
		}
	}
	if err != nil && c.ctx.Err() == nil {
		c.failed(err)
	}
}

// namespace creates a namespace.
func (c *churn) namespace(name, team string) {
	_, err := c.api.Client.CoreV1().Namespaces().Create(c.ctx, &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name, Labels: labelled("team", team)}}, meta.CreateOptions{})
	if err != nil && c.ctx.Err() == nil {
		c.failed(err)
	}
}
