package stanza

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/coredns/caddy/caddyfile"
)

// The meaning of the option, and its defaults.
func TestParseExternal(t *testing.T) {
	c := mustParse(t, `kubehosts cluster.local in-addr.arpa {
	external Example.org apps.cluster.local example.org {
		from gateway ingress
		from node
		class nginx internal.example.com
		class nginx
		namespaces b a b
		ttl 0
		inside
	}
	external team-a.example.org
	external org { }
}`, ".")
	want := []External{
		{Zones: []string{"example.org.", "apps.cluster.local."}, From: Gateway | Ingress | Node, Classes: []string{"nginx", "internal.example.com"},
			Namespaces: []string{"b", "a"}, Inside: true, Line: 2},
		{Zones: []string{"team-a.example.org."}, From: DefaultSources, TTL: 60, Line: 11},
		{Zones: []string{"org."}, From: DefaultSources, TTL: 60, Line: 12},
	}
	for i := range c.External {
		c.External[i].at = caddyfile.Token{}
	}
	if !reflect.DeepEqual(c.External, want) {
		t.Errorf("External\n%+v, want\n%+v", c.External, want)
	}
	if s := DefaultSources.String(); s != "ingress service gateway dnsendpoint" {
		t.Errorf("the default sources are %q", s)
	}
}

// The zones of the server block are Service zones, unless an external option has them.
func TestExternalZonesOfServerBlock(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"kubehosts { external example.org }", nil},
		{"kubehosts { external apps.example.org }", []string{"example.org."}},
		{"kubehosts {\nnoservices\nexternal apps.example.org\n}", nil},
		{"kubehosts {\nhosts\nexternal apps.example.org\n}", []string{"example.org."}},
		{"kubehosts {\nnoservices\nnamespaces a\nlabels a=b\nsnapshot s\nfallthrough\nexternal example.org\n}", nil},
	} {
		c := mustParse(t, tt.text, "dns://example.org.:53")
		if !slices.Equal(c.Zones, tt.want) || c.HostsOnly {
			t.Errorf("%q: Zones %q, HostsOnly %v, want %q", tt.text, c.Zones, c.HostsOnly, tt.want)
		}
	}
}

// Options are on line 2, after the zones cluster.local and example.com.
func TestExternalErrors(t *testing.T) {
	for _, tt := range []struct {
		option string
		line   int
		want   string
	}{
		{"external", 2, "Wrong argument count or unexpected line ending after 'external'"},
		{"external {\n}", 2, "Wrong argument count"},
		{"external a..b", 2, "'a..b' is not a zone"},
		{"external 10.0.0.0/8", 2, "external: '10.in-addr.arpa.' is a reverse zone; external serves only forward names"},
		{"external a in-addr.arpa", 2, "external: 'in-addr.arpa.' is a reverse zone"},
		{"external x.8.b.d.0.1.0.0.2.ip6.arpa", 2, "is a reverse zone"},
		{"external b\n\nexternal a B", 4, "external: zone b. may be in one external option only, it is already in the one on line 2"},
		{"ttl 5\nexternal cluster.local", 3, "external: zone cluster.local. is already a Service zone; use a zone of its own, such as apps.cluster.local."},
		{"external a svc.cluster.local", 2, "external: zone svc.cluster.local. would hide the names of Services, pods or name servers in the zones cluster.local. example.com."},
		{"external ns.svc.cluster.local", 2, "zone ns.svc.cluster.local. would hide the names"},
		{"external pod.example.com", 2, "zone pod.example.com. would hide the names"},
		{"external ns.dns.example.com", 2, "zone ns.dns.example.com. would hide the names"},
		{"external dns-version.example.com", 2, "zone dns-version.example.com. would hide the names"},
		{"external b {\nfrom\n}", 3, "Wrong argument count"},
		{"external b {\nfrom ingress pods\n}", 3, "external: from 'pods' is not a source, must be one of: ingress, service, gateway, dnsendpoint, node"},
		{"external b {\nfrom Ingress\n}", 3, "external: from 'Ingress' is not a source"},
		{"external b {\nclass\n}", 3, "Wrong argument count"},
		{"external b {\nclass a/b\n}", 3, "external: class 'a/b' is not a name of an IngressClass or a GatewayClass: "},
		{"external b {\nnamespaces\n}", 3, "Wrong argument count"},
		{"external b {\nnamespaces a.b\n}", 3, "external: 'a.b' is not a namespace name: "},
		{"external b {\nttl\n}", 3, "Wrong argument count"},
		{"external b {\nttl 1 2\n}", 3, "Wrong argument count"},
		{"external b {\nttl x\n}", 3, "external: ttl 'x' is not a number of seconds"},
		{"external b {\nttl -1\n}", 3, "external: ttl must be in range [0, 3600]: -1"},
		{"external b {\nttl 3601\n}", 3, "external: ttl must be in range [0, 3600]: 3601"},
		{"external b {\ninside out\n}", 3, "Wrong argument count"},
		{"external b {\nfallthrough\n}", 3, "unknown property 'fallthrough'"},
		{"external b {\nfrom ingress {\n}\n}", 3, "'from' takes no block"},
	} {
		for file, parse := range map[string]func(string) (*Config, error){
			"Corefile": func(text string) (*Config, error) { return corefileOf(text, "dns://.:53") },
			textName:   func(text string) (*Config, error) { return ParseText(textName, text, []string{"dns://.:53"}, "") },
		} {
			_, err := parse("kubehosts cluster.local example.com {\n" + tt.option + "\n}\n")
			t.Run(tt.option, func(t *testing.T) {
				wantError(t, err, fmt.Sprintf("%s:%d - Error during parsing: ", file, tt.line), tt.want)
			})
		}
	}
}

// An external zone may be above or below a Service zone, and above or below another external one.
func TestExternalZonesNested(t *testing.T) {
	for _, text := range []string{
		"kubehosts cluster.local {\nexternal .\n}",
		"kubehosts . {\nexternal org\n}",
		"kubehosts k8s.example.org {\nexternal example.org\n}",
		"kubehosts example.org {\nexternal apps.example.org\nexternal b.apps.example.org\n}",
		"kubehosts example.org {\nexternal xsvc.example.org svc.apps.example.org\n}",
	} {
		mustParse(t, text, ".")
	}
	_, err := corefileOf("kubehosts . {\nexternal svc\n}", ".")
	wantError(t, err, "Corefile:2 - ", "zone svc. would hide the names")
}

func TestExternalHash(t *testing.T) {
	const same = "kubehosts a {\nexternal b {\nclass y x\nnamespaces m n\n}\n}"
	hash := mustParse(t, same, ".").Hash()
	for text, want := range map[string]bool{
		"kubehosts a {\nexternal B {\nfrom service gateway\nfrom dnsendpoint ingress\nttl 60\nclass x\nnamespaces n m\nclass y\n}\n}": true,
		"kubehosts a {\nexternal b {\nclass y x\nnamespaces m n\ninside\n}\n}":                                                        false,
		"kubehosts a {\nexternal b {\nclass y x\nnamespaces m n\nttl 61\n}\n}":                                                        false,
		"kubehosts a {\nexternal b {\nclass y x\nnamespaces m n\nfrom node\n}\n}":                                                     false,
		"kubehosts a {\nexternal b {\nclass y\nnamespaces m n\n}\n}":                                                                  false,
		"kubehosts a {\nexternal b {\nclass y x\nnamespaces m\n}\n}":                                                                  false,
		"kubehosts a {\nexternal c {\nclass y x\nnamespaces m n\n}\n}":                                                                false,
		"kubehosts a": false,
	} {
		if got := mustParse(t, text, ".").Hash() == hash; got != want {
			t.Errorf("%q: the same hash %v, want %v", text, got, want)
		}
	}
}

// A ConfigMap may change everything in an external option but its zones, which must be within those of the
// Corefile.
func TestOverExternal(t *testing.T) {
	const base = "kubehosts cluster.local {\nconfigmap a\nexternal example.org example.net\nexternal team.example.com\n}"
	for _, tt := range []struct {
		base, text string
		want       []string
		err        string
	}{
		{base, "kubehosts", nil, ""},
		{base, "kubehosts {\nexternal example.org {\nfrom node\ninside\n}\n}", []string{"example.org."}, ""},
		{base, "kubehosts {\nexternal a.example.org\nexternal example.org team.example.com {\nttl 5\n}\n}", []string{"a.example.org.", "example.org.", "team.example.com."}, ""},
		{base, "kubehosts {\nttl 5\nexternal example.com\n}", nil, textName + ":3 - external: the ConfigMap may not add zone example.com.: the Corefile's stanza has example.org. example.net. team.example.com."},
		{base, "kubehosts {\nexternal xexample.org\n}", nil, textName + ":2 - external: the ConfigMap may not add zone xexample.org."},
		{base, "kubehosts {\nexternal .\n}", nil, textName + ":2 - external: the ConfigMap may not add zone ."},
		{base, "kubehosts {\nexternal apps.cluster.local\n}", nil, textName + ":2 - external: the ConfigMap may not add zone apps.cluster.local."},
		{"kubehosts cluster.local", "kubehosts {\nexternal example.org\n}", nil, textName + ":2 - external: the ConfigMap may not add zone example.org.: the Corefile's stanza has no external option"},
		{"kubehosts b.org {\nexternal org\n}", "kubehosts {\nexternal b.org\n}", nil, textName + ":2 - Error during parsing: external: zone b.org. is already a Service zone"},
		{"kubehosts b.org {\nexternal org\n}", "kubehosts {\nexternal svc.b.org\n}", nil, textName + ":2 - Error during parsing: external: zone svc.b.org. would hide the names"},
		{"kubehosts b.org {\nexternal org\n}", "kubehosts {\nnoservices\nexternal b.org\n}", []string{"b.org."}, ""},
	} {
		keys := []string{"dns://.:53"}
		c, err := ParseText(textName, tt.text, keys, "")
		if err != nil {
			t.Fatalf("%q: %v", tt.text, err)
		}
		r, err := c.Over(mustParse(t, tt.base, keys...))
		if tt.err != "" {
			wantError(t, err, tt.err, "")
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		var got []string
		for _, e := range r.External {
			got = append(got, e.Zones...)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: external zones %q, want %q", tt.text, got, tt.want)
		}
	}
}
