package stanza

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// corefileOf parses text as the Corefile's stanza of the server block with the keys.
func corefileOf(text string, keys ...string) (*Config, error) {
	d := caddyfile.NewDispenser("Corefile", strings.NewReader(text))
	return Parse(&d, keys)
}

func mustParse(t *testing.T, text string, keys ...string) *Config {
	t.Helper()
	c, err := corefileOf(text, keys...)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return c
}

// wantError checks that err contains what, and begins with where.
func wantError(t *testing.T, err error, where, what string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", what)
	}
	if !strings.HasPrefix(err.Error(), where) || !strings.Contains(err.Error(), what) {
		t.Errorf("error %q, want one that begins with %q and contains %q", err, where, what)
	}
}

func TestParseDefaults(t *testing.T) {
	c := mustParse(t, "kubehosts", "dns://example.org.:53", "dns://.:53", "tls://example.org.:853")
	if !slices.Equal(c.Zones, []string{"example.org."}) || c.ZonesWritten {
		t.Errorf("Zones %q, written %v, want those of the server block without the root, each once", c.Zones, c.ZonesWritten)
	}
	if c.TTL != 5 || c.StartupTimeout != 5*time.Second || c.Audit != 6*time.Hour || c.Pods != Disabled {
		t.Errorf("ttl %d, startup_timeout %v, audit %v, pods %v", c.TTL, c.StartupTimeout, c.Audit, c.Pods)
	}
	if c.ConfigMap != nil || c.Manifests != nil || c.Hosts != nil || c.Fallthrough != nil || c.Namespaces != nil || c.Endpoint() != "" {
		t.Errorf("options that were not written: %+v", c)
	}
}

func TestParseAll(t *testing.T) {
	c := mustParse(t, `kubehosts Cluster.Local 10.0.0.0/9 cluster.local {
	configmap kube-system/coredns Other
	kubeconfig /k ctx
	endpoint https://a https://b
	tls cert key ca
	apiserver_qps 2.5
	apiserver_burst 7
	apiserver_max_inflight 8
	startup_timeout 1m
	namespaces b a b
	namespaces c
	labels z in (b, a), a = 1,!q
	pods verified
	endpoint_pod_names
	noendpoints
	ignore empty_service
	ttl 0
	hosts /a /b/*.hosts {
		10.0.0.1   x.example.org x # comment
		fe80::1%eth0 y
		ttl 60
		no_reverse
		reload 0
	}
	hosts {
	}
	hosts {
		10.0.0.2 z
	}
	fallthrough in-addr.arpa Example.org
	audit 0
	wire off
}`, "dns://.:53")

	if len(c.Zones) != 129 || c.Zones[0] != "cluster.local." || c.Zones[1] != "0.10.in-addr.arpa." || !c.ZonesWritten {
		t.Errorf("%d Zones, the first of them %q", len(c.Zones), c.Zones[:2])
	}
	if want := (ConfigMapRef{"kube-system", "coredns", "Other"}); *c.ConfigMap != want {
		t.Errorf("ConfigMap %+v, want %+v", *c.ConfigMap, want)
	}
	if c.Kubeconfig != "/k" || c.Context != "ctx" || c.Endpoint() != "https://a" || len(c.Endpoints) != 2 || c.TLS != (TLS{"cert", "key", "ca"}) {
		t.Errorf("kubeconfig %q %q, endpoint %q, tls %+v", c.Kubeconfig, c.Context, c.Endpoints, c.TLS)
	}
	if c.APIQPS != 2.5 || c.APIBurst != 7 || c.APIMaxInflight != 8 || c.StartupTimeout != time.Minute || c.Audit != 0 || !c.WireOff {
		t.Errorf("apiserver %v %v %v, startup_timeout %v, audit %v, wire off %t", c.APIQPS, c.APIBurst, c.APIMaxInflight, c.StartupTimeout, c.Audit, c.WireOff)
	}
	if !slices.Equal(c.Namespaces, []string{"b", "a", "c"}) || c.Labels != "!q,a=1,z in (a,b)" || c.NamespaceLabels != "" {
		t.Errorf("namespaces %q, labels %q, namespace_labels %q", c.Namespaces, c.Labels, c.NamespaceLabels)
	}
	if c.Pods != Verified || !c.EndpointPodNames || !c.NoEndpoints || !c.IgnoreEmptyService || c.TTL != 0 {
		t.Errorf("pods %v, flags %v %v %v, ttl %d", c.Pods, c.EndpointPodNames, c.NoEndpoints, c.IgnoreEmptyService, c.TTL)
	}
	if !slices.Equal(c.Fallthrough, []string{"in-addr.arpa.", "example.org."}) {
		t.Errorf("fallthrough %q", c.Fallthrough)
	}

	want := []Hosts{
		{Files: []string{"/a", "/b/*.hosts"}, Inline: []InlineLine{{"10.0.0.1 x.example.org x", 19}, {"fe80::1%eth0 y", 20}}, TTL: 60, NoReverse: true, Line: 18},
		{Files: []string{"/etc/hosts"}, TTL: 3600, Reload: 5 * time.Second, Line: 25},
		{Files: []string{}, Inline: []InlineLine{{"10.0.0.2 z", 28}}, TTL: 3600, Reload: 5 * time.Second, Line: 27},
	}
	for i := range c.Hosts {
		c.Hosts[i].at = caddyfile.Token{}
	}
	if !reflect.DeepEqual(c.Hosts, want) {
		t.Errorf("hosts\n%+v, want\n%+v", c.Hosts, want)
	}
}

func TestParseZones(t *testing.T) {
	for _, tt := range []struct {
		text string
		keys []string
		want []string
	}{
		{"kubehosts", []string{"dns://.:53"}, nil},
		{"kubehosts { hosts /etc/hosts }", []string{"."}, nil},
		{"kubehosts", []string{"."}, nil},
		{"kubehosts .", []string{"dns://example.org.:53"}, []string{"."}},
		{"kubehosts cluster.local in-addr.arpa ip6.arpa", []string{"."}, []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}},
		{"kubehosts 10.in-addr.arpa a", nil, []string{"10.in-addr.arpa.", "a."}},
		{"kubehosts dns://A.example:1053", nil, []string{"a.example."}},
		{"kubehosts", []string{"dns://10.in-addr.arpa.:53", "dns://a.:53"}, []string{"10.in-addr.arpa.", "a."}},
	} {
		if c := mustParse(t, tt.text, tt.keys...); !slices.Equal(c.Zones, tt.want) {
			t.Errorf("%q in %q: Zones %q, want %q", tt.text, tt.keys, c.Zones, tt.want)
		}
	}
}

// Whether Services are served in the zones of the server block if the stanza names none.
func TestParseZonesOfServerBlock(t *testing.T) {
	corp := []string{"corp.example."}
	for _, tt := range []struct {
		body      string
		want      []string
		hostsOnly bool
	}{
		{"", corp, false},
		{"{ ttl 5 }", corp, false},
		{"{ hosts corp.hosts }", nil, true},
		{"{\nhosts corp.hosts {\nttl 60\nfallthrough\n}\nhosts {\n10.0.0.1 a\n}\n}", nil, true},
		{"{\nhosts\nconfigmap kube-system/corp\n}", nil, true},
		{"{\nwire off\nhosts\n}", nil, true},
		{"{\nstatus\nhosts\n}", nil, true},
		{"{ configmap kube-system/corp }", corp, false},
		{"{\nhosts\nttl 5\n}", corp, false},
		{"{\nhosts\nfallthrough\n}", corp, false},
		{"{\nhosts\npods insecure\n}", corp, false},
		{"{\nhosts\nmanifests x\n}", corp, false},
		{"{\nhosts\nkubeconfig x\nconfigmap y\n}", corp, false},
		{"{\nhosts\nstartup_timeout 1s\n}", corp, false},
		{"{\nhosts\naudit 1h\n}", corp, false},
		{"{ noservices }", nil, false},
		{"{\nhosts\nnoservices\n}", nil, false},
		{"{\nnoservices\nkubeconfig x\nconfigmap y\nstartup_timeout 1s\nhosts\n}", nil, false},
		{"cluster.local { hosts corp.hosts }", []string{"cluster.local."}, false},
	} {
		c := mustParse(t, "kubehosts "+tt.body, "dns://corp.example.:53")
		if !slices.Equal(c.Zones, tt.want) || c.HostsOnly != tt.hostsOnly {
			t.Errorf("%q: Zones %q, HostsOnly %v, want %q, %v", tt.body, c.Zones, c.HostsOnly, tt.want, tt.hostsOnly)
		}
	}
	if c := mustParse(t, "kubehosts { hosts corp.hosts }", "dns://10.in-addr.arpa.:53"); c.Zones != nil || !c.HostsOnly {
		t.Errorf("a reverse zone: Zones %q, HostsOnly %v", c.Zones, c.HostsOnly)
	}
	if c := mustParse(t, "kubehosts { hosts corp.hosts }", "dns://.:53"); c.Zones != nil || c.HostsOnly {
		t.Errorf("the root has no zones: Zones %q, HostsOnly %v", c.Zones, c.HostsOnly)
	}
}

// A zone after FILE, as in stock's hosts plugin, is refused, and a file that does not exist yet is
// not.
func TestZonesAfterFile(t *testing.T) {
	for _, tt := range []struct{ files, zone string }{
		{"/etc/hosts corp.example 10.0.0.0/8", "10.0.0.0/8"}, // not the name of a file
		{"/etc/hosts fd00::/8", "fd00::/8"},
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"example.hosts example.org.", "example.org."},
		{"example.hosts .", "."},
	} {
		_, err := corefileOf("kubehosts {\nhosts "+tt.files+"\n}", ".")
		wantError(t, err, "Corefile:2 - Error during parsing: ", "hosts: '"+tt.zone+"' is a zone, but hosts takes no zones after FILE")
	}
	for files, wants := range map[string][]bool{ // whether one that does not exist is a zone
		"example.hosts example.org example.net":   {false, true, true},
		"corp.example":                            {false}, // as in stock, the first is FILE
		"a.hosts b.hosts c.txt d.conf e.list":     {false, false, false, false, false},
		"/etc/hosts ./corp.example /corp.example": {false, false, false},
		"/etc/hosts lan 10.in-addr.arpa":          {false, true, true},
		"/etc/hosts a..b":                         {false, false}, // not a domain name
	} {
		c := mustParse(t, "kubehosts {\nhosts "+files+"\n}", ".")
		for i, want := range wants {
			if err := c.Hosts[0].Missing(i); (err != nil) != want {
				t.Errorf("hosts %s: %s is a zone: %v, want %v", files, c.Hosts[0].Files[i], err, want)
			}
		}
	}
}

func TestParseInlineFromEnvironment(t *testing.T) {
	// The form in which caddyfile leaves {$HOSTS}: one token with spaces and line breaks.
	d := caddyfile.NewDispenserTokens("Corefile", []caddyfile.Token{
		{Line: 1, Text: Name}, {Line: 1, Text: "{"}, {Line: 2, Text: "hosts"}, {Line: 2, Text: "{"},
		{Line: 3, Text: "10.0.0.1 a b # first\n\n10.0.0.2 c"}, {Line: 9, Text: "}"}, {Line: 10, Text: "}"},
	})
	c, err := Parse(&d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []InlineLine{{"10.0.0.1 a b", 3}, {"10.0.0.2 c", 3}}; !slices.Equal(c.Hosts[0].Inline, want) {
		t.Errorf("Inline %+v, want %+v", c.Hosts[0].Inline, want)
	}
}

// TestParseErrors has options that stock does not have, or ignores. Options are on line 2.
func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ option, want string }{
		{"nonsense 1", "unknown property 'nonsense'"},
		{"snapshot", "Wrong argument count"},
		{"snapshot a b", "Wrong argument count"},
		{`snapshot ""`, "the name of the file is empty"},
		{"multicluster a", "is not authoritative for the multicluster zone a."},
		{"zonal x", "Wrong argument count"},
		{"zonal\nnoendpoints", "zonal requires the endpoint cache; remove noendpoints"},
		{"import /etc/x", "unknown property 'import'"},
		{"configmap", "Wrong argument count"},
		{"configmap a b c", "Wrong argument count"},
		{"configmap kube-system/", "'' is not a ConfigMap name"},
		{`configmap ""`, "'' is not a ConfigMap name"},
		{"configmap /coredns", "'' is not a namespace name"},
		{"configmap a.b/coredns", "'a.b' is not a namespace name"},
		{"configmap a/b/c", "'b/c' is not a ConfigMap name"},
		{"configmap CoreDNS", "'CoreDNS' is not a ConfigMap name"},
		{"configmap a k/y", "'k/y' is not a ConfigMap key"},
		{"configmap a ..", "'..' is not a ConfigMap key"},
		{"manifests", "Wrong argument count"},
		{`manifests ""`, "neither a file nor a glob pattern"},
		{"manifests a[", "neither a file nor a glob pattern"},
		{"pods verified { }", "'pods' takes no block"},
		{"ttl 5 6", "Wrong argument count"},
		{"audit", "Wrong argument count"},
		{"audit 1h 2h", "Wrong argument count"},
		{"audit 5", "failed to parse audit: 5, time: missing unit"},
		{"audit 999ms", "audit 999ms: less than 1s"},
		{"audit -1h", "audit -1h: less than 1s"},
		{"startup_timeout 1s 2s", "Wrong argument count"},
		{"startup_timeout -1s", "failed to parse startup_timeout: -1s, time: negative duration"},
		{"startup_timeout 5", "failed to parse startup_timeout: 5, time: missing unit"},
		{"wire", "Wrong argument count"},
		{"wire maybe", "wire 'maybe' is neither on nor off"},
		{"status :1 :2", "Wrong argument count"},
		{"status 8182", "status '8182' is not an address to listen on"},
		{"status coredns.example:8182", "'coredns.example' is not an IP address"},
		{"status :0", "'0' is not a port"},
		{"status :http", "'http' is not a port"},
		{"status :65536", "'65536' is not a port"},
		{"ignore", "Wrong argument count"},
		{"apiserver_qps nan", "not a finite number"},
		{"apiserver_qps +inf", "not a finite number"},
		{"fallthrough a..b", "'a..b' is not a zone"},
		{"hosts a[", "neither a file nor a glob pattern"},
		{"hosts { ttl }", "ttl needs a time in second"},
		{"hosts { ttl x }", "ttl needs a number of second"},
		{"hosts { ttl 0 }", "ttl provided is invalid"},
		{"hosts { ttl 65536 }", "ttl provided is invalid"},
		{"hosts { ttl 5 6 }", "Wrong argument count"},
		{"hosts { reload }", "reload needs a duration (zero seconds to disable)"},
		{"hosts { reload 1 }", "invalid duration for reload '1'"},
		{"hosts { reload -1s }", "invalid negative duration for reload '-1s'"},
		{"hosts { no_reverse x }", "Wrong argument count"},
		{"hosts { fallthrough in-addr.arpa }", "hosts: fallthrough takes no zones here"},
		{"hosts { db.example.org 10.0.0.7 }", "unknown property 'db.example.org'"},
		{"hosts { 10.0.0.256 a }", "unknown property '10.0.0.256'"},
		{"hosts { 10.0.0.7 }", "no name after the address '10.0.0.7'"},
		{"hosts { 10.0.0.7 a { } }", "'10.0.0.7' takes no block"},
		{"{ }", "unexpected '{'"},
	} {
		_, err := corefileOf("kubehosts cluster.local {\n"+tt.option+"\n}\n", ".")
		t.Run(tt.option, func(t *testing.T) { wantError(t, err, "Corefile:2 - Error during parsing: ", tt.want) })
	}
}

func TestParseErrorsOfStanza(t *testing.T) {
	for _, tt := range []struct{ text, where, want string }{
		{"", "Corefile:0 - ", "no kubehosts stanza"},
		{"kubehosts a..b", "Corefile:1 - ", "'a..b' is not a zone"},
		{"kubehosts a.example: {\n}", "Corefile:1 - ", "'a.example:' is not a zone"},
		{`kubehosts ""`, "Corefile:1 - ", "'' is not a zone"},
		{"kubehosts " + strings.Repeat("a", 64), "Corefile:1 - ", "is not a zone"},
		{"kubehosts " + strings.Repeat("10.0.0.0/9 ", 40), "Corefile:1 - ", "more than 1000 zones in a stanza"},
		{"kubehosts 10.0.0.0/8 1.ip6.arpa", "Corefile:1 - ", "non-reverse zone name must be used"},
		{"kubehosts a\n{\nttl 5\n}", "Corefile:2 - ", "unexpected '{': the block of 'kubehosts' must open on its own line, 1"},
		{"kubehosts a {\nttl 5\n", "Corefile:1 - ", "this '{' of 'kubehosts' has no '}'"},
		{"kubehosts a {\nhosts {\nttl 5\n}\n", "Corefile:1 - ", "this '{' of 'kubehosts' has no '}'"},
		{"kubehosts a {\n} b", "Corefile:2 - ", "unexpected 'b' after '}'"},
		{"kubehosts a {\n}\n}", "Corefile:3 - ", "once per Server Block"},
		{"}", "Corefile:1 - ", "unexpected '}'"},
		{"kubehosts a\nkubehosts b", "Corefile:2 - ", "this plugin can only be used once per Server Block"},
		{"kubehosts a {\nconfigmap a\nconfigmap b\n}", "Corefile:3 - ", "configmap may be given only once, it is already on line 2"},
		{"kubehosts a {\nmanifests x\nendpoint y\n}", "Corefile:3 - ", "endpoint and manifests (line 2) cannot both be set"},
		{"kubehosts a {\nkubeconfig x\nmanifests y\n}", "Corefile:2 - ", "kubeconfig and manifests (line 3) cannot both be set"},
		{"kubehosts a {\nmanifests x\nsnapshot y\n}", "Corefile:3 - ", "snapshot and manifests (line 2) cannot both be set"},
		{"kubehosts a {\nsnapshot x\nsnapshot x\n}", "Corefile:3 - ", "snapshot may be given only once, it is already on line 2"},
		{"kubehosts a {\nmanifests y\ntls a b c\n}", "Corefile:3 - ", "tls and manifests"},
		{"kubehosts a {\nmanifests y\napiserver_qps 0\n}", "Corefile:3 - ", "apiserver_qps and manifests"},
		{"kubehosts a {\nnoservices\n}", "Corefile:2 - ", "noservices and zones cannot both be set"},
		{"kubehosts {\npods insecure\nnoservices\n}", "Corefile:2 - ", "pods and noservices (line 3) cannot both be set: no Services are served"},
		{"kubehosts {\nnoservices\nhosts\nfallthrough\n}", "Corefile:4 - ", "fallthrough and noservices (line 2) cannot both be set"},
		{"kubehosts {\nnoservices\nsnapshot x\n}", "Corefile:3 - ", "snapshot and noservices (line 2) cannot both be set"},
		{"kubehosts {\nnoservices x\n}", "Corefile:2 - ", "Wrong argument count"},
		{"kubehosts a {\nnamespaces x\nnamespace_labels y\n}", "Corefile:3 - ", "namespaces and namespace_labels cannot both be set"},
		{"kubehosts a {\n" + strings.Repeat("x", 1<<20) + "\n}", "Corefile:2 - ", "unknown property 'xxx"},
	} {
		_, err := corefileOf(tt.text)
		wantError(t, err, tt.where, tt.want)
		if len(err.Error()) > 2*maxErrorText {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

func TestParseServerBlockOfReverseZones(t *testing.T) {
	_, err := corefileOf("kubehosts", "dns://10.in-addr.arpa.:53")
	wantError(t, err, "Corefile:1 - ", "non-reverse zone name must be used")
}

func TestSecondStanzaIsErrOnce(t *testing.T) {
	if _, err := corefileOf("kubehosts a {\n}\nkubehosts b {\n}"); !errors.Is(err, plugin.ErrOnce) {
		t.Errorf("%v is not plugin.ErrOnce", err)
	}
}

func TestManifestsAddUp(t *testing.T) {
	c := mustParse(t, "kubehosts a {\nmanifests x y/*.yaml\nmanifests z\n}")
	if want := []string{"x", "y/*.yaml", "z"}; !slices.Equal(c.Manifests, want) {
		t.Errorf("Manifests %q, want %q", c.Manifests, want)
	}
}

func TestKeyOfConfigMap(t *testing.T) {
	c := mustParse(t, "kubehosts a {\nconfigmap coredns\n}")
	if want := (ConfigMapRef{"", "coredns", "Corefile"}); *c.ConfigMap != want {
		t.Errorf("ConfigMap %+v, want %+v", *c.ConfigMap, want)
	}
}

func TestStatus(t *testing.T) {
	for text, want := range map[string]string{
		"kubehosts": "", "kubehosts { status }": "127.0.0.1:8182", "kubehosts { status :80 }": ":80",
		"kubehosts { status [::1]:8182 }": "[::1]:8182", "kubehosts { status localhost:8182 }": "localhost:8182",
	} {
		if got := mustParse(t, text, "dns://cluster.local.:53").Status; got != want {
			t.Errorf("%s: status %q, want %q", text, got, want)
		}
	}
}

// Zones are compared in the form that they have in questions, however they are written, wherever they may be named.
func TestZonesOfAnyOctets(t *testing.T) {
	for i := range 256 {
		c := byte(i)
		zone := fmt.Sprintf(`x\%03d.example`, c)
		want, _, err := dns.UnpackDomainName(append([]byte{2, 'x', c}, "\x07example\x00"...), 0)
		if err != nil {
			t.Fatal(err)
		}
		if want = strings.ToLower(want); c >= 0x80 {
			_, err := corefileOf("kubehosts "+zone, "dns://.:53")
			wantError(t, err, "Corefile:1 - ", "outside ASCII")
			continue
		}
		all := mustParse(t, fmt.Sprintf("kubehosts %[1]s z.example {\nexternal e%[1]s\nfallthrough %[1]s\nmulticluster %[1]s\n}", zone), "dns://.:53")
		for what, got := range map[string]string{"ZONES": all.Zones[0], "external": all.External[0].Zones[0][1:], "fallthrough": all.Fallthrough[0], "multicluster": all.Multicluster[0]} {
			if got != want {
				t.Errorf("%s: %s is %s, but in a question %s", what, zone, got, want)
			}
		}
		if got := mustParse(t, "kubehosts", "dns://"+zone+":53").Zones; !slices.Equal(got, []string{want}) {
			t.Errorf("the zones of a server block for %s are %q, but in a question %s", zone, got, want)
		}
	}
	for written, want := range map[string]string{"a;b.example": `a\;b.example.`, `a\;b.example`: `a\;b.example.`, "user@host.example": `user\@host.example.`, `\097.EXAMPLE`: "a.example.", "_acme.x": "_acme.x."} {
		if got := mustParse(t, "kubehosts "+written, "dns://.:53").Zones; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %s", written, got, want)
		}
	}
	for written, want := range map[string]string{
		"müller.example": "write xn--mller-kva.example., for which clients ask", "ü_1.example": "no ASCII form",
	} {
		_, err := corefileOf("kubehosts "+written, "dns://.:53")
		wantError(t, err, "Corefile:1 - ", want)
	}
}
