// Package services is the index of a cluster's Services, endpoints, pods and namespaces: objects in, answers out.
//
// An Index has one State at a time, which never changes. Update makes the next one, which shares everything unchanged
// with the last, and publishes it at once. A query takes the State once and uses only that, so it sees one consistent
// moment, waits for nothing, and blocks nothing.
package services

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kubehosts/kubehosts/plugin/persistent"
	"github.com/kubehosts/kubehosts/plugin/serial"
)

// Index holds the current State. Make one with NewIndex.
type Index struct {
	state atomic.Pointer[State]

	mu    sync.Mutex // held by the one writer
	batch uint64
	// The names and addresses that a deleted or replaced object takes with it, by "namespace/name".
	slices         map[string]sliceID
	importedSlices map[string]sliceID
	pods           map[string]*Pod

	last sliceID   // the highest assigned so far
	free []sliceID // assigned before, now unused
}

// State is the content of an Index at one moment. It is safe for any number of readers.
type State struct {
	namespaces persistent.Trie[nameKey, struct{}]
	owners     persistent.Trie[nameKey, owner]
	imports    persistent.Trie[nameKey, owner] // ServiceImports and their slices, whose addresses are not indexed
	clusterIPs persistent.Trie[key16, holders[Service]]
	slices     persistent.Trie[sliceID, Slice] // imported ones too
	endpoints4 persistent.Trie[key4, sliceID]
	endpoints6 persistent.Trie[key16, sliceID]
	shared     persistent.Trie[key16, sharers] // of addresses in several slices
	pods       persistent.Trie[key16, holders[*Pod]]
	// All keys of clusterIPs, and of endpoints4 and endpoints6, in order.
	serviceAddrs, endpointAddrs addressSet
	modified                    serial.Stamp
	written                     uint32 // when the snapshot of restored was written, 0 without one
	version                     uint64
	listed                      Kinds // kinds whose objects were all listed
	restored                    Kinds // kinds whose objects come from a snapshot until they are listed
}

// sliceID is the reference from an address to a slice. It is half the size of a pointer, and the collector does not
// follow it. With a million endpoints, a collection takes half the time that it took with pointers to Slice structs. 0
// refers to no slice.
type sliceID uint32

// Hash spreads the numbers. The Index assigns them from 1 on, so an odd factor spreads them well enough.
func (k sliceID) Hash() uint64 { return uint64(k) * 0x9e3779b97f4a7c15 }

// The keys of the tries.
type (
	nameKey = persistent.NameKey
	key4    = persistent.Key4
	key16   = persistent.Key16
)

// severalSlices refers to the slices in State.shared.
const severalSlices = ^sliceID(0)

// NewIndex returns an empty Index, not synced.
func NewIndex() *Index {
	ix := &Index{slices: make(map[string]sliceID), importedSlices: make(map[string]sliceID), pods: make(map[string]*Pod)}
	ix.state.Store(new(State))
	return ix
}

// State returns the current State.
func (ix *Index) State() *State { return ix.state.Load() }

// Update calls change with a Tx and publishes its changes as one step. It is safe for concurrent use.
func (ix *Index) Update(change func(*Tx)) {
	ix.mu.Lock()
	defer ix.mu.Unlock()

	ix.batch++
	next := *ix.state.Load()
	tx := &Tx{ix: ix, state: &next, owners: &next.owners, slices: ix.slices, changed: new(Kinds)}
	before := next.listed | next.restored
	change(tx)
	if *tx.changed != 0 {
		next.version = versions.Add(1)
	}
	switch {
	case *tx.changed&before != 0:
		serial.Change(func(s serial.Stamp) {
			next.modified = s
			ix.state.Store(&next)
		})
		return
	case next.listed&^before != 0 || *tx.changed&^next.restored != 0: // nobody has seen it yet
		next.modified = serial.Open()
	}
	ix.state.Store(&next)
}

// Tx is a change to an Index. It is valid only inside Update. Setting an object that is nil, or equal to the current
// one, does nothing.
type Tx struct {
	ix       *Index
	state    *State
	owners   *persistent.Trie[nameKey, owner]
	slices   map[string]sliceID
	imported bool
	changed  *Kinds // of which objects changed
}

// Imported returns the Tx for the exports of other clusters (KEP-1645): its Services are ServiceImports, its slices
// the imported ones. Namespaces and Pods are the same for both.
func (tx *Tx) Imported() *Tx {
	imported := *tx
	imported.owners, imported.slices, imported.imported = &tx.state.imports, tx.ix.importedSlices, true
	return &imported
}

// kind returns the kind of the objects that tx changes: local, or imported if they are those of other clusters.
func (tx *Tx) kind(local, imported Kinds) Kinds {
	if tx.imported {
		return imported
	}
	return local
}

// SetNamespace adds a namespace.
func (tx *Tx) SetNamespace(name string) {
	if tx.state.namespaces.Find(nameKey(name)) != nil {
		return
	}
	tx.state.namespaces.Set(tx.ix.batch, nameKey(name), struct{}{})
	*tx.changed |= KindNamespace
}

// DeleteNamespace removes a namespace.
func (tx *Tx) DeleteNamespace(name string) {
	if tx.state.namespaces.Find(nameKey(name)) == nil {
		return
	}
	tx.state.namespaces.Delete(tx.ix.batch, nameKey(name))
	*tx.changed |= KindNamespace
}

// ReplaceNamespaces replaces all namespaces with names.
func (tx *Tx) ReplaceNamespaces(names []string) {
	keep := make(map[string]struct{}, len(names))
	for _, name := range names {
		keep[name] = struct{}{}
	}
	var gone []string
	for name := range tx.state.namespaces.All {
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

// SetService adds s, replacing the Service of its name if there is one.
func (tx *Tx) SetService(s *Service) {
	if s == nil {
		return
	}
	key := nameKey(s.Owner())
	old := tx.owners.Get(key)
	if old.service == *s {
		return
	}
	tx.unindexService(old.service)
	*tx.changed |= tx.kind(KindService, KindImport)
	old.service = *s
	tx.owners.Set(tx.ix.batch, key, old)
	if !tx.imported {
		for a := range s.Addrs().All {
			if addHolder(tx.ix.batch, &tx.state.clusterIPs, a, *s, byOwner(*s)) {
				tx.state.serviceAddrs.add(tx.ix.batch, a)
			}
		}
	}
}

// DeleteService removes the Service of that name. Its endpoints stay until their slices are deleted.
func (tx *Tx) DeleteService(namespace, name string) {
	tx.deleteService(nameKey(name + "." + namespace))
}

func (tx *Tx) deleteService(key nameKey) {
	old := tx.owners.Get(key)
	if old.service.IsZero() {
		return
	}
	tx.unindexService(old.service)
	old.service = Service{}
	tx.putOwner(key, old)
	*tx.changed |= tx.kind(KindService, KindImport)
}

func (tx *Tx) unindexService(s Service) {
	if s.IsZero() || tx.imported {
		return
	}
	for a := range s.Addrs().All {
		if delHolder(tx.ix.batch, &tx.state.clusterIPs, a, byOwner(s)) {
			tx.state.serviceAddrs.del(tx.ix.batch, a)
		}
	}
}

// putOwner stores o under key, or removes the key if o is empty.
func (tx *Tx) putOwner(key nameKey, o owner) {
	if o.service.IsZero() && o.empty() {
		tx.owners.Delete(tx.ix.batch, key)
		return
	}
	tx.owners.Set(tx.ix.batch, o.key(), o)
}

// ReplaceServices replaces all Services with all. It skips those that are nil.
func (tx *Tx) ReplaceServices(all []*Service) {
	keep := make(map[string]struct{}, len(all))
	for _, s := range all {
		if s != nil {
			keep[s.Owner()] = struct{}{}
		}
	}
	var gone []nameKey
	for name, o := range tx.owners.All {
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

// SetSlice adds s, replacing the EndpointSlice of its name if there is one.
func (tx *Tx) SetSlice(s *Slice) {
	if s == nil {
		return
	}
	id := tx.slices[s.key()]
	old := tx.state.slices.Get(id)
	switch {
	case old == *s:
		return
	case old.IsZero():
		id = tx.ix.newID()
	default:
		tx.unindexSlice(id, old)
	}
	tx.state.slices.Set(tx.ix.batch, id, *s)
	tx.indexSlice(id, *s)
	tx.slices[s.key()] = id
	*tx.changed |= tx.kind(KindSlice, KindImportedSlice)
}

// newID returns an unused number.
func (ix *Index) newID() sliceID {
	if n := len(ix.free); n > 0 {
		id := ix.free[n-1]
		ix.free = ix.free[:n-1]
		return id
	}
	ix.last++
	return ix.last
}

// KnownSlice returns s or, if it equals the EndpointSlice in ix, the latter's storage of it.
func (ix *Index) KnownSlice(s *Slice) *Slice {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if old := ix.State().slices.Get(ix.slices[s.key()]); old == *s {
		*s = old
	}
	return s
}

// KnownService returns s or, if it equals the Service in ix, the latter's storage of it.
func (ix *Index) KnownService(s *Service) *Service {
	if old := ix.State().ServiceOf(s.Owner()); old == *s {
		*s = old
	}
	return s
}

// DeleteSlice removes the EndpointSlice of that name.
func (tx *Tx) DeleteSlice(namespace, name string) { tx.deleteSlice(namespace + "/" + name) }

func (tx *Tx) deleteSlice(key string) {
	id := tx.slices[key]
	if id == 0 {
		return
	}
	tx.unindexSlice(id, tx.state.slices.Get(id))
	tx.state.slices.Delete(tx.ix.batch, id)
	delete(tx.slices, key)
	tx.ix.free = append(tx.ix.free, id)
	*tx.changed |= tx.kind(KindSlice, KindImportedSlice)
}

// ReplaceSlices replaces all EndpointSlices with all. It skips those that are nil.
func (tx *Tx) ReplaceSlices(all []*Slice) {
	keep := make(map[string]struct{}, len(all))
	for _, s := range all {
		if s != nil {
			keep[s.key()] = struct{}{}
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

func (tx *Tx) indexSlice(id sliceID, s Slice) {
	repeated := 0
	if !tx.imported {
		addrs := s.Addrs()
		for from, to := range s.spans {
			repeated += tx.addAddr(addrs.at(from), id, s, from, to)
		}
	}
	old := tx.owners.Get(nameKey(s.Owner()))
	tx.putOwner(nameKey(s.Owner()), old.with(tx.ix.batch, s, repeated))
}

func (tx *Tx) unindexSlice(id sliceID, s Slice) {
	repeated := 0
	if !tx.imported {
		addrs := s.Addrs()
		for from, to := range s.spans {
			repeated += tx.delAddr(addrs.at(from), id, s, from, to)
		}
	}
	old := tx.owners.Get(nameKey(s.Owner()))
	tx.putOwner(nameKey(s.Owner()), old.without(tx.ix.batch, s, repeated))
}

// SetPod adds p, replacing the Pod of its name if there is one.
func (tx *Tx) SetPod(p *Pod) {
	if p == nil {
		return
	}
	old := tx.ix.pods[p.object]
	if old != nil {
		tx.unindexPod(old)
	}
	if old == nil || old.addrs != p.addrs {
		*tx.changed |= KindPod
	}
	for a := range p.Addrs().All {
		addHolder(tx.ix.batch, &tx.state.pods, a, p, byObject(p))
	}
	tx.ix.pods[p.object] = p
}

func (tx *Tx) unindexPod(p *Pod) {
	for a := range p.Addrs().All {
		delHolder(tx.ix.batch, &tx.state.pods, a, byObject(p))
	}
}

// DeletePod removes the Pod of that name.
func (tx *Tx) DeletePod(namespace, name string) { tx.deletePod(namespace + "/" + name) }

func (tx *Tx) deletePod(key string) {
	old := tx.ix.pods[key]
	if old == nil {
		return
	}
	tx.unindexPod(old)
	delete(tx.ix.pods, key)
	*tx.changed |= KindPod
}

// ReplacePods replaces all Pods with all. It skips those that are nil.
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

// addHolder adds v to the holders of the address a, in the order that compare defines, and reports whether v is the
// first.
func addHolder[T any](batch uint64, t *persistent.Trie[key16, holders[T]], a netip.Addr, v T, compare func(T) int) (first bool) {
	h := t.Find(a.As16())
	if h == nil {
		t.Set(batch, a.As16(), holders[T]{one: v})
		return true
	}
	t.Set(batch, a.As16(), h.with(batch, v, compare))
	return false
}

// delHolder removes the holder for which compare returns 0, and reports whether it was the last.
func delHolder[T any](batch uint64, t *persistent.Trie[key16, holders[T]], a netip.Addr, compare func(T) int) (last bool) {
	h := t.Find(a.As16())
	if h == nil {
		return false
	}
	left, empty := h.without(batch, compare)
	if empty {
		t.Delete(batch, a.As16())
		return true
	}
	t.Set(batch, a.As16(), left)
	return false
}

// versions counts the changes of all Indexes.
var versions atomic.Uint64

// Version differs after each change and between Indexes. It is 0 before the first change.
func (s *State) Version() uint64 { return s.version }

// Modified returns the serial of the zones. It rises with each change, and when objects are listed for the first time.
// It is the zero Stamp before the first change, and for the objects of a snapshot: their zones have the serial of the
// snapshot.
func (s *State) Modified() serial.Stamp { return s.modified }

// Service returns the Service of that name, or the zero Service.
func (s *State) Service(namespace, name string) Service {
	return s.ServiceOf(name + "." + namespace)
}

// ServiceOf returns the Service with the two labels owner, "name.namespace", or the zero Service.
func (s *State) ServiceOf(owner string) Service {
	return s.owners.Get(nameKey(owner)).service
}

// Owned returns the same as ServiceOf or, if imported, the ServiceImport with the labels owner.
func (s *State) Owned(owner string, imported bool) Service {
	return s.ownersOf(imported).Get(nameKey(owner)).service
}

// Served returns the Services that the options serve, or the imported ones, sorted by name and namespace.
func (s *State) Served(o *Options, imported bool) []Service {
	var all []Service
	for _, own := range s.ownersOf(imported).All {
		if svc := own.service; !svc.IsZero() && s.exposed(svc.Namespace(), o) {
			all = append(all, svc)
		}
	}
	slices.SortFunc(all, func(a, b Service) int { return strings.Compare(a.Owner(), b.Owner()) })
	return all
}

func (s *State) ownersOf(imported bool) *persistent.Trie[nameKey, owner] {
	if imported {
		return &s.imports
	}
	return &s.owners
}

// SlicesOf returns the EndpointSlices, or the imported ones, of the Service with the two labels owner. The caller must
// not change the list.
func (s *State) SlicesOf(owner string, imported bool) []Slice {
	if o := s.ownersOf(imported).Find(nameKey(owner)); o != nil {
		return o.slices()
	}
	return nil
}

// SlicesWith yields the EndpointSlices that have a ready endpoint with the address a.
func (s *State) SlicesWith(a netip.Addr) iter.Seq[Slice] {
	a = a.Unmap()
	return func(yield func(Slice) bool) {
		switch id := s.idOf(a); id {
		case 0:
		case severalSlices:
			for e := range s.sharersOf(a).each {
				sl := s.slices.Get(e.id)
				if from, _ := (sorted{sl.Addrs()}).find(a); from == int(e.at) && !yield(sl) { // once for each slice
					return
				}
			}
		default:
			yield(s.slices.Get(id))
		}
	}
}

func (s *State) sharersOf(a netip.Addr) *sharers {
	if h := s.shared.Find(a.As16()); h != nil {
		return h
	}
	return new(sharers)
}

// PodWith returns the Pod with the address a, nil if there is none or more than one: pods on the host network share its
// address, and an answer for any of them would be a guess. It allocates nothing.
func (s *State) PodWith(a netip.Addr) *Pod {
	if h := s.pods.Find(a.As16()); h != nil {
		return h.one // nil if there are several
	}
	return nil
}
