package monitoring

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// A Corefile like that of build/kubernetes/base. Replicas differ in BIND, READY and METRICS; the name of their server
// block and their stanza are the same.
const corefile = `.:PORT {
	bind BIND
	errors
	ready READY
	prometheus METRICS
	kubehosts cluster.local in-addr.arpa {
		kubeconfig KUBECONFIG
		configmap kube-system/coredns
		snapshot state/snapshot.gz
		hosts corp.hosts
		external apps.example.org {
			from service
		}
	}
	forward . UPSTREAM {
		max_fails 0 # else one try of 2 s is all that an answer takes, once each of them failed
	}
	cache 30 {
		disable success cluster.local corp.example
		disable denial cluster.local corp.example
	}
	reload 2s 1s
}
whoami.example:PORT {
	bind BIND
	prometheus METRICS
	whoami
}
`

// wholeCorefile is the Corefile that the fourth replica follows with -configmap. ADDRESS stands for an
// address.
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
	forward . UPSTREAM
}
`

const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.7.10, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
`

// claim is a Service that claims the name open.apps.example.org, with the address 198.51.100.NUMBER.
const claim = `
apiVersion: v1
kind: Service
metadata:
  name: open-NUMBER
  namespace: shop
  annotations: {coredns.io/hostname: open.apps.example.org}
spec: {type: LoadBalancer, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 198.51.100.NUMBER}]}}
`

// endpoints is the EndpointSlice of a Service as the endpoint controller writes it: with the time of the change.
const endpoints = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: SERVICE-1
  namespace: shop
  labels: {kubernetes.io/service-name: SERVICE}
  annotations: {endpoints.kubernetes.io/last-change-trigger-time: "TIME"}
addressType: IPv4
ports: [{port: 80}]
endpoints:
- {addresses: [10.244.1.NUMBER], conditions: {ready: true}}
`

// world is four replicas on an API server, and a Prometheus that scrapes them while they get queries and objects
// change. The second replica is behind a gate, and the fourth has the whole Corefile from the ConfigMap.
type world struct {
	api      *cluster.API
	gate     *cluster.Gate
	upstream *upstream
	data     map[string]string // of the ConfigMap
	replicas map[string]*cluster.CoreDNS
	prom     *prometheus
	started  time.Time
}

const first, second, third, fourth = "coredns-a", "coredns-b", "coredns-c", "coredns-d"

func newWorld(t *testing.T) *world {
	kube, err := cluster.Kube()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{data: make(map[string]string), replicas: make(map[string]*cluster.CoreDNS)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if w.api, err = cluster.Start(ctx, kube, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.api.Stop)
	w.api.Apply(t, objects+"---\n"+cluster.ReadFile(t, "../../build/kubernetes/rbac/rbac.yaml"))
	w.claim(t, "1")
	w.edit(t, "192.0.2.1")
	who := w.api.Account(t, "kube-system", "coredns")
	w.gate = w.api.Gate(t)
	w.upstream = newUpstream(t)

	kubeconfig := cluster.Kubeconfig(t, w.gate.URL, who.Token)
	text := strings.NewReplacer("PORT", fmt.Sprint(cluster.FreePort()), "UPSTREAM", strings.Join(w.upstream.addrs, " "), "KUBECONFIG", kubeconfig).Replace(corefile)
	w.launch(t, second, "127.0.0.2", text)
	// This replica has read the file. For the others it contains the API server's own address.
	cluster.WriteFile(t, kubeconfig, strings.ReplaceAll(cluster.ReadFile(t, kubeconfig), w.gate.URL, w.api.URL))
	w.launch(t, first, "127.0.0.1", text)
	w.launch(t, third, "127.0.0.3", text)
	w.launchWhole(t, kubeconfig)

	w.prom = startPrometheus(t, w.replicas)
	w.started = time.Now()
	w.change(t)
	for _, c := range w.replicas {
		ask(t, c.Addr)
	}
	return w
}

// launch starts a replica and waits until it is ready.
func (w *world) launch(t *testing.T, name, address, text string) {
	t.Helper()
	bin, err := cluster.Kubehosts()
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.Launch(t, bin, strings.ReplaceAll(text, "BIND", address))
	w.replicas[name] = c
	// The folder of the Corefile is known now. Without these two the start goes on, and kubehosts looks for both again
	// later.
	if err := os.Mkdir(c.Path("state"), 0o755); err != nil {
		t.Fatal(err)
	}
	cluster.WriteFile(t, c.Path("corp.hosts"), "192.0.2.40 git.corp.example\n")
	c.WaitReady(t)
	_, port, _ := strings.Cut(text, ":")
	port, _, _ = strings.Cut(port, " ")
	c.Addr = net.JoinHostPort(address, port)
}

// claim creates the Service of that number, and returns a function that removes it.
func (w *world) claim(t *testing.T, number string) (remove func()) {
	t.Helper()
	text := strings.ReplaceAll(claim, "NUMBER", number)
	w.api.Apply(t, text)
	w.api.ApplyStatus(t, text)
	return func() { w.api.Delete(t, text) }
}

// launchWhole starts the fourth replica.
func (w *world) launchWhole(t *testing.T, kubeconfig string) {
	t.Helper()
	bin, err := cluster.Kubehosts()
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.Prepare(t, strings.NewReplacer("KUBECONFIG", kubeconfig, "ADDRESS", "192.0.2.1",
		"UPSTREAM", strings.Join(w.upstream.addrs, " ")).Replace(wholeCorefile))
	w.replicas[fourth] = c
	w.put(t, "Whole", cluster.ReadFile(t, c.Path("Corefile")))
	t.Setenv("KUBECONFIG", kubeconfig)
	c.Start(t, bin, "-configmap", "kube-system/coredns:Whole")
	c.WaitReady(t)
}

// edit stores the stanza that the replicas follow, with an entry for the address.
func (w *world) edit(t *testing.T, address string) {
	t.Helper()
	w.put(t, "Corefile", "kubehosts cluster.local in-addr.arpa {\n hosts {\n  "+address+" live.example.org\n }\n"+
		" external apps.example.org {\n  from service\n }\n}\n")
}

// put writes a key of the ConfigMap.
func (w *world) put(t *testing.T, key, text string) {
	t.Helper()
	w.data[key] = text
	w.api.PutConfigMap(t, "coredns", w.data)
}

// change repeatedly changes one object of each watched kind until the test ends, so that the API server sends something
// more often than once a minute.
func (w *world) change(t *testing.T) {
	ctx, client := t.Context(), w.api.Client.CoreV1()
	var number atomic.Int64
	every(t, scraping, func() {
		n := number.Add(1)
		touch := []byte(fmt.Sprintf(`{"metadata":{"annotations":{"touched":"%d"}}}`, n))
		_, err := client.Namespaces().Patch(ctx, "shop", types.MergePatchType, touch, meta.PatchOptions{})
		if err == nil {
			_, err = client.Services("shop").Patch(ctx, "web", types.MergePatchType, touch, meta.PatchOptions{})
		}
		if err == nil {
			_, err = client.ConfigMaps("kube-system").Patch(ctx, "coredns", types.MergePatchType, touch, meta.PatchOptions{})
		}
		for _, service := range []string{"web", "db"} {
			if err == nil {
				err = w.putSlice(ctx, service, n)
			}
		}
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
}

// putSlice writes the EndpointSlice of a Service.
func (w *world) putSlice(ctx context.Context, service string, n int64) error {
	text := strings.NewReplacer("SERVICE", service, "TIME", time.Now().Format(time.RFC3339Nano), "NUMBER", fmt.Sprint(1+n%200)).Replace(endpoints)
	force := true
	return w.api.Client.RESTClient().Patch(types.ApplyYAMLPatchType).
		RequestURI("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/"+service+"-1").Body([]byte(text)).
		VersionedParams(&meta.PatchOptions{FieldManager: "test", Force: &force}, meta.ParameterCodec).Do(ctx).Error()
}

// every calls do in each period until the test ends.
func every(t *testing.T, period time.Duration, do func()) {
	ended := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(ended)
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do()
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { <-ended })
}

// ask sends a replica the queries of pods, twenty times a second, and queries for the upstream servers eight times a
// second, without waiting for their replies. The metrics show whether there are answers.
func ask(t *testing.T, addr string) {
	type question struct {
		name  string
		qtype uint16
	}
	questions := []question{
		{"web.shop.svc.cluster.local.", dns.TypeA}, {"web.shop.svc.cluster.local.", dns.TypeAAAA}, {"db.shop.svc.cluster.local.", dns.TypeA},
		{"_x._tcp.db.shop.svc.cluster.local.", dns.TypeSRV}, {"nobody.shop.svc.cluster.local.", dns.TypeA}, {"live.example.org.", dns.TypeA},
		{"git.corp.example.", dns.TypeA}, {"10.7.96.10.in-addr.arpa.", dns.TypePTR}, {"whoami.example.", dns.TypeA},
	}
	next, conn := 0, client(t, "udp", addr)
	every(t, 50*time.Millisecond, func() {
		q := questions[next%len(questions)]
		next++
		conn.ask(q.name, q.qtype, time.Second/2)
	})
	number, forwarded := 0, client(t, "udp", addr)
	every(t, 125*time.Millisecond, func() {
		number++ // every other name is new, and *cache* can answer the rest
		forwarded.ask(fmt.Sprintf("%d.example.com.", number%2*number), dns.TypeA, 0)
	})
	tcp := client(t, "tcp", addr)
	every(t, time.Second, func() { tcp.ask("web.shop.svc.cluster.local.", dns.TypeA, time.Second) })
}

// asker is a client that replaces its socket when necessary.
type asker struct {
	network, addr string
	conn          *dns.Conn
}

func client(t *testing.T, network, addr string) *asker {
	a := &asker{network: network, addr: addr}
	t.Cleanup(a.close)
	return a
}

func (a *asker) close() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
}

// ask sends a query and waits for the answer, unless patience is 0.
func (a *asker) ask(name string, qtype uint16, patience time.Duration) {
	if a.conn == nil {
		conn, err := dns.DialTimeout(a.network, a.addr, time.Second)
		if err != nil {
			return
		}
		a.conn = conn
	}
	a.conn.SetWriteDeadline(time.Now().Add(time.Second))
	a.conn.SetReadDeadline(time.Now().Add(patience))
	err := a.conn.WriteMsg(new(dns.Msg).SetQuestion(name, qtype))
	if err == nil && patience > 0 {
		_, err = a.conn.ReadMsg()
	}
	if err != nil {
		a.close()
	}
}

// upstream is the DNS servers to which queries are forwarded, three as in many a resolv.conf. When mute, they accept
// queries and never answer: *forward* tries one after the other, 2 seconds each.
type upstream struct {
	addrs []string
	mute  atomic.Bool
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := new(upstream)
	for range 3 {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u.addrs = append(u.addrs, conn.LocalAddr().String())
		server := &dns.Server{PacketConn: conn, Handler: u}
		go server.ActivateAndServe()
		t.Cleanup(func() { server.Shutdown() })
	}
	return u
}

// ServeDNS implements dns.Handler.
func (u *upstream) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	if u.mute.Load() {
		return
	}
	m := new(dns.Msg).SetReply(q)
	if question := q.Question[0]; question.Qtype == dns.TypeA {
		header := dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 80)}}
	}
	w.WriteMsg(m)
}

// breakCorefile replaces the replica's Corefile by one that does not parse, and returns a function that
// restores the old one.
func breakCorefile(t *testing.T, c *cluster.CoreDNS) (repair func()) {
	path := c.Path("Corefile")
	good := cluster.ReadFile(t, path)
	cluster.WriteFile(t, path, strings.Replace(good, "whoami\n", "whomai\n", 1))
	return func() { cluster.WriteFile(t, path, good) }
}

// move renames a folder, and returns a function that moves it back.
func move(t *testing.T, folder string) (back func()) {
	away := filepath.Clean(folder) + ".away"
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	rename(folder, away)
	return func() { rename(away, folder) }
}
