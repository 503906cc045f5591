package live

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	api "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// apiServer implements as much of the Kubernetes API as it takes to follow a ConfigMap. It has no other
// objects.
type apiServer struct {
	*httptest.Server

	mu      sync.Mutex
	version int
	text    string                   // of the ConfigMap; "" if there is none
	watches map[chan string]string   // the open ones, by resource
	status  map[string]int           // the status of responses for a resource; see page and reset
	held    map[string]chan struct{} // closed to release the requests for a resource
	events  []string                 // reasons and messages of the Events written
	message string                   // of errors; "" for the usual one
}

func newAPIServer(t *testing.T) *apiServer {
	a := &apiServer{version: 1, watches: make(map[chan string]string), status: make(map[string]int), held: make(map[string]chan struct{})}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.Server.CloseClientConnections()
		a.Server.Close()
	})
	return a
}

var apiKinds = map[string][2]string{
	"namespaces": {"v1", "Namespace"}, "services": {"v1", "Service"}, "pods": {"v1", "Pod"}, "configmaps": {"v1", "ConfigMap"},
	"endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"},
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	w.Header().Set("Content-Type", "application/json")
	if resource == "events" {
		body, _ := io.ReadAll(r.Body)
		if o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
			e := o.(*api.Event)
			a.mu.Lock()
			a.events = append(a.events, e.Reason+": "+e.Message)
			a.mu.Unlock()
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"kind":"Event","apiVersion":"v1","metadata":{"name":"e"}}`)
		return
	}
	a.mu.Lock()
	held := a.held[resource]
	a.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	q := r.URL.Query()
	a.mu.Lock()
	status := a.status[resource]
	switch status {
	case page:
		a.mu.Unlock()
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body>Please log in</body></html>")
		return
	case reset:
		a.mu.Unlock()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
		return
	}
	if q.Get("sendInitialEvents") == "true" && status == 0 {
		status = http.StatusUnprocessableEntity // it does not stream lists
	}
	if status != 0 {
		message, _ := json.Marshal(cmp.Or(a.message, resource+" is not for you"))
		a.mu.Unlock()
		reason := map[int]string{403: "Forbidden", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError"}[status]
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%s,"code":%d,"reason":%q,"details":{"kind":%q}}`,
			message, status, reason, resource)
		return
	}
	version := strconv.Itoa(a.version)
	if q.Get("watch") == "" {
		items := []any{}
		if resource == "configmaps" && a.text != "" {
			items = append(items, a.configMap())
		}
		a.mu.Unlock()
		kind := apiKinds[resource]
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": kind[0], "kind": kind[1] + "List", "metadata": map[string]any{"resourceVersion": version}, "items": items,
		})
		return
	}
	events := make(chan string, 1000)
	if resource == "configmaps" && a.text != "" && q.Get("resourceVersion") != version { // put ran between the list and the watch
		events <- a.event("MODIFIED")
	}
	a.watches[events] = resource
	a.mu.Unlock()
	w.(http.Flusher).Flush()
	for {
		select {
		case e := <-events:
			fmt.Fprintln(w, e)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			a.mu.Lock()
			delete(a.watches, events)
			a.mu.Unlock()
			return
		}
	}
}

// configMap returns the current ConfigMap. a.mu is held.
func (a *apiServer) configMap() map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]string{"Corefile": a.text},
		"metadata": map[string]any{"namespace": "kube-system", "name": "coredns", "uid": "1-2-3", "resourceVersion": strconv.Itoa(a.version)},
	}
}

// put sets the Corefile of the ConfigMap to text.
func (a *apiServer) put(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind := "MODIFIED"
	if a.text == "" {
		kind = "ADDED"
	}
	a.text = text
	a.version++
	for events, resource := range a.watches {
		if resource == "configmaps" {
			events <- a.event(kind)
		}
	}
}

// event returns the watch event of the current ConfigMap. a.mu is held.
func (a *apiServer) event(kind string) string {
	e, _ := json.Marshal(map[string]any{"type": kind, "object": a.configMap()})
	return string(e)
}

// What may replace the status of responses: a page of HTML with status 200, and a reset connection.
const (
	page  = -1
	reset = -2
)

// answer sets the status of responses for a resource. 0 stands for normal responses.
func (a *apiServer) answer(resource string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status[resource] = status
}

// hold makes requests for a resource wait until the function it returns is called.
func (a *apiServer) hold(resource string) (release func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := make(chan struct{})
	a.held[resource] = held
	return sync.OnceFunc(func() { close(held) })
}

// written returns the Events so far.
func (a *apiServer) written() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.events...)
}
