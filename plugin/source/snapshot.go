package source

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	discovery "k8s.io/api/discovery/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/files"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// A snapshot file holds the objects of an API server, as far as answers need them: gzip'd JSON, one object a line,
// which manifests read like all others. The first line is of a kind of our own, which manifests skip. It describes how
// the objects were selected, since their labels are not stored.

// maxSnapshot is the size of the largest snapshot file that is read. 100,000 Services with 1,000,000 endpoints take a
// tenth of that.
const maxSnapshot = 64 << 20

var snapshotType = typeMeta{"kubehosts/v1", "Snapshot"}

// snapshotHead is the first line of a snapshot.
type snapshotHead struct {
	typeMeta
	Written         time.Time `json:"written"`
	Server          string    `json:"server"` // URL of the API server
	Kinds           []string  `json:"kinds"`
	Labels          string    `json:"labels,omitempty"`
	NamespaceLabels string    `json:"namespaceLabels,omitempty"`
	PodNames        bool      `json:"podNames,omitempty"`
	Zones           bool      `json:"zones,omitempty"`
	Serial          uint32    `json:"serial,omitempty"`   // of the zones
	Content         string    `json:"content,omitempty"`  // a hash of what the zones have besides objects
	External        []string  `json:"external,omitempty"` // kinds of objects that have external names
}

// Snapshot is the content of a snapshot file. It never changes.
type Snapshot struct {
	head       snapshotHead
	configMaps map[objectName]*ConfigMapEvent
	namespaces []string
	services   []*services.Service
	imports    []*services.Service
	slices     []*services.Slice
	imported   []*services.Slice
	pods       []*services.Pod
	external   map[string][]*external.Object // by kind
}

// Written returns when the snapshot was written.
func (sn *Snapshot) Written() time.Time { return sn.head.Written }

// Serial returns the SOA serial of the zones when the snapshot was written, 0 if it has none.
func (sn *Snapshot) Serial() uint32 { return sn.head.Serial }

// Content returns the Content of the Capture, "" if it had none.
func (sn *Snapshot) Content() string { return sn.head.Content }

// ConfigMap returns the ConfigMap of that name, with the content whose stanza last served. Its ResourceVersion is one
// that no API server uses.
func (sn *Snapshot) ConfigMap(namespace, name string) (ConfigMapEvent, bool) {
	e := sn.configMaps[objectName{namespace, name}]
	if e == nil {
		return ConfigMapEvent{}, false
	}
	return *e, true
}

// holds reports whether the snapshot has objects of these kinds, selected by key. sn may be nil.
func (sn *Snapshot) holds(key groupKey, kinds []string) bool {
	if sn == nil {
		return false
	}
	held, of := sn.head.Kinds, sn.head.key()
	if key.external {
		held, of = sn.head.External, groupKey{labels: of.labels, namespaceLabels: of.namespaceLabels, external: true}
	}
	if of != key {
		return false
	}
	for _, kind := range kinds {
		if !slices.Contains(held, kind) {
			return false
		}
	}
	return true
}

func (h *snapshotHead) key() groupKey {
	return groupKey{labels: h.Labels, namespaceLabels: h.NamespaceLabels, kept: sliceParts{podNames: h.PodNames, zones: h.Zones}}
}

// fill puts the snapshot's objects of these kinds into the index of g, which has no other objects yet.
func (sn *Snapshot) fill(g *group, kinds []string) {
	written := uint32(sn.head.Written.Unix()) // #nosec G115 -- good until 2106
	if g.key.external {
		g.outside.Update(func(tx *external.Tx) {
			var restored external.Kinds
			for _, kind := range kinds {
				restored |= external.KindsOf(externalKinds[kind])
				tx.Replace(externalKinds[kind], sn.external[kind])
				g.setCount(kind, len(sn.external[kind]))
			}
			tx.SetSnapshot(written, restored)
		})
		return
	}
	g.ix.Update(func(tx *services.Tx) {
		var restored services.Kinds
		for _, kind := range kinds {
			restored |= kindSets[kind]
			g.setCount(kind, sn.put(tx, kind))
		}
		tx.SetSnapshot(written, restored)
	})
}

// put replaces tx's objects of one kind with the snapshot's, and returns their number.
func (sn *Snapshot) put(tx *services.Tx, kind string) int {
	switch kind {
	case kindNamespace:
		tx.ReplaceNamespaces(sn.namespaces)
		return len(sn.namespaces)
	case kindService:
		tx.ReplaceServices(sn.services)
		return len(sn.services)
	case kindSlice:
		tx.ReplaceSlices(sn.slices)
		return len(sn.slices)
	case kindPod:
		tx.ReplacePods(sn.pods)
		return len(sn.pods)
	case kindServiceImport:
		tx.Imported().ReplaceServices(sn.imports)
		return len(sn.imports)
	case kindImportedSlice:
		tx.Imported().ReplaceSlices(sn.imported)
		return len(sn.imported)
	}
	return 0
}

// ReadSnapshot reads the snapshot file path, which must be from the API server of s. The error names the fault of the
// file, and is fs.ErrNotExist if it does not exist. A file with an error is not used at all. Memory is bounded by the
// size of the file, at most 64 MiB, and 1 GiB unpacked. It is an error if the file system does not respond for 5 s.
func (s *Source) ReadSnapshot(path string) (*Snapshot, error) {
	sn, err := files.Read(context.Background(), path, maxSnapshot, func(in io.Reader) (*Snapshot, error) {
		return parseSnapshot(path, in)
	})
	if err != nil {
		return nil, err
	}
	if server := s.server(); !s.spec.Offline && sn.head.Server != server {
		return nil, fmt.Errorf("%s is from another API server, %s; this one is %s", safe.Printable(path), safe.Printable(sn.head.Server), server)
	}
	return sn, nil
}

// server returns the URL of the API server, "" if there is none.
func (s *Source) server() string {
	if s.clients == nil {
		return ""
	}
	return strings.TrimSuffix(s.clients.all.CoreV1().RESTClient().Get().URL().String(), "/api/v1")
}

func parseSnapshot(file string, r io.Reader) (*Snapshot, error) {
	sn := &Snapshot{configMaps: make(map[objectName]*ConfigMapEvent), external: make(map[string][]*external.Object)}
	p := &parser{file: safe.Printable(file), keep: sn.add}
	err := p.compressed(r, maxUnpacked, func(line int, raw []byte) error {
		switch {
		case line > 1 && bytes.HasPrefix(raw, []byte(externalLine)):
			if err := sn.addExternal(raw); err != nil {
				return p.fail(line, "%w", err)
			}
			return nil
		case line > 1:
			return p.line(line, raw)
		}
		if err := json.Unmarshal(raw, &sn.head); err != nil {
			return p.fail(line, "not a snapshot: %w", err)
		}
		if sn.head.typeMeta != snapshotType {
			return p.fail(line, "not a snapshot of this version, but %.100q of %.100q", sn.head.Kind, sn.head.APIVersion)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case sn.head.Kind == "":
		return nil, fmt.Errorf("%s: an empty file is not a snapshot", p.file)
	}
	return sn, nil
}

// add adds an object.
func (sn *Snapshot) add(m *manifest) {
	switch m.kind {
	case kindConfigMap:
		sn.configMaps[m.name] = m.configMap
	case kindNamespace:
		sn.namespaces = append(sn.namespaces, m.name.name)
	case kindService:
		s, _ := packService(kindService, *m.service)
		sn.services = append(sn.services, s)
	case kindServiceImport:
		s, _ := packServiceImport(m)
		sn.imports = append(sn.imports, s)
	case kindSlice:
		if m.labels[discovery.LabelServiceName] != "" {
			s, _ := packSlice(m.sliceWith(sn.head.key().kept), m.labels)
			sn.slices = append(sn.slices, s)
		}
		if m.labels[mcs.LabelServiceName] != "" {
			s, _ := packImportedSlice(m.sliceWith(sn.head.key().kept), m.labels)
			sn.imported = append(sn.imported, s)
		}
	case kindPod:
		p, _ := packPod(m.pod)
		sn.pods = append(sn.pods, p)
	}
}

// externalLine begins a line with an object that has external names. It is of a kind of our own as well: it holds the
// object in the form of the index.
const externalLine = `{"apiVersion":"kubehosts/v1","kind":"External",`

// externalObject is such a line.
type externalObject struct {
	Of   string          `json:"of"` // kind
	Spec json.RawMessage `json:"spec"`
}

// addExternal adds such a line. It skips an unknown kind, of a later version.
func (sn *Snapshot) addExternal(raw []byte) error {
	var line externalObject
	err := json.Unmarshal(raw, &line)
	if err != nil {
		return err
	}
	kind, ok := externalKinds[line.Of]
	if !ok {
		return nil
	}
	var o *external.Object
	switch kind {
	case external.KindIngress:
		o, err = restored(line.Spec, external.NewIngress)
	case external.KindService:
		o, err = restored(line.Spec, external.NewService)
	case external.KindGateway:
		o, err = restored(line.Spec, external.NewGateway)
	case external.KindListenerSet:
		o, err = restored(line.Spec, external.NewListenerSet)
	case external.KindDNSEndpoint:
		o, err = restored(line.Spec, external.NewDNSEndpoint)
	case external.KindNode:
		o, err = restored(line.Spec, external.NewNode)
	case external.KindNamespace:
		o, err = restored(line.Spec, external.NewNamespace)
	default:
		o, err = restored(line.Spec, external.NewRoute)
	}
	if o != nil && o.Kind() == kind {
		sn.external[line.Of] = append(sn.external[line.Of], o)
	}
	return err
}

func restored[T any](raw json.RawMessage, pack func(T) *external.Object) (*external.Object, error) {
	var spec T
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, err
	}
	return pack(spec), nil
}

// Stanza is the ConfigMap of a server block's stanza: one key, and its content.
type Stanza struct{ Namespace, Name, Key, Text string }

// Capture is the state of a Source's objects at one moment.
type Capture struct {
	Serial  uint32 // SOA serial of the zones, set by the caller
	Content string // a hash of what the zones have besides objects, set by the caller

	head    snapshotHead
	state   *services.State // nil if no Services are served
	outside *external.State // nil without external names
	version [2]uint64       // of state and outside
	stanza  *Stanza         // nil without one
}

// Capture captures the objects of o and outside, which are of Selections without and with External, and the stanza.
// Each may be nil. It costs nothing, since a State never changes. It is nil if something is not synced yet.
func (s *Source) Capture(o, outside *Objects, st *Stanza) *Capture {
	c := &Capture{stanza: st, head: snapshotHead{typeMeta: snapshotType, Server: s.server()}}
	if outside != nil {
		c.outside = outside.External().State()
		if !outside.complete() || c.outside.Snapshot() != 0 {
			return nil
		}
		c.version[1] = c.outside.Version()
		key := outside.group.key
		c.head.External, c.head.Labels, c.head.NamespaceLabels = outside.kinds, key.labels, key.namespaceLabels
	}
	if o == nil {
		return c
	}
	c.state = o.Index().State()
	if !o.Synced() || c.state.Snapshot() != 0 {
		return nil
	}
	c.version[0] = c.state.Version()
	key := o.group.key
	c.head.Kinds, c.head.Labels, c.head.NamespaceLabels = o.kinds, key.labels, key.namespaceLabels
	c.head.PodNames, c.head.Zones = key.kept.podNames, key.kept.zones
	return c
}

// Same reports whether c and o would be written alike. o may be nil.
func (c *Capture) Same(o *Capture) bool {
	if o == nil || (c.stanza == nil) != (o.stanza == nil) || c.stanza != nil && *c.stanza != *o.stanza {
		return false
	}
	return c.Serial == o.Serial && c.Content == o.Content && c.version == o.version && c.head.key() == o.head.key() && slices.Equal(c.head.Kinds, o.head.Kinds) &&
		slices.Equal(c.head.External, o.head.External)
}

// Forget releases the objects of c. Same does not need them.
func (c *Capture) Forget() { c.state, c.outside = nil, nil }

// Write replaces the file path with c. It writes a new file in the same folder and renames it, so that there is never
// half a file. It returns the size of the file in bytes. The error names the path and the cause, in the same words for
// the same cause.
func (c *Capture) Write(path string) (int64, error) {
	size, err := c.write(path)
	if err == nil {
		return size, nil
	}
	var pathError *fs.PathError // it names the new file, whose name differs each time
	if errors.As(err, &pathError) {
		err = fmt.Errorf("%s: %w", pathError.Op, pathError.Err)
	}
	return 0, fmt.Errorf("%s: %w", path, err)
}

func (c *Capture) write(path string) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), asidePattern(path))
	if err != nil {
		return 0, err
	}
	defer func() {
		f.Close() // the second time after a success
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := c.encode(f); err != nil {
		return 0, err
	}
	if size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return 0, err
	}
	if size > maxSnapshot {
		return 0, fmt.Errorf("%d MiB, above the limit of %d MiB for reading it", size>>20, maxSnapshot>>20)
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return 0, err
	}
	return size, syncDir(filepath.Dir(path))
}

// syncDir makes a rename durable. It ignores the errors of file systems that can't do this.
func syncDir(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec G304 -- the Corefile names it
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// asidePattern is the pattern of the new file's name for os.CreateTemp: * is a number.
func asidePattern(path string) string { return "." + filepath.Base(path) + ".*.new" }

// CleanSnapshot removes the new files left by processes that were killed while they wrote the snapshot file
// path.
func CleanSnapshot(path string) {
	left, _ := filepath.Glob(filepath.Join(files.Escape(filepath.Dir(path)), strings.Replace(files.Escape(asidePattern(path)), `\*`, "*", 1)))
	for _, name := range left {
		const longest = 10 * time.Minute // for writing a file
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > longest {
			os.Remove(name)
		}
	}
}

// encode writes c to w.
func (c *Capture) encode(w io.Writer) error {
	packed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(packed, 64<<10)
	c.head.Written, c.head.Serial, c.head.Content = time.Now().UTC().Truncate(time.Second), c.Serial, c.Content
	if err := json.NewEncoder(out).Encode(&c.head); err != nil {
		return err
	}
	e := encoder{out: out}
	if c.stanza != nil {
		e.stanza(c.stanza)
	}
	if c.state != nil {
		e.state(c.state)
	}
	if c.outside != nil {
		e.external(c.outside, c.head.External)
	}
	for _, err := range []error{e.err, out.Flush(), packed.Close()} {
		if err != nil {
			return err
		}
	}
	return nil
}

// encoder writes objects as lines of JSON, by hand and with one buffer.
type encoder struct {
	out io.Writer
	buf []byte
	err error // the first one
}

func (e *encoder) state(s *services.State) {
	s.Namespaces(func(name string) bool {
		e.begin("v1", kindNamespace, "", name)
		e.raw("}}")
		return e.end()
	})
	for svc, all := range s.Owners(false) {
		if !svc.IsZero() {
			e.service(svc)
		}
		for _, slice := range all {
			e.slice(slice, discovery.LabelServiceName)
		}
		if e.err != nil {
			return
		}
	}
	for svc, all := range s.Owners(true) {
		if !svc.IsZero() {
			e.serviceImport(svc)
		}
		for _, slice := range all {
			e.slice(slice, mcs.LabelServiceName)
		}
		if e.err != nil {
			return
		}
	}
	s.Pods(e.pod)
}

// begin begins an object, and leaves its metadata open.
func (e *encoder) begin(version, kind, namespace, name string) {
	e.buf = append(e.buf[:0], `{"apiVersion":"`...)
	e.raw(version, `","kind":"`, kind, `","metadata":{"name":`)
	e.text(name)
	if namespace != "" {
		e.raw(`,"namespace":`)
		e.text(namespace)
	}
}

// end writes the object, and reports whether that succeeded.
func (e *encoder) end() bool {
	e.buf = append(e.buf, '\n')
	if e.err == nil {
		_, e.err = e.out.Write(e.buf)
	}
	return e.err == nil
}

func (e *encoder) raw(parts ...string) {
	for _, p := range parts {
		e.buf = append(e.buf, p...)
	}
}

// text writes a JSON string.
func (e *encoder) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil && e.err == nil {
				e.err = err
			}
			e.buf = append(e.buf, quoted...)
			return
		}
	}
	e.buf = append(e.buf, '"')
	e.buf = append(e.buf, s...)
	e.buf = append(e.buf, '"')
}

func (e *encoder) comma(first *bool) {
	if !*first {
		e.buf = append(e.buf, ',')
	}
	*first = false
}

func (e *encoder) stanza(st *Stanza) {
	e.begin("v1", kindConfigMap, st.Namespace, st.Name)
	e.raw(`},"data":{`)
	e.text(st.Key)
	e.raw(":")
	e.text(st.Text)
	e.raw("}}")
	e.end()
}

func (e *encoder) service(s services.Service) {
	e.begin("v1", kindService, s.Namespace(), s.ObjectName())
	e.raw(`},"spec":{`)
	switch {
	case s.External():
		e.raw(`"type":"ExternalName","externalName":`)
		e.text(s.ExternalName())
	case s.Headless():
		e.raw(`"clusterIP":"None"`)
	default:
		e.raw(`"clusterIPs":`)
		e.addresses(s.Addrs())
	}
	e.raw(",")
	e.ports(s.Ports())
	e.raw("}}")
	e.end()
}

func (e *encoder) serviceImport(s services.Service) {
	e.begin(mcs.GroupName+"/v1alpha1", kindServiceImport, s.Namespace(), s.ObjectName())
	kind := mcs.ClusterSetIP
	if s.Headless() {
		kind = mcs.Headless
	}
	e.raw(`},"spec":{"type":"`, string(kind), `","ips":`)
	e.addresses(s.Addrs())
	e.raw(",")
	e.ports(s.Ports())
	e.raw("}}")
	e.end()
}

// external writes the objects of these kinds.
func (e *encoder) external(s *external.State, kinds []string) {
	for _, kind := range kinds {
		for o := range s.Objects(externalKinds[kind]) {
			spec, err := json.Marshal(specOf(o))
			if err != nil && e.err == nil {
				e.err = err
			}
			e.buf = append(e.buf[:0], externalLine...)
			e.raw(`"of":"`, kind, `","spec":`, string(spec), "}")
			if !e.end() {
				return
			}
		}
	}
}

// specOf returns the spec of o.
func specOf(o *external.Object) any {
	switch o.Kind() {
	case external.KindIngress:
		return o.Ingress()
	case external.KindService:
		return o.Service()
	case external.KindGateway:
		return o.Gateway()
	case external.KindListenerSet:
		return o.ListenerSet()
	case external.KindDNSEndpoint:
		return o.DNSEndpoint()
	case external.KindNode:
		return o.Node()
	case external.KindNamespace:
		return o.NamespaceSpec()
	}
	return o.Route()
}

func (e *encoder) addresses(all services.Addrs) {
	e.raw("[")
	first := true
	for a := range all.All {
		e.comma(&first)
		e.raw(`"`)
		e.buf = a.AppendTo(e.buf)
		e.raw(`"`)
	}
	e.raw("]")
}

// ports leaves out the one port that stands for no ports.
func (e *encoder) ports(all services.Ports) {
	e.raw(`"ports":[`)
	first := true
	for all.Next() {
		if all.Number() == 0 && all.Name() == "" && all.Protocol() == "" {
			continue
		}
		e.comma(&first)
		e.raw(`{"name":`)
		e.text(all.Name())
		if all.Protocol() != "" {
			e.raw(`,"protocol":`)
			e.text(strings.ToUpper(all.Protocol()))
		}
		if all.Number() != 0 {
			e.buf = fmt.Appendf(append(e.buf, `,"port":`...), "%d", all.Number())
		}
		e.raw("}")
	}
	e.raw("]")
}

// slice writes an EndpointSlice of the Service that its label names. It skips one without ready endpoints, which has no
// answers.
func (e *encoder) slice(s services.Slice, label string) {
	addrs := s.Addrs()
	if addrs.Len4()+addrs.Len6() == 0 {
		return
	}
	e.begin("discovery.k8s.io/v1", kindSlice, s.Namespace(), s.ObjectName())
	e.raw(`,"labels":{"`, label, `":`)
	e.text(s.Service())
	if s.Cluster() != "" {
		e.raw(`,"`, mcs.LabelSourceCluster, `":`)
		e.text(s.Cluster())
	}
	family := discovery.AddressTypeIPv4
	if addrs.Len4() == 0 {
		family = discovery.AddressTypeIPv6
	}
	e.raw(`}},"addressType":"`, string(family), `",`)
	e.ports(s.Ports())
	e.raw(`,"endpoints":[`)
	first := true
	for a, ep := range s.Endpoints {
		e.comma(&first)
		e.raw(`{"addresses":["`)
		e.buf = a.AppendTo(e.buf)
		e.raw(`"]`)
		switch {
		case ep.PodName:
			e.raw(`,"targetRef":{"kind":"Pod","name":`)
			e.text(ep.Name)
			e.raw("}")
		case ep.Name != "":
			e.raw(`,"hostname":`)
			e.text(ep.Name)
		}
		if ep.Zone != "" {
			e.raw(`,"zone":`)
			e.text(ep.Zone)
		}
		e.raw("}")
	}
	e.raw("]}")
	e.end()
}

func (e *encoder) pod(p *services.Pod) bool {
	e.begin("v1", kindPod, p.Namespace(), p.ObjectName())
	if labels := p.Labels(); len(labels) > 0 {
		e.raw(`,"labels":{`)
		first := true
		for _, k := range slices.Sorted(maps.Keys(labels)) {
			e.comma(&first)
			e.text(k)
			e.raw(":")
			e.text(labels[k])
		}
		e.raw("}")
	}
	e.raw(`},"status":{"podIPs":[`)
	first := true
	for a := range p.Addrs().All {
		e.comma(&first)
		e.raw(`{"ip":"`)
		e.buf = a.AppendTo(e.buf)
		e.raw(`"}`)
	}
	e.raw("]}}")
	return e.end()
}
