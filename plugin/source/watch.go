package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// livePods leaves the pods to the server that will never serve again, as stock does.
const livePods = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"

// A watch that fails is tried again after 0.8 s, then ever later, but at least every 5 to 10 s: client-go's own 30 to 60 s
// would leave answers stale for as long after the API server is back, and there are few of us.
func backoff() *wait.Backoff {
	return &wait.Backoff{Duration: 800 * time.Millisecond, Factor: 2, Jitter: 1, Cap: 5 * time.Second, Steps: 10}
}

// watched names the objects that a watch is for.
type watched struct {
	client    rest.Interface
	resource  string // plural, as in the URL and in a Role
	namespace string // "" for all
	labels    string // label selector; "" for all
	fields    string // field selector; "" for all
	example   runtime.Object
	optional  bool // a server that does not have the resource, or does not grant it, is as good as one without such objects
}

// follow keeps store up to date with the objects that w names until ctx ends. It lists by a stream where the server can
// (KEP-3157), so that no list is ever held as a whole. refused is told why the server refuses a request, each time that
// it does; accepted, whenever it granted a watch.
func follow(ctx context.Context, w watched, store cache.ReflectorStore, accepted func(), refused func(error)) {
	ctx = klog.NewContext(ctx, clientLog)
	defer collector.listed(store)
	options := func(o *meta.ListOptions) {
		o.LabelSelector = w.labels
		o.FieldSelector = w.fields
	}
	base := cache.NewFilteredListWatchFromClient(w.client, w.resource, w.namespace, options)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o meta.ListOptions) (runtime.Object, error) {
			collector.list(store)
			return base.ListWithContextFunc(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o meta.ListOptions) (watch.Interface, error) {
			if o.SendInitialEvents != nil && *o.SendInitialEvents {
				collector.list(store)
			}
			wi, err := base.WatchFuncWithContext(ctx, o)
			if err == nil {
				accepted()
			}
			return wi, err
		},
	}
	logger := clientLog
	r := cache.NewReflectorWithOptions(
		cache.ToListWatcherWithWatchListSemantics(lw, w.client), w.example, store,
		cache.ReflectorOptions{Name: "kubehosts", TypeDescription: w.resource, Logger: &logger, Backoff: backoff()},
	)

	// Not Reflector.Run, which would log each failed attempt.
	delay := backoff().DelayWithReset(clock.RealClock{}, 2*time.Minute)
	for ctx.Err() == nil {
		if err := r.ListAndWatchWithContext(ctx); ctx.Err() == nil && isRefusal(err) {
			collector.listed(store)
			refused(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay()):
		}
	}
}

// isRefusal reports whether err is the server's answer that a request may not be, or can't be, and not the sign of a
// server that is down, busy, or has forgotten an old resource version.
func isRefusal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= 400 && code < 500 &&
		code != http.StatusGone && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout
}

// refusal logs when the server refuses a watch, and when it no longer does.
type refusal struct {
	what     string // the objects, for the log
	optional bool   // they are of a CustomResourceDefinition, which the server may lack

	mu     sync.Mutex
	reason string // the one that was logged, "" when none stands
}

// set takes note that the server refuses, and reports whether the reason is a new one.
func (r *refusal) set(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == err.Error() {
		return false
	}
	r.reason = err.Error()
	hint := ""
	switch {
	case apierrors.IsForbidden(err):
		hint = "; grant this account list and watch"
	case r.optional && apierrors.IsNotFound(err):
		hint = "; install their CustomResourceDefinition"
	}
	log.Errorf("Kubernetes API refuses %s: %v; what was read before is still served%s; trying on", r.what, err, hint)
	return true
}

func (r *refusal) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason != "" {
		log.Infof("Kubernetes API no longer refuses %s", r.what)
		r.reason = ""
	}
}

// table is how objects of the type O, kept as *R, go into an index.
type table[O any, R any] struct {
	kind    string
	pack    func(*O) (*R, verdict)
	set     func(*services.Tx, *R)
	remove  func(*services.Tx, objectName)
	replace func(*services.Tx, []*R)
	known   func(*services.Index, *R) *R // the record that the index has already, if it equals this one; nil for none
	seen    func(*services.Index, *O)    // called after the change of the object is served; nil for none
}

// store is what a reflector writes into: it keeps nothing itself, all goes to the index.
type store[O any, R any] struct {
	table[O, R]
	group  *group
	listed func() // called after each full list, not under mu

	mu      sync.Mutex
	stopped bool
	passed  map[objectName]struct{} // what was seen and not kept, so that count is right when it goes
}

// packed is what stands for an object from the moment it was decoded: its record, or its name when nothing is kept.
type packed[R any] struct {
	record *R
	name   objectName
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
	record, _ := s.pack(o)
	if record != nil && s.known != nil {
		record = s.known(s.group.ix, record) // or all would be held twice while everything is listed again
	}
	return packed[R]{record, name}, nil
}

// open returns what obj is, and its name.
func (s *store[O, R]) open(obj any) (*O, objectName, error) {
	o, ok := obj.(*O)
	m, isObject := obj.(meta.Object)
	if !ok || !isObject {
		return nil, objectName{}, fmt.Errorf("%T is no %s", obj, s.kind)
	}
	return o, objectName{m.GetNamespace(), m.GetName()}, nil
}

// Add implements cache.ReflectorStore.
func (s *store[O, R]) Add(obj any) error { return s.change(obj, 1) }

// Update implements cache.ReflectorStore.
func (s *store[O, R]) Update(obj any) error { return s.change(obj, 0) }

// change takes in an object that is new (1) or known (0).
func (s *store[O, R]) change(obj any, more int) error {
	o, name, err := s.open(obj)
	if err != nil {
		return err
	}
	record, verdict := s.pack(o)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	_, passed := s.passed[name]
	known := more == 0 && !passed
	switch {
	case verdict == keep:
		s.group.ix.Update(func(tx *services.Tx) { s.set(tx, record) })
		if !known {
			s.group.count(s.kind, 1)
		}
		delete(s.passed, name)
	case verdict == ignore && known:
		return nil
	case known:
		s.group.ix.Update(func(tx *services.Tx) { s.remove(tx, name) })
		s.group.count(s.kind, -1)
		s.passed[name] = struct{}{}
	default:
		s.passed[name] = struct{}{}
	}
	if s.seen != nil {
		s.seen(s.group.ix, o)
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
	if _, passed := s.passed[name]; passed {
		delete(s.passed, name)
		return nil
	}
	s.group.ix.Update(func(tx *services.Tx) { s.remove(tx, name) })
	s.group.count(s.kind, -1)
	if s.seen != nil {
		s.seen(s.group.ix, o)
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *store[O, R]) Replace(list []any, _ string) error {
	records := make([]*R, 0, len(list))
	passed := make(map[objectName]struct{})
	for _, obj := range list {
		p, err := s.packAny(obj)
		if err != nil {
			return err
		}
		if p.record == nil {
			passed[p.name] = struct{}{}
			continue
		}
		records = append(records, p.record)
	}

	if s.replaceAll(records, passed) {
		s.listed()
	}
	collector.listed(s)
	return nil
}

func (s *store[O, R]) replaceAll(records []*R, passed map[objectName]struct{}) (done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.passed = passed
	s.group.ix.Update(func(tx *services.Tx) { s.replace(tx, records) })
	s.group.setCount(s.kind, len(records))
	return true
}

// Resync implements cache.ReflectorStore. There is nothing to do.
func (s *store[O, R]) Resync() error { return nil }

// stop makes the store deaf: a reflector may need a moment to end, and must not write meanwhile.
func (s *store[O, R]) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// The tables of an index. What is kept of EndpointSlices differs, so that theirs are made for each index.
var (
	namespaceTable = table[api.Namespace, namespace]{
		kind:   kindNamespace,
		pack:   toNamespace,
		set:    func(tx *services.Tx, ns *namespace) { tx.SetNamespace(ns.name) },
		remove: func(tx *services.Tx, n objectName) { tx.DeleteNamespace(n.name) },
		replace: func(tx *services.Tx, all []*namespace) {
			names := make([]string, len(all))
			for i, ns := range all {
				names[i] = ns.name
			}
			tx.ReplaceNamespaces(names)
		},
	}
	serviceTable = table[api.Service, services.Service]{
		kind:    kindService,
		pack:    toService,
		set:     (*services.Tx).SetService,
		remove:  func(tx *services.Tx, n objectName) { tx.DeleteService(n.namespace, n.name) },
		replace: (*services.Tx).ReplaceServices,
		known:   (*services.Index).KnownService,
	}
	podTable = table[api.Pod, services.Pod]{
		kind:    kindPod,
		pack:    toPod,
		set:     (*services.Tx).SetPod,
		remove:  func(tx *services.Tx, n objectName) { tx.DeletePod(n.namespace, n.name) },
		replace: (*services.Tx).ReplacePods,
	}
	serviceImportTable = imported(table[mcs.ServiceImport, services.Service]{
		kind:    kindServiceImport,
		pack:    toServiceImport,
		set:     (*services.Tx).SetService,
		remove:  func(tx *services.Tx, n objectName) { tx.DeleteService(n.namespace, n.name) },
		replace: (*services.Tx).ReplaceServices,
	})
)

// imported is t for what other clusters export.
func imported[O any, R any](t table[O, R]) table[O, R] {
	set, remove, replace := t.set, t.remove, t.replace
	t.set = func(tx *services.Tx, r *R) { set(tx.Imported(), r) }
	t.remove = func(tx *services.Tx, n objectName) { remove(tx.Imported(), n) }
	t.replace = func(tx *services.Tx, all []*R) { replace(tx.Imported(), all) }
	t.known = nil
	return t
}

// importedSliceTable does not measure: a slice that has a Service of this cluster too is measured as that one's.
func importedSliceTable(kept sliceParts) table[discovery.EndpointSlice, services.Slice] {
	t := imported(sliceTable(kept))
	t.kind, t.pack, t.seen = kindImportedSlice, toImportedSlice(kept), nil
	return t
}

func sliceTable(kept sliceParts) table[discovery.EndpointSlice, services.Slice] {
	return table[discovery.EndpointSlice, services.Slice]{
		kind:    kindSlice,
		pack:    toSlice(kept),
		set:     (*services.Tx).SetSlice,
		remove:  func(tx *services.Tx, n objectName) { tx.DeleteSlice(n.namespace, n.name) },
		replace: (*services.Tx).ReplaceSlices,
		known:   (*services.Index).KnownSlice,
		seen:    observeProgramming,
	}
}

// observeProgramming measures how long the change of es took to be served. Lists do not count: what they bring did not
// change just now. Nor does a slice whose Service is not known (yet), as in stock.
func observeProgramming(ix *services.Index, es *discovery.EndpointSlice) {
	stamp := es.Annotations[api.EndpointsLastChangeTriggerTime]
	if stamp == "" {
		return
	}
	changed, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		log.Debugf("EndpointSlice %s/%s: annotation %s is no time: %v", es.Namespace, es.Name, api.EndpointsLastChangeTriggerTime, err)
		return
	}
	svc := ix.State().Service(es.Namespace, es.Labels[discovery.LabelServiceName])
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
