package source

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// everything has all that a snapshot can hold, and some that it need not.
const everything = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {tier: front}}
spec: {clusterIPs: [10.96.7.10, "fd00:96::7:10"], ports: [{name: HTTP, port: 80}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: any}]
endpoints:
- {addresses: [10.244.1.20], zone: b}
- {addresses: [10.244.1.21]}
- {addresses: [10.244.1.22], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: 'db-"6"é', namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv6
endpoints:
- {addresses: ["fd00:244::5"], hostname: db-0}
- {addresses: ["fd00:244::6"], targetRef: {kind: Pod, name: db-pod}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: empty, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
---
apiVersion: v1
kind: Service
metadata: {name: docs, namespace: shop}
spec: {type: ExternalName, externalName: www.example.org}
---
apiVersion: v1
kind: Pod
metadata: {name: till, namespace: shop, labels: {b: "1", a: "2"}}
status: {podIPs: [{ip: 10.244.9.1}, {ip: "fd00:244::9"}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: far, namespace: shop}
spec: {type: ClusterSetIP, ips: [10.42.0.1], ports: [{port: 80}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: farther, namespace: shop}
spec: {type: Headless}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: farther-1, namespace: shop, labels: {multicluster.kubernetes.io/service-name: farther, multicluster.kubernetes.io/source-cluster: east}}
addressType: IPv4
endpoints: [{addresses: [10.243.0.1]}]
`

// written are the lines of its snapshot, sorted, without the first.
var written = []string{
	`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"db-\"6\"é","namespace":"shop","labels":{"kubernetes.io/service-name":"db"}},"addressType":"IPv6","ports":[],"endpoints":[{"addresses":["fd00:244::5"],"hostname":"db-0"},{"addresses":["fd00:244::6"],"targetRef":{"kind":"Pod","name":"db-pod"}}]}`,
	`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"farther-1","namespace":"shop","labels":{"multicluster.kubernetes.io/service-name":"farther","multicluster.kubernetes.io/source-cluster":"east"}},"addressType":"IPv4","ports":[],"endpoints":[{"addresses":["10.243.0.1"]}]}`,
	`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-1","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","ports":[{"name":"http","protocol":"TCP","port":8080},{"name":"any","protocol":"TCP"}],"endpoints":[{"addresses":["10.244.1.20"],"zone":"b"},{"addresses":["10.244.1.21"]}]}`,
	`{"apiVersion":"multicluster.x-k8s.io/v1alpha1","kind":"ServiceImport","metadata":{"name":"far","namespace":"shop"},"spec":{"type":"ClusterSetIP","ips":["10.42.0.1"],"ports":[{"name":"","protocol":"TCP","port":80}]}}`,
	`{"apiVersion":"multicluster.x-k8s.io/v1alpha1","kind":"ServiceImport","metadata":{"name":"farther","namespace":"shop"},"spec":{"type":"Headless","ips":[],"ports":[]}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"coredns","namespace":"kube-system"},"data":{"Corefile":"kubehosts {\n\t\"ttl\" 7\n}\n"}}`,
	`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"till","namespace":"shop","labels":{"a":"2","b":"1"}},"status":{"podIPs":[{"ip":"10.244.9.1"},{"ip":"fd00:244::9"}]}}`,
	`{"apiVersion":"v1","kind":"Service","metadata":{"name":"db","namespace":"shop"},"spec":{"clusterIP":"None","ports":[]}}`,
	`{"apiVersion":"v1","kind":"Service","metadata":{"name":"docs","namespace":"shop"},"spec":{"type":"ExternalName","externalName":"www.example.org.","ports":[]}}`,
	`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIPs":["10.96.7.10","fd00:96::7:10"],"ports":[{"name":"http","protocol":"TCP","port":80},{"name":"dns","protocol":"UDP","port":53}]}}`,
}

var allOf = Selection{Endpoints: true, Pods: true, PodNames: true, Zones: true, Multicluster: true}

// captured is a Capture of everything, and of a stanza.
func captured(t testing.TB) *Capture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(path, []byte(everything), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Spec{Manifests: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	o, err := s.Objects(allOf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return capture(o.Index(), &Stanza{"kube-system", "coredns", "Corefile", "kubehosts {\n\t\"ttl\" 7\n}\n"})
}

func capture(ix *services.Index, st *Stanza) *Capture {
	return &Capture{
		state: ix.State(), version: [2]uint64{ix.State().Version()}, stanza: st,
		head: snapshotHead{typeMeta: snapshotType, Server: "https://a", Kinds: allOf.kinds(), PodNames: true, Zones: true},
	}
}

func encoded(t testing.TB, c *Capture) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := c.encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// lines unpacks a snapshot into its first line, and the others, sorted.
func lines(t testing.TB, packed []byte) (head string, rest []string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	slices.Sort(all[1:])
	return all[0], all[1:]
}

func gzipped(text string) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.HuffmanOnly) // the fuzz target has no time for more
	z.Write([]byte(text))
	z.Close()
	return b.Bytes()
}

// allKinds are options whose answers depend on all kinds that a zone may have.
var allKinds = services.Options{Pods: services.PodsVerified}

// filled returns an index with the objects of the snapshot.
func filled(sn *Snapshot) *services.Index {
	g := &group{ix: services.NewIndex(), counts: make(map[string]int)}
	sn.fill(g, allOf.kinds())
	for _, kind := range allOf.kinds() {
		g.setCount(kind, 0)
	}
	return g.ix
}

func TestSnapshotRoundTrip(t *testing.T) {
	c := captured(t)
	packed := encoded(t, c)
	head, rest := lines(t, packed)
	if !strings.HasPrefix(head, `{"apiVersion":"kubehosts/v1","kind":"Snapshot","written":"2`) {
		t.Errorf("the first line is %s", head)
	}
	for i := range max(len(rest), len(written)) {
		switch {
		case i >= len(rest):
			t.Errorf("missing: %s", written[i])
		case i >= len(written):
			t.Errorf("unexpected: %s", rest[i])
		case rest[i] != written[i]:
			t.Errorf("got  %s\nwant %s", rest[i], written[i])
		}
	}

	sn, err := parseSnapshot("f", bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	ix := filled(sn)
	if at := ix.State().Snapshot(); at == 0 || time.Since(time.Unix(int64(at), 0)) > time.Minute {
		t.Errorf("written at %d", at)
	}
	if s := ix.State(); s.Synced(&allKinds, false) || !s.Known(&allKinds, false) || !s.Known(&allKinds, true) {
		t.Error("the kinds of a snapshot are not known, or are synced")
	}
	if _, again := lines(t, encoded(t, capture(ix, c.stanza))); !slices.Equal(again, written) {
		t.Errorf("read and written again it is\n%s", strings.Join(again, "\n"))
	}
	e, ok := sn.ConfigMap("kube-system", "coredns")
	if !ok || e.Data["Corefile"] != c.stanza.Text || !e.Found {
		t.Errorf("the ConfigMap is %+v", e)
	}
	if _, ok := sn.ConfigMap("kube-system", "other"); ok {
		t.Error("a ConfigMap that is not in it")
	}
}

// Manifests read the same objects from the file that it was made from.
func TestSnapshotAsManifest(t *testing.T) {
	c := captured(t)
	path := filepath.Join(t.TempDir(), "snapshot")
	size, err := c.Write(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v, want %d bytes", info, err, size)
	}
	_, o := openFiles(t, allOf, path)
	want := append(slices.Clone(written), `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kube-system"}}`) // the ConfigMap is in that namespace
	slices.Sort(want)
	if _, got := lines(t, encoded(t, capture(o.Index(), c.stanza))); !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// No part of a file, and no file with a changed byte, is taken for the whole.
func TestSnapshotDamage(t *testing.T) {
	packed := encoded(t, captured(t))
	_, want := lines(t, packed)
	for n := range packed {
		if _, err := parseSnapshot("f", bytes.NewReader(packed[:n])); err == nil {
			t.Errorf("the first %d of %d bytes are taken for all", n, len(packed))
		}
	}
	for n := range packed {
		damaged := bytes.Clone(packed)
		damaged[n] ^= 0x55
		sn, err := parseSnapshot("f", bytes.NewReader(damaged))
		if err != nil {
			continue
		}
		if _, got := lines(t, encoded(t, capture(filled(sn), &Stanza{"kube-system", "coredns", "Corefile", "kubehosts {\n\t\"ttl\" 7\n}\n"}))); !slices.Equal(got, want) {
			t.Errorf("with byte %d changed it is read as\n%s", n, strings.Join(got, "\n"))
		}
	}
	if _, err := parseSnapshot("f", bytes.NewReader(append(packed, "more"...))); err == nil {
		t.Error("trailing bytes are ignored")
	}
}

func TestSnapshotForeign(t *testing.T) {
	const head = `{"apiVersion":"kubehosts/v1","kind":"Snapshot"}` + "\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "f: an empty file is not a snapshot"},
		{"manifests", svcJSON, `f:1: not a snapshot of this version, but "Service" of "v1"`},
		{"YAML", "apiVersion: v1\nkind: Service\n", "f:1: not a snapshot: invalid character"},
		{"another version", strings.Replace(head, "v1", "v2", 1), `f:1: not a snapshot of this version, but "Snapshot" of "kubehosts/v2"`},
		{"half an object", head + `{"apiVersion":"v1"`, "f:2: unexpected end of JSON input"},
		{"no object", head + "\n7", "f:3: the document is not an object"},
		{"wrong type", head + `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b"},"spec":{"ports":1}}`, "f:2: Service b/a: json: cannot unmarshal"},
		{"a long line", head + strings.Repeat(" ", maxLine+1), "f:2: bufio.Scanner: token too long"},
	} {
		if _, err := parseSnapshot("f", bytes.NewReader(gzipped(tt.text))); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	if _, err := parseSnapshot("f", strings.NewReader(everything)); err == nil || !strings.Contains(err.Error(), "gzip: invalid header") {
		t.Errorf("plain text: %v", err)
	}
	p := &parser{file: "f"}
	bomb := gzipped(strings.Repeat("\n", 4<<20))
	if err := p.compressed(bytes.NewReader(bomb), 2<<20, p.line); err == nil || err.Error() != "f: unpacks to more than 2 MiB" {
		t.Errorf("%d bytes that are 4 MiB: %v", len(bomb), err)
	}

	a := newAPIServer(t)
	s := a.open(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "snapshot")
	if _, err := s.ReadSnapshot(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := s.ReadSnapshot(dir); err == nil || err.Error() != dir+": it is a directory, not a file" {
		t.Errorf("a directory: %v", err)
	}
	must(t, os.WriteFile(path, nil, 0o600), os.Truncate(path, maxSnapshot+1))
	if _, err := s.ReadSnapshot(path); err == nil || !strings.Contains(err.Error(), "above the limit of 64 MiB") {
		t.Errorf("a large file: %v", err)
	}
	if _, err := captured(t).Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadSnapshot(path); err == nil || !strings.HasSuffix(err.Error(), "is from another API server, https://a; this one is "+a.URL) {
		t.Errorf("of another API server: %v", err)
	}
}

// Whatever goes wrong, the previous file stays whole, and nothing is left beside it.
func TestSnapshotNotWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "snapshot")
	c := captured(t)
	if _, err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	must(t, err)

	must(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "missing", "snapshot"), "open: no such file or directory"},
		{filepath.Join(path, "snapshot"), "open: not a directory"},
		{filepath.Join(dir, "folder"), "rename"},
	} {
		_, err := c.Write(tt.path)
		if err == nil || !strings.HasPrefix(err.Error(), tt.path+": ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.path, err, tt.want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the previous file has changed: %v", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	must(t, err)
	if len(names) > 0 {
		t.Errorf("left: %v", names)
	}

	left := []string{filepath.Join(dir, ".snapshot.123.new"), filepath.Join(dir, ".snapshot.456.new"), filepath.Join(dir, ".other.123.new")}
	for _, name := range left {
		write(t, name, "half of it")
	}
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(left[0], old, old), os.Chtimes(left[2], old, old))
	CleanSnapshot(path)
	if names, _ = filepath.Glob(filepath.Join(dir, ".*")); !slices.Equal(names, []string{left[2], left[1]}) {
		t.Errorf("left after cleaning: %v", names)
	}
}

// A snapshot answers until the API server does, kind by kind, and its surplus objects are removed.
func TestObjectsFromSnapshot(t *testing.T) {
	a := newAPIServer(t)
	a.answer("", 503)
	s := a.open(t)
	sn, err := parseSnapshot("f", bytes.NewReader(encoded(t, captured(t))))
	must(t, err)

	other := allOf
	other.Labels = "tier=front"
	o, used, err := s.ObjectsFrom(sn, other)
	must(t, err)
	if used || ipOf(o, "web") != "" {
		t.Error("a snapshot of all objects is used where labels select")
	}
	o.Close()

	o, used, err = s.ObjectsFrom(sn, allOf)
	must(t, err)
	t.Cleanup(o.Close)
	state := o.Index().State()
	if !used || o.Synced() || state.Synced(&allKinds, false) || state.Snapshot() == 0 || state.Service("shop", "web").IsZero() {
		t.Errorf("used %v, synced %v, from a snapshot %v", used, state.Synced(&allKinds, false), state.Snapshot() != 0)
	}
	if s.Capture(o, nil, nil) != nil {
		t.Error("a snapshot is made of a snapshot")
	}
	if _, used, _ := s.ObjectsFrom(sn, allOf); used {
		t.Error("used again, although there are objects")
	}

	a.put("namespaces", "", "default", nil, nil)
	a.putService("web", "10.96.0.9")
	a.mu.Lock()
	a.status[""], a.status["serviceimports"] = 0, 404
	a.mu.Unlock()
	eventually(t, "the API server's objects", o.Synced)
	state = o.Index().State()
	if state.Snapshot() != 0 || !state.Synced(&allKinds, false) || !state.Service("shop", "web").IsZero() || ipOf(o, "web") != "10.96.0.9" {
		t.Errorf("from a snapshot %v, its Service %v, the new one %s", state.Snapshot() != 0, state.Service("shop", "web"), ipOf(o, "web"))
	}
	if _, left := lines(t, encoded(t, capture(o.Index(), nil))); len(left) != 2 {
		t.Errorf("left of the snapshot:\n%s", strings.Join(left, "\n"))
	}
	one, two := s.Capture(o, nil, nil), s.Capture(o, nil, nil)
	one.Forget()
	if !two.Same(one) || two.Same(s.Capture(o, nil, &Stanza{})) || two.Same(nil) {
		t.Error("captures of the same state differ, or others don't")
	}
	a.putService("web", "10.96.0.10")
	eventually(t, "a change", func() bool { return !s.Capture(o, nil, nil).Same(one) })
}

func FuzzSnapshot(f *testing.F) {
	packed := encoded(f, captured(f))
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		f.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add(plain)
	head, _, _ := bytes.Cut(plain, []byte("\n"))
	for _, line := range written {
		f.Add([]byte(string(head) + "\n" + line))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseSnapshot("f", bytes.NewReader(b)); err != nil && !strings.HasPrefix(err.Error(), "f") {
			t.Errorf("an error without the place: %v", err)
		}
		sn, err := parseSnapshot("f", bytes.NewReader(gzipped(string(b))))
		if err != nil {
			return
		}
		_, once := lines(t, encoded(t, capture(filled(sn), nil)))
		sn, err = parseSnapshot("f", bytes.NewReader(encoded(t, capture(filled(sn), nil))))
		if err != nil {
			t.Fatalf("what was written can't be read: %v", err)
		}
		if _, twice := lines(t, encoded(t, capture(filled(sn), nil))); !slices.Equal(once, twice) {
			t.Errorf("written\n%s\nread and written again\n%s", strings.Join(once, "\n"), strings.Join(twice, "\n"))
		}
	})
}

// A snapshot that is a named pipe is an error, and blocks nothing.
func TestSnapshotNamedPipe(t *testing.T) {
	path := t.TempDir() + "/snapshot"
	must(t, syscall.Mkfifo(path, 0o600))
	s := &Source{}
	if _, err := s.ReadSnapshot(path); err == nil || err.Error() != path+": it is a named pipe, not a file" {
		t.Errorf("got %v", err)
	}
}
