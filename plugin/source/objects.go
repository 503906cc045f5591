package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// Selection selects objects of a Source. Services and Namespaces are always selected.
type Selection struct {
	Labels          string // selects Services, EndpointSlices and Pods, in kubectl's syntax; "" for all
	NamespaceLabels string // selects Namespaces; "" for all
	PodNames        bool   // endpoints without a hostname are named after their pods
	Endpoints       bool   // EndpointSlices too
	Pods            bool   // Pods too
	Zones           bool   // the topology zones of endpoints
	Multicluster    bool   // ServiceImports too and, with Endpoints, their EndpointSlices; also selected by Labels

	// External are sources of external names. They replace all of the above but Labels, which selects Services, and
	// NamespaceLabels. Their objects are in an index of their own.
	External external.Source
}

func (sel Selection) kinds() []string {
	if sel.External != 0 {
		return kindsFor(sel.External)
	}
	kinds := []string{kindNamespace, kindService}
	if sel.Endpoints {
		kinds = append(kinds, kindSlice)
	}
	if sel.Pods {
		kinds = append(kinds, kindPod)
	}
	if sel.Multicluster {
		kinds = append(kinds, kindServiceImport)
	}
	if sel.Multicluster && sel.Endpoints {
		kinds = append(kinds, kindImportedSlice)
	}
	return kinds
}

// groupKey is what two Selections must have in common to share an index.
type groupKey struct {
	labels, namespaceLabels string // canonical
	kept                    sliceParts
	external                bool // of external names
}

// group is an index, and the feeds that update it.
type group struct {
	source    *Source
	key       groupKey
	ix        *services.Index // empty if key.external
	outside   *external.Index // empty unless key.external
	objects   labels.Selector
	namespace labels.Selector
	publish   sync.Mutex // held while manifests are written into the index

	// guarded by source.mu
	holders int
	feeds   map[string]*feed // by kind
	synced  bool             // everything wanted at some moment was listed
	news    chan struct{}    // closed, and replaced, when a feed is listed or refused

	restored bool // there were objects of a snapshot

	mu     sync.Mutex
	counts map[string]int
}

// feed brings the objects of one kind into an index, as long as it has users.
type feed struct {
	users   int
	done    bool          // guarded by source.mu
	waived  bool          // guarded by source.mu; no longer waited for, though it is not done
	refused *RefusedError // guarded by source.mu; nil once all objects were listed, and while the server refuses nothing
	told    time.Time     // guarded by source.mu; when refused last changed
	missing time.Time     // guarded by source.mu; since when the server does not grant or does not have an optional resource
	listed  chan struct{} // closed when all objects were listed once, or are no longer waited for
	stop    func()
}

// Objects is the use of the objects of a Selection. It is safe for concurrent use.
type Objects struct {
	group  *group
	kinds  []string
	feeds  []*feed
	closed chan struct{}
	once   sync.Once
}

// Objects returns the objects that sel selects. All Selections with the same Labels, NamespaceLabels, PodNames and
// Zones share one index. All kinds but Services and Namespaces are fed into it as long as one of them needs them. The
// error is a selector that can't be parsed.
//
// ServiceImports (multicluster.x-k8s.io/v1alpha1, KEP-1645) are custom resources that a cluster may lack. An API server
// that does not have them (404) or does not grant them (403) counts as one without any: that is logged once, everything
// else is served and synced, and the requests continue until it has them. The same holds for the objects that have
// external names, except Services and Namespaces; and these are not waited for if the server fails to return them for
// another reason.
func (s *Source) Objects(sel Selection) (*Objects, error) {
	o, _, err := s.ObjectsFrom(nil, sel)
	return o, err
}

// ObjectsFrom is Objects, except that as long as the API server has not replied, the objects are those of the snapshot
// from. used reports whether they are. They are not if from is nil, if these objects were requested before, or if from
// lacks those that sel selects.
func (s *Source) ObjectsFrom(from *Snapshot, sel Selection) (o *Objects, used bool, err error) {
	objects, err := parseSelector("labels", sel.Labels)
	if err != nil {
		return nil, false, err
	}
	namespaces, err := parseSelector("namespace_labels", sel.NamespaceLabels)
	if err != nil {
		return nil, false, err
	}
	key := groupKey{labels: objects.String(), namespaceLabels: namespaces.String(), external: sel.External != 0}
	if !key.external {
		key.kept = sliceParts{podNames: sel.PodNames, zones: sel.Zones}
	}
	o = &Objects{kinds: sel.kinds(), closed: make(chan struct{})}

	s.mu.Lock()
	g := s.groups[key]
	if g == nil {
		g = &group{
			source: s, key: key, ix: services.NewIndex(), outside: external.NewIndex(), objects: objects, namespace: namespaces,
			feeds: make(map[string]*feed), counts: make(map[string]int), news: make(chan struct{}),
		}
		s.groups[key] = g
		if used = from.holds(key, o.kinds); used {
			from.fill(g, o.kinds) // before the feeds, which replace it kind by kind
			g.restored = true
		}
	}
	g.holders++
	o.group = g
	for _, kind := range o.kinds {
		f := g.feeds[kind]
		if f == nil {
			f = g.start(kind)
			g.feeds[kind] = f
		}
		f.users++
		o.feeds = append(o.feeds, f)
	}
	s.mu.Unlock()

	if s.manifests != nil {
		s.manifests.publish(g)
	}
	return o, used, nil
}

func parseSelector(option, expr string) (labels.Selector, error) {
	if expr == "" {
		return labels.Everything(), nil
	}
	parsed, err := meta.ParseToLabelSelector(expr)
	if err != nil {
		return nil, fmt.Errorf("%s %q is not a label selector: %w", option, expr, err)
	}
	selector, err := meta.LabelSelectorAsSelector(parsed)
	if err != nil {
		return nil, fmt.Errorf("%s %q is not a label selector: %w", option, expr, err)
	}
	return selector, nil
}

// Index returns the index of the objects, an empty one for a Selection with External. It is shared, and may hold more
// than was selected.
func (o *Objects) Index() *services.Index { return o.group.ix }

// External returns the index of external names, an empty one for a Selection without External. It is shared, and may
// hold more than was selected.
func (o *Objects) External() *external.Index { return o.group.outside }

// Synced reports whether everything that was selected was read once, or is optional and not available from the server.
func (o *Objects) Synced() bool {
	for _, f := range o.feeds {
		select {
		case <-f.listed:
		default:
			return false
		}
	}
	return true
}

// complete reports whether everything that was selected was read once, or is optional and absent according to the
// server.
func (o *Objects) complete() bool {
	s := o.group.source
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range o.feeds {
		if !f.done {
			return false
		}
	}
	return true
}

// Refused returns a *RefusedError if the API server refuses to list a kind that was selected and never listed, so that
// Synced stays false. It returns nil otherwise. The request is repeated every few seconds, and Refused returns nil once
// the server grants the kind.
func (o *Objects) Refused() error {
	_, err := o.status()
	return err
}

// status returns the result of Refused, and a channel that is closed when that or Synced may have changed.
func (o *Objects) status() (news <-chan struct{}, err error) {
	s := o.group.source
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range o.feeds {
		if f.refused != nil {
			return o.group.news, f.refused
		}
	}
	return o.group.news, nil
}

// Wait waits until Synced is true. It calls refused, unless that is nil, with each new error of Refused, and continues
// to wait, since the server may grant the kind later. Wait returns an error if ctx ended or Close was called before.
func (o *Objects) Wait(ctx context.Context, refused func(error)) error {
	var reported error
	for {
		news, err := o.status()
		if o.Synced() {
			return nil
		}
		if err != nil && err != reported && refused != nil {
			reported = err
			refused(err)
		}
		select {
		case <-news:
		case <-o.closed:
			return errors.New("closed")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends the use of the objects. Those without other users are no longer updated. Only the first call has an
// effect.
func (o *Objects) Close() {
	o.once.Do(func() {
		close(o.closed)
		o.group.release(o.kinds)
	})
}

// release removes one user from the feeds of kinds.
func (g *group) release(kinds []string) {
	s := g.source
	s.mu.Lock()
	g.holders--
	last := g.holders == 0
	for _, kind := range kinds {
		f := g.feeds[kind]
		if f == nil { // the Source was closed
			continue
		}
		if f.users--; f.users > 0 {
			continue
		}
		f.stop()
		delete(g.feeds, kind)
		if !last { // otherwise ix stays as it is and queries are answered from it: a stopping server answers until its lameduck is over
			g.setListed(kind, false) // first: a zone that needs the kind must not be transferred without its objects
			g.clear(kind)
		}
	}
	if last && s.groups[g.key] == g {
		delete(s.groups, g.key)
	}
	g.checkSynced()
	s.mu.Unlock()

	if !last && s.manifests != nil {
		s.manifests.publish(g) // it may be running, with kinds that were used before
	}
}

// kindSets are the kinds of objects as sets of the index.
var kindSets = map[string]services.Kinds{
	kindNamespace:     services.KindNamespace,
	kindService:       services.KindService,
	kindSlice:         services.KindSlice,
	kindPod:           services.KindPod,
	kindServiceImport: services.KindImport,
	kindImportedSlice: services.KindImportedSlice,
}

// setListed records in the index whether all objects of a kind were read.
func (g *group) setListed(kind string, listed bool) {
	switch k, outside := externalKinds[kind]; {
	case outside && listed:
		g.outside.Update(func(tx *external.Tx) { tx.SetListed(external.KindsOf(k)) })
	case outside:
		g.outside.Update(func(tx *external.Tx) { tx.SetUnlisted(external.KindsOf(k)) })
	case listed:
		g.ix.Update(func(tx *services.Tx) { tx.SetListed(kindSets[kind]) })
	default:
		g.ix.Update(func(tx *services.Tx) { tx.SetUnlisted(kindSets[kind]) })
	}
}

// clear removes the objects of a kind that is no longer used. The Source's mutex is held, so they can't come into use
// meanwhile.
func (g *group) clear(kind string) {
	if k, outside := externalKinds[kind]; outside {
		g.outside.Update(func(tx *external.Tx) { tx.Replace(k, nil) })
		return
	}
	g.ix.Update(func(tx *services.Tx) {
		switch kind {
		case kindSlice:
			tx.ReplaceSlices(nil)
		case kindPod:
			tx.ReplacePods(nil)
		case kindServiceImport:
			tx.Imported().ReplaceServices(nil)
		case kindImportedSlice:
			tx.Imported().ReplaceSlices(nil)
		}
	})
}

// stopAll stops all feeds. The Source's mutex is held.
func (g *group) stopAll() {
	for kind, f := range g.feeds {
		f.stop()
		delete(g.feeds, kind)
	}
}

// start starts to feed objects of kind. The Source's mutex is held.
func (g *group) start(kind string) *feed {
	f := &feed{listed: make(chan struct{})}
	objectsRejected.WithLabelValues(kind) // 0, since Prometheus would not take the first one for an increase
	c := g.source.clients
	if c == nil {
		f.stop = func() { g.setCount(kind, 0) }
		return f
	}
	w := watched{client: c.core, labels: g.key.labels}
	switch kind {
	case kindNamespace:
		w.resource, w.example, w.labels = "namespaces", &api.Namespace{}, g.key.namespaceLabels
		run(g, f, w, namespaceTable)
	case kindService:
		w.resource, w.example = "services", &api.Service{}
		run(g, f, w, serviceTable)
	case kindSlice:
		w.client, w.resource, w.example = c.slices[g.key.kept], "endpointslices", &discovery.EndpointSlice{}
		run(g, f, w, sliceTable(g.key.kept))
	case kindPod:
		w.resource, w.example, w.fields = "pods", &api.Pod{}, livePods
		run(g, f, w, podTable)
	case kindServiceImport:
		w.client, w.resource, w.example = c.imports, mcs.ServiceImportPluralName, &mcs.ServiceImport{}
		w.optional = true
		run(g, f, w, serviceImportTable)
	case kindImportedSlice:
		w.client, w.resource, w.example = c.slices[g.key.kept], "endpointslices", &discovery.EndpointSlice{}
		w.labels = g.objects.Add(*ofServiceImport).String()
		run(g, f, w, importedSliceTable(g.key.kept))
	default:
		g.startExternal(kind, f, w)
	}
	return f
}

// startExternal starts to feed objects for external names. Every cluster has Services and Namespaces, and this account
// may list them already. Everything else is optional.
func (g *group) startExternal(kind string, f *feed, w watched) {
	c := g.source.clients
	switch kind {
	case kindExternalNamespace:
		w.client, w.resource, w.example, w.labels = c.whole, "namespaces", &api.Namespace{}, g.key.namespaceLabels
		run(g, f, w, externalTable(kind, toExternalNamespace))
		return
	case kindExternalService:
		w.client, w.resource, w.example = c.whole, "services", &api.Service{}
		run(g, f, w, externalTable(kind, toExternalService))
		return
	}
	w.labels, w.optional = "", true
	switch kind {
	case kindIngress:
		w.client, w.resource, w.example = c.ingresses, "ingresses", &networking.Ingress{}
		run(g, f, w, ingressTable())
	case kindNode:
		w.client, w.resource, w.example = c.whole, "nodes", &api.Node{}
		run(g, f, w, externalTable(kind, toNode))
	default:
		custom := customKinds[kind]
		w.client, w.resource, w.example = c.custom[custom.version], custom.resource, &customResource{}
		run(g, f, w, externalTable(kind, toCustom(kind, custom.read)))
	}
}

// ofServiceImport selects the EndpointSlices that belong to a ServiceImport.
var ofServiceImport, _ = labels.NewRequirement(mcs.LabelServiceName, selection.Exists, nil) // the key is valid

// run starts the watch that feeds a table of g's index.
func run[O any, R any](g *group, f *feed, w watched, t table[O, R]) {
	ctx, cancel := context.WithCancel(context.Background())
	st := &store[O, R]{table: t, group: g, listed: func() { g.markListed(f, t.kind) }, skipped: make(map[objectName]struct{})}
	f.stop = func() {
		cancel()
		st.stop()
		g.setCount(t.kind, 0)
	}
	w.kind = t.kind
	of := &follower{watched: w, store: st}
	of.refused = func(err error) {
		switch {
		case w.optional && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err)):
			g.markAbsent(f, t.kind, apierrors.IsNotFound(err))
		case !w.optional || !g.key.external:
			g.markRefused(f, &RefusedError{w.resource, err})
		case !of.trouble.isOutage(err):
			g.waive(f)
		}
	}
	if w.optional {
		of.doubts = func() bool { return g.doubts(f) }
	}
	if w.optional && g.key.external {
		of.stumbled = func() { g.waive(f) }
	}
	if custom, ok := customKinds[t.kind]; ok {
		of.has = func(ctx context.Context) bool { return g.source.has(ctx, custom.version, custom.resource) }
	}
	g.source.follow(ctx, of)
}

// waive records that f is no longer waited for, since the server has its resource and fails to list it: a
// CustomResourceDefinition whose webhook is down must not prevent the rest from being served. Until f is done, unknown
// names fail.
func (g *group) waive(f *feed) {
	g.source.mu.Lock()
	defer g.source.mu.Unlock()
	if f.done || f.waived {
		return
	}
	f.waived = true
	g.checkSynced()
	close(f.listed)
	g.tell()
}

// doubts reports whether one reply does not prove that the server lacks the resource of f: there are objects from a
// snapshot or an earlier list, and the server may be starting.
func (g *group) doubts(f *feed) bool {
	g.source.mu.Lock()
	defer g.source.mu.Unlock()
	return f.done || g.restored
}

// markRefused records that the server refuses to list the objects of f, or has not listed them in time. The reason for
// the latter changes at most once in quiet.
func (g *group) markRefused(f *feed, err *RefusedError) {
	g.source.mu.Lock()
	defer g.source.mu.Unlock()
	if known := f.refused; f.done || known != nil && (known.Error() == err.Error() || isDetail(err.Err, known.Err, f.told)) {
		return
	}
	f.refused, f.told = err, time.Now()
	g.tell()
}

// tell wakes everything that waits for news. The Source's mutex is held.
func (g *group) tell() {
	close(g.news)
	g.news = make(chan struct{})
}

// vanished is how long an API server must deny a resource that it had before. A starting server may deny it for a
// moment.
const vanished = time.Minute

// markAbsent records that there are no objects for f: the server does not grant the resource, or does not have it
// (unknown). It removes the objects of a snapshot, and, once vanished has passed, those listed when the server had it.
func (g *group) markAbsent(f *feed, kind string, unknown bool) {
	g.source.mu.Lock()
	if f.missing.IsZero() {
		f.missing = time.Now()
	}
	if g.feeds[kind] == f && (!f.done || unknown && time.Since(f.missing) > vanished) {
		g.clear(kind)
		g.setCount(kind, 0)
	}
	g.source.mu.Unlock()
	g.markDone(f, kind)
}

// markListed records that f brought all objects of its kind.
func (g *group) markListed(f *feed, kind string) {
	g.source.mu.Lock()
	f.missing = time.Time{}
	g.source.mu.Unlock()
	g.markDone(f, kind)
}

// markDone records that f brought all objects of its kind once, or that there are none to wait for.
func (g *group) markDone(f *feed, kind string) {
	g.source.mu.Lock()
	defer g.source.mu.Unlock()
	if f.done {
		return
	}
	f.done, f.refused = true, nil
	if g.feeds[kind] == f { // else it was released meanwhile
		g.setListed(kind, true)
	}
	g.checkSynced()
	if !f.waived {
		close(f.listed)
	}
	g.tell()
}

// checkSynced makes the group synced once all its feeds have brought everything. The Source's mutex is held.
func (g *group) checkSynced() {
	if len(g.feeds) == 0 {
		return
	}
	for _, f := range g.feeds {
		if !f.done && !f.waived {
			return
		}
	}
	g.synced = true
}

// count adds n objects to the count.
func (g *group) count(kind string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts[kind] += n
	objectsHeld.WithLabelValues(kind).Add(float64(n))
}

// setCount sets the count to n objects.
func (g *group) setCount(kind string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	objectsHeld.WithLabelValues(kind).Add(float64(n - g.counts[kind]))
	g.counts[kind] = n
}
