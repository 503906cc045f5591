package external

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/kubehosts/kubehosts/plugin/persistent"
	"github.com/kubehosts/kubehosts/plugin/serial"
)

// Index holds the current State. Make one with NewIndex.
type Index struct {
	state atomic.Pointer[State]

	mu        sync.Mutex // held by the one writer
	batch     uint64
	ids       numbers          // of objects
	sharedIDs numbers          // of shared parts
	uses      map[sharedID]int // the number of objects that have a shared part

	watching sync.Mutex // held while watchers are notified of a change
	watchers map[*Conflicts]struct{}
}

// State is the content of an Index at one moment. It is safe for any number of readers. Of 50,000 HTTPRoutes with one
// host, each took 71 octets: 28 in objects (39 if the host was not the route's name in the zone), 20 in slots, 9 in
// claims, and 5 each in keys and referring.
type State struct {
	objects   persistent.Strings               // the number of the shared part, and the own part
	shared    persistent.Strings               // shared parts of objects
	sharing   persistent.Ordered[sharedID]     // shared parts, by their text
	keys      persistent.Ordered[objectID]     // all, by kind, namespace and name
	slots     persistent.Trie[nameHash, claim] // of plain names, by name: the claim, or severalClaims
	others    persistent.Trie[nameHash, claim] // likewise of names of other sorts, mostly far fewer: each query looks for several, most in vain
	several   persistent.Trie[nameHash, uint32]
	claims    persistent.Ordered[claim]         // all, by name and then by age
	groups    persistent.Ordered[claim]         // of names with severalClaims, by name, group and age
	below     persistent.Trie[nameHash, uint32] // number of names below a name
	children  persistent.Ordered[child]         // shared parts that refer to a Gateway or a ListenerSet, by that
	referring persistent.Ordered[objectID]      // objects with such a shared part, by that
	balancers persistent.Ordered[balancer]      // addresses of load balancers, by address
	counts    [kinds]int                        // objects
	wildcards int                               // claims of wildcards
	modified  serial.Stamp
	written   uint32 // when the snapshot of restored was written, 0 without one
	version   uint64
	listed    Kinds // kinds whose objects were all listed
	restored  Kinds // kinds whose objects come from a snapshot until they are listed
}

// objectID refers to an object. 0 refers to none.
type objectID uint32

// claim is a name that an object claims: the object, and the offset of the name's entry in the own part of the packed
// form.
type claim struct {
	id objectID
	at uint32
}

// severalClaims marks a slot whose claims are in State.claims, because they have the same name or the same hash.
const severalClaims = ^objectID(0)

// nameHash is the hash of a name. Names of different sorts have different hashes.
type nameHash uint32

// Hash implements persistent.Hashable: an odd factor brings the bits up to the highest ones.
func (h nameHash) Hash() uint64 { return uint64(h) * 0x9e3779b97f4a7c15 }

// The sorts of names.
const (
	plain      nameHash = 0
	wild       nameHash = 0x5bd1e995 // of the name that a wildcard is below
	direct     nameHash = 0x1b873593 // "name.namespace" of a Service, below any zone
	nodeName   nameHash = 0xcc9e2d51 // of a Node, below any zone
	namespaced nameHash = 0x85ebca6b // of a Namespace
)

// The seed is random, so nobody can prepare names that all have one hash.
var seed = maphash.MakeSeed()

func hashOf(name string) nameHash { return nameHash(maphash.String(seed, name)) } // #nosec G115 -- half of it is enough

// NewIndex returns an empty Index, not synced.
func NewIndex() *Index {
	ix := &Index{uses: make(map[sharedID]int), watchers: make(map[*Conflicts]struct{})}
	ix.state.Store(new(State))
	return ix
}

// State returns the current State.
func (ix *Index) State() *State { return ix.state.Load() }

// Update calls change with a Tx and publishes its changes as one step. Then it calls the watchers. It is safe for
// concurrent use. If change panics nothing is published.
func (ix *Index) Update(change func(*Tx)) {
	s, touched := ix.update(change)
	defer ix.watching.Unlock()
	for c := range ix.watchers {
		c.changed(s, touched)
	}
}

// update returns with watching locked, so that watchers get changes in their order.
func (ix *Index) update(change func(*Tx)) (*State, *touched) {
	ix.mu.Lock()
	defer ix.mu.Unlock()

	ix.batch++
	next := *ix.state.Load()
	tx := &Tx{ix: ix, state: &next, batch: ix.batch, ids: ix.ids, sharedIDs: ix.sharedIDs, dirty: newDirty()}
	before := next.listed | next.restored
	change(tx)
	tx.settle()
	if tx.changed != 0 {
		next.version = versions.Add(1)
	}
	tx.touched.compact()
	ix.ids, ix.sharedIDs = tx.ids.published(), tx.sharedIDs.published()
	for id, n := range tx.uses {
		if ix.uses[id] += n; ix.uses[id] == 0 {
			delete(ix.uses, id)
		}
	}
	ix.watching.Lock()
	switch {
	case tx.changed&before != 0:
		serial.Change(func(s serial.Stamp) {
			next.modified = s
			ix.state.Store(&next)
		})
		return &next, &tx.touched
	case next.listed&^before != 0 || tx.changed&^next.restored != 0: // nobody has seen it yet
		next.modified = serial.Open()
	}
	ix.state.Store(&next)
	return &next, &tx.touched
}

// versions counts the changes of all Indexes.
var versions atomic.Uint64

// Version differs after each change and between Indexes. It is 0 before the first change.
func (s *State) Version() uint64 { return s.version }

// Modified returns the serial of the zones. It rises with each change, and when objects are listed for the first time.
// It is the zero Stamp before the first change, and for the objects of a snapshot: their zones have the serial of the
// snapshot.
func (s *State) Modified() serial.Stamp { return s.modified }

// Known returns o or, if it equals the object in ix, the latter's storage of it. It returns nil for nil.
func (ix *Index) Known(o *Object) *Object {
	if o == nil {
		return nil
	}
	s := ix.State()
	if old := s.at(s.find(o.Ref())); !old.none() && rawOf(old) == o.packed {
		o.packed = rawOf(old)
	}
	return o
}

// Len returns the number of objects of the kind.
func (s *State) Len(kind Kind) int { return s.counts[kind] }

// Objects returns an iterator over the objects of the kind, by namespace and name.
func (s *State) Objects(kind Kind) func(yield func(*Object) bool) {
	return func(yield func(*Object) bool) {
		for _, packed := range s.from(Ref{Kind: kind}) {
			if kindOf(packed) != kind || !yield(&Object{rawOf(packed)}) {
				return
			}
		}
	}
}

// Object returns the object that ref names, nil if there is none.
func (s *State) Object(ref Ref) *Object {
	if packed := s.at(s.find(ref)); !packed.none() {
		return &Object{rawOf(packed)}
	}
	return nil
}

// byKey returns the order of keys.
func (s *State) byKey(ref Ref) func(objectID) int {
	return func(id objectID) int { return compareKeys(s.at(id), ref) }
}

// find returns the object that ref names, 0 if there is none.
func (s *State) find(ref Ref) objectID {
	if id, ok := s.keys.From(s.byKey(ref)); ok && compareKeys(s.at(id), ref) == 0 {
		return id
	}
	return 0
}

// from returns an iterator over all objects from ref on, by kind, namespace and name.
func (s *State) from(ref Ref) func(yield func(objectID, form) bool) {
	return func(yield func(objectID, form) bool) {
		run := s.keys.Tail(s.byKey(ref))
		for len(run) > 0 {
			for _, id := range run {
				if !yield(id, s.at(id)) {
					return
				}
			}
			run = s.keys.Tail(behind(s.byKey(refOf(s.at(run[len(run)-1])))))
		}
	}
}

// behind returns an order with which Ordered.Tail begins after the element that compare returns 0 for.
func behind[E any](compare func(E) int) func(E) int {
	return func(e E) int {
		if compare(e) <= 0 {
			return -1
		}
		return 1
	}
}

// SetListed records that all objects of these kinds were set. They replace those of a snapshot.
func (tx *Tx) SetListed(kinds Kinds) {
	tx.state.listed |= kinds
	tx.setRestored(tx.state.restored &^ kinds)
}

// SetUnlisted records that the objects of these kinds are no longer up to date, until SetListed.
func (tx *Tx) SetUnlisted(kinds Kinds) {
	tx.state.listed &^= kinds
	tx.setRestored(tx.state.restored &^ kinds)
}

// SetSnapshot records that the objects of these kinds come from a snapshot, written at that Unix time in seconds. It
// stands in for each kind until SetListed.
func (tx *Tx) SetSnapshot(written uint32, kinds Kinds) {
	tx.state.written = max(1, written)
	tx.setRestored(tx.state.restored | kinds)
}

func (tx *Tx) setRestored(kinds Kinds) {
	if tx.state.restored = kinds; kinds == 0 {
		tx.state.written = 0
	}
}

// Synced reports whether all of these kinds were listed.
func (s *State) Synced(kinds Kinds) bool { return s.listed&kinds == kinds }

// Restored reports whether all of these kinds were listed or come from a snapshot. Until then a name that the State
// lacks may exist.
func (s *State) Restored(kinds Kinds) bool { return (s.listed|s.restored)&kinds == kinds }

// Snapshot returns the Unix time in seconds at which the snapshot was written that some of the objects still come from,
// 0 if none do.
func (s *State) Snapshot() uint32 { return s.written }
