package kubehosts

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// overlay is the hosts entries of a stanza, in the order of its hosts options.
type overlay []layer

// layer is the entries of one hosts option: of its files or of its inline lines.
type layer struct {
	tables *hostsFiles  // nil for inline lines
	inline *hosts.Table // nil for files
	ttl    uint32
	passOn bool // questions for other types than A, AAAA and PTR
}

// each yields the tables of the layer.
func (l *layer) each(yield func(*hosts.Table) bool) bool {
	if l.tables == nil {
		return yield(l.inline)
	}
	for _, f := range *l.tables.files.Load() {
		if !yield(f.table) {
			return false
		}
	}
	return true
}

// heldAddresses are the addresses of a name, out of one table or several.
type heldAddresses struct {
	first hosts.Addresses
	more  []hosts.Addresses
	ttl   uint32 // the lowest of all: an RRset has one (RFC 2181, section 5.2)
	// All that hold the name pass other types on.
	passOn bool
}

// lookup collects the addresses of a lower-case name. It reports whether there are any.
func (o overlay) lookup(name string, found *heldAddresses) (held bool) {
	for i := range o {
		l := &o[i]
		l.each(func(t *hosts.Table) bool {
			a, ok := t.Lookup(name)
			switch {
			case !ok:
				return true
			case !held:
				held, found.first, found.ttl, found.passOn = true, a, l.ttl, l.passOn
			default:
				found.more = append(found.more, a)
				found.ttl = min(found.ttl, l.ttl)
				found.passOn = found.passOn && l.passOn
			}
			return true
		})
	}
	return held
}

// names returns the names that have the address a, each once, and no more than a message can hold.
func (o overlay) names(a netip.Addr) (all []pointer) {
	var seen map[string]struct{} // made for the second table that has the address; none has a name twice
	for i := range o {
		l := &o[i]
		l.each(func(t *hosts.Table) bool {
			names := t.Names(a)
			if seen == nil && len(all) > 0 && names.Len() > 0 {
				seen = make(map[string]struct{})
				for _, p := range all {
					seen[p.name] = struct{}{}
				}
			}
			for i := range min(names.Len(), maxRecords-len(all)) {
				if first(seen, names.At(i)) {
					all = append(all, pointer{strings.Clone(names.At(i)), l.ttl}) // a record must not keep a table alive
				}
			}
			return true
		})
	}
	return all
}

// each4 yields the IPv4 addresses, each once.
func (f *heldAddresses) each4(yield func([4]byte) bool) {
	eachOnce(f, hosts.Addresses.Len4, hosts.Addresses.At4, yield)
}

// each6 yields the IPv6 addresses, each once.
func (f *heldAddresses) each6(yield func([16]byte) bool) {
	eachOnce(f, hosts.Addresses.Len6, hosts.Addresses.At6, yield)
}

func eachOnce[IP comparable](f *heldAddresses, count func(hosts.Addresses) int, at func(hosts.Addresses, int) IP, yield func(IP) bool) {
	var seen map[IP]struct{} // stays nil for one table, which has no address of a name twice
	if len(f.more) > 0 {
		seen = make(map[IP]struct{})
	}
	for i := range 1 + len(f.more) {
		a := f.first
		if i > 0 {
			a = f.more[i-1]
		}
		for j := range count(a) {
			if ip := at(a, j); first(seen, ip) && !yield(ip) {
				return
			}
		}
	}
}

// most returns how many addresses there are by count, with those that stand in several tables, as far as a message holds
// them.
func (f *heldAddresses) most(count func(hosts.Addresses) int) int {
	n := count(f.first)
	for _, a := range f.more {
		n += count(a)
	}
	return min(n, maxRecords)
}

// held4 returns the A records of a name that is held.
func (q *question) held4(found *heldAddresses) *dns.Msg {
	n := found.most(hosts.Addresses.Len4)
	if n == 0 {
		return q.reply()
	}
	rrs, slab, m := q.slab4(n)
	for ip := range found.each4 {
		i := len(m.Answer)
		if i == n {
			break
		}
		m.Answer = append(rrs[:i], slab[i].init(q.name, found.ttl, ip))
	}
	return m
}

// held6 returns the AAAA records of a name that is held.
func (q *question) held6(found *heldAddresses) *dns.Msg {
	n := found.most(hosts.Addresses.Len6)
	if n == 0 {
		return q.reply()
	}
	rrs, slab, m := q.slab6(n)
	for ip := range found.each6 {
		i := len(m.Answer)
		if i == n {
			break
		}
		m.Answer = append(rrs[:i], slab[i].init(q.name, found.ttl, ip))
	}
	return m
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
	mu       sync.Mutex    // held by the one who reads the files
	files    atomic.Pointer[[]hostsFile]
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
	h := &hostsFiles{patterns: patterns, opts: opts}
	h.files.Store(new([]hostsFile))
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

	old := *h.files.Load()
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
	h.files.Store(&next)
	if large {
		debug.FreeOSMemory() // of the tables before, and what making these took: 162 MB are 50 with 1,000,000 names
	}
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
