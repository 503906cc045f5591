package stanza

import (
	"fmt"
	"math"
	"net"
	"net/netip"
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
var options = map[string]func(*draft, statement) error{
	"configmap":              (*draft).setConfigMap,
	"manifests":              (*draft).addManifests,
	"snapshot":               (*draft).setSnapshot,
	"kubeconfig":             (*draft).setKubeconfig,
	"endpoint":               (*draft).setEndpoints,
	"tls":                    (*draft).setTLS,
	"apiserver_qps":          (*draft).setQPS,
	"apiserver_burst":        (*draft).setBurst,
	"apiserver_max_inflight": (*draft).setMaxInflight,
	"startup_timeout":        (*draft).setStartupTimeout,
	"audit":                  (*draft).setAudit,
	"noservices":             (*draft).setNoServices,
	"wire":                   (*draft).setWire,
	"status":                 (*draft).setStatus,
	"namespaces":             (*draft).addNamespaces,
	"namespace_labels":       (*draft).setNamespaceLabels,
	"labels":                 (*draft).setLabels,
	"pods":                   (*draft).setPods,
	"endpoint_pod_names":     (*draft).setEndpointPodNames,
	"noendpoints":            (*draft).setNoEndpoints,
	"ignore":                 (*draft).setIgnore,
	"zonal":                  (*draft).setZonal,
	"multicluster":           (*draft).setMulticluster,
	"ttl":                    (*draft).setTTL,
	"hosts":                  (*draft).addHosts,
	"external":               (*draft).addExternal,
	"fallthrough":            (*draft).setFallthrough,
}

// apiOptions concern the connection to the API server, sourceOptions the origin of the data in general. A ConfigMap
// can't change the latter, nor the sockets that questions are read from: fixedOptions.
var (
	apiOptions    = []string{"kubeconfig", "endpoint", "tls", "apiserver_qps", "apiserver_burst", "apiserver_max_inflight"}
	sourceOptions = append([]string{"configmap", "manifests", "snapshot"}, apiOptions...)
	fixedOptions  = append([]string{"wire"}, sourceOptions...)
)

// written is a data-source option as written in the text.
type written struct {
	args []string
	at   caddyfile.Token
}

// source stores a data-source option as written. The last of several counts.
func (d *draft) source(o statement) { d.sources[o.name()] = written{o.args(), o.words[0]} }

func (d *draft) setConfigMap(o statement) error {
	if first, ok := d.sources["configmap"]; ok {
		return o.errf("configmap may be given only once, it is already on line %d", first.at.Line)
	}
	args := o.args()
	if len(args) != 1 && len(args) != 2 {
		return o.argErr()
	}
	ref := ConfigMapRef{Name: args[0], Key: DefaultConfigMapKey}
	if ns, name, ok := strings.Cut(args[0], "/"); ok {
		if bad := validation.IsDNS1123Label(ns); bad != nil {
			return o.errf("configmap '%s': '%s' is not a namespace name: %s", args[0], ns, bad[0])
		}
		ref.Namespace, ref.Name = ns, name
	}
	if bad := validation.IsDNS1123Subdomain(ref.Name); bad != nil {
		return o.errf("configmap '%s': '%s' is not a ConfigMap name: %s", args[0], ref.Name, bad[0])
	}
	if len(args) == 2 {
		ref.Key = args[1]
	}
	if bad := validation.IsConfigMapKey(ref.Key); bad != nil {
		return o.errf("configmap '%s': '%s' is not a ConfigMap key: %s", args[0], ref.Key, bad[0])
	}
	d.ConfigMap = &ref
	d.source(o)
	return nil
}

func (d *draft) addManifests(o statement) error {
	args := o.args()
	if len(args) == 0 {
		return o.argErr()
	}
	if err := d.within(&d.paths, len(args), maxPaths, "PATHs of manifests", o.last()); err != nil {
		return err
	}
	for _, a := range args {
		if err := checkPath(a); err != nil {
			return o.errf("manifests: '%s' is neither a file nor a glob pattern: %v", a, err)
		}
	}
	d.Manifests = append(d.Manifests, args...)
	d.sources[o.name()] = written{d.Manifests, o.words[0]}
	return nil
}

func (d *draft) setSnapshot(o statement) error {
	if first, ok := d.sources["snapshot"]; ok {
		return o.errf("snapshot may be given only once, it is already on line %d", first.at.Line)
	}
	arg, err := o.one()
	if err != nil {
		return err
	}
	if arg == "" {
		return o.errf("snapshot: the name of the file is empty")
	}
	d.Snapshot = arg
	d.source(o)
	return nil
}

// checkPath refuses anything but a path or a glob pattern.
func checkPath(p string) error {
	if p == "" {
		return fmt.Errorf("it is empty")
	}
	_, err := filepath.Match(p, "")
	return err
}

func (d *draft) setKubeconfig(o statement) error {
	args := o.args()
	if len(args) != 1 && len(args) != 2 {
		return o.argErr()
	}
	d.Kubeconfig, d.Context = args[0], ""
	if len(args) == 2 {
		d.Context = args[1]
	}
	d.source(o)
	return nil
}

func (d *draft) setEndpoints(o statement) error {
	args := o.args()
	if len(args) == 0 {
		return o.argErr()
	}
	d.Endpoints = args
	d.source(o)
	return nil
}

func (d *draft) setTLS(o statement) error {
	args := o.args()
	if len(args) != 3 {
		return o.argErr()
	}
	d.TLS = TLS{Cert: args[0], Key: args[1], CA: args[2]}
	d.source(o)
	return nil
}

func (d *draft) setQPS(o statement) error {
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
	d.APIQPS = float32(qps)
	d.source(o)
	return nil
}

func (d *draft) setBurst(o statement) (err error) {
	d.APIBurst, err = d.count(o)
	return err
}

func (d *draft) setMaxInflight(o statement) (err error) {
	d.APIMaxInflight, err = d.count(o)
	return err
}

// count reads a data-source option that takes a number from 0 up.
func (d *draft) count(o statement) (int, error) {
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
	d.source(o)
	return n, nil
}

func (d *draft) setStartupTimeout(o statement) error {
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
	d.StartupTimeout = t
	return nil
}

func (d *draft) setAudit(o statement) error {
	arg, err := o.one()
	if err != nil {
		return err
	}
	t, err := time.ParseDuration(arg)
	switch {
	case err != nil:
		return o.errf("failed to parse audit: %v, %s", arg, err)
	case t != 0 && t < minAudit:
		return o.errf("audit %v: less than %v, which would list everything over and over; 0 turns audits off", arg, minAudit)
	}
	d.Audit = t
	return nil
}

func (d *draft) setNoServices(o statement) error {
	d.noServices = true
	return o.none()
}

// setWire accepts on, which is the default, and off.
func (d *draft) setWire(o statement) error {
	arg, err := o.one()
	if err != nil {
		return err
	}
	if arg != "on" && arg != "off" {
		return o.errf("wire '%s' is neither on nor off", arg)
	}
	d.WireOff = arg == "off"
	d.source(o)
	return nil
}

// setStatus accepts an address for the status page to listen on.
func (d *draft) setStatus(o statement) error {
	d.Status = DefaultStatus
	if len(o.words) == 1 {
		return nil
	}
	arg, err := o.one()
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(arg)
	if err != nil {
		return o.errf("status '%s' is not an address to listen on, such as 127.0.0.1:8182 or :8182", arg)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return o.errf("status '%s': '%s' is not an IP address", arg, host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return o.errf("status '%s': '%s' is not a port", arg, port)
	}
	d.Status = arg
	return nil
}

func (d *draft) addNamespaces(o statement) error {
	if len(o.words) == 1 {
		return o.argErr()
	}
	if d.NamespaceLabels != "" {
		return o.errf("namespaces and namespace_labels cannot both be set")
	}
	for _, w := range o.words[1:] {
		if d.namespaces.add(w.Text) {
			d.Namespaces = append(d.Namespaces, w.Text)
		}
		if len(d.Namespaces) > maxNamespaces {
			return errAt(w, "more than %d namespaces; select them by namespace_labels", maxNamespaces)
		}
	}
	return nil
}

func (d *draft) setNamespaceLabels(o statement) error {
	s, err := selector(o, "namespace_label")
	if err != nil {
		return err
	}
	if d.Namespaces != nil {
		return o.errf("namespaces and namespace_labels cannot both be set")
	}
	d.NamespaceLabels = s
	return nil
}

func (d *draft) setLabels(o statement) (err error) {
	d.Labels, err = selector(o, "label")
	return err
}

// selector converts a label selector to its canonical form, by the same steps as stock. what is stock's term for it.
func selector(o statement, what string) (string, error) {
	args := o.args()
	if len(args) == 0 {
		return "", o.argErr()
	}
	expr := strings.Join(args, " ")
	if len(expr) > maxSelector {
		return "", o.errf("the %s selector is longer than %d bytes", what, maxSelector)
	}
	ls, err := meta.ParseToLabelSelector(expr)
	if err != nil {
		return "", o.errf("unable to parse %s selector value: '%v': %v", what, expr, err)
	}
	s, err := meta.LabelSelectorAsSelector(ls)
	if err != nil {
		return "", o.errf("unable to create Selector for LabelSelector '%s': %q", ls, err)
	}
	// A selector sorts its requirements by key only, so several with one key may be in any order.
	reqs, _ := s.Requirements()
	terms := make([]string, len(reqs))
	for i, r := range reqs {
		terms[i] = r.String()
	}
	slices.Sort(terms)
	return strings.Join(terms, ","), nil
}

func (d *draft) setPods(o statement) error {
	arg, err := o.one()
	if err != nil {
		return err
	}
	for _, m := range []PodMode{Disabled, Insecure, Verified} {
		if arg == m.String() {
			d.Pods = m
			return nil
		}
	}
	return o.errf("wrong value for pods: %s,  must be one of: disabled, verified, insecure", arg)
}

func (d *draft) setEndpointPodNames(o statement) error {
	d.EndpointPodNames = true
	return o.none()
}

func (d *draft) setNoEndpoints(o statement) error {
	d.NoEndpoints = true
	return o.none()
}

// setIgnore ignores anything after empty_service, as stock does and tests.
func (d *draft) setIgnore(o statement) error {
	args := o.args()
	if len(args) == 0 {
		return o.argErr()
	}
	if args[0] != "empty_service" {
		return o.errf("unable to parse ignore value: '%v'", args[0])
	}
	d.IgnoreEmptyService = true
	return nil
}

func (d *draft) setZonal(o statement) error {
	d.Zonal = true
	d.zonalAt = o.words[0]
	return o.none()
}

// setMulticluster accepts, as stock does, an empty list of zones.
func (d *draft) setMulticluster(o statement) (err error) {
	d.Multicluster, err = d.zonesOf(o.words[1:])
	d.multiclusterAt = o.words[0]
	return err
}

func (d *draft) setTTL(o statement) error {
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
	d.TTL = uint32(t)
	return nil
}

func (d *draft) setFallthrough(o statement) (err error) {
	if len(o.words) == 1 {
		d.Fallthrough = []string{"."}
		return nil
	}
	d.Fallthrough, err = d.zonesOf(o.words[1:])
	return err
}
