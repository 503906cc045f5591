package live

import (
	"context"
	"io"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/files"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

const (
	maxHostsFiles = 2 * hosts.MaxSize // bytes of all files behind one FILE

	// largeFile is the number of bytes of hosts lines from which it is worthwhile to return memory at once.
	largeFile = 1 << 20
)

// tableKey is what hosts options must have in common to share tables.
type tableKey struct {
	path    string // FILE, a path or a pattern
	origins string // the zones that names are limited to, one a line; "" for all
}

// fileTables are the tables of one FILE. All hosts options, server blocks and Corefiles that name it share them.
type fileTables struct {
	key     tableKey
	tables  answer.Tables
	files   atomic.Pointer[files.Followed[*hosts.Table]] // nil until opened
	opened  sync.Once
	err     error       // of opening the files
	serving atomic.Bool // the first reading is over, and queries are answered

	mu   sync.Mutex
	last map[string]*hosts.Table // by file, the tables published last

	users map[*tableUse]struct{} // guarded by openTables.mu
}

// tableUse is a stanza's use of the tables of a FILE.
type tableUse struct {
	of     *fileTables
	block  string
	reload time.Duration
}

var openTables = tableSet{all: make(map[tableKey]*fileTables)}

type tableSet struct {
	mu  sync.Mutex
	all map[tableKey]*fileTables
}

// open returns a use of the tables of the FILE path for names in origins. The caller closes it. The first one reads the
// files. They are followed while some user's reload is not 0, at the shortest interval. The error is a malformed
// pattern.
func (s *tableSet) open(path string, origins []string, block string, reload time.Duration) (*tableUse, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	key := tableKey{path, strings.Join(origins, "\n")}
	s.mu.Lock()
	t := s.all[key]
	if t == nil {
		t = &fileTables{key: key, last: make(map[string]*hosts.Table), users: make(map[*tableUse]struct{})}
		s.all[key] = t
	}
	use := &tableUse{of: t, block: block, reload: reload}
	t.users[use] = struct{}{}
	poll := t.reload()
	s.mu.Unlock()

	t.opened.Do(func() { t.open(origins, poll) })
	if t.err != nil {
		use.close()
		return nil, t.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.files.Load().SetPoll(t.reload())
	return use, nil
}

// close ends the use. After the last one, the files are no longer followed. It may be called twice.
func (u *tableUse) close() {
	s, t := &openTables, u.of
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(t.users, u)
	if len(t.users) == 0 && s.all[t.key] == t {
		delete(s.all, t.key)
	}
	switch files := t.files.Load(); {
	case files == nil:
	case len(t.users) == 0:
		files.Close()
	default:
		files.SetPoll(t.reload())
	}
}

// look reads files that are not followed again, as when a server starts.
func (u *tableUse) look() {
	const most = 5 * time.Second // after that, the server starts with what was read before
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	u.of.files.Load().Look(ctx)
}

// reload returns the interval at which the files are checked: the shortest of the users' intervals, 0 only if all have
// 0.
func (t *fileTables) reload() (shortest time.Duration) {
	for u := range t.users {
		if shortest == 0 || u.reload > 0 && u.reload < shortest {
			shortest = u.reload
		}
	}
	return shortest
}

// open reads the files.
func (t *fileTables) open(origins []string, poll time.Duration) {
	parse := func(_ string, r io.Reader) (*hosts.Table, error) {
		return hosts.Parse(r, hosts.Options{Origins: origins, Pause: t.pause()})
	}
	followed, err := files.Follow(files.Reading[*hosts.Table]{
		Patterns: []string{t.key.path}, Poll: poll, MaxSize: hosts.MaxSize, MaxTotal: maxHostsFiles, KeepGone: true,
		Parse: parse, Refused: refuseHosts, Changed: t.publish,
	})
	if err != nil {
		t.err = err
		return
	}
	t.files.Store(followed)
	t.publish()
	t.serving.Store(true)
}

// pause returns a function for long work to call often, so that queries soon get the CPU. It is nil before there are
// any.
func (t *fileTables) pause() func() {
	if t.serving.Load() {
		return pauser()
	}
	return nil
}

func refuseHosts(path string, err error, repeated bool) {
	if !repeated {
		log.Errorf("Hosts file %s can't be used, its last entries stay: %s", safe.Printable(path), safe.Printable(err.Error()))
	}
}

// publish makes the current tables the ones that serve.
func (t *fileTables) publish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	files := t.files.Load()
	if files == nil {
		return // open publishes first
	}
	now := make(map[string]*hosts.Table)
	var all []*hosts.Table
	large := false
	for _, f := range files.All() {
		if !f.Good {
			continue
		}
		all = append(all, f.Content)
		now[f.Path] = f.Content
		if before := t.last[f.Path]; before != f.Content {
			large = large || f.Size > largeFile
			warnOf(f.Path, f.Content, before)
		}
	}
	t.tables.Set(all, t.pause())
	t.last = now
	if large {
		debug.FreeOSMemory() // of the previous tables, and of building these: with 1,000,000 names, 162 MB become 50
	}
}

// warnOf logs the parts of a hosts file that can't be used, and those that may be mistakes, unless they are the same
// as before.
func warnOf(path string, now, before *hosts.Table) {
	name := safe.Printable(path)
	for _, kind := range []struct {
		what string
		of   func(*hosts.Table) ([]hosts.Problem, int)
	}{
		{"unusable lines or names", (*hosts.Table).Problems},
		{"names that may be mistakes", (*hosts.Table).Warnings},
	} {
		problems, n := kind.of(now)
		if last, most := kind.of(before); n == most && slices.Equal(problems, last) {
			continue
		}
		for _, p := range problems {
			log.Warningf("Hosts file %s:%d: %s", name, p.Line, p.Reason)
		}
		if more := n - len(problems); more > 0 {
			log.Warningf("Hosts file %s: %d more %s", name, more, kind.what)
		}
	}
}

// pauser returns a function for long work to call often. It sleeps for a millisecond after each 200 us of work, so that
// queries soon get the CPU. At 2,000 answers a second on two cores, the 99th percentile was 3.0 ms while a file of
// 1,000,000 names was read again in 0.6 s. It is 0.6 ms now that this takes 5 s.
func pauser() func() {
	const stretch = 200 * time.Microsecond
	start := time.Now()
	return func() {
		if time.Since(start) >= stretch {
			time.Sleep(time.Millisecond)
			start = time.Now()
		}
	}
}
