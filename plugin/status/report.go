package status

import (
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"

	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
	"github.com/kubehosts/kubehosts/plugin/wire"
)

// Report is the state of a server.
type Report struct {
	Well     bool      `json:"well"`
	Problems []string  `json:"problems,omitempty"` // in the words of the log
	Time     time.Time `json:"time"`
	Host     string    `json:"host"`    // the machine's name, which is the pod's
	Version  string    `json:"version"` // of CoreDNS and of kubehosts
	API      []API     `json:"api,omitempty"`
	Blocks   []Block   `json:"blocks"`
	Wire     Wire      `json:"wire"`
	Memory   Memory    `json:"memory"`
}

// API is the state of the connection to an API server.
type API struct {
	Server    string     `json:"server"`
	Connected bool       `json:"connected"`
	News      *time.Time `json:"lastEvent,omitempty"` // since when it may have changed unnoticed
	Down      *time.Time `json:"downSince,omitempty"`
}

// Block is a server block with a stanza.
type Block struct {
	Name      string          `json:"name"`
	Zones     []string        `json:"zones,omitempty"`
	Hash      string          `json:"stanza"`
	Origin    string          `json:"origin"` // corefile, configmap or snapshot
	ConfigMap string          `json:"configmap,omitempty"`
	Applied   time.Time       `json:"applied"`
	Refused   string          `json:"refused,omitempty"` // why the ConfigMap's newest stanza does not serve
	Text      string          `json:"text,omitempty"`    // of the stanza, with the names of environment variables
	NoText    string          `json:"noText,omitempty"`  // why there is no Text
	Edits     []live.Edit     `json:"edits,omitempty"`
	Synced    bool            `json:"synced"` // all objects were listed
	Waits     string          `json:"waits,omitempty"`
	Objects   []Objects       `json:"objects,omitempty"`
	Hosts     []HostsFile     `json:"hosts,omitempty"`
	Lines     int             `json:"inlineLines"`
	Snapshot  *SnapshotReport `json:"snapshot,omitempty"`
	Conflicts []string        `json:"conflicts,omitempty"` // the first names that an object claims but another one has
	MoreLost  int             `json:"moreConflicts,omitempty"`
}

// maxConflicts limits the conflicts shown.
const maxConflicts = 100

// Objects is the number of objects of a kind.
type Objects struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

// HostsFile is a hosts file of a stanza.
type HostsFile struct {
	Path     string     `json:"path"`
	Entries  int        `json:"entries"`
	Modified *time.Time `json:"modified,omitempty"`
	Problem  string     `json:"problem,omitempty"` // why the file can't be used in its current state
	Left     []string   `json:"left,omitempty"`    // lines that can't be used, or may be mistakes
	More     int        `json:"more,omitempty"`    // the number of further ones
}

// SnapshotReport is the state of the snapshot of a server block.
type SnapshotReport struct {
	Path    string     `json:"path"`
	Written *time.Time `json:"written,omitempty"`
	Size    int64      `json:"bytes,omitempty"`
	Failed  string     `json:"failed,omitempty"`
	Stale   *time.Time `json:"answersSince,omitempty"` // since when answers come from it
}

// Wire has the counts of questions answered outside CoreDNS's own server.
type Wire struct {
	Addresses []string `json:"addresses,omitempty"`
	Answered  uint64   `json:"answered"`
	PassedOn  uint64   `json:"passedOn"`
}

// Memory is the memory of the process, in bytes.
type Memory struct {
	Resident uint64 `json:"resident,omitempty"` // 0 if unknown
	InUse    uint64 `json:"inUse"`              // of Go's heap, after the last collection
	Limit    int64  `json:"limit,omitempty"`    // limit for the collector, 0 for none
}

// silent is how long an API server may be silent before that is a problem. It sends a bookmark every
// minute.
const silent = 5 * time.Minute

// Report returns the state of the server blocks.
func (s *Servers) Report() *Report {
	r := &Report{Time: time.Now(), Version: version(), Memory: memory()}
	r.Host, _ = os.Hostname() // "" if it has none
	totals := wire.Now()
	r.Wire = Wire{totals.Addresses, totals.Answered, totals.PassedOn}
	seen := make(map[*source.Source]bool)
	for i := range s.All {
		b := s.All[i].Block
		if b == nil {
			continue
		}
		if from := b.Source(); from != nil && !seen[from] {
			seen[from] = true
			r.addAPI(from)
		}
		if now, ok := b.Now(); ok {
			r.addBlock(s, b, &now)
		}
	}
	r.Well = len(r.Problems) == 0
	return r
}

// version returns the output of CoreDNS's -version, in one line.
func version() string { return caddy.AppName + "-" + strings.ReplaceAll(caddy.AppVersion, "\n", ", ") }

func memory() Memory {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	m := Memory{InUse: sample[0].Value.Uint64()}
	if limit := debug.SetMemoryLimit(-1); limit < 1<<62 {
		m.Limit = limit
	}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(b)); len(fields) > 1 {
			pages, _ := strconv.ParseUint(fields[1], 10, 64)      // 0 for anything but a number
			m.Resident = pages * uint64(max(0, os.Getpagesize())) // #nosec G115 -- it is not negative
		}
	}
	return m
}

// problem adds a problem.
func (r *Report) problem(format string, args ...any) {
	text := safe.Printable(fmt.Sprintf(format, args...))
	if !slices.Contains(r.Problems, text) {
		r.Problems = append(r.Problems, text)
	}
}

func (r *Report) addAPI(s *source.Source) {
	c, ok := s.Contact()
	if !ok {
		return
	}
	a := API{Server: c.Server, Connected: c.Connected, News: timeOf(c.News), Down: timeOf(c.Down)}
	switch quiet := r.Time.Sub(c.News); {
	case a.Down != nil:
		r.problem("Kubernetes API %s has not replied since %s: answers may be out of date", a.Server, clock(c.Down))
	case a.News != nil && quiet > silent:
		r.problem("Kubernetes API %s has sent nothing for %s: answers may be out of date", a.Server, span(quiet))
	}
	r.API = append(r.API, a)
}

// timeOf returns nil for the zero time.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// clock formats a time for problems, which are a few hours old at most.
func clock(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }

func (r *Report) addBlock(s *Servers, live *live.Block, now *live.Now) {
	b := Block{
		Name: live.Name(), Hash: now.Hash, Origin: now.Origin, Applied: now.Since, Refused: safe.Printable(live.Refused()),
		Edits: live.Edits(), Lines: now.Lines(), Synced: true,
	}
	b.ConfigMap, _ = live.ConfigMap()
	for _, z := range now.View.Zones {
		b.Zones = append(b.Zones, z.Name)
	}
	if b.Refused != "" {
		of := "the Corefile"
		if b.ConfigMap != "" {
			of = "ConfigMap " + b.ConfigMap
		}
		r.problem("%s: the stanza of %s is refused, and the last good one serves: %s", b.Name, of, live.Refused())
	}
	b.Text, b.NoText = s.text(live, now)
	r.addObjects(&b, now)
	r.addHosts(&b, now)
	r.addSnapshot(&b, live)
	if all := now.Conflicts(); len(all) > 0 {
		for _, c := range all[:min(len(all), maxConflicts)] {
			b.Conflicts = append(b.Conflicts, safe.Printable(fmt.Sprintf("%s: %s claims it, and the older %s has it", c.Name, c.Loser, c.Winner)))
		}
		b.MoreLost = len(all) - len(b.Conflicts)
		r.problem("%s: %s claimed by an object that does not have it", b.Name, count(len(all), "name"))
	}
	r.Blocks = append(r.Blocks, b)
}

// text returns the text of the serving stanza, or why it can't be shown.
func (s *Servers) text(b *live.Block, now *live.Now) (text, why string) {
	name, from := s.Path, s.Text
	if now.Origin != "corefile" {
		configMap, key := b.ConfigMap()
		name, from = fmt.Sprintf("ConfigMap %s key %s", configMap, key), b.Text()
	}
	text, err := stanza.Excerpt(name, from, b.Keys, b.ViewName())
	if err != nil {
		return "", "It can't be shown, since it is in a file that the Corefile imports: " + safe.Printable(err.Error())
	}
	return text, ""
}

func (r *Report) addObjects(b *Block, now *live.Now) {
	counts := make(map[string]int)
	for _, objects := range now.Held() {
		for kind, n := range objects.Counts() {
			counts[kind] = max(counts[kind], n) // a kind that occurs twice is the same objects
		}
		if objects.Synced() {
			continue
		}
		b.Synced, b.Waits = false, "objects are not listed yet"
		if err := objects.Refused(); err != nil {
			b.Waits = safe.Printable(err.Error())
		}
		r.problem("%s: %s", b.Name, b.Waits)
	}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		b.Objects = append(b.Objects, Objects{kind, counts[kind]})
	}
}

func (r *Report) addHosts(b *Block, now *live.Now) {
	for _, f := range now.Files() {
		path := short(f.Path)
		h := HostsFile{Path: safe.Printable(path), Entries: f.Entries, Modified: timeOf(f.Modified), Problem: safe.Printable(f.Problem), More: f.More}
		for _, p := range f.Left {
			h.Left = append(h.Left, fmt.Sprintf("line %d: %s", p.Line, safe.Printable(p.Reason)))
		}
		switch n := len(h.Left) + h.More; {
		case h.Problem != "":
			r.problem("Hosts file %s can't be used in its current state: %s", path, f.Problem)
		case n > 0:
			r.problem("Hosts file %s: %s unusable or possibly wrong", path, count(n, "line"))
		}
		b.Hosts = append(b.Hosts, h)
	}
}

func (r *Report) addSnapshot(b *Block, of *live.Block) {
	s, ok := of.Snapshot()
	if !ok {
		return
	}
	b.Snapshot = &SnapshotReport{
		Path: safe.Printable(short(s.Path)), Written: timeOf(s.Written), Size: s.Size, Failed: safe.Printable(s.Failed), Stale: timeOf(of.Stale()),
	}
	if s.Failed != "" {
		r.problem("%s: the snapshot can't be written: %s", b.Name, s.Failed)
	}
	if b.Snapshot.Stale != nil {
		r.problem("%s: answers have come from snapshot %s since %s", b.Name, short(s.Path), clock(of.Stale()))
	}
}

// bytesText returns a number of bytes in words.
func bytesText(n uint64) string {
	const kibi, mebi = 1 << 10, 1 << 20
	if n < mebi {
		return fmt.Sprintf("%.1f KiB", float64(n)/kibi)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/mebi)
}
