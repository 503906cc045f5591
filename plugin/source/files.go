package source

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long the files must be left alone before they are looked at, so that a save in several steps is seen
	// as one; settleMost is the longest that is waited for that.
	settle     = 10 * time.Millisecond
	settleMost = 200 * time.Millisecond

	// pollUnnotified is how often files are looked at when the system can't notify and the caller did not say.
	pollUnnotified = 5 * time.Second

	// pollLeast is the shortest time between two looks, whatever was asked for: a ConfigMap may say every nanosecond.
	pollLeast = 100 * time.Millisecond

	maxLinks = 40 // symbolic links on the way to one file, as in Linux
)

// Files follows files. Make one with Follow.
type Files struct {
	patterns []string
	poll     time.Duration
	changed  func()
	cancel   context.CancelFunc

	watcher *fsnotify.Watcher              // nil when the system can't notify
	dirs    map[string]map[string]struct{} // what is watched: directories, and in them the names, or patterns, that matter
	last    map[string]seenFile
	restive bool // a file that matters was written to
	warn    sync.Once
}

// seenFile is a file when it was looked at.
type seenFile struct {
	info os.FileInfo
	at   time.Time
}

// Follow calls f when the set of files behind patterns changes, or one of them does: another inode, size or time of
// modification, symbolic links resolved. One call ends before the next begins. A pattern is a path or what
// filepath.Match takes, and need not match anything yet; relative ones are taken from the working directory. Changes that
// are made between this call and the first look of the caller at the files are told too.
//
// Changes are told as they happen, some milliseconds after the last of them. Every poll the files are looked at as well,
// for file systems that do not notify, ten times a second at most; 0 turns that off. Where the system can't notify at all that is logged, and the
// files are looked at every poll, or every 5 s if that is 0. The error is a pattern that is malformed.
func Follow(patterns []string, poll time.Duration, f func()) (*Files, error) {
	if poll > 0 {
		poll = max(poll, pollLeast)
	}
	fs := &Files{poll: poll, changed: f, dirs: make(map[string]map[string]struct{})}
	for _, p := range patterns {
		if _, err := filepath.Match(p, ""); err != nil {
			return nil, fmt.Errorf("%q: %w", p, err)
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", p, err)
		}
		fs.patterns = append(fs.patterns, abs)
	}
	var err error
	if fs.watcher, err = fsnotify.NewWatcher(); err != nil {
		fs.watcher = nil
		fs.unnotified(err)
	}
	fs.watch()
	fs.last = fs.look()

	ctx, cancel := context.WithCancel(context.Background())
	fs.cancel = cancel
	go fs.run(ctx)
	return fs, nil
}

// Close ends it. No call begins after Close returned, but one may be under way.
func (fs *Files) Close() { fs.cancel() }

// unnotified makes up for a system that can't notify.
func (fs *Files) unnotified(err error) {
	if fs.poll == 0 {
		fs.poll = pollUnnotified
	}
	fs.warn.Do(func() {
		log.Warningf("changes of %s can't be notified: %v; they are looked for every %s", strings.Join(fs.patterns, ", "), err, fs.poll)
	})
}

func (fs *Files) run(ctx context.Context) {
	var events chan fsnotify.Event
	var errs chan error
	if fs.watcher != nil {
		defer fs.watcher.Close()
		events, errs = fs.watcher.Events, fs.watcher.Errors
	}
	var ticks <-chan time.Time
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	var first time.Time // of the events that are waited out; zero for none

	for {
		if ticks == nil && fs.poll > 0 { // it may turn out late that there is need for it
			ticker := time.NewTicker(fs.poll)
			defer ticker.Stop()
			ticks = ticker.C
		}
		select {
		case <-ctx.Done():
			return
		case ev := <-events:
			if !fs.matters(ev) {
				continue
			}
			fs.restive = fs.restive || ev.Has(fsnotify.Write)
		case <-errs: // most likely events were lost
			fs.restive = true
		case <-ticks:
			fs.check(ctx)
			continue
		case <-settled.C:
			first = time.Time{}
			fs.check(ctx)
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		settled.Reset(max(0, min(settle, settleMost-time.Since(first))))
	}
}

// check looks at the files, and calls f if they changed.
func (fs *Files) check(ctx context.Context) {
	fs.watch()
	restive := fs.restive
	fs.restive = false
	now := fs.look()
	same := maps.EqualFunc(now, fs.last, func(a, b seenFile) bool {
		// A file that was written to when it had just been looked at may have the time that it had then.
		return sameFile(a.info, b.info) && !(restive && b.at.Sub(b.info.ModTime()) < restless)
	})
	if same || ctx.Err() != nil {
		return
	}
	fs.last = now
	fs.changed()
}

// look returns the files that there are.
func (fs *Files) look() map[string]seenFile {
	seen := make(map[string]seenFile)
	for _, path := range Expand(fs.patterns) {
		if info, err := os.Stat(path); err == nil {
			seen[path] = seenFile{info, time.Now()}
		}
	}
	return seen
}

// sameFile reports whether a and b, which may be nil, are the same file with the same content, as far as can be told from
// outside.
func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// matters reports whether ev can be of a file that is followed, or of a directory on the way to one.
func (fs *Files) matters(ev fsnotify.Event) bool {
	if _, ok := fs.dirs[ev.Name]; ok { // a watched directory went
		return true
	}
	dir, name := filepath.Split(ev.Name)
	for pattern := range fs.dirs[filepath.Clean(dir)] {
		if ok, _ := filepath.Match(pattern, name); ok || pattern == name {
			return true
		}
	}
	return false
}

// watch brings the watched directories up to date with the file system. A directory may appear between the look at it and
// the watch on its parent, so that is repeated until nothing is new.
func (fs *Files) watch() {
	if fs.watcher == nil {
		return
	}
	for range maxLinks {
		want := make(map[string]map[string]struct{})
		for _, p := range fs.patterns {
			trail(want, p)
		}
		grown := false
		for dir := range want {
			if fs.dirs[dir] == nil {
				grown = true
			}
			// Also of one that is watched: it may be another one of the same name.
			if err := fs.watcher.Add(dir); err != nil && !os.IsNotExist(err) {
				fs.unnotified(err)
			}
		}
		for dir := range fs.dirs {
			if want[dir] == nil {
				_ = fs.watcher.Remove(dir) // an error says that it is gone
			}
		}
		fs.dirs = want
		if !grown {
			return
		}
	}
}

// trail puts into dirs the directories whose entries decide what is behind pattern, with the names of those: the
// directory of the file, those of symbolic links on the way, those that a wildcard is matched in, and, where the way
// breaks off, the last directory that exists.
func trail(dirs map[string]map[string]struct{}, pattern string) {
	if at := strings.IndexAny(pattern, globMeta); at >= 0 {
		dir := filepath.Dir(pattern[:at] + "x")
		rest := strings.Split(strings.TrimPrefix(pattern[len(dir):], string(filepath.Separator)), string(filepath.Separator))
		trailGlob(dirs, dir, rest)
		return
	}
	walk(dirs, pattern, maxLinks)
}

func trailGlob(dirs map[string]map[string]struct{}, dir string, rest []string) {
	if _, err := os.Stat(dir); err != nil || len(rest) == 0 {
		walk(dirs, dir, maxLinks)
		return
	}
	next := filepath.Join(dir, rest[0])
	walk(dirs, next, maxLinks) // a pattern is no entry, so this ends in the directory that it is matched in
	if !isGlob(rest[0]) {
		trailGlob(dirs, next, rest[1:])
		return
	}
	matches, _ := filepath.Glob(filepath.Join(escape(dir), rest[0])) // Follow saw that the pattern is sound
	for _, m := range matches {
		info, err := os.Stat(m)
		if hidden(filepath.Base(m), rest[0]) || len(rest) > 1 && (err != nil || !info.IsDir()) {
			continue
		}
		trailGlob(dirs, m, rest[1:])
	}
}

// walk follows path to its end, or to where it breaks off, and puts the directories that decide about it into dirs.
func walk(dirs map[string]map[string]struct{}, path string, links int) {
	dir := filepath.VolumeName(path) + string(filepath.Separator)
	names := strings.Split(strings.Trim(path[len(dir)-1:], string(filepath.Separator)), string(filepath.Separator))
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		next := filepath.Join(dir, name)
		info, err := os.Lstat(next)
		link := err == nil && info.Mode()&os.ModeSymlink != 0
		if err != nil || link || len(names) == 0 {
			if dirs[dir] == nil {
				dirs[dir] = make(map[string]struct{})
			}
			dirs[dir][name] = struct{}{}
		}
		if err != nil {
			return
		}
		if !link {
			dir = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil || links == 0 {
			return
		}
		links--
		if filepath.IsAbs(target) {
			dir = filepath.VolumeName(target) + string(filepath.Separator)
			target = target[len(dir)-1:]
		}
		names = append(strings.Split(strings.Trim(target, string(filepath.Separator)), string(filepath.Separator)), names...)
	}
}

const globMeta = `*?[\`

func isGlob(s string) bool { return strings.ContainsAny(s, globMeta) }

// escape makes a pattern that matches s alone.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(globMeta, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// hidden reports whether a wildcard must pass over name: as in a shell, it does not match a dot at the front. So the ..data
// of a mounted ConfigMap and the scratch files of editors stay out.
func hidden(name, pattern string) bool {
	return strings.HasPrefix(name, ".") && !strings.HasPrefix(pattern, ".")
}

// Expand returns the regular files behind patterns, symbolic links resolved for that, sorted and each once. A pattern is a
// path, or what filepath.Match takes; wildcards do not match a dot at the front of a name, nor a link that leads out of the
// folder ahead of the first wildcard: whoever fills a folder does not say what else is read. What does not exist, and a
// pattern that is malformed, stands for nothing.
func Expand(patterns []string) []string {
	var files []string
	for _, p := range patterns {
		p = filepath.Clean(p)
		matches := []string{p}
		if isGlob(p) {
			matches, _ = filepath.Glob(p) // #nosec G104 -- see above
		}
		for _, m := range matches {
			if hiddenPath(m, p) || isGlob(p) && !within(fixedPart(p), m) {
				continue
			}
			if info, err := os.Stat(m); err == nil && info.Mode().IsRegular() {
				files = append(files, m)
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// fixedPart is the folder ahead of the first wildcard of a pattern.
func fixedPart(pattern string) string {
	return filepath.Dir(pattern[:strings.IndexAny(pattern, globMeta)] + "x")
}

// within reports whether path is in dir, links resolved.
func within(dir, path string) bool {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(root, file)
	if err != nil || filepath.IsLocal(rel) {
		return err == nil
	}
	if once("link " + path) {
		log.Warningf("%s is left out: it is a link out of %s, to %s; name it without a wildcard to have it", path, dir, file)
	}
	return false
}

func hiddenPath(match, pattern string) bool {
	if match == pattern {
		return false
	}
	names := strings.Split(match, string(filepath.Separator))
	globs := strings.Split(pattern, string(filepath.Separator))
	for i := range min(len(names), len(globs)) {
		if hidden(names[i], globs[i]) {
			return true
		}
	}
	return false
}
