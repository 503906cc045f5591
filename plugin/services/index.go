// Package services is the index of a cluster's Services, endpoints, pods and namespaces: objects in, answers out.
//
// An Index has one State at a time, which never changes. Update makes the next one, sharing with the last whatever did
// not change, and publishes it at once. A query takes the State once and asks only that, so it sees one consistent
// moment, waits for nobody, and holds nobody up.
package services

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Index holds the current State. Make one with NewIndex.
type Index struct {
	state atomic.Pointer[State]

	mu    sync.Mutex // held by the one writer
	batch uint64
	// What a deleted or replaced object takes with it, by "namespace/name".
	slices         map[string]*Slice
	importedSlices map[string]*Slice
	pods           map[string]*Pod
}

// State is what an Index held at one moment. It is safe for any number of readers.
type State struct {
	namespaces trie[nameKey, struct{}]
	owners     trie[nameKey, owner]
	imports    trie[nameKey, owner] // ServiceImports and their slices, whose addresses are not indexed
	clusterIPs trie[key16, holders[Service]]
	endpoints4 trie[key4, *Slice]
	endpoints6 trie[key16, *Slice]
	pods       trie[key16, holders[*Pod]]
	modified   uint32
	written    uint32 // when the snapshot was written that this is from, 0 for none
	version    uint64
	synced     bool
}

// owner is what stands under one "service.namespace": the Service, and the slices that name it.
type owner struct {
	service Service   // none when only slices name it
	slices  *sliceSet // nil for none
}

// sliceSet are the slices of one owner.
type sliceSet struct {
	all      []*Slice
	one      [1]*Slice // what all is of where there is one slice, nearly always: it needs no storage of its own then
	ready    int       // addresses in all
	repeated int       // addresses that stand in more than one of all
}

// hold makes all what the set holds.
func (s *sliceSet) hold(all []*Slice) {
	s.all, s.one[0] = all, nil
	if len(all) == 1 {
		s.one[0] = all[0]
		s.all = s.one[:]
	}
}

func (o *owner) all() []*Slice {
	if o.slices == nil {
		return nil
	}
	return o.slices.all
}

func (o *owner) ready() int {
	if o.slices == nil {
		return 0
	}
	return o.slices.ready
}

// holders are the objects that have an address, nearly always one: a list of one would be one more thing to fetch.
type holders[T comparable] struct {
	first T
	more  []T
}

func (h *holders[T]) all() []T { return append([]T{h.first}, h.more...) }

// any reports whether ok is true for one of them. It allocates nothing.
func (h *holders[T]) any(ok func(T) bool) bool { return ok(h.first) || slices.ContainsFunc(h.more, ok) }

// NewIndex returns an empty Index, not synced.
func NewIndex() *Index {
	ix := &Index{slices: make(map[string]*Slice), importedSlices: make(map[string]*Slice), pods: make(map[string]*Pod)}
	ix.state.Store(new(State))
	return ix
}

// State returns the current State.
func (ix *Index) State() *State { return ix.state.Load() }

// Update calls change with a Tx and publishes what it did as one step. It is safe for concurrent use.
func (ix *Index) Update(change func(*Tx)) {
	ix.mu.Lock()
	defer ix.mu.Unlock()

	ix.batch++
	next := *ix.state.Load()
	tx := &Tx{ix: ix, state: &next, owners: &next.owners, slices: ix.slices, changed: new(bool)}
	change(tx)
	if *tx.changed {
		next.modified = serialAt(time.Now(), next.modified)
		next.version = versions.Add(1)
	}
	ix.state.Store(&next)
}

// serialAt is the SOA serial of a change now, after the serial last: the time, or one more where the clock was set back,
// as whoever transfers a zone takes no serial that is not above its own (RFC 1982).
func serialAt(now time.Time, last uint32) uint32 {
	serial := uint32(now.Unix())             // #nosec G115 -- an SOA serial wraps
	if last != 0 && int32(serial-last) < 0 { // #nosec G115 -- the comparison of RFC 1982, section 3.2
		return last + 1
	}
	return serial
}

// Tx is a change to an Index that is being made. It is only good inside Update. Setting an object that is nil does
// nothing; setting one that equals what is there does nothing either.
type Tx struct {
	ix       *Index
	state    *State
	owners   *trie[nameKey, owner]
	slices   map[string]*Slice
	imported bool
	changed  *bool
}

// Imported returns the Tx for what other clusters export (KEP-1645): its Services are ServiceImports, its slices the
// imported ones. Namespaces and Pods are the same for both.
func (tx *Tx) Imported() *Tx {
	imported := *tx
	imported.owners, imported.slices, imported.imported = &tx.state.imports, tx.ix.importedSlices, true
	return &imported
}

// SetSynced says that everything which is to be served was seen once. Nothing is left of a snapshot then.
func (tx *Tx) SetSynced() { tx.state.synced, tx.state.written = true, 0 }

// SetSnapshot says that what was set is out of a snapshot, written at that Unix time in seconds, and stands in for what
// is to be served until SetSynced.
func (tx *Tx) SetSnapshot(written uint32) { tx.state.written = max(1, written) }

// SetNamespace adds a namespace.
func (tx *Tx) SetNamespace(name string) {
	if tx.state.namespaces.find(nameKey(name)) != nil {
		return
	}
	tx.state.namespaces.set(tx.ix.batch, nameKey(name), struct{}{})
	*tx.changed = true
}

// DeleteNamespace takes a namespace out.
func (tx *Tx) DeleteNamespace(name string) {
	if tx.state.namespaces.find(nameKey(name)) == nil {
		return
	}
	tx.state.namespaces.del(tx.ix.batch, nameKey(name))
	*tx.changed = true
}

// ReplaceNamespaces makes names all the namespaces there are.
func (tx *Tx) ReplaceNamespaces(names []string) {
	keep := make(map[string]struct{}, len(names))
	for _, name := range names {
		keep[name] = struct{}{}
	}
	var gone []string
	for name := range tx.state.namespaces.all {
		if _, ok := keep[string(name)]; !ok {
			gone = append(gone, string(name))
		}
	}
	for _, name := range gone {
		tx.DeleteNamespace(name)
	}
	for _, name := range names {
		tx.SetNamespace(name)
	}
}

// SetService adds s, in place of the Service of its name if there is one.
func (tx *Tx) SetService(s *Service) {
	if s == nil {
		return
	}
	key := nameKey(s.Owner())
	old := tx.owners.get(key)
	if old.service == *s {
		return
	}
	tx.unindexService(old.service)
	*tx.changed = true
	tx.owners.set(tx.ix.batch, key, owner{*s, old.slices})
	if !tx.imported {
		addHolder(tx.ix.batch, &tx.state.clusterIPs, s.Addrs(), *s)
	}
}

// DeleteService takes the Service of that name out. Its endpoints stay until their slices go.
func (tx *Tx) DeleteService(namespace, name string) {
	tx.deleteService(nameKey(name + "." + namespace))
}

func (tx *Tx) deleteService(key nameKey) {
	old := tx.owners.get(key)
	if old.service.IsZero() {
		return
	}
	tx.unindexService(old.service)
	tx.putOwner(key, owner{slices: old.slices})
	*tx.changed = true
}

func (tx *Tx) unindexService(s Service) {
	if !s.IsZero() && !tx.imported {
		delHolder(tx.ix.batch, &tx.state.clusterIPs, s.Addrs(), s)
	}
}

// putOwner stores o, or takes it out if nothing is left of it.
func (tx *Tx) putOwner(key nameKey, o owner) {
	if o.service.IsZero() && o.slices == nil {
		tx.owners.del(tx.ix.batch, key)
		return
	}
	tx.owners.set(tx.ix.batch, key, o)
}

// ReplaceServices makes all the Services there are. It skips those that are nil.
func (tx *Tx) ReplaceServices(all []*Service) {
	keep := make(map[string]struct{}, len(all))
	for _, s := range all {
		if s != nil {
			keep[s.Owner()] = struct{}{}
		}
	}
	var gone []nameKey
	for name, o := range tx.owners.all {
		if _, ok := keep[string(name)]; !ok && !o.service.IsZero() {
			gone = append(gone, name)
		}
	}
	for _, key := range gone {
		tx.deleteService(key)
	}
	for _, s := range all {
		tx.SetService(s)
	}
}

// SetSlice adds s, in place of the EndpointSlice of its name if there is one.
func (tx *Tx) SetSlice(s *Slice) {
	if s == nil {
		return
	}
	old := tx.slices[s.object]
	if s.equal(old) {
		return
	}
	if old != nil {
		tx.unindexSlice(old)
	}
	tx.indexSlice(s)
	tx.slices[s.object] = s
	*tx.changed = true
}

// KnownSlice returns the EndpointSlice that ix has, if it equals s, else s.
func (ix *Index) KnownSlice(s *Slice) *Slice {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if old := ix.slices[s.object]; s.equal(old) {
		return old
	}
	return s
}

// KnownService returns s, in the storage of the Service that ix has if it equals s.
func (ix *Index) KnownService(s *Service) *Service {
	if old := ix.State().ServiceOf(s.Owner()); old == *s {
		*s = old
	}
	return s
}

// DeleteSlice takes the EndpointSlice of that name out.
func (tx *Tx) DeleteSlice(namespace, name string) { tx.deleteSlice(namespace + "/" + name) }

func (tx *Tx) deleteSlice(key string) {
	old := tx.slices[key]
	if old == nil {
		return
	}
	tx.unindexSlice(old)
	delete(tx.slices, key)
	*tx.changed = true
}

// ReplaceSlices makes all the EndpointSlices there are. It skips those that are nil.
func (tx *Tx) ReplaceSlices(all []*Slice) {
	keep := make(map[string]struct{}, len(all))
	for _, s := range all {
		if s != nil {
			keep[s.object] = struct{}{}
		}
	}
	for key := range tx.slices {
		if _, ok := keep[key]; !ok {
			tx.deleteSlice(key)
		}
	}
	for _, s := range all {
		tx.SetSlice(s)
	}
}

func (tx *Tx) indexSlice(s *Slice) {
	old := tx.owners.get(nameKey(s.owner))
	var next sliceSet
	if old.slices != nil {
		next = *old.slices
		s.owner = next.all[0].owner // one string for all that belong together; s is not published yet
	} else if !old.service.IsZero() {
		s.owner = old.service.Owner()
	}
	key := nameKey(s.owner)
	next.hold(append(slices.Clone(next.all), s))
	next.ready += s.addrs.len()
	if tx.imported {
		next.repeated++ // not counted, so taken for granted
		tx.owners.set(tx.ix.batch, key, owner{old.service, &next})
		return
	}

	addrs := s.Addrs()
	for i := range addrs.Len4() {
		k := key4(addrs.At4(i))
		if joined, shared, ok := tx.state.endpoints4.get(k).join(s); ok {
			tx.state.endpoints4.set(tx.ix.batch, k, joined)
			next.repeated += shared
		}
	}
	for i := range addrs.Len6() {
		k := key16(addrs.At6(i))
		if joined, shared, ok := tx.state.endpoints6.get(k).join(s); ok {
			tx.state.endpoints6.set(tx.ix.batch, k, joined)
			next.repeated += shared
		}
	}
	tx.owners.set(tx.ix.batch, key, owner{old.service, &next})
}

func (tx *Tx) unindexSlice(s *Slice) {
	key := nameKey(s.owner)
	old := tx.owners.get(key)
	next := *old.slices
	next.hold(slices.DeleteFunc(slices.Clone(next.all), func(o *Slice) bool { return o == s }))
	next.ready -= s.addrs.len()
	put := func() {
		if old.slices = &next; len(next.all) == 0 {
			old.slices = nil
		}
		tx.putOwner(key, old)
	}
	if tx.imported {
		next.repeated--
		put()
		return
	}

	addrs := s.Addrs()
	for i := range addrs.Len4() {
		k := key4(addrs.At4(i))
		rest, shared, ok := tx.state.endpoints4.get(k).part(s)
		if !ok {
			continue
		}
		next.repeated -= shared
		if rest == nil {
			tx.state.endpoints4.del(tx.ix.batch, k)
			continue
		}
		tx.state.endpoints4.set(tx.ix.batch, k, rest)
	}
	for i := range addrs.Len6() {
		k := key16(addrs.At6(i))
		rest, shared, ok := tx.state.endpoints6.get(k).part(s)
		if !ok {
			continue
		}
		next.repeated -= shared
		if rest == nil {
			tx.state.endpoints6.del(tx.ix.batch, k)
			continue
		}
		tx.state.endpoints6.set(tx.ix.batch, k, rest)
	}
	put()
}

// each yields the slices that s stands for.
func (s *Slice) each(yield func(*Slice) bool) {
	switch {
	case s == nil:
	case s.several == nil:
		yield(s)
	default:
		for _, one := range s.several {
			if !yield(one) {
				return
			}
		}
	}
}

// join returns what an address that s was indexed under is indexed under when o has it too. shared is 1 if another slice
// of o's Service has the address, else 0. ok is false if o is there already.
func (s *Slice) join(o *Slice) (joined *Slice, shared int, ok bool) {
	if s == nil { // nearly always
		return o, 0, true
	}
	all := slices.Collect(s.each)
	if slices.Contains(all, o) {
		return nil, 0, false
	}
	return &Slice{several: append(all, o)}, sharedBy(all, o), true
}

// part undoes join: it returns what is left without o, nil if nothing is.
func (s *Slice) part(o *Slice) (rest *Slice, shared int, ok bool) {
	if s == o {
		return nil, 0, o != nil
	}
	all := slices.Collect(s.each)
	if !slices.Contains(all, o) {
		return nil, 0, false
	}
	left := slices.DeleteFunc(all, func(x *Slice) bool { return x == o })
	if len(left) == 1 {
		return left[0], sharedBy(left, o), true
	}
	return &Slice{several: left}, sharedBy(left, o), true
}

// sharedBy returns 1 if one of all belongs to the Service of o, else 0.
func sharedBy(all []*Slice, o *Slice) int {
	for _, s := range all {
		if s.owner == o.owner {
			return 1
		}
	}
	return 0
}

// SetPod adds p, in place of the Pod of its name if there is one.
func (tx *Tx) SetPod(p *Pod) {
	if p == nil {
		return
	}
	if old := tx.ix.pods[p.object]; old != nil {
		delHolder(tx.ix.batch, &tx.state.pods, old.addrs.view(), old)
		*tx.changed = *tx.changed || old.addrs != p.addrs
	} else {
		*tx.changed = true
	}
	addHolder(tx.ix.batch, &tx.state.pods, p.addrs.view(), p)
	tx.ix.pods[p.object] = p
}

// DeletePod takes the Pod of that name out.
func (tx *Tx) DeletePod(namespace, name string) { tx.deletePod(namespace + "/" + name) }

func (tx *Tx) deletePod(key string) {
	old := tx.ix.pods[key]
	if old == nil {
		return
	}
	delHolder(tx.ix.batch, &tx.state.pods, old.addrs.view(), old)
	delete(tx.ix.pods, key)
	*tx.changed = true
}

// ReplacePods makes all the Pods there are. It skips those that are nil.
func (tx *Tx) ReplacePods(all []*Pod) {
	keep := make(map[string]struct{}, len(all))
	for _, p := range all {
		if p != nil {
			keep[p.object] = struct{}{}
		}
	}
	for key := range tx.ix.pods {
		if _, ok := keep[key]; !ok {
			tx.deletePod(key)
		}
	}
	for _, p := range all {
		tx.SetPod(p)
	}
}

func addHolder[T comparable](batch uint64, t *trie[key16, holders[T]], addrs Addrs, v T) {
	for addr := range addrs.All {
		a := key16(addr.As16())
		h := t.find(a)
		switch {
		case h == nil:
			t.set(batch, a, holders[T]{first: v})
		case !slices.Contains(h.all(), v):
			t.set(batch, a, holders[T]{h.first, append(slices.Clone(h.more), v)})
		}
	}
}

func delHolder[T comparable](batch uint64, t *trie[key16, holders[T]], addrs Addrs, v T) {
	for addr := range addrs.All {
		a := key16(addr.As16())
		h := t.find(a)
		if h == nil {
			continue
		}
		rest := slices.DeleteFunc(h.all(), func(o T) bool { return o == v })
		if len(rest) == 0 {
			t.del(batch, a)
			continue
		}
		t.set(batch, a, holders[T]{rest[0], slices.Clip(rest[1:])})
	}
}

// Synced reports whether everything which is to be served was seen once.
func (s *State) Synced() bool { return s.synced }

// Snapshot returns the Unix time, in seconds, at which the snapshot was written that answers come from, in part at least:
// 0 if they come from none.
func (s *State) Snapshot() uint32 { return s.written }

// versions counts the changes of all Indexes.
var versions atomic.Uint64

// Version is another one after each change, and for no two Indexes the same but for 0, before the first.
func (s *State) Version() uint64 { return s.version }

// Modified returns the serial of the zones: the Unix time of the last change, in seconds, but that it never falls.
func (s *State) Modified() uint32 { return s.modified }

// Service returns the Service of that name, or none.
func (s *State) Service(namespace, name string) Service {
	return s.ServiceOf(name + "." + namespace)
}

// ServiceOf returns the Service that stands under the two labels owner, "name.namespace", or none.
func (s *State) ServiceOf(owner string) Service {
	return s.owners.get(nameKey(owner)).service
}

// Served returns the Services that the options serve, or the imported ones, sorted by name and namespace.
func (s *State) Served(o *Options, imported bool) []Service {
	var all []Service
	for _, own := range s.ownersOf(imported).all {
		if svc := own.service; !svc.IsZero() && s.exposed(svc.Namespace(), o) {
			all = append(all, svc)
		}
	}
	slices.SortFunc(all, func(a, b Service) int { return strings.Compare(a.Owner(), b.Owner()) })
	return all
}

func (s *State) ownersOf(imported bool) *trie[nameKey, owner] {
	if imported {
		return &s.imports
	}
	return &s.owners
}

// SlicesOf returns the EndpointSlices, or the imported ones, of the Service that stands under the two labels owner. The
// caller must not change the list.
func (s *State) SlicesOf(owner string, imported bool) []*Slice {
	o := s.ownersOf(imported).get(nameKey(owner))
	return o.all()
}

// Addresses yields every address that Pointers has a name for, and addresses that it has none for, each once or twice.
func (s *State) Addresses(yield func(netip.Addr) bool) {
	for a := range s.clusterIPs.all {
		if !yield(netip.AddrFrom16(a).Unmap()) {
			return
		}
	}
	for a := range s.endpoints4.all {
		if !yield(netip.AddrFrom4(a)) {
			return
		}
	}
	for a := range s.endpoints6.all {
		if !yield(netip.AddrFrom16(a)) {
			return
		}
	}
}

// SlicesWith yields the EndpointSlices in which an endpoint with the address a is ready.
func (s *State) SlicesWith(a netip.Addr) iter.Seq[*Slice] { return s.sliceWith(a).each }

// sliceWith returns what the address a of an endpoint is indexed under, nil if there is none.
func (s *State) sliceWith(a netip.Addr) *Slice {
	if a = a.Unmap(); a.Is4() {
		return s.endpoints4.get(a.As4())
	}
	return s.endpoints6.get(a.As16())
}

// PodsWith returns the Pods that have the address a.
func (s *State) PodsWith(a netip.Addr) []*Pod {
	h := s.pods.find(a.As16())
	if h == nil {
		return nil
	}
	return h.all()
}
