package differential

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// world is the objects of a cluster. No controller runs, so each object may be as odd as the API allows.
type world struct {
	r          *rand.Rand
	namespaces []*core.Namespace
	services   []*core.Service // once created, with their cluster IPs
	slices     []*discovery.EndpointSlice
	pods       []*core.Pod
	imports    []*mcs.ServiceImport
}

// The namespaces of the world. Some have the names of labels of the specification.
var (
	longLabel  = "l" + strings.Repeat("ong", 20) + "er" // 63 octets
	namespaces = []string{"shop", "dev", "prod", "svc", "pod", "10-244-0-1", longLabel, "empty", broken}
)

// broken is the namespace of names that do not fit into a message: stock can't pack its replies about it, or zone
// transfers.
const broken = "broken"

// unreachable is a name that the label of an EndpointSlice may have, but no Service.
const unreachable = "No.Such.Service"

// labels for the options labels and namespace_labels.
var (
	tiers = []string{"front", "back", ""}
	teams = []string{"red", "blue", ""}
)

func labelled(key, value string) map[string]string {
	if value == "" {
		return nil
	}
	return map[string]string{key: value}
}

// newWorld makes a world. It has every kind of object for any r; r determines the details.
func newWorld(r *rand.Rand) *world {
	w := &world{r: r}
	for i, name := range namespaces {
		w.namespaces = append(w.namespaces, &core.Namespace{
			ObjectMeta: meta.ObjectMeta{Name: name, Labels: labelled("team", teams[i%len(teams)])},
		})
	}
	w.addServices()
	for _, svc := range slices.Clone(w.services) {
		for range w.r.IntN(4) {
			w.addSlice(svc.Namespace, svc.Name, svc.Spec.Ports)
		}
	}
	w.addOddSlices()
	w.addPods()
	w.addImports()
	w.addOddServices()
	return w
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// chance is true in one of n cases.
func (w *world) chance(n int) bool { return w.r.IntN(n) == 0 }

// namespace returns a random namespace of services and pods.
func (w *world) namespace() string { return pick(w.r, namespaces[:len(namespaces)-2]) }

func (w *world) addServices() {
	names := []string{"web", "db", "api", "cache", "svc", "pod", "dns", "any", "x--y", longLabel}
	for round := range 3 {
		for _, kind := range kinds {
			name := pick(w.r, names)
			if round > 0 {
				name = fmt.Sprintf("%s-%d", kind.name, round)
			}
			w.addService(w.namespace(), name, kind.spec(w))
		}
	}
	for i, target := range w.targets() {
		w.addService(w.namespace(), fmt.Sprintf("alias-%d", i), external(target))
	}

	// An alias of an alias, as deep as stock follows and deeper.
	for i := range 14 {
		target := fmt.Sprintf("chain-%d.shop.svc.cluster.local", i+1)
		w.addService("shop", fmt.Sprintf("chain-%d", i), external(target))
	}
	w.addService("shop", "chain-14", clusterIP(port("http", 80, core.ProtocolTCP)))

	// Aliases in a circle, and from zone to zone if there is another zone; a circle over zones would crash stock.
	w.addService("shop", "self", external("self.shop.svc.cluster.local"))
	w.addService("shop", "ring-0", external("ring-1.shop.svc.cluster.local"))
	w.addService("shop", "ring-1", external("ring-0.shop.svc.cluster.local"))
	zones := []string{"other.test", "cluster.local"}
	for i := range 10 {
		w.addService("shop", fmt.Sprint("hop-", i), external(fmt.Sprintf("hop-%d.shop.svc.%s", i+1, zones[i%2])))
	}
	w.addService("shop", "hop-10", headless(port("http", 80, core.ProtocolTCP)))

	w.addService("prod", "kube-dns", families(clusterIP(port("dns", 53, core.ProtocolUDP)), core.IPv4Protocol, core.IPv6Protocol))
	w.addService("shop", "kube-dns-headless", headless(port("dns", 53, core.ProtocolUDP)))

	// A target with a label of more than 63 octets does not fit into a message, though the API accepts
	// it.
	w.addService(broken, "long", external(strings.Repeat("a", 64)+".ext.test"))
	w.addService(broken, "to-long", external("long."+broken+".svc.cluster.local"))
}

func (w *world) addService(namespace, name string, spec core.ServiceSpec) {
	for _, s := range w.services {
		if s.Namespace == namespace && s.Name == name {
			return
		}
	}
	w.services = append(w.services, &core.Service{
		ObjectMeta: meta.ObjectMeta{Namespace: namespace, Name: name, Labels: labelled("tier", pick(w.r, tiers))},
		Spec:       spec,
	})
}

// kinds are the Services with endpoints.
var kinds = []struct {
	name string
	spec func(*world) core.ServiceSpec
}{
	{"plain", func(*world) core.ServiceSpec { return clusterIP(port("", 80, core.ProtocolTCP)) }},
	{"named", func(w *world) core.ServiceSpec { return clusterIP(w.ports()...) }},
	{"many", func(w *world) core.ServiceSpec { return clusterIP(manyPorts()...) }},
	{"six", func(w *world) core.ServiceSpec { return families(clusterIP(w.ports()...), core.IPv6Protocol) }},
	{"both", func(w *world) core.ServiceSpec {
		return families(clusterIP(w.ports()...), core.IPv4Protocol, core.IPv6Protocol)
	}},
	{"both-six-first", func(w *world) core.ServiceSpec {
		return families(clusterIP(w.ports()...), core.IPv6Protocol, core.IPv4Protocol)
	}},
	{"same-number", func(*world) core.ServiceSpec {
		return clusterIP(port("tcp", 53, core.ProtocolTCP), port("udp", 53, core.ProtocolUDP), port("sctp", 53, core.ProtocolSCTP))
	}},
	{"node-port", func(w *world) core.ServiceSpec {
		s := clusterIP(w.ports()...)
		s.Type = core.ServiceTypeNodePort
		return s
	}},
	{"balanced", func(w *world) core.ServiceSpec {
		s := clusterIP(w.ports()...)
		s.Type = core.ServiceTypeLoadBalancer
		s.ExternalIPs = []string{"198.51.100.7"}
		return s
	}},
	{"headless", func(w *world) core.ServiceSpec { return headless(w.ports()...) }},
	{"headless-many", func(w *world) core.ServiceSpec { return headless(manyPorts()...) }},
	{"headless-portless", func(*world) core.ServiceSpec { return headless() }},
	{"headless-both", func(w *world) core.ServiceSpec {
		return families(headless(w.ports()...), core.IPv4Protocol, core.IPv6Protocol)
	}},
	{"headless-early", func(w *world) core.ServiceSpec {
		s := headless(w.ports()...)
		s.PublishNotReadyAddresses = true
		s.Selector = map[string]string{"app": "early"}
		return s
	}},
}

func clusterIP(ports ...core.ServicePort) core.ServiceSpec { return core.ServiceSpec{Ports: ports} }

func headless(ports ...core.ServicePort) core.ServiceSpec {
	return core.ServiceSpec{ClusterIP: core.ClusterIPNone, Ports: ports}
}

func external(target string) core.ServiceSpec {
	return core.ServiceSpec{Type: core.ServiceTypeExternalName, ExternalName: target}
}

func families(s core.ServiceSpec, of ...core.IPFamily) core.ServiceSpec {
	policy := core.IPFamilyPolicySingleStack
	if len(of) > 1 {
		policy = core.IPFamilyPolicyRequireDualStack
	}
	s.IPFamilies, s.IPFamilyPolicy = of, &policy
	return s
}

func port(name string, number int32, protocol core.Protocol) core.ServicePort {
	return core.ServicePort{Name: name, Port: number, Protocol: protocol, TargetPort: intstr.FromInt32(number)}
}

// ports returns one port or two.
func (w *world) ports() []core.ServicePort {
	all := []core.ServicePort{
		port("http", 80, core.ProtocolTCP), port("dns", 53, core.ProtocolUDP), port("sig", 2905, core.ProtocolSCTP),
		port("any", 4000, core.ProtocolTCP), port("tcp", 4001, core.ProtocolUDP), port("x-y-0", 65534, core.ProtocolTCP),
	}
	w.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+w.r.IntN(2)]
}

// manyPorts are so many that an SRV reply exceeds 512 octets.
func manyPorts() (all []core.ServicePort) {
	for i := range int32(30) {
		all = append(all, port(fmt.Sprintf("p%d", i), 1000+i/2, []core.Protocol{core.ProtocolTCP, core.ProtocolUDP}[i%2]))
	}
	return all
}

// targets are possible targets of ExternalNames: names in the cluster, names of another server block, names that do not
// exist, and invalid names.
func (w *world) targets() []string {
	all := []string{
		"one.ext.test", "two.ext.test.", "six.ext.test", "missing.ext.test", "back.test", "host.back.test", "x.nx.test",
		"x.fail.test", "nowhere.invalid", "localhost", "192.0.2.1", "many.ext.test",
		"cluster.local", "svc.cluster.local", "shop.svc.cluster.local", "ns.dns.cluster.local",
		"dns-version.cluster.local", "missing.shop.svc.cluster.local", "web.missing.svc.cluster.local",
		"10-1-2-3.shop.pod.cluster.local", "10-244-0-1.dev.pod.cluster.local", "web.shop.svc.other.test",
		"1.0.96.10.in-addr.arpa", "a.web.shop.svc.cluster.local", "x.y.web.shop.svc.cluster.local",
	}
	all = append(all, upTargets...)
	for i, s := range w.services { // to Services of every kind
		if i < len(kinds)+4 || w.chance(6) {
			all = append(all, s.Name+"."+s.Namespace+".svc.cluster.local"+[]string{"", "."}[w.r.IntN(2)])
		}
	}
	all = append(all, "alias-0."+longLabel+".svc.cluster.local", "alias-3.shop.svc.cluster.local")
	return all
}

// v4 returns an address from a range that endpoints and pods share.
func (w *world) v4() string {
	if w.chance(4) {
		return fmt.Sprintf("10.244.0.%d", 1+w.r.IntN(12))
	}
	return netip.AddrFrom4([4]byte{10, 244, byte(1 + w.r.IntN(8)), byte(w.r.IntN(256))}).String()
}

func (w *world) v6() string {
	if w.chance(4) {
		return fmt.Sprintf("fd00:244::%x", 1+w.r.IntN(12))
	}
	if w.chance(4) { // a derived label would end in a dash
		return fmt.Sprintf("fd00:244:%x::", 1+w.r.IntN(250))
	}
	b := [16]byte{0xfd, 0, 2, 0x44}
	for i := 8; i < 16; i += 1 + w.r.IntN(3) {
		b[i] = byte(w.r.IntN(256))
	}
	return netip.AddrFrom16(b).String()
}

// podNames are names of pods that give endpoints their names. A pod's name may not be a valid
// label.
var podNames = []string{"web-0", "web-1", "db-0", longLabel, longLabel + "x", "10-244-0-1", "fd00-244--1", dottedPod, "a", "x--y"}

// zoneLabels are topology zones. A zone may contain dots and capitals.
var zoneLabels = []string{"zone-a", "zone-b", "eu.west.1", "Zone-C", "pin", ""}

// addSlice adds an EndpointSlice of a Service, with its ports or others.
func (w *world) addSlice(namespace, service string, ports []core.ServicePort) *discovery.EndpointSlice {
	s := &discovery.EndpointSlice{
		ObjectMeta: meta.ObjectMeta{
			Namespace: namespace, Name: fmt.Sprintf("slice-%d", len(w.slices)),
			Labels: labelled("tier", pick(w.r, tiers)),
		},
		AddressType: discovery.AddressTypeIPv4,
	}
	if service != "" {
		meta.SetMetaDataLabel(&s.ObjectMeta, discovery.LabelServiceName, service)
	}
	address := w.v4
	if w.chance(3) {
		s.AddressType, address = discovery.AddressTypeIPv6, w.v6
	}
	s.Ports = w.slicePorts(ports)
	n := w.r.IntN(6)
	if w.chance(12) {
		n = 40
	}
	for range n {
		s.Endpoints = append(s.Endpoints, w.endpoint(address))
	}
	w.slices = append(w.slices, s)
	return s
}

func (w *world) slicePorts(of []core.ServicePort) (all []discovery.EndpointPort) {
	switch w.r.IntN(6) {
	case 0: // all ports: in the API, none given
		return nil
	case 1: // a port without a number, one without a name
		return []discovery.EndpointPort{{Name: new("http")}, {Port: new(int32(7))}}
	case 2:
		return []discovery.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(core.ProtocolTCP)},
			{Name: new("h2"), Port: new(int32(8080)), Protocol: new(core.ProtocolUDP)}}
	}
	for _, p := range of {
		all = append(all, discovery.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol})
	}
	return all
}

func (w *world) endpoint(address func() string) discovery.Endpoint {
	ep := discovery.Endpoint{Addresses: []string{address()}}
	if w.chance(8) {
		ep.Addresses = append(ep.Addresses, address())
	}
	switch w.r.IntN(6) {
	case 0:
		ep.Conditions.Ready = new(false)
	case 1: // unknown
	default:
		ep.Conditions.Ready = new(true)
	}
	if w.chance(3) {
		ep.Hostname = new(fmt.Sprintf("host-%d", w.r.IntN(4)))
	}
	if w.chance(2) {
		ep.TargetRef = &core.ObjectReference{Kind: "Pod", Namespace: "shop", Name: pick(w.r, podNames)}
	}
	if zone := pick(w.r, zoneLabels); zone != "" {
		ep.Zone = &zone
	}
	return ep
}

// addOddSlices adds EndpointSlices that no controller would create.
func (w *world) addOddSlices() {
	w.addSlice("shop", "no-such-service", nil)
	lost := w.addSlice("dev", unreachable, nil)
	lost.AddressType, lost.Endpoints = discovery.AddressTypeIPv4, []discovery.Endpoint{{Addresses: []string{"10.9.0.4"}}, w.endpoint(w.v4)}

	// The servers are endpoints of two Services themselves. One of these also has the address of Service kubernetes.
	own := w.addSlice("prod", "kube-dns", nil)
	own.AddressType, own.Endpoints = discovery.AddressTypeIPv4, []discovery.Endpoint{{Addresses: []string{ownAddr4}}, {Addresses: []string{"10.96.0.1"}}}
	own = w.addSlice("shop", "kube-dns-headless", nil)
	own.AddressType, own.Endpoints = discovery.AddressTypeIPv6, []discovery.Endpoint{{Addresses: []string{ownAddr6}, Hostname: new("dns-0")}}
	w.addSlice("empty", "web", nil) // in a namespace without Services

	// Without the label of a Service, stock makes names with an empty label.
	unowned := w.addSlice(broken, "", nil)
	unowned.AddressType, unowned.Endpoints = discovery.AddressTypeIPv4, []discovery.Endpoint{{Addresses: []string{"10.9.0.3"}}, w.endpoint(w.v4)}
}

// addOddServices adds Services without other objects.
func (w *world) addOddServices() {
	w.addService("shop", twoZones, headless(port("http", 80, core.ProtocolTCP)))
	near := w.addSlice("shop", twoZones, []core.ServicePort{port("http", 80, core.ProtocolTCP)})
	near.AddressType, near.Endpoints = discovery.AddressTypeIPv4, nil
	for _, zone := range []string{"zone-a", "zone-b"} {
		near.Endpoints = append(near.Endpoints, discovery.Endpoint{Addresses: []string{"10.9.0.5"}, Zone: &zone})
	}

	service, namespace, _ := strings.Cut(fqdnOwner, ".")
	w.addService(namespace, service, headless())
	names := w.addSlice(namespace, service, nil)
	names.AddressType, names.Ports = discovery.AddressTypeFQDN, nil
	names.Endpoints = []discovery.Endpoint{{Addresses: []string{"one.ext.test"}}, {Addresses: []string{"web.shop.svc.cluster.local"}}}
}

// twoZones is the Service with an address in two topology zones in one EndpointSlice.
const twoZones = "two-zones"

// The Service with names for endpoints, and the labels that stock makes from them.
const fqdnOwner = "fqdn.shop"

var fqdnLabels = []string{"one-ext-test", "web-shop-svc-cluster-local"}

// unowned reports whether an EndpointSlice without a Service has the address.
func (w *world) unowned(a netip.Addr) bool { return w.has("", a) }

// has reports whether an EndpointSlice with this Service has the address.
func (w *world) has(service string, a netip.Addr) bool {
	for _, s := range w.slices {
		for _, ep := range s.Endpoints {
			if s.Labels[discovery.LabelServiceName] == service && slices.Contains(ep.Addresses, a.String()) {
				return true
			}
		}
	}
	return false
}

// inTwoZones reports whether an EndpointSlice of the Service, "name.namespace", has an address more than once, with
// different topology zones. It reads the current slices from the API server.
func inTwoZones(api *cluster.API, owner string) bool {
	_, namespace, _ := strings.Cut(owner, ".")
	list, err := api.Client.DiscoveryV1().EndpointSlices(namespace).List(context.Background(), meta.ListOptions{})
	if err != nil {
		return false
	}
	for _, s := range list.Items {
		if s.Labels[discovery.LabelServiceName]+"."+s.Namespace != owner {
			continue
		}
		zones := make(map[string]string)
		for _, ep := range s.Endpoints {
			zone := ""
			if ep.Zone != nil {
				zone = *ep.Zone
			}
			for _, a := range ep.Addresses {
				if before, ok := zones[a]; ok && before != zone {
					return true
				}
				zones[a] = zone
			}
		}
	}
	return false
}

// addresses returns the addresses of all Services and endpoints in the API server, which may be more than the world's.
func addresses(api *cluster.API) (all []string, err error) {
	services, err := api.Client.CoreV1().Services("").List(context.Background(), meta.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, s := range services.Items {
		all = append(all, s.Spec.ClusterIPs...)
	}
	endpoints, err := api.Client.DiscoveryV1().EndpointSlices("").List(context.Background(), meta.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, s := range endpoints.Items {
		for _, ep := range s.Endpoints {
			all = append(all, ep.Addresses...)
		}
	}
	return all, nil
}

// dottedPod is the name of a pod that is not a valid label.
const dottedPod = "pod.with.dots"

// dotted reports whether name, a label and a Service, is derived from the address of an endpoint whose pod is
// dottedPod.
func (w *world) dotted(name string) bool {
	label, owner, _ := strings.Cut(name, ".")
	for _, s := range w.slices {
		local := s.Labels[discovery.LabelServiceName] + "." + s.Namespace
		imported := strings.TrimPrefix(s.Labels[mcs.LabelSourceCluster]+"."+s.Labels[mcs.LabelServiceName]+"."+s.Namespace, ".")
		if local != owner && imported != owner {
			continue
		}
		for _, ep := range s.Endpoints {
			if ep.Hostname != nil || ep.TargetRef == nil || ep.TargetRef.Name != dottedPod {
				continue
			}
			for _, a := range ep.Addresses {
				if derived := dashed(a); derived == label || derived+"0" == label {
					return true
				}
			}
		}
	}
	return false
}

// addPods adds Pods, some with the addresses of endpoints.
func (w *world) addPods() {
	addPod := func(namespace, name string, phase core.PodPhase, ips ...string) *core.Pod {
		p := &core.Pod{
			ObjectMeta: meta.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": pick(w.r, podNames[:4])}},
			Spec:       core.PodSpec{NodeName: "node-1", Containers: []core.Container{{Name: "c", Image: "i"}}},
			Status:     core.PodStatus{Phase: phase},
		}
		if tier := pick(w.r, tiers); tier != "" {
			p.Labels["tier"] = tier
		}
		for _, ip := range ips {
			p.Status.PodIPs = append(p.Status.PodIPs, core.PodIP{IP: ip})
		}
		if len(ips) > 0 {
			p.Status.PodIP = ips[0]
		}
		w.pods = append(w.pods, p)
		return p
	}
	phases := []core.PodPhase{core.PodRunning, core.PodRunning, core.PodPending, core.PodSucceeded, core.PodFailed, core.PodUnknown}
	for i := range 40 {
		ips := []string{w.v4()}
		switch w.r.IntN(4) {
		case 0:
			ips = []string{w.v6()}
		case 1:
			ips = append(ips, w.v6())
		}
		addPod(w.namespace(), fmt.Sprintf("pod-%d", i), pick(w.r, phases), ips...)
	}
	addPod("shop", "host-network-0", core.PodRunning, "10.9.0.1").Spec.HostNetwork = true
	addPod("shop", "host-network-1", core.PodRunning, "10.9.0.1").Spec.HostNetwork = true
	addPod("dev", "host-network-2", core.PodRunning, "10.9.0.1").Spec.HostNetwork = true
	addPod("dev", "addressless", core.PodPending)
	addPod("shop", "leaving", core.PodRunning, "10.9.0.2").Annotations = map[string]string{leaving: "yes"}

	// The clients.
	addPod("shop", "client-1", core.PodRunning, clients[0]).Labels["tier"] = "front"
	addPod("dev", "client-2", core.PodRunning, clients[1]).Labels["tier"] = "front"
}

// leaving marks a Pod that is deleted but stays, as nothing finalizes it.
const leaving = "leaving"

// clients are the source addresses of queries. The first two are those of Pods, in shop and in dev.
var clients = []string{"127.0.0.1", "127.0.0.2", nobody}

const nobody = "127.0.0.3"

// create creates the world in the API server, which allocates the cluster IPs.
func (w *world) create(ctx context.Context, t testing.TB, api *cluster.API) error {
	c := api.Client
	if err := each(w.namespaces, func(o *core.Namespace) error {
		_, err := c.CoreV1().Namespaces().Create(ctx, o, meta.CreateOptions{})
		return describe(err, "Namespace", o)
	}); err != nil {
		return err
	}
	err := each(w.services, func(o *core.Service) error {
		made, err := c.CoreV1().Services(o.Namespace).Create(ctx, o, meta.CreateOptions{})
		if err == nil {
			*o = *made
		}
		return describe(err, "Service", o)
	})
	err = errors.Join(err, each(w.slices, func(o *discovery.EndpointSlice) error {
		_, err := c.DiscoveryV1().EndpointSlices(o.Namespace).Create(ctx, o, meta.CreateOptions{})
		return describe(err, "EndpointSlice", o)
	}))
	err = errors.Join(err, each(w.pods, func(o *core.Pod) error { return describe(createPod(ctx, api, o), "Pod", o) }))
	if err != nil {
		return err
	}
	return w.createImports(t, api)
}

// createPod creates a Pod and then writes its status with a request of its own.
func createPod(ctx context.Context, api *cluster.API, o *core.Pod) error {
	pods := api.Client.CoreV1().Pods(o.Namespace)
	made, err := pods.Create(ctx, o, meta.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = o.Status
	if _, err = pods.UpdateStatus(ctx, made, meta.UpdateOptions{}); err != nil || o.Annotations[leaving] == "" {
		return err
	}
	return pods.Delete(ctx, o.Name, meta.DeleteOptions{GracePeriodSeconds: new(int64(100_000))})
}

func describe(err error, kind string, o meta.Object) error {
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", kind, o.GetNamespace(), o.GetName(), err)
	}
	return nil
}

// each calls do for all elements of list, a few at a time.
func each[T any](list []T, do func(T) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []error
	work := make(chan T)
	for range 8 {
		wg.Go(func() {
			for v := range work {
				if err := do(v); err != nil {
					mu.Lock()
					all = append(all, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, v := range list {
		work <- v
	}
	close(work)
	wg.Wait()
	return errors.Join(all...)
}
