// Package stanza reads the kubehosts stanza: text in, Config out.
//
// One grammar serves the Corefile (Parse, on the tokens that CoreDNS hands to a plugin's setup) and the ConfigMap
// (ParseText, on the text of a ConfigMap's key). Every option of the stock kubernetes plugin keeps its name, arguments,
// default and error; where stock returned an error without file and line, it has them here.
//
// The grammar is stricter than stock in these points, each of which stock passes over in silence: a zone that is no
// domain name or has a space in it (in the zone list or after fallthrough), more than one argument for ttl or startup_timeout, ignore
// without an argument, a negative startup_timeout, an apiserver_qps that is not a finite number, and a block opened
// after an option that takes none.
//
// Nothing here reads a file or opens a connection: paths are kept as written.
package stanza

import (
	"time"

	"github.com/coredns/caddy/caddyfile"
)

// Name is the directive that opens the stanza.
const Name = "kubehosts"

// Defaults of the options, as in the stock kubernetes and hosts plugins.
const (
	DefaultTTL            = 5                // seconds, records of Services, endpoints and pods
	DefaultStartupTimeout = 5 * time.Second  // how long a start waits for the first list of the API server
	DefaultAudit          = 6 * time.Hour    // how often everything is listed again and compared
	DefaultHostsTTL       = 3600             // seconds, records out of hosts lines
	DefaultHostsReload    = 5 * time.Second  // how often a hosts file is looked at
	DefaultHostsFile      = "/etc/hosts"     // FILE of a hosts option with neither FILE nor inline line
	DefaultConfigMapKey   = "Corefile"       // KEY of a configmap option without one
	DefaultStatus         = "127.0.0.1:8182" // ADDRESS of a status option without one
)

// What one stanza may hold, in the Corefile and in a ConfigMap alike: whoever writes it, this bounds what it costs to read
// and what a query may meet in it. A longer one is refused with the line and the limit.
const (
	maxOptions    = 2000     // options, each line counted
	maxZones      = 1000     // in ZONES, multicluster, external and fallthrough together; 10.0.0.0/9 stands for 128
	maxNamespaces = 1000     // that differ
	maxSelector   = 16 << 10 // bytes of an EXPRESSION; a list request has it in its URL
	maxPaths      = 100      // of manifests
	maxHosts      = 100      // hosts options: a query looks into each
	maxFiles      = 100      // FILEs of all hosts options
	maxLines      = 100_000  // in the blocks of all hosts options
)

const (
	minAudit     = time.Second
	maxErrorText = 1 << 10 // bytes of an error's message; a token may be as long as the ConfigMap

	errorPrefix = "Error during parsing: " // what caddyfile puts between the position and the message
)

// Config is what one stanza says. It is made by Parse, ParseText and Over, never changed afterwards, and safe for
// concurrent reading; values that came out of Over share slices with what they were made of.
type Config struct {
	// Zones are where Services live: lower case, fully qualified, each once, reverse networks (10.0.0.0/8) as their
	// in-addr.arpa and ip6.arpa zones. Without a written list they are the server block's zones less the root and those of
	// External, unless the stanza is HostsOnly or says noservices. Empty: no Services are served. A bare stanza of a ConfigMap that names
	// no zones has none either, until Over gives it those of the Corefile.
	Zones        []string
	ZonesWritten bool // the stanza itself named Zones
	// HostsOnly: the stanza would serve Services in the zones of its server block, but has hosts options, names no zones,
	// and has no option besides hosts, configmap, status and wire.
	HostsOnly bool

	ConfigMap *ConfigMapRef // the ConfigMap that is followed; nil: none
	Manifests []string      // files and glob patterns that replace the API server, as written; several lines add up
	Snapshot  string        // file that the last objects are kept in, as written; "": none

	Kubeconfig string // path; "": not written
	Context    string // of Kubeconfig; "": its current context
	// Endpoints are the URLs of the endpoint option. As in stock, more than one is deprecated and only the first is
	// used; the caller should warn.
	Endpoints      []string
	TLS            TLS
	APIQPS         float32       // requests a second to the API server; 0: client-go's default
	APIBurst       int           // 0: client-go's default
	APIMaxInflight int           // requests in flight to the API server; 0: no limit
	StartupTimeout time.Duration // never negative
	Audit          time.Duration // how often what the API server has is compared with what is kept; 0: never
	WireOff        bool          // questions over UDP all go CoreDNS's way
	Status         string        // the address that the status page listens on; "": there is none

	// Namespaces are those that are served, each once, in the order written; nil: all. They and NamespaceLabels
	// exclude each other.
	Namespaces []string
	// NamespaceLabels and Labels are label selectors of namespaces and of Services, in the canonical form that the API
	// server takes; "": all.
	NamespaceLabels, Labels string

	Pods               PodMode
	EndpointPodNames   bool
	NoEndpoints        bool
	IgnoreEmptyService bool
	Zonal              bool     // names that ask for the endpoints of one topology zone
	Multicluster       []string // those of Zones in which ServiceImports live
	TTL                uint32   // seconds, 0 to 3600

	Hosts    []Hosts    // the hosts options, in the order written
	External []External // the external options, in the order written

	// Fallthrough are the zones that fall through to the next plugin, as fall.F has them: nil for none, "." for all.
	Fallthrough []string

	at      caddyfile.Token    // where the stanza begins
	bare    bool               // a stanza of a ConfigMap that holds no server blocks
	sources map[string]written // the data-source options that are there

	noServices bool // the option

	zonalAt, multiclusterAt caddyfile.Token
}

// Endpoint returns the URL of the API server that is used, or "".
func (c *Config) Endpoint() string {
	if len(c.Endpoints) == 0 {
		return ""
	}
	return c.Endpoints[0]
}

// Errorf returns an error about the stanza as a whole, at the line where it begins.
func (c *Config) Errorf(format string, args ...any) error { return refusef(c.at, format, args...) }

// ConfigMapRef names a key of a ConfigMap.
type ConfigMapRef struct {
	Namespace string // "": not written
	Name      string
	Key       string // DefaultConfigMapKey if not written
}

// TLS are the paths of the tls option; all "" without one.
type TLS struct {
	Cert, Key, CA string
}

// PodMode says how names of pods (10-0-0-1.ns.pod.zone) are answered.
type PodMode uint8

// The modes of the pods option.
const (
	Disabled PodMode = iota // no such name exists
	Insecure                // the address is taken out of the name, whether there is such a pod or not
	Verified                // only if there is a pod with this address in this namespace
)

// String returns the mode as the pods option takes it.
func (m PodMode) String() string {
	switch m {
	case Insecure:
		return "insecure"
	case Verified:
		return "verified"
	}
	return "disabled"
}

// Hosts is one hosts option.
type Hosts struct {
	Files     []string     // paths and glob patterns, as written
	Inline    []InlineLine // lines of hosts-file form
	TTL       uint32       // seconds, 1 to 65535
	NoReverse bool         // no PTR records out of these entries
	// FallthroughUnsupported passes questions for other types than A, AAAA and PTR on, though the name is held.
	FallthroughUnsupported bool
	Reload                 time.Duration // how often Files are looked at; 0: never again
	Line                   int           // of the option

	at caddyfile.Token
}

// InlineLine is one hosts line of the stanza: an IP address and at least one name, single spaces between them, no
// comment.
type InlineLine struct {
	Text string
	Line int // of the Corefile or of the ConfigMap's text
}
