package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kubehosts/kubehosts/plugin/safe"
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
	Report               func(source.Report) // writes an Event on it; nil for no Events
}

// whole is the state of the whole Corefile.
var whole struct {
	mu sync.Mutex
	of *Corefile // nil if it is not followed
	// Stanzas replaced since the Corefile was read, by their place among those of the Corefile: those that serve, and
	// those that wait for their objects.
	base, next map[int]*stanza.Config
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

// remember notes that c serves at a place, or, if it waits, that it is to serve there.
func remember(place int, c *stanza.Config, waits bool) {
	whole.mu.Lock()
	defer whole.mu.Unlock()
	if whole.base == nil {
		whole.base, whole.next = make(map[int]*stanza.Config), make(map[int]*stanza.Config)
	}
	if waits {
		whole.next[place] = c
		return
	}
	whole.base[place] = c
	delete(whole.next, place)
}

// Forget makes the next start use the stanzas of the Corefile that it reads, instead of those of Replace. It must be
// called before a restart with a new Corefile. undo reverses it if the restart fails.
func Forget() (undo func()) {
	whole.mu.Lock()
	defer whole.mu.Unlock()
	base, next := whole.base, whole.next
	whole.base, whole.next = nil, nil
	return func() {
		whole.mu.Lock()
		defer whole.mu.Unlock()
		for i, c := range whole.base { // put in place meanwhile
			base[i] = c
			delete(next, i)
		}
		whole.base, whole.next = base, next
	}
}

// replacedAt returns the stanzas of Replace at a place: the one that serves and the one that is to serve. nil stands
// for none.
func replacedAt(place int) (base, next *stanza.Config) {
	whole.mu.Lock()
	defer whole.mu.Unlock()
	return whole.base[place], whole.next[place]
}

// baseOf returns the stanza that a Block follows and serves if its Corefile has c.
func baseOf(c *stanza.Config, b *Block) *stanza.Config {
	whole.mu.Lock()
	defer whole.mu.Unlock()
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
	c = baseOf(c, b)
	if b.base.ConfigMap != nil || c.ConfigMap != nil || (len(c.Zones) > 0 || len(c.External) > 0) && b.source == nil {
		return nil, ErrRestart
	}
	if err := b.checkFiles(c); err != nil {
		return nil, err
	}
	panicked := safe.Recovered("the stanza of the Corefile for "+b.name, func() { next, err = b.prepare(c, nil) })
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
	b.setEdit(source.ConfigMapEvent{}, "")
	synced, same := next.synced(), next.objects == now.objects && next.outside == now.outside
	if synced || same {
		b.servesBase(next)
	}
	if synced {
		return
	}
	if !same {
		remember(b.place, next.config, true)
	}
	w := &waiting{next: next, serves: same}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, b.waiting = cancel, w
	safe.Go(ctx, "the wait for the objects of "+b.name, func(ctx context.Context) { b.awaitBase(ctx, w) })
}

// servesBase makes next, a stanza of the Corefile, the one that serves. b.mu is held.
func (b *Block) servesBase(next *serving) {
	now := b.serving.Load()
	remember(b.place, next.config, false)
	b.put(next, fromCorefile)
	b.record(source.ConfigMapEvent{}, next.hash, "applied as a stanza of the Corefile")
	log.Infof("Stanza %s of the Corefile applied to %s in place of %s", next.hash, b.name, now.hash)
}

// awaitBase waits for the objects of w, a stanza of the Corefile, until ctx ends, and puts it in place. If the API
// server refuses them, or fails to list them in time, the stanza counts as refused until they are listed.
func (b *Block) awaitBase(ctx context.Context, w *waiting) {
	refused := func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.waiting == w {
			b.refuse(source.ConfigMapEvent{}, waitsFor(w.next.config, err))
		}
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
	if b.Refused() != "" {
		b.setEdit(source.ConfigMapEvent{}, "")
		b.report(source.ConfigMapEvent{}, source.Report{Note: fmt.Sprintf("Stanza %s applied to %s", w.next.hash, b.name)})
	}
	if !w.serves {
		b.servesBase(w.next)
	}
}

// goOnWaiting waits for the objects of c, which the Block of the same server block waited for before a reload. before
// are the Blocks of that Corefile.
func (b *Block) goOnWaiting(c *stanza.Config, before []*Block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, err := b.prepareBase(c)
	if err != nil {
		log.Errorf("Stanza %s of the Corefile no longer waits for its objects, and %s goes on with %s: %v", c.Hash(), b.name, b.serving.Load().hash, err)
		return
	}
	b.putBase(next)
	if i := slices.IndexFunc(before, b.succeeds); i >= 0 && b.waiting != nil {
		b.edit.Store(before[i].edit.Load()) // so that a refusal is not counted again
	}
}

// reportWhole writes an Event on the ConfigMap of the whole Corefile.
func reportWhole(r source.Report) {
	whole.mu.Lock()
	of := whole.of
	whole.mu.Unlock()
	if of != nil && of.Report != nil {
		of.Report(r)
	}
}

// Waits reports whether a stanza of the Corefile that was given to Replace waits for its objects, and the one before it
// serves.
func Waits() bool {
	whole.mu.Lock()
	defer whole.mu.Unlock()
	return len(whole.next) > 0
}

// Ahead holds the objects open that the stanzas of a Corefile need, so that a start with it finds them listed.
type Ahead struct {
	needs   []need
	closers []func()
}

// need is the objects that a stanza needs.
type need struct {
	objects *source.Objects
	of      *stanza.Config
}

// OpenAhead opens the objects that stanzas of a Corefile need. Those of manifests are left out: they are files.
func OpenAhead(stanzas []*stanza.Config) (*Ahead, error) {
	a := &Ahead{}
	for _, c := range stanzas {
		if len(c.Zones) == 0 && len(c.External) == 0 || len(c.Manifests) > 0 {
			continue
		}
		if err := a.open(c); err != nil {
			a.Close()
			return nil, c.Errorf("%v", err)
		}
	}
	return a, nil
}

// placed is an error with the place of a stanza in its text.
type placed struct {
	error
	of error
}

// Unwrap returns the error without the place.
func (p placed) Unwrap() error { return p.of }

func (a *Ahead) open(c *stanza.Config) error {
	s, err := source.Open(New(c, ServerBlock{}).spec())
	if err != nil {
		return err
	}
	a.closers = append(a.closers, s.Close)
	selections := []source.Selection{selectionOf(c)}
	if len(c.External) > 0 {
		selections = append(selections, outsideOf(c))
	}
	for _, sel := range selections {
		objects, err := s.Objects(sel)
		if err != nil {
			return err
		}
		a.closers = append(a.closers, objects.Close)
		a.needs = append(a.needs, need{objects, c})
	}
	return nil
}

// Wait waits until the objects are listed. It calls refused, unless that is nil, with each reason why the API server
// does not list them, which wraps a *source.RefusedError, and goes on waiting. It returns an error if ctx ended or
// Close was called before.
func (a *Ahead) Wait(ctx context.Context, refused func(error)) error {
	for _, n := range a.needs {
		told := func(err error) {
			if refused != nil {
				refused(placed{n.of.Errorf("%v", err), err})
			}
		}
		if err := n.objects.Wait(ctx, told); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the objects, unless somebody else has them open.
func (a *Ahead) Close() {
	for _, f := range slices.Backward(a.closers) {
		f()
	}
	a.closers = nil
}
