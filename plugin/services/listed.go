package services

// Kinds is a set of the kinds of objects that a State is made of.
type Kinds uint8

// The kinds.
const (
	KindNamespace Kinds = 1 << iota
	KindService
	KindSlice
	KindPod
	KindImport        // ServiceImports
	KindImportedSlice // EndpointSlices that belong to a ServiceImport

	AllKinds Kinds = 1<<iota - 1
)

// has reports whether k contains all of want.
func (k Kinds) has(want Kinds) bool { return k&want == want }

// kinds returns the kinds that answers under o depend on, in a Service zone or in a zone of ServiceImports.
func (o *Options) kinds(imported bool) Kinds {
	service, slice := KindService, KindSlice
	if imported {
		service, slice = KindImport, KindImportedSlice
	}
	want := KindNamespace | service
	if !o.NoEndpoints {
		want |= slice
	}
	if o.Pods == PodsVerified {
		want |= KindPod
	}
	return want
}

// SetListed records that all objects of these kinds were set. They replace those of a snapshot.
func (tx *Tx) SetListed(kinds Kinds) {
	tx.state.listed |= kinds
	tx.setRestored(tx.state.restored &^ kinds)
}

// SetUnlisted records that the objects of these kinds are no longer kept up to date, until SetListed.
func (tx *Tx) SetUnlisted(kinds Kinds) {
	tx.state.listed &^= kinds
	tx.setRestored(tx.state.restored &^ kinds)
}

// SetSnapshot records that the objects of these kinds come from a snapshot, written at that Unix time in seconds.
// It stands in for each kind until SetListed.
func (tx *Tx) SetSnapshot(written uint32, kinds Kinds) {
	tx.state.written = max(1, written)
	tx.setRestored(kinds)
}

func (tx *Tx) setRestored(kinds Kinds) {
	if tx.state.restored = kinds; kinds == 0 {
		tx.state.written = 0
	}
}

// Synced reports whether every kind that answers under o depend on was listed, in a Service zone or in a zone of
// ServiceImports.
func (s *State) Synced(o *Options, imported bool) bool { return s.listed.has(o.kinds(imported)) }

// Known reports whether every kind that answers under o depend on was listed or comes from a snapshot. Until then a
// name that the State lacks may exist.
func (s *State) Known(o *Options, imported bool) bool {
	return (s.listed | s.restored).has(o.kinds(imported))
}

// Snapshot returns the Unix time in seconds at which the snapshot was written that some of the objects still come from,
// 0 if none do.
func (s *State) Snapshot() uint32 { return s.written }
