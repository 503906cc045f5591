package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	gateway "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// objectServer stands in for the API server: it serves plain lists in protobuf, as kubehosts asks for at its start, and
// streams with a bookmark behind the objects (KEP-3157), as stock asks for, and kubehosts when it lists again or the
// kind is one of a CustomResourceDefinition, which has no form but JSON. All of it was encoded before, so that it goes
// out as fast as it is read. The real API server would take 20 minutes to fill with 100,000 Services.
type objectServer struct {
	url    string
	server *httptest.Server
	items  map[string][]byte      // by resource: the objects as a plain list has them
	stream map[string][]byte      // by resource: the objects and their bookmark
	change map[string]chan []byte // by resource: what comes after; every event goes to one watch

	mu      sync.Mutex
	streams int // that were sent to their end
	version int // that plain lists have, and that a watch may begin from; it is another one after forget
}

// resource is what is served of a kind.
type resource struct {
	version, kind string
	example       func() runtime.Object // an empty object, of which a bookmark is made; nil for a kind that has no form but JSON
}

// resources are those that are served, by their plurals.
var resources = map[string]resource{
	"namespaces":     {"v1", "Namespace", func() runtime.Object { return &core.Namespace{} }},
	"services":       {"v1", "Service", func() runtime.Object { return &core.Service{} }},
	"endpointslices": {"discovery.k8s.io/v1", "EndpointSlice", func() runtime.Object { return &discovery.EndpointSlice{} }},
	"ingresses":      {"networking.k8s.io/v1", "Ingress", func() runtime.Object { return &networking.Ingress{} }},
	"gateways":       {gatewayVersion, "Gateway", nil},
	"listenersets":   {gatewayVersion, "ListenerSet", nil},
	"httproutes":     {gatewayVersion, "HTTPRoute", nil},
	"grpcroutes":     {gatewayVersion, "GRPCRoute", nil},
	"tlsroutes":      {gatewayVersion, "TLSRoute", nil},
	"tcproutes":      {gatewayVersion, "TCPRoute", nil},
	"udproutes":      {gatewayVersion, "UDPRoute", nil},
}

const gatewayVersion = gateway.GroupName + "/v1"

// firstVersion is the resourceVersion of all that is served at first.
const firstVersion = 1000000

// serve serves a world of n Services until the end of the test.
func serve(t testing.TB, n, big int) *objectServer {
	t.Helper()
	return serveObjects(t, func(add adder) { world(n, big, add) })
}

// adder adds an object of a kind, which is a resource's plural.
type adder = func(kind string, o runtime.Object)

// serveObjects serves the objects that each adds until the end of the test.
func serveObjects(t testing.TB, each func(adder)) *objectServer {
	t.Helper()
	s := &objectServer{items: map[string][]byte{}, stream: map[string][]byte{}, change: map[string]chan []byte{}, version: firstVersion}
	each(func(kind string, o runtime.Object) {
		if resources[kind].example == nil {
			s.stream[kind] = append(s.stream[kind], eventInJSON(t, watch.Added, o)...)
			return
		}
		raw, err := o.(interface{ Marshal() ([]byte, error) }).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		s.items[kind] = append(s.items[kind], field(2, raw)...)
		s.stream[kind] = append(s.stream[kind], event(t, watch.Added, o)...)
	})
	last := meta.ObjectMeta{ResourceVersion: strconv.Itoa(firstVersion), Annotations: map[string]string{meta.InitialEventsAnnotationKey: "true"}}
	for kind, r := range resources {
		s.change[kind] = make(chan []byte)
		if r.example == nil {
			end := &meta.PartialObjectMetadata{TypeMeta: meta.TypeMeta{APIVersion: r.version, Kind: r.kind}, ObjectMeta: last}
			s.stream[kind] = append(s.stream[kind], eventInJSON(t, watch.Bookmark, end)...)
			continue
		}
		end := r.example()
		end.(meta.Object).SetResourceVersion(last.ResourceVersion)
		end.(meta.Object).SetAnnotations(last.Annotations)
		s.stream[kind] = append(s.stream[kind], event(t, watch.Bookmark, end)...)
	}
	s.server = httptest.NewTLSServer(s)
	t.Cleanup(func() {
		s.server.CloseClientConnections()
		s.server.Close()
	})
	s.url = s.server.URL
	return s
}

// field is a field of a message in protobuf.
func field(number byte, content []byte) []byte {
	b := binary.AppendUvarint([]byte{number<<3 | 2}, uint64(len(content)))
	return append(b, content...)
}

// kubeconfig writes one that leads to s.
func (s *objectServer) kubeconfig(t testing.TB) string { return cluster.Kubeconfig(t, s.url, "none") }

// The media type that the clients under test ask for first.
const protobufType = "application/vnd.kubernetes.protobuf"

// event is an event of a watch as it is sent, with its length before it.
func event(t testing.TB, what watch.EventType, o runtime.Object) []byte {
	t.Helper()
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), protobufType)
	versions := schema.GroupVersions{core.SchemeGroupVersion, discovery.SchemeGroupVersion, networking.SchemeGroupVersion}
	var raw, framed bytes.Buffer
	if err := scheme.Codecs.EncoderForVersion(info.Serializer, versions).Encode(o, &raw); err != nil {
		t.Fatal(err)
	}
	encoder := streaming.NewEncoder(protobuf.LengthDelimitedFramer.NewFrameWriter(&framed),
		scheme.Codecs.EncoderForVersion(info.StreamSerializer.Serializer, core.SchemeGroupVersion))
	if err := encoder.Encode(&meta.WatchEvent{Type: string(what), Object: runtime.RawExtension{Raw: raw.Bytes()}}); err != nil {
		t.Fatal(err)
	}
	return framed.Bytes()
}

// eventInJSON is event for an object that has no form but JSON.
func eventInJSON(t testing.TB, what watch.EventType, o runtime.Object) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"type": what, "object": o})
	if err != nil {
		t.Fatal(err)
	}
	return append(raw, '\n')
}

func (s *objectServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	stream, ok := s.stream[kind]
	s.mu.Lock()
	version := strconv.Itoa(s.version)
	s.mu.Unlock()
	initial := r.FormValue("sendInitialEvents") == "true"
	contentType := protobufType
	if resources[kind].example == nil {
		contentType = runtime.ContentTypeJSON
	}
	switch {
	case !ok || !strings.HasPrefix(r.Header.Get("Accept"), contentType) || contentType != protobufType && r.FormValue("watch") == "":
		http.Error(w, r.URL.String()+": only lists in protobuf and streams are served", http.StatusBadRequest)
		return
	case r.FormValue("watch") == "":
		s.list(w, kind, version)
		return
	case !initial && r.FormValue("resourceVersion") != version: // where the watch was before is forgotten, as in a compacted etcd
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusGone)
		io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","message":"too old resource version","code":410}`)
		return
	}
	w.Header().Set("Content-Type", contentType+";stream=watch")
	if initial {
		if _, err := w.Write(stream); err != nil {
			return
		}
	}
	w.(http.Flusher).Flush()
	if initial {
		s.mu.Lock()
		s.streams++
		s.mu.Unlock()
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case b := <-s.change[kind]:
			if _, err := w.Write(b); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}

// list sends a plain list in its envelope, runtime.Unknown of k8s.io/apimachinery.
func (s *objectServer) list(w http.ResponseWriter, kind, version string) {
	of, items := resources[kind], s.items[kind]
	head := append([]byte("k8s\x00"), field(1, append(field(1, []byte(of.version)), field(2, []byte(of.kind+"List"))...))...)
	metadata := field(1, field(2, []byte(version)))
	head = binary.AppendUvarint(append(head, 2<<3|2), uint64(len(metadata)+len(items)))
	w.Header().Set("Content-Type", protobufType)
	for _, part := range [][]byte{head, metadata, items} {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
}

// sent counts the streams that were sent to their end.
func (s *objectServer) sent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams
}

// forget breaks all watches, as an API server does that is started again with its history compacted: everything is
// listed once more.
func (s *objectServer) forget() {
	s.mu.Lock()
	s.version++
	s.mu.Unlock()
	s.server.CloseClientConnections()
}
