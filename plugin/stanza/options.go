package stanza

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy/caddyfile"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// options are the options of the stanza.
var options = map[string]func(*Config, statement) error{
	"configmap":              (*Config).setConfigMap,
	"manifests":              (*Config).addManifests,
	"snapshot":               (*Config).setSnapshot,
	"kubeconfig":             (*Config).setKubeconfig,
	"endpoint":               (*Config).setEndpoints,
	"tls":                    (*Config).setTLS,
	"apiserver_qps":          (*Config).setQPS,
	"apiserver_burst":        (*Config).setBurst,
	"apiserver_max_inflight": (*Config).setMaxInflight,
	"startup_timeout":        (*Config).setStartupTimeout,
	"namespaces":             (*Config).addNamespaces,
	"namespace_labels":       (*Config).setNamespaceLabels,
	"labels":                 (*Config).setLabels,
	"pods":                   (*Config).setPods,
	"endpoint_pod_names":     (*Config).setEndpointPodNames,
	"noendpoints":            (*Config).setNoEndpoints,
	"ignore":                 (*Config).setIgnore,
	"zonal":                  (*Config).setZonal,
	"multicluster":           (*Config).setMulticluster,
	"ttl":                    (*Config).setTTL,
	"hosts":                  (*Config).addHosts,
	"fallthrough":            (*Config).setFallthrough,
}

// apiOptions say how the API server is reached; sourceOptions, where data comes from at all. A ConfigMap cannot change
// the latter.
var (
	apiOptions    = []string{"kubeconfig", "endpoint", "tls", "apiserver_qps", "apiserver_burst", "apiserver_max_inflight"}
	sourceOptions = append([]string{"configmap", "manifests", "snapshot"}, apiOptions...)
)

// written is a data-source option as it stands in the text.
type written struct {
	args []string
	at   caddyfile.Token
}

// source remembers a data-source option as written; the last of several counts.
func (c *Config) source(o statement) { c.sources[o.name()] = written{o.args(), o.words[0]} }

func (c *Config) setConfigMap(o statement) error {
	if first, ok := c.sources["configmap"]; ok {
		return o.errf("configmap may be given only once, and is on line %d already", first.at.Line)
	}
	args := o.args()
	if len(args) != 1 && len(args) != 2 {
		return o.argErr()
	}
	ref := ConfigMapRef{Name: args[0], Key: DefaultConfigMapKey}
	if ns, name, ok := strings.Cut(args[0], "/"); ok {
		if bad := validation.IsDNS1123Label(ns); bad != nil {
			return o.errf("configmap '%s': '%s' is no name of a namespace: %s", args[0], ns, bad[0])
		}
		ref.Namespace, ref.Name = ns, name
	}
	if bad := validation.IsDNS1123Subdomain(ref.Name); bad != nil {
		return o.errf("configmap '%s': '%s' is no name of a ConfigMap: %s", args[0], ref.Name, bad[0])
	}
	if len(args) == 2 {
		ref.Key = args[1]
	}
	if bad := validation.IsConfigMapKey(ref.Key); bad != nil {
		return o.errf("configmap '%s': '%s' is no key of a ConfigMap: %s", args[0], ref.Key, bad[0])
	}
	c.ConfigMap = &ref
	c.source(o)
	return nil
}

func (c *Config) addManifests(o statement) error {
	args := o.args()
	if len(args) == 0 {
		return o.argErr()
	}
	for _, a := range args {
		if err := checkPath(a); err != nil {
			return o.errf("manifests: '%s' is neither a file nor a glob pattern: %v", a, err)
		}
	}
	c.Manifests = append(c.Manifests, args...)
	c.sources[o.name()] = written{c.Manifests, o.words[0]}
	return nil
}

func (c *Config) setSnapshot(o statement) error {
	if first, ok := c.sources["snapshot"]; ok {
		return o.errf("snapshot may be given only once, and is on line %d already", first.at.Line)
	}
	arg, err := o.one()
	if err != nil {
		return err
	}
	if arg == "" {
		return o.errf("snapshot: the name of the file is empty")
	}
	c.Snapshot = arg
	c.source(o)
	return nil
}

// checkPath refuses what is neither a path nor a glob pattern.
func checkPath(p string) error {
	if p == "" {
		return fmt.Errorf("it is empty")
	}
	_, err := filepath.Match(p, "")
	return err
}

func (c *Config) setKubeconfig(o statement) error {
	args := o.args()
	if len(args) != 1 && len(args) != 2 {
		return o.argErr()
	}
	c.Kubeconfig, c.Context = args[0], ""
	if len(args) == 2 {
		c.Context = args[1]
	}
	c.source(o)
	return nil
}

func (c *Config) setEndpoints(o statement) error {
	args := o.args()
	if len(args) == 0 {
		return o.argErr()
	}
	c.Endpoints = args
	c.source(o)
	return nil
}

func (c *Config) setTLS(o statement) error {
	args := o.args()
	if len(args) != 3 {
		return o.argErr()
	}
	c.TLS = TLS{Cert: args[0], Key: args[1], CA: args[2]}
	c.source(o)
	return nil
}

func (c *Config) setQPS(o statement) error {
	arg, err := o.one()
	if err != nil {
		return err
	}
	qps, err := strconv.ParseFloat(arg, 32)
	if err != nil {
		return o.errf("invalid apiserver_qps %q: %v", arg, err)
	}
	if math.IsNaN(qps) || math.IsInf(qps, 1) {
		return o.errf("invalid apiserver_qps %q: not a finite number", arg)
	}
	if qps < 0 {
		return o.errf("apiserver_qps must be >= 0")
	}
	c.APIQPS = float32(qps)
	c.source(o)
	return nil
}

func (c *Config) setBurst(o statement) (err error) {
	c.APIBurst, err = c.count(o)
	return err
}

func (c *Config) setMaxInflight(o statement) (err error) {
	c.APIMaxInflight, err = c.count(o)
	return err
}

// count reads a data-source option that takes a number from 0 up.
func (c *Config) count(o statement) (int, error) {
	arg, err := o.one()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(arg)
	if err != nil {
		return 0, o.errf("invalid %s %q: %v", o.name(), arg, err)
	}
	if n < 0 {
		return 0, o.errf("%s must be >= 0", o.name())
	}
	c.source(o)
	return n, nil
}

func (c *Config) setStartupTimeout(o statement) error {
	arg, err := o.one()
	if err != nil {
		return err
	}
	t, err := time.ParseDuration(arg)
	if err == nil && t < 0 {
		err = fmt.Errorf("time: negative duration %q", arg)
	}
	if err != nil {
		return o.errf("failed to parse startup_timeout: %v, %s", arg, err)
	}
	c.StartupTimeout = t
	return nil
}

func (c *Config) addNamespaces(o statement) error {
	args := o.args()
	if len(args) == 0 {
		return o.argErr()
	}
	if c.NamespaceLabels != "" {
		return o.errf("namespaces and namespace_labels cannot both be set")
	}
	have := make(map[string]bool, len(c.Namespaces)+len(args))
	for _, ns := range c.Namespaces {
		have[ns] = true
	}
	for _, ns := range args {
		if !have[ns] {
			have[ns] = true
			c.Namespaces = append(c.Namespaces, ns)
		}
	}
	return nil
}

func (c *Config) setNamespaceLabels(o statement) error {
	s, err := selector(o, "namespace_label")
	if err != nil {
		return err
	}
	if c.Namespaces != nil {
		return o.errf("namespaces and namespace_labels cannot both be set")
	}
	c.NamespaceLabels = s
	return nil
}

func (c *Config) setLabels(o statement) (err error) {
	c.Labels, err = selector(o, "label")
	return err
}

// selector reads a label selector into its canonical form, by the same steps as stock. what is stock's word for it.
func selector(o statement, what string) (string, error) {
	args := o.args()
	if len(args) == 0 {
		return "", o.argErr()
	}
	expr := strings.Join(args, " ")
	ls, err := meta.ParseToLabelSelector(expr)
	if err != nil {
		return "", o.errf("unable to parse %s selector value: '%v': %v", what, expr, err)
	}
	s, err := meta.LabelSelectorAsSelector(ls)
	if err != nil {
		return "", o.errf("unable to create Selector for LabelSelector '%s': %q", ls, err)
	}
	// A selector keeps its requirements by key only, so that several of one key may stand in any order.
	reqs, _ := s.Requirements()
	terms := make([]string, len(reqs))
	for i, r := range reqs {
		terms[i] = r.String()
	}
	slices.Sort(terms)
	return strings.Join(terms, ","), nil
}

func (c *Config) setPods(o statement) error {
	arg, err := o.one()
	if err != nil {
		return err
	}
	for _, m := range []PodMode{Disabled, Insecure, Verified} {
		if arg == m.String() {
			c.Pods = m
			return nil
		}
	}
	return o.errf("wrong value for pods: %s,  must be one of: disabled, verified, insecure", arg)
}

func (c *Config) setEndpointPodNames(o statement) error {
	c.EndpointPodNames = true
	return o.none()
}

func (c *Config) setNoEndpoints(o statement) error {
	c.NoEndpoints = true
	return o.none()
}

// setIgnore takes, as stock does and tests, no notice of what follows empty_service.
func (c *Config) setIgnore(o statement) error {
	args := o.args()
	if len(args) == 0 {
		return o.argErr()
	}
	if args[0] != "empty_service" {
		return o.errf("unable to parse ignore value: '%v'", args[0])
	}
	c.IgnoreEmptyService = true
	return nil
}

func (c *Config) setZonal(o statement) error {
	c.Zonal = true
	c.zonalAt = o.words[0]
	return o.none()
}

// setMulticluster takes, as stock does, no zone at all for no multicluster zone.
func (c *Config) setMulticluster(o statement) (err error) {
	c.Multicluster, err = zonesOf(o.words[1:])
	c.multiclusterAt = o.words[0]
	return err
}

func (c *Config) setTTL(o statement) error {
	arg, err := o.one()
	if err != nil {
		return err
	}
	t, err := strconv.Atoi(arg)
	if err != nil {
		return o.errf("%v", err)
	}
	if t < 0 || t > 3600 {
		return o.errf("ttl must be in range [0, 3600]: %d", t)
	}
	c.TTL = uint32(t)
	return nil
}

func (c *Config) setFallthrough(o statement) (err error) {
	if len(o.words) == 1 {
		c.Fallthrough = []string{"."}
		return nil
	}
	c.Fallthrough, err = zonesOf(o.words[1:])
	return err
}
