// Package stanza reads the kubehosts stanza: text in, Config out.
//
// One grammar serves the Corefile (Parse, on the tokens that CoreDNS passes to a plugin's setup) and the ConfigMap
// (ParseText, on the text of a ConfigMap's key). Every option of the stock kubernetes plugin has the same name,
// arguments, default and error here; where stock returns an error without file and line, it has them here.
//
// The grammar is stricter than stock's in these points, which stock ignores silently: a zone that is not a domain name
// or has a space in it (in the zone list or after fallthrough), more than one argument for ttl or startup_timeout,
// ignore without an argument, a negative startup_timeout, an apiserver_qps that is not a finite number, and a block
// after an option that takes none.
//
// Nothing here reads a file or opens a connection: paths stay as written.
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
	DefaultAudit          = 6 * time.Hour    // the period in which everything is listed again and compared
	DefaultHostsTTL       = 3600             // seconds, records from hosts lines
	DefaultHostsReload    = 5 * time.Second  // the interval at which a hosts file is checked
	DefaultHostsFile      = "/etc/hosts"     // FILE of a hosts option with neither FILE nor inline line
	DefaultConfigMapKey   = "Corefile"       // KEY of a configmap option without one
	DefaultStatus         = "127.0.0.1:8182" // ADDRESS of a status option without one
)

// The limits of one stanza, in the Corefile and in a ConfigMap alike. They bound the cost of reading it and of
// answering from it, whoever writes it. A stanza beyond a limit is refused with the line and the limit.
const (
	maxOptions    = 2000     // options, each line counted
	maxZones      = 1000     // in ZONES, multicluster, external and fallthrough together; 10.0.0.0/9 stands for 128
	maxNamespaces = 1000     // distinct ones
	maxSelector   = 16 << 10 // bytes of an EXPRESSION; it is in the URL of a list request
	maxPaths      = 100      // of manifests
	maxHosts      = 100      // hosts options: a query checks each
	maxFiles      = 100      // FILEs of all hosts options
	maxLines      = 100_000  // in the blocks of all hosts options
)

const (
	minAudit     = time.Second
	maxErrorText = 1 << 10 // bytes of an error's message; a token may be as long as the ConfigMap

	errorPrefix = "Error during parsing: " // caddyfile puts it between the position and the message
)

// Config is the content of one stanza. Parse, ParseText and Over make it. It never changes afterwards, and is safe for
// concurrent reading; the results of Over share slices with their sources.
type Config struct {
	// Zones are where Services live: lower case, fully qualified, each once, reverse networks (10.0.0.0/8) as their
	// in-addr.arpa and ip6.arpa zones. Without a written list they are the server block's zones without the root and
	// those of External, unless the stanza is HostsOnly or has noservices. If empty, no Services are served. A bare
	// stanza of a ConfigMap that names no zones has none either, until Over sets those of the Corefile.
	Zones        []string
	ZonesWritten bool // the stanza itself named Zones
	// HostsOnly means that the stanza would serve Services in the zones of its server block, but has hosts options,
	// names no zones, and has no option besides hosts, configmap, status and wire.
	HostsOnly bool

	ConfigMap *ConfigMapRef // the ConfigMap to follow; nil: none
	Manifests []string      // files and glob patterns that replace the API server, as written; several lines add up
	Snapshot  string        // file for storing the last objects, as written; "": none

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
	Audit          time.Duration // the period in which the objects are compared with the API server's; 0: never
	WireOff        bool          // CoreDNS's server answers all questions over UDP
	Status         string        // the address of the status page; "": no page

	// Namespaces are those that are served, each once, in the order written; nil: all. They exclude
	// NamespaceLabels.
	Namespaces []string
	// NamespaceLabels and Labels are label selectors of namespaces and of Services, in the canonical form that the API
	// server accepts; "": all.
	NamespaceLabels, Labels string

	Pods               PodMode
	EndpointPodNames   bool
	NoEndpoints        bool
	IgnoreEmptyService bool
	Zonal              bool     // names may select the endpoints of one topology zone
	Multicluster       []string // the ones of Zones in which ServiceImports live
	TTL                uint32   // seconds, 0 to 3600

	Hosts    []Hosts    // the hosts options, in the order written
	External []External // the external options, in the order written

	// Fallthrough are the zones that fall through to the next plugin, in the form of fall.F: nil for none, "." for all.
	Fallthrough []string

	at      caddyfile.Token    // where the stanza begins
	bare    bool               // a stanza of a ConfigMap that holds no server blocks
	sources map[string]written // the data-source options of the stanza

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

// Errorf returns an error for the stanza as a whole, at the line where it begins.
func (c *Config) Errorf(format string, args ...any) error { return refusef(c.at, format, args...) }

// File returns the name of the file that the stanza begins in, as in errors: "ConfigMap NAMESPACE/NAME key KEY" for one
// from a ConfigMap.
func (c *Config) File() string { return c.at.File }

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

// PodMode selects how names of pods (10-0-0-1.ns.pod.zone) are answered.
type PodMode uint8

// The modes of the pods option.
const (
	Disabled PodMode = iota // no such name exists
	Insecure                // the address comes from the name, whether or not such a pod exists
	Verified                // only if a pod in this namespace has this address
)

// String returns the mode as the argument of the pods option.
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
	NoReverse bool         // no PTR records for these entries
	// FallthroughUnsupported passes on questions for types other than A, AAAA and PTR, even if there is an entry for
	// the name.
	FallthroughUnsupported bool
	Reload                 time.Duration // the interval at which Files are checked; 0: never again
	Line                   int           // of the option

	at caddyfile.Token
}

// InlineLine is one hosts line of the stanza: an IP address and at least one name, single spaces between them, no
// comment.
type InlineLine struct {
	Text string
	Line int // of the Corefile or of the ConfigMap's text
}
