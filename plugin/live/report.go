package live

import (
	"cmp"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/files"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// Now is what a Block serves at one moment, for explanations and the status page.
type Now struct {
	View   *answer.View
	Config *stanza.Config
	Hash   string
	Origin string    // corefile, configmap or snapshot
	Since  time.Time // when the stanza was applied

	block *Block
	s     *serving
}

// Now returns what b currently serves. ok is false before Start.
func (b *Block) Now() (n Now, ok bool) {
	s := b.serving.Load()
	if s == nil {
		return Now{}, false
	}
	return Now{View: s.view, Config: s.config, Hash: s.hash, Origin: s.origin, Since: s.since, block: b, s: s}, true
}

// ViewName returns the name that the view plugin gives the server block, "" without one.
func (b *Block) ViewName() string { return b.view }

// ConfigMap returns the ConfigMap that b follows, as NAMESPACE/NAME, and its key. Both are "" if it follows none.
func (b *Block) ConfigMap() (name, key string) {
	if ref := b.base.ConfigMap; ref != nil {
		return b.namespace() + "/" + ref.Name, ref.Key
	}
	return "", ""
}

// Text returns the text of the ConfigMap that serves or served last, "" if there is none.
func (b *Block) Text() string {
	if good := b.good.Load(); good != nil {
		return good.event.Data[b.base.ConfigMap.Key]
	}
	return ""
}

// Base returns the Corefile's stanza.
func (b *Block) Base() *stanza.Config { return b.base }

// Source returns where objects come from, nil where there are none.
func (b *Block) Source() *source.Source { return b.source }

// Stale returns the time since which answers come from the snapshot, zero if they do not.
func (b *Block) Stale() time.Time {
	if since := b.stale.Load(); since != nil {
		return *since
	}
	return time.Time{}
}

// Edit is a state of the ConfigMap and its outcome.
type Edit struct {
	Time    time.Time `json:"time"`
	Version string    `json:"resourceVersion,omitempty"`
	Hash    string    `json:"hash,omitempty"` // of the stanza, if it can be served
	Verdict string    `json:"verdict"`        // "applied", "refused: ..."
}

// maxEdits is the number of edits that are stored.
const maxEdits = 20

// Edits returns the last edits, newest first. The caller must not change them.
func (b *Block) Edits() []Edit {
	if all := b.edits.Load(); all != nil {
		return *all
	}
	return nil
}

// record stores the outcome of e. b.mu is held.
func (b *Block) record(e source.ConfigMapEvent, hash, verdict string) {
	last := b.Edits()
	all := append(make([]Edit, 0, maxEdits), Edit{time.Now(), e.ResourceVersion, hash, verdict})
	all = append(all, last[:min(len(last), maxEdits-1)]...)
	b.edits.Store(&all)
}

// Snapshot is the state of a snapshot file.
type Snapshot struct {
	Path    string
	Written time.Time // by this process; zero if not yet
	Size    int64
	Failed  string // why the last write failed; "" if it did not
}

// Snapshot returns the state of the snapshot of b. ok is false without that option.
func (b *Block) Snapshot() (s Snapshot, ok bool) {
	if b.snapshot == nil {
		return Snapshot{}, false
	}
	s.Path = b.snapshot.path
	if w := b.snapshot.last.Load(); w != nil {
		s.Written, s.Size = w.at, w.size
	}
	if why := b.snapshot.why.Load(); why != nil {
		s.Failed = *why
	}
	return s, true
}

// Objects returns the objects that the stanza serves, nil if it serves none.
func (n *Now) Objects() *source.Objects { return n.s.objects }

// Held returns the objects that answers are made from: those of Objects, and those that have external names.
func (n *Now) Held() (all []*source.Objects) {
	for _, o := range []*source.Objects{n.s.objects, n.s.outside} {
		if o != nil {
			all = append(all, o)
		}
	}
	return all
}

// Conflicts returns the names in the zones of the external options that an object claims and another one has.
func (n *Now) Conflicts() (all []external.Conflict) {
	for _, c := range n.s.conflicts {
		all = append(all, c.All()...)
	}
	return all
}

// HostsFile is a hosts file that serves or should serve.
type HostsFile struct {
	Path     string
	Entries  int       // addresses and PTR targets
	Modified time.Time // of the serving content; zero if the file was never read
	Size     int64
	Problem  string          // why the file can't be used in its current state; "" if it can
	Left     []hosts.Problem // the first lines that can't be used, or may be mistakes
	More     int             // the number of further lines of that kind
}

// Files returns the files of the stanza's FILEs, by their paths. A FILE that no file matches is listed with its
// pattern.
func (n *Now) Files() []HostsFile {
	byPath := make(map[string]HostsFile)
	for file, use := range n.s.hosts {
		files := use.of.files.Load()
		if files == nil || len(files.All()) == 0 {
			byPath[file] = HostsFile{Path: file, Problem: "no such file"}
			continue
		}
		for _, f := range files.All() {
			h := HostsFile{Path: f.Path, Entries: f.Content.Len(), Modified: f.Modified, Size: f.Size, Problem: f.Problem}
			problems, all := f.Content.Problems()
			warnings, more := f.Content.Warnings()
			h.Left = append(slices.Clone(problems), warnings...)
			slices.SortFunc(h.Left, func(a, b hosts.Problem) int { return cmp.Compare(a.Line, b.Line) })
			h.More = all + more - len(h.Left)
			byPath[f.Path] = h
		}
	}
	all := make([]HostsFile, 0, len(byPath))
	for _, f := range byPath {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b HostsFile) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// Lines returns the number of inline lines in the stanza's hosts options.
func (n *Now) Lines() (lines int) {
	for i := range n.Config.Hosts {
		lines += len(n.Config.Hosts[i].Inline)
	}
	return lines
}

// maxPlaces limits the places of a name that Places returns.
const maxPlaces = 10

// Places returns the lines, as FILE:LINE, on which a table of the layer has an entry that want reports true for, as for
// hosts.Find. It reads a file again, for at most 2 s. If that fails, it returns the file without a line.
func (n *Now) Places(ctx context.Context, layer int, t *hosts.Table, want func(name string, addr netip.Addr) bool) []string {
	if layer >= len(n.s.layers) {
		return nil
	}
	of := n.s.layers[layer]
	opts := hosts.Options{Origins: n.block.origins()}
	if of.inline != nil {
		lines, _ := hosts.Find(strings.NewReader(inlineText(of.inline)), opts, maxPlaces, want) // they were parsed before
		var places []string
		for _, line := range lines {
			places = append(places, of.inline.At(of.inline.Inline[line-1].Line))
		}
		return places
	}
	path, pattern := n.fileOf(of.file, t)
	if path == "" {
		return []string{safe.Printable(of.file)}
	}
	var places []string
	err := files.Reread(ctx, pattern, path, hosts.MaxSize, func(r io.Reader) error {
		lines, err := hosts.Find(r, opts, maxPlaces, want)
		for _, line := range lines {
			places = append(places, files.At(path, line))
		}
		return err
	})
	if err != nil || len(places) == 0 { // the file changed, and will soon be read again
		return []string{safe.Printable(path)}
	}
	return places
}

// fileOf returns the file of a FILE whose table is t, and the absolute path or pattern of that FILE. Both are "" if
// there is none any more.
func (n *Now) fileOf(file string, t *hosts.Table) (path, pattern string) {
	use := n.s.hosts[file]
	if use == nil {
		return "", ""
	}
	files := use.of.files.Load()
	if files == nil {
		return "", ""
	}
	for _, f := range files.All() {
		if f.Content == t {
			return f.Path, use.of.key.path
		}
	}
	return "", ""
}
