package source

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// table defines how objects of the type O, stored as *R, go into an index.
type table[O any, R any] struct {
	kind    string
	decode  func([]byte) *O // decodes the needed part of an object in protobuf, nil for bytes that it can't parse; nil to decode everything
	pack    func(*O) (*R, disposition)
	set     func(*group, *R)
	remove  func(*group, objectName)
	replace func(*group, []*R)
	kept    func(*group, func(objectName, *R) bool) // yields everything in the index
	equal   func(a, b *R) bool
	known   func(*group, *R) *R // the record in the index, if it equals this one; nil for none
	seen    func(*group, *O)    // called after the change of the object is served; nil for none
}

// inServices turns a change to the index of Services into one to that of a group.
func inServices[T any](change func(*services.Tx, T)) func(*group, T) {
	return func(g *group, v T) { g.ix.Update(func(tx *services.Tx) { change(tx, v) }) }
}

// store is the store that a reflector writes to. It stores nothing itself: everything goes to the
// index.
type store[O any, R any] struct {
	table[O, R]
	group  *group
	listed func() // called after each full list, not under mu

	mu      sync.Mutex
	stopped bool
	skipped map[objectName]struct{} // objects seen and not stored, so that the count is right when they are deleted
}

// packed stands for a decoded object: its name, and its record if there is one to store.
type packed[R any] struct {
	record      *R
	name        objectName
	disposition disposition
}

// Transformer implements cache.TransformingStore: the objects of a streamed list are packed as they come in.
func (s *store[O, R]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return s.packAny(obj) }
}

func (s *store[O, R]) packAny(obj any) (packed[R], error) {
	if p, ok := obj.(packed[R]); ok {
		return p, nil
	}
	o, name, err := s.open(obj)
	if err != nil {
		return packed[R]{}, err
	}
	record, disposition := s.packed(o, name)
	if record != nil && s.known != nil {
		record = s.known(s.group, record) // or everything would be in memory twice during another list
	}
	return packed[R]{record, name, disposition}, nil
}

// packed packs o. If that panics, o is ignored, and everything else is served.
func (s *store[O, R]) packed(o *O, name objectName) (record *R, v disposition) {
	if err := safe.Recovered(s.kind+" "+safe.Printable(name.String()), func() { record, v = s.pack(o) }); err != nil {
		reject(s.kind, name, "can't be processed, so its last state stays: "+err.Error())
		return nil, ignore
	}
	return record, v
}

// open returns the object in obj, and its name.
func (s *store[O, R]) open(obj any) (*O, objectName, error) {
	o, ok := obj.(*O)
	m, isObject := obj.(meta.Object)
	if !ok || !isObject {
		return nil, objectName{}, fmt.Errorf("%T is not a %s", obj, s.kind)
	}
	return o, objectName{m.GetNamespace(), m.GetName()}, nil
}

// Add implements cache.ReflectorStore.
func (s *store[O, R]) Add(obj any) error { return s.change(obj, 1) }

// Update implements cache.ReflectorStore.
func (s *store[O, R]) Update(obj any) error { return s.change(obj, 0) }

// change handles an object that is new (1) or known (0).
func (s *store[O, R]) change(obj any, more int) error {
	o, name, err := s.open(obj)
	if err != nil {
		return err
	}
	record, disposition := s.packed(o, name)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	_, skipped := s.skipped[name]
	known := more == 0 && !skipped
	switch {
	case disposition == keep:
		s.set(s.group, record)
		if !known {
			s.group.count(s.kind, 1)
		}
		delete(s.skipped, name)
	case disposition == ignore && known:
		return nil
	case known:
		s.remove(s.group, name)
		s.group.count(s.kind, -1)
		s.skipped[name] = struct{}{}
	default:
		s.skipped[name] = struct{}{}
	}
	if s.seen != nil {
		s.seen(s.group, o)
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *store[O, R]) Delete(obj any) error {
	o, name, err := s.open(obj)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	if _, skipped := s.skipped[name]; skipped {
		delete(s.skipped, name)
		return nil
	}
	s.remove(s.group, name)
	s.group.count(s.kind, -1)
	if s.seen != nil {
		s.seen(s.group, o)
	}
	return nil
}

// Replace implements cache.ReflectorStore. An ignored object keeps its last state, as when the watch brings it.
func (s *store[O, R]) Replace(list []any, _ string) error {
	records := make([]*R, 0, len(list))
	skipped := make(map[objectName]struct{})
	var ignored map[objectName]struct{}
	for _, obj := range list {
		p, err := s.packAny(obj)
		if err != nil {
			return err
		}
		if p.record != nil {
			records = append(records, p.record)
			continue
		}
		skipped[p.name] = struct{}{}
		if p.disposition == ignore {
			if ignored == nil {
				ignored = make(map[objectName]struct{})
			}
			ignored[p.name] = struct{}{}
		}
	}
	if ignored != nil {
		s.kept(s.group, func(name objectName, r *R) bool {
			if _, ok := ignored[name]; ok {
				records = append(records, r)
				delete(skipped, name)
			}
			return true
		})
	}

	if s.replaceAll(records, skipped) {
		s.listed()
	}
	return nil
}

// differing implements auditable. An ignored object may be present or not.
func (s *store[O, R]) differing(list []any) (names []objectName, err error) {
	listed := make(map[objectName]packed[R], len(list))
	for _, obj := range list {
		p, err := s.packAny(obj)
		if err != nil {
			return nil, err
		}
		if p.disposition != drop {
			listed[p.name] = p
		}
	}
	s.kept(s.group, func(name objectName, r *R) bool {
		p, ok := listed[name]
		if !ok || p.record != nil && !s.equal(p.record, r) {
			names = append(names, name)
		}
		delete(listed, name)
		return true
	})
	for name, p := range listed { // the rest is missing in the index
		if p.disposition == keep {
			names = append(names, name)
		}
	}
	return names, nil
}

func (s *store[O, R]) replaceAll(records []*R, skipped map[objectName]struct{}) (done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.skipped = skipped
	s.replace(s.group, records)
	s.group.setCount(s.kind, len(records))
	return true
}

// Resync implements cache.ReflectorStore. There is nothing to do.
func (s *store[O, R]) Resync() error { return nil }

// stop makes the store ignore all calls: a reflector may need a moment to end, and must not write meanwhile.
func (s *store[O, R]) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// The tables of an index. Those of EndpointSlices are made for each index, since the stored parts
// differ.
var (
	namespaceTable = table[api.Namespace, namespace]{
		kind: kindNamespace,
		pack: toNamespace,
		kept: func(g *group, yield func(objectName, *namespace) bool) {
			g.ix.State().Namespaces(func(name string) bool { return yield(objectName{"", name}, &namespace{name}) })
		},
		equal:  func(a, b *namespace) bool { return *a == *b },
		set:    inServices(func(tx *services.Tx, ns *namespace) { tx.SetNamespace(ns.name) }),
		remove: inServices(func(tx *services.Tx, n objectName) { tx.DeleteNamespace(n.name) }),
		replace: inServices(func(tx *services.Tx, all []*namespace) {
			names := make([]string, len(all))
			for i, ns := range all {
				names[i] = ns.name
			}
			tx.ReplaceNamespaces(names)
		}),
	}
	serviceTable = table[api.Service, services.Service]{
		kind:    kindService,
		decode:  decodeService,
		pack:    toService,
		kept:    keptServices(false),
		equal:   func(a, b *services.Service) bool { return *a == *b },
		set:     inServices((*services.Tx).SetService),
		remove:  inServices(deleteService),
		replace: inServices((*services.Tx).ReplaceServices),
		known:   func(g *group, s *services.Service) *services.Service { return g.ix.KnownService(s) },
	}
	podTable = table[api.Pod, services.Pod]{
		kind:    kindPod,
		pack:    toPod,
		kept:    keptPods,
		equal:   equalPods,
		set:     inServices((*services.Tx).SetPod),
		remove:  inServices(func(tx *services.Tx, n objectName) { tx.DeletePod(n.namespace, n.name) }),
		replace: inServices((*services.Tx).ReplacePods),
		known:   knownPod,
	}
	serviceImportTable = table[mcs.ServiceImport, services.Service]{
		kind:    kindServiceImport,
		pack:    toServiceImport,
		kept:    keptServices(true),
		equal:   func(a, b *services.Service) bool { return *a == *b },
		set:     inServices(imported((*services.Tx).SetService)),
		remove:  inServices(imported(deleteService)),
		replace: inServices(imported((*services.Tx).ReplaceServices)),
	}
)

func deleteService(tx *services.Tx, n objectName) { tx.DeleteService(n.namespace, n.name) }

func deleteSlice(tx *services.Tx, n objectName) { tx.DeleteSlice(n.namespace, n.name) }

func keptServices(imported bool) func(*group, func(objectName, *services.Service) bool) {
	return func(g *group, yield func(objectName, *services.Service) bool) {
		for svc := range g.ix.State().Owners(imported) {
			if !svc.IsZero() && !yield(objectName{svc.Namespace(), svc.ObjectName()}, &svc) {
				return
			}
		}
	}
}

func keptSlices(imported bool) func(*group, func(objectName, *services.Slice) bool) {
	return func(g *group, yield func(objectName, *services.Slice) bool) {
		for _, all := range g.ix.State().Owners(imported) {
			for i := range all {
				if !yield(objectName{all[i].Namespace(), all[i].ObjectName()}, &all[i]) {
					return
				}
			}
		}
	}
}

func keptPods(g *group, yield func(objectName, *services.Pod) bool) {
	g.ix.State().Pods(func(p *services.Pod) bool { return yield(objectName{p.Namespace(), p.ObjectName()}, p) })
}

func equalPods(a, b *services.Pod) bool {
	return a.Namespace() == b.Namespace() && a.ObjectName() == b.ObjectName() && maps.Equal(a.Labels(), b.Labels()) &&
		slices.Equal(slices.Collect(a.Addrs().All), slices.Collect(b.Addrs().All))
}

func knownPod(g *group, p *services.Pod) *services.Pod {
	for a := range p.Addrs().All {
		if known := g.ix.State().PodWith(a); known != nil && equalPods(known, p) {
			return known
		}
		break
	}
	return p
}

// imported turns a change to the cluster's objects into the same change to those that other clusters export.
func imported[T any](change func(*services.Tx, T)) func(*services.Tx, T) {
	return func(tx *services.Tx, v T) { change(tx.Imported(), v) }
}

// importedSliceTable does not measure: a slice that also has a Service of this cluster is measured as that
// Service's.
func importedSliceTable(kept sliceParts) table[discovery.EndpointSlice, services.Slice] {
	return table[discovery.EndpointSlice, services.Slice]{
		kind:    kindImportedSlice,
		pack:    toImportedSlice(kept),
		kept:    keptSlices(true),
		equal:   func(a, b *services.Slice) bool { return *a == *b },
		set:     inServices(imported((*services.Tx).SetSlice)),
		remove:  inServices(imported(deleteSlice)),
		replace: inServices(imported((*services.Tx).ReplaceSlices)),
	}
}

func sliceTable(kept sliceParts) table[discovery.EndpointSlice, services.Slice] {
	return table[discovery.EndpointSlice, services.Slice]{
		kind:    kindSlice,
		decode:  func(raw []byte) *discovery.EndpointSlice { return decodeSlice(raw, kept) },
		pack:    toSlice(kept),
		kept:    keptSlices(false),
		equal:   func(a, b *services.Slice) bool { return *a == *b },
		set:     inServices((*services.Tx).SetSlice),
		remove:  inServices(deleteSlice),
		replace: inServices((*services.Tx).ReplaceSlices),
		known:   func(g *group, s *services.Slice) *services.Slice { return g.ix.KnownSlice(s) },
		seen:    observeProgramming,
	}
}

// observeProgramming measures the time until the change of es was served. Lists do not count, since their objects did
// not change just now. Nor does a slice whose Service is unknown (yet), as in stock.
func observeProgramming(g *group, es *discovery.EndpointSlice) {
	stamp := es.Annotations[api.EndpointsLastChangeTriggerTime]
	if stamp == "" {
		return
	}
	changed, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		log.Debugf("EndpointSlice %s: annotation %s is not a time: %s", safe.Printable(es.Namespace+"/"+es.Name), api.EndpointsLastChangeTriggerTime, safe.Printable(err.Error()))
		return
	}
	svc := g.ix.State().Service(es.Namespace, es.Labels[discovery.LabelServiceName])
	if svc.IsZero() {
		return
	}
	kind := "cluster_ip"
	if svc.Headless() {
		kind = "headless_with_selector"
	}
	// A clock that is behind would make the sum of the histogram fall, which Prometheus takes for a restart.
	programmingDuration.WithLabelValues(kind).Observe(max(0, time.Since(changed).Seconds()))
}
