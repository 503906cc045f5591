package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	api "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/hostile"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// allSources are the sources of an external option that has all of them.
const allSources = external.FromIngress | external.FromService | external.FromGateway | external.FromDNSEndpoint | external.FromNode

// hostOf returns the records of a name in the zone example.org: addresses and hostnames, sorted; "none" for a name that
// does not exist, and "nothing" for one without records.
func hostOf(o *Objects, name string) string {
	m := o.External().State().Lookup("example.org.", name, &external.Selection{Zones: []string{"example.org."}, Sources: allSources})
	switch m.Outcome {
	case external.NameError:
		return "none"
	case external.NoData:
		return "nothing"
	case external.Headless:
		return "headless"
	}
	var all []string
	for ip := range m.Addrs {
		all = append(all, ip.String())
	}
	for host := range m.Hosts {
		all = append(all, host)
	}
	for ip := range m.ClusterIPs {
		all = append(all, "inside "+ip.String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// accepted is the status of a route that the Gateway gw accepts, at generation 1.
var accepted = object{"parents": []object{{
	"parentRef": object{"name": "gw"}, "controllerName": "example.com/c",
	"conditions": []object{{"type": "Accepted", "status": "True", "observedGeneration": 1}},
}}}

// putHosts puts an object of each kind with external names.
func (a *apiServer) putHosts() {
	a.put("namespaces", "", "default", object{"labels": object{"kubernetes.io/metadata.name": "default"}}, nil)
	a.put("services", "default", "lb", nil, object{
		"spec":   object{"type": "LoadBalancer", "clusterIP": "10.0.0.9", "clusterIPs": []string{"10.0.0.9"}, "ports": []object{{"name": "http", "port": 80, "protocol": "TCP"}}},
		"status": object{"loadBalancer": object{"ingress": []object{{"ip": "192.0.2.9"}}}},
	})
	a.put("services", "default", "plain", nil, object{"spec": object{"type": "ClusterIP", "clusterIP": "10.0.0.8"}})
	a.put("services", "default", "inner", object{"annotations": object{"external-dns.kubernetes.io/internal-hostname": "inner.example.org"}},
		object{"spec": object{"clusterIP": "10.0.0.7"}})
	a.put("services", "default", "db", nil, object{"spec": object{"clusterIP": "None"}})
	a.put("services", "default", "pending", nil, object{"spec": object{"type": "LoadBalancer", "clusterIP": "10.0.0.6"}})
	a.put("ingresses", "default", "web", object{"creationTimestamp": "2026-01-01T00:00:00Z"}, object{
		"spec":   object{"ingressClassName": "nginx", "rules": []object{{"host": "web.example.org"}, {"http": object{}}}},
		"status": object{"loadBalancer": object{"ingress": []object{{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}}}},
	})
	a.put("nodes", "", "node-1", nil, object{"status": object{"addresses": []object{{"type": "Hostname", "address": "node-1"}, {"type": "InternalIP", "address": "192.0.2.2"}}}})
	a.put("dnsendpoints", "default", "ep", nil, object{"spec": object{"endpoints": []object{{"dnsName": "ep.example.org", "recordType": "A", "targets": []string{"192.0.2.3"}}}}})
	a.put("gateways", "default", "gw", object{"generation": 1}, object{
		"spec": object{"gatewayClassName": "c", "listeners": []object{
			{"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.example.org"}, {"name": "tls", "port": 443, "protocol": "TLS", "tls": object{"mode": "Passthrough"}},
			{"name": "tcp", "port": 25, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"},
		}, "allowedListeners": object{"namespaces": object{"from": "Same"}}},
		"status": object{"addresses": []object{{"type": "IPAddress", "value": "192.0.2.4"}}},
	})
	a.put("listenersets", "default", "ls", object{"generation": 1}, object{
		"spec": object{"parentRef": object{"name": "gw"}, "listeners": []object{{"name": "more", "port": 80, "protocol": "HTTP", "hostname": "more.example.org"}}},
		"status": object{
			"conditions": []object{{"type": "Accepted", "status": "True", "observedGeneration": 1}},
			"listeners":  []object{{"name": "more", "conditions": []object{{"type": "Accepted", "status": "True", "observedGeneration": 1}}}},
		},
	})
	route := func(resource, name string, annotations object, hosts ...string) {
		a.put(resource, "default", name, object{"generation": 1, "annotations": annotations},
			object{"spec": object{"hostnames": hosts, "parentRefs": []object{{"name": "gw"}}}, "status": accepted})
	}
	route("httproutes", "http", nil, "http.example.org")
	route("grpcroutes", "grpc", nil, "grpc.example.org")
	route("tlsroutes", "tls", nil, "tls.example.org")
	route("tcproutes", "tcp", object{"external-dns.kubernetes.io/hostname": "tcp.example.org"})
	route("udproutes", "udp", object{"external-dns.kubernetes.io/hostname": "udp.example.org"})
	a.put("httproutes", "default", "set", object{"generation": 1}, object{
		"spec": object{"parentRefs": []object{{"kind": "ListenerSet", "name": "ls"}}},
		"status": object{"parents": []object{{
			"parentRef":  object{"kind": "ListenerSet", "name": "ls"},
			"conditions": []object{{"type": "Accepted", "status": "True", "observedGeneration": 1}},
		}}},
	})
}

// hosts are the names of putHosts, and their addresses.
var hosts = map[string]string{
	"lb.default.example.org.": "192.0.2.9", "plain.default.example.org.": "none", "db.default.example.org.": "headless",
	"inner.example.org.": "inside 10.0.0.7", "web.example.org.": "192.0.2.1 2001:db8::1", "node-1.example.org.": "192.0.2.2",
	"ep.example.org.": "192.0.2.3", "http.example.org.": "192.0.2.4", "grpc.example.org.": "192.0.2.4", "tls.example.org.": "192.0.2.4",
	"tcp.example.org.": "192.0.2.4", "udp.example.org.": "192.0.2.4", "more.example.org.": "192.0.2.4", "other.example.org.": "none",
}

func checkHosts(t *testing.T, o *Objects, want map[string]string) {
	t.Helper()
	for name, want := range want {
		eventually(t, name+" has "+want, func() bool { return hostOf(o, name) == want })
	}
}

// Each kind of objects is watched, served, and dropped when it has no users.
func TestExternal(t *testing.T) {
	a := newAPIServer(t)
	a.putHosts()
	s := a.open(t)
	o := listed(t, s, Selection{External: allSources, Labels: "a notin (b)"})
	want := "map[list ingresses:1 list namespaces:1 list nodes:1 list services:1 watch dnsendpoints:1 watch gateways:1 watch grpcroutes:1 watch httproutes:1 " +
		"watch ingresses:1 watch listenersets:1 watch namespaces:1 watch nodes:1 watch services:1 watch tcproutes:1 watch tlsroutes:1 watch udproutes:1]"
	eventually(t, "each is requested once: "+want, func() bool { return a.asked() == want })
	a.mu.Lock()
	for resource := range kinds {
		accept, query := a.accepts["watch "+resource], a.queries["watch "+resource]
		if accept == "" {
			continue
		}
		custom := strings.Contains(kinds[resource][0], ".") && resource != "ingresses"
		if custom == strings.Contains(accept, "protobuf") {
			t.Errorf("%s are requested as %s", resource, accept)
		}
		if selected := strings.Contains(query, "labelSelector="); selected != (resource == "services") {
			t.Errorf("%s are requested with %s", resource, query)
		}
	}
	a.mu.Unlock()
	checkHosts(t, o, hosts)
	if n := value(objectsRejected.WithLabelValues(kindExternalService)); n != 0 {
		t.Errorf("%v Services without an address are refused", n)
	}
	for kind := range externalKinds {
		want := 1.0
		switch kind {
		case kindHTTPRoute:
			want = 2
		case kindExternalService: // without the one that has no external name or address
			want = 3
		}
		if n := value(objectsHeld.WithLabelValues(kind)); n != want {
			t.Errorf("%v %s are counted, want %v", n, kind, want)
		}
	}

	a.put("ingresses", "default", "web", nil, object{
		"spec":   object{"rules": []object{{"host": "new.example.org"}}},
		"status": object{"loadBalancer": object{"ingress": []object{{"hostname": "lb.example.com"}}}},
	})
	a.remove("httproutes", "default", "http")
	a.put("services", "default", "plain", nil, object{"spec": object{"clusterIP": "10.0.0.8", "externalIPs": []string{"192.0.2.8"}}})
	a.put("services", "default", "lb", nil, object{"spec": object{"clusterIP": "10.0.0.9"}})
	checkHosts(t, o, map[string]string{
		"web.example.org.": "none", "new.example.org.": "lb.example.com.", "http.example.org.": "none", "lb.default.example.org.": "none",
	})

	few := listed(t, s, Selection{External: external.FromIngress, Labels: "a notin (b)"})
	if few.External() != o.External() {
		t.Error("two selections with different sources do not share an index")
	}
	o.Close()
	checkHosts(t, few, map[string]string{"grpc.example.org.": "none", "ep.example.org.": "none", "node-1.example.org.": "none", "new.example.org.": "lb.example.com."})
	for kind := range externalKinds {
		if n, wanted := value(objectsHeld.WithLabelValues(kind)), slices.Contains(few.kinds, kind); n > 0 != wanted {
			t.Errorf("%v %s are counted, and wanted: %v", n, kind, wanted)
		}
	}
	few.Close()
}

// Only the kinds that the sources need are requested.
func TestExternalKinds(t *testing.T) {
	for source, want := range map[external.Source]string{
		external.FromIngress:     "ingresses",
		external.FromService:     "",
		external.FromDNSEndpoint: "dnsendpoints",
		external.FromNode:        "nodes",
		external.FromGateway:     "gateways grpcroutes httproutes listenersets tcproutes tlsroutes udproutes",
	} {
		a := newAPIServer(t)
		o := listed(t, a.open(t), Selection{External: source})
		eventually(t, want+" are requested", func() bool {
			var got []string
			a.mu.Lock()
			for verb := range a.seen {
				if resource, ok := strings.CutPrefix(verb, "watch "); ok && resource != "namespaces" && resource != "services" {
					got = append(got, resource)
				}
			}
			a.mu.Unlock()
			slices.Sort(got)
			return strings.Join(got, " ") == want
		})
		o.Close()
	}
}

// A kind that the server does not have, does not grant or fails to return holds nothing else up, and is not waited for.
// Its objects are served once the server returns them, and removed a minute after the server loses the kind.
func TestExternalRefused(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusInternalServerError} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			a := newAPIServer(t)
			a.putHosts()
			resources := []string{"ingresses", "nodes", "dnsendpoints", "gateways", "httproutes"}
			for _, resource := range resources {
				a.answer(resource, status)
			}
			o := listed(t, a.open(t), Selection{External: allSources})
			checkHosts(t, o, map[string]string{"lb.default.example.org.": "192.0.2.9", "web.example.org.": "none", "http.example.org.": "none", "node-1.example.org.": "none"})
			denied := status != http.StatusInternalServerError
			eventually(t, "every kind is known or unavailable", func() bool { return o.External().State().Synced(allSources.Kinds()) == denied })
			if c := o.group.source.Capture(nil, o, nil); (c != nil) != denied {
				t.Errorf("it is captured: %v", c != nil)
			}
			for _, resource := range resources {
				a.answer(resource, 0)
			}
			checkHosts(t, o, hosts)

			a.answer("httproutes", status)
			a.cut()
			eventually(t, "it is refused again", func() bool {
				o.group.source.mu.Lock()
				defer o.group.source.mu.Unlock()
				f := o.group.feeds[kindHTTPRoute]
				f.missing = f.missing.Add(-2 * vanished)
				return status == http.StatusInternalServerError || !f.missing.IsZero()
			})
			if status == http.StatusNotFound {
				checkHosts(t, o, map[string]string{"http.example.org.": "none", "grpc.example.org.": "192.0.2.4"})
			} else {
				checkHosts(t, o, hosts)
			}
			a.answer("httproutes", 0)
			checkHosts(t, o, hosts)
		})
	}
}

// Once everything else is listed, the kinds that the server does not have or does not grant are known to be absent, so
// a name that does not exist is NXDOMAIN from the first query on.
func TestExternalAbsentAtOnce(t *testing.T) {
	quietly(t)
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden} {
		a := newAPIServer(t)
		a.putHosts()
		for _, kind := range customKinds {
			a.answer(kind.resource, status)
		}
		a.answer("nodes", http.StatusForbidden)
		o := listed(t, a.open(t), Selection{External: allSources})
		if !o.External().State().Synced(allSources.Kinds()) {
			t.Errorf("%d: some kinds are unknown when everything else is listed", status)
		}
	}
}

// One reply of a server that may be starting does not remove what a snapshot has.
func TestExternalSnapshotOutlastsOneRefusal(t *testing.T) {
	quietly(t)
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden} {
		a := newAPIServer(t)
		a.putHosts()
		sel := Selection{External: allSources}
		s := a.open(t)
		sn, err := parseSnapshot("f", bytes.NewReader(encoded(t, s.Capture(listed(t, s, Selection{}), listed(t, s, sel), nil))))
		must(t, err)
		s.Close()

		a.mu.Lock()
		a.first["httproutes"] = status
		a.mu.Unlock()
		o, used, err := a.open(t).ObjectsFrom(sn, sel)
		must(t, err)
		t.Cleanup(o.Close)
		if !used {
			t.Fatal("the snapshot is not used")
		}
		eventually(t, "the lists", func() bool {
			if got := hostOf(o, "http.example.org."); got != "192.0.2.4" {
				t.Fatalf("%d: after one refusal, the name has %q", status, got)
			}
			return o.complete()
		})
	}
}

// A kind that the server fails to return without any reply, such as one whose webhook hangs, is not waited for beyond a
// bound. The log has it, and its objects are served once the server returns them.
func TestExternalWithoutReply(t *testing.T) {
	for name, status := range map[string]int{"hangs": hang, "resets": reset} {
		t.Run(name, func(t *testing.T) {
			l := captureLog(t)
			a := newAPIServer(t)
			a.putHosts()
			a.answer("httproutes", status)
			a.answer("ingresses", status)
			s := a.open(t)
			o := listed(t, s, Selection{External: allSources})
			if o.External().State().Synced(allSources.Kinds()) {
				t.Error("kinds that were never returned count as known")
			}
			if !s.clients.health.connected() {
				t.Error("a server with open watches counts as unreachable")
			}
			checkHosts(t, o, map[string]string{"lb.default.example.org.": "192.0.2.9", "grpc.example.org.": "192.0.2.4", "http.example.org.": "none"})
			l.once(t, "[ERROR]", "returns no httproutes", "none were read yet", "look for a proxy or firewall")
			l.once(t, "[ERROR]", "returns no ingresses", "none were read yet")
			a.answer("httproutes", 0)
			a.answer("ingresses", 0)
			checkHosts(t, o, hosts)
			l.once(t, "[INFO]", "returns httproutes for the first time")
		})
	}
}

// While a cluster lacks CustomResourceDefinitions, each is logged once, none is waited for, and one request for each
// group looks for them.
func TestExternalWithoutDefinitions(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.putHosts()
	for kind := range customKinds {
		a.answer(customKinds[kind].resource, http.StatusNotFound)
	}
	o := listed(t, a.open(t), Selection{External: allSources})
	checkHosts(t, o, map[string]string{"web.example.org.": "192.0.2.1 2001:db8::1", "lb.default.example.org.": "192.0.2.9", "http.example.org.": "none"})
	asked := func(verb string) int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.seen[verb]
	}
	eventually(t, "they are looked for", func() bool { return asked("discover "+gatewayVersion) > 5 && asked("discover "+dnsVersion) > 5 })
	for kind := range customKinds {
		if n := asked("list " + customKinds[kind].resource); n > 3 {
			t.Errorf("%s are listed %d times", customKinds[kind].resource, n)
		}
		if n := len(l.with("has no " + customKinds[kind].resource + ",")); n != 1 {
			t.Errorf("the log reports missing %s %d times", customKinds[kind].resource, n)
		}
	}
	if lines := l.with("[ERROR]"); len(lines) != 0 {
		t.Errorf("errors in the log: %q", lines)
	}
	for kind := range customKinds {
		a.answer(customKinds[kind].resource, 0)
	}
	checkHosts(t, o, hosts)
	for kind := range customKinds {
		l.once(t, "returns "+customKinds[kind].resource+" for the first time")
	}
}

// An object that can't be parsed is refused alone: its last state stays, and all others are served.
func TestExternalNotUnderstood(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	a.putHosts()
	a.put("httproutes", "default", "bad", nil, object{"spec": object{"hostnames": 7}})
	a.put("gateways", "default", "bad", nil, object{"spec": "x"})
	o := listed(t, a.open(t), Selection{External: allSources})
	checkHosts(t, o, hosts)
	before := value(objectsRejected.WithLabelValues(kindHTTPRoute))
	a.put("httproutes", "default", "http", nil, object{"spec": object{"hostnames": object{}}})
	a.put("dnsendpoints", "default", "ep", nil, object{"spec": object{"endpoints": []any{1}}})
	a.put("httproutes", "default", "last", object{"generation": 1}, object{"spec": object{"hostnames": []string{"last.example.org"}, "parentRefs": []object{{"name": "gw"}}}, "status": accepted})
	checkHosts(t, o, map[string]string{"last.example.org.": "192.0.2.4"})
	checkHosts(t, o, hosts)
	if n := value(objectsRejected.WithLabelValues(kindHTTPRoute)); n != before+1 {
		t.Errorf("%v HTTPRoutes were refused since, want 1", n-before)
	}
}

// Names that no object may claim are reported, wherever they come from.
func TestExternalNamesRefused(t *testing.T) {
	quietly(t)
	web := meta.ObjectMeta{Namespace: "shop", Name: "web"}
	wrong := web
	wrong.Annotations = map[string]string{"external-dns.kubernetes.io/hostname": "www.example.org, not a name"}
	for kind, pack := range map[string]func(){
		kindTLSRoute: func() {
			toCustom(kindTLSRoute, readRoute(external.KindTLSRoute))(&customResource{ObjectMeta: web, Spec: []byte(`{"hostnames": ["192.0.2.1"]}`)})
		},
		kindDNSEndpoint: func() {
			toCustom(kindDNSEndpoint, readDNSEndpoint)(&customResource{ObjectMeta: web, Spec: []byte(`{"endpoints": [{"dnsName": "a;b.example.org"}, {"dnsName": "a..b"}]}`)})
		},
		kindIngress:         func() { toIngress(&networking.Ingress{ObjectMeta: wrong}) },
		kindExternalService: func() { toExternalService(&api.Service{ObjectMeta: wrong}) },
	} {
		before := value(objectsRejected.WithLabelValues(kind))
		pack()
		if n := value(objectsRejected.WithLabelValues(kind)) - before; n != 1 {
			t.Errorf("%s: %v names are reported, want 1", kind, n)
		}
	}
}

// An object without names yet is not refused.
func TestExternalOfNoUseYet(t *testing.T) {
	quietly(t)
	web := meta.ObjectMeta{Namespace: "shop", Name: "web"}
	custom := func(kind, spec string) func() (*external.Object, disposition) {
		return func() (*external.Object, disposition) {
			return toCustom(kind, customKinds[kind].read)(&customResource{ObjectMeta: web, Spec: []byte(spec)})
		}
	}
	for kind, pack := range map[string]func() (*external.Object, disposition){
		kindHTTPRoute:   custom(kindHTTPRoute, `{"hostnames": ["www.example.org"], "parentRefs": [{"name": "gw"}]}`),
		kindTLSRoute:    custom(kindTLSRoute, `{"hostnames": ["tls.example.org"]}`),
		kindListenerSet: custom(kindListenerSet, `{"parentRef": {"kind": "Service", "name": "gw"}}`),
		kindExternalService: func() (*external.Object, disposition) {
			return toExternalService(&api.Service{ObjectMeta: web, Spec: api.ServiceSpec{Type: api.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1"}})
		},
	} {
		before := value(objectsRejected.WithLabelValues(kind))
		if o, disposition := pack(); o != nil || disposition != drop {
			t.Errorf("%s: %v, %v", kind, o, disposition)
		}
		if n := value(objectsRejected.WithLabelValues(kind)) - before; n != 0 {
			t.Errorf("%s: %v are refused", kind, n)
		}
	}
	before := value(objectsRejected.WithLabelValues(kindNode))
	if o, disposition := toNode(&api.Node{ObjectMeta: meta.ObjectMeta{Name: "no_de!"}}); o != nil || disposition != drop || value(objectsRejected.WithLabelValues(kindNode)) != before+1 {
		t.Errorf("a Node without a hostname: %v, %v", o, disposition)
	}
}

// fromSnapshot returns a group for external names that holds the objects of a snapshot.
func fromSnapshot(sn *Snapshot, kinds []string) *group {
	g := &group{key: groupKey{external: true}, ix: services.NewIndex(), outside: external.NewIndex(), counts: make(map[string]int)}
	sn.fill(g, kinds)
	for _, kind := range kinds {
		g.setCount(kind, 0)
	}
	return g
}

// A snapshot has the objects that it was made from. One written without the external option has none of its objects,
// and can be used for the rest.
func TestExternalSnapshot(t *testing.T) {
	a := newAPIServer(t)
	a.putHosts()
	s := a.open(t)
	o, inner := listed(t, s, Selection{External: allSources}), listed(t, s, Selection{Endpoints: true})
	checkHosts(t, o, hosts)
	c := s.Capture(inner, o, nil)
	if c == nil {
		t.Fatal("it can't be captured")
	}
	sn, err := parseSnapshot("f", bytes.NewReader(encoded(t, c)))
	must(t, err)
	g := fromSnapshot(sn, o.kinds)
	for kind, k := range externalKinds {
		var got, want []string
		for o := range g.outside.State().Objects(k) {
			got = append(got, fmt.Sprintf("%+v", specOf(o)))
		}
		for o := range o.External().State().Objects(k) {
			want = append(want, fmt.Sprintf("%+v", specOf(o)))
		}
		if !slices.Equal(got, want) || len(got) == 0 {
			t.Errorf("objects of kind %s:\n%s\nwant\n%s", kind, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if st := g.outside.State(); st.Snapshot() == 0 || !st.Restored(allSources.Kinds()) || st.Synced(allSources.Kinds()) {
		t.Error("the kinds of a snapshot are not known, or are synced")
	}
	checkHosts(t, &Objects{group: g}, hosts)

	outside := groupKey{external: true}
	if !sn.holds(outside, o.kinds) || !sn.holds(groupKey{}, inner.kinds) || sn.holds(groupKey{external: true, labels: "a=b"}, o.kinds) {
		t.Error("it lacks kinds that it was made from, or has others")
	}
	if other := s.Capture(inner, nil, nil); c.Same(other) || !c.Same(s.Capture(inner, o, nil)) {
		t.Error("one without external names is the same")
	}
	old, err := parseSnapshot("f", bytes.NewReader(encoded(t, s.Capture(inner, nil, nil))))
	must(t, err)
	if old.holds(outside, o.kinds) || !old.holds(groupKey{}, inner.kinds) {
		t.Error("a snapshot without external names has them, or lacks the rest")
	}
	head, rest := lines(t, encoded(t, c))
	for _, bad := range []string{`"of":"HTTPRoute","spec":7}`, `"of":"HTTPRoute","spec":{"Hostnames":7}}`, `"of":7}`} {
		if _, err := parseSnapshot("f", strings.NewReader(string(gzipped(head+"\n"+externalLine+bad+"\n")))); err == nil || !strings.HasPrefix(err.Error(), "f:2: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	later := head + "\n" + externalLine + `"of":"Later","spec":{}}` + "\n" + strings.Join(rest, "\n")
	if _, err := parseSnapshot("f", strings.NewReader(string(gzipped(later)))); err != nil {
		t.Errorf("a kind of a later version: %v", err)
	}
}

// Manifests have the same result as an API server, and an object that can't be parsed is an error with its
// line.
func TestExternalManifests(t *testing.T) {
	a := newAPIServer(t)
	a.putHosts()
	var text strings.Builder
	for _, all := range a.objects {
		for _, o := range all {
			raw, err := json.Marshal(o)
			must(t, err)
			text.WriteString(string(raw) + "\n")
		}
	}
	path := filepath.Join(t.TempDir(), "all.json")
	write(t, path, text.String())
	s, err := Open(Spec{Manifests: path})
	must(t, err)
	t.Cleanup(s.Close)
	o := listed(t, s, Selection{External: allSources})
	if !o.External().State().Synced(allSources.Kinds()) {
		t.Error("manifests that were read are not synced")
	}
	checkHosts(t, o, hosts)
	for _, kind := range []string{kindIngress, kindGateway, kindNode, kindExternalNamespace} {
		if n := value(objectsHeld.WithLabelValues(kind)); n != 1 {
			t.Errorf("%v %s are counted, want 1", n, kind)
		}
	}
	for text, want := range map[string]string{
		"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {hostnames: 7}\n": "f:2: HTTPRoute a: spec: ",
		"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec: {rules: 7}\n":                    "f:1: Ingress a: ",
		"apiVersion: externaldns.k8s.io/v1alpha1\nkind: DNSEndpoint\nspec: {}\n":                                      "f:1: DNSEndpoint without metadata.name",
		"apiVersion: v1\nkind: Node\nmetadata: {name: a}\nstatus: {addresses: 7}\n":                                   "f:1: Node a: ",
	} {
		if _, err := parse("f", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

// Objects that are changed in some part affect only themselves, until the next good list.
func TestExternalHostile(t *testing.T) {
	quietly(t)
	a := newAPIServer(t)
	a.putHosts()
	newGroup := func() (*group, map[string]fed) {
		g := &group{key: groupKey{external: true}, ix: services.NewIndex(), outside: external.NewIndex(), objects: labels.Everything(), counts: make(map[string]int)}
		feeds := map[string]fed{
			"namespaces": feedOf(g, externalTable(kindExternalNamespace, toExternalNamespace)), "services": feedOf(g, externalTable(kindExternalService, toExternalService)),
			"ingresses": feedOf(g, ingressTable()), "nodes": feedOf(g, externalTable(kindNode, toNode)),
		}
		for kind, custom := range customKinds {
			feeds[custom.resource] = feedOf(g, externalTable(kind, toCustom(kind, custom.read)))
		}
		return g, feeds
	}
	good := make(map[string][][]byte)
	var resources []string
	for resource, all := range a.objects {
		for _, o := range all {
			raw, err := json.Marshal(o)
			must(t, err)
			good[resource] = append(good[resource], raw)
		}
		resources = append(resources, resource)
	}
	slices.Sort(resources)
	g, feeds := newGroup()
	list := func(feeds map[string]fed) {
		for resource, feed := range feeds {
			must(t, feed.replace(good[resource]))
		}
	}
	list(feeds)
	taken := 0
	hostile.Run(t, 3000, func(r *rand.Rand) {
		resource := resources[r.IntN(len(resources))]
		var tree any
		must(t, json.Unmarshal(good[resource][r.IntN(len(good[resource]))], &tree))
		for range 1 + r.IntN(4) {
			tree = hostile.Value(r, tree)
		}
		raw, err := json.Marshal(tree)
		must(t, err)
		before := g.outside.State().Version()
		if err := feeds[resource].put(raw, r); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if g.outside.State().Version() != before {
			taken++
		}
		for name := range hosts {
			hostOf(&Objects{group: g}, name)
		}
		if r.IntN(100) == 0 {
			c := &Capture{outside: g.outside.State(), head: snapshotHead{typeMeta: snapshotType, External: kindsFor(allSources)}}
			if _, err := parseSnapshot("f", bytes.NewReader(encoded(t, c))); err != nil {
				t.Errorf("a snapshot of it can't be read: %v", err)
			}
		}
	})
	if taken == 0 {
		t.Error("none was accepted")
	}
	list(feeds)
	want, others := newGroup()
	list(others)
	for kind, k := range externalKinds {
		var got, fresh []string
		for o := range g.outside.State().Objects(k) {
			got = append(got, fmt.Sprintf("%+v", specOf(o)))
		}
		for o := range want.outside.State().Objects(k) {
			fresh = append(fresh, fmt.Sprintf("%+v", specOf(o)))
		}
		if !slices.Equal(got, fresh) {
			t.Errorf("objects of kind %s:\n%s\nwant\n%s", kind, strings.Join(got, "\n"), strings.Join(fresh, "\n"))
		}
		want.setCount(kind, 0)
	}
	for name, want := range hosts {
		if got := hostOf(&Objects{group: g}, name); got != want {
			t.Errorf("%s stands for %s, want %s", name, got, want)
		}
	}
	for kind := range externalKinds {
		g.setCount(kind, 0)
	}
}

// FuzzCustom checks that no reply of an API server with custom resources ends the process.
func FuzzCustom(f *testing.F) {
	for _, s := range []string{
		`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"a","namespace":"b","resourceVersion":"1"},"spec":{"hostnames":["a.b"],"parentRefs":[{"name":"g","port":80}]},"status":{"parents":[{"parentRef":{"name":"g"},"conditions":[{"type":"Accepted","status":"True","observedGeneration":1}]}]}}`,
		`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GatewayList","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"a","namespace":"b"},"spec":{"listeners":[{"name":"x","allowedRoutes":{"namespaces":{"from":"Selector","selector":{"matchLabels":{"a":"b"}}}}}]},"status":{"addresses":[{"value":"10.0.0.1"}]}}]}`,
		`{"apiVersion":"externaldns.k8s.io/v1alpha1","kind":"DNSEndpoint","metadata":{"name":"a","namespace":"b"},"spec":{"endpoints":[{"dnsName":"a.b","recordType":"MX","targets":["1 a"]}]}}`,
		`{"apiVersion":"v1","kind":"Status","status":"Failure","code":404}`, `{}`, `[`, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"List","items":[1]}`,
	} {
		f.Add([]byte(s))
	}
	decoder := customCodecs{scheme.Codecs.WithoutConversion()}.DecoderToVersion(protobufInfo.Serializer, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		quietly(t)
		o, _, err := decoder.Decode(data, nil, nil)
		if err != nil {
			return
		}
		var all []*customResource
		switch o := o.(type) {
		case *customResource:
			all = append(all, o)
		case *customList:
			for i := range o.Items {
				all = append(all, &o.Items[i])
			}
		}
		ix := external.NewIndex()
		for _, r := range all {
			custom, ok := customKinds[r.Kind]
			if !ok {
				continue
			}
			if packed, disposition := toCustom(r.Kind, custom.read)(r); disposition == keep {
				ix.Update(func(tx *external.Tx) { tx.Set(packed) })
			}
			if !reflect.DeepEqual(r.DeepCopyObject(), r) {
				t.Errorf("a copy differs from %+v", r)
			}
		}
	})
}

// Two stanzas that select different Services for their Service zones share the objects of external
// names.
func TestExternalShared(t *testing.T) {
	a := newAPIServer(t)
	a.putHosts()
	s := a.open(t)
	one := listed(t, s, Selection{External: external.FromIngress, PodNames: true})
	two := listed(t, s, Selection{External: external.FromNode, Zones: true})
	if one.External() != two.External() {
		t.Error("there are two indexes")
	}
	inner := listed(t, s, Selection{})
	if inner.Index() == one.Index() || len(inner.Index().State().Served(&services.Options{}, false)) != 5 {
		t.Error("Services are in the wrong index")
	}
	if got := fmt.Sprint(len(one.Index().State().Served(&services.Options{}, false))); got != "0" {
		t.Errorf("%s Services are in the index of external names", got)
	}
}
