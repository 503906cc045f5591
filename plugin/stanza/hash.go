package stanza

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Hash returns twelve hexadecimal digits that are equal for equal stanzas, in every process of one version, for the
// label of a metric and the log. It ignores everything that does not change the answers: comments, spaces, line
// numbers, the order of namespaces, and explicit defaults.
func (c *Config) Hash() string {
	sum := sha256.New()
	put := func(format string, args ...any) { fmt.Fprintf(sum, format+"\n", args...) }

	put("zones %q", c.Zones)
	if c.ConfigMap != nil {
		put("configmap %q %q %q", c.ConfigMap.Namespace, c.ConfigMap.Name, c.ConfigMap.Key)
	}
	put("manifests %q", c.Manifests)
	if c.Snapshot != "" { // stanzas without it have the same hash as before the option existed
		put("snapshot %q", c.Snapshot)
	}
	if c.WireOff { // likewise
		put("wire off")
	}
	put("kubeconfig %q %q", c.Kubeconfig, c.Context)
	put("endpoint %q", c.Endpoint())
	put("tls %q %q %q", c.TLS.Cert, c.TLS.Key, c.TLS.CA)
	put("apiserver %v %d %d", c.APIQPS, c.APIBurst, c.APIMaxInflight)
	put("startup_timeout %v", c.StartupTimeout)
	if c.Audit != DefaultAudit {
		put("audit %v", c.Audit)
	}
	put("namespaces %q", slices.Sorted(slices.Values(c.Namespaces)))
	put("selectors %q %q", c.NamespaceLabels, c.Labels)
	put("pods %v", c.Pods)
	put("flags %t %t %t %t", c.EndpointPodNames, c.NoEndpoints, c.IgnoreEmptyService, c.Zonal)
	put("multicluster %q", c.Multicluster)
	put("ttl %d", c.TTL)
	put("fallthrough %q", c.Fallthrough)
	for _, h := range c.Hosts {
		put("hosts %q %d %t %t %v", h.Files, h.TTL, h.NoReverse, h.FallthroughUnsupported, h.Reload)
		for _, l := range h.Inline {
			put("%q", l.Text)
		}
	}
	for _, e := range c.External {
		put("external %q %v %q %q %d %t", e.Zones, e.From, slices.Sorted(slices.Values(e.Classes)), slices.Sorted(slices.Values(e.Namespaces)), e.TTL, e.Inside)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}
