package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// Addresses of load balancers: testdata/external/pool.yaml.
const (
	pool   = "198.51.100.0/24"
	moved  = "198.51.100.99" // one of them
	pool6  = "2001:db8:51::/112"
	moved6 = "2001:db8:51::99"
)

const (
	ingress = "shop.example.org"
	route   = "a.till.example.org" // matches the HTTPRoute's *.till.example.org
	desk    = "a.desk.example.org" // will match it
	secure  = "a.secure.example.org"
)

// outsider is a client in a network namespace that no part of the cluster is in.
type outsider struct {
	*node
	dns string // address of the load balancer in front of kubehosts
	etc string // a folder with a resolv.conf that leads there
}

// TestExternal is one story on one cluster, with MetalLB, which gives load balancers their addresses, and Traefik,
// which serves an Ingress and a Gateway. A client outside and a pod ask for their hosts and use the answers.
func TestExternal(t *testing.T) {
	n := upIn(t, dualStack)
	upstream(t)
	start := time.Now()
	n.load(t, images+"kubehosts.tar")
	n.load(t, pack(t, "traefik:v3.6.12", n.bin+"/traefik", "/traefik"))
	n.load(t, pack(t, "quay.io/metallb/controller:v0.15.2", n.bin+"/metallb", "/controller"))
	n.must(t, "apply", "-k", "testdata/external")
	n.must(t, "apply", "-f", manifests+"rbac/external.yaml")
	n.metallb(t)
	n.must(t, "apply", "--server-side", "-k", filepath.Join(module(t, "../traefik", "sigs.k8s.io/gateway-api"), "config/crd"))
	n.must(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
	n.must(t, "apply", "-f", "testdata/external/traefik.yaml", "-f", "testdata/external/shop.yaml")
	for _, d := range []string{"kube-system/coredns", "traefik/traefik", "shop/web", "shop/till"} {
		namespace, name, _ := strings.Cut(d, "/")
		n.must(t, "rollout", "status", "deployment/"+name, "-n", namespace, "--timeout=90s")
	}
	n.must(t, "wait", "--for=condition=Ready", "pod/client", "-n", "shop", "--timeout=60s")
	o := n.outsider(t)
	t.Logf("everything runs after %v\n%s\n%s", time.Since(start).Round(time.Millisecond),
		n.must(t, "get", "services,ingresses", "-A"), n.must(t, "get", "gateways,httproutes", "-A"))

	t.Run("outside", o.testOutside)
	t.Run("inside", func(t *testing.T) { o.inside(t, map[string]string{ingress: "web", route: "till"}) })
	t.Run("backend", o.testBackend)
	t.Run("hostname", o.testHostname)
	t.Run("address", o.testAddress)
	t.Run("agree", o.testAgree)
	t.Run("TLS", o.testTLS)
	t.Run("IPv6", o.testIPv6)
	t.Run("removed", o.testRemoved)
	t.Run("logs", n.testLogs)
}

// module is the folder of a Go module that one of the modules below test/ requires.
func module(t testing.TB, of, path string) string {
	t.Helper()
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path)
	cmd.Dir = of
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return strings.TrimSpace(string(out))
}

// metallb installs MetalLB's controller and gives it addresses.
func (n *node) metallb(t *testing.T) {
	dir := filepath.Join(n.dir, "metallb")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(module(t, "../metallb", "go.universe.tf/metallb"), "config"))); err != nil {
		t.Fatal(err)
	}
	cluster.WriteFile(t, filepath.Join(dir, "kustomization.yaml"), cluster.ReadFile(t, "testdata/external/metallb.yaml"))
	n.must(t, "apply", "-k", dir)
	n.must(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
	n.must(t, "apply", "-f", "testdata/external/pool.yaml")
}

// outsider makes the namespace of the client, with a link to the node, and a route by it to the load balancers. On a
// real network the speaker of MetalLB makes the routers send packets for these addresses to a node. From there on it is
// as on a real one: kube-proxy.
func (n *node) outsider(t *testing.T) *outsider {
	for _, line := range []string{
		"ip netns add outside",
		"ip link add outside0 type veth peer name eth0 netns outside",
		"ip address add 203.0.113.1/24 dev outside0",
		"ip link set outside0 up",
		"ip -n outside address add 203.0.113.10/24 dev eth0",
		"ip -n outside link set eth0 up",
		"ip -n outside route add " + pool + " via 203.0.113.1",
		"ip address add 2001:db8:113::1/64 dev outside0 nodad",
		"ip -n outside address add 2001:db8:113::10/64 dev eth0 nodad",
		"ip -n outside route add " + pool6 + " via 2001:db8:113::1",
	} {
		command(t, strings.Fields(line)...)
	}
	o := &outsider{node: n, dns: n.loadBalancer(t, "kube-system", "dns")}
	o.etc = filepath.Dir(n.write(t, "outside/resolv.conf", "nameserver "+o.dns+"\n"))
	return o
}

// loadBalancer waits until MetalLB has given a Service its address.
func (n *node) loadBalancer(t testing.TB, namespace, name string) (ip string) {
	t.Helper()
	cluster.Eventually(t, 60*time.Second, func() (bool, string) {
		s, err := n.Client.CoreV1().Services(namespace).Get(context.Background(), name, meta.GetOptions{})
		if err != nil || len(s.Status.LoadBalancer.Ingress) == 0 {
			return false, fmt.Sprint("no load balancer of Service ", name, ": ", err)
		}
		ip = s.Status.LoadBalancer.Ingress[0].IP
		return true, ""
	})
	return ip
}

// clusterIPs of Traefik's Service.
func (n *node) clusterIPs(t testing.TB) string {
	t.Helper()
	s, err := n.Client.CoreV1().Services("traefik").Get(context.Background(), "traefik", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(s.Spec.ClusterIPs, " ")
}

// run is a program in the client's namespace. What it printed comes with its error, if it failed.
func (o *outsider) run(args ...string) string {
	out, err := exec.Command("nsenter", append([]string{"--net=/run/netns/outside"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// resolving is run for a program that resolves names by way of the load balancer in front of kubehosts, as by a
// resolver.
func (o *outsider) resolving(args ...string) string {
	return o.run(append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc && exec "$@"`, o.etc}, args...)...)
}

// dig returns the IPv4 addresses of a name, or the status of the reply if it has none.
func (o *outsider) dig(network, name string) string { return o.digFor("A", network, name) }

func (o *outsider) digFor(qtype, network, name string) string {
	text := o.run("dig", "@"+o.dns, "+"+network, "+time=2", "+tries=1", "+noall", "+comments", "+answer", name, qtype)
	var found []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 5 && f[3] == qtype {
			found = append(found, f[4])
		}
	}
	if _, status, ok := strings.Cut(text, "status: "); ok && len(found) == 0 {
		status, _, _ = strings.Cut(status, ",")
		return status
	}
	if len(found) == 0 {
		return text
	}
	return strings.Join(found, " ")
}

// watch follows the answer for a name.
func (o *outsider) watch(t testing.TB, name string) *stream {
	t.Helper()
	return streamOf(t, exec.Command("nsenter", "--net=/run/netns/outside", o.bin+"/pod", "watch", name, o.dns+":53"))
}

// curl is an HTTP request to an address by a name.
func (o *outsider) curl(name, ip string) string {
	return o.run("curl", "--silent", "--show-error", "--max-time", "5", "--resolve", name+":80:"+ip, "http://"+name+"/")
}

// becomes waits until got returns want.
func becomes(t testing.TB, what, want string, got func() string) {
	t.Helper()
	cluster.Eventually(t, 30*time.Second, func() (bool, string) {
		is := got()
		return is == want, what + " is " + is + ", want " + want
	})
}

// answers waits until a backend answers for a name, as get asks for it.
func answers(t testing.TB, backend, name string, get func() string) {
	t.Helper()
	cluster.Eventually(t, 30*time.Second, func() (bool, string) {
		is := get()
		return strings.Contains(is, backend+"-") && strings.HasSuffix(is, " answers for "+name), is + ", want one of " + backend
	})
}

// reaches asks for a name outside, over UDP and TCP, and for what is at the address.
func (o *outsider) reaches(t testing.TB, name, ip, backend string) {
	t.Helper()
	for _, network := range []string{"notcp", "tcp"} {
		becomes(t, "the address of "+name+", +"+network, ip, func() string { return o.dig(network, name) })
	}
	answers(t, backend, name, func() string { return o.curl(name, ip) })
}

// testOutside asks for an Ingress, for names below a wildcard of an HTTPRoute, for Services of type LoadBalancer, and
// for names that nobody has.
func (o *outsider) testOutside(t *testing.T) {
	ip := o.loadBalancer(t, "traefik", "traefik")
	o.reaches(t, ingress, ip, "web")
	o.reaches(t, route, ip, "till")
	o.reaches(t, "b."+route, ip, "till") // a wildcard of the Gateway API is for any number of labels
	for name, want := range map[string]string{
		"till.example.org": "NOERROR", "no.example.org": "NXDOMAIN", "traefik.traefik.example.org": ip, "dns.kube-system.example.org": o.dns,
	} {
		becomes(t, name, want, func() string { return o.dig("notcp", name) })
	}
	glue := o.run("dig", "@"+o.dns, "+noall", "+answer", "+additional", "example.org", "NS") // what a zone above delegates with
	if want := "example.org. 60 IN NS ns.dns.example.org. ns.dns.example.org. 60 IN A " + o.dns; strings.Join(strings.Fields(glue), " ") != want {
		t.Errorf("NS records and glue:\n%s\nwant %s", glue, want)
	}
	o.show(t, ip)
}

// show prints the way of a request, as build/kubernetes/README.md has it.
func (o *outsider) show(t testing.TB, ip string) {
	t.Helper()
	for _, args := range [][]string{
		{"dig", "@" + o.dns, "+noall", "+answer", ingress, route, "dns.kube-system.example.org"},
		{"dig", "@" + o.dns, "+noall", "+authority", "no.example.org"},
		{"dig", "@" + o.dns, "+noall", "+answer", "+additional", "example.org", "NS"},
		{"ip", "-br", "address"},
		{"ip", "route"},
		{"curl", "--silent", "--resolve", ingress + ":80:" + ip, "http://" + ingress + "/"},
		{"curl", "--silent", "--resolve", route + ":80:" + ip, "http://" + route + "/"},
	} {
		t.Logf("outside $ %s\n%s", strings.Join(args, " "), o.run(args...))
	}
	rules := command(t, "nft", "list", "table", "ip", "kube-proxy")
	_, chain, _ := strings.Cut(rules, ip+" . tcp . 80 : goto ")
	chain = strings.TrimSuffix(strings.Fields(chain + " -")[0], ",")
	for _, line := range []string{
		"nft list map ip kube-proxy service-ips", "nft list chain ip kube-proxy " + chain,
		"nft list chain ip kube-proxy " + strings.Replace(chain, "external-", "service-", 1),
	} {
		out, err := exec.Command("sh", "-c", line).CombinedOutput()
		t.Logf("$ %s %v\n%s", line, err, out)
	}
	for _, line := range []string{
		"get services -A", "get ingress -n shop", "get gateways,httproutes -A", "get endpointslices -n shop", "get pods -A -o wide",
	} {
		t.Logf("$ kubectl %s\n%s", line, o.must(t, strings.Fields(line)...))
	}
}

// inside asks for names and their backends as a pod does, by its resolv.conf. They lead to the cluster IP of the
// Service whose load balancer it is.
func (o *outsider) inside(t *testing.T, backends map[string]string) {
	ip := o.clusterIPs(t)
	for name, backend := range backends {
		for _, network := range []string{"udp", "tcp"} {
			becomes(t, name+" in a pod over "+network, name+" "+ip+"\n", func() string { return o.in(t, "client", "lookup", network, name) })
		}
		get := func() string { return strings.TrimSuffix(o.in(t, "client", "get", "http://"+name+"/"), "\n") }
		answers(t, backend, name, get)
		t.Logf("in a pod: %s at %s: %s", name, ip, get())
	}
}

// patch changes an object as `kubectl patch` does.
func (n *node) patch(t testing.TB, namespace, object string, patch any) time.Time {
	t.Helper()
	b, err := json.Marshal(patch)
	if err != nil {
		t.Fatal(err)
	}
	n.must(t, "patch", object, "-n", namespace, "--type=merge", "-p", string(b))
	return time.Now()
}

// fields of an object.
type fields = map[string]any

// testBackend leads the Ingress and the HTTPRoute to each other's backend while their names are asked for. These must
// not vanish meanwhile, although the route has to be accepted anew.
func (o *outsider) testBackend(t *testing.T) {
	ip := o.loadBalancer(t, "traefik", "traefik")
	w := o.watch(t, route)
	w.answered(t, "NOERROR "+ip, 10*time.Second)
	o.patch(t, "shop", "ingress/web", fields{"spec": fields{"rules": []fields{{"host": ingress, "http": fields{"paths": []fields{
		{"path": "/", "pathType": "Prefix", "backend": fields{"service": fields{"name": "till", "port": fields{"name": "http"}}}}}}}}}})
	o.patch(t, "shop", "httproute/till", fields{"spec": fields{"rules": []fields{{"backendRefs": []fields{{"name": "web", "port": 80}}}}}})
	o.reaches(t, ingress, ip, "till")
	o.reaches(t, route, ip, "web")
	w.still(t)
}

// testHostname moves the HTTPRoute to other hosts: its new ones answer and the old ones are gone.
func (o *outsider) testHostname(t *testing.T) {
	ip := o.loadBalancer(t, "traefik", "traefik")
	w := o.watch(t, desk)
	w.answered(t, "NXDOMAIN", 10*time.Second)
	left := o.patch(t, "shop", "httproute/till", fields{"spec": fields{"hostnames": []string{"*.desk.example.org"}}})
	t.Logf("kubectl patch of the route to the answer: %v", w.answered(t, "NOERROR "+ip, 30*time.Second).Sub(left).Round(time.Millisecond))
	o.reaches(t, desk, ip, "web")
	becomes(t, route, "NXDOMAIN", func() string { return o.dig("notcp", route) })
}

// testAddress gives Traefik's load balancer another address, which MetalLB writes to the Service, Traefik to its
// Ingress and its Gateway, and all names follow. Inside nothing changes.
func (o *outsider) testAddress(t *testing.T) {
	ip := o.loadBalancer(t, "traefik", "traefik")
	w := o.watch(t, ingress)
	w.answered(t, "NOERROR "+ip, 10*time.Second)
	left := o.patch(t, "traefik", "service/traefik", fields{"metadata": fields{"annotations": fields{"metallb.io/loadBalancerIPs": moved}}})
	t.Logf("a new address to the answer: %v", w.answered(t, "NOERROR "+moved, 30*time.Second).Sub(left).Round(time.Millisecond))
	o.reaches(t, ingress, moved, "till")
	o.reaches(t, desk, moved, "web")
	o.inside(t, map[string]string{ingress: "till", desk: "web"})
}

// testAgree asks for names about which the rules of Ingress and of the Gateway API differ. A name has an address
// exactly if Traefik has a backend for it.
func (o *outsider) testAgree(t *testing.T) {
	o.must(t, "apply", "-f", "testdata/external/rules.yaml")
	for _, name := range []string{
		"a.stand.example.org",
		"a.booth.example.org", "a.b.booth.example.org", // in the Gateway API a wildcard is for any number of labels
		"a.open.example.org", "a.b.open.example.org", // the listener's, as the route has none
		"a.kiosk.example.org", // what route and listener have in common
		desk, ingress,
	} {
		becomes(t, name, moved+", HTTP 200", func() string { return o.dig("notcp", name) + ", HTTP " + o.status(name) })
	}
	for name, rcode := range map[string]string{
		"a.b.stand.example.org": "NXDOMAIN", "stand.example.org": "NOERROR", // in an Ingress a wildcard is for one label
		"booth.example.org": "NOERROR", "open.example.org": "NOERROR",
		"kiosk.example.org": "NOERROR", "market.example.org": "NXDOMAIN", // of routes, and no listener's hostname matches them
		"example.org": "NOERROR", "no.example.org": "NXDOMAIN",
	} {
		becomes(t, name, rcode+", HTTP 404", func() string { return o.dig("notcp", name) + ", HTTP " + o.status(name) })
	}
}

// status is that of an HTTP request to Traefik.
func (o *outsider) status(name string) string {
	return o.run("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "5",
		"--resolve", name+":80:"+moved, "http://"+name+"/")
}

// testTLS adds a Gateway that ends TLS. A client that resolves its host by this server finds the certificate that it
// trusts there.
func (o *outsider) testTLS(t *testing.T) {
	certificate, key := certify(t, "*.secure.example.org")
	_, err := o.Client.CoreV1().Secrets("traefik").Create(context.Background(), &core.Secret{
		ObjectMeta: meta.ObjectMeta{Name: "secure"}, Type: core.SecretTypeTLS,
		Data: map[string][]byte{core.TLSCertKey: certificate, core.TLSPrivateKeyKey: key},
	}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.must(t, "apply", "-f", "testdata/external/secure.yaml")
	becomes(t, secure, moved, func() string { return o.dig("notcp", secure) })
	trusted := o.write(t, "secure.crt", string(certificate))
	answers(t, "till", secure, func() string {
		return o.resolving("curl", "--silent", "--show-error", "--max-time", "5", "--cacert", trusted, "https://"+secure+"/")
	})
}

// certify makes a certificate for a name, signed by itself, and its key.
func certify(t testing.TB, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubehosts e2e"}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	certificate, err = x509.CreateCertificate(rand.Reader, of, of, private.Public(), private)
	if err == nil {
		key, err = x509.MarshalPKCS8PrivateKey(private)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
}

// testIPv6 makes Traefik's Service one of both families. MetalLB gives its load balancer an IPv6 address beside the
// other one, and the names follow: they lead to backends over IPv6 alone, and inside to both cluster IPs.
func (o *outsider) testIPv6(t *testing.T) {
	becomes(t, "the IPv6 address of "+ingress, "NOERROR", func() string { return o.digFor("AAAA", "notcp", ingress) })
	o.patch(t, "traefik", "service/traefik", fields{
		"metadata": fields{"annotations": fields{"metallb.io/loadBalancerIPs": moved + "," + moved6}}, "spec": fields{"ipFamilyPolicy": "PreferDualStack"},
	})
	for name, backend := range map[string]string{ingress: "till", desk: "web"} {
		becomes(t, "the IPv6 address of "+name, moved6, func() string { return o.digFor("AAAA", "notcp", name) })
		becomes(t, "the IPv4 address of "+name, moved, func() string { return o.dig("tcp", name) })
		answers(t, backend, name, func() string {
			return o.resolving("curl", "-6", "--silent", "--show-error", "--max-time", "5", "http://"+name+"/")
		})
	}
	o.inside(t, map[string]string{ingress: "till", desk: "web"})
}

// testRemoved deletes the Ingress and the HTTPRoute: their names are gone.
func (o *outsider) testRemoved(t *testing.T) {
	o.must(t, "delete", "ingress/web", "httproute/till", "-n", "shop")
	for _, name := range []string{ingress, desk} {
		becomes(t, name, "NXDOMAIN", func() string { return o.dig("notcp", name) })
	}
}

// testLogs reads what the replicas had to warn of: nothing, although they ran before there were definitions of the
// Gateway API, load balancers with an address and routes that a Gateway had accepted.
func (n *node) testLogs(t *testing.T) {
	for _, p := range n.list(t, "kube-system", replicas) {
		log := n.must(t, "logs", "-n", "kube-system", p.Name)
		if !strings.Contains(log, " (external names)") {
			t.Errorf("%s does not serve external names:\n%s", p.Name, log)
		}
		for line := range strings.Lines(log) {
			if strings.HasPrefix(line, "[WARNING]") || strings.HasPrefix(line, "[ERROR]") {
				t.Errorf("%s: %s", p.Name, line)
			}
		}
	}
}
