// Package live keeps the View of a server block current: it follows the ConfigMap, hosts files and the snapshot file, and
// puts each good stanza in place of the last.
package live

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

var log = clog.NewWithPlugin(stanza.Name)

// Block keeps the View of one server block current: it opens what the Corefile's stanza names, follows the ConfigMap, and
// puts each good stanza of it in place of the last.
type Block struct {
	view  atomic.Pointer[answer.View] // what answers
	base  *stanza.Config              // the Corefile's
	keys  []string                    // of the server block
	block string                      // its label in metrics
	root  string                      // of the root plugin
	local []netip.Addr

	mu       sync.Mutex // guards what follows
	source   *source.Source
	unfollow func()
	snapshot *snapshot          // nil without the option
	began    time.Time          // when answers out of the snapshot began; zero when there are none, or no longer
	good     *source.Stanza     // the last good one of the ConfigMap, for the snapshot
	heard    bool               // of the ConfigMap, or that it can't be read
	followed bool               // the live stanza is one of the ConfigMap
	refused  string             // what was last said of the ConfigMap, so that it is not said twice
	config   *stanza.Config     // that the View is made of
	serving  *serving           // behind the View
	cancel   context.CancelFunc // gives up the stanza that waits for its objects, if one does
	stopped  bool
}

// serving is what a live stanza holds open.
type serving struct {
	selection source.Selection
	objects   *source.Objects      // nil where no Services are served
	hosts     map[string]*tableUse // by FILE
}

// New returns the Block of a server block with these keys, for the Corefile's stanza base. root is the folder that relative
// paths are taken from, "" for the working directory.
func New(base *stanza.Config, keys []string, root string) *Block {
	return &Block{base: base, keys: keys, block: keys[0], root: root, cancel: func() {}}
}

// View returns what the server block answers from at this moment. A query takes it once. It is nil before Start.
func (k *Block) View() *answer.View { return k.view.Load() }

// RestartBegan takes note that the server reads its Corefile again.
func RestartBegan() { begun.forget() }

// RestartFailed stops the Blocks that started since RestartBegan: nobody else tells them that their server never will.
func RestartFailed() { begun.stop() }

// begun are the Blocks that started since a reload began.
var begun startedBlocks

type startedBlocks struct {
	mu  sync.Mutex
	all []*Block
}

func (b *startedBlocks) add(k *Block) {
	b.mu.Lock()
	b.all = append(b.all, k)
	b.mu.Unlock()
}

// writing returns the one of them that writes the snapshot file path, or nil. A Block of the Corefile before may write it too,
// until its server ends.
func (b *startedBlocks) writing(path string) *Block {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.all {
		if k.snapshot != nil && k.snapshot.path == path {
			return k
		}
	}
	return nil
}

func (b *startedBlocks) forget() {
	b.mu.Lock()
	b.all = nil
	b.mu.Unlock()
}

func (b *startedBlocks) stop() {
	b.mu.Lock()
	all := b.all
	b.all = nil
	b.mu.Unlock()
	for _, k := range all {
		k.Stop()
	}
}

// spec says where the objects of the Corefile's stanza come from.
func (k *Block) spec() source.Spec {
	c := k.base
	return source.Spec{
		Manifests:   strings.Join(k.paths(c.Manifests), "\n"),
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
	}
}

// selectionOf says which objects a stanza serves.
func selectionOf(c *stanza.Config) source.Selection {
	return source.Selection{
		Labels:          c.Labels,
		NamespaceLabels: c.NamespaceLabels,
		PodNames:        c.EndpointPodNames,
		Endpoints:       !c.NoEndpoints,
		Pods:            c.Pods == stanza.Verified,
		Zones:           c.Zonal,
		Multicluster:    len(c.Multicluster) > 0,
	}
}

// Start puts the Corefile's stanza in place and begins to follow the ConfigMap. local are the addresses of this server.
func (k *Block) Start(local []netip.Addr) error {
	k.local = local
	begun.add(k)
	if len(k.base.Zones) > 0 || k.base.ConfigMap != nil {
		s, err := source.Open(k.spec())
		if err != nil {
			return err
		}
		k.source = s
	}
	if err := k.openSnapshot(); err != nil {
		return err
	}
	if err := k.begin(); err != nil {
		return err
	}
	if s := k.snapshot; s != nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.cancel = cancel
		go k.keep(ctx, s)
	}

	ref := k.base.ConfigMap
	if ref == nil {
		return nil
	}
	unfollow := k.source.ConfigMap(k.namespace(), ref.Name, k.follow)
	k.mu.Lock()
	k.unfollow = unfollow
	k.mu.Unlock()
	return nil
}

func (k *Block) namespace() string {
	if ns := k.base.ConfigMap.Namespace; ns != "" {
		return ns
	}
	return source.InClusterNamespace()
}

// Stop closes all that is open. It may be called twice. The last View goes on answering.
func (k *Block) Stop() {
	k.mu.Lock()
	if k.stopped {
		k.mu.Unlock()
		return
	}
	k.stopped = true
	k.cancel()
	last, unfollow := k.serving, k.unfollow
	k.mu.Unlock()

	if unfollow != nil {
		unfollow()
	}
	if k.snapshot != nil {
		k.snapshot.close()
	}
	if last != nil {
		last.close(nil)
	}
	if k.source != nil {
		k.source.Close()
	}
	current.end(k)
}

// Settled reports whether the objects were seen and the ConfigMap was asked for, or answers come from a snapshot.
func (k *Block) Settled() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.began.IsZero() {
		return true
	}
	if k.serving == nil || k.serving.objects != nil && !k.serving.objects.Synced() {
		return false
	}
	return k.base.ConfigMap == nil || k.heard
}

// Refused returns why the ConfigMap is not applied, "" if it is, or if none is followed.
func (k *Block) Refused() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

// open opens what c serves and what serves now does not have. Objects that the API server has yet to be asked for are
// those of the snapshot from, which may be nil.
func (k *Block) open(c *stanza.Config, from *source.Snapshot) (*serving, error) {
	next := &serving{selection: selectionOf(c), hosts: make(map[string]*tableUse)}
	if len(c.Zones) > 0 {
		if old := k.serving; old != nil && old.objects != nil && old.selection == next.selection {
			next.objects = old.objects
		} else {
			objects, _, err := k.source.ObjectsFrom(from, next.selection)
			if err != nil {
				return nil, err
			}
			next.objects = objects
		}
	}
	for path, reload := range k.filesOf(c) {
		use, err := openTables.open(path, k.origins(), k.block, reload)
		if err != nil {
			next.close(k.serving)
			return nil, err
		}
		if k.serving == nil && reload == 0 { // a Corefile that is read again is a reason to read its files again
			use.look()
		}
		next.hosts[path] = use
	}
	return next, nil
}

// filesOf returns the FILEs of c and how often each is to be looked at: the shortest of what its options say, 0 only if
// all say so.
func (k *Block) filesOf(c *stanza.Config) map[string]time.Duration {
	all := make(map[string]time.Duration)
	for i := range c.Hosts {
		h := &c.Hosts[i]
		for _, path := range k.paths(h.Files) {
			if now := all[path]; now == 0 || h.Reload > 0 && h.Reload < now {
				all[path] = h.Reload
			}
		}
	}
	return all
}

// close closes what keep, which may be nil, does not hold as well.
func (s *serving) close(keep *serving) {
	if s.objects != nil && (keep == nil || keep.objects != s.objects) {
		s.objects.Close()
	}
	for _, use := range s.hosts {
		use.close()
	}
}

// origins are the zones of the server block, whose names count in hosts lines; nil for all names.
func (k *Block) origins() []string {
	origins := plugin.OriginsFromArgsOrServerBlock(nil, k.keys)
	if slices.Contains(origins, ".") {
		return nil
	}
	slices.Sort(origins)
	return slices.Compact(origins)
}

// put makes c, with what was opened for it, the live stanza. k.mu is held.
func (k *Block) put(c *stanza.Config, next *serving, origin string) error {
	layers, err := k.layersOf(c, next.hosts)
	if err != nil {
		next.close(k.serving)
		return err
	}
	index := services.NewIndex()
	if next.objects != nil {
		index = next.objects.Index()
	}
	k.view.Store(newView(c, index, layers, k.local))
	k.config = c
	if old := k.serving; old != nil {
		old.close(next)
	}
	k.serving = next
	current.set(k, origin, c.Hash())
	return nil
}

// follow takes what became of the ConfigMap. It is called for one change after the other.
func (k *Block) follow(e source.ConfigMapEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return
	}
	if err := k.take(e); err != nil {
		k.settle(e, err)
	}
}

// settle refuses the ConfigMap, of which e told, so that what serves now goes on in its place. k.mu is held.
func (k *Block) settle(e source.ConfigMapEvent, err error) {
	k.refuse(e, err)
	k.heard = true
	if v := *k.View(); v.Snapshot != 0 { // it is what serves in the ConfigMap's place, not what served once
		v.Snapshot = 0
		k.view.Store(&v)
	}
}

// read returns the stanza that e holds, as the Corefile lets it be.
func (k *Block) read(e source.ConfigMapEvent) (*stanza.Config, error) {
	ref := k.base.ConfigMap
	name := fmt.Sprintf("ConfigMap %s/%s", k.namespace(), ref.Name)
	switch {
	case e.Err != nil:
		return nil, fmt.Errorf("%s can't be read, as this account needs list and watch on it: %w", name, e.Err)
	case !e.Found:
		return nil, fmt.Errorf("%s does not exist", name)
	}
	text, ok := e.Data[ref.Key]
	if !ok {
		return nil, fmt.Errorf("%s has no key %s", name, ref.Key)
	}
	written, err := stanza.ParseText(fmt.Sprintf("%s key %s", name, ref.Key), text, k.keys, "")
	if err != nil {
		return nil, err
	}
	return written.Over(k.base)
}

// take applies the stanza in e, at once if its objects are at hand, else as soon as they are. k.mu is held.
func (k *Block) take(e source.ConfigMapEvent) error {
	c, err := k.read(e)
	if err != nil {
		return err
	}
	k.cancel()
	k.cancel = func() {}
	next, err := k.open(c, nil)
	if err != nil {
		return err
	}
	if next.objects == nil || next.objects.Synced() || k.serving.objects == nil || next.objects == k.serving.objects {
		return k.finish(e, c, next)
	}

	// Other objects than those at hand, which go on serving until the others were listed.
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	go k.putWhenSynced(ctx, e, c, next)
	return nil
}

// finish puts c, a stanza of the ConfigMap that e told of, in place. k.mu is held.
func (k *Block) finish(e source.ConfigMapEvent, c *stanza.Config, next *serving) error {
	before, hash := k.config.Hash(), c.Hash()
	same := k.followed && hash == before // something else in the ConfigMap changed
	if !same || k.refused != "" {
		k.report(e, source.Report{Note: fmt.Sprintf("Stanza %s applied to %s", hash, k.block)})
	}
	if same {
		next.close(k.serving)
	} else {
		if err := k.put(c, next, "configmap"); err != nil {
			return err
		}
		log.Infof("Stanza %s of ConfigMap %s/%s applied to %s in place of %s", hash, k.namespace(), k.base.ConfigMap.Name, k.block, before)
	}
	k.heard, k.followed, k.refused = true, true, ""
	k.good = k.stanzaOf(e)
	stanzaRejectedNow.WithLabelValues(k.block).Set(0)
	return nil
}

// putWhenSynced puts c in place once its objects were listed. While the API server refuses to list them the ConfigMap counts
// as refused; should the server grant them later, c is put in place without another edit.
func (k *Block) putWhenSynced(ctx context.Context, e source.ConfigMapEvent, c *stanza.Config, next *serving) {
	err := next.objects.Wait(ctx, func(err error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if ctx.Err() == nil && !k.stopped {
			k.settle(e, fmt.Errorf("ConfigMap %s/%s: %w", k.namespace(), k.base.ConfigMap.Name, err))
		}
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil || k.stopped {
		next.close(k.serving)
		return
	}
	if err == nil {
		err = k.finish(e, c, next)
	}
	if err != nil {
		k.refuse(e, err)
	}
}

// report tells of the ConfigMap in an Event on it.
func (k *Block) report(e source.ConfigMapEvent, r source.Report) {
	r.Block = k.block
	k.source.Report(k.namespace(), k.base.ConfigMap.Name, e, r)
}

// refuse counts that the ConfigMap, of which e told, is not applied, and says why unless that was said last. k.mu is held.
func (k *Block) refuse(e source.ConfigMapEvent, err error) {
	stanzaRejectedNow.WithLabelValues(k.block).Set(1)
	stanzaRejected.WithLabelValues(k.block).Inc()
	k.report(e, source.Report{Refused: true, Note: fmt.Sprintf("Stanza of %s not changed, the last good one goes on serving: %v", k.block, err)})
	if err.Error() == k.refused {
		return
	}
	k.refused = err.Error()
	log.Errorf("Stanza of %s not changed, the last good one (%s) goes on serving: %v", k.block, k.config.Hash(), err)
}

// current holds the Block that the metrics of each server block are about: during a reload there are two.
var current = currentBlocks{all: make(map[string]*Block)}

type currentBlocks struct {
	mu  sync.Mutex
	all map[string]*Block
}

func (c *currentBlocks) set(k *Block, origin, hash string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[k.block] = k
	stanzaInfo.DeletePartialMatch(map[string]string{"block": k.block})
	stanzaInfo.WithLabelValues(k.block, origin, hash).Set(1)
	stanzaApplied.WithLabelValues(k.block).Set(float64(time.Now().UnixNano()) / 1e9)
	stanzaRejected.WithLabelValues(k.block)
	stanzaRejectedNow.WithLabelValues(k.block)
}

func (c *currentBlocks) end(k *Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[k.block] != k {
		return
	}
	delete(c.all, k.block)
	stanzaInfo.DeletePartialMatch(map[string]string{"block": k.block})
	stanzaApplied.DeleteLabelValues(k.block)
	stanzaRejected.DeleteLabelValues(k.block)
	for _, m := range []*prometheus.GaugeVec{snapshotWritten, snapshotSize} {
		m.DeleteLabelValues(k.block)
	}
	snapshotErrors.DeleteLabelValues(k.block)
	stanzaRejectedNow.DeleteLabelValues(k.block)
}
