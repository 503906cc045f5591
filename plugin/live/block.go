// Package live keeps the View of each server block current. A Block serves the Corefile's stanza, follows the
// ConfigMap, and replaces the stanza that serves by each good one in the ConfigMap. It keeps hosts files and the
// snapshot file up to date.
//
// A Block has one writer at a time and many readers. Whoever changes what it serves holds its mutex: Start, the
// follower of the ConfigMap, a finished wait for objects, and Stop. What they make never changes afterwards and is
// published through an atomic pointer. Queries, readiness, metrics, the writer of the snapshot file and the Block that
// takes over after a reload read these pointers without waiting.
package live

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

var log = safe.NewLog(stanza.Name)

// ServerBlock is the place of a stanza in a Corefile.
type ServerBlock struct {
	Keys []string // in CoreDNS's form: dns://.:53
	Root string   // the root plugin's folder, the base of relative paths; "" for the working directory
	// Corefile identifies the Corefile that was read: all its server blocks have the same value, and a reload brings
	// another one. It must be comparable.
	Corefile any
	// Offline uses no API server: objects come from manifests or the snapshot, which is not written.
	Offline bool
}

// Block keeps the View of one server block current. It is safe for concurrent use once Start has returned.
type Block struct {
	ServerBlock
	base *stanza.Config // the Corefile's at the start of the server block

	// Start sets these.
	view     string // the name that the view plugin gives the server block; "" without that plugin
	name     string // the name of the Block in logs, Events and metrics
	twin     int    // the number of earlier server blocks of the Corefile with the same keys and the same view
	place    int    // the index of the Block among those of the Corefile
	local    []netip.Addr
	source   *source.Source // nil without Services, external names and a ConfigMap
	snapshot *snapshotFile  // nil without that option

	serving atomic.Pointer[serving]
	edit    atomic.Pointer[edit]      // the newest state of the ConfigMap; nil until one is known
	edits   atomic.Pointer[[]Edit]    // the last ones, newest first; a slice is never changed
	good    atomic.Pointer[lastGood]  // the last good text of the ConfigMap; nil if there is none
	settled atomic.Bool               // the state of the ConfigMap is known, or waiting longer for it would not help
	stale   atomic.Pointer[time.Time] // the time since which answers come from the snapshot; nil if they do not

	mu       sync.Mutex // held by whoever changes what is served; it guards the following fields
	waiting  *waiting   // the stanza whose objects are not listed yet; nil if there is none
	unfollow func()
	atStop   []func()
	stopped  bool
}

// New returns the Block of a server block, for the Corefile's stanza base.
func New(base *stanza.Config, of ServerBlock) *Block { return &Block{ServerBlock: of, base: base} }

// View returns the View that the server block currently answers from. A query takes it once. It is
// nil before Start.
func (b *Block) View() *answer.View {
	if s := b.serving.Load(); s != nil {
		return s.view
	}
	return nil
}

// Start publishes the first View and begins to follow the ConfigMap. It makes the View from the last good stanza of the
// same server block's Block before a reload, else from the one in the snapshot file, else from the Corefile's.
//
// view is the name that the view plugin gives the server block, "" if it has none. local are the addresses of this
// server. An error is for the author of the Corefile. RestartFailed cleans up after it.
func (b *Block) Start(view string, local []netip.Addr) error {
	b.view, b.local = view, local
	before := blocks.add(b)
	replaced, next := replacedAt(b.place)
	b.base = baseOf(cmp.Or(replaced, b.base), b)
	if len(b.base.Zones) > 0 || len(b.base.External) > 0 || b.base.ConfigMap != nil {
		s, err := source.Open(b.spec())
		if err != nil {
			return err
		}
		b.source = s
	}
	if err := b.claimSnapshot(); err != nil {
		return err
	}
	if err := b.begin(before); err != nil {
		return err
	}
	if next != nil {
		b.goOnWaiting(next, before)
	}
	if b.base.ConfigMap == nil || b.Offline && len(b.base.Manifests) == 0 {
		return nil
	}
	unfollow := b.source.ConfigMap(b.namespace(), b.base.ConfigMap.Name, b.follow)
	b.mu.Lock()
	b.unfollow = unfollow
	b.mu.Unlock()
	return nil
}

// Stop closes everything that is open. It may be called more than once. The last View stays available to
// queries.
func (b *Block) Stop() {
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return
	}
	b.stopped = true
	b.giveUpWaiting()
	unfollow, atStop := b.unfollow, b.atStop
	b.mu.Unlock()
	for _, f := range atStop {
		f()
	}

	if unfollow != nil {
		unfollow()
	}
	if b.snapshot != nil {
		snapshots.release(b.snapshot, b)
	}
	if last := b.serving.Load(); last != nil {
		last.close(nil)
	}
	if b.source != nil {
		b.source.Close()
	}
	blocks.remove(b)
}

// AtStop calls f when b is stopped: when its server block is gone, or when the reload that brought it has failed. It
// calls f at once if b is already stopped.
func (b *Block) AtStop(f func()) {
	b.mu.Lock()
	stopped := b.stopped
	if !stopped {
		b.atStop = append(b.atStop, f)
	}
	b.mu.Unlock()
	if stopped {
		f()
	}
}

// Name returns the name of the server block in logs, Events and metrics: its first key, and its view if it has one. It
// is "" before Start.
func (b *Block) Name() string { return b.name }

// Settled reports whether the objects were listed and the state of the ConfigMap is known. It is also true if answers
// come from the snapshot.
func (b *Block) Settled() bool {
	if b.stale.Load() != nil {
		return true
	}
	s := b.serving.Load()
	if s == nil || !s.synced() {
		return false
	}
	return b.base.ConfigMap == nil || b.settled.Load()
}

// Refused returns why the ConfigMap's stanza is not applied, "" if it is, if it is still waiting for its objects, or if
// no ConfigMap is followed.
func (b *Block) Refused() string {
	if e := b.edit.Load(); e != nil {
		return e.refused
	}
	return ""
}

// spec returns where the objects of the Corefile's stanza come from.
func (b *Block) spec() source.Spec { return b.specOf(b.base) }

// specOf returns where the objects of a stanza of the Corefile come from.
func (b *Block) specOf(c *stanza.Config) source.Spec {
	return source.Spec{
		Manifests:   strings.Join(b.paths(c.Manifests), "\n"),
		Kubeconfig:  c.Kubeconfig,
		Context:     c.Context,
		Endpoint:    c.Endpoint(),
		CertFile:    c.TLS.Cert,
		KeyFile:     c.TLS.Key,
		CAFile:      c.TLS.CA,
		QPS:         c.APIQPS,
		Burst:       c.APIBurst,
		MaxInflight: c.APIMaxInflight,
		Audit:       c.Audit,
		Offline:     b.Offline,
	}
}

// namespace returns the namespace of the ConfigMap.
func (b *Block) namespace() string {
	if ns := b.base.ConfigMap.Namespace; ns != "" {
		return ns
	}
	return source.InClusterNamespace()
}

// paths returns the paths of a stanza ready for opening: relative ones below the root plugin's
// folder.
func (b *Block) paths(written []string) []string {
	all := make([]string, len(written))
	for i, p := range written {
		if !filepath.IsAbs(p) && b.Root != "" {
			p = filepath.Join(b.Root, p)
		}
		all[i] = p
	}
	return all
}
