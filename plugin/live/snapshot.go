package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// Every snapshotLook, the writer of a snapshot file checks for something new to write. It writes at most every
// snapshotPause, and for at most 1/snapshotShare of the time: a cluster of a million endpoints, which takes seconds to
// write, may change all the time.
const (
	snapshotLook  = time.Second
	snapshotPause = 5 * time.Second
	snapshotShare = 20
)

// snapshotRenewed is the age at which an unchanged snapshot is written again. So the time of a snapshot limits the age
// of its content, and a much older one means that something is wrong.
const snapshotRenewed = 30 * time.Minute

// snapshotFile is a snapshot file and its one writer. It belongs to one server block. During a reload two Blocks share
// it, and the newer one decides what is written.
type snapshotFile struct {
	path   string
	cancel context.CancelFunc          // ends the writing
	last   atomic.Pointer[writtenFile] // what this process wrote last, nil if nothing yet
	users  []*Block                    // newest last; guarded by snapshots.mu
	next   time.Time                   // the earliest time for another write; only the writer uses it
	failed string                      // the last logged error of a write, to avoid repeating it; "" after a success; only the writer uses it
	why    atomic.Pointer[string]      // failed, for other goroutines; nil if the last write succeeded
}

// writtenFile is the content of a snapshot file.
type writtenFile struct {
	capture *source.Capture // without objects
	at      time.Time
	size    int64 // bytes
}

// outdated reports whether w, whose content is still current, has to be written again at the time now. news is the last
// time when nothing was known to be missing (source.Source.News): while the API server does not respond, the file is
// not renewed.
func (w *writtenFile) outdated(now, news time.Time) bool {
	return now.Sub(w.at) >= snapshotRenewed && news.After(w.at)
}

// snapshots are the snapshot files of this process, by path.
var snapshots = snapshotFiles{all: make(map[string]*snapshotFile)}

type snapshotFiles struct {
	mu  sync.Mutex
	all map[string]*snapshotFile
}

// claim returns the snapshot file at path for b. It fails if another server block of the same Corefile has it.
func (s *snapshotFiles) claim(path string, b *Block) (*snapshotFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.all[path]
	if f == nil {
		ctx, cancel := context.WithCancel(context.Background())
		f = &snapshotFile{path: path, cancel: cancel}
		s.all[path] = f
		safe.Go(ctx, "the writing of snapshot "+safe.Printable(path), f.run)
	}
	for _, o := range f.users {
		if o.Corefile == b.Corefile {
			return nil, fmt.Errorf("snapshot %s of %s is already that of %s; give each server block a file of its own", safe.Printable(path), b.name, o.name)
		}
	}
	f.users = append(f.users, b)
	return f, nil
}

// release removes b from the users of f. When the last one is removed the writing ends; a write may still
// be running.
func (s *snapshotFiles) release(f *snapshotFile, b *Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.users = slices.DeleteFunc(f.users, func(o *Block) bool { return o == b })
	if len(f.users) == 0 {
		f.cancel()
		delete(s.all, f.path)
	}
}

// user returns the Block that decides what is written to f, nil if none is left.
func (s *snapshotFiles) user(f *snapshotFile) *Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(f.users) == 0 {
		return nil
	}
	return f.users[len(f.users)-1]
}

// countError counts that f could not be read or written on behalf of b, unless b was stopped meanwhile.
func (s *snapshotFiles) countError(f *snapshotFile, b *Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(f.users, b) {
		snapshotErrors.WithLabelValues(b.name).Inc()
	}
}

// claimSnapshot claims the file that the Corefile's stanza names as the snapshot of this server
// block.
func (b *Block) claimSnapshot() error {
	if b.base.Snapshot == "" || b.source == nil {
		return nil
	}
	path := b.paths([]string{b.base.Snapshot})[0]
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if b.Offline {
		b.snapshot = &snapshotFile{path: path, cancel: func() {}}
		return nil
	}
	f, err := snapshots.claim(path, b)
	if err != nil {
		return err
	}
	b.snapshot = f
	snapshotErrors.WithLabelValues(b.name)
	return nil
}

// readSnapshot returns the content of the snapshot file. It returns nil if it can't be used, or is not needed because
// objects were already read from the API server.
func (b *Block) readSnapshot() *source.Snapshot {
	if b.snapshot == nil || b.source.Synced() {
		return nil
	}
	sn, err := b.source.ReadSnapshot(b.snapshot.path)
	if errors.Is(err, fs.ErrNotExist) {
		log.Infof("Snapshot %s does not exist yet", safe.Printable(b.snapshot.path))
		return nil
	}
	if err != nil {
		snapshots.countError(b.snapshot, b)
		log.Errorf("Snapshot can't be used, so no objects are known until the Kubernetes API answers; then it is written anew: %s", safe.Printable(err.Error()))
		return nil
	}
	return sn
}

// beginStale records that the first answers come from sn, if they do. sn may be nil. b.mu is held.
func (b *Block) beginStale(sn *source.Snapshot) {
	if sn == nil || b.stale.Load() != nil {
		return
	}
	path := safe.Printable(b.snapshot.path)
	if o := b.serving.Load().objects; o != nil && !o.Synced() && o.Index().State().Snapshot() == 0 {
		log.Warningf("Snapshot %s does not hold the objects that the stanza of %s selects, so none are known until the Kubernetes API answers", path, b.name)
		return
	}
	now := time.Now()
	b.stale.Store(&now)
	log.Infof("Answers of %s come from snapshot %s, written %s, until the Kubernetes API answers", b.name, path, sn.Written().Format(time.RFC3339))
}

// writtenAt is the Unix time at which sn was written.
func writtenAt(sn *source.Snapshot) uint32 { return max(1, uint32(sn.Written().Unix())) } // #nosec G115 -- good until 2106

// capture returns the content for the snapshot, nil if it was not completely read from the API server
// yet.
func (b *Block) capture() *source.Capture {
	now := b.serving.Load()
	if now == nil || b.base.ConfigMap != nil && !b.settled.Load() {
		return nil
	}
	var text *source.Stanza
	if good := b.good.Load(); good != nil {
		ref := b.base.ConfigMap
		text = &source.Stanza{Namespace: b.namespace(), Name: ref.Name, Key: ref.Key, Text: good.event.Data[ref.Key]}
	}
	last := now.serial()
	c := b.source.Capture(now.objects, now.outside, text)
	if c == nil {
		return nil
	}
	c.Serial, c.Content = last.Last(), b.content(now)
	if now.serial() != last || b.serving.Load() != now {
		return nil // it may be the serial of other content, so the next look captures it
	}
	if since := b.stale.Swap(nil); since != nil {
		log.Infof("Answers of %s come from the Kubernetes API now, after %s from the snapshot", b.name, time.Since(*since).Round(time.Second/10))
	}
	return c
}

// run writes the file whenever its content has changed or is outdated, until ctx ends.
func (f *snapshotFile) run(ctx context.Context) {
	source.CleanSnapshot(f.path)
	look := time.NewTicker(snapshotLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		b := snapshots.user(f)
		if b == nil || time.Now().Before(f.next) {
			continue
		}
		last := f.last.Load()
		if c := b.capture(); c != nil && (last == nil || !c.Same(last.capture) || last.outdated(time.Now(), b.source.News())) {
			f.write(b, c)
		}
	}
}

// write writes c on behalf of b.
func (f *snapshotFile) write(b *Block, c *source.Capture) {
	start := time.Now()
	size, err := c.Write(f.path)
	f.next = time.Now().Add(max(snapshotPause, snapshotShare*time.Since(start)))
	if err != nil {
		snapshots.countError(f, b)
		if f.failed != err.Error() {
			log.Errorf("Snapshot not written, any previous one stays: %s; retrying", safe.Printable(err.Error()))
		}
		why := err.Error()
		f.failed = why
		f.why.Store(&why)
		return
	}
	if f.failed != "" {
		log.Infof("Snapshot %s is written again", safe.Printable(f.path))
		f.failed = ""
		f.why.Store(nil)
	}
	c.Forget()
	f.last.Store(&writtenFile{c, time.Now(), size})
}
