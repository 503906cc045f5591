package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	utilruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// apiServer implements as much of the Kubernetes API as a reflector needs: plain lists in protobuf for clients that
// accept it, everything else in JSON.
type apiServer struct {
	*httptest.Server

	mu        sync.Mutex
	version   int
	objects   map[string]map[string]object // by resource and namespace/name
	streams   map[chan string]string       // the open watches, with their resource
	seen      map[string]int               // requests by "list resource" or "watch resource"
	queries   map[string]string            // the last query of each
	log       []string                     // all requests, VERB RESOURCE?QUERY
	header    http.Header                  // of the last request
	accepts   map[string]string            // the media types that the last request of each kind accepts
	encodings map[string]string            // and the compression
	status    map[string]int               // the status of replies for a resource, "" for all; 0 for normal replies; see hang and reset
	first     map[string]int               // the status of the first reply for a resource
	noStream  bool                         // has no streamed lists
	pages     map[string]bool              // resources that get a page of HTML in reply
	short     bool                         // ends each watch at once
	gone      bool                         // answers the next watch with 410
	deaf      bool                         // sends watches nothing
	json      bool                         // has no protobuf
	numbered  bool                         // refusals have the number of the request in their text

	// replaces a plain list of Services; nil for none
	plain func(w http.ResponseWriter, r *http.Request, list []byte)
	past  []past // events for a watch that begins from an older resourceVersion
}

// past is an event that happened.
type past struct {
	version  int
	resource string
	event    string
}

type object map[string]any

var kinds = map[string][2]string{
	"namespaces": {"v1", "Namespace"}, "services": {"v1", "Service"}, "pods": {"v1", "Pod"}, "configmaps": {"v1", "ConfigMap"},
	"endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"}, "serviceimports": {"multicluster.x-k8s.io/v1alpha1", "ServiceImport"},
	"nodes": {"v1", "Node"}, "ingresses": {"networking.k8s.io/v1", "Ingress"}, "dnsendpoints": {dnsVersion, "DNSEndpoint"},
	"gateways": {gatewayVersion, "Gateway"}, "listenersets": {gatewayVersion, "ListenerSet"}, "httproutes": {gatewayVersion, "HTTPRoute"},
	"grpcroutes": {gatewayVersion, "GRPCRoute"}, "tlsroutes": {gatewayVersion, "TLSRoute"}, "tcproutes": {gatewayVersion, "TCPRoute"},
	"udproutes": {gatewayVersion, "UDPRoute"},
}

func newAPIServer(t *testing.T) *apiServer {
	a := &apiServer{
		objects: make(map[string]map[string]object), streams: make(map[chan string]string),
		seen: make(map[string]int), queries: make(map[string]string), status: make(map[string]int),
		accepts: make(map[string]string), encodings: make(map[string]string), pages: make(map[string]bool), first: make(map[string]int),
	}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.cut()
		a.Server.Close()
	})
	return a
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if version, ok := strings.CutPrefix(r.URL.Path, "/apis/"); ok && strings.Count(version, "/") == 1 {
		a.discover(w, version)
		return
	}
	q := r.URL.Query()
	verb := "list " + resource
	if q.Get("watch") != "" {
		verb = "watch " + resource
	}
	stream := q.Get("sendInitialEvents") == "true"

	a.mu.Lock()
	a.seen[verb]++
	a.queries[verb] = r.URL.RawQuery
	a.log = append(a.log, verb+"?"+r.URL.RawQuery)
	a.header = r.Header
	a.accepts[verb], a.encodings[verb] = r.Header.Get("Accept"), r.Header.Get("Accept-Encoding")
	status := a.status[""] + a.status[resource]
	if once := a.first[resource]; once != 0 {
		status = once
		delete(a.first, resource)
	}
	if stream && a.noStream {
		status = http.StatusUnprocessableEntity
	}
	switch status {
	case hang:
		a.mu.Unlock()
		<-r.Context().Done()
		return
	case reset:
		a.mu.Unlock()
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
		return
	}
	if a.gone && !stream && resource == "services" && q.Get("watch") != "" {
		a.gone, status = false, http.StatusGone
	}
	if a.pages[resource] {
		a.mu.Unlock()
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body>Please log in</body></html>")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if status != 0 {
		message := "so it is"
		if a.numbered {
			message += fmt.Sprintf(", request %d", len(a.log))
		}
		a.mu.Unlock()
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"code":%d,"reason":%q}`, message, status, reasons[status])
		return
	}
	var items []object
	for _, o := range a.objects[resource] {
		if f := q.Get("fieldSelector"); !strings.HasPrefix(f, "metadata.name=") || f == "metadata.name="+o["metadata"].(object)["name"].(string) {
			items = append(items, o)
		}
	}
	version := strconv.Itoa(a.version)
	if q.Get("watch") == "" {
		inJSON, plain := a.json, a.plain
		a.mu.Unlock()
		kind := kinds[resource]
		list, _ := json.Marshal(object{
			"apiVersion": kind[0], "kind": kind[1] + "List", "metadata": object{"resourceVersion": version}, "items": items,
		})
		if !inJSON && strings.HasPrefix(r.Header.Get("Accept"), "application/vnd.kubernetes.protobuf") {
			w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
			list = toProtobuf(list)
		}
		if plain != nil && resource == "services" && !strings.HasPrefix(q.Get("fieldSelector"), "metadata.name=") {
			plain(w, r, list)
			return
		}
		_, _ = w.Write(list)
		return
	}
	events := make(chan string, 100)
	if from, err := strconv.Atoi(q.Get("resourceVersion")); err == nil && !stream {
		for _, p := range a.past {
			if p.resource == resource && p.version > from {
				events <- p.event
			}
		}
	}
	if stream {
		for _, o := range items {
			events <- event("ADDED", o)
		}
		events <- event("BOOKMARK", object{
			"apiVersion": kinds[resource][0], "kind": kinds[resource][1],
			"metadata": object{"resourceVersion": version, "annotations": object{"k8s.io/initial-events-end": "true"}},
		})
	}
	if a.short {
		close(events)
	} else {
		a.streams[events] = resource
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.streams, events)
		a.mu.Unlock()
	}()
	w.(http.Flusher).Flush()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			fmt.Fprintln(w, e)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// What may take the place of a status: no reply, and a reset connection.
const (
	hang  = -1
	reset = -2
)

// discover lists the resources of a group and version.
func (a *apiServer) discover(w http.ResponseWriter, version string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen["discover "+version]++
	var resources []object
	for resource, kind := range kinds {
		if kind[0] == version && a.status[resource] != http.StatusNotFound {
			resources = append(resources, object{"name": resource, "kind": kind[1]})
		}
	}
	if len(resources) == 0 {
		w.WriteHeader(http.StatusNotFound)
	}
	_ = json.NewEncoder(w).Encode(object{"kind": "APIResourceList", "groupVersion": version, "resources": resources})
}

// toProtobuf encodes a list that is given in JSON.
func toProtobuf(list []byte) []byte {
	o, err := utilruntime.Decode(scheme.Codecs.UniversalDeserializer(), list)
	if err != nil {
		panic(err)
	}
	return encodeProtobuf(o)
}

func encodeProtobuf(o utilruntime.Object) []byte {
	var b bytes.Buffer
	versions := schema.GroupVersions{api.SchemeGroupVersion, discovery.SchemeGroupVersion, networking.SchemeGroupVersion}
	if err := scheme.Codecs.EncoderForVersion(protobufInfo.Serializer, versions).Encode(o, &b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

var reasons = map[int]string{401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "Expired", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}

func event(kind string, o object) string {
	b, _ := json.Marshal(object{"type": kind, "object": o})
	return string(b)
}

// put adds or changes an object. spec is its content beside the metadata.
func (a *apiServer) put(resource, namespace, name string, metadata, spec object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	o := object{"apiVersion": kinds[resource][0], "kind": kinds[resource][1]}
	for k, v := range spec {
		o[k] = v
	}
	m := object{"namespace": namespace, "name": name, "resourceVersion": strconv.Itoa(a.version)}
	for k, v := range metadata {
		m[k] = v
	}
	o["metadata"] = m
	if a.objects[resource] == nil {
		a.objects[resource] = make(map[string]object)
	}
	kind := "ADDED"
	if a.objects[resource][namespace+"/"+name] != nil {
		kind = "MODIFIED"
	}
	a.objects[resource][namespace+"/"+name] = o
	a.happened(resource, event(kind, o))
}

func (a *apiServer) remove(resource, namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	o := a.objects[resource][namespace+"/"+name]
	o["metadata"].(object)["resourceVersion"] = strconv.Itoa(a.version)
	delete(a.objects[resource], namespace+"/"+name)
	a.happened(resource, event("DELETED", o))
}

// happened sends an event to all watches, and stores it for those that begin later.
func (a *apiServer) happened(resource, e string) {
	if !a.deaf {
		a.past = append(a.past, past{a.version, resource, e})
	}
	a.tell(resource, e)
}

func (a *apiServer) tell(resource, e string) {
	if a.deaf {
		return
	}
	for events, of := range a.streams {
		if of == resource {
			events <- e
		}
	}
}

// cut ends all watches.
func (a *apiServer) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for events := range a.streams {
		close(events)
		delete(a.streams, events)
	}
}

func (a *apiServer) answer(resource string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status[resource] = status
}

// page turns a page of HTML in reply to requests for a resource on or off.
func (a *apiServer) page(resource string, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pages[resource] = on
}

// wasAsked waits for the wanted requests, in the form of asked.
func (a *apiServer) wasAsked(t *testing.T, want string) {
	t.Helper()
	eventually(t, "the requests "+want, func() bool { return a.asked() == want })
}

// asked returns the requests so far.
func (a *apiServer) asked() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprint(a.seen) // sorted by key
}

// TestMain redirects client-go's log before any test uses it, as a process does.
func TestMain(m *testing.M) {
	RouteKlog()
	firstPause, longestPause = 20*time.Millisecond, 200*time.Millisecond
	overdue, longestReply = 2*time.Second, 4*time.Second
	m.Run()
}

func (a *apiServer) open(t *testing.T) *Source {
	t.Helper()
	s, err := Open(Spec{Endpoint: a.URL})
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func listed(t *testing.T, s *Source, sel Selection) *Objects {
	t.Helper()
	o, err := s.Objects(sel)
	must(t, err)
	t.Cleanup(o.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, o.Wait(ctx, nil))
	if !o.Synced() {
		t.Error("Wait returned, but it is not synced")
	}
	return o
}

func (a *apiServer) putService(name, ip string) {
	a.put("services", "default", name, nil, object{"spec": object{"clusterIP": ip}})
}

func (a *apiServer) putSlice(name string, metadata object, ips ...string) {
	if metadata == nil {
		metadata = object{}
	}
	if metadata["labels"] == nil {
		metadata["labels"] = object{"kubernetes.io/service-name": "web"}
	}
	a.put("endpointslices", "default", name, metadata, object{"addressType": "IPv4", "endpoints": []object{{"addresses": ips}}})
}

func slicesOf(o *Objects, ip string) (n int) {
	for range o.Index().State().SlicesWith(netip.MustParseAddr(ip)) {
		n++
	}
	return n
}

func TestWatch(t *testing.T) {
	a := newAPIServer(t)
	a.put("namespaces", "", "default", nil, nil)
	a.putService("web", "10.0.0.1")
	a.putSlice("web-1", nil, "10.1.0.1")
	o := listed(t, a.open(t), Selection{Endpoints: true})
	if ip := ipOf(o, "web"); ip != "10.0.0.1" || slicesOf(o, "10.1.0.1") != 1 || !o.Index().State().Synced(&services.Options{NoEndpoints: true}, false) {
		t.Errorf("after the list, web has %q", ip)
	}
	a.wasAsked(t, "map[list endpointslices:1 list namespaces:1 list services:1 watch endpointslices:1 watch namespaces:1 watch services:1]")
	a.mu.Lock()
	if q := a.queries["list services"]; !strings.Contains(q, "resourceVersion=0") {
		t.Errorf("listed with %s, but a server has that in memory only for resourceVersion 0", q)
	}
	if ua := a.header.Get("User-Agent"); !strings.HasPrefix(ua, "kubehosts") {
		t.Errorf("User-Agent %q", ua)
	}
	if accept := a.header.Get("Accept"); !strings.HasPrefix(accept, "application/vnd.kubernetes.protobuf") {
		t.Errorf("Accept %q", accept)
	}
	a.mu.Unlock()

	a.putService("web", "10.0.0.2")
	a.putService("db", "10.0.0.3")
	a.put("services", "default", "odd", nil, object{"spec": object{"clusterIPs": []string{"x", "10.0.0.4"}}})
	eventually(t, "changes", func() bool {
		return ipOf(o, "web") == "10.0.0.2" && ipOf(o, "db") == "10.0.0.3" && ipOf(o, "odd") == "10.0.0.4"
	})
	if n := value(objectsHeld.WithLabelValues(kindService)); n != 3 {
		t.Errorf("%v Services are counted", n)
	}
	a.remove("services", "default", "db")
	eventually(t, "a deletion", func() bool { return ipOf(o, "db") == "" })

	// A slice that no longer names its Service, and one that never did.
	a.putSlice("stray", object{"labels": object{"a": "b"}}, "10.1.0.9")
	a.putSlice("web-1", object{"labels": object{"a": "b"}}, "10.1.0.1")
	eventually(t, "a slice without its label", func() bool { return slicesOf(o, "10.1.0.1") == 0 })
	a.remove("endpointslices", "default", "stray")
	a.putSlice("web-1", nil, "10.1.0.2")
	eventually(t, "a slice with its label again", func() bool { return slicesOf(o, "10.1.0.2") == 1 })
	if n := value(objectsHeld.WithLabelValues(kindSlice)); n != 1 {
		t.Errorf("%v EndpointSlices are counted", n)
	}
	o.Close()
	if n := value(objectsHeld.WithLabelValues(kindSlice)); n != 0 {
		t.Errorf("%v EndpointSlices are counted without a user", n)
	}
}

func TestSharing(t *testing.T) {
	before := runtime.NumGoroutine()
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	a.putSlice("web-1", object{"labels": object{"kubernetes.io/service-name": "web"}}, "10.1.0.2")
	a.put("pods", "default", "p", nil, object{"status": object{"podIPs": []object{{"ip": "10.1.0.1"}}}})
	pods := func(o *Objects) (n int) {
		for range o.Index().State().Pods {
			n++
		}
		return n
	}

	s, err := Open(Spec{Endpoint: a.URL})
	must(t, err)
	again, err := Open(Spec{Endpoint: a.URL})
	must(t, err)
	if s != again {
		t.Error("two Sources for one Spec")
	}
	o := listed(t, s, Selection{Endpoints: true})
	same := listed(t, again, Selection{Endpoints: true})
	if o.Index() != same.Index() {
		t.Error("two indexes for one Selection")
	}
	a.wasAsked(t, "map[list endpointslices:1 list namespaces:1 list services:1 watch endpointslices:1 watch namespaces:1 watch services:1]")

	verified := listed(t, s, Selection{Endpoints: true, Pods: true})
	if verified.Index() != o.Index() || pods(verified) != 1 {
		t.Errorf("%d pods", pods(verified))
	}
	want := "map[list endpointslices:1 list namespaces:1 list pods:1 list services:1 watch endpointslices:1 watch namespaces:1 watch pods:1 watch services:1]"
	a.wasAsked(t, want)
	a.mu.Lock()
	if q := a.queries["watch pods"]; !strings.Contains(q, "status.phase%21%3DSucceeded") {
		t.Errorf("pods are requested with %s", q)
	}
	a.mu.Unlock()
	a.put("pods", "default", "p", object{"deletionTimestamp": "2020-01-01T00:00:00Z"}, object{"status": object{"podIPs": []object{{"ip": "10.1.0.7"}}}})
	a.put("pods", "default", "q", nil, object{"status": object{"podIPs": []object{{"ip": "10.1.0.1"}}}})
	eventually(t, "a terminating pod keeps its address", func() bool { return pods(verified) == 2 })

	// The first Open and Selection are closed, as in a Corefile reload; nothing is requested again.
	o.Close()
	o.Close()
	s.Close()
	a.putService("web", "10.0.0.2")
	eventually(t, "a change after the first Close", func() bool { return ipOf(same, "web") == "10.0.0.2" })
	verified.Close()
	if pods(same) != 0 {
		t.Error("unused pods are still stored")
	}
	if got := a.asked(); got != want {
		t.Errorf("after Close\ngot  %s\nwant %s", got, want)
	}

	same.Close()
	if err := same.Wait(t.Context(), nil); err != nil {
		t.Errorf("what was listed before Close: %v", err)
	}
	again.Close()
	if ipOf(same, "web") != "10.0.0.2" || slicesOf(same, "10.1.0.2") != 1 {
		t.Error("the last Close changed the index, from which a stopping server still answers")
	}
	fresh, err := Open(Spec{Endpoint: a.URL})
	must(t, err)
	if fresh == s {
		t.Error("a closed Source was opened again")
	}
	fresh.Close()
	a.cut()
	a.Server.Close()
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// A user may release its objects after the Source is closed, or not at all.
func TestCloseFirst(t *testing.T) {
	before := runtime.NumGoroutine()
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	s, err := Open(Spec{Endpoint: a.URL})
	must(t, err)
	o := listed(t, s, Selection{})
	events, stop := configMapEvents(t, s, "coredns")
	next(t, events, "absent")
	s.Close()
	if n := value(objectsHeld.WithLabelValues(kindService)); n != 0 {
		t.Errorf("%v Services are counted", n)
	}
	o.Close()
	stop()
	a.cut()
	a.Server.Close()
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// Later lists are streams where the server has them, and plain lists where it has not.
func TestListAgain(t *testing.T) {
	for _, noStream := range []bool{false, true} {
		t.Run(fmt.Sprintf("no streams %v", noStream), func(t *testing.T) {
			a := newAPIServer(t)
			a.noStream = noStream
			a.putService("web", "10.0.0.1")
			a.put("pods", "default", "gone", object{"deletionTimestamp": "2020-01-01T00:00:00Z"}, nil)
			o := listed(t, a.open(t), Selection{Pods: true})
			if ip := ipOf(o, "web"); ip != "10.0.0.1" {
				t.Errorf("web has %q", ip)
			}
			eventually(t, "the watch", func() bool { return a.watches("services") })
			a.silently(func() { a.putService("web", "10.0.0.2") })
			a.mu.Lock()
			a.gone = true
			a.mu.Unlock()
			a.cut()
			eventually(t, "the next list", func() bool { return ipOf(o, "web") == "10.0.0.2" })
			streams, plain := 0, 0
			for _, q := range a.since(0, "services") {
				switch {
				case strings.Contains(q, "sendInitialEvents"):
					streams++
				case !strings.Contains(q, "watch=true") && !strings.Contains(q, "limit=1"):
					plain++
				}
			}
			if again := plain - 1; streams != 1 || again > 0 != noStream {
				t.Errorf("%d streams, and %d plain lists after the first: %q", streams, again, a.since(0, "services"))
			}
			eventually(t, "the watch", func() bool { return a.watches("services") })
			a.putService("web", "10.0.0.3")
			eventually(t, "a change", func() bool { return ipOf(o, "web") == "10.0.0.3" })
		})
	}
}

func TestSelectorsArePushed(t *testing.T) {
	a := newAPIServer(t)
	listed(t, a.open(t), Selection{Labels: "a=b", NamespaceLabels: "c in (d,e)", Endpoints: true})
	eventually(t, "a watch", func() bool { return a.watches("services") })
	a.mu.Lock()
	defer a.mu.Unlock()
	for verb, want := range map[string]string{
		"list services": "labelSelector=a%3Db", "list endpointslices": "labelSelector=a%3Db",
		"list namespaces": "labelSelector=c+in+%28d%2Ce%29", "watch services": "labelSelector=a%3Db",
	} {
		if q := a.queries[verb]; !strings.Contains(q, want) {
			t.Errorf("%s with %s, want %s", verb, q, want)
		}
	}
}

func TestOutage(t *testing.T) {
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	s := a.open(t)
	o := listed(t, s, Selection{})
	a.answer("", http.StatusServiceUnavailable)
	a.cut()
	asked := a.asked()
	eventually(t, "it is retried", func() bool { return a.asked() != asked })
	if ip := ipOf(o, "web"); ip != "10.0.0.1" || !o.Synced() {
		t.Errorf("web has %q while the API server is down", ip)
	}
	a.putService("web", "10.0.0.2")
	a.answer("", 0)
	eventually(t, "the change made meanwhile", func() bool { return ipOf(o, "web") == "10.0.0.2" })
}

// However a watch ends, the next request is for no older state than what was read before.
func TestNothingOlder(t *testing.T) {
	for _, noStream := range []bool{false, true} {
		for _, status := range []int{0, http.StatusGone, http.StatusServiceUnavailable} {
			t.Run(fmt.Sprintf("status %d, no streams %v", status, noStream), func(t *testing.T) {
				t.Parallel()
				nothingOlder(t, noStream, status)
			})
		}
	}
}

// nothingOlder ends the watches of a server that then replies with status for a while, 0 for
// normally.
func nothingOlder(t *testing.T, noStream bool, status int) {
	a := newAPIServer(t)
	a.noStream = noStream
	a.putService("web", "10.0.0.1")
	o := listed(t, a.open(t), Selection{})
	watched := func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.streams) == 2 }
	eventually(t, "the watches", watched)
	a.putService("web", "10.0.0.2")
	eventually(t, "a change", func() bool { return ipOf(o, "web") == "10.0.0.2" })

	a.mu.Lock()
	read, first := a.version, len(a.log)
	a.mu.Unlock()
	a.answer("services", status)
	a.cut()
	eventually(t, "it is retried", func() bool { return len(a.since(first, "services")) > 0 })
	a.answer("services", 0)
	eventually(t, "the watches again", watched) // this server does not send earlier events
	a.putService("web", "10.0.0.3")
	eventually(t, "the next change", func() bool { return ipOf(o, "web") == "10.0.0.3" })
	for _, q := range a.since(first, "services") {
		v, err := url.ParseQuery(q)
		must(t, err)
		version := v.Get("resourceVersion") // "" is the most recent one
		if n, err := strconv.Atoi(version); version != "" && (err != nil || n < read) {
			t.Errorf("requested version %s or later after %d was read: %s", version, read, q)
		}
	}
}

// since returns the queries of requests for a resource, from the request n on.
func (a *apiServer) since(n int, resource string) (queries []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, line := range a.log[n:] {
		verb, q, _ := strings.Cut(line, "?")
		if strings.HasSuffix(verb, " "+resource) {
			queries = append(queries, q)
		}
	}
	return queries
}

func TestWaitEnds(t *testing.T) {
	a := newAPIServer(t)
	a.answer("services", http.StatusForbidden)
	o, err := a.open(t).Objects(Selection{})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Wait(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if o.Synced() || o.Index().State().Synced(&services.Options{NoEndpoints: true}, false) {
		t.Error("synced without the Services")
	}
	done := make(chan error)
	go func() { done <- o.Wait(t.Context(), nil) }()
	o.Close()
	if err := <-done; err == nil {
		t.Error("Wait returned no error after Close")
	}
}

// configMapEvents follows a ConfigMap.
func configMapEvents(t *testing.T, s *Source, name string) (<-chan ConfigMapEvent, func()) {
	t.Helper()
	events := make(chan ConfigMapEvent, 100)
	stop := s.ConfigMap("kube-system", name, func(e ConfigMapEvent) { events <- e })
	t.Cleanup(stop)
	return events, stop
}

func next(t *testing.T, events <-chan ConfigMapEvent, what string) ConfigMapEvent {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(patience):
		t.Fatalf("%s: no event", what)
		return ConfigMapEvent{}
	}
}

func TestConfigMap(t *testing.T) {
	a := newAPIServer(t)
	put := func(v string) {
		a.put("configmaps", "kube-system", "coredns", nil, object{"data": object{"Corefile": v}})
	}
	put("1")
	a.put("configmaps", "kube-system", "other", nil, object{"data": object{"Corefile": "other"}})
	s := a.open(t)
	events, stop := configMapEvents(t, s, "coredns")
	if e := next(t, events, "found"); !e.Found || e.Data["Corefile"] != "1" || e.ResourceVersion == "" {
		t.Errorf("found: %+v", e)
	}
	a.mu.Lock()
	if q := a.queries["watch configmaps"]; !strings.Contains(q, "fieldSelector=metadata.name%3Dcoredns") {
		t.Errorf("requested with %s", q)
	}
	a.mu.Unlock()

	late, stopLate := configMapEvents(t, s, "coredns")
	if e := next(t, late, "late"); e.Data["Corefile"] != "1" {
		t.Errorf("late: %+v", e)
	}
	if got, want := a.asked(), "map[watch configmaps:1]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	put("2")
	for _, ch := range []<-chan ConfigMapEvent{events, late} {
		if e := next(t, ch, "changed"); e.Data["Corefile"] != "2" {
			t.Errorf("changed: %+v", e)
		}
	}
	stopLate()
	stopLate()
	a.remove("configmaps", "kube-system", "coredns")
	if e := next(t, events, "deleted"); e.Found || e.Err != nil || e.Data != nil {
		t.Errorf("deleted: %+v", e)
	}
	stop()
	eventually(t, "the watch ends with the last", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.streams) == 0
	})
	if len(late) != 0 {
		t.Error("called after stop")
	}
}

func TestConfigMapAbsent(t *testing.T) {
	a := newAPIServer(t)
	events, _ := configMapEvents(t, a.open(t), "coredns")
	if e := next(t, events, "absent"); e.Found || e.Err != nil {
		t.Errorf("absent: %+v", e)
	}
}

func TestConfigMapRefused(t *testing.T) {
	a := newAPIServer(t)
	a.answer("configmaps", http.StatusForbidden)
	a.put("configmaps", "kube-system", "coredns", nil, object{"data": object{"Corefile": "1"}})
	events, _ := configMapEvents(t, a.open(t), "coredns")
	if e := next(t, events, "refused"); e.Found || e.Err == nil {
		t.Errorf("refused: %+v", e)
	}
	eventually(t, "it is retried", func() bool { return strings.Contains(a.asked(), "list configmaps:2") })
	if len(events) != 0 {
		t.Errorf("called again: %+v", <-events)
	}
	a.answer("configmaps", 0)
	if e := next(t, events, "granted"); !e.Found || e.Err != nil {
		t.Errorf("granted: %+v", e)
	}
}

// The last state is delivered, however slow the receiver is.
func TestConfigMapSlowReceiver(t *testing.T) {
	a := newAPIServer(t)
	s := a.open(t)
	hold, last := make(chan struct{}), make(chan string, 100)
	var running sync.Mutex
	stop := s.ConfigMap("kube-system", "coredns", func(e ConfigMapEvent) {
		if !running.TryLock() {
			t.Error("two calls at the same time")
			return
		}
		defer running.Unlock()
		<-hold
		last <- e.Data["v"]
	})
	defer stop()
	for i := range 50 {
		a.put("configmaps", "kube-system", "coredns", nil, object{"data": object{"v": strconv.Itoa(i)}})
	}
	close(hold)
	for {
		select {
		case v := <-last:
			if v == "49" {
				return
			}
		case <-time.After(patience):
			t.Fatal("the last state was not delivered")
		}
	}
}

func samples(t *testing.T, h prometheus.Observer) uint64 {
	t.Helper()
	var out dto.Metric
	must(t, h.(prometheus.Metric).Write(&out))
	return out.GetHistogram().GetSampleCount()
}

func TestProgrammingDuration(t *testing.T) {
	a := newAPIServer(t)
	stamp := object{"annotations": object{"endpoints.kubernetes.io/last-change-trigger-time": time.Now().Format(time.RFC3339Nano)}}
	a.putService("web", "10.0.0.1")
	a.putSlice("web-1", stamp, "10.1.0.1")
	clusterIP, headless := programmingDuration.WithLabelValues("cluster_ip"), programmingDuration.WithLabelValues("headless_with_selector")
	was, wasHeadless := samples(t, clusterIP), samples(t, headless)
	o := listed(t, a.open(t), Selection{Endpoints: true})
	if n := samples(t, clusterIP); n != was {
		t.Errorf("the list was measured %d times", n-was)
	}
	a.putSlice("web-1", stamp, "10.1.0.2")
	eventually(t, "a change is measured", func() bool { return samples(t, clusterIP) == was+1 })
	a.putSlice("web-1", nil, "10.1.0.3")
	a.putSlice("web-1", object{"annotations": object{"endpoints.kubernetes.io/last-change-trigger-time": "x"}}, "10.1.0.4")
	eventually(t, "one without a time", func() bool { return slicesOf(o, "10.1.0.4") == 1 })
	a.putService("web", "None")
	eventually(t, "headless", func() bool { return o.Index().State().Service("default", "web").Headless() })
	a.putSlice("web-1", stamp, "10.1.0.5")
	eventually(t, "a change of a headless Service is measured", func() bool { return samples(t, headless) == wasHeadless+1 })
	if n := samples(t, clusterIP); n != was+1 {
		t.Errorf("measured %d times", n-was)
	}
}

func TestRequestMetrics(t *testing.T) {
	a := newAPIServer(t)
	host := strings.TrimPrefix(a.URL, "http://")
	counted := func() float64 { return value(requests.WithLabelValues("200", "GET", host)) }
	timed := func() uint64 { return samples(t, requestDuration.WithLabelValues("GET", host)) }
	before, beforeTimed := counted(), timed() // an earlier test's server may have had the port
	listed(t, a.open(t), Selection{})
	eventually(t, "two lists and two watches", func() bool { return counted() >= before+4 })
	if n, timed := counted()-before, timed()-beforeTimed; n != 4 || timed != 4 {
		t.Errorf("%v requests counted and %d timed", n, timed)
	}
}

func TestMaxInflight(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer srv.Close()
	l := &limited{next: http.DefaultTransport, slots: make(chan struct{}, 1)}
	get := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
		if err != nil {
			return err
		}
		resp, err := l.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	first := make(chan error)
	go func() { first <- get(t.Context()) }()
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := get(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a second one: %v", err)
	}
	if len(arrived) != 0 {
		t.Error("two requests at the same time")
	}
	close(release)
	must(t, <-first, get(t.Context()))
}

func TestOpenErrors(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	dir := t.TempDir()
	write(t, dir+"/config", "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"+
		"contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n")
	tests := []struct {
		spec Spec
		want string
	}{
		{Spec{}, "no Kubernetes API server is known"},
		{Spec{Kubeconfig: dir + "/missing"}, "kubeconfig " + dir + "/missing: "},
		{Spec{Kubeconfig: dir + "/config", Context: "y"}, "kubeconfig " + dir + "/config: "},
		{Spec{Endpoint: "https://127.0.0.1:1", CAFile: dir + "/ca"}, "endpoint https://127.0.0.1:1: "},
		{Spec{Manifests: dir + "/a["}, `"` + dir + `/a[": syntax error in pattern`},
	}
	for _, tc := range tests {
		s, err := Open(tc.spec)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %s", tc.spec, err, tc.want)
		}
	}
	s, err := Open(Spec{Kubeconfig: dir + "/config", Context: "x", QPS: 3, MaxInflight: 2})
	must(t, err)
	s.Close()
}

func TestNamespaceFile(t *testing.T) {
	f := t.TempDir() + "/namespace"
	if ns := namespaceFrom(f); ns != "kube-system" {
		t.Errorf("outside a pod: %q", ns)
	}
	must(t, os.WriteFile(f, []byte("dns\n"), 0o600))
	if ns := namespaceFrom(f); ns != "dns" {
		t.Errorf("in a pod: %q", ns)
	}
}

func TestHealth(t *testing.T) {
	h := &health{host: "h"}
	refused := errors.New("connection refused")
	h.saw(refused)
	if h.down.IsZero() || !h.outageLogged {
		t.Error("an outage is not logged")
	}
	down := h.down
	h.saw(errors.New("EOF"))
	if h.down != down {
		t.Error("an outage begins twice")
	}
	h.saw(nil)
	if !h.down.IsZero() || h.outageLogged || !h.seen {
		t.Error("a reply does not end the outage")
	}
	h.saw(refused)
	if h.down.IsZero() || h.outageLogged {
		t.Error("a second outage within a minute must be recorded, but not logged")
	}
}

func TestClientLog(t *testing.T) {
	s := (&sink{}).WithName("n").WithValues("a", 1).(*sink)
	if got, want := s.line("msg", []any{"b", "c d"}), `client-go: msg a="1" b="c d"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	RouteKlog()
	RouteKlog()
}

// Two selections that share an index may need different kinds of objects. Each is synced with its
// own.
func TestSharedIndexIsSyncedByKind(t *testing.T) {
	a := newAPIServer(t)
	a.answer("endpointslices", http.StatusServiceUnavailable)
	s := a.open(t)
	first := listed(t, s, Selection{})
	second, err := s.Objects(Selection{Endpoints: true})
	must(t, err)
	t.Cleanup(second.Close)
	without, with := services.Options{NoEndpoints: true}, services.Options{}
	if st := second.Index().State(); first.Index() != second.Index() || !st.Synced(&without, false) || st.Known(&with, false) {
		t.Error("without a list of EndpointSlices, answers that depend on them count as known")
	}
	a.answer("endpointslices", 0)
	must(t, second.Wait(t.Context(), nil))
	if !second.Index().State().Synced(&with, false) {
		t.Error("not synced with all EndpointSlices listed")
	}
	second.Close()
	if st := first.Index().State(); st.Known(&with, false) || !st.Synced(&without, false) {
		t.Error("EndpointSlices that are no longer fed count as known")
	}
}
