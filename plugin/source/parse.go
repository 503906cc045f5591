package source

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// manifest is an object from a manifest file, or the stored part of one. Only the pointer for its kind is set, for a
// Namespace none.
type manifest struct {
	kind   string
	name   objectName // without a namespace for a Namespace
	labels map[string]string
	file   string
	line   int

	service   *services.ServiceSpec // of a ServiceImport too
	addresses bool                  // the Service needs a cluster IP, and the file specifies none
	// Of a Service and of an EndpointSlice, for Facts.
	serviceType api.ServiceType
	selector    string
	unready     Unready
	slice       *services.SliceSpec // with zones, and with hostnames only
	slicePods   *services.SliceSpec // with pod names too; the same as slice if there is no difference
	pod         *services.PodSpec
	mirrored    []*manifest // EndpointSlices with the content of this Endpoints object
	configMap   *ConfigMapEvent

	published *external.ServiceSpec // of a Service with an external name or address
	external  *external.Object      // of a kind that only has external names; nil without any
}

// at returns the place of the object.
func (m *manifest) at() string { return m.file + ":" + strconv.Itoa(m.line) }

// parser reads one manifest file.
type parser struct {
	file   string
	keep   func(*manifest)
	before int  // lines of the file before the current documents
	budget int  // bytes that aliases may still add
	others int  // objects of unused kinds
	yes    bool // yes, no, on and off are booleans

	unknown map[typeMeta]int // objects of a used kind in an unknown version
}

const (
	maxUnpacked = 1 << 30 // bytes of a compressed one, unpacked
	maxLine     = 8 << 20 // bytes of a line of it; an EndpointSlice of 1000 endpoints takes a hundredth
	maxNesting  = 10      // of Lists in Lists
	maxDepth    = 10000   // of nesting in a document; encoding/json has the same limit

	// growth is the number of bytes that the aliases of one file may add to it. A few lines of YAML can stand for
	// gigabytes.
	growth = 64 << 20
)

// parse reads the objects of a manifest file: documents in YAML or JSON, with the items of Lists and typed lists. It
// skips objects of kinds that answers do not need. An error has the file and the line.
func parse(file string, b []byte) ([]*manifest, error) {
	var all []*manifest
	p := &parser{file: safe.Printable(file), budget: growth, keep: func(m *manifest) { all = append(all, m) }}
	b = bytes.TrimPrefix(b, []byte("\uFEFF"))
	var err error
	if bytes.HasPrefix(b, gzipMagic) {
		err = p.compressed(bytes.NewReader(b), maxUnpacked, p.line)
	} else {
		err = p.documents(b)
	}
	if err != nil {
		return nil, err
	}
	for of, n := range p.unknown {
		log.Warningf("%s: %d objects of kind %s and version %s are skipped: this kind and version is not served",
			p.file, n, safe.Printable(of.Kind), safe.Printable(of.APIVersion))
	}
	if p.others > 0 {
		log.Debugf("%s: %d objects of unused kinds were skipped", p.file, p.others)
	}
	return all, nil
}

// documents reads YAML, or JSON documents one after the other or separated by "---" lines.
func (p *parser) documents(b []byte) error {
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return p.yaml(b)
	}
	for more := true; more; {
		var part []byte
		part, b, more = cutDocument(b)
		err := p.json(part)
		if errors.Is(err, errNotJSON) {
			err = p.yaml(part)
		}
		if err != nil {
			return err
		}
		p.before += bytes.Count(part, []byte("\n")) + 1
	}
	return nil
}

// cutDocument cuts b at the next line that begins with "---" and is a YAML document separator: no other character
// follows directly.
func cutDocument(b []byte) (part, rest []byte, more bool) {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("\n---"))
		if i < 0 {
			return b, nil, false
		}
		at += i
		if rest = b[at+len("\n---"):]; len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0 {
			return b[:at], rest, true
		}
		at++
	}
}

// gzipMagic are the first bytes of a compressed file (RFC 1952, section 2.3.1).
var gzipMagic = []byte{0x1f, 0x8b}

// compressed reads gzip'd JSON, one object a line as in a snapshot, and calls take for each. It holds one line in
// memory at a time, and unpacks at most most bytes. It detects damage at the end at the latest, where gzip has a
// checksum.
func (p *parser) compressed(r io.Reader, most int64, take func(line int, raw []byte) error) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	limited := &io.LimitedReader{R: z, N: most + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	n := 0
	for lines.Scan() {
		n++
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := take(n, lines.Bytes()); err != nil {
			return err
		}
	}
	if limited.N <= 0 {
		return fmt.Errorf("%s: unpacks to more than %d MiB", p.file, most>>20)
	}
	if err := lines.Err(); err != nil {
		return p.fail(n+1, "%w", err)
	}
	return nil
}

// fail returns an error at a line.
func (p *parser) fail(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", p.file, line, fmt.Errorf(format, args...))
}

var errNotJSON = errors.New("not JSON")

// json reads JSON documents, one after the other. It returns errNotJSON if the first isn't JSON; it may be
// YAML.
func (p *parser) json(b []byte) error {
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return errNotJSON
	}
	d := json.NewDecoder(bytes.NewReader(b))
	lines := &lineCounter{text: b, line: p.before + 1}
	for first := true; ; first = false {
		var doc json.RawMessage
		switch err := d.Decode(&doc); {
		case err == io.EOF:
			return nil
		case err != nil && first:
			return errNotJSON
		case err != nil:
			rest := b[d.InputOffset():]
			start := len(b) - len(bytes.TrimLeft(rest, " \t\r\n"))
			return p.fail(lines.at(start), "no JSON: %w", err)
		}
		start := int(d.InputOffset()) - len(doc)
		if err := p.object(lines, start, doc, typeMeta{}, 0); err != nil {
			return err
		}
	}
}

// line reads the object of a line. One that begins like those of a snapshot is read only once.
func (p *parser) line(line int, raw []byte) error {
	rest, ok := bytes.CutPrefix(raw, []byte(`{"apiVersion":"`))
	version, rest, _ := bytes.Cut(rest, []byte(`","kind":"`))
	kind, _, plain := bytes.Cut(rest, []byte(`","metadata":{"name":"`))
	if ok && plain && len(kind) < 64 && !bytes.HasSuffix(kind, []byte("List")) {
		return p.take(line, typeMeta{string(version), string(kind)}, raw)
	}
	return p.object(&lineCounter{line: line}, 0, raw, typeMeta{}, 0)
}

// lineCounter finds the line of an offset. Offsets must not decrease.
type lineCounter struct {
	text   []byte
	offset int
	line   int
}

func (c *lineCounter) at(offset int) int {
	if c == nil {
		return 0
	}
	offset = min(offset, len(c.text))
	if offset > c.offset {
		c.line += bytes.Count(c.text[c.offset:offset], []byte("\n"))
		c.offset = offset
	}
	return c.line
}

type typeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// object reads the object raw, which begins at offset. of is the type that a typed list sets for its
// items.
func (p *parser) object(lines *lineCounter, offset int, raw json.RawMessage, of typeMeta, depth int) error {
	line := lines.at(offset)
	var head struct {
		typeMeta
		Items []json.RawMessage `json:"items"`
	}
	if t := bytes.TrimLeft(raw, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return p.fail(line, "the document is not an object")
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return p.fail(line, "%w", err)
	}
	if head.Kind == "" && head.APIVersion == "" {
		head.typeMeta = of
	}
	if head.Kind == "" || head.APIVersion == "" {
		return p.fail(line, "an object without kind and apiVersion, so none of Kubernetes")
	}
	if !strings.HasSuffix(head.Kind, "List") {
		return p.take(line, head.typeMeta, raw)
	}
	if depth == maxNesting {
		return p.fail(line, "Lists nested more than %d deep", maxNesting)
	}
	item := itemMeta(head.typeMeta)
	at := 0
	for _, r := range head.Items {
		at += max(0, bytes.Index(raw[at:], r)) // items are pieces of raw, in order
		if err := p.object(lines, offset+at, r, item, depth+1); err != nil {
			return err
		}
		at += len(r)
	}
	return nil
}

// itemMeta returns the type that a list sets for its items: a ServiceList holds Services, a List sets
// none.
func itemMeta(list typeMeta) typeMeta {
	if list.Kind == "List" {
		return typeMeta{}
	}
	return typeMeta{list.APIVersion, strings.TrimSuffix(list.Kind, "List")}
}

// yaml reads YAML documents.
func (p *parser) yaml(b []byte) (err error) {
	// The library recovers from its own errors and panics with others. A file must not end the process.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: the YAML library gave up: %v", p.file, r)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(b))
	for {
		var doc yaml.Node
		switch err := d.Decode(&doc); {
		case err == io.EOF:
			return nil
		case err != nil:
			return p.yamlError(err)
		}
		if len(doc.Content) == 0 {
			continue
		}
		if err := p.node(doc.Content[0], typeMeta{}, false, 0); err != nil {
			return err
		}
	}
}

// yamlError moves the line, which the library's error has in its text, to its usual place.
func (p *parser) yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if line, reason, ok := strings.Cut(rest, ": "); ok {
			n, _ := strconv.Atoi(line) // the library's line
			return fmt.Errorf("%s:%d: %s", p.file, p.before+n, reason)
		}
	}
	return fmt.Errorf("%s: %s", p.file, text)
}

// lineOf returns the line of n in the file.
func (p *parser) lineOf(n *yaml.Node) int { return p.before + n.Line }

// node reads the object n, and the items of a list one by one, so that each has its line and its own memory.
func (p *parser) node(n *yaml.Node, of typeMeta, aliased bool, depth int) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil // nothing between two separators
	}
	if n.Kind == yaml.AliasNode {
		n, aliased = n.Alias, true
	}
	if err := p.charge(n, aliased); err != nil {
		return err
	}
	if n.Kind != yaml.MappingNode {
		return p.fail(p.lineOf(n), "the document is not an object")
	}
	var head typeMeta
	var items *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch value := n.Content[i+1]; n.Content[i].Value {
		case "kind":
			head.Kind = value.Value
		case "apiVersion":
			head.APIVersion = value.Value
		case "items":
			items = value
		}
	}
	if strings.HasSuffix(head.Kind, "List") && items != nil && items.Kind == yaml.SequenceNode {
		if depth == maxNesting {
			return p.fail(p.lineOf(n), "Lists nested more than %d deep", maxNesting)
		}
		for _, item := range items.Content {
			if err := p.node(item, itemMeta(head), aliased, depth+1); err != nil {
				return err
			}
		}
		return nil
	}

	budget := p.budget
	err := p.scalars(n, of, aliased, depth)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Value == "string" && wrong.Type != nil && wrong.Type.Kind() == reflect.Bool {
		p.budget, p.yes = budget, true
		err = p.scalars(n, of, aliased, depth)
		p.yes = false
	}
	return err
}

// scalars reads the object n, with its scalars as p reads them.
func (p *parser) scalars(n *yaml.Node, of typeMeta, aliased bool, depth int) error {
	v, err := p.value(n, aliased, 0)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return p.fail(p.lineOf(n), "%w", err)
	}
	return p.object(&lineCounter{line: p.lineOf(n)}, 0, raw, of, depth)
}

// value returns the value of n, as encoding/json would. The library's own decoding is quadratic in the keys of a
// mapping.
func (p *parser) value(n *yaml.Node, aliased bool, depth int) (any, error) {
	if err := p.charge(n, aliased); err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, p.fail(p.lineOf(n), "nested more than %d deep", maxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return p.value(n.Alias, true, depth+1)
	case yaml.MappingNode:
		return p.mapping(n, aliased, depth)
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		var err error
		for i, c := range n.Content {
			if out[i], err = p.value(c, aliased, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	if b, ok := boolean(n); ok && p.yes {
		return b, nil
	}
	switch n.ShortTag() {
	case "!!str", "!!timestamp", "!!binary": // Kubernetes takes a date for a string
		return n.Value, nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, p.fail(p.lineOf(n), "%.100q is not of type %s", n.Value, safe.Printable(n.ShortTag()))
	}
	return v, nil
}

// boolean returns the value of n if it is a boolean in YAML 1.1, which kubectl reads and the library does not. kubectl
// refuses it in place of a string, as in "namespace: n".
func boolean(n *yaml.Node) (value, ok bool) {
	const marked = yaml.TaggedStyle | yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	if n.Kind != yaml.ScalarNode || n.Style&marked != 0 {
		return false, false
	}
	switch n.Value {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

func (p *parser) mapping(n *yaml.Node, aliased bool, depth int) (map[string]any, error) {
	out := make(map[string]any, len(n.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, p.fail(p.lineOf(key), "the key is not a string")
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, n.Content[i+1])
			continue
		}
		name := key.Value
		if b, ok := boolean(key); ok && p.yes {
			name = strconv.FormatBool(b)
		}
		if _, twice := out[name]; twice {
			return nil, p.fail(p.lineOf(key), "duplicate key %.100q", key.Value)
		}
		v, err := p.value(n.Content[i+1], aliased, depth+1)
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	for _, m := range merged {
		if err := p.merge(out, m, aliased, depth); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// merge adds to out the keys of n that are not in it (YAML's merge key, <<). n is a mapping, or a sequence of them.
func (p *parser) merge(out map[string]any, n *yaml.Node, aliased bool, depth int) error {
	v, err := p.value(n, aliased, depth+1)
	if err != nil {
		return err
	}
	all, ok := v.([]any)
	if !ok {
		all = []any{v}
	}
	for _, one := range all {
		m, ok := one.(map[string]any)
		if !ok {
			return p.fail(p.lineOf(n), "<< does not merge a mapping")
		}
		for k, v := range m {
			if _, known := out[k]; !known {
				out[k] = v
			}
		}
	}
	return nil
}

// charge subtracts n from the bytes that aliases may add to the file, if n comes from an alias.
func (p *parser) charge(n *yaml.Node, aliased bool) error {
	if !aliased {
		return nil
	}
	const perNode = 64 // approximate bytes of memory
	if p.budget -= perNode + len(n.Value); p.budget < 0 {
		return p.fail(p.lineOf(n), "aliases make the file too large, or refer to themselves")
	}
	return nil
}

// take stores the needed parts of the object raw.
func (p *parser) take(line int, of typeMeta, raw json.RawMessage) error {
	m := &manifest{kind: of.Kind, file: p.file, line: line}
	var err error
	switch of {
	case typeMeta{"v1", kindNamespace}:
		var o api.Namespace
		if err = json.Unmarshal(raw, &o); err == nil {
			m.name.name = o.Name
			m.labels = maps.Clone(o.Labels)
			if m.labels == nil {
				m.labels = make(map[string]string, 1)
			}
			m.labels[api.LabelMetadataName] = o.Name // as in an API server
		}
	case typeMeta{"v1", kindService}:
		var o api.Service
		if err = json.Unmarshal(raw, &o); err == nil {
			m.ofService(&o)
		}
	case typeMeta{"discovery.k8s.io/v1", kindSlice}:
		var o discovery.EndpointSlice
		if err = json.Unmarshal(raw, &o); err == nil {
			m.ofSlice(&o)
		}
	case typeMeta{"discovery.k8s.io/v1beta1", kindSlice}:
		var o discovery.EndpointSlice
		if o, err = betaSlice(raw); err == nil {
			m.ofSlice(&o)
		}
	case typeMeta{"v1", kindEndpoints}:
		var o api.Endpoints //lint:ignore SA1019 deprecated, but found in manifests
		if err = json.Unmarshal(raw, &o); err == nil {
			m.ofEndpoints(&o)
		}
	case typeMeta{mcs.GroupName + "/v1alpha1", kindServiceImport}, typeMeta{mcs.GroupName + "/v1beta1", kindServiceImport}:
		var o mcs.ServiceImport // the two versions differ only in their names
		if err = json.Unmarshal(raw, &o); err == nil {
			m.name = inNamespace(&o.Namespace, o.Name)
			m.labels = o.Labels
			spec := importSpec(&o)
			m.service = &spec
		}
	case typeMeta{"v1", kindPod}:
		var o api.Pod
		if err = json.Unmarshal(raw, &o); err == nil && !m.ofPod(&o) {
			return nil
		}
	case typeMeta{"v1", kindConfigMap}:
		var o api.ConfigMap
		if err = json.Unmarshal(raw, &o); err == nil {
			m.name = inNamespace(&o.Namespace, o.Name)
			data := configMapData(&o)
			m.configMap = &ConfigMapEvent{Data: data, ResourceVersion: contentVersion(data), Found: true}
		}
	case typeMeta{"v1", kindNode}:
		var o api.Node
		if err = json.Unmarshal(raw, &o); err == nil {
			m.name.name = o.Name
			m.external, _ = toNode(&o)
		}
	case typeMeta{"networking.k8s.io/v1", kindIngress}:
		var o networking.Ingress
		if err = json.Unmarshal(raw, &o); err == nil {
			m.name = inNamespace(&o.Namespace, o.Name)
			m.external, _ = toIngress(&o)
		}
	default:
		custom, ok := customKinds[of.Kind]
		if !ok || custom.version != of.APIVersion {
			p.pass(of)
			return nil
		}
		var o customObject
		if err = json.Unmarshal(raw, &o); err == nil {
			m.name = inNamespace(&o.Metadata.Namespace, o.Metadata.Name)
			m.external, err = custom.read(o.resource())
		}
	}
	if p.yes && err != nil {
		err = fmt.Errorf("%w (y, yes, on, n, no and off are booleans; quote them to make strings)", err)
	}
	if err != nil {
		return p.fail(line, "%s %s: %w", of.Kind, safe.Printable(nameIn(raw)), err)
	}
	if m.name.name == "" {
		return p.fail(line, "%s without metadata.name", of.Kind)
	}
	p.keep(m)
	return nil
}

// pass counts an object that is skipped. One that resembles a served kind is logged later.
func (p *parser) pass(of typeMeta) {
	p.others++
	group, _, _ := strings.Cut(of.APIVersion, "/")
	if group == of.APIVersion { // of the core, like v1
		group = ""
	}
	for kind, groups := range map[string][]string{
		kindNamespace: {""}, kindService: {""}, kindPod: {""}, kindConfigMap: {""}, kindEndpoints: {""},
		kindSlice: {"discovery.k8s.io", ""}, kindServiceImport: {mcs.GroupName, ""},
		kindNode: {""}, kindIngress: {"networking.k8s.io", "extensions"}, kindGateway: {gatewayGroup}, kindListenerSet: {gatewayGroup},
		kindHTTPRoute: {gatewayGroup}, kindGRPCRoute: {gatewayGroup}, kindTLSRoute: {gatewayGroup}, kindTCPRoute: {gatewayGroup},
		kindUDPRoute: {gatewayGroup}, kindDNSEndpoint: {externalDNSGroup},
	} {
		const most = 10 // kinds and versions
		if !strings.EqualFold(kind, of.Kind) || !slices.Contains(groups, group) || len(p.unknown) == most && p.unknown[of] == 0 {
			continue
		}
		if p.unknown == nil {
			p.unknown = make(map[typeMeta]int)
		}
		p.unknown[of]++
	}
}

// nameIn returns the name of an object that can't be decoded otherwise.
func nameIn(raw json.RawMessage) string {
	var o struct{ Metadata struct{ Namespace, Name any } }
	_ = json.Unmarshal(raw, &o) // as far as it can be read
	if o.Metadata.Namespace == nil {
		return fmt.Sprintf("%v", o.Metadata.Name)
	}
	return fmt.Sprintf("%v/%v", o.Metadata.Namespace, o.Metadata.Name)
}

// inNamespace puts an object without a namespace into "default", as kubectl does.
func inNamespace(ns *string, name string) objectName {
	if *ns == "" {
		*ns = api.NamespaceDefault
	}
	return objectName{*ns, name}
}

func (m *manifest) ofService(o *api.Service) {
	m.name = inNamespace(&o.Namespace, o.Name)
	m.labels = o.Labels
	for i := range o.Spec.Ports {
		if o.Spec.Ports[i].Protocol == "" {
			o.Spec.Ports[i].Protocol = api.ProtocolTCP
		}
	}
	spec := serviceSpec(o)
	m.service = &spec
	m.serviceType = cmp.Or(o.Spec.Type, api.ServiceTypeClusterIP)
	if len(o.Spec.Selector) > 0 {
		m.selector = labels.FormatLabels(o.Spec.Selector)
	}
	m.published = publishedService(o)
	m.addresses = !spec.External && o.Spec.ClusterIP == "" && len(o.Spec.ClusterIPs) == 0
}

func (m *manifest) ofSlice(o *discovery.EndpointSlice) {
	m.name = inNamespace(&o.Namespace, o.Name)
	m.labels = o.Labels
	for i := range o.Ports {
		if p := o.Ports[i].Protocol; p == nil || *p == "" {
			tcp := api.ProtocolTCP
			o.Ports[i].Protocol = &tcp
		}
	}
	m.unready = unreadyOf(o)
	m.slice = sliceSpec(o, sliceParts{zones: true})
	m.slicePods = m.slice
	if slices.ContainsFunc(o.Endpoints, func(ep discovery.Endpoint) bool { return ep.TargetRef != nil }) {
		m.slicePods = sliceSpec(o, sliceParts{podNames: true, zones: true})
	}
}

// ofPod reports whether a query can name the pod.
func (m *manifest) ofPod(o *api.Pod) bool {
	switch o.Status.Phase {
	case api.PodSucceeded, api.PodFailed, api.PodUnknown:
		return false
	}
	if !o.DeletionTimestamp.IsZero() {
		return false
	}
	m.name = inNamespace(&o.Namespace, o.Name)
	m.labels = o.Labels
	m.pod = podSpec(o)
	return true
}

// contentVersion returns a resource version for an object that has none.
func contentVersion(data map[string]string) string {
	h := fnv.New128a()
	for _, k := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(h, "%d %d %s%s", len(k), len(data[k]), k, data[k])
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
