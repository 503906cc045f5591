package live

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/serial"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// During a reload a server block has two Blocks. The new one starts while the old one serves, and takes over its state.
// The old one is stopped once the new server listens. If that fails, the new one is stopped, and the old one continues
// unchanged.

// blocks are the Blocks that are started and not stopped.
var blocks registry

type registry struct {
	mu      sync.Mutex
	all     []*Block // in the order of their start
	restart *restart // the current one; nil if there is none
}

// restart is a reload of the Corefile.
type restart struct {
	of     any      // the Corefile that serves until the reload succeeds, as in ServerBlock
	before []*Block // the Blocks that had started when it began
}

// RestartBegan records that a reload begins to replace corefile, as in ServerBlock.
func RestartBegan(corefile any) {
	blocks.mu.Lock()
	defer blocks.mu.Unlock()
	blocks.restart = &restart{corefile, slices.Clone(blocks.all)}
}

// RestartFailed stops the Blocks that started since a reload of corefile began: CoreDNS drops them without notice. It
// does nothing if there is no such reload, as after one that another plugin prevented.
func RestartFailed(corefile any) {
	for _, b := range blocks.abandoned(corefile) {
		b.Stop()
	}
}

func (r *registry) abandoned(corefile any) []*Block {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.restart == nil || r.restart.of != corefile {
		return nil
	}
	before := r.restart.before
	r.restart = nil
	return slices.DeleteFunc(slices.Clone(r.all), func(b *Block) bool { return slices.Contains(before, b) })
}

// add adds b, names it, and returns the Blocks of other Corefiles, sorted by their likeness to b and then newest first.
func (r *registry) add(b *Block) (before []*Block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.name = nameOf(b.Keys[0], b.view)
	namesakes := 0
	for _, o := range slices.Backward(r.all) {
		switch {
		case o.Corefile != b.Corefile:
			before = append(before, o)
			continue
		case o.sameKeys(b):
			b.twin++
		}
		b.place++
		if nameOf(o.Keys[0], o.view) == b.name {
			namesakes++
		}
	}
	if namesakes > 0 {
		b.name += fmt.Sprintf(" (%d)", namesakes+1)
	}
	stanzaRejected.WithLabelValues(b.name)
	r.all = append(r.all, b)
	slices.SortStableFunc(before, func(x, y *Block) int { return b.likeness(y) - b.likeness(x) })
	return before
}

// remove removes b, and its counters unless another Block continues them.
func (r *registry) remove(b *Block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(o *Block) bool { return o == b })
	if r.restart != nil && r.restart.of == b.Corefile {
		r.restart = nil // it succeeded
	}
	if !slices.ContainsFunc(r.all, func(o *Block) bool { return o.name == b.name }) {
		stanzaRejected.DeleteLabelValues(b.name)
		snapshotErrors.DeleteLabelValues(b.name)
	}
}

// newest returns the newest Block of each name that serves, or one that does not serve yet if there is no other.
func (r *registry) newest() map[string]*Block {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]*Block)
	for _, b := range r.all {
		if all[b.name] == nil || b.serving.Load() != nil {
			all[b.name] = b
		}
	}
	return all
}

// nameOf returns the name of a server block in logs, Events and metrics.
func nameOf(key, view string) string {
	if view != "" {
		key += " view=" + view
	}
	return safe.Printable(key)
}

// sameKeys reports whether b and o have the same keys and the same view.
func (b *Block) sameKeys(o *Block) bool {
	return b.view == o.view && slices.Equal(slices.Sorted(slices.Values(b.Keys)), slices.Sorted(slices.Values(o.Keys)))
}

// succeeds reports whether b and old are for the same server block.
func (b *Block) succeeds(old *Block) bool { return b.sameKeys(old) && b.twin == old.twin }

// continues reports whether b may take over the state of old: it is for the same server block, or for one with other
// keys whose view and ConfigMap are the same.
func (b *Block) continues(old *Block) bool {
	return b.succeeds(old) || b.view == old.view && b.sameConfigMap(old)
}

// likeness rates how much of the state of old, a Block of the previous Corefile, is of use to b.
func (b *Block) likeness(old *Block) (n int) {
	const most = 100
	shared := 0
	for _, key := range b.Keys[:min(len(b.Keys), most)] {
		if slices.Contains(old.Keys, key) {
			shared++
		}
	}
	if n = 2 * shared; b.place == old.place {
		n++
	}
	if b.view == old.view {
		n += 4 * most
	}
	if b.succeeds(old) {
		n += 8 * most
	}
	return n
}

// sameConfigMap reports whether b and old follow the same ConfigMap. The credentials and the rate of the requests may
// have changed.
func (b *Block) sameConfigMap(old *Block) bool {
	if b.base.ConfigMap == nil || old.base.ConfigMap == nil || b.namespace() != old.namespace() ||
		b.base.ConfigMap.Name != old.base.ConfigMap.Name || b.base.ConfigMap.Key != old.base.ConfigMap.Key {
		return false
	}
	here, there := b.spec(), old.spec()
	return here.Manifests == there.Manifests && here.Kubeconfig == there.Kubeconfig && here.Context == there.Context && here.Endpoint == there.Endpoint
}

// known is a last good text of the ConfigMap that a start may use.
type known struct {
	text *lastGood
	from string // its origin, for the log
	own  bool   // it is that of this server block
}

// begin serves the first stanza: the last good one that is known and fits the Corefile, else the Corefile's own. No
// query sees another one before it. before are the Blocks of the previous Corefile.
func (b *Block) begin(before []*Block) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	sn := b.readSnapshot()
	if sn != nil {
		serial.Advance(sn.Serial())
	}
	var last *Block
	if i := slices.IndexFunc(before, b.continues); i >= 0 {
		last = before[i]
	}
	next, err := b.first(b.knownTexts(before, last, sn), sn)
	if err != nil {
		return err
	}
	next.view.Serial = b.firstSerial(before, sn, next)
	next.since = time.Now()
	if last != nil {
		b.takeOver(last, next)
	}
	b.watchConflicts(next)
	b.serving.Store(next)
	b.beginStale(sn)
	if last != nil && b.sameConfigMap(last) {
		b.takeOverEdit(last)
	}
	return nil
}

// knownTexts returns the last good texts of the ConfigMap in before and sn, most likely first. That of last, which may
// be nil, is the server block's own.
func (b *Block) knownTexts(before []*Block, last *Block, sn *source.Snapshot) (all []known) {
	if b.base.ConfigMap == nil {
		return nil
	}
	for _, old := range before {
		if good := old.good.Load(); good != nil && b.sameConfigMap(old) {
			all = append(all, known{good, "which served " + old.name + " until the Corefile was reloaded", old == last})
		}
	}
	if sn == nil {
		return all
	}
	if e, ok := sn.ConfigMap(b.namespace(), b.base.ConfigMap.Name); ok {
		all = append(all, known{&lastGood{e, writtenAt(sn)}, "in snapshot " + safe.Printable(b.snapshot.path), true})
	}
	return all
}

// first prepares the first stanza to serve. Its text becomes the last good one. If none fits the Corefile, the most
// likely text is kept nevertheless, so that a Corefile put there by mistake does not lose it.
func (b *Block) first(texts []known, sn *source.Snapshot) (*serving, error) {
	for _, k := range texts {
		next, err := b.prepareText(k.text, sn)
		if err == nil {
			b.good.Store(k.text)
			return next, nil
		}
		if k.own {
			log.Warningf("The last good stanza of %s, %s, does not fit this Corefile, so the Corefile's own serves %s until the ConfigMap has a good one: %v",
				b.configMapName(), k.from, b.name, err)
		}
	}
	if len(texts) > 0 && texts[0].own {
		b.good.Store(texts[0].text)
	}
	next, err := b.prepare(b.base, sn)
	if err != nil {
		return nil, err
	}
	next.origin = fromCorefile
	return next, nil
}

// prepareText prepares the stanza in a last good text.
func (b *Block) prepareText(text *lastGood, sn *source.Snapshot) (*serving, error) {
	c, err := b.read(text.event)
	if err != nil {
		return nil, err
	}
	next, err := b.prepare(c, sn)
	if err != nil {
		return nil, err
	}
	next.origin, next.view.Snapshot = fromConfigMap, text.written
	if text.written != 0 {
		next.origin = fromSnapshot
	}
	return next, nil
}

// firstSerial returns the serial of the zones when b begins with next. It is later than that of any Block of the
// previous Corefile that has one of the zones, and of the snapshot sn, which may be nil. It is the latest of these if
// its zones had the same content.
func (b *Block) firstSerial(before []*Block, sn *source.Snapshot, next *serving) (first serial.Stamp) {
	content, same := b.content(next), false
	if sn != nil {
		first, same = serial.Of(sn.Serial()), next.restored && sn.Content() == content
	}
	for _, old := range before {
		last := old.serving.Load()
		if last == nil || !last.shareZone(next) {
			continue
		}
		s := last.serial()
		if serial.Later(first, s) != first {
			first, same = s, false
		}
		same = same || s == first && last.sameIndexes(next) && old.content(last) == content
	}
	switch {
	case first == serial.Stamp{}:
		return serial.Open()
	case same:
		return first
	}
	serial.Change(func(s serial.Stamp) { first = s })
	return first
}

// shareZone reports whether s and o have a zone of the same name.
func (s *serving) shareZone(o *serving) bool {
	names := make(map[string]struct{}, len(s.view.Zones))
	for i := range s.view.Zones {
		names[s.view.Zones[i].Name] = struct{}{}
	}
	return slices.ContainsFunc(o.view.Zones, func(z answer.Zone) bool {
		_, ok := names[z.Name]
		return ok
	})
}

// takeOver takes over the state of old, apart from the stanza and the state of the ConfigMap: the time since which the
// stanza serves, and the time since which answers come from the snapshot. next is the stanza that b is about to serve.
// b.mu is held.
func (b *Block) takeOver(old *Block, next *serving) {
	last := old.serving.Load()
	if last == nil {
		return
	}
	if next.objects != nil && next.view.Index.State().Snapshot() != 0 {
		b.stale.Store(old.stale.Load())
	}
	switch {
	case last.hash == next.hash && last.origin == next.origin:
		next.since = last.since
	case next.origin != fromCorefile:
		log.Infof("Stanza %s of %s serves %s in place of %s after a change of the Corefile", next.hash, b.configMapName(), b.name, last.hash)
	}
}

// takeOverEdit takes over the state of the ConfigMap from old, so as not to report it again. If the text was refused,
// it is judged by the keys and the stanza of b, which may differ from old's. b.mu is held.
func (b *Block) takeOverEdit(old *Block) {
	b.edits.Store(old.edits.Load())
	known := old.edit.Load()
	if known == nil || known.refused == "" {
		b.edit.Store(known)
		return
	}
	_, ours := b.read(known.event)
	_, theirs := old.read(known.event)
	switch {
	case ours != nil && ours.Error() != known.refused:
		b.refuse(known.event, ours)
	case ours != nil || theirs == nil: // the same fault; or one of the objects, which remains until they are listed
		b.edit.Store(known)
	}
}
