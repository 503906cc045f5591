package source

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// pollManifests is how often manifest files are looked at where changes are not notified, as in a file system that
// another machine writes to.
const pollManifests = 5 * time.Second

// manifests are the objects in manifest files, in place of an API server.
//
// A file that can't be understood keeps the objects that it had last. An object that stands more than once is taken from
// where it stands last, in the order of file names. A namespace that an object is in exists even if no Namespace declares
// it, unless namespace_labels selects some. A Service without a clusterIP gets one, see allocate.
type manifests struct {
	source   *Source
	patterns []string
	files    *Files

	mu     sync.Mutex
	loaded map[string]*loadedFile
	warned map[string]struct{} // what was logged of the present state
	view   *view
}

// loadedFile is the last good state of a file.
type loadedFile struct {
	info    os.FileInfo
	read    time.Time
	objects []*manifest
	failed  string // why the file, as it is now, was not understood; "" if it was
}

// view is what all files say together. It never changes.
type view struct {
	objects    map[string]map[objectName]*manifest // by kind
	implied    map[string]struct{}                 // namespaces that objects are in
	clusterIPs map[objectName]netip.Addr           // of Services that were to get one
}

// openManifests reads the files behind patterns, and follows them. The error is that of the first file that can't be
// understood.
func openManifests(s *Source, patterns []string) (*manifests, error) {
	m := &manifests{source: s, loaded: make(map[string]*loadedFile), warned: make(map[string]struct{})}
	for _, p := range patterns {
		m.patterns = append(m.patterns, p)
		if !isGlob(p) { // it may be, or become, a directory
			m.patterns = append(m.patterns, p+"/*.yaml", p+"/*.yml", p+"/*.json")
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	m.files, err = Follow(m.patterns, pollManifests, m.reload) // ahead of the first look, lest a change falls between
	if err != nil {
		return nil, err
	}
	for _, p := range patterns {
		if _, err := os.Stat(p); os.IsNotExist(err) && !isGlob(p) {
			log.Warningf("manifests %s: there is no such file; it is read when it appears", p)
		}
	}
	if errs := m.load(); len(errs) > 0 {
		m.files.Close()
		return nil, errs[0]
	}
	return m, nil
}

// reload takes in what changed, and publishes it.
func (m *manifests) reload() {
	m.mu.Lock()
	for _, err := range m.load() {
		manifestsRejected.Inc()
		log.Errorf("manifests: %v; the last good state of the file is still served", err)
	}
	m.mu.Unlock()

	m.source.mu.Lock()
	groups := slices.Collect(maps.Values(m.source.groups))
	configMaps := slices.Collect(maps.Values(m.source.configMaps))
	m.source.mu.Unlock()
	for _, g := range groups {
		m.publish(g)
	}
	for _, c := range configMaps {
		m.tell(c)
	}
}

// load reads the files that changed, and makes the view of all. It returns the errors that are news. m.mu is held.
func (m *manifests) load() (errs []error) {
	paths := Expand(m.patterns)
	for path := range m.loaded {
		if !slices.Contains(paths, path) {
			delete(m.loaded, path)
		}
	}
	for _, path := range paths {
		if err := m.loadFile(path); err != nil {
			errs = append(errs, err)
		}
	}
	m.view = m.merge(paths)
	return errs
}

// restless is how long after a change a file may change again without that its time tells.
const restless = 2 * time.Second

// loadFile reads the file path if it changed. The error is one that was not returned before.
func (m *manifests) loadFile(path string) error {
	last := m.loaded[path]
	info, err := os.Stat(path)
	if err == nil && last != nil && sameFile(info, last.info) && last.read.Sub(info.ModTime()) > restless {
		return nil
	}
	next := &loadedFile{info: info, read: time.Now()}
	if err == nil {
		next.objects, err = readManifest(path)
	}
	if os.IsNotExist(err) {
		delete(m.loaded, path) // it went just now
		return nil
	}
	if err != nil {
		next.failed = err.Error()
		if last != nil {
			next.objects = last.objects
		}
	}
	m.loaded[path] = next
	if err == nil && last != nil && last.failed != "" {
		log.Infof("manifests: %s is understood again", path)
	}
	if err != nil && last != nil && last.failed == next.failed {
		return nil
	}
	return err
}

func readManifest(path string) ([]*manifest, error) {
	f, err := os.Open(path) // #nosec G304 -- the Corefile names it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	return parse(path, b)
}

// merge makes the view of the files paths. m.mu is held.
func (m *manifests) merge(paths []string) *view {
	v := &view{objects: make(map[string]map[objectName]*manifest), implied: make(map[string]struct{})}
	warned := make(map[string]struct{})
	for _, path := range paths {
		file := m.loaded[path]
		if file == nil {
			continue
		}
		for _, o := range file.objects {
			all := v.objects[o.kind]
			if all == nil {
				all = make(map[objectName]*manifest)
				v.objects[o.kind] = all
			}
			if first := all[o.name]; first != nil {
				warning := fmt.Sprintf("%s %s stands in %s and in %s; the latter is used",
					o.kind, strings.TrimPrefix(o.name.String(), "/"), first.at(), o.at())
				if _, known := m.warned[warning]; !known && len(warned) < maxNamed {
					log.Warning("manifests: " + warning)
				}
				warned[warning] = struct{}{}
			}
			all[o.name] = o
			if o.name.namespace != "" {
				v.implied[o.name.namespace] = struct{}{}
			}
		}
	}
	m.warned = warned

	var without []objectName
	taken := make(map[netip.Addr]struct{})
	for name, o := range v.objects[kindService] {
		for _, a := range o.service.ClusterIPs {
			taken[a] = struct{}{}
		}
		if o.addresses {
			without = append(without, name)
		}
	}
	v.clusterIPs = allocate(without, taken)
	return v
}

// publish brings the index of g to what the files say, in one step.
func (m *manifests) publish(g *group) {
	g.publish.Lock()
	defer g.publish.Unlock()

	m.mu.Lock()
	v := m.view
	m.mu.Unlock()
	g.source.mu.Lock()
	feeds, held := maps.Clone(g.feeds), g.holders > 0
	g.source.mu.Unlock()
	if !held {
		return // what was published last goes on answering
	}

	counts := make(map[string]int)
	g.ix.Update(func(tx *services.Tx) {
		var (
			names           []string
			svcs, imports   []*services.Service
			local, imported []*services.Slice
			pods            []*services.Pod
		)
		if feeds[kindNamespace] != nil {
			names = v.namespaces(g.namespace)
		}
		if feeds[kindService] != nil {
			svcs = packAll(v.objects[kindService], g.objects, v.packService)
		}
		if feeds[kindSlice] != nil {
			local = packAll(v.objects[kindSlice], g.objects, func(o *manifest) (*services.Slice, verdict) {
				return packSlice(o.sliceWith(g.key.kept), o.labels)
			})
		}
		if feeds[kindPod] != nil {
			pods = packAll(v.objects[kindPod], g.objects, func(o *manifest) (*services.Pod, verdict) { return packPod(o.pod) })
		}
		if feeds[kindServiceImport] != nil {
			imports = packAll(v.objects[kindServiceImport], g.objects, packServiceImport)
		}
		if feeds[kindImportedSlice] != nil {
			imported = packAll(v.objects[kindSlice], g.objects, func(o *manifest) (*services.Slice, verdict) {
				return packImportedSlice(o.sliceWith(g.key.kept), o.labels)
			})
		}
		tx.ReplaceNamespaces(names)
		tx.ReplaceServices(svcs)
		tx.ReplaceSlices(local)
		tx.ReplacePods(pods)
		tx.Imported().ReplaceServices(imports)
		tx.Imported().ReplaceSlices(imported)
		counts[kindNamespace], counts[kindService] = len(names), len(svcs)
		counts[kindSlice], counts[kindPod] = len(local), len(pods)
		counts[kindServiceImport], counts[kindImportedSlice] = len(imports), len(imported)
	})
	g.source.mu.Lock()
	for kind, n := range counts {
		if g.feeds[kind] != nil { // else it was given back meanwhile, and is counted no more
			g.setCount(kind, n)
		}
	}
	g.source.mu.Unlock()
	for kind, f := range feeds {
		g.markListed(f, kind)
	}
}

// packAll packs the objects that selector matches.
func packAll[R any](objects map[objectName]*manifest, selector labels.Selector, pack func(*manifest) (*R, verdict)) []*R {
	all := make([]*R, 0, len(objects))
	for _, o := range objects {
		if !selector.Matches(labels.Set(o.labels)) {
			continue
		}
		if r, verdict := pack(o); verdict == keep {
			all = append(all, r)
		}
	}
	return all
}

func (v *view) packService(o *manifest) (*services.Service, verdict) {
	spec := *o.service
	if a, ok := v.clusterIPs[o.name]; ok {
		spec.ClusterIPs = []netip.Addr{a}
	} else if o.addresses {
		reject(kindService, o.name, fmt.Sprintf("%s: no clusterIP is given, and none is free in %s", o.at(), serviceRange))
	}
	return packService(kindService, spec)
}

func packServiceImport(o *manifest) (*services.Service, verdict) {
	return packService(kindServiceImport, *o.service)
}

// sliceWith returns the EndpointSlice with the parts that are kept, nil if nothing is.
func (m *manifest) sliceWith(kept sliceParts) *services.SliceSpec {
	spec := m.slice
	if kept.podNames {
		spec = m.slicePods
	}
	if spec == nil || kept.zones {
		return spec
	}
	bare := *spec
	bare.Endpoints = slices.Clone(spec.Endpoints)
	for i := range bare.Endpoints {
		bare.Endpoints[i].Zone = ""
	}
	return &bare
}

// namespaces returns the namespaces there are: those that are declared and selected, and without a selector those that
// objects are in.
func (v *view) namespaces(selector labels.Selector) []string {
	var names []string
	for name, o := range v.objects[kindNamespace] {
		if selector.Matches(labels.Set(o.labels)) {
			names = append(names, name.name)
		}
	}
	if !selector.Empty() {
		return names
	}
	for name := range v.implied {
		if v.objects[kindNamespace][objectName{"", name}] == nil {
			names = append(names, name)
		}
	}
	return names
}

// tell tells those who follow c what the files say.
func (m *manifests) tell(c *configMap) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.view.objects[kindConfigMap][c.name]; o != nil {
		c.set(o.configMap)
		return
	}
	c.set(&ConfigMapEvent{})
}
