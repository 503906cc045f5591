package source

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/go-logr/logr"
	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	utilruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	mcsclient "sigs.k8s.io/mcs-api/pkg/client/clientset/versioned/typed/apis/v1alpha1"
)

// clients are the ways to ask an API server.
type clients struct {
	http     *http.Client
	all      *kubernetes.Clientset
	services rest.Interface                // for Services
	slices   map[sliceParts]rest.Interface // for EndpointSlices
	imports  rest.Interface                // for ServiceImports
}

// newClients makes the clients that spec asks for. Nothing is sent yet.
func newClients(spec Spec) (*clients, error) {
	cfg, err := clientConfig(spec)
	if err != nil {
		return nil, err
	}
	cfg.ContentType = utilruntime.ContentTypeProtobuf
	cfg.AcceptContentTypes = utilruntime.ContentTypeProtobuf + "," + utilruntime.ContentTypeJSON
	cfg.UserAgent = fmt.Sprintf("kubehosts (%s/%s; %s)", runtime.GOOS, runtime.GOARCH, runtime.Version())
	if spec.QPS > 0 {
		cfg.QPS = spec.QPS
		cfg.Burst = max(rest.DefaultBurst, int(spec.QPS)) // a rate without a burst is refused
	}
	if spec.Burst > 0 {
		cfg.Burst = spec.Burst
	}
	if cfg.QPS > 0 { // one limit for both clients, each would make its own
		cfg.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(cfg.QPS, cfg.Burst)
	}
	if cfg.BearerTokenFile != "" { // client-go by itself reads it again after 50 s, also where its token is refused
		cfg.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(cfg.BearerTokenFile)))
		cfg.BearerToken, cfg.BearerTokenFile = "", ""
	}
	h := &health{host: cfg.Host}
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		rt = &measured{next: rt, health: h}
		if spec.MaxInflight > 0 {
			rt = &limited{next: rt, slots: make(chan struct{}, spec.MaxInflight)}
		}
		return rt
	})

	c := &clients{slices: make(map[sliceParts]rest.Interface)}
	if c.http, err = rest.HTTPClientFor(cfg); err == nil {
		c.all, err = kubernetes.NewForConfigAndClient(cfg, c.http)
	}
	if err == nil {
		c.services, err = keptClient(cfg, c.http, "/api", &api.SchemeGroupVersion, sliceParts{})
	}
	for i := range 4 {
		kept := sliceParts{podNames: i&1 != 0, zones: i&2 != 0}
		if err == nil {
			c.slices[kept], err = keptClient(cfg, c.http, "/apis", &discovery.SchemeGroupVersion, kept)
		}
	}
	if err == nil { // the objects of a CustomResourceDefinition can't be had as protobuf
		cfg.ContentType, cfg.AcceptContentTypes = utilruntime.ContentTypeJSON, utilruntime.ContentTypeJSON
		var imports *mcsclient.MulticlusterV1alpha1Client
		if imports, err = mcsclient.NewForConfigAndClient(cfg, c.http); err == nil {
			c.imports = imports.RESTClient()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no client for the Kubernetes API at %s: %w", cfg.Host, err)
	}
	return c, nil
}

// keptClient makes a client that decodes no more than what is kept.
func keptClient(cfg *rest.Config, hc *http.Client, path string, gv *schema.GroupVersion, kept sliceParts) (rest.Interface, error) {
	of := *cfg
	of.APIPath, of.GroupVersion = path, gv
	of.NegotiatedSerializer = keptCodecs{scheme.Codecs.WithoutConversion(), kept}
	return rest.RESTClientForConfigAndClient(&of, hc)
}

// clientConfig finds the API server and the credentials as stock's kubernetes plugin does.
func clientConfig(spec Spec) (*rest.Config, error) {
	if spec.Kubeconfig != "" {
		cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: spec.Kubeconfig},
			&clientcmd.ConfigOverrides{CurrentContext: spec.Context},
		).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", spec.Kubeconfig, err)
		}
		return cfg, nil
	}
	if spec.Endpoint != "" {
		cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{},
			&clientcmd.ConfigOverrides{
				ClusterInfo: clientcmdapi.Cluster{Server: spec.Endpoint, CertificateAuthority: spec.CAFile},
				AuthInfo:    clientcmdapi.AuthInfo{ClientCertificate: spec.CertFile, ClientKey: spec.KeyFile},
			},
		).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", spec.Endpoint, err)
		}
		return cfg, nil
	}
	cfg, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("no Kubernetes API server is known: not in a pod (KUBERNETES_SERVICE_HOST and " +
			"KUBERNETES_SERVICE_PORT are not set) and no kubeconfig, endpoint or manifests given")
	}
	if err != nil {
		return nil, fmt.Errorf("in-cluster configuration: %w", err)
	}
	return cfg, nil
}

// health logs when the API server can't be reached, and when it can again.
type health struct {
	host string

	mu     sync.Mutex
	seen   bool      // it replied at least once
	down   time.Time // since when it does not; zero while it does
	logged time.Time // when that was last logged
	told   bool      // this outage was logged
}

// quiet is how long after an outage was logged the next one is not, so that a server which comes and goes is no flood.
const quiet = time.Minute

// saw takes note of how a request ended.
func (h *health) saw(resp *http.Response, err error) {
	if err == nil && resp.StatusCode >= http.StatusInternalServerError {
		err = errors.New("it replies " + resp.Status)
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()

	if err == nil {
		if h.told {
			log.Infof("Kubernetes API %s can be reached again, after %s", h.host, now.Sub(h.down).Round(time.Second/10))
		}
		h.seen, h.down, h.told = true, time.Time{}, false
		return
	}
	if !h.down.IsZero() {
		return
	}
	h.down = now
	if !h.logged.IsZero() && now.Sub(h.logged) < quiet {
		return
	}
	h.logged, h.told = now, true
	works := "answers go on from what was read before, and may grow stale"
	if !h.seen {
		works = "nothing was read from it yet, so Services are answered from a snapshot, if there is one, or not at all"
	}
	log.Warningf("Kubernetes API %s can't be reached: %v; %s; trying on", h.host, err, works)
}

var routeKlog sync.Once

// RouteKlog sends what client-go logs to the log of CoreDNS: its errors as errors, all else at debug level. Only the
// first call does something. It must come before the first Open, because klog may not be redirected while it is used.
func RouteKlog() { routeKlog.Do(func() { klog.SetLogger(clientLog) }) }

// clientLog writes to the log of CoreDNS.
var clientLog = logr.New(&sink{})

// sink implements logr.LogSink.
type sink struct{ values []any }

func (*sink) Init(logr.RuntimeInfo)          {}
func (*sink) Enabled(int) bool               { return true }
func (s *sink) WithName(string) logr.LogSink { return s }

func (s *sink) Info(_ int, msg string, kv ...any) { log.Debug(s.line(msg, kv)) }

func (s *sink) Error(err error, msg string, kv ...any) {
	if err != nil {
		msg += ": " + err.Error()
	}
	log.Error(s.line(msg, kv))
}

func (s *sink) WithValues(kv ...any) logr.LogSink {
	return &sink{values: append(s.values[:len(s.values):len(s.values)], kv...)}
}

func (s *sink) line(msg string, kv []any) string {
	msg = "client-go: " + msg
	for i, v := range append(s.values[:len(s.values):len(s.values)], kv...) {
		if i%2 == 0 {
			msg += fmt.Sprintf(" %v=", v)
		} else {
			msg += fmt.Sprintf("%q", fmt.Sprint(v))
		}
	}
	return msg
}
