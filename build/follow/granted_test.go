package follow

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// emptyCluster serves the API of a cluster without objects. pods replies to requests for pods.
func emptyCluster(t *testing.T, pods http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		if resource == "pods" {
			pods(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") != "" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		kind := map[string]string{"namespaces": `"v1","kind":"Namespace`, "services": `"v1","kind":"Service`, "endpointslices": `"discovery.k8s.io/v1","kind":"EndpointSlice`}[resource]
		fmt.Fprintf(w, `{"apiVersion":%sList","metadata":{"resourceVersion":"1"},"items":[]}`, kind)
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// A start is not made with a Corefile whose objects the API server fails to list, since it would never be ready. One
// whose objects get no reply at all may only be slow, and is started with.
func TestGrantedByReplies(t *testing.T) {
	var group sync.WaitGroup
	defer group.Wait()
	for name, tt := range map[string]struct {
		pods http.HandlerFunc
		want string
	}{
		"an error": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "etcd is down", http.StatusInternalServerError)
		}, "the API server returns no pods"},
		"a page":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Please log in") }, "the API server returns no pods"},
		"silence": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ""},
	} {
		server := emptyCluster(t, tt.pods)
		text, err := corefile.Read(corefile.Source{Name: "file", Text: ". {\n kubehosts cluster.local {\n  endpoint " + server.URL + "\n  pods verified\n }\n}\n"}, corefile.Files)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := text.Blocks([]string{stanza.Name})
		if err != nil {
			t.Fatal(err)
		}
		s := &state{text: text, origin: fromConfigMap, blocks: blocks}
		group.Go(func() {
			f := following(t, t.TempDir(), nil)
			err := f.granted(s)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s: %v, want %q", name, err, tt.want)
			}
			if (f.ahead != nil) != (tt.want == "") {
				t.Errorf("%s: the lists go on: %v", name, f.ahead != nil)
			}
			ahead := f.ahead
			var waits *unlisted
			if errors.As(err, &waits) {
				ahead = waits.ahead
			}
			ahead.Close()
		})
	}
}
