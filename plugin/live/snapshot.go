package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// A snapshot is looked for something to write every snapshotLook, and written at most every snapshotPause, or ever
// snapshotShare times as long as the last one took: a cluster of a million endpoints, which takes seconds, may change all
// the time.
const (
	snapshotLook  = time.Second
	snapshotPause = 5 * time.Second
	snapshotShare = 20
)

// snapshot is the snapshot file of a server block.
type snapshot struct {
	path   string
	block  string
	cancel context.CancelFunc // ends the writing

	last   *source.Capture // the one that is on disk, without its objects; nil if none of this process is
	next   time.Time       // the earliest for another one
	failed string          // what was last said of writing, so that it is not said twice; "" if it went well
}

// openSnapshot makes the file that the Corefile's stanza names the snapshot of this server block.
func (k *Block) openSnapshot() error {
	if k.base.Snapshot == "" || k.source == nil {
		return nil
	}
	path := k.paths([]string{k.base.Snapshot})[0]
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if other := begun.writing(path); other != nil {
		name := other.block
		if name == k.block { // as the plugin view allows
			name = "another server block with the same keys"
		}
		return fmt.Errorf("snapshot %s of %s is that of %s already; give each server block a file of its own", path, k.block, name)
	}
	k.snapshot = &snapshot{path: path, block: k.block, cancel: func() {}}
	snapshotErrors.WithLabelValues(k.block)
	return nil
}

// fromSnapshot returns the snapshot that this server block can start from, and the stanza in it. Both may be nil.
func (k *Block) fromSnapshot() (*source.Snapshot, *stanza.Config) {
	if k.snapshot == nil || k.source.Synced() { // after a reload there is better
		return nil, nil
	}
	sn, err := k.source.ReadSnapshot(k.snapshot.path)
	if errors.Is(err, fs.ErrNotExist) {
		log.Infof("Snapshot %s is not there yet", k.snapshot.path)
		return nil, nil
	}
	if err != nil {
		snapshotErrors.WithLabelValues(k.block).Inc()
		log.Errorf("Snapshot can't be used, so nothing is known until the Kubernetes API answers, and then it is written anew: %v", err)
		return nil, nil
	}
	if k.base.ConfigMap == nil {
		return sn, nil
	}
	e, ok := sn.ConfigMap(k.namespace(), k.base.ConfigMap.Name)
	if !ok {
		return sn, nil
	}
	c, err := k.read(e)
	if err != nil {
		log.Warningf("The stanza in snapshot %s does not go with this Corefile, whose own serves until the ConfigMap is read: %v", k.snapshot.path, err)
		return sn, nil
	}
	k.good = k.stanzaOf(e)
	return sn, c
}

// begin puts the first stanza in place: that of the snapshot, if there is one, else the Corefile's.
func (k *Block) begin() error {
	sn, c := k.fromSnapshot()
	k.mu.Lock()
	defer k.mu.Unlock()
	if c != nil {
		next, err := k.open(c, sn)
		if err == nil {
			err = k.put(c, next, "snapshot")
		}
		if err == nil {
			k.beginStale(sn)
			v := *k.View()
			v.Snapshot = written(sn)
			k.view.Store(&v)
			return nil
		}
		log.Warningf("The stanza in snapshot %s can't be applied, the Corefile's serves until the ConfigMap is read: %v", k.snapshot.path, err)
	}
	next, err := k.open(k.base, sn)
	if err != nil {
		return err
	}
	if err := k.put(k.base, next, "corefile"); err != nil {
		return err
	}
	if sn != nil {
		k.beginStale(sn)
	}
	return nil
}

// beginStale takes note that answers come from sn, if they do. k.mu is held.
func (k *Block) beginStale(sn *source.Snapshot) {
	if o := k.serving.objects; o != nil && !o.Synced() && o.Index().State().Snapshot() == 0 {
		log.Warningf("Snapshot %s does not hold what the stanza of %s selects, so nothing is known until the Kubernetes API answers", k.snapshot.path, k.block)
		return
	}
	k.began = time.Now()
	log.Infof("Answers of %s come from snapshot %s, written %s, until the Kubernetes API answers", k.block, k.snapshot.path, sn.Written().Format(time.RFC3339))
}

func written(sn *source.Snapshot) uint32 { return max(1, uint32(sn.Written().Unix())) } // #nosec G115 -- good until 2106

// stanzaOf is what a snapshot keeps of the ConfigMap that e told of.
func (k *Block) stanzaOf(e source.ConfigMapEvent) *source.Stanza {
	ref := k.base.ConfigMap
	return &source.Stanza{Namespace: k.namespace(), Name: ref.Name, Key: ref.Key, Text: e.Data[ref.Key]}
}

// keep writes the snapshot whenever what it is to hold changed, until ctx ends.
func (k *Block) keep(ctx context.Context, s *snapshot) {
	source.CleanSnapshot(s.path)
	tick := time.NewTicker(snapshotLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Now().Before(s.next) {
			continue
		}
		if c := k.capture(); c != nil && !c.Same(s.last) {
			s.write(c)
		}
	}
}

// capture returns what there is to be kept, nil if not all of it was read from the API server yet.
func (k *Block) capture() *source.Capture {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped || k.base.ConfigMap != nil && !k.heard {
		return nil
	}
	c := k.source.Capture(k.serving.objects, k.good)
	if c != nil && !k.began.IsZero() {
		log.Infof("Answers of %s come from the Kubernetes API now, after %s from the snapshot", k.block, time.Since(k.began).Round(time.Second/10))
		k.began = time.Time{}
	}
	return c
}

func (s *snapshot) write(c *source.Capture) {
	start := time.Now()
	size, err := c.Write(s.path)
	s.next = time.Now().Add(max(snapshotPause, snapshotShare*time.Since(start)))
	if err != nil {
		snapshotErrors.WithLabelValues(s.block).Inc()
		if s.failed != err.Error() {
			log.Errorf("Snapshot not written, the one before stays if there is one: %v; trying on", err)
		}
		s.failed = err.Error()
		return
	}
	if s.failed != "" {
		log.Infof("Snapshot %s is written again", s.path)
		s.failed = ""
	}
	snapshotSize.WithLabelValues(s.block).Set(float64(size))
	snapshotWritten.WithLabelValues(s.block).Set(float64(time.Now().Unix()))
	c.Forget()
	s.last = c
}

// close ends the writing. A write may be under way.
func (s *snapshot) close() {
	s.cancel()
}
