package stanza

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/kubernetes"
)

// stock parses a stanza with the stock kubernetes plugin. Its file is called Testfile.
func stock(text string, keys []string) (*kubernetes.Kubernetes, error) {
	c := caddy.NewTestController("dns", text)
	c.ServerBlockKeys = slices.Clone(keys)
	c.Next()
	return kubernetes.ParseStanza(c)
}

// TestAsStock runs the stock parser beside this one. Both accept the same stanzas, with the same meaning, and
// return errors with the same text.
func TestAsStock(t *testing.T) {
	inBlock := []string{
		"endpoint_pod_names", "endpoint_pod_names x",
		"pods", "pods disabled", "pods insecure", "pods verified", "pods x", "pods insecure verified", "pods Verified",
		"namespaces", "namespaces a", "namespaces a b", "namespaces a\nnamespaces b a",
		"endpoint", "endpoint http://a", "endpoint http://a http://b", "endpoint http://a\nendpoint http://b",
		"tls", "tls a", "tls a b", "tls a b c", "tls a b c d",
		"labels", "labels a=b", "labels a in (b,c)", "labels a in (b, c),d notin (e)", "labels !a", "labels a",
		"labels environment in (production, qa", "labels a>1", "labels a!=b", "labels a=b=c", `labels ""`, "labels -x=1", "labels a==b",
		"namespace_labels", "namespace_labels a=b", "namespace_labels a in (b", "namespace_labels a<2",
		"namespaces a\nnamespace_labels b", "namespace_labels b\nnamespaces a",
		"fallthrough", "fallthrough a", "fallthrough ip6.arpa inaddr.arpa Foo.com", "fallthrough 10.0.0.0/8", "fallthrough a\nfallthrough b",
		"ttl", "ttl 0", "ttl 56", "ttl 3600", "ttl 3601", "ttl -1", "ttl x", "ttl 1.5", "ttl 99999999999999999999", "ttl 5s",
		"noendpoints", "noendpoints x",
		"ignore empty_service", "ignore x", "ignore empty_service x", "ignore ixnay on the endpointsay",
		"kubeconfig", "kubeconfig a", "kubeconfig a b", "kubeconfig a b c",
		"startup_timeout", "startup_timeout 1s", "startup_timeout 0s", "startup_timeout 5", "startup_timeout x", "startup_timeout 1m30s",
		"apiserver_qps", "apiserver_qps 1", "apiserver_qps 0", "apiserver_qps 0.5", "apiserver_qps -1", "apiserver_qps x", "apiserver_qps 1 2", "apiserver_qps 1e99",
		"apiserver_burst", "apiserver_burst 1", "apiserver_burst -1", "apiserver_burst x", "apiserver_burst 1 2", "apiserver_burst 0",
		"apiserver_max_inflight", "apiserver_max_inflight 1", "apiserver_max_inflight -1", "apiserver_max_inflight x", "apiserver_max_inflight 1 2",
		"nonsense", "nonsense a b", "TTL 5", "resyncperiod 5m", "upstream 8.8.8.8", "transfer to *",
		"pods insecure\nttl 30\nfallthrough in-addr.arpa ip6.arpa",
		"",
	}
	var stanzas []string
	for _, o := range inBlock {
		stanzas = append(stanzas, "kubernetes coredns.local {\n"+o+"\n}")
	}
	stanzas = append(stanzas,
		"kubernetes", "kubernetes {\n}", "kubernetes coredns.local", "kubernetes coredns.local Test.Local",
		"kubernetes cluster.local in-addr.arpa ip6.arpa {\npods insecure\n}",
		"kubernetes 10.0.0.0/8", "kubernetes 10.in-addr.arpa 1.ip6.arpa", "kubernetes 10.0.0.0/8 a", "kubernetes in-addr.arpa",
		"kubernetes .", "kubernetes 2001:db8::/33 a", "kubernetes dns://x:53",
	)
	keys := []string{"dns://example.org.:53", "dns://10.in-addr.arpa.:53"}

	for _, text := range stanzas {
		want, stockErr := stock(text, keys)
		ours := strings.Replace(text, "kubernetes", Name, 1)
		c := caddy.NewTestController("dns", ours)
		got, err := Parse(&c.Dispenser, keys)
		switch {
		case (err == nil) != (stockErr == nil):
			t.Errorf("%q: error %v, stock's %v", ours, err, stockErr)
		case err != nil:
			compareErrors(t, ours, err.Error(), stockErr.Error())
		default:
			compareConfigs(t, ours, got, want)
		}
	}
}

// compareErrors requires stock's error word for word. If stock's has no file and line, they must come first. An error
// for two options is on the line of the second here, and on that of the closing brace in stock.
func compareErrors(t *testing.T, text, got, stock string) {
	t.Helper()
	if strings.Contains(stock, "cannot both be set") {
		_, got, _ = strings.Cut(got, " - ")
		_, stock, _ = strings.Cut(stock, " - ")
	}
	if got == stock {
		return
	}
	position, words, ok := strings.Cut(got, " - Error during parsing: ")
	if !ok || !strings.HasPrefix(position, "Testfile:") || words != stock {
		t.Errorf("%q: error %q, stock's %q", text, got, stock)
	}
}

func compareConfigs(t *testing.T, text string, got *Config, want *kubernetes.Kubernetes) {
	t.Helper()
	k := reflect.ValueOf(want).Elem()
	opts := k.FieldByName("opts")
	var namespaces []string
	for ns := range want.Namespaces {
		namespaces = append(namespaces, ns)
	}
	slices.Sort(namespaces)

	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"zones", got.Zones, want.Zones},
		{"ttl", uint64(got.TTL), k.FieldByName("ttl").Uint()},
		{"pods", got.Pods.String(), k.FieldByName("podMode").String()},
		{"startup_timeout", got.StartupTimeout, time.Duration(k.FieldByName("startupTimeout").Int())},
		{"apiserver_qps", float64(got.APIQPS), k.FieldByName("apiQPS").Float()},
		{"apiserver_burst", int64(got.APIBurst), k.FieldByName("apiBurst").Int()},
		{"apiserver_max_inflight", int64(got.APIMaxInflight), k.FieldByName("apiMaxInflight").Int()},
		{"endpoint_pod_names", got.EndpointPodNames, k.FieldByName("endpointNameMode").Bool()},
		{"noendpoints", got.NoEndpoints, !opts.FieldByName("initEndpointsCache").Bool()},
		{"ignore", got.IgnoreEmptyService, opts.FieldByName("ignoreEmptyService").Bool()},
		{"namespaces", slices.Sorted(slices.Values(got.Namespaces)), namespaces},
		{"endpoint", got.Endpoints, want.APIServerList},
		{"tls", got.TLS, TLS{want.APIClientCert, want.APIClientKey, want.APICertAuth}},
		{"kubeconfig", got.Kubeconfig != "", want.ClientConfig != nil},
		{"fallthrough", got.Fallthrough, want.Fall.Zones},
	} {
		if !reflect.DeepEqual(f.got, f.want) {
			t.Errorf("%q: %s is %v, stock's %v", text, f.name, f.got, f.want)
		}
	}
}
