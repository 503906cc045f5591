package bench

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// The size of the clusters for the measurements of external names: Ingress web-I and HTTPRoute route-I in
// namespace team-(I mod 500), and Service lb-I in namespace ns-(I mod 80).
const (
	manyIngresses = 50_000 // with two hosts each
	manyRoutes    = 50_000
	gateways      = 4
	teams         = 500
	manyBalancers = 8000
)

// The addresses of all load balancers.
const (
	ingressAddress  = "192.0.2.1"
	gatewayAddress  = "192.0.2.2"
	balancerAddress = "192.0.2.3"
)

func team(i int) string { return fmt.Sprintf("team-%d", i%teams) }

// hostOf is a name claimed by an object of the i-th team.
func hostOf(what string, i int) string { return fmt.Sprintf("%s-%d.%s.example.org", what, i, team(i)) }

func addTeams(add adder) {
	for i := range teams {
		add("namespaces", &core.Namespace{ObjectMeta: object("", team(i), i)})
	}
}

func addIngresses(add adder) {
	for i := range manyIngresses {
		add("ingresses", ingress(team(i), fmt.Sprintf("web-%d", i), i, hostOf("web", i), hostOf("shop", i)))
	}
}

func addRoutes(add adder) {
	for i := range gateways {
		add("gateways", gatewayOf("gateways", fmt.Sprintf("gateway-%d", i), i))
	}
	for i := range manyRoutes {
		add("httproutes", httpRoute(team(i), fmt.Sprintf("route-%d", i), i, "gateways", hostOf("route", i)))
	}
}

func addBalancers(add adder) {
	for i := range spaces {
		add("namespaces", &core.Namespace{ObjectMeta: object("", fmt.Sprintf("ns-%d", i), i)})
	}
	for i := range manyBalancers {
		s := balancer(fmt.Sprintf("ns-%d", i%spaces), fmt.Sprintf("lb-%d", i), clusterIP(i), i)
		s.Status.LoadBalancer.Ingress = []core.LoadBalancerIngress{{IP: balancerAddress}}
		add("services", s)
	}
}

// balancer is a Service of type LoadBalancer without an address.
func balancer(space, name, address string, i int) *core.Service {
	s := service(space, name, address, i)
	s.Spec.Type, s.Spec.AllocateLoadBalancerNodePorts = core.ServiceTypeLoadBalancer, new(false)
	return s
}

// ingress is an Ingress whose load balancer has an address.
func ingress(space, name string, i int, hosts ...string) *networking.Ingress {
	o := &networking.Ingress{ObjectMeta: object(space, name, i), Spec: networking.IngressSpec{IngressClassName: new("nginx")}}
	for _, host := range hosts {
		o.Spec.TLS = append(o.Spec.TLS, networking.IngressTLS{Hosts: []string{host}, SecretName: "certificate-" + host})
		o.Spec.Rules = append(o.Spec.Rules, networking.IngressRule{Host: host, IngressRuleValue: networking.IngressRuleValue{
			HTTP: &networking.HTTPIngressRuleValue{Paths: []networking.HTTPIngressPath{{
				Path: "/", PathType: new(networking.PathTypePrefix),
				Backend: networking.IngressBackend{Service: &networking.IngressServiceBackend{Name: name, Port: networking.ServiceBackendPort{Name: "http"}}},
			}}},
		}})
	}
	o.Status.LoadBalancer.Ingress = []networking.IngressLoadBalancerIngress{{IP: ingressAddress}}
	return o
}

// gatewayOf is a Gateway that accepts routes from all namespaces.
func gatewayOf(space, name string, i int) *gateway.Gateway {
	return &gateway.Gateway{
		TypeMeta: meta.TypeMeta{APIVersion: gatewayVersion, Kind: "Gateway"}, ObjectMeta: object(space, name, i),
		Spec: gateway.GatewaySpec{GatewayClassName: "traefik", Listeners: []gateway.Listener{{
			Name: "web", Port: 80, Protocol: gateway.HTTPProtocolType,
			AllowedRoutes: &gateway.AllowedRoutes{Namespaces: &gateway.RouteNamespaces{From: new(gateway.NamespacesFromAll)}},
		}}},
		Status: gateway.GatewayStatus{Addresses: []gateway.GatewayStatusAddress{{Type: new(gateway.IPAddressType), Value: gatewayAddress}}},
	}
}

// httpRoute is an HTTPRoute with one host, accepted by one of the Gateways in a namespace.
func httpRoute(space, name string, i int, parents, host string) *gateway.HTTPRoute {
	parent := gateway.ParentReference{Namespace: new(gateway.Namespace(parents)), Name: gateway.ObjectName(fmt.Sprintf("gateway-%d", i%gateways))}
	condition := func(what string) meta.Condition {
		return meta.Condition{Type: what, Status: meta.ConditionTrue, ObservedGeneration: 1, Reason: what, LastTransitionTime: meta.Unix(1_790_000_000, 0)}
	}
	return &gateway.HTTPRoute{
		TypeMeta: meta.TypeMeta{APIVersion: gatewayVersion, Kind: "HTTPRoute"}, ObjectMeta: object(space, name, i),
		Spec: gateway.HTTPRouteSpec{
			CommonRouteSpec: gateway.CommonRouteSpec{ParentRefs: []gateway.ParentReference{parent}},
			Hostnames:       []gateway.Hostname{gateway.Hostname(host)},
			Rules: []gateway.HTTPRouteRule{{BackendRefs: []gateway.HTTPBackendRef{{BackendRef: gateway.BackendRef{
				BackendObjectReference: gateway.BackendObjectReference{Name: gateway.ObjectName(name), Port: new(gateway.PortNumber(80))},
			}}}}},
		},
		Status: gateway.HTTPRouteStatus{RouteStatus: gateway.RouteStatus{Parents: []gateway.RouteParentStatus{{
			ParentRef: parent, ControllerName: "traefik.io/gateway-controller",
			Conditions: []meta.Condition{condition("Accepted"), condition("ResolvedRefs")},
		}}}},
	}
}

// externalStanza serves external names in example.org from sources. For stock it is k8s_external, which only supports
// Services, after its kubernetes plugin.
func externalStanza(name, kubeconfig, sources string) string {
	if name == "kubernetes" {
		return kubeStanza(name, kubeconfig) + "\nk8s_external example.org"
	}
	return "kubehosts {\nnoservices\nkubeconfig " + kubeconfig + "\nstartup_timeout 600s\nexternal example.org {\nttl 5\nfrom " + sources + "\n}\n}"
}

// outsideOf is the kubeconfig from the environment, or one for a server with the objects of each.
func outsideOf(b *testing.B, each func(adder)) string {
	if kubeconfig := os.Getenv(envKubeconfig); kubeconfig != "" {
		return kubeconfig
	}
	return serveObjects(b, each).kubeconfig(b)
}

// BenchmarkIngresses queries hosts of 50,000 Ingresses with two hosts each.
func BenchmarkIngresses(b *testing.B) {
	kubeconfig := outsideOf(b, func(add adder) { addTeams(add); addIngresses(add) })
	host := func(i int) string { return hostOf([]string{"web", "shop"}[i%2], i*7919%manyIngresses) + "." }
	h := loaded(b, externalStanza(subject(), kubeconfig, "ingress"), 2*manyIngresses, host(0))
	race(b, "Ingress-A", h, 1000, dns.TypeA, dns.RcodeSuccess, 1, host)
	race(b, "none-A", h, 1000, dns.TypeA, dns.RcodeNameError, 0, func(i int) string { return hostOf("none", i) + "." })
}

// BenchmarkRoutes queries hosts of 50,000 HTTPRoutes.
func BenchmarkRoutes(b *testing.B) {
	kubeconfig := outsideOf(b, func(add adder) { addTeams(add); addRoutes(add) })
	host := func(i int) string { return hostOf("route", i*7919%manyRoutes) + "." }
	h := loaded(b, externalStanza(subject(), kubeconfig, "gateway"), manyRoutes, host(0))
	race(b, "HTTPRoute-A", h, 1000, dns.TypeA, dns.RcodeSuccess, 1, host)
}

// BenchmarkBalancers queries the names of 8,000 Services of type LoadBalancer.
func BenchmarkBalancers(b *testing.B) {
	kubeconfig := outsideOf(b, addBalancers)
	name := func(i int) string {
		i = i * 7919 % manyBalancers
		return fmt.Sprintf("lb-%d.ns-%d.example.org.", i, i%spaces)
	}
	h := loaded(b, externalStanza(subject(), kubeconfig, "service"), manyBalancers, name(0))
	race(b, "LoadBalancer-A", h, 1000, dns.TypeA, dns.RcodeSuccess, 1, name)
}

// external measures ServeDNS for external names, and the memory for their objects.
func external(t *testing.T) {
	ingresses := serveObjects(t, func(add adder) { addTeams(add); addIngresses(add) })
	routes := serveObjects(t, func(add adder) { addTeams(add); addRoutes(add) })
	balancers, inside := serveObjects(t, addBalancers), serve(t, manyServices, bigServices)
	var stock, ofBalancers, ofServices, ofIngresses, ofRoutes figures
	for i := range rounds {
		progress("external names, round %d of %d", i+1, rounds)
		stock.measure(t, "BenchmarkBalancers", "kubernetes", balancers.kubeconfig(t), 0, short)
		ofBalancers.measure(t, "BenchmarkBalancers", "kubehosts", balancers.kubeconfig(t), 0, short)
		ofServices.measure(t, "BenchmarkServices", "kubehosts", inside.kubeconfig(t), manyServices, short)
		ofIngresses.measure(t, "BenchmarkIngresses", "kubehosts", ingresses.kubeconfig(t), 0, short)
		ofRoutes.measure(t, "BenchmarkRoutes", "kubehosts", routes.kubeconfig(t), 0, short)
	}
	compare(t, "LoadBalancer-A", "in process: Service of type LoadBalancer A", &stock, &ofBalancers, 10, 4)
	_, clusterIP, _ := ofServices.texts("ClusterIP-A")
	_, denial, _ := ofServices.texts("NXDOMAIN-search")
	for _, r := range []struct {
		what, name string
		of         *figures
		beside     string
		than       float64
	}{
		{"Ingress-A", "host of an Ingress A, of 50,000 with 2 hosts", &ofIngresses, "a ClusterIP A", clusterIP},
		{"HTTPRoute-A", "host of an HTTPRoute A, of 50,000", &ofRoutes, "a ClusterIP A", clusterIP},
		{"none-A", "NXDOMAIN beside 50,000 Ingresses", &ofIngresses, "NXDOMAIN of the search list", denial},
	} {
		text, took, allocs := r.of.texts(r.what)
		table.add(r.name+", allocs", "", text, "", fmt.Sprintf("≤ 20 %% slower than %s, %.2f µs; ≤ 4 allocs", r.beside, r.than*1e6), took <= 1.2*r.than && allocs <= 4)
	}
	for _, r := range []struct {
		name string
		of   *figures
	}{{"heap for a host, of 50,000 Ingresses with 2 hosts", &ofIngresses}, {"heap for a host, of 50,000 HTTPRoutes", &ofRoutes}} {
		held, _ := r.of.of("memory", unitHeld)
		table.add(r.name, "", fmt.Sprintf("%.0f B", held), "", "< 100 B", held < 100)
	}

	empty, _ := outside(t, serveObjects(t, addTeams), "", "")
	for _, r := range []struct {
		what, host, address string
		api                 *objectServer
	}{
		{"50,000 Ingresses with 2 hosts", hostOf("shop", manyIngresses-1), ingressAddress, ingresses},
		{"50,000 HTTPRoutes", hostOf("route", manyRoutes-1), gatewayAddress, routes},
	} {
		steady, most := outside(t, r.api, r.host+".", r.address)
		table.add("RssAnon beyond an empty server, "+r.what, "", mb(steady-empty), "", "", false)
		peakRow("its peak during the start", 0, 0, most, steady)
	}
}

// outside starts kubehosts for external names and returns its memory once it answers for a host, unless host is "".
func outside(t *testing.T, api *objectServer, host, address string) (steady, most float64) {
	t.Helper()
	progress("memory of external names")
	c, most, steady := begin(t, "kubehosts", externalStanza("kubehosts", api.kubeconfig(t), "ingress gateway"))
	defer c.Stop()
	if ask := cluster.Dial(t, "udp", c.Addr); host != "" && !answered(ask, host, address) {
		t.Errorf("%s is not answered after %v", host, settle)
	}
	return steady, most
}

// externalChange measures the time from a change to the answer for external names, with the real API
// server.
func externalChange(t *testing.T) {
	progress("changes of external names, with the real API server")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	a := realServer(ctx, t)
	a.ApplyGatewayAPI(t)
	kubeconfig := cluster.Kubeconfig(t, a.URL, cluster.AdminToken)
	a.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns-0}\n")

	balanced, created, accepted := map[string][]time.Duration{}, map[string][]time.Duration{}, map[string][]time.Duration{}
	for _, name := range []string{"kubernetes", "kubehosts"} {
		c, _ := run(t, name, externalStanza(name, kubeconfig, "ingress service gateway"))
		ask := cluster.Dial(t, "udp", c.Addr)
		balanced[name] = balancerChange(ctx, t, a, ask, name)
		if name == "kubehosts" {
			created[name], accepted[name] = ingressChange(ctx, t, a, ask), routeChange(ctx, t, a, ask)
		}
		c.Stop()
	}
	changeRow("load balancer of a Service given its address to answered, beyond a watch beside: p99 (p50)", balanced)
	changeRow("Ingress created to answered, the same", created)
	changeRow("HTTPRoute accepted by its Gateway to answered, the same", accepted)
}

// balancerChange writes addresses into the load balancer status of Services, which creates their
// external names.
func balancerChange(ctx context.Context, t *testing.T, a *cluster.API, ask *cluster.Client, prefix string) []time.Duration {
	t.Helper()
	client := a.Client.CoreV1().Services("ns-0")
	all := make([]*core.Service, changes)
	for i := range all {
		s := balancer("ns-0", fmt.Sprintf("%s-%d", prefix, i), "", i)
		s.ObjectMeta = meta.ObjectMeta{Name: s.Name}
		s.Spec.ClusterIPs = nil
		var err error
		if all[i], err = client.Create(ctx, s, meta.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return beyond(t, client.Watch, func(i int) string {
		all[i].Status.LoadBalancer.Ingress = []core.LoadBalancerIngress{{IP: balancerAddress}}
		if _, err := client.UpdateStatus(ctx, all[i], meta.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		return balancerAddress
	}, func(i int, address string) bool { return answered(ask, all[i].Name+".ns-0.example.org.", address) })
}

// ingressChange creates Ingresses with their address in an annotation: a status would need a second request, and be a
// second change.
func ingressChange(ctx context.Context, t *testing.T, a *cluster.API, ask *cluster.Client) []time.Duration {
	t.Helper()
	client := a.Client.NetworkingV1().Ingresses("ns-0")
	return beyond(t, client.Watch, func(i int) string {
		o := ingress("ns-0", fmt.Sprintf("web-%d", i), i, hostOf("web", i))
		o.ObjectMeta = meta.ObjectMeta{Name: o.Name, Annotations: map[string]string{"external-dns.kubernetes.io/target": ingressAddress}}
		if _, err := client.Create(ctx, o, meta.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		return ingressAddress
	}, func(i int, address string) bool { return answered(ask, hostOf("web", i)+".", address) })
}

// routeChange marks HTTPRoutes as accepted by a Gateway in their status, like its controller.
func routeChange(ctx context.Context, t *testing.T, a *cluster.API, ask *cluster.Client) []time.Duration {
	t.Helper()
	client, err := dynamic.NewForConfig(a.Config)
	if err != nil {
		t.Fatal(err)
	}
	of := func(resource string) dynamic.ResourceInterface {
		return client.Resource(schema.GroupVersionResource{Group: gateway.GroupName, Version: "v1", Resource: resource}).Namespace("ns-0")
	}
	// create creates an object and returns it, still without its status.
	create := func(resource string, o runtime.Object) *unstructured.Unstructured {
		t.Helper()
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			t.Fatal(err)
		}
		made, err := of(resource).Create(ctx, &unstructured.Unstructured{Object: fields}, meta.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		made.Object["status"] = fields["status"]
		return made
	}
	write := func(resource string, o *unstructured.Unstructured) {
		t.Helper()
		if _, err := of(resource).UpdateStatus(ctx, o, meta.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range gateways {
		g := gatewayOf("ns-0", fmt.Sprintf("gateway-%d", i), i)
		g.ObjectMeta = meta.ObjectMeta{Name: g.Name}
		write("gateways", create("gateways", g))
	}
	all := make([]*unstructured.Unstructured, changes)
	for i := range all {
		r := httpRoute("ns-0", fmt.Sprintf("route-%d", i), i, "ns-0", hostOf("route", i))
		r.ObjectMeta = meta.ObjectMeta{Name: r.Name}
		all[i] = create("httproutes", r)
	}
	return beyond(t, of("httproutes").Watch, func(i int) string {
		write("httproutes", all[i])
		return gatewayAddress
	}, func(i int, address string) bool { return answered(ask, hostOf("route", i)+".", address) })
}
