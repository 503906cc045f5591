package services

import "testing"

func TestListed(t *testing.T) {
	all := Options{}
	services := Options{NoEndpoints: true}
	pods := Options{Pods: PodsVerified}
	ix := NewIndex()
	for _, step := range []struct {
		what     string
		do       func(*Tx)
		o        *Options
		imported bool
		synced   bool
		known    bool
		snapshot uint32
	}{
		{"nothing", func(*Tx) {}, &services, false, false, false, 0},
		{"a snapshot of only Services", func(tx *Tx) { tx.SetSnapshot(7, KindNamespace|KindService) }, &services, false, false, true, 7},
		{"which has no endpoints", func(*Tx) {}, &all, false, false, false, 7},
		{"a snapshot", func(tx *Tx) { tx.SetSnapshot(7, KindNamespace|KindService|KindSlice) }, &all, false, false, true, 7},
		{"which has no pods", func(*Tx) {}, &pods, false, false, false, 7},
		{"and no ServiceImports", func(*Tx) {}, &services, true, false, false, 7},
		{"Namespaces listed", func(tx *Tx) { tx.SetListed(KindNamespace) }, &services, false, false, true, 7},
		{"Services listed", func(tx *Tx) { tx.SetListed(KindService) }, &services, false, true, true, 7},
		{"not the EndpointSlices", func(*Tx) {}, &all, false, false, true, 7},
		{"EndpointSlices listed", func(tx *Tx) { tx.SetListed(KindSlice) }, &all, false, true, true, 0},
		{"Pods listed", func(tx *Tx) { tx.SetListed(KindPod) }, &pods, false, true, true, 0},
		{"ServiceImports listed", func(tx *Tx) { tx.SetListed(KindImport) }, &services, true, true, true, 0},
		{"not their EndpointSlices", func(*Tx) {}, &all, true, false, false, 0},
		{"EndpointSlices unlisted", func(tx *Tx) { tx.SetUnlisted(KindSlice) }, &all, false, false, false, 0},
		{"the Services stay", func(*Tx) {}, &services, false, true, true, 0},
	} {
		ix.Update(step.do)
		s := ix.State()
		if s.Synced(step.o, step.imported) != step.synced || s.Known(step.o, step.imported) != step.known || s.Snapshot() != step.snapshot {
			t.Errorf("%s: synced %v, known %v, snapshot %d; want %v, %v, %d", step.what, s.Synced(step.o, step.imported),
				s.Known(step.o, step.imported), s.Snapshot(), step.synced, step.known, step.snapshot)
		}
	}
}

// A snapshot ends with the last of its kinds, whether that is listed or unlisted.
func TestSnapshotEnds(t *testing.T) {
	ix := NewIndex()
	ix.Update(func(tx *Tx) { tx.SetSnapshot(7, KindNamespace|KindPod); tx.SetListed(KindNamespace) })
	if s := ix.State(); s.Snapshot() != 7 {
		t.Errorf("before the Pods are listed: %d", s.Snapshot())
	}
	ix.Update(func(tx *Tx) { tx.SetUnlisted(KindPod) })
	if s := ix.State(); s.Snapshot() != 0 {
		t.Errorf("after the Pods were unlisted: %d", s.Snapshot())
	}
}
