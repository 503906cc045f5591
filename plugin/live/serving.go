package live

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/coredns/coredns/plugin"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/serial"
	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// The origins of a serving stanza.
const (
	fromCorefile  = "corefile"
	fromConfigMap = "configmap"
	fromSnapshot  = "snapshot"
)

// serving is a stanza ready to answer, and what it holds open. It never changes once published.
type serving struct {
	view      *answer.View
	config    *stanza.Config
	hash      string // of config
	origin    string // fromCorefile, fromConfigMap or fromSnapshot
	since     time.Time
	selection source.Selection
	objects   *source.Objects // nil if neither Services nor external names are served
	wanted    source.Selection
	outside   *source.Objects       // of wanted: the objects that have external names; nil if none are served
	conflicts []*external.Conflicts // of the external options
	hosts     map[string]*tableUse  // by FILE
	layers    []layerOrigin         // of view.Hosts
	restored  bool                  // all objects come from the snapshot file, until they are listed
}

// selectionOf returns the selection of the objects that a stanza serves.
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

// outsideOf returns the selection of the objects that the external options of a stanza need, an empty
// one without external options.
func outsideOf(c *stanza.Config) source.Selection {
	sel := source.Selection{Labels: c.Labels, NamespaceLabels: c.NamespaceLabels}
	for _, e := range c.External {
		sel.External |= external.Source(e.From)
	}
	return sel
}

// prepare prepares c for serving, and does everything that can fail. Objects not yet requested from the API server come
// from the snapshot from, which may be nil, until it answers. b.mu is held.
func (b *Block) prepare(c *stanza.Config, from *source.Snapshot) (*serving, error) {
	now := b.serving.Load()
	next := &serving{config: c, hash: c.Hash(), selection: selectionOf(c), wanted: outsideOf(c), hosts: make(map[string]*tableUse)}
	if err := b.open(next, now, from); err != nil {
		next.close(now)
		return nil, c.Errorf("%v", err)
	}
	layers, err := b.layersOf(c, next.hosts)
	if err != nil {
		next.close(now)
		return nil, err
	}
	index := services.NewIndex()
	if next.objects != nil {
		index = next.objects.Index()
	}
	next.layers = layers.origins
	next.view = newView(c, index, layers.all, b.local)
	if next.outside != nil {
		next.view.Outside = next.outside.External()
	}
	return next, nil
}

// open opens the objects and hosts files of next. It shares the objects of now, which may be nil.
func (b *Block) open(next, now *serving, from *source.Snapshot) (err error) {
	used, usedOutside := true, true
	switch {
	case len(next.config.Zones) == 0 && len(next.config.External) == 0:
	case now != nil && now.objects != nil && now.selection == next.selection:
		next.objects = now.objects
	default:
		if next.objects, used, err = b.source.ObjectsFrom(from, next.selection); err != nil {
			return err
		}
	}
	switch {
	case len(next.config.External) == 0:
	case now != nil && now.outside != nil && now.wanted == next.wanted:
		next.outside = now.outside
	default:
		if next.outside, usedOutside, err = b.source.ObjectsFrom(from, next.wanted); err != nil {
			return err
		}
	}
	next.restored = from != nil && used && usedOutside
	for path, reload := range b.filesOf(next.config) {
		use, err := openTables.open(path, b.origins(), b.name, reload)
		if err != nil {
			return err
		}
		next.hosts[path] = use
		if now == nil && reload == 0 { // a reload of the Corefile reads its files again
			use.look()
		}
	}
	return nil
}

// filesOf returns the FILEs of c, each with the interval at which it is checked: the shortest interval of its options,
// 0 only if all of them have 0.
func (b *Block) filesOf(c *stanza.Config) map[string]time.Duration {
	all := make(map[string]time.Duration)
	for i := range c.Hosts {
		h := &c.Hosts[i]
		for _, path := range b.paths(h.Files) {
			if now := all[path]; now == 0 || h.Reload > 0 && h.Reload < now {
				all[path] = h.Reload
			}
		}
	}
	return all
}

// close closes the hosts files, and the objects that keep does not share. keep may be nil.
func (s *serving) close(keep *serving) {
	if s.objects != nil && (keep == nil || keep.objects != s.objects) {
		s.objects.Close()
	}
	s.unwatchConflicts()
	if s.outside != nil && (keep == nil || keep.outside != s.outside) {
		s.outside.Close()
	}
	for _, use := range s.hosts {
		use.close()
	}
}

// put serves next, which b prepared. It can't fail. b.mu is held.
func (b *Block) put(next *serving, origin string) {
	now := b.serving.Load()
	next.origin, next.since = origin, time.Now()
	b.watchConflicts(next)
	if now.sameIndexes(next) && b.content(now) == b.content(next) {
		next.view.Serial = now.serial()
		b.serving.Store(next)
	} else {
		serial.Change(func(s serial.Stamp) {
			next.view.Serial = s
			b.serving.Store(next)
		})
	}
	now.close(next)
}

// content returns a hash of everything but objects that s has in the zones, their SOA records and their name servers.
// It is the same in every process of one version.
func (b *Block) content(s *serving) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %q\n", s.hash, b.local)
	if len(s.view.Hosts) > 0 {
		fmt.Fprintf(sum, "%q\n", b.origins())
	}
	for i := range s.view.Hosts { // their options are in the hash
		all := s.view.Hosts[i].Tables.All()
		fmt.Fprintf(sum, "%d\n", len(all))
		for _, t := range all {
			lines := t.Sum()
			sum.Write(lines[:])
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// sameIndexes reports whether s and o answer from the same indexes.
func (s *serving) sameIndexes(o *serving) bool {
	return s.view.Index == o.view.Index && s.view.Outside == o.view.Outside
}

// synced reports whether all objects of s were read.
func (s *serving) synced() bool {
	return (s.objects == nil || s.objects.Synced()) && (s.outside == nil || s.outside.Synced())
}

// serial returns the latest serial of the zones.
func (s *serving) serial() serial.Stamp { return s.view.Latest() }

// origins returns the zones of the server block, to which names in hosts lines are limited; nil for
// all names.
func (b *Block) origins() []string {
	origins := plugin.OriginsFromArgsOrServerBlock(nil, b.Keys)
	if slices.Contains(origins, ".") {
		return nil
	}
	slices.Sort(origins)
	return slices.Compact(origins)
}
