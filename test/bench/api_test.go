package bench

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// objectServer stands in for the API server: it serves plain lists in protobuf, as kubehosts asks for at its start, and streams
// with a bookmark behind the objects (KEP-3157), as stock asks for, and kubehosts when it lists again. All of it was encoded
// before, so that it goes out as fast as it is read. The real API server would take 20 minutes to fill with 100,000 Services.
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

// The resources that are served, with what a bookmark of each is made of.
var resources = map[string]func() runtime.Object{
	"namespaces":     func() runtime.Object { return &core.Namespace{} },
	"services":       func() runtime.Object { return &core.Service{} },
	"endpointslices": func() runtime.Object { return &discovery.EndpointSlice{} },
}

// lists are the types of the resources' lists.
var lists = map[string]runtime.TypeMeta{
	"namespaces":     {APIVersion: "v1", Kind: "NamespaceList"},
	"services":       {APIVersion: "v1", Kind: "ServiceList"},
	"endpointslices": {APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSliceList"},
}

// firstVersion is the resourceVersion of all that is served at first.
const firstVersion = 1000000

// serve serves a world of n Services until the end of the test.
func serve(t testing.TB, n, big int) *objectServer {
	t.Helper()
	s := &objectServer{items: map[string][]byte{}, stream: map[string][]byte{}, change: map[string]chan []byte{}, version: firstVersion}
	world(n, big, func(kind string, o runtime.Object) {
		raw, err := o.(interface{ Marshal() ([]byte, error) }).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		s.items[kind] = append(s.items[kind], field(2, raw)...)
		s.stream[kind] = append(s.stream[kind], event(t, watch.Added, o)...)
	})
	for kind, bookmark := range resources {
		end := bookmark()
		m := end.(meta.Object)
		m.SetResourceVersion(strconv.Itoa(firstVersion))
		m.SetAnnotations(map[string]string{meta.InitialEventsAnnotationKey: "true"})
		s.stream[kind] = append(s.stream[kind], event(t, watch.Bookmark, end)...)
		s.change[kind] = make(chan []byte)
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
	versions := schema.GroupVersions{core.SchemeGroupVersion, discovery.SchemeGroupVersion}
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

func (s *objectServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	stream, ok := s.stream[kind]
	s.mu.Lock()
	version := strconv.Itoa(s.version)
	s.mu.Unlock()
	initial := r.FormValue("sendInitialEvents") == "true"
	switch {
	case !ok || !strings.HasPrefix(r.Header.Get("Accept"), protobufType):
		http.Error(w, r.URL.String()+": nothing but lists and watches in protobuf are served", http.StatusBadRequest)
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
	w.Header().Set("Content-Type", protobufType+";stream=watch")
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
	of, items := lists[kind], s.items[kind]
	head := append([]byte("k8s\x00"), field(1, append(field(1, []byte(of.APIVersion)), field(2, []byte(of.Kind))...))...)
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

// forget breaks all watches, as an API server does that is started again with its history compacted: everything is listed
// once more.
func (s *objectServer) forget() {
	s.mu.Lock()
	s.version++
	s.mu.Unlock()
	s.server.CloseClientConnections()
}
