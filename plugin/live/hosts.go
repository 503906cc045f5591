package live

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// CheckFiles warns of hosts files that are not there yet, as that may be meant, and refuses those that can't be looked
// at, and zones that stand in the place of one.
func (k *Block) CheckFiles() error {
	if len(k.base.Endpoints) > 1 {
		log.Warningf("Multiple endpoints have been deprecated, only the first specified endpoint '%s' is used", k.base.Endpoint())
	}
	for _, h := range k.base.Hosts {
		for i, path := range k.paths(h.Files) {
			if strings.ContainsAny(path, "*?[") {
				continue
			}
			info, err := os.Stat(path)
			switch {
			case os.IsNotExist(err):
				if err := h.Missing(i); err != nil {
					return err
				}
				log.Warningf("Hosts file %s does not exist; it will be served when it appears", path)
			case err != nil:
				return fmt.Errorf("unable to access hosts file '%s': %v", path, err)
			case info.IsDir():
				log.Warningf("Hosts file %s is a directory; write %s to serve the files in it", path, filepath.Join(path, "*"))
			}
		}
	}
	return nil
}

// paths returns the paths of a stanza as they are to be opened: relative ones below the root plugin's folder.
func (k *Block) paths(written []string) []string {
	all := make([]string, len(written))
	for i, p := range written {
		if !filepath.IsAbs(p) && k.root != "" {
			p = filepath.Join(k.root, p)
		}
		all[i] = p
	}
	return all
}

// hostsKey is what makes one hostsFiles serve several stanzas of a server block.
type hostsKey struct {
	patterns  string // one a line
	noReverse bool
	reload    time.Duration
}

func keyOf(h *stanza.Hosts) hostsKey {
	return hostsKey{strings.Join(h.Files, "\n"), h.NoReverse, h.Reload}
}

// hostsFiles are the files of one hosts option, read anew when they change.
type hostsFiles struct {
	patterns []string
	opts     hosts.Options
	follower *source.Files // nil if changes are of no interest
	tables   *answer.Tables
	mu       sync.Mutex  // held by the one who reads the files, and guards
	files    []hostsFile // in the order of their names
}

// hostsFile is one file and what was last understood of it.
type hostsFile struct {
	path  string
	stamp stamp
	table *hosts.Table
}

// stamp tells one content of a path from another.
type stamp struct {
	mtime time.Time
	size  int64
	file  os.FileInfo // for os.SameFile
}

func (s stamp) same(o stamp) bool {
	return s.file != nil && o.file != nil && s.size == o.size && s.mtime.Equal(o.mtime) && os.SameFile(s.file, o.file)
}

// openHosts reads the files of the patterns and follows them until close, unless reload is 0. What is not there is served
// when it appears; the error is a pattern that is malformed.
func openHosts(patterns []string, opts hosts.Options, reload time.Duration) (*hostsFiles, error) {
	h := &hostsFiles{patterns: patterns, opts: opts, tables: new(answer.Tables)}
	if reload > 0 {
		var err error
		if h.follower, err = source.Follow(patterns, reload, h.read); err != nil {
			return nil, err
		}
	}
	h.read()
	return h, nil
}

// close ends the following. It may be called twice.
func (h *hostsFiles) close() {
	if h.follower != nil {
		h.follower.Close()
	}
}

// largeFile is how many bytes of hosts lines make it worth while to give memory back at once.
const largeFile = 1 << 20

// read reads every file that changed. A file that can't be read leaves its last entries in place, and so does one that
// is gone, unless it came out of a glob.
func (h *hostsFiles) read() {
	h.mu.Lock()
	defer h.mu.Unlock()

	old := h.files
	var next []hostsFile
	var large bool
	seen := make(map[string]bool)
	for _, path := range source.Expand(h.patterns) {
		var before hostsFile
		for _, f := range old {
			if f.path == path {
				before = f
			}
		}
		seen[path] = true
		now := h.readFile(path, before)
		large = large || now.table != before.table && now.stamp.size > largeFile
		next = append(next, now)
	}
	for _, f := range old {
		if seen[f.path] {
			continue
		}
		if _, err := os.Lstat(f.path); slices.Contains(h.patterns, f.path) && f.table != nil && err != nil {
			if f.stamp.file != nil {
				log.Warningf("Hosts file %s is gone; the entries it had stay: %v", f.path, err)
			}
			f.stamp = stamp{}
			next = append(next, f)
			continue
		}
		hostsEntries.DeleteLabelValues(f.path)
		hostsReload.DeleteLabelValues(f.path)
	}
	h.files = next
	h.tables.Set(tablesOf(next))
	if large {
		debug.FreeOSMemory() // of the tables before, and what making these took: 162 MB are 50 with 1,000,000 names
	}
}

func tablesOf(files []hostsFile) []*hosts.Table {
	tables := make([]*hosts.Table, len(files))
	for i, f := range files {
		tables[i] = f.table
	}
	return tables
}

// readFile returns path's entries, or before if they did not change or can't be read.
func (h *hostsFiles) readFile(path string, before hostsFile) hostsFile {
	before.path = path
	table, now, err := h.parse(path, before.stamp)
	if err != nil {
		if !now.same(before.stamp) || before.stamp.file == nil {
			log.Errorf("Hosts file %s can't be used, the entries it had stay: %v", path, err)
			hostsRejected.WithLabelValues(path).Inc()
		}
		before.stamp = now
		return before
	}
	if table == nil {
		return before
	}
	if problems, n := table.Problems(); n > 0 {
		log.Warningf("Hosts file %s: %d of its lines or names are of no use; the first is line %d: %s", path, n, problems[0].Line, problems[0].Reason)
	}
	if warnings, n := table.Warnings(); n > 0 {
		log.Warningf("Hosts file %s: %d of its names may not be what was meant; the first is in line %d: %s", path, n, warnings[0].Line, warnings[0].Reason)
	}
	hostsEntries.WithLabelValues(path).Set(float64(table.Len()))
	hostsReload.WithLabelValues(path).Set(float64(now.mtime.UnixNano()) / 1e9)
	return hostsFile{path, now, table}
}

// parse reads path. The table is nil if the file is the one that before stands for.
func (h *hostsFiles) parse(path string, before stamp) (*hosts.Table, stamp, error) {
	f, err := os.Open(path) // #nosec G304 -- the Corefile names it
	if err != nil {
		return nil, before, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, before, err
	}
	now := stamp{info.ModTime(), info.Size(), info}
	if now.same(before) {
		return nil, now, nil
	}
	if !info.Mode().IsRegular() {
		return nil, now, fmt.Errorf("it is %s, not a file", kindOf(info.Mode()))
	}
	if info.Size() > hosts.MaxSize {
		return nil, now, fmt.Errorf("it has %d MiB, which is more than %d MiB", info.Size()>>20, hosts.MaxSize>>20)
	}
	opts := h.opts
	if before.file != nil { // at the start there are no queries yet
		opts.Rest = spells()
	}
	table, err := hosts.Parse(io.Reader(f), opts)
	if err != nil {
		return nil, now, err
	}
	return table, now, nil
}

func kindOf(m os.FileMode) string {
	if m.IsDir() {
		return "a directory"
	}
	return "special (" + m.Type().String() + ")"
}

// inlineTable parses the inline lines of a hosts option.
func inlineTable(h *stanza.Hosts, opts hosts.Options) (*hosts.Table, error) {
	var b strings.Builder
	for _, line := range h.Inline {
		b.WriteString(line.Text)
		b.WriteByte('\n')
	}
	table, err := hosts.Parse(strings.NewReader(b.String()), opts)
	if err != nil {
		return nil, err
	}
	if problems, n := table.Problems(); n > 0 {
		p := problems[0]
		return nil, fmt.Errorf("hosts line %d: %s", h.Inline[p.Line-1].Line, p.Reason)
	}
	return table, nil
}

// spells returns a function that is called now and then by who has much to do: it sleeps for a millisecond after each
// 200 us of work, so that queries have the CPU soon. Of 2,000 answers a second on two cores one in a hundred took 3.0 ms
// while a file of 1,000,000 names was read again in 0.6 s, and takes 0.6 ms while that is done in 5 s.
func spells() func() {
	const spell = 200 * time.Microsecond
	start := time.Now()
	return func() {
		if time.Since(start) >= spell {
			time.Sleep(time.Millisecond)
			start = time.Now()
		}
	}
}
