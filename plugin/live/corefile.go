package live

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// The process may follow the ConfigMap that holds its whole Corefile (-configmap). An edit of kubehosts stanzas alone
// is then applied here, without a restart of the server: the Corefile's stanza changes, within the bounds of a Corefile
// only. Blocks whose configmap option names that ConfigMap do not follow it themselves.

// Corefile is the ConfigMap that holds the whole Corefile.
type Corefile struct {
	Spec                 source.Spec // where to follow it
	Namespace, Name, Key string
}

// whole is the state of the whole Corefile.
var whole struct {
	mu   sync.Mutex
	of   *Corefile              // nil if it is not followed
	base map[int]*stanza.Config // stanzas applied since the Corefile was read, by their index among those of the Corefile
}

// FollowCorefile records that the caller follows the ConfigMap of the whole Corefile, and calls Replace. It must be
// called before the Corefile is first read.
func FollowCorefile(of Corefile) {
	whole.mu.Lock()
	defer whole.mu.Unlock()
	whole.of = &of
}

// ErrRestart is the error of Replace if the server has to be restarted: if a stanza follows another ConfigMap, or if
// one that served no Services and followed nothing is to serve some.
var ErrRestart = errors.New("the stanza can't be replaced without a restart")

// Replace replaces stanzas of the Corefile that serve, all of them or none. The keys are the indexes of their server
// blocks among those that have a stanza. A start that reads the same Corefile again, as on a signal, uses the replaced
// stanzas, until Forget.
//
// A stanza may not differ from the one before it in the parts that stanza.Config.FixedIn names. If its objects were not
// requested from the API server yet, the stanza before it serves until they are listed.
func Replace(stanzas map[int]*stanza.Config) error {
	running := blocks.running()
	for i := range stanzas {
		if i >= len(running) {
			return ErrRestart // the server was restarted meanwhile, or is being restarted
		}
	}
	return replaceIn(running, stanzas, 0, nil)
}

// change is a stanza that is about to serve.
type change struct {
	block *Block
	next  *serving
}

// replaceIn prepares the stanzas of running from index i on, with the mutex of each Block held, and serves them
// together with those already prepared.
func replaceIn(running []*Block, stanzas map[int]*stanza.Config, i int, prepared []change) error {
	if i == len(running) {
		for _, c := range prepared {
			c.block.putBase(c.next)
		}
		remember(stanzas)
		return nil
	}
	c := stanzas[i]
	if c == nil {
		return replaceIn(running, stanzas, i+1, prepared)
	}
	b := running[i]
	b.mu.Lock()
	defer b.mu.Unlock()
	next, err := b.prepareBase(c)
	if err != nil {
		return err
	}
	err = replaceIn(running, stanzas, i+1, append(prepared, change{b, next}))
	if err != nil {
		next.close(b.serving.Load())
	}
	return err
}

func remember(stanzas map[int]*stanza.Config) {
	whole.mu.Lock()
	defer whole.mu.Unlock()
	if whole.base == nil {
		whole.base = make(map[int]*stanza.Config)
	}
	for i, c := range stanzas {
		whole.base[i] = c
	}
}

// Forget makes the next start use the stanzas of the Corefile that it reads, instead of those of Replace. It must be
// called before a restart with a new Corefile. undo reverses it if the restart fails.
func Forget() (undo func()) {
	whole.mu.Lock()
	defer whole.mu.Unlock()
	before := whole.base
	whole.base = nil
	return func() {
		whole.mu.Lock()
		defer whole.mu.Unlock()
		whole.base = before
	}
}

// baseOf returns the stanza that a Block starts with if its Corefile has c, at index i among the stanzas of the
// Corefile.
func baseOf(c *stanza.Config, i int, b *Block) *stanza.Config {
	whole.mu.Lock()
	defer whole.mu.Unlock()
	if later := whole.base[i]; later != nil {
		c = later
	}
	if whole.of != nil && c.ConfigMap != nil && whole.of.follows(c, b) {
		alone := *c
		alone.ConfigMap = nil
		c = &alone
	}
	return c
}

// follows reports whether the configmap option of a stanza names the ConfigMap of the whole
// Corefile.
func (w *Corefile) follows(c *stanza.Config, b *Block) bool {
	ref, spec := c.ConfigMap, b.specOf(c)
	namespace := ref.Namespace
	if namespace == "" {
		namespace = source.InClusterNamespace()
	}
	return namespace == w.Namespace && ref.Name == w.Name && ref.Key == w.Key && spec.Manifests == "" &&
		spec.Kubeconfig == w.Spec.Kubeconfig && spec.Context == w.Spec.Context && spec.Endpoint == w.Spec.Endpoint
}

// running returns the Blocks of the newest Corefile, in the order of its server blocks.
func (r *registry) running() []*Block {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return nil
	}
	newest := r.all[len(r.all)-1].Corefile
	return slices.DeleteFunc(slices.Clone(r.all), func(b *Block) bool { return b.Corefile != newest })
}

// prepareBase prepares c, a stanza of the Corefile. b.mu is held.
func (b *Block) prepareBase(c *stanza.Config) (next *serving, err error) {
	if b.stopped || b.serving.Load() == nil {
		return nil, ErrRestart
	}
	c = baseOf(c, -1, b)
	if b.base.ConfigMap != nil || c.ConfigMap != nil || (len(c.Zones) > 0 || len(c.External) > 0) && b.source == nil {
		return nil, ErrRestart
	}
	if err := b.checkFiles(c); err != nil {
		return nil, err
	}
	panicked := source.Recovered("the stanza of the Corefile for "+b.name, func() { next, err = b.prepare(c, nil) })
	if panicked != nil {
		err = panicked
	}
	return next, err
}

// putBase serves next, which prepareBase prepared: at once if its objects are listed, else as soon as they are. b.mu is
// held.
func (b *Block) putBase(next *serving) {
	now := b.serving.Load()
	b.giveUpWaiting()
	synced, same := next.synced(), next.objects == now.objects && next.outside == now.outside
	if synced || same {
		b.put(next, fromCorefile)
		b.record(source.ConfigMapEvent{}, next.hash, "applied as a stanza of the Corefile")
		log.Infof("Stanza %s of the Corefile applied to %s in place of %s", next.hash, b.name, now.hash)
	}
	if synced {
		return
	}
	w := &waiting{next: next, serves: same}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, b.waiting = cancel, w
	source.Go(ctx, "the wait for the objects of "+b.name, func(ctx context.Context) { b.awaitBase(ctx, w) })
}

// awaitBase waits for the objects of w, a stanza of the Corefile, until ctx ends, and serves it.
func (b *Block) awaitBase(ctx context.Context, w *waiting) {
	refused := func(err error) {
		log.Errorf("Stanza of %s not changed, the one before (%s) goes on serving: %v", b.name, b.serving.Load().hash, err)
	}
	for _, o := range []*source.Objects{w.next.objects, w.next.outside} {
		if o != nil && o.Wait(ctx, refused) != nil {
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting != w {
		return // dropped
	}
	b.waiting = nil
	w.cancel()
	if !w.serves {
		b.put(w.next, fromCorefile)
		b.record(source.ConfigMapEvent{}, w.next.hash, "applied as a stanza of the Corefile")
		log.Infof("Stanza %s of the Corefile applied to %s", w.next.hash, b.name)
	}
}
