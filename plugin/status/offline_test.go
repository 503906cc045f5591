package status

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/source"
)

// snapshotFile writes a snapshot with a Service, and with a ConfigMap whose stanza has another ttl than the Corefile's.
func snapshotFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.gz")
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(`{"kind":"Snapshot","apiVersion":"kubehosts/v1","written":"2026-01-02T03:04:05Z","server":"https://10.0.0.1","kinds":["Namespace","Service","EndpointSlice"]}
{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}
{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIPs":["10.96.7.10"],"ports":[{"name":"http","protocol":"TCP","port":80}]}}
{"apiVersion":"v1","kind":"Service","metadata":{"name":"db","namespace":"shop"},"spec":{"clusterIP":"None"}}
{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"coredns","namespace":"kube-system"},"data":{"Corefile":"kubehosts cluster.local {\n ttl 17\n}"}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Offline, a Corefile that takes its objects from an API server uses those of its snapshot, and the stanza in it, and
// writes nothing.
func TestExplainSnapshot(t *testing.T) {
	path := snapshotFile(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	corefile := filepath.Join(t.TempDir(), "Corefile")
	text := ".:53 {\n    kubehosts cluster.local {\n        configmap kube-system/coredns\n        snapshot " + path + "\n    }\n}\n"
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		code int
		want []string
	}{
		{"web.shop", exitAnswered, []string{
			"of ConfigMap kube-system/coredns from the snapshot\n", "age      the objects come from a snapshot, written ", " days ago\n",
			"service  shop/web, ClusterIP: 10.96.7.10, port http 80/TCP\n",
			"NOERROR 17 s, snapshot of 2026-01-02T03:04:05Z  web.shop.svc.cluster.local. A 10.96.7.10\n",
		}},
		{"db.shop", exitNone, []string{"why      Service shop/db has no ready endpoint\n         which endpoints are not ready is unknown: there is no API server\n"}},
		{"wbe.shop", exitNone, []string{"why      there is no Service wbe in namespace shop\nnear     Service shop/web\n"}},
	} {
		var out, errs bytes.Buffer
		code := Command([]string{"-conf", corefile, tt.name}, &out, &errs)
		for _, want := range tt.want {
			if code != tt.code || !strings.Contains(out.String(), want) {
				t.Errorf("%s: exit code %d, and no %q in\n%s%s", tt.name, code, want, out.String(), errs.String())
			}
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the snapshot was written, error %v", err)
	}
}

// Offline, without manifests and snapshots, no Services are known, but hosts entries are.
func TestExplainWithoutObjects(t *testing.T) {
	s, closeAll, err := Offline("Corefile", []byte(".:53 {\n kubehosts cluster.local {\n hosts {\n 192.0.2.1 a.example\n }\n external apps.example\n }\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll()
	for name, want := range map[string]string{
		"web.shop.svc.cluster.local.": "why no objects are known: offline, they come from manifests or a snapshot; answer SERVFAIL, no objects were read from the Kubernetes API yet",
		"shop.apps.example.":          "why no objects are known: offline, they come from manifests or a snapshot; answer SERVFAIL, no objects were read from the Kubernetes API yet",
		"a.example.":                  "hosts found: Corefile:4; zone none of cluster.local., apps.example.; answer NOERROR 3600 s  a.example. A 192.0.2.1",
	} {
		q, err := NewQuery(name, "", "")
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, l := range s.Explain(t.Context(), q).Explanations[0].Lines {
			lines = append(lines, l.Label+" "+l.Text)
		}
		if got := strings.Join(lines, "; "); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
	}
	if got := source.InClusterNamespace(); got != "kube-system" {
		t.Fatalf("this test runs in a pod in %s", got)
	}
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct{ name, all, want string }{
		{"wbe", "web wab we b", "we web"},
		{"web", "web", ""},
		{"checkout", "chekcout checkouts checkuot2 checkin", "checkouts chekcout checkuot2"},
		{"db", "da dc dd ed abc", "da dc dd"},
		{"a", "b c", "b c"},
		{"orders", "order ordres oders xxorders yorders", "oders order ordres"},
	} {
		if got := strings.Join(nearest(tt.name, strings.Fields(tt.all)), " "); got != tt.want {
			t.Errorf("nearest to %s of %s: %q, want %q", tt.name, tt.all, got, tt.want)
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, name := range []string{"web.shop", ".", `a\.b.example`, "10.0.0.1", "::1", "*.shop", `\000`, "web.shop.svc.cluster.local."} {
		f.Add(name, "A", "10.244.1.5")
	}
	f.Add("_http._tcp.web.shop", "TYPE65535", "")
	text, err := os.ReadFile("testdata/Corefile")
	if err != nil {
		f.Fatal(err)
	}
	s, closeAll, err := Offline("testdata/Corefile", text)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(closeAll)
	f.Fuzz(func(t *testing.T, name, qtype, client string) {
		q, err := NewQuery(name, qtype, client)
		if err != nil {
			return
		}
		r := s.Explain(t.Context(), q)
		if len(r.Explanations) == 0 {
			t.Fatal("there is no output")
		}
		var out bytes.Buffer
		if err := r.WriteText(&out); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.Bytes() {
			if c < ' ' && c != '\n' {
				t.Fatalf("%q", out.String())
			}
		}
	})
}
