package test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// objectServer streams a fixed set of objects to whoever watches, as an API server does to a client that lists by a
// stream (KEP-3157), in the encoding that the client asks for. Benchmarks use it in place of the real API server, which
// would take minutes to build and a minute and a half to fill with 8,000 Services; what is measured comes after the last
// byte of either.
type objectServer struct {
	objects map[string][]runtime.Object // by the last element of the path
}

// start serves s until the end of the test and returns its URL.
func (s *objectServer) start(t testing.TB) string {
	t.Helper()
	server := httptest.NewTLSServer(s)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func (s *objectServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	objects, ok := s.objects[kind]
	if !ok || r.FormValue("watch") == "" || r.FormValue("sendInitialEvents") != "true" {
		http.Error(w, r.URL.String()+": nothing but streamed lists are served", http.StatusBadRequest)
		return
	}
	mediaType, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	mediaType, _, _ = strings.Cut(mediaType, ";")
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
	if !ok {
		http.Error(w, "no such encoding: "+mediaType, http.StatusNotAcceptable)
		return
	}
	w.Header().Set("Content-Type", info.MediaType+";stream=watch")
	events := eventWriter{
		object: scheme.Codecs.EncoderForVersion(info.Serializer, schema.GroupVersions{core.SchemeGroupVersion, discovery.SchemeGroupVersion}),
		event: streaming.NewEncoder(info.StreamSerializer.Framer.NewFrameWriter(w),
			scheme.Codecs.EncoderForVersion(info.StreamSerializer.Serializer, core.SchemeGroupVersion)),
	}
	for _, o := range objects {
		if events.write(watch.Added, o) != nil {
			return
		}
	}
	end := bookmarks[kind].DeepCopyObject()
	m := end.(meta.Object)
	m.SetResourceVersion("1000000")
	m.SetAnnotations(map[string]string{meta.InitialEventsAnnotationKey: "true"})
	if events.write(watch.Bookmark, end) != nil {
		return
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// bookmarks are of the kind of the objects that they follow.
var bookmarks = map[string]runtime.Object{
	"namespaces":     &core.Namespace{},
	"services":       &core.Service{},
	"endpointslices": &discovery.EndpointSlice{},
}

type eventWriter struct {
	object runtime.Encoder
	event  streaming.Encoder
}

func (e eventWriter) write(what watch.EventType, o runtime.Object) error {
	var raw bytes.Buffer
	if err := e.object.Encode(o, &raw); err != nil {
		return err
	}
	return e.event.Encode(&meta.WatchEvent{Type: string(what), Object: runtime.RawExtension{Raw: raw.Bytes()}})
}
