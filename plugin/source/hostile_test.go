package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/hostile"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// quietly drops a test's thousands of log lines, once they are checked.
func quietly(t *testing.T) { hostile.CheckLog(t) }

// still is an object that no hostile input touches.
const still = `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "still", "namespace": "a"}, "spec": {"clusterIP": "10.96.0.99"}}`

func checkStill(t *testing.T, ix *services.Index) {
	t.Helper()
	svc := ix.State().Service("a", "still")
	if svc.IsZero() || svc.Addrs().Len4() != 1 || svc.Addrs().At4(0) != [4]byte{10, 96, 0, 99} {
		t.Errorf("the untouched Service is %v", svc)
	}
}

// checkSnapshot asserts that the content of ix can be read again once it was written.
func checkSnapshot(t *testing.T, ix *services.Index) {
	t.Helper()
	if _, err := parseSnapshot("f", bytes.NewReader(encoded(t, capture(ix, nil)))); err != nil {
		t.Errorf("a snapshot of it can't be read: %v", err)
	}
}

// Manifests that are changed in some place: one that can't be parsed changes nothing, and one that can removes nothing
// of another file.
func TestHostileManifests(t *testing.T) {
	quietly(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	packed := string(encoded(t, captured(t)))
	write(t, path, everything)
	write(t, filepath.Join(dir, "z.json"), still)
	s, o := openFiles(t, allOf, dir)
	save := func(text string) { // and read it, at once
		write(t, path+"~", text)
		must(t, os.Rename(path+"~", path))
		s.manifests.files.Look(t.Context())
		s.manifests.reload() // again, on the goroutine whose time is limited
	}
	save(everything)
	good := []string{everything, svcJSON, strings.Join(written, "\n"), packed, endpoints, svcJSON + "\n---\n" + svcJSON, utf16le(svcJSON)}
	hostile.Run(t, 300, func(r *rand.Rand) {
		before := o.Index().State().Version()
		text := hostile.Text(r, good...)
		save(text)
		if _, err := parse(path, []byte(text)); err != nil && o.Index().State().Version() != before {
			t.Errorf("%q changed something: %v", text, err)
		}
		checkStill(t, o.Index())
		if r.IntN(50) == 0 {
			checkSnapshot(t, o.Index())
		}
	})
	save(everything)
	fresh := filepath.Join(t.TempDir(), "a.yaml")
	write(t, fresh, everything+"---\n"+still)
	_, want := openFiles(t, allOf, fresh)
	same(t, o.Index(), want.Index())
}

// same asserts that two indexes have the same content.
func same(t *testing.T, got, want *services.Index) {
	t.Helper()
	_, a := lines(t, encoded(t, capture(got, nil)))
	_, b := lines(t, encoded(t, capture(want, nil)))
	if !slices.Equal(a, b) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

// Snapshots that are changed in some place, packed or unpacked: whatever is read of one can be written and read
// again.
func TestHostileSnapshots(t *testing.T) {
	quietly(t)
	packed := encoded(t, captured(t))
	head, _ := lines(t, packed)
	plain := head + "\n" + strings.Join(written, "\n")
	read := 0
	hostile.Run(t, 300, func(r *rand.Rand) {
		b := []byte(hostile.Text(r, string(packed)))
		if r.IntN(4) > 0 {
			b = gzipped(hostile.Text(r, plain))
		}
		sn, err := parseSnapshot("f", bytes.NewReader(b))
		if err != nil {
			if sn != nil || !strings.HasPrefix(err.Error(), "f") {
				t.Errorf("%v from a snapshot with the error %v", sn, err)
			}
			return
		}
		read++
		checkSnapshot(t, filled(sn))
	})
	if read == 0 {
		t.Error("none was good enough to be read")
	}
}

// fed is a store that objects of one type go into, as from a reflector.
type fed struct {
	put     func(raw []byte, r *rand.Rand) error
	replace func(raw [][]byte) error
}

// feedOf is a fed for objects of the type O. It calls Add for a new name, and Update or Delete for others.
func feedOf[O any, R any](g *group, t table[O, R]) fed {
	st := &store[O, R]{table: t, group: g, listed: func() {}, skipped: make(map[objectName]struct{})}
	known := make(map[objectName]bool)
	read := func(raw []byte) (*O, objectName, error) {
		o := new(O)
		if err := json.Unmarshal(raw, o); err != nil {
			return nil, objectName{}, err
		}
		return st.open(o)
	}
	return fed{
		put: func(raw []byte, r *rand.Rand) error {
			o, name, err := read(raw)
			if err != nil || name.name == "" {
				return nil // an API server has no such object
			}
			switch {
			case !known[name]:
				known[name] = true
				return st.Add(o)
			case r.IntN(3) == 0:
				delete(known, name)
				return st.Delete(o)
			}
			return st.Update(o)
		},
		replace: func(all [][]byte) error {
			clear(known)
			var list []any
			for _, raw := range all {
				o, name, err := read(raw)
				if err != nil {
					return err
				}
				known[name] = true
				list = append(list, o)
			}
			return st.Replace(list, "1")
		},
	}
}

// Objects that are changed in some part, such that an API server would not have them, affect only themselves, until the
// next good list.
func TestHostileObjects(t *testing.T) {
	quietly(t)
	newGroup := func() (*group, map[string]fed) {
		g := &group{ix: services.NewIndex(), objects: labels.Everything(), counts: make(map[string]int)}
		kept := sliceParts{podNames: true, zones: true}
		return g, map[string]fed{
			kindNamespace: feedOf(g, namespaceTable), kindService: feedOf(g, serviceTable), kindPod: feedOf(g, podTable),
			kindServiceImport: feedOf(g, serviceImportTable), kindSlice: feedOf(g, sliceTable(kept)), kindImportedSlice: feedOf(g, importedSliceTable(kept)),
		}
	}
	good := make(map[string][][]byte)
	var trees []any
	add := func(raw []byte) {
		var tree map[string]any
		must(t, json.Unmarshal(raw, &tree))
		kind := tree["kind"].(string)
		good[kind] = append(good[kind], raw)
		if kind == kindSlice {
			good[kindImportedSlice] = append(good[kindImportedSlice], raw)
		}
		trees = append(trees, tree)
	}
	for d := yaml.NewDecoder(strings.NewReader(everything)); ; {
		var doc map[string]any
		if err := d.Decode(&doc); err == io.EOF {
			break
		} else {
			must(t, err)
		}
		raw, err := json.Marshal(doc)
		must(t, err)
		add(raw)
	}
	known := len(trees)
	for _, o := range []any{
		&api.Pod{}, &api.Service{}, &discovery.EndpointSlice{}, &mcs.ServiceImport{},
	} { // with all the fields that they may have
		raw, err := json.Marshal(o)
		must(t, err)
		var tree map[string]any
		must(t, json.Unmarshal(raw, &tree))
		tree["kind"] = []string{kindPod, kindService, kindSlice, kindServiceImport}[len(trees)-known]
		trees = append(trees, tree)
	}
	add([]byte(still))
	trees = trees[:len(trees)-1] // it is not changed

	g, feeds := newGroup()
	list := func(feeds map[string]fed) {
		for kind, feed := range feeds {
			must(t, feed.replace(good[kind]))
		}
	}
	list(feeds)
	taken := 0
	hostile.Run(t, 2000, func(r *rand.Rand) {
		tree := trees[r.IntN(len(trees))]
		kind := tree.(map[string]any)["kind"].(string)
		for range 1 + r.IntN(4) {
			tree = hostile.Value(r, tree)
		}
		raw, err := json.Marshal(tree)
		must(t, err)
		if nameIn(raw) == "a/still" {
			return
		}
		before := g.ix.State().Version()
		if kind == kindSlice && r.IntN(2) == 0 {
			kind = kindImportedSlice
		}
		if err := feeds[kind].put(raw, r); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if g.ix.State().Version() != before {
			taken++
		}
		checkStill(t, g.ix)
		lookUp(g.ix.State(), raw)
		if r.IntN(100) == 0 {
			checkSnapshot(t, g.ix)
		}
	})
	if taken == 0 {
		t.Error("none was accepted")
	}

	list(feeds)
	want, others := newGroup()
	list(others)
	same(t, g.ix, want.ix)
	for kind, n := range want.counts {
		if g.counts[kind] != n {
			t.Errorf("%d objects of kind %s are counted, want %d", g.counts[kind], kind, n)
		}
		g.setCount(kind, 0)
		want.setCount(kind, 0)
	}
}

// lookUp queries names that raw may have brought.
func lookUp(s *services.State, raw []byte) {
	opts := services.Options{Pods: services.PodsVerified}
	namespace, name, _ := strings.Cut(nameIn(raw), "/")
	if len(namespace)+len(name) > 255 {
		return
	}
	for _, below := range []string{name + "." + namespace + ".svc", "a." + name + "." + namespace + ".svc", "_http._tcp." + name + "." + namespace + ".svc", "10-244-9-1." + namespace + ".pod"} {
		n := services.ParseName(below, services.Multicluster)
		s.Lookup(&n, &opts)
	}
	for a := range s.Addresses(netip.MustParsePrefix("0.0.0.0/0"), &opts) {
		s.Pointers(a, &opts, func(services.Pointer) bool { return true })
		break
	}
}

// Whoever chooses the names of files and of objects, or an error that quotes them, forges no line of the log, hides
// nothing in it, and breaks no metric.
func TestHostileNames(t *testing.T) {
	quietly(t)
	dir := t.TempDir()
	var files []string
	for _, name := range hostile.Names {
		if !strings.ContainsAny(name, "\x00/") && len(name) < 200 {
			files = append(files, filepath.Join(dir, "a"+name+".yaml"))
		}
	}
	for i, file := range files {
		write(t, file, strings.Replace(svcJSON, `"metadata"`, fmt.Sprintf(`"metadata": {"name": "s%d", "namespace": "a"}, "x"`, i), 1))
	}
	s, _ := openFiles(t, allOf, dir)
	for _, name := range hostile.Names {
		object, _ := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]string{"name": name, "namespace": name}, "spec": map[string]string{"clusterIP": name}})
		other, _ := json.Marshal(map[string]any{"apiVersion": name, "kind": name, "metadata": map[string]string{"name": name}})
		for _, text := range []string{string(object), string(other), name, "a: " + name, "- " + name, "kind: Service\nmetadata: {name: \"" + name + "\"}"} {
			for _, file := range files[:3] {
				write(t, file, text)
			}
			s.manifests.files.Look(t.Context())
			if _, err := parse(files[0], []byte(text)); err != nil && !hostile.Printable(safe.Line(err.Error())) {
				t.Errorf("error %q", err)
			}
		}
		reject(kindService, objectName{name, name}, name)
		_ = safe.Recovered(name, func() { panic(name) })
		for _, why := range []error{errors.New(name), fmt.Errorf("a: %w", errors.New(name))} {
			h := &health{host: safe.Printable(name)}
			h.saw(why)
			h.saw(nil)
			tr := &trouble{resource: "pods"}
			tr.saw(why)
			tr.saw(why)
		}
	}
	for i := range 2 { // each is empty, and then gone
		for _, file := range files {
			if i == 0 {
				write(t, file, "")
			} else {
				must(t, os.Remove(file))
			}
		}
		s.manifests.files.Look(t.Context())
	}
	hostile.CheckMetrics(t)
}

// The message of an Event is printable whatever it quotes.
func TestHostileMessages(t *testing.T) {
	for _, name := range hostile.Names {
		if e := eventOf(objectName{"a", "b"}, ConfigMapEvent{}, Report{Note: name + "; " + name}); !hostile.Printable(e.Message) || len(e.Message) > 1024 {
			t.Errorf("an Event has the message %q", e.Message)
		}
	}
}
