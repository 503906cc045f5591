package source

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/files"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// pollManifests is the interval at which manifest files are checked where changes are not notified, as in a file system
// that another machine writes to.
const pollManifests = 5 * time.Second

const (
	maxManifest  = 64 << 20  // bytes in one manifest file
	maxManifests = 256 << 20 // bytes in all files of a Source
	maxWarned    = 1000      // warnings of a state
)

// manifests are the objects in manifest files, used instead of an API server.
//
// A file that can't be parsed keeps its last objects. Of several objects with the same name, the last one counts, in
// the order of file names. A namespace that an object is in exists even if no Namespace declares it, unless
// namespace_labels selects some. A Service without a clusterIP gets one, see allocate.
type manifests struct {
	source *Source
	files  *files.Followed[[]*manifest]

	mu      sync.Mutex
	started bool
	refused error               // the first refusal at the start
	warned  map[string]struct{} // warnings logged for the current state
	skipped int                 // Endpoints that were skipped
	view    *view
}

// view is the content of all files together. It never changes.
type view struct {
	objects    map[string]map[objectName]*manifest // by kind
	implied    map[string]struct{}                 // namespaces that objects are in
	clusterIPs map[objectName]netip.Addr           // of Services whose file specifies none
}

// openManifests reads the files of patterns, and follows them. The error is that of the first file that can't be
// parsed.
func openManifests(s *Source, patterns []string) (*manifests, error) {
	m := &manifests{source: s, warned: make(map[string]struct{})}
	var all []string
	for _, p := range patterns {
		all = append(all, p)
		if files.IsPattern(p) {
			continue
		}
		all = append(all, files.Escape(p)+"/*.yaml", files.Escape(p)+"/*.yml", files.Escape(p)+"/*.json") // it may be a directory, now or later
		if _, err := files.Stat(p); os.IsNotExist(err) {
			log.Warningf("manifests %s: no such file; it will be read when it appears", safe.Printable(p))
		}
	}
	var err error
	m.files, err = files.Follow(files.Reading[[]*manifest]{
		Patterns: all, Poll: pollManifests, MaxSize: maxManifest, MaxTotal: maxManifests,
		Parse: readManifest, Refused: m.refuse, Changed: m.reload,
	})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused != nil {
		m.files.Close()
		return nil, m.refused
	}
	m.started = true
	m.view = m.merge()
	return m, nil
}

// readManifest reads the objects in the file path.
func readManifest(path string, r io.Reader) ([]*manifest, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return parse(path, b)
}

// refuse records a file that can't be read or parsed.
func (m *manifests) refuse(path string, err error, repeated bool) {
	text := safe.Printable(err.Error())
	if name := safe.Printable(path); !strings.HasPrefix(text, name) {
		text = name + ": " + text
	}
	m.mu.Lock()
	started := m.started
	if !started && m.refused == nil {
		m.refused = errors.New(text)
	}
	m.mu.Unlock()
	if !started {
		return
	}
	manifestsRejected.Inc()
	if !repeated {
		log.Errorf("manifests: %s; the last good state of the file goes on serving", text)
	}
}

// reload handles a change of the files, and publishes it.
func (m *manifests) reload() {
	m.mu.Lock()
	m.view = m.merge()
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

// merge makes the view of all files. m.mu is held.
func (m *manifests) merge() *view {
	v := &view{objects: make(map[string]map[objectName]*manifest), implied: make(map[string]struct{})}
	warned := make(map[string]struct{})
	for _, file := range m.files.All() {
		for _, o := range file.Content {
			all := v.objects[o.kind]
			if all == nil {
				all = make(map[objectName]*manifest)
				v.objects[o.kind] = all
			}
			if first := all[o.name]; first != nil {
				warning := fmt.Sprintf("%s %s stands in %s and in %s; the latter is used",
					o.kind, safe.Printable(strings.TrimPrefix(o.name.String(), "/")), first.at(), o.at())
				if _, known := m.warned[warning]; !known && len(warned) < maxWarned {
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
	if skipped := v.mirror(); skipped != m.skipped {
		m.skipped = skipped
		log.Infof("manifests: %d Endpoints are skipped, because their Services have EndpointSlices", skipped)
	}

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

// publish updates the index of g from the files, in one step.
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
		return // the last published state goes on serving
	}

	counts := make(map[string]int)
	if g.key.external {
		g.outside.Update(func(tx *external.Tx) {
			for kind := range feeds {
				all := v.outside(g, kind)
				tx.Replace(externalKinds[kind], all)
				counts[kind] = len(all)
			}
		})
	} else {
		v.publish(g, feeds, counts)
	}
	g.source.mu.Lock()
	for kind, n := range counts {
		if g.feeds[kind] != nil { // else it was closed meanwhile, and is no longer counted
			g.setCount(kind, n)
		}
	}
	g.source.mu.Unlock()
	for kind, f := range feeds {
		g.markListed(f, kind)
	}
}

// publish updates the index of Services of g from v, with the kinds in feeds, and counts them.
func (v *view) publish(g *group, feeds map[string]*feed, counts map[string]int) {
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
			local = packAll(v.objects[kindSlice], g.objects, func(o *manifest) (*services.Slice, disposition) {
				return packSlice(o.sliceWith(g.key.kept), o.labels)
			})
		}
		if feeds[kindPod] != nil {
			pods = packAll(v.objects[kindPod], g.objects, func(o *manifest) (*services.Pod, disposition) { return packPod(o.pod) })
		}
		if feeds[kindServiceImport] != nil {
			imports = packAll(v.objects[kindServiceImport], g.objects, packServiceImport)
		}
		if feeds[kindImportedSlice] != nil {
			imported = packAll(v.objects[kindSlice], g.objects, func(o *manifest) (*services.Slice, disposition) {
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
}

// outside returns the objects of one kind that have external names.
func (v *view) outside(g *group, kind string) []*external.Object {
	switch kind {
	case kindExternalNamespace:
		var all []*external.Object
		for _, name := range v.namespaces(g.namespace) {
			spec := external.NamespaceSpec{Name: name, Labels: map[string]string{api.LabelMetadataName: name}}
			if o := v.objects[kindNamespace][objectName{"", name}]; o != nil {
				spec.Labels = o.labels
			}
			if o, disposition := published(kind, objectName{"", name}, external.NewNamespace(spec)); disposition == keep {
				all = append(all, o)
			}
		}
		return all
	case kindExternalService:
		return packAll(v.objects[kindService], g.objects, v.packPublished)
	}
	return packAll(v.objects[kind], labels.Everything(), func(o *manifest) (*external.Object, disposition) {
		if o.external == nil {
			return nil, drop
		}
		return o.external, keep
	})
}

// packPublished packs the external names and addresses of a Service.
func (v *view) packPublished(o *manifest) (*external.Object, disposition) {
	if o.published == nil {
		return nil, drop
	}
	spec := *o.published
	if a, ok := v.clusterIPs[o.name]; ok {
		spec.ClusterIPs = []string{a.String()}
	}
	return packPublished(spec)
}

// packAll packs the objects that selector matches.
func packAll[R any](objects map[objectName]*manifest, selector labels.Selector, pack func(*manifest) (*R, disposition)) []*R {
	all := make([]*R, 0, len(objects))
	for _, o := range objects {
		if !selector.Matches(labels.Set(o.labels)) {
			continue
		}
		if r, disposition := pack(o); disposition == keep {
			all = append(all, r)
		}
	}
	return all
}

func (v *view) packService(o *manifest) (*services.Service, disposition) {
	spec := *o.service
	if a, ok := v.clusterIPs[o.name]; ok {
		spec.ClusterIPs = []netip.Addr{a}
	} else if o.addresses {
		reject(kindService, o.name, fmt.Sprintf("%s: it has no clusterIP, and none is free in %s", o.at(), serviceRange))
	}
	return packService(kindService, spec)
}

func packServiceImport(o *manifest) (*services.Service, disposition) {
	return packService(kindServiceImport, *o.service)
}

// sliceWith returns the EndpointSlice with the needed parts, nil if there is none.
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

// namespaces returns the existing namespaces: those that are declared and selected and, without a selector, those that
// contain objects.
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

// tell passes the content of the files to the followers of c.
func (m *manifests) tell(c *configMap) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.view.objects[kindConfigMap][c.name]; o != nil {
		c.set(o.configMap)
		return
	}
	c.set(&ConfigMapEvent{})
}
