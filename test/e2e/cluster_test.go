package e2e

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const (
	manifests = "../../build/kubernetes/"
	images    = "../../build/image/out/"
	replicas  = "k8s-app=kube-dns" // label of the pods of the base
)

// services are names that any cluster DNS answers; held are those from the hosts entry of the base.
var (
	services = []string{"web.shop.svc.cluster.local", "db.shop.svc.cluster.local", "db-0.db.shop.svc.cluster.local"}
	held     = [][2]string{{"db.corp.example", "192.0.2.10"}, {"corp", "192.0.2.10"}}
)

// TestCluster runs on one cluster. Its parts depend on the earlier ones, at least up to the part "resolve".
func TestCluster(t *testing.T) {
	n := up(t)
	n.names = append([]string{"db.corp.example", "corp.shop.svc.cluster.local"}, services...)
	start := time.Now()
	upstream(t)
	n.load(t, images+"kubehosts.tar")
	n.load(t, images+"kubehosts-slim.tar")
	n.load(t, pack(t, stock, n.bin+"/stock", "/coredns"))
	n.typed(t, "../..", "kubectl apply -k build/kubernetes/base")
	n.must(t, "apply", "-f", "testdata/shop.yaml", "-f", "testdata/stock.yaml")
	n.must(t, "rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=90s")
	n.must(t, "wait", "--for=condition=Ready", "pod", "--all", "--all-namespaces", "--timeout=90s")
	t.Logf("image loaded, base applied, every pod Ready after %v\n%s", time.Since(start).Round(time.Millisecond),
		n.must(t, "get", "pods", "-A", "-o", "wide"))

	n.settled(t, 2)
	t.Logf("kube-proxy: %s", rule(t))

	ofStock := n.editStock(t)
	t.Run("manifests", n.testManifests)
	t.Run("resolve", n.testResolve)
	t.Run("namespace", n.testNamespace)
	t.Run("second", n.testSecond)
	t.Run("edit", n.testEdit)
	t.Run("brokenEdit", n.testBrokenEdit)
	t.Run("whole", n.testWhole)
	t.Run("wholeEdits", n.testWholeEdits)
	t.Run("wholeBroken", n.testWholeBroken)
	t.Run("stock", ofStock) // before the API server stops, which ends streams out of pods
	t.Run("wholeCustom", n.testWholeCustom)
	t.Run("privileges", n.testPrivileges)
	t.Run("explain", n.testExplain)
	t.Run("scale", n.testScale)
	t.Run("roll", n.testRoll)
	t.Run("kill", n.testKill)
	t.Run("drain", n.testDrain)
	t.Run("nodelocal", n.testNodelocal)
	t.Run("kubeadm", n.testKubeadm)
}

// upstreamRecords are all that the DNS server outside the cluster has. Kubernetes' own tests ask for dns.google.
const upstreamRecords = `
outside.example. 60 IN A 198.51.100.7
dns.google. 60 IN A 8.8.8.8
dns.google. 60 IN A 8.8.4.4
8.8.8.8.in-addr.arpa. 60 IN PTR dns.google.
`

// upstream is a DNS server outside the cluster, the one in the node's resolv.conf.
func upstream(t *testing.T) {
	var records []dns.RR
	z := dns.NewZoneParser(strings.NewReader(upstreamRecords), "", "")
	for rr, ok := z.Next(); ok; rr, ok = z.Next() {
		records = append(records, rr)
	}
	if err := z.Err(); err != nil {
		t.Fatal(err)
	}
	handler := func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		for _, rr := range records {
			if !strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
				continue
			}
			m.Rcode = dns.RcodeSuccess
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		w.WriteMsg(m)
	}
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		s := &dns.Server{Addr: address + ":53", Net: network, Handler: dns.HandlerFunc(handler), NotifyStartedFunc: func() { close(started) }}
		go func() {
			if err := s.ListenAndServe(); err != nil {
				t.Error(err)
			}
		}()
		select {
		case <-started:
		case <-time.After(5 * time.Second):
			t.Fatalf("no upstream server on %s", network)
		}
		t.Cleanup(func() { s.Shutdown() })
	}
}

// list returns the pods of a namespace that match a label selector and are not terminating.
func (n *node) list(t testing.TB, namespace, selector string) []core.Pod {
	t.Helper()
	all, err := n.Client.CoreV1().Pods(namespace).List(context.Background(), meta.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all.Items, func(p core.Pod) bool { return p.DeletionTimestamp != nil })
}

// addresses returns the addresses of pods, sorted.
func addresses(all []core.Pod) (ips []string) {
	for _, p := range all {
		ips = append(ips, p.Status.PodIP)
	}
	slices.Sort(ips)
	return ips
}

// settled waits until count replicas are Ready, the others are gone, and kube-proxy's rule points to these
// alone.
func (n *node) settled(t testing.TB, count int) {
	t.Helper()
	cluster.Eventually(t, 90*time.Second, func() (bool, string) {
		all, err := n.Client.CoreV1().Pods("kube-system").List(context.Background(), meta.ListOptions{LabelSelector: replicas})
		if err != nil {
			return false, err.Error()
		}
		var state []string
		ready, rule := 0, rule(t)
		to := destinations(rule)
		for _, p := range all.Items {
			ok := slices.ContainsFunc(p.Status.Conditions, func(c core.PodCondition) bool {
				return c.Type == core.PodReady && c.Status == core.ConditionTrue
			})
			if ok && p.DeletionTimestamp == nil && slices.Contains(to, p.Status.PodIP) {
				ready++
			}
			state = append(state, p.Name+" "+string(p.Status.Phase)+" "+p.Status.PodIP)
		}
		return ready == count && len(all.Items) == count && len(to) == count,
			"pods: " + strings.Join(state, ", ") + "; rule: " + rule
	})
}

// rule returns kube-proxy's rule for UDP queries to the ClusterIP.
func rule(t testing.TB) string {
	_, rest, _ := strings.Cut(command(t, "nft", "list", "table", "ip", "kube-proxy"), "-kube-system/kube-dns/udp/dns {\n")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

var destination = regexp.MustCompile(`([0-9.]+)(?: \. |:)53\b`) // in a map, or alone

// destinations returns the addresses in a rule, sorted.
func destinations(rule string) (ips []string) {
	for _, m := range destination.FindAllStringSubmatch(rule, -1) {
		ips = append(ips, m[1])
	}
	slices.Sort(ips)
	return ips
}

// testResolve resolves names like programs in pods: with the resolv.conf that the kubelet wrote, through the
// ClusterIP.
func (n *node) testResolve(t *testing.T) {
	conf := n.in(t, "client", "cat", "/etc/resolv.conf")
	t.Logf("resolv.conf of a pod:\n%s", conf)
	if want := "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"; conf != want {
		t.Errorf("resolv.conf:\n%swant\n%s", conf, want)
	}
	n.resolve(t, held...)
}

// resolve resolves names of Services, one outside name, and those in more, each with its sorted addresses.
func (n *node) resolve(t *testing.T, more ...[2]string) {
	t.Helper()
	service, err := n.Client.CoreV1().Services("shop").Get(context.Background(), "web", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	db := n.list(t, "shop", "app=db")
	first := db[slices.IndexFunc(db, func(p core.Pod) bool { return p.Name == "db-0" })].Status.PodIP
	web, both := service.Spec.ClusterIP, strings.Join(addresses(db), " ")
	want := append([][2]string{
		{"web", web}, {"web.shop", web}, {"web.shop.svc", web}, {"web.shop.svc.cluster.local", web}, {"web.shop.svc.cluster.local.", web},
		{"db", both}, {"db.shop", both}, {"db-0.db", first}, {"db-0.db.shop.svc.cluster.local", first},
		{"kubernetes.default", "10.96.0.1"}, {"outside.example", "198.51.100.7"},
	}, more...)
	var names []string
	for _, w := range want {
		names = append(names, w[0])
	}
	for _, network := range []string{"udp", "tcp"} {
		lines := strings.Split(strings.TrimSpace(n.in(t, "client", append([]string{"lookup", network}, names...)...)), "\n")
		for i, w := range want {
			f := strings.Fields(lines[i])
			slices.Sort(f[1:])
			if got := strings.Join(f[1:], " "); f[0] != w[0] || got != w[1] {
				t.Errorf("%s over %s: %s, want %s", w[0], network, lines[i], w[1])
			}
		}
		t.Logf("over %s:\n%s", network, strings.Join(lines, "\n"))
	}
}

// testNamespace sends queries from a network namespace that belongs to no pod, made by hand and joined to
// the pods' bridge.
func (n *node) testNamespace(t *testing.T) {
	for _, line := range []string{
		"ip netns add lab",
		"ip link add lab0 type veth peer name eth0 netns lab",
		"ip link set lab0 master cni0 up",
		"ip -n lab address add 10.244.0.250/24 dev eth0",
		"ip -n lab link set eth0 up",
		"ip -n lab route add default via " + gateway,
	} {
		command(t, strings.Fields(line)...)
	}
	defer command(t, "ip", "netns", "delete", "lab")
	for _, network := range []string{"udp", "tcp"} {
		got := command(t, "nsenter", "--net=/run/netns/lab", n.bin+"/pod", "ask", "10.96.0.10:53", network, "db.corp.example", "A")
		if got != "NOERROR 192.0.2.10\n" {
			t.Errorf("from a namespace on the bridge, over %s: %s", network, got)
		}
	}
	t.Logf("the bridge has these ports:\n%s", command(t, "ip", "-br", "link", "show", "master", "cni0"))
}
