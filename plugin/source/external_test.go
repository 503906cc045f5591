package source

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// allSources are those of an external option that has all of them.
const allSources = external.FromIngress | external.FromService | external.FromGateway | external.FromDNSEndpoint | external.FromNode

// hostOf returns what a name in the zone example.org stands for: addresses and hostnames, sorted; "none" for a name that does
// not exist, and "nothing" for one without records.
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

// accepted is the status of a route that the Gateway gw accepts, at the generation 1.
var accepted = object{"parents": []object{{
	"parentRef": object{"name": "gw"}, "controllerName": "example.com/c",
	"conditions": []object{{"type": "Accepted", "status": "True", "observedGeneration": 1}},
}}}

// putHosts puts an object of each kind that names come from.
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

// hosts are the names of putHosts, and what they stand for.
var hosts = map[string]string{
	"lb.default.example.org.": "192.0.2.9", "plain.default.example.org.": "none", "db.default.example.org.": "headless",
	"inner.example.org.": "inside 10.0.0.7", "web.example.org.": "192.0.2.1 2001:db8::1", "node-1.example.org.": "192.0.2.2",
	"ep.example.org.": "192.0.2.3", "http.example.org.": "192.0.2.4", "grpc.example.org.": "192.0.2.4", "tls.example.org.": "192.0.2.4",
	"tcp.example.org.": "192.0.2.4", "udp.example.org.": "192.0.2.4", "more.example.org.": "192.0.2.4", "other.example.org.": "none",
}

func checkHosts(t *testing.T, o *Objects, want map[string]string) {
	t.Helper()
	for name, want := range want {
		eventually(t, name+" stands for "+want, func() bool { return hostOf(o, name) == want })
	}
}

// Each kind of objects is watched, taken in, and forgotten when nobody wants it.
func TestExternal(t *testing.T) {
	a := newAPIServer(t)
	a.putHosts()
	s := a.open(t)
	o := listed(t, s, Selection{External: allSources, Labels: "a notin (b)"})
	want := "map[list ingresses:1 list namespaces:1 list nodes:1 list services:1 watch dnsendpoints:1 watch gateways:1 watch grpcroutes:1 watch httproutes:1 " +
		"watch ingresses:1 watch listenersets:1 watch namespaces:1 watch nodes:1 watch services:1 watch tcproutes:1 watch tlsroutes:1 watch udproutes:1]"
	eventually(t, "each is asked for once: "+want, func() bool { return a.asked() == want })
	a.mu.Lock()
	for resource := range kinds {
		accept, query := a.accepts["watch "+resource], a.queries["watch "+resource]
		if accept == "" {
			continue
		}
		custom := strings.Contains(kinds[resource][0], ".") && resource != "ingresses"
		if custom == strings.Contains(accept, "protobuf") {
			t.Errorf("%s are asked for as %s", resource, accept)
		}
		if selected := strings.Contains(query, "labelSelector="); selected != (resource == "services") {
			t.Errorf("%s are asked for with %s", resource, query)
		}
	}
	a.mu.Unlock()
	checkHosts(t, o, hosts)
	for kind := range externalKinds {
		want := 1.0
		switch kind {
		case kindHTTPRoute:
			want = 2
		case kindExternalService: // without the one that has nothing outside
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
		t.Error("two that want different sources do not share an index")
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

// Only the kinds that the sources need are asked for.
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
		eventually(t, want+" are asked for", func() bool {
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

// What the server does not have, does not grant or fails to give keeps nothing else from being served, and nobody waits for it. It
// is there as soon as the server gives it, and goes a minute after the server has it no more.
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
			if known, denied := o.External().State().Synced(allSources.Kinds()), status != http.StatusInternalServerError; known != denied {
				t.Errorf("all is known: %v, want %v", known, denied)
			}
			if s := o.group.source.Capture(nil, o, nil); (s != nil) != (status != http.StatusInternalServerError) {
				t.Errorf("it can be captured: %v", s != nil)
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

// An object that can't be understood is refused alone: it stays as it was, and all others are served.
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

// Two that select other Services for the zones of Services share what names from outside come from.
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
	if inner.Index() == one.Index() || len(inner.Index().State().Served(&services.Options{}, false)) != 4 {
		t.Error("Services are in the wrong index")
	}
	if got := fmt.Sprint(len(one.Index().State().Served(&services.Options{}, false))); got != "0" {
		t.Errorf("%s Services are in the index of names from outside", got)
	}
}
