package live

import (
	"context"
	"fmt"

	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// edit is a state of the ConfigMap and its outcome. It never changes.
type edit struct {
	event   source.ConfigMapEvent // its Data has only the one key, and only if it is refused
	refused string                // why its stanza is not applied; "" if it is, or waits for its objects
}

// of reports whether e is for the same state of the ConfigMap as event. e may be nil.
func (e *edit) of(event source.ConfigMapEvent) bool {
	if e == nil || e.event.Found != event.Found || e.event.UID != event.UID || e.event.ResourceVersion != event.ResourceVersion {
		return false
	}
	if e.event.Err == nil || event.Err == nil {
		return e.event.Err == event.Err
	}
	return e.event.Err.Error() == event.Err.Error()
}

// lastGood is the last text of the ConfigMap whose stanza was applied. It never changes.
type lastGood struct {
	event   source.ConfigMapEvent // Data has only the one key
	written uint32                // Unix time at which the snapshot with the text was written; 0 if it is not from a snapshot
}

// waiting is a good stanza of the ConfigMap whose objects are not listed yet. b.mu guards it.
type waiting struct {
	event  source.ConfigMapEvent
	next   *serving
	serves bool  // next serves already, because the stanza before it has the same objects
	why    error // why the API server does not return the objects; nil while that is not known
	cancel context.CancelFunc
}

// configMapName returns the name of the ConfigMap in logs and errors.
func (b *Block) configMapName() string {
	return "ConfigMap " + safe.Printable(b.namespace()+"/"+b.base.ConfigMap.Name)
}

// follow handles a change of the ConfigMap. The source calls it for one change at a time.
func (b *Block) follow(e source.ConfigMapEvent) {
	c, err := b.read(e)

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	if err == nil {
		if panicked := safe.Recovered("the stanza of "+b.configMapName(), func() { err = b.apply(e, c) }); panicked != nil {
			err = fmt.Errorf("%s: %w", b.configMapName(), panicked)
		}
	}
	if err != nil {
		b.refuse(e, err)
	}
	b.settle()
}

// read returns the stanza in e, checked against the bounds of the Corefile. A panic becomes an error, since the text
// may have caused it.
func (b *Block) read(e source.ConfigMapEvent) (c *stanza.Config, err error) {
	ref, name := b.base.ConfigMap, b.configMapName()
	switch {
	case e.Err != nil:
		return nil, source.Unreadable(name, e.Err)
	case !e.Found:
		return nil, fmt.Errorf("%s does not exist", name)
	}
	text, ok := e.Data[ref.Key]
	if !ok {
		return nil, fmt.Errorf("%s has no key %s", name, safe.Printable(ref.Key))
	}
	name += " key " + safe.Printable(ref.Key)
	panicked := safe.Recovered("reading "+name, func() {
		var written *stanza.Config
		if written, err = stanza.ParseText(name, text, b.Keys, b.view); err == nil {
			c, err = written.Over(b.base)
		}
	})
	if panicked != nil {
		return nil, fmt.Errorf("%s: %w", name, panicked)
	}
	return c, err
}

// apply serves c, the stanza in e: at once if its objects are listed, else as soon as they are. b.mu is held.
//
// Only the next good stanza replaces one that waits for its objects: a later bad text does not invalidate an earlier
// good one.
func (b *Block) apply(e source.ConfigMapEvent, c *stanza.Config) error {
	now, hash := b.serving.Load(), c.Hash()
	if w := b.waiting; w != nil && w.next.hash == hash { // something else in the ConfigMap changed
		w.event = e
		b.expect(e)
		return w.why
	}
	if now.origin == fromConfigMap && now.hash == hash { // likewise
		b.giveUpWaiting()
		b.accept(e)
		return nil
	}
	next, err := b.prepare(c, nil)
	if err != nil {
		return err
	}
	b.giveUpWaiting()
	synced, same := next.synced(), next.objects == now.objects && next.outside == now.outside
	if synced || same {
		b.replace(e, next, true)
	} else {
		b.expect(e)
	}
	if !synced {
		b.wait(&waiting{event: e, next: next, serves: same})
	}
	return nil
}

// wait waits for the objects of w. The current objects serve until then, so that names do not vanish. b.mu is held.
func (b *Block) wait(w *waiting) {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	b.waiting = w
	safe.Go(ctx, "the wait for the objects of "+b.configMapName(), func(ctx context.Context) { b.await(ctx, w) })
}

// expect records that e is the newest state of the ConfigMap and waits for its objects. If the API server is known not
// to return them, e stays refused until it grants them. b.mu is held.
func (b *Block) expect(e source.ConfigMapEvent) {
	if known := b.edit.Load(); !known.of(e) || known.refused == "" {
		b.setEdit(e, "")
		b.record(e, "", "waits for its objects to be listed")
	}
}

// giveUpWaiting drops the stanza that waits for its objects, if there is one. b.mu is held.
func (b *Block) giveUpWaiting() {
	if w := b.waiting; w != nil {
		b.waiting = nil
		w.cancel()
		if !w.serves {
			w.next.close(b.serving.Load())
		}
	}
}

// await waits for the objects of w until ctx ends.
func (b *Block) await(ctx context.Context, w *waiting) {
	refused := func(err error) { b.objectsRefused(w, err) }
	for _, o := range []*source.Objects{w.next.objects, w.next.outside} {
		if o != nil && o.Wait(ctx, refused) != nil {
			return
		}
	}
	b.objectsListed(w)
}

// objectsRefused records that the API server refuses the objects of w, or has not listed them in time. The requests
// continue, since the account may get the permission, and the server may recover. If the ConfigMap no longer holds the
// text of w, the refusal does not concern it.
func (b *Block) objectsRefused(w *waiting, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting != w {
		return // dropped
	}
	w.why = waitsFor(w.next.config, err)
	if b.edit.Load().of(w.event) {
		b.refuse(w.event, w.why)
	}
	b.settle()
}

// waitsFor is the error for a stanza whose objects the API server refuses, or fails to list in time.
func waitsFor(c *stanza.Config, err error) error {
	return c.Errorf("%v; it is applied as soon as they are listed", err)
}

// objectsListed serves w, unless it serves already.
func (b *Block) objectsListed(w *waiting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting != w {
		return // dropped
	}
	b.waiting = nil
	w.cancel()
	switch newest := b.edit.Load().of(w.event); {
	case !w.serves:
		if panicked := safe.Recovered("the stanza of "+b.configMapName(), func() { b.replace(w.event, w.next, newest) }); panicked != nil {
			b.refuse(w.event, fmt.Errorf("%s: %w", b.configMapName(), panicked))
		}
	case newest:
		b.accept(w.event)
	}
	b.settle()
}

// settle records that a start need not wait for the ConfigMap any longer: its state is known, and its stanza serves, or
// is refused, or an older one serves. b.mu is held.
func (b *Block) settle() {
	if b.waiting == nil || b.Refused() != "" || b.serving.Load().origin != fromCorefile {
		b.settled.Store(true)
	}
}

// replace serves next, the stanza of e. newest means that e is the newest state of the ConfigMap. b.mu is held.
func (b *Block) replace(e source.ConfigMapEvent, next *serving, newest bool) {
	before := b.serving.Load().hash
	b.remember(e) // before put, so that a Block that takes over gets the text together with the stanza
	if newest {
		b.setEdit(e, "")
	}
	b.record(e, next.hash, "applied")
	b.put(next, fromConfigMap)
	log.Infof("Stanza %s of %s applied to %s in place of %s", next.hash, b.configMapName(), b.name, before)
	b.report(e, source.Report{Note: fmt.Sprintf("Stanza %s applied to %s", next.hash, b.name)})
}

// accept records that the stanza of e already serves. b.mu is held.
func (b *Block) accept(e source.ConfigMapEvent) {
	if b.Refused() != "" {
		now := b.serving.Load()
		log.Infof("%s is good again: its stanza %s already serves %s", b.configMapName(), now.hash, b.name)
		b.report(e, source.Report{Note: fmt.Sprintf("Stanza %s applied to %s", now.hash, b.name)})
	}
	if known := b.edit.Load(); !known.of(e) || known.refused != "" {
		b.record(e, b.serving.Load().hash, "already serves")
	}
	b.setEdit(e, "")
	b.remember(e)
}

// remember stores the text of e as the last good one. b.mu is held.
func (b *Block) remember(e source.ConfigMapEvent) {
	good := e
	good.Data = b.textOf(e)
	b.good.Store(&lastGood{event: good})
}

// setEdit makes e the newest state of the ConfigMap. b.mu is held.
func (b *Block) setEdit(e source.ConfigMapEvent, refused string) {
	if e.Data = b.textOf(e); refused == "" {
		e.Data = nil
	}
	b.edit.Store(&edit{e, refused})
}

// textOf returns the data of e at the one key, nil if e has none.
func (b *Block) textOf(e source.ConfigMapEvent) map[string]string {
	ref := b.base.ConfigMap
	if ref == nil {
		return nil
	}
	text, ok := e.Data[ref.Key]
	if !ok {
		return nil
	}
	return map[string]string{ref.Key: text}
}

// refuse counts that the stanza of e is not applied, and logs the reason, unless it did so before. b.mu
// is held.
func (b *Block) refuse(e source.ConfigMapEvent, err error) {
	known, why := b.edit.Load(), err.Error()
	b.unstale()
	if known.of(e) && known.refused == why {
		return
	}
	if known == nil || known.refused != why {
		log.Errorf("Stanza of %s not changed, the last good one (%s) goes on serving: %s", b.name, b.serving.Load().hash, why)
	}
	b.setEdit(e, why)
	b.record(e, "", "refused: "+why)
	stanzaRejected.WithLabelValues(b.name).Inc()
	b.report(e, source.Report{Refused: true, Note: fmt.Sprintf("Stanza of %s not changed, the last good one goes on serving: %s", b.name, why)})
}

// unstale records that the stanza of the snapshot, if it serves, is the ConfigMap's current good one. b.mu is held.
func (b *Block) unstale() {
	now := *b.serving.Load()
	if now.view.Snapshot == 0 {
		return
	}
	view := *now.view
	view.Snapshot = 0
	now.view = &view
	b.serving.Store(&now)
	b.good.Store(&lastGood{event: b.good.Load().event})
}

// report writes an Event about e on the ConfigMap. If b follows none, the stanza is the Corefile's, and the Event is on
// the ConfigMap of that.
func (b *Block) report(e source.ConfigMapEvent, r source.Report) {
	r.Block = b.name
	if b.base.ConfigMap == nil {
		reportWhole(r)
		return
	}
	b.source.Report(b.namespace(), b.base.ConfigMap.Name, e, r)
}
