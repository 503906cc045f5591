package test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/kubehosts/kubehosts/plugin"
	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The size of the world that is served, and of the hosts file.
const (
	benchServices  = 8000 // every other one is headless
	benchEndpoints = 10   // of each
	benchSpaces    = 80   // namespaces
	benchHosts     = 100_000
)

// grabbed is the handler that stands first in the last server block that was set up.
var grabbed plugin.Handler

func init() {
	// A plugin ahead of all others that is not in the chain of handlers, but takes hold of the one behind it: the
	// plugin under test, with whatever its own setup made of it.
	plugin.Register("grab", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
			grabbed = next
			return next
		})
		return nil
	})
	dnsserver.Directives = []string{"grab", "kubehosts", "hosts", "kubernetes"}
}

// handler runs a stanza in a server of its own and returns the plugin's handler, once it is ready.
func handler(b *testing.B, stanza string) plugin.Handler {
	b.Helper()
	if err := dnsserver.Register(); err != nil {
		b.Fatal(err)
	}
	caddy.Quiet, dnsserver.Quiet = true, true
	corefile := fmt.Sprintf(".:%d {\ngrab\n%s\n}\n", cluster.FreePort(), stanza)
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(corefile), Filepath: "Corefile", ServerTypeName: "dns"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, err := range instance.ShutdownCallbacks() {
			b.Error(err)
		}
		instance.Stop()
	})
	return grabbed
}

// contender is a plugin in the race, with the memory that it took to load it.
type contender struct {
	name string
	plugin.Handler
	heap uint64 // bytes
}

// contenders loads both plugins, one after the other, each with the stanza that write makes of its name.
func contenders(b *testing.B, stock string, write func(name string) string) []contender {
	b.Helper()
	var all []contender
	for _, name := range []string{"kubehosts", stock} {
		before := heap()
		h := handler(b, write(name))
		all = append(all, contender{name, h, heap() - before})
	}
	return all
}

// heap is what is live after a collection.
func heap() uint64 {
	goruntime.GC()
	goruntime.GC() // finalizers and pools
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.HeapAlloc
}

// drop is a writer that forgets the reply, or keeps it where it is asked to.
type drop struct {
	keep  bool
	reply *dns.Msg
}

var client = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40212}

func (d *drop) WriteMsg(m *dns.Msg) error {
	if d.keep {
		d.reply = m
	}
	return nil
}
func (d *drop) Write(b []byte) (int, error) { return len(b), nil }
func (d *drop) LocalAddr() net.Addr         { return client }
func (d *drop) RemoteAddr() net.Addr        { return client }
func (d *drop) Close() error                { return nil }
func (d *drop) TsigStatus() error           { return nil }
func (d *drop) TsigTimersOnly(bool)         {}
func (d *drop) Hijack()                     {}

// reply is what h answers, in the words of cluster.Text.
func reply(b *testing.B, h plugin.Handler, q *dns.Msg) string {
	b.Helper()
	w := &drop{keep: true}
	if _, err := h.ServeDNS(context.Background(), w, q); err != nil {
		b.Fatal(err)
	}
	if w.reply == nil {
		return "no reply"
	}
	return cluster.Text(w.reply)
}

// race measures how long each contender takes for the questions that name gives, one after the other, having made sure
// that all give the same answers, with rcode and the number of records that the question is meant to have.
func race(b *testing.B, what string, all []contender, qtype uint16, rcode, records int, name func(i int) string) {
	b.Helper()
	questions := make([]*dns.Msg, 1000)
	for i := range questions {
		questions[i] = new(dns.Msg).SetQuestion(name(i), qtype)
	}
	for _, q := range questions[:20] {
		want := reply(b, all[0], q)
		if n := strings.Count(want, "\n") - strings.Count(want, "\na"); !strings.HasPrefix(want, dns.RcodeToString[rcode]) || n != records {
			b.Fatalf("%s: %s", q.Question[0].String(), want)
		}
		for _, c := range all[1:] {
			if got := reply(b, c, q); got != want {
				b.Fatalf("%s: %s says\n%s\n%s says\n%s", q.Question[0].String(), all[0].name, want, c.name, got)
			}
		}
	}
	for _, c := range all {
		b.Run(what+"/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			w, ctx, i := &drop{}, context.Background(), 0
			for b.Loop() {
				c.ServeDNS(ctx, w, questions[i])
				if i++; i == len(questions) {
					i = 0
				}
			}
		})
	}
}

// world makes the objects: Service svc-I in namespace ns-(I mod 80), with cluster IPs where I is even.
func world() *objectServer {
	s := &objectServer{objects: map[string][]runtime.Object{}}
	add := func(kind string, o runtime.Object) { s.objects[kind] = append(s.objects[kind], o) }
	for i := range benchSpaces {
		add("namespaces", &core.Namespace{ObjectMeta: object("", fmt.Sprintf("ns-%d", i), i)})
	}
	for i := range benchServices {
		space, name := fmt.Sprintf("ns-%d", i%benchSpaces), fmt.Sprintf("svc-%d", i)
		svc := &core.Service{ObjectMeta: object(space, name, i), Spec: core.ServiceSpec{
			Type: core.ServiceTypeClusterIP, ClusterIP: core.ClusterIPNone, ClusterIPs: []string{core.ClusterIPNone},
			Selector: map[string]string{"app": name},
			Ports:    []core.ServicePort{{Name: "http", Protocol: core.ProtocolTCP, Port: 80}},
		}}
		if i%2 == 0 {
			svc.Spec.ClusterIP = clusterIP(i)
			svc.Spec.ClusterIPs = []string{clusterIP(i)}
		}
		add("services", svc)
		slice := &discovery.EndpointSlice{
			ObjectMeta:  object(space, name+"-x2zf8", i),
			AddressType: discovery.AddressTypeIPv4,
			Ports:       []discovery.EndpointPort{{Name: new("http"), Protocol: new(core.ProtocolTCP), Port: new(int32(8080))}},
		}
		slice.Labels[discovery.LabelServiceName] = name
		for e := range benchEndpoints {
			n := i*benchEndpoints + e
			slice.Endpoints = append(slice.Endpoints, discovery.Endpoint{
				Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255)},
				Conditions: discovery.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
				NodeName:   new(fmt.Sprintf("node-%d", n%250)),
				TargetRef:  &core.ObjectReference{Kind: "Pod", Namespace: space, Name: fmt.Sprintf("%s-5d89d6c7b9-%05d", name, e)},
			})
		}
		add("endpointslices", slice)
	}
	return s
}

func object(namespace, name string, i int) meta.ObjectMeta {
	return meta.ObjectMeta{
		Namespace: namespace, Name: name, ResourceVersion: fmt.Sprint(i + 1),
		Labels: map[string]string{"app.kubernetes.io/name": name},
	}
}

func clusterIP(i int) string { return fmt.Sprintf("10.96.%d.%d", i>>8, i&255) }

// BenchmarkServices asks both plugins for what is in a world of 8,000 Services with 10 endpoints each.
func BenchmarkServices(b *testing.B) {
	kubeconfig := cluster.Kubeconfig(b, world().start(b), "none")
	all := contenders(b, "kubernetes", func(name string) string {
		return name + " cluster.local in-addr.arpa {\nkubeconfig " + kubeconfig + "\nstartup_timeout 60s\n}"
	})
	for _, c := range all {
		b.Run("memory/"+c.name, func(b *testing.B) {
			for b.Loop() {
			}
			b.ReportMetric(float64(c.heap)/(1<<20), "MB-heap")
			b.ReportMetric(float64(c.heap)/(benchServices*benchEndpoints), "B/endpoint")
			b.ReportMetric(0, "ns/op")
		})
	}
	even := func(i int) int { return i * 6 % benchServices }
	odd := func(i int) int { return even(i) + 1 }
	service := func(i int) string { return fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local.", i, i%benchSpaces) }

	race(b, "ClusterIP-A", all, dns.TypeA, dns.RcodeSuccess, 1, func(i int) string { return service(even(i)) })
	race(b, "ClusterIP-AAAA", all, dns.TypeAAAA, dns.RcodeSuccess, 0, func(i int) string { return service(even(i)) })
	race(b, "headless-A-10", all, dns.TypeA, dns.RcodeSuccess, 10, func(i int) string { return service(odd(i)) })
	race(b, "ClusterIP-SRV", all, dns.TypeSRV, dns.RcodeSuccess, 1, func(i int) string { return "_http._tcp." + service(even(i)) })
	race(b, "headless-SRV-10", all, dns.TypeSRV, dns.RcodeSuccess, 10, func(i int) string { return "_http._tcp." + service(odd(i)) })
	race(b, "NXDOMAIN-search", all, dns.TypeA, dns.RcodeNameError, 0, func(i int) string {
		return fmt.Sprintf("example.com.ns-%d.svc.cluster.local.", i%benchSpaces)
	})
	race(b, "PTR", all, dns.TypePTR, dns.RcodeSuccess, 1, func(i int) string {
		name, _ := dns.ReverseAddr(clusterIP(even(i)))
		return name
	})
}

// BenchmarkHosts asks both plugins for what is in a hosts file of 100,000 lines.
func BenchmarkHosts(b *testing.B) {
	address := func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255) }
	path := filepath.Join(b.TempDir(), "hosts")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for i := range benchHosts {
		fmt.Fprintf(w, "%s host-%d.example.org\n", address(i), i)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	f.Close()
	all := contenders(b, "hosts", func(name string) string {
		if name == "hosts" {
			return "hosts " + path
		}
		return name + " {\nhosts " + path + "\n}"
	})
	race(b, "A", all, dns.TypeA, dns.RcodeSuccess, 1, func(i int) string { return fmt.Sprintf("host-%d.example.org.", i*97) })
	race(b, "PTR", all, dns.TypePTR, dns.RcodeSuccess, 1, func(i int) string {
		name, _ := dns.ReverseAddr(address(i * 97))
		return name
	})
}

// BenchmarkFloor is what no plugin can be under: a handler that writes one constant A reply.
func BenchmarkFloor(b *testing.B) {
	address := net.IPv4(10, 96, 0, 1).To4()
	floor := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg).SetReply(r)
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5},
			A:   address,
		}}
		w.WriteMsg(m)
		return dns.RcodeSuccess, nil
	})
	race(b, "A", []contender{{"floor", floor, 0}}, dns.TypeA, dns.RcodeSuccess, 1, func(int) string { return "svc.ns.svc.cluster.local." })
}
