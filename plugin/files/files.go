// Package files reads files that others may change at any time, and follows them: a path or a pattern -> the parsed
// content of each file, and a call after each change. It waits neither for a named pipe nor for a file system that does
// not respond, and bounds what it reads.
package files

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

var log = safe.NewLog("kubehosts")

// logged stores the faults of files that were logged.
var logged safe.Once

const (
	// settle is how long files must be unchanged before they are checked. A save in several steps then counts as one
	// change, and a change after the check has a later time than those before. settleMost is the longest wait.
	settle     = 20 * time.Millisecond
	settleMost = 200 * time.Millisecond

	// stillFor is how long a file must be unchanged before it is read, if the system does not report when its writer is
	// done.
	stillFor = 2 * time.Second

	// writerPatience is how long the last good content of a file serves while a process writes to it.
	writerPatience = 30 * time.Second

	// pollLeast is the shortest time between two checks, whatever was requested: a ConfigMap may request a
	// nanosecond.
	pollLeast = 100 * time.Millisecond

	// share limits the part of the time that checks may take, as its inverse.
	share = 5

	// A failed read is retried after retryLeast, then at growing intervals up to retryMost.
	retryLeast = time.Second
	retryMost  = 30 * time.Second

	// maxStuck is the number of reads of one Followed that may hang in the file system at the same time.
	maxStuck = 4
)

// Reading determines which files are read, and how.
type Reading[T any] struct {
	// Patterns are paths, or patterns of filepath.Match, and need not match anything yet. Relative ones start from the
	// working directory. A wildcard matches neither a leading dot of a name nor a link out of the folder before the
	// first wildcard.
	Patterns []string

	// Poll is the interval at which the files are checked where the system does not notify, at least a tenth of a
	// second. With 0 they are not followed: each is read once.
	Poll time.Duration

	MaxSize, MaxTotal int64 // bytes of one file, and of all together
	KeepGone          bool  // a file named without a wildcard keeps its content when it is deleted

	// Parse makes the content of a file, which it may read in pieces. A panic in it counts as an error.
	Parse func(path string, r io.Reader) (T, error)

	// Refused is called with the reason why a file can't be used in its current state. repeated means that the reason
	// is the same as before. The last good content of the file stays.
	Refused func(path string, err error, repeated bool)

	// Changed is called after each change of All but the first. One call ends before the next begins.
	Changed func()

	// For tests, to simulate a file system that does not respond.
	open  func(root, path string) (*os.File, os.FileInfo, error)
	stuck time.Duration
}

// File is one file, or a pattern with files that could not be checked, which has a Problem and no content.
type File[T any] struct {
	Path     string
	Content  T         // from the last time that the file could be used
	Good     bool      // the file could be used at least once
	Modified time.Time // modification time of that content
	Size     int64     // size of that content, in bytes
	Problem  string    // why the file can't be used in its current state; "" if it can
	Refused  int       // how often it could not be used
}

// Followed is the state of followed files, and alone decides whether a file changed. It has one goroutine, plus one for
// each check or read that hangs: one for each pattern, and four for files. Make one with Follow.
type Followed[T any] struct {
	reading Reading[T]
	poll    atomic.Int64 // nanoseconds
	cancel  context.CancelFunc
	started chan struct{} // closed after the first round
	asked   chan chan struct{}
	stuck   time.Duration // the longest time that a system call may take
	watches *watches
	all     atomic.Pointer[[]File[T]]

	// used only by the goroutine that follows
	patterns []*patternState
	files    map[string]*fileState[T]
	first    bool          // the first round is running
	asker    chan struct{} // to be closed after the round, or nil
	pause    time.Duration // until a failure is retried
	retry    time.Time     // the time of the retry; zero without a failure that may pass
	again    time.Time     // when to check a file that was changing; zero for none
	took     time.Duration // duration of the last checks, without reading
	total    int64         // the sum of Size of files
	hanging  int           // the number of files with an errand
}

// patternState is the last known state of a pattern.
type patternState struct {
	pattern string
	last    *scan
	errand  *errand[*scan] // a check that hangs, or nil
	problem string         // why some files may be missing; "" if none are
	refused int            // how often there was a new problem
}

// fileState is the last known state of a file.
type fileState[T any] struct {
	File[T]
	pattern *patternState
	info    os.FileInfo // of the version last read or refused; nil for none
	passing bool        // Problem may pass without a change of the file
	gone    bool        // it was deleted, but its content stays
	again   time.Time   // when to read it once more, because it had just changed; zero if not needed
	errand  *errand[read[T]]

	// of a change that was not read yet
	changed time.Time   // when it was first seen; zero without a change
	now     os.FileInfo // the file at the last check
	nowAt   time.Time   // since when it has been in that state
}

// read is the result of reading a file.
type read[T any] struct {
	info    os.FileInfo
	at      time.Time
	content T
	err     error
	passing bool // the error may pass
	torn    bool // the file changed during the read
}

// Follow reads files and follows them until Close. It returns once each was tried; All has them. A file system that
// does not respond delays it by 5 s, and so does each of up to four files. The attempts continue.
//
// Changes are noticed at once where the system can notify (Linux, local file systems), and otherwise every Poll. A file
// is read when its writer has closed it or, where the system does not report that, when it was unchanged for 2 s. After
// 30 s it is read anyway. A file that changed while it was read is read again. Failed reads are retried, and a call
// that hangs affects no other file. The error is a malformed pattern.
func Follow[T any](r Reading[T]) (*Followed[T], error) {
	fs, err := newFollowed(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	fs.cancel = cancel
	safe.Go(ctx, "the following of "+safe.Printable(strings.Join(r.Patterns, ", ")), fs.run)
	<-fs.started
	return fs, nil
}

func newFollowed[T any](r Reading[T]) (*Followed[T], error) {
	fs := &Followed[T]{reading: r, started: make(chan struct{}), asked: make(chan chan struct{}), watches: newWatches(), files: make(map[string]*fileState[T]), first: true, cancel: func() {}}
	fs.poll.Store(int64(leastPoll(r.Poll)))
	if fs.stuck = r.stuck; fs.stuck == 0 {
		fs.stuck, fs.reading.open = stuck, open
	}
	for _, p := range r.Patterns {
		if _, err := filepath.Match(p, ""); err != nil {
			return nil, fmt.Errorf("%q: %w", p, err)
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", p, err)
		}
		fs.patterns = append(fs.patterns, &patternState{pattern: abs, last: &scan{}})
	}
	fs.all.Store(new([]File[T]))
	return fs, nil
}

func leastPoll(d time.Duration) time.Duration {
	if d > 0 {
		return max(d, pollLeast)
	}
	return 0
}

// Close ends the following. No call begins after Close returned, but one may still be running.
func (fs *Followed[T]) Close() { fs.cancel() }

// All returns the existing files, in the order of their paths. Callers must not change them.
func (fs *Followed[T]) All() []File[T] { return *fs.all.Load() }

// SetPoll changes Poll.
func (fs *Followed[T]) SetPoll(d time.Duration) {
	if poll := int64(leastPoll(d)); fs.poll.Swap(poll) != poll {
		fs.watches.rouse()
	}
}

// Look checks the files now, even if they are not followed, and returns when that is done or ctx ends.
func (fs *Followed[T]) Look(ctx context.Context) {
	done := make(chan struct{})
	select {
	case fs.asked <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (fs *Followed[T]) run(ctx context.Context) {
	defer fs.watches.close()
	for notified := false; ctx.Err() == nil; {
		fs.round(ctx, notified)
		if fs.asker != nil {
			close(fs.asker)
			fs.asker = nil
		}
		notified = fs.await(ctx, fs.next(time.Now()))
	}
}

// next returns the time of the next check without a notification, zero for never.
func (fs *Followed[T]) next(now time.Time) time.Time {
	at := fs.again
	if poll := time.Duration(fs.poll.Load()); poll > 0 {
		at = sooner(at, now.Add(poll))
	}
	return sooner(at, fs.retry)
}

// sooner returns the sooner of two times. A zero time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// await waits until there is something to check, or until at. It reports whether a change was notified, or a check
// requested.
func (fs *Followed[T]) await(ctx context.Context, at time.Time) (notified bool) {
	pause(ctx, (share-1)*fs.took)
	var due <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-due:
		return false
	case fs.asker = <-fs.asked:
	case <-fs.watches.wake:
		fs.settle(ctx)
	}
	return true
}

// settle waits until there were no events for a while.
func (fs *Followed[T]) settle(ctx context.Context) {
	for end := time.Now().Add(settleMost); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
			return
		case <-fs.watches.wake:
			pause(ctx, settle/4) // there may be a thousand
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// round checks all files, and reads those that changed.
func (fs *Followed[T]) round(ctx context.Context, notified bool) {
	if fs.first {
		defer func() {
			fs.first = false
			close(fs.started)
		}()
	}
	start := time.Now()
	fs.again, fs.took = time.Time{}, 0
	for _, p := range fs.patterns {
		fs.look(ctx, p)
	}
	fs.keepWatches()
	fs.count()
	now := time.Now()
	var changed bool
	seen := make(map[string]bool)
	for _, p := range fs.patterns {
		for _, f := range p.last.found {
			if ctx.Err() != nil {
				return
			}
			if seen[f.path] {
				continue
			}
			seen[f.path] = true
			st := fs.files[f.path]
			if st == nil {
				st = &fileState[T]{File: File[T]{Path: f.path}}
				fs.files[f.path] = st
			}
			st.pattern, st.gone = p, false
			changed = fs.take(ctx, st, f, notified, now) || changed
		}
	}
	for path, st := range fs.files {
		if !seen[path] && !fs.stays(st) {
			delete(fs.files, path)
			changed = changed || st.Good
		}
	}
	fs.tryAgain(start)
	fs.publish()
	if changed && !fs.first && ctx.Err() == nil {
		fs.reading.Changed()
	}
}

// count sets total and hanging, which the rest of the round keeps up to date: with thousands of files, no file is
// compared with all others.
func (fs *Followed[T]) count() {
	fs.total, fs.hanging = 0, 0
	for _, st := range fs.files {
		fs.total += st.Size
		if st.errand != nil {
			fs.hanging++
		}
	}
}

// publish makes the current state available in All.
func (fs *Followed[T]) publish() {
	all := make([]File[T], 0, len(fs.files))
	for _, st := range fs.files {
		all = append(all, st.File)
	}
	for _, p := range fs.patterns {
		if p.refused > 0 {
			all = append(all, File[T]{Path: p.pattern, Problem: p.problem, Refused: p.refused})
		}
	}
	slices.SortFunc(all, func(a, b File[T]) int { return strings.Compare(a.Path, b.Path) })
	fs.all.Store(&all)
}

// tryAgain schedules the next attempt if something failed in a round that began at start.
func (fs *Followed[T]) tryAgain(start time.Time) {
	failed := slices.ContainsFunc(fs.patterns, func(p *patternState) bool {
		return p.last.err != nil || fs.once() && !IsPattern(p.pattern) && len(p.last.found) == 0
	})
	for _, st := range fs.files {
		failed = failed || st.passing
	}
	switch {
	case !failed:
		fs.retry, fs.pause = time.Time{}, 0
	case !start.Before(fs.retry): // it was just retried, or this is the first failure
		fs.pause = min(max(2*fs.pause, retryLeast), retryMost)
		fs.retry = time.Now().Add(fs.pause)
	}
}

// once reports whether files are read once and not followed.
func (fs *Followed[T]) once() bool { return fs.poll.Load() == 0 }

// look checks the files of p. If the file system does not respond, the last state stays.
func (fs *Followed[T]) look(ctx context.Context, p *patternState) {
	if p.errand != nil {
		if _, ok := p.errand.ended(); !ok {
			return
		}
		p.errand = nil // it is outdated
	}
	start := time.Now()
	e := begin("looking for "+safe.Printable(p.pattern), func(beat, _ func()) *scan { return fs.watched(p.pattern, beat) })
	s, err := e.wait(ctx, fs.stuck)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		p.last = s
		fs.took += time.Since(start)
	default:
		p.last = &scan{found: p.last.found, dirs: p.last.dirs, root: p.last.root, err: err}
	}
	if err == errStuck {
		p.errand = e
	}
	fs.judgeLook(p)
	if p.last.more && logged.First("more "+p.pattern) {
		log.Errorf("More than %d files or folders match %s; only the first are read", maxFiles, safe.Printable(p.pattern))
	}
}

// judgeLook determines why a check could not see all files.
func (fs *Followed[T]) judgeLook(p *patternState) {
	if p.last.err == nil {
		if p.problem != "" {
			log.Infof("%s can be searched again", safe.Printable(p.pattern))
		}
		p.problem = ""
		return
	}
	if text := safe.Printable(reason(p.last.err).Error()); text != p.problem {
		p.problem = text
		p.refused++
		fs.reading.Refused(p.pattern, reason(p.last.err), false)
	}
}

// watched checks the files of pattern after it has added watches, so that later changes are notified. A folder may
// appear between its check and the watch on its parent, so watched repeats this until nothing is new.
func (fs *Followed[T]) watched(pattern string, beat func()) (s *scan) {
	for range maxLinks {
		s = look(pattern, beat)
		grown := false
		for path, names := range s.dirs {
			if fs.once() {
				break
			}
			beat()
			more, err := fs.watches.add(path, names)
			if err != nil && !absent(err) && logged.First("watch "+err.Error()) {
				log.Warningf("no notifications of changes in %s: %v; checking every %s instead", safe.Printable(path), err, time.Duration(fs.poll.Load()))
			}
			grown = grown || more
		}
		if !grown {
			break
		}
	}
	return s
}

// keepWatches removes the watches that are no longer needed.
func (fs *Followed[T]) keepWatches() {
	dirs := make(map[string]names)
	for _, p := range fs.patterns {
		for path, some := range p.last.dirs {
			if dirs[path] == nil {
				dirs[path] = make(names)
			}
			maps.Copy(dirs[path], some)
		}
	}
	fs.watches.keep(dirs)
}

// sameFile reports whether a and b are the same file with the same content, judging by their metadata. Each may be nil.
func sameFile(a, b os.FileInfo) bool {
	return sameContent(a, b) && changedAt(a).Equal(changedAt(b))
}

// sameContent is sameFile without the file's names and attributes.
func sameContent(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// take reads the file f if necessary, and reports whether its content changed.
func (fs *Followed[T]) take(ctx context.Context, st *fileState[T], f match, notified bool, now time.Time) bool {
	if st.errand != nil {
		o, ok := st.errand.ended()
		if !ok {
			return false
		}
		st.errand = nil
		fs.hanging--
		if o.err == nil {
			return fs.judge(st, o.result, now)
		}
	}
	if f.err != nil {
		fs.refuse(st, nil, reason(f.err), true)
		return false
	}
	if fs.once() && st.Good && !notified && st.changed.IsZero() {
		return false
	}
	if sameFile(f.info, st.info) {
		st.changed = time.Time{}
		retry := st.passing && (notified || !now.Before(fs.retry))
		young := !st.again.IsZero() && !now.Before(st.again)
		if !retry && !young {
			fs.again = sooner(fs.again, st.again)
			return false
		}
	} else if !fs.settled(st, f, notified, now) {
		return false
	}
	return fs.read(ctx, st, f, now)
}

// settled reports whether a changed file can be read. If not, it sets the time of the next check.
func (fs *Followed[T]) settled(st *fileState[T], f match, notified bool, now time.Time) bool {
	if !sameFile(f.info, st.now) {
		st.now, st.nowAt = f.info, now
	}
	if st.changed.IsZero() {
		st.changed = now
	}
	end := st.changed.Add(writerPatience)
	w := fs.watches.writer(f.real, f.info.Size())
	emptied := f.info.Size() == 0 && st.Good && st.Size > 0
	switch {
	case fs.first, w.closed && !w.open:
		return true
	case !now.Before(end):
		if logged.First("writer " + f.path) {
			log.Warningf("%s is empty, or was not closed by its writer within %s; reading it anyway", safe.Printable(f.path), writerPatience)
		}
		return true
	case w.open:
		fs.again = sooner(fs.again, end)
		return false
	case notified && (st.info == nil || !os.SameFile(f.info, st.info) || sameContent(f.info, st.info)):
		return true // another file replaced it, or its attributes changed
	case emptied: // a writer truncates it before writing it anew
		fs.again = sooner(fs.again, end)
		return false
	case now.Sub(st.nowAt) >= stillFor:
		return true
	}
	fs.again = sooner(fs.again, st.nowAt.Add(stillFor))
	return false
}

// read reads the file f, and reports whether its content changed.
func (fs *Followed[T]) read(ctx context.Context, st *fileState[T], f match, now time.Time) bool {
	total := fs.total - st.Size + f.info.Size()
	switch {
	case f.info.Size() > fs.reading.MaxSize:
		fs.refuse(st, f.info, tooLarge(f.info.Size(), fs.reading.MaxSize), false)
		return false
	case total > fs.reading.MaxTotal:
		fs.refuse(st, f.info, fmt.Errorf("with it, the files of %s have %d MiB together, above the limit of %d MiB", st.pattern.pattern, total>>20, fs.reading.MaxTotal>>20), true)
		return false
	case fs.hanging >= maxStuck:
		fs.refuse(st, f.info, fmt.Errorf("the file system does not respond for %d others", fs.hanging), true)
		return false
	}
	fs.watches.forget(f.real)
	root, path := st.pattern.last.root, f.path
	if root != "" {
		path = f.real
	}
	e := begin("reading "+safe.Printable(f.path), func(beat, returned func()) read[T] { return fs.parse(f.path, root, path, beat, returned) })
	r, err := e.wait(ctx, fs.stuck)
	switch {
	case ctx.Err() != nil:
		return false
	case err == errStuck:
		st.errand = e
		fs.hanging++
		fs.refuse(st, f.info, err, true)
		return false
	case err != nil: // a panic
		fs.refuse(st, f.info, err, false)
		return false
	case absent(r.err): // it just disappeared
		fs.again = sooner(fs.again, now.Add(settleMost))
		return false
	}
	if w := fs.watches.writer(f.real, f.info.Size()); w.wrote {
		r.torn = true
	}
	if r.info == nil {
		r.info = f.info
	}
	return fs.judge(st, r, now)
}

// parse reads the file called name, at path below root, and makes its content.
func (fs *Followed[T]) parse(name, root, path string, beat, returned func()) (r read[T]) {
	beat()
	defer returned()
	r.at = time.Now()
	f, info, err := fs.reading.open(root, path)
	if err != nil {
		return read[T]{err: err, passing: true}
	}
	defer func() {
		beat()
		f.Close()
	}()
	returned()
	r.info = info
	in := &input{file: f, most: fs.reading.MaxSize, beat: beat, returned: returned}
	r.content, r.err = fs.reading.Parse(name, in)
	r.passing = in.err != nil
	beat()
	after, err := f.Stat()
	r.torn = err != nil || !sameContent(info, after)
	return r
}

// judge handles the result of reading a file, and reports whether its content changed.
func (fs *Followed[T]) judge(st *fileState[T], r read[T], now time.Time) bool {
	if st.changed.IsZero() {
		st.changed = now
	}
	if r.torn && !fs.first && now.Before(st.changed.Add(writerPatience)) {
		fs.again = sooner(fs.again, time.Now().Add(settleMost))
		return false
	}
	st.changed = time.Time{}
	if r.err != nil {
		fs.refuse(st, r.info, r.err, r.passing)
		return false
	}
	if st.Problem != "" {
		log.Infof("%s can be read again", safe.Printable(st.Path))
	}
	fs.readAgain(st, r)
	fs.total += r.info.Size() - st.Size
	st.File = File[T]{Path: st.Path, Content: r.content, Good: true, Modified: r.info.ModTime(), Size: r.info.Size(), Refused: st.Refused}
	st.info, st.passing = r.info, false
	return true
}

// readAgain schedules another read of a file that was changed just before it was read: a further change may leave its
// times unchanged.
func (fs *Followed[T]) readAgain(st *fileState[T], r read[T]) {
	known := sameFile(r.info, st.info)
	st.again = time.Time{}
	if known {
		return
	}
	last := r.info.ModTime()
	if at := changedAt(r.info); at.After(last) {
		last = at
	}
	tick := settle // the resolution of file times; settling takes as long
	if last.Nanosecond() == 0 {
		tick = 2 * time.Second // for file systems without finer times
	}
	if r.at.Sub(last) < tick {
		st.again = r.at.Add(tick)
		fs.again = sooner(fs.again, st.again)
	}
}

// refuse records why a file can't be used in its current state. info may be nil.
func (fs *Followed[T]) refuse(st *fileState[T], info os.FileInfo, err error, passing bool) {
	text := safe.Printable(err.Error())
	repeated := text == st.Problem
	if !repeated || info != nil && !sameFile(info, st.info) {
		st.Refused++
		fs.reading.Refused(st.Path, err, repeated)
	}
	st.Problem, st.passing = text, passing
	st.changed, st.again = time.Time{}, time.Time{}
	if info != nil {
		st.info = info
	}
}

// stays reports whether a deleted file goes on serving.
func (fs *Followed[T]) stays(st *fileState[T]) bool {
	if st.pattern.last.err != nil {
		return true // it may exist
	}
	if !fs.reading.KeepGone || IsPattern(st.pattern.pattern) || !st.Good {
		return false
	}
	if !st.gone {
		log.Warningf("%s no longer exists; its last content stays", safe.Printable(st.Path))
	}
	st.gone, st.info, st.changed, st.passing = true, nil, time.Time{}, false
	return true
}
