package files

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// changes are the events to watch for, of directories and files alike. fsnotify does not offer IN_CLOSE_WRITE, which
// means that a writer is done.
const changes = syscall.IN_MODIFY | syscall.IN_CLOSE_WRITE | syscall.IN_ATTRIB | syscall.IN_CREATE | syscall.IN_DELETE |
	syscall.IN_MOVED_FROM | syscall.IN_MOVED_TO | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | inExclUnlink

const inExclUnlink = 0x4000000 // IN_EXCL_UNLINK, which package syscall lacks: no events of deleted files

// notifier is an inotify instance. The process has just one, since a user may have 128 in total by
// default.
type notifier struct {
	reading sync.Mutex // held while events are read
	buf     [64 << 10]byte

	mu      sync.Mutex
	fd      int                             // -1 until it is open
	watched map[int32]map[*watches]struct{} // the users of a watch descriptor
	adding  int                             // calls of the kernel that add a watch and have not returned
}

var inotify = newNotifier(-1)

func newNotifier(fd int) *notifier {
	return &notifier{fd: fd, watched: make(map[int32]map[*watches]struct{})}
}

// open makes the instance, unless it exists. n.mu is held.
func (n *notifier) open() error {
	if n.fd >= 0 {
		return nil
	}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init", err)
	}
	f := os.NewFile(uintptr(fd), "inotify") // #nosec G115 -- it is not negative
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	n.fd = fd
	safe.Go(context.Background(), "the notice of changed files", func(context.Context) {
		_ = conn.Read(func(uintptr) bool { // never ends: f is never closed
			n.drain()
			return false // wait for more
		})
		runtime.KeepAlive(f)
	})
	return nil
}

// add makes w get the events of the directory or file path. The kernel resolves the path while n.mu is not held,
// because a file system may not respond. Therefore no descriptors are released meanwhile, as this call may return one
// of them.
func (n *notifier) add(path string, w *watches) (wd int32, err error) {
	n.mu.Lock()
	if err := n.open(); err != nil {
		n.mu.Unlock()
		return 0, err
	}
	n.adding++
	n.mu.Unlock()

	added, err := syscall.InotifyAddWatch(n.fd, path, changes)

	n.mu.Lock()
	defer n.mu.Unlock()
	n.adding--
	wd = int32(added) // #nosec G115 -- the kernel's are int32
	if err == nil {
		if n.watched[wd] == nil {
			n.watched[wd] = make(map[*watches]struct{})
		}
		n.watched[wd][w] = struct{}{}
	}
	n.sweep()
	return wd, os.NewSyscallError("inotify_add_watch", err)
}

// remove ends the events of wd for w.
func (n *notifier) remove(wd int32, w *watches) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.watched[wd], w)
	n.sweep()
}

// sweep releases the unused descriptors. n.mu is held.
func (n *notifier) sweep() {
	if n.adding > 0 {
		return
	}
	for wd, all := range n.watched {
		if len(all) == 0 {
			_, _ = syscall.InotifyRmWatch(n.fd, uint32(wd)) // #nosec G104 G115 -- an error means that the file is gone
			delete(n.watched, wd)
		}
	}
}

// drain handles all pending events. When it returns, everything done to a file before the call is
// recorded.
func (n *notifier) drain() {
	n.reading.Lock()
	defer n.reading.Unlock()
	n.mu.Lock()
	fd := n.fd
	n.mu.Unlock()
	for fd >= 0 {
		size, err := syscall.Read(fd, n.buf[:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || size <= 0 { // EAGAIN: there are none
			return
		}
		for b := n.buf[:size]; len(b) >= syscall.SizeofInotifyEvent; {
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:]) // #nosec G115 -- as the kernel has it
			end := syscall.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			name, _, _ := strings.Cut(string(b[syscall.SizeofInotifyEvent:end]), "\x00")
			b = b[end:]
			n.tell(wd, mask, name)
		}
	}
}

func (n *notifier) tell(wd int32, mask uint32, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if mask&syscall.IN_Q_OVERFLOW != 0 {
		woken := make(map[*watches]bool)
		for _, all := range n.watched {
			for w := range all {
				if !woken[w] {
					woken[w] = true
					w.lost()
				}
			}
		}
		return
	}
	for w := range n.watched[wd] {
		w.event(wd, mask, name)
	}
	if mask&syscall.IN_IGNORED != 0 { // the file is gone, and the descriptor with it
		delete(n.watched, wd)
	}
}

// watches are the watched directories and files of one follower of files.
type watches struct {
	by   *notifier
	wake chan struct{} // has a token when there is something to check

	mu      sync.Mutex
	names   map[int32]map[string]struct{} // by descriptor, the relevant names and patterns in a directory
	paths   map[string]int32              // the descriptor of a path
	writers map[place]writer
}

// place is a name in a watched directory. For a watched file, it has no name.
type place struct {
	wd   int32
	name string
}

// writer is the state of writing to a file.
type writer struct {
	open    bool // written to, and not closed since
	created bool // open because it was created, not because of a write
	wrote   bool // written to since it was last read
	closed  bool // closed by a writer, or renamed to its name, since it was last read
}

func newWatches() *watches {
	return &watches{
		by: inotify, wake: make(chan struct{}, 1), names: make(map[int32]map[string]struct{}),
		paths: make(map[string]int32), writers: make(map[place]writer),
	}
}

// add watches path, for names in it if it is a directory. It reports whether the watch is new.
func (w *watches) add(path string, names names) (grown bool, err error) {
	wd, err := w.by.add(path, w)
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.names[wd]
	all := make(map[string]struct{}, len(known)+len(names))
	for _, some := range []map[string]struct{}{known, names} {
		for name := range some {
			all[name] = struct{}{}
		}
	}
	w.names[wd] = all
	before, watched := w.paths[path]
	w.paths[path] = wd
	return !watched || before != wd, nil
}

// keep removes the watches of all but dirs, and makes the names in them relevant.
func (w *watches) keep(dirs map[string]names) {
	w.mu.Lock()
	names := make(map[int32]map[string]struct{})
	for path, wd := range w.paths {
		wanted, ok := dirs[path]
		if !ok {
			delete(w.paths, path)
			continue
		}
		if names[wd] == nil {
			names[wd] = make(map[string]struct{})
		}
		for name := range wanted { // two paths may lead to one directory
			names[wd][name] = struct{}{}
		}
	}
	var gone []int32
	for wd := range w.names {
		if names[wd] == nil {
			gone = append(gone, wd)
		}
	}
	w.names = names
	for at := range w.writers {
		if names[at.wd] == nil {
			delete(w.writers, at)
		}
	}
	w.mu.Unlock()
	for _, wd := range gone { // without w.mu, which is taken while the notifier's is held
		w.by.remove(wd, w)
	}
}

// close removes all watches.
func (w *watches) close() { w.keep(nil) }

// event handles an event.
func (w *watches) event(wd int32, mask uint32, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name != "" && !w.matters(wd, name) {
		return
	}
	at := place{wd, name}
	known := w.writers[at]
	switch {
	case mask&(syscall.IN_ISDIR|syscall.IN_IGNORED) != 0:
	case mask&syscall.IN_MODIFY != 0:
		w.writers[at] = writer{open: true, wrote: true, closed: known.closed}
		if known.open && known.wrote {
			return // already recorded as open for writing
		}
	case mask&syscall.IN_CREATE != 0:
		w.writers[at] = writer{open: true, created: true}
	case mask&syscall.IN_CLOSE_WRITE != 0:
		w.writers[at] = writer{closed: true, wrote: known.wrote}
	case mask&syscall.IN_MOVED_TO != 0:
		w.writers[at] = writer{closed: true}
	case mask&(syscall.IN_MOVED_FROM|syscall.IN_DELETE) != 0:
		delete(w.writers, at)
	}
	w.rouse()
}

// matters reports whether name in a watched directory may be that of a followed file, or lead to one.
func (w *watches) matters(wd int32, name string) bool {
	for pattern := range w.names[wd] {
		if ok, _ := filepath.Match(pattern, name); ok || pattern == name {
			return true
		}
	}
	return false
}

// lost records that events were lost, so the state of all writers is unknown.
func (w *watches) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.writers)
	w.rouse()
}

func (w *watches) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// writer returns the state of writing to the file path, which has no links in it. size is that of the file.
func (w *watches) writer(path string, size int64) writer {
	w.by.drain()
	w.mu.Lock()
	defer w.mu.Unlock()
	var all writer
	for _, at := range w.places(path) {
		known := w.writers[at]
		// A created file that has content without a write is another name of an existing file.
		if known.created && size > 0 {
			known.open, known.closed = false, true
		}
		all.open = all.open || known.open
		all.wrote = all.wrote || known.wrote
		all.closed = all.closed || known.closed
	}
	return all
}

// forget records that the file path is being read, which makes past writes irrelevant, except those of writers that
// have it open.
func (w *watches) forget(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.places(path) {
		if known := w.writers[at]; known.open {
			known.closed, known.wrote = false, false
			w.writers[at] = known
		} else {
			delete(w.writers, at)
		}
	}
}

// places returns where events of the file path are recorded.
func (w *watches) places(path string) (all []place) {
	if wd, ok := w.paths[filepath.Dir(path)]; ok {
		all = append(all, place{wd, filepath.Base(path)})
	}
	if wd, ok := w.paths[path]; ok {
		all = append(all, place{wd: wd})
	}
	return all
}

// changedAt returns when the content, the name or the attributes of a file last changed.
func changedAt(info os.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return time.Time{}
}
