package source

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kubehosts/kubehosts/plugin/services"
)

const patience = 20 * time.Second

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// value returns the value of a counter or gauge.
func value(m prometheus.Metric) float64 {
	var out dto.Metric
	if m.Write(&out) != nil {
		return -1
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, end := time.Tick(time.Millisecond), time.After(patience)
	for !ok() {
		select {
		case <-tick:
		case <-end:
			t.Fatalf("%s: not reached after %v", what, patience)
		}
	}
}

func service(name, ip string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: %q}\n---\n", name, ip)
}

func openFiles(t *testing.T, sel Selection, patterns ...string) (*Source, *Objects) {
	t.Helper()
	s, err := Open(Spec{Manifests: strings.Join(patterns, "\n")})
	must(t, err)
	t.Cleanup(s.Close)
	o, err := s.Objects(sel)
	must(t, err)
	t.Cleanup(o.Close)
	must(t, o.Wait(t.Context(), nil))
	if !o.Synced() || !o.Index().State().Synced(&services.Options{NoEndpoints: true}, false) {
		t.Error("manifests that were read are not synced")
	}
	return s, o
}

// ipOf returns the address of default/name, "" if there is no such Service, "none" if it has no address.
func ipOf(o *Objects, name string) string {
	svc := o.Index().State().Service("default", name)
	switch {
	case svc.IsZero():
		return ""
	case svc.Addrs().Len4() == 0:
		return "none"
	}
	return netip.AddrFrom4(svc.Addrs().At4(0)).String()
}

func TestManifestsAreFollowed(t *testing.T) {
	dir := t.TempDir()
	a, b := dir+"/a.yaml", dir+"/b.json"
	write(t, a, service("one", "10.0.0.1"))
	write(t, b, svcJSON)
	write(t, dir+"/c.txt", "no manifest")
	_, o := openFiles(t, Selection{}, dir)
	if ip := ipOf(o, "one"); ip != "10.0.0.1" {
		t.Errorf("one has %q", ip)
	}
	if ip := ipOf(o, "web"); ip != "10.0.0.1" {
		t.Errorf("web has %q", ip)
	}

	write(t, a, service("one", "10.0.0.2")+service("two", "10.0.0.3"))
	eventually(t, "written in place", func() bool { return ipOf(o, "one") == "10.0.0.2" && ipOf(o, "two") == "10.0.0.3" })

	write(t, a+"~", service("two", "10.0.0.4"))
	must(t, os.Rename(a+"~", a))
	eventually(t, "renamed over", func() bool { return ipOf(o, "one") == "" && ipOf(o, "two") == "10.0.0.4" })

	write(t, dir+"/d.yml", service("three", "10.0.0.5"))
	eventually(t, "a new file", func() bool { return ipOf(o, "three") == "10.0.0.5" })

	must(t, os.Remove(a))
	eventually(t, "a file removed", func() bool { return ipOf(o, "two") == "" && ipOf(o, "three") != "" })
}

func TestManifestsKeepLastGoodState(t *testing.T) {
	dir := t.TempDir()
	a, b := dir+"/a.yaml", dir+"/b.yaml"
	write(t, a, service("one", "10.0.0.1"))
	write(t, b, service("two", "10.0.0.2"))
	_, o := openFiles(t, Selection{}, a, b)
	rejected := value(manifestsRejected)

	write(t, a+"~", "apiVersion: v1\nkind: Service\n  oops: [")
	must(t, os.Rename(a+"~", a))
	eventually(t, "the error is counted", func() bool { return value(manifestsRejected) == rejected+1 })
	write(t, b+"~", service("two", "10.0.0.3"))
	must(t, os.Rename(b+"~", b))
	eventually(t, "the other file is read", func() bool { return ipOf(o, "two") == "10.0.0.3" })
	if ip := ipOf(o, "one"); ip != "10.0.0.1" {
		t.Errorf("a broken edit removed the Service: %q", ip)
	}
	if n := value(manifestsRejected); n != rejected+1 {
		t.Errorf("counted %v times", n-rejected)
	}
	write(t, a+"~", service("one", "10.0.0.4"))
	must(t, os.Rename(a+"~", a))
	eventually(t, "mended", func() bool { return ipOf(o, "one") == "10.0.0.4" })
}

func TestManifestsMountedConfigMap(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/..1", 0o700), os.Symlink("..1", dir+"/..data"), os.Symlink("..data/f", dir+"/f.yaml"))
	write(t, dir+"/..1/f", service("one", "10.0.0.1"))
	_, o := openFiles(t, Selection{}, dir)
	if ip := ipOf(o, "one"); ip != "10.0.0.1" {
		t.Fatalf("one has %q", ip)
	}
	must(t, os.Mkdir(dir+"/..2", 0o700))
	write(t, dir+"/..2/f", service("one", "10.0.0.2"))
	must(t, os.Symlink("..2", dir+"/..tmp"), os.Rename(dir+"/..tmp", dir+"/..data"), os.RemoveAll(dir+"/..1"))
	eventually(t, "swapped", func() bool { return ipOf(o, "one") == "10.0.0.2" })
}

// All changes of one save are served at once: no reader sees half of it.
func TestManifestsOneCommit(t *testing.T) {
	f := t.TempDir() + "/f.yaml"
	text := func(n int) string {
		var b strings.Builder
		for i := range 20 {
			b.WriteString(service(fmt.Sprintf("s%d", i), fmt.Sprintf("10.0.%d.%d", n, i)))
		}
		return b.String()
	}
	write(t, f, text(0))
	_, o := openFiles(t, Selection{}, f)
	write(t, f+"~", text(1))
	must(t, os.Rename(f+"~", f))
	eventually(t, "the change", func() bool {
		state := o.Index().State()
		want := state.Service("default", "s0").Addrs().At4(0)[2]
		for i := range 20 {
			if got := state.Service("default", fmt.Sprintf("s%d", i)).Addrs().At4(0); got[2] != want {
				t.Fatalf("s0 has generation %d and s%d has %d", want, i, got[2])
			}
		}
		return want == 1
	})
}

func TestManifestsAtStart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/good.yaml", service("one", "10.0.0.1"))
	write(t, dir+"/bad.yaml", "\n- a\n")
	_, err := Open(Spec{Manifests: dir})
	if want := filepath.Join(dir, "bad.yaml") + ":2: the document is not an object"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}

	_, o := openFiles(t, Selection{}, dir+"/good.yaml", dir+"/later/f.yaml")
	must(t, os.Mkdir(dir+"/later", 0o700))
	write(t, dir+"/later/f.yaml", service("two", "10.0.0.2"))
	eventually(t, "a file that appears later", func() bool { return ipOf(o, "two") == "10.0.0.2" })
}

func TestManifestsLaterFileWins(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/b.yaml", service("one", "10.0.0.2"))
	write(t, dir+"/a.yaml", service("one", "10.0.0.1"))
	_, o := openFiles(t, Selection{}, dir+"/b.yaml", dir+"/a.yaml")
	if ip := ipOf(o, "one"); ip != "10.0.0.2" {
		t.Errorf("one has %q", ip)
	}
}

func TestManifestsClusterIPs(t *testing.T) {
	f := t.TempDir() + "/f.yaml"
	bare := "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {%s}\n---\n"
	own := allocate([]objectName{{"default", "web"}}, nil)[objectName{"default", "web"}].String()
	write(t, f, fmt.Sprintf(bare, "web", "")+fmt.Sprintf(bare, "out", "type: ExternalName, externalName: a.example")+
		fmt.Sprintf(bare, "hl", "clusterIP: None")+fmt.Sprintf(bare, "bad", "clusterIP: x"))
	_, o := openFiles(t, Selection{}, f)
	for name, want := range map[string]string{"web": own, "out": "none", "hl": "none", "bad": "none"} {
		if ip := ipOf(o, name); ip != want {
			t.Errorf("%s has %q, want %q", name, ip, want)
		}
	}
	write(t, f+"~", fmt.Sprintf(bare, "web", "")+service("taker", own))
	must(t, os.Rename(f+"~", f))
	eventually(t, "a specified address replaces it", func() bool { return ipOf(o, "taker") == own && ipOf(o, "web") != own })
	if ip := ipOf(o, "web"); ip == "none" || ip == "" {
		t.Errorf("web has %q", ip)
	}
}

func TestManifestsSelection(t *testing.T) {
	f := t.TempDir() + "/f.yaml"
	write(t, f, `
apiVersion: v1
kind: Namespace
metadata: {name: declared, labels: {team: a}}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {clusterIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: declared}
spec: {clusterIP: 10.0.0.2}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web, app: web}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1], targetRef: {name: web-0}}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
status: {podIPs: [{ip: 10.1.0.1}]}
`)
	pod := netip.MustParseAddr("10.1.0.1")
	slicesWith := func(st *services.State) (n int) {
		for range st.SlicesWith(pod) {
			n++
		}
		return n
	}

	s, all := openFiles(t, Selection{}, f)
	st := all.Index().State()
	if st.Service("default", "web").IsZero() || st.Service("declared", "db").IsZero() || slicesWith(st) != 0 || st.PodWith(pod) != nil {
		t.Error("want both Services, and no slices or pods")
	}

	more, err := s.Objects(Selection{Endpoints: true, Pods: true})
	must(t, err, more.Wait(t.Context(), nil))
	st = more.Index().State()
	if more.Index() != all.Index() || slicesWith(st) != 1 || st.PodWith(pod) == nil {
		t.Error("want the same index, now with slices and pods")
	}
	if n := value(objectsHeld.WithLabelValues(kindSlice)); n != 1 {
		t.Errorf("%v EndpointSlices are counted", n)
	}
	more.Close()
	st = all.Index().State()
	if slicesWith(st) != 0 || st.PodWith(pod) != nil || st.Service("default", "web").IsZero() {
		t.Error("slices and pods must be removed with their last user")
	}
	if n := value(objectsHeld.WithLabelValues(kindSlice)); n != 0 {
		t.Errorf("%v EndpointSlices are counted", n)
	}

	some, err := s.Objects(Selection{Labels: "app in (web)", PodNames: true, Endpoints: true})
	must(t, err)
	defer some.Close()
	st = some.Index().State()
	if st.Service("default", "web").IsZero() || !st.Service("declared", "db").IsZero() || slicesWith(st) != 1 || some.Index() == all.Index() {
		t.Error("want the selected objects, in an index of their own")
	}

	if _, err := s.Objects(Selection{Labels: "a=("}); err == nil || !strings.Contains(err.Error(), "labels") {
		t.Errorf("a bad selector: %v", err)
	}
	if _, err := s.Objects(Selection{NamespaceLabels: "a=("}); err == nil || !strings.Contains(err.Error(), "namespace_labels") {
		t.Errorf("a bad selector: %v", err)
	}
}

func TestManifestsNamespaces(t *testing.T) {
	f := t.TempDir() + "/f.yaml"
	write(t, f, "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {team: x}}\n---\n"+
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n---\n"+service("web", "10.0.0.1"))
	s, _ := openFiles(t, Selection{}, f)
	for sel, want := range map[string]string{"": "a b default", "team=x": "a", "kubernetes.io/metadata.name=b": "b", "team notin (x)": "b"} {
		parsed, err := parseSelector("namespace_labels", sel)
		must(t, err)
		got := s.manifests.view.namespaces(parsed)
		if s := strings.Join(sorted(got), " "); s != want {
			t.Errorf("with %q there are %q, want %q", sel, s, want)
		}
	}
}

func TestManifestsConfigMap(t *testing.T) {
	f := t.TempDir() + "/f.yaml"
	cm := func(v string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: n}\ndata: {k: " + v + "}\n"
	}
	write(t, f, service("web", "10.0.0.1"))
	s, _ := openFiles(t, Selection{}, f)
	events := make(chan ConfigMapEvent, 10)
	stop := s.ConfigMap("n", "c", func(e ConfigMapEvent) { events <- e })
	defer stop()
	next := func(what string) ConfigMapEvent {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(patience):
			t.Fatalf("%s: no event", what)
			return ConfigMapEvent{}
		}
	}
	if e := next("absent"); e.Found || e.Err != nil {
		t.Errorf("absent: %+v", e)
	}
	for _, v := range []string{"one", "two"} {
		write(t, f+"~", cm(v))
		must(t, os.Rename(f+"~", f))
		e := next(v)
		if !e.Found || e.Data["k"] != v {
			t.Errorf("%s: %+v", v, e)
		}
		e.Data["k"] = "scribbled" // the copy is ours
	}
	late := make(chan ConfigMapEvent, 10)
	defer s.ConfigMap("n", "c", func(e ConfigMapEvent) { late <- e })()
	select {
	case e := <-late:
		if e.Data["k"] != "two" {
			t.Errorf("a late one gets %+v", e)
		}
	case <-time.After(patience):
		t.Error("a late one gets nothing")
	}
	must(t, os.Remove(f))
	if e := next("gone"); e.Found {
		t.Errorf("gone: %+v", e)
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// Objects that are released while they are published are no longer counted.
func TestManifestsCountGivenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, service("web", "10.0.0.1"))
	counted := objectsHeld.WithLabelValues(kindService)
	before := value(counted)
	for range 300 {
		s, err := Open(Spec{Manifests: path})
		must(t, err)
		o, err := s.Objects(allOf)
		must(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.manifests.reload()
		}()
		runtime.Gosched()
		o.Close()
		<-done
		s.Close()
	}
	if n := value(counted) - before; n != 0 {
		t.Errorf("%v Services are counted without a user", n)
	}
}

const endpoints = `
apiVersion: v1
kind: Endpoints
metadata: {name: web, labels: {app: web, service.kubernetes.io/headless: ""}}
subsets:
- addresses: [{ip: 10.1.0.1, hostname: a, targetRef: {name: web-0}}, {ip: "fd00::1"}, {ip: "::ffff:10.1.0.3"}]
  notReadyAddresses: [{ip: 10.1.0.2}]
  ports: [{name: http, port: 80}]
- addresses: [{ip: 10.1.0.4}]
  ports: [{name: other, port: 81, protocol: UDP}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: skipped, labels: {endpointslice.kubernetes.io/skip-mirror: "true"}}
subsets: [{addresses: [{ip: 10.1.0.1}]}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: leader, annotations: {control-plane.alpha.kubernetes.io/leader: "{}"}}
subsets: [{addresses: [{ip: 10.1.0.1}]}]
---
`

// Endpoints are served as the EndpointSlices that a cluster makes from them, unless there are some.
func TestManifestsEndpoints(t *testing.T) {
	f := t.TempDir() + "/f.yaml"
	slice := `
apiVersion: discovery.k8s.io/v1beta1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web, app: web}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.9], conditions: {ready: yes}, topology: {topology.kubernetes.io/zone: z}}
- {addresses: [10.1.0.8], conditions: {ready: off}}
`
	write(t, f, endpoints)
	_, o := openFiles(t, Selection{Endpoints: true, PodNames: true, Zones: true, Labels: "app=web"}, f)
	all := func() string {
		var lines []string
		for svc, slices := range o.Index().State().Owners(false) {
			_ = svc
			for _, s := range slices {
				for a, ep := range s.Endpoints {
					ports := s.Ports()
					ports.Next()
					lines = append(lines, fmt.Sprintf("%s %s %s %s %s %d", s.Service(), a, ep.Name, ep.Zone, ports.Protocol(), ports.Number()))
				}
			}
		}
		return strings.Join(sorted(lines), "\n")
	}
	want := "web 10.1.0.1 a  tcp 80\nweb 10.1.0.3   tcp 80\nweb 10.1.0.4   udp 81\nweb fd00::1   tcp 80"
	if got := all(); got != want {
		t.Errorf("only Endpoints:\n%s\nwant\n%s", got, want)
	}
	write(t, f+"~", endpoints+slice)
	must(t, os.Rename(f+"~", f))
	eventually(t, "with an EndpointSlice", func() bool { return all() == "web 10.1.0.9  z  0" })
}
