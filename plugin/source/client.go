package source

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	utilruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/flowcontrol"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
	mcscheme "sigs.k8s.io/mcs-api/pkg/client/clientset/versioned/scheme"
)

// clients are the clients of an API server.
type clients struct {
	http    *http.Client
	health  *health
	all     *kubernetes.Clientset         // for Events
	core    rest.Interface                // for Services, Namespaces, Pods and ConfigMaps
	slices  map[sliceParts]rest.Interface // for EndpointSlices
	imports rest.Interface                // for ServiceImports

	// For external names.
	whole     rest.Interface            // for Services, Namespaces and Nodes, with all their fields
	ingresses rest.Interface            // for Ingresses
	custom    map[string]rest.Interface // for the objects of CustomResourceDefinitions, by group and version
}

// newClients makes the clients that spec needs. It sends nothing yet.
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
	if cfg.QPS > 0 { // one limit for both clients, which would otherwise each make their own
		cfg.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(cfg.QPS, cfg.Burst)
	}
	if cfg.BearerTokenFile != "" { // client-go itself reads it again only after 50 s, even if its token is refused
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

	c := &clients{health: h, slices: make(map[sliceParts]rest.Interface), custom: make(map[string]rest.Interface)}
	if c.http, err = rest.HTTPClientFor(cfg); err == nil {
		c.all, err = kubernetes.NewForConfigAndClient(cfg, c.http)
	}
	codecs := scheme.Codecs.WithoutConversion()
	if err == nil {
		c.core, err = keptClient(cfg, c.http, "/api", &api.SchemeGroupVersion, keptCodecs{NegotiatedSerializer: codecs})
	}
	if err == nil {
		c.whole, err = keptClient(cfg, c.http, "/api", &api.SchemeGroupVersion, keptCodecs{NegotiatedSerializer: codecs, whole: true})
	}
	if err == nil {
		c.ingresses, err = keptClient(cfg, c.http, "/apis", &networking.SchemeGroupVersion, keptCodecs{NegotiatedSerializer: codecs})
	}
	for i := range 4 {
		kept := sliceParts{podNames: i&1 != 0, zones: i&2 != 0}
		if err == nil {
			c.slices[kept], err = keptClient(cfg, c.http, "/apis", &discovery.SchemeGroupVersion, keptCodecs{NegotiatedSerializer: codecs, kept: kept})
		}
	}
	if err == nil { // the API server has no protobuf form of custom resources
		cfg.ContentType, cfg.AcceptContentTypes = utilruntime.ContentTypeJSON, utilruntime.ContentTypeJSON
		c.imports, err = keptClient(cfg, c.http, "/apis", &mcs.SchemeGroupVersion, keptCodecs{NegotiatedSerializer: mcscheme.Codecs.WithoutConversion()})
	}
	for _, gv := range []schema.GroupVersion{{Group: gatewayGroup, Version: "v1"}, {Group: externalDNSGroup, Version: "v1alpha1"}} {
		if err == nil {
			c.custom[gv.String()], err = keptClient(cfg, c.http, "/apis", &gv, customCodecs{codecs})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no client for the Kubernetes API at %s: %w", cfg.Host, err)
	}
	return c, nil
}

// keptClient makes a client that decodes with codecs.
func keptClient(cfg *rest.Config, hc *http.Client, path string, gv *schema.GroupVersion, codecs utilruntime.NegotiatedSerializer) (rest.Interface, error) {
	of := *cfg
	of.APIPath, of.GroupVersion, of.NegotiatedSerializer = path, gv, codecs
	return rest.RESTClientForConfigAndClient(&of, hc)
}

// clientConfig determines the API server and the credentials as the stock kubernetes plugin does.
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
			"KUBERNETES_SERVICE_PORT are not set) and no kubeconfig, endpoint or manifests given; to serve only hosts entries, write noservices")
	}
	if err != nil {
		return nil, fmt.Errorf("in-cluster configuration: %w", err)
	}
	return cfg, nil
}
