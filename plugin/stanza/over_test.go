package stanza

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const baseStanza = `kubehosts cluster.local 10.0.0.0/8 {
	configmap kube-system/coredns
	endpoint https://a
	tls c k ca
	apiserver_qps 5
	startup_timeout 9s
	status :9
	audit 9h
	hosts /a /b {
		10.0.0.1 base
		ttl 60
	}
	hosts /c {
		reload 1m
	}
}`

func overText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	keys := []string{"dns://.:53"}
	c, err := ParseText(textName, text, keys, "")
	if err != nil {
		t.Fatalf("ParseText(%q): %v", text, err)
	}
	return c.Over(mustParse(t, baseStanza, keys...))
}

// shape renders hosts options for comparison.
func shape(hosts []Hosts) string {
	var s []string
	for _, h := range hosts {
		var inline []string
		for _, l := range h.Inline {
			inline = append(inline, l.Text)
		}
		s = append(s, fmt.Sprintf("%q%q %d %t %v", h.Files, inline, h.TTL, h.NoReverse, h.Reload))
	}
	return strings.Join(s, "; ")
}

func TestOverKeepsTheSources(t *testing.T) {
	for _, text := range []string{
		"kubehosts {\npods insecure\nstartup_timeout 1s\naudit 1h\nstatus :80\n}",
		"kubehosts {\npods insecure\nconfigmap kube-system/coredns\nendpoint https://a\ntls c k ca\napiserver_qps 5\n}",
	} {
		r, err := overText(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if r.Pods != Insecure {
			t.Error("pods of the ConfigMap are lost")
		}
		if r.ConfigMap == nil || r.Endpoint() != "https://a" || r.TLS.CA != "ca" || r.APIQPS != 5 || r.StartupTimeout != 9*time.Second || r.Audit != 9*time.Hour || r.Status != ":9" {
			t.Errorf("%+v is not the Corefile's", r)
		}
		if !slices.Equal(r.Zones, []string{"cluster.local.", "10.in-addr.arpa."}) || !r.ZonesWritten {
			t.Errorf("Zones %q, written %v", r.Zones, r.ZonesWritten)
		}
	}
}

func TestOverRefuses(t *testing.T) {
	for _, tt := range []struct{ option, want string }{
		{"configmap coredns", "the ConfigMap may not change option configmap: the Corefile has 'kube-system/coredns', the ConfigMap has 'coredns'"},
		{"configmap kube-system/coredns Corefile", "the ConfigMap may not change option configmap"},
		{"snapshot /x", "the ConfigMap may not change option snapshot: the Corefile does not have it, the ConfigMap has '/x'"},
		{"wire off", "the ConfigMap may not change option wire: the Corefile does not have it, the ConfigMap has 'off'"},
		{"manifests /x", "the ConfigMap may not change option manifests: the Corefile does not have it, the ConfigMap has '/x'"},
		{"kubeconfig /x", "the ConfigMap may not change option kubeconfig"},
		{"endpoint https://b", "the ConfigMap may not change option endpoint: the Corefile has 'https://a', the ConfigMap has 'https://b'"},
		{"endpoint https://a https://b", "the ConfigMap may not change option endpoint"},
		{"tls c k other", "the ConfigMap may not change option tls"},
		{"apiserver_qps 6", "the ConfigMap may not change option apiserver_qps"},
		{"apiserver_burst 6", "the ConfigMap may not change option apiserver_burst"},
		{"apiserver_max_inflight 6", "the ConfigMap may not change option apiserver_max_inflight"},
		{"hosts /etc/passwd", "the ConfigMap may not add hosts file '/etc/passwd'"},
		{"hosts /a /*", "the ConfigMap may not add hosts file '/*'"},
		{"hosts /a corp.example", "hosts: 'corp.example' is a zone, but hosts takes no zones after FILE"},
		{"hosts", "the ConfigMap may not add hosts file '/etc/hosts' (hosts with neither FILE nor inline line means this file)"},
	} {
		t.Run(tt.option, func(t *testing.T) {
			_, err := overText(t, "kubehosts {\n\n"+tt.option+"\n}")
			wantError(t, err, textName+":3 - ", tt.want)
		})
	}
}

func TestOverZones(t *testing.T) {
	for _, tt := range []struct {
		base, text string
		want       []string
		err        string
	}{
		{"kubehosts a.example b", "kubehosts", []string{"a.example.", "b."}, ""},
		{"kubehosts a.example b", "kubehosts b", []string{"b."}, ""},
		{"kubehosts a.example b", "kubehosts x.A.example", []string{"x.a.example."}, ""},
		{"kubehosts a.example b", "kubehosts a.example c", nil, "the ConfigMap may not add zone c.: the Corefile's stanza has a.example. b."},
		{"kubehosts a.example b", "kubehosts example", nil, "the ConfigMap may not add zone example."},
		{"kubehosts a.example b", "kubehosts xa.example", nil, "the ConfigMap may not add zone xa.example."},
		{"kubehosts a.example b", ". {\nkubehosts\n}", nil, ""},
		{"kubehosts a.example b", ". {\nkubehosts b\n}", []string{"b."}, ""},
		{"kubehosts { hosts /x }", "kubehosts", nil, ""},
		{"kubehosts { hosts /x }", "kubehosts a", nil, "the Corefile's stanza has no zones"},
		{"kubehosts .", "kubehosts a", []string{"a."}, ""},
	} {
		keys := []string{"dns://.:53"}
		c, err := ParseText(textName, tt.text, keys, "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Over(mustParse(t, tt.base, keys...))
		if tt.err != "" {
			wantError(t, err, textName+":", tt.err)
			continue
		}
		if err != nil || !slices.Equal(r.Zones, tt.want) {
			t.Errorf("%q over %q: error %v, Zones %q, want %q", tt.text, tt.base, err, r.Zones, tt.want)
		}
	}
}

// In the server block of a zone, a stanza with only hosts options serves no Services. A ConfigMap must request that
// explicitly to end the serving of Services.
func TestOverHostsOnly(t *testing.T) {
	const services = "kubehosts {\nconfigmap a/b\n}"
	const entries = "kubehosts {\nconfigmap a/b\nhosts {\n10.0.0.1 a\n}\n}"
	for _, tt := range []struct {
		base, text string
		want       []string
		err        string
	}{
		{services, "corp.example {\n" + entries + "\n}", nil,
			"a stanza with only hosts options serves no Services, but the Corefile's serves them in corp.example.: write 'kubehosts corp.example.' to keep serving them, or noservices to stop"},
		{services, "corp.example {\nkubehosts {\nnoservices\nhosts {\n10.0.0.1 a\n}\n}\n}", nil, ""},
		{services, "corp.example {\nkubehosts corp.example {\nhosts {\n10.0.0.1 a\n}\n}\n}", []string{"corp.example."}, ""},
		{services, entries, []string{"corp.example."}, ""}, // bare
		{services, "kubehosts {\nnoservices\n}", nil, ""},
		{entries, entries, nil, ""},
		{entries, "corp.example {\n" + entries + "\n}", nil, ""},
		{entries, "kubehosts {\npods insecure\n}", nil, ""},
		{entries, "corp.example {\n" + services + "\n}", nil, "the ConfigMap may not add zone corp.example.: the Corefile's stanza has no zones"},
	} {
		keys := []string{"dns://corp.example.:53"}
		c, err := ParseText(textName, tt.text, keys, "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Over(mustParse(t, tt.base, keys...))
		if tt.err != "" {
			wantError(t, err, textName+":2 - ", tt.err)
			continue
		}
		if err != nil || !slices.Equal(r.Zones, tt.want) {
			t.Errorf("%q over %q: error %v, Zones %q, want %q", tt.text, tt.base, err, r.Zones, tt.want)
		}
	}
}

func TestOverHosts(t *testing.T) {
	const restC = `["/c"][] 3600 false 1m0s`
	for _, tt := range []struct{ text, want string }{
		{"kubehosts", `["/a" "/b"][] 60 false 5s; ` + restC},
		{"kubehosts {\nhosts {\n10.0.0.2 new\n}\n}", `[]["10.0.0.2 new"] 3600 false 5s; ["/a" "/b"][] 60 false 5s; ` + restC},
		{"kubehosts {\nhosts /b {\nno_reverse\nttl 9\n}\n}", `["/b"][] 9 true 5s; ["/a"][] 60 false 5s; ` + restC},
		{"kubehosts {\nhosts /c /a\nhosts /b\n}", `["/c" "/a"][] 3600 false 5s; ["/b"][] 3600 false 5s`},
	} {
		r, err := overText(t, tt.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := shape(r.Hosts); got != tt.want {
			t.Errorf("%q:\n%s, want\n%s", tt.text, got, tt.want)
		}
	}
}

func TestOverOfTheSameStanza(t *testing.T) {
	base := mustParse(t, baseStanza, "dns://.:53")
	r, err := overText(t, ". {\nerrors\n"+baseStanza+"\n}")
	if err != nil {
		t.Fatal(err)
	}
	if r.Hash() != base.Hash() {
		t.Error("the ConfigMap with the Corefile itself changes the stanza")
	}
}

func TestOverChangesNeither(t *testing.T) {
	keys := []string{"dns://.:53"}
	base := mustParse(t, baseStanza, keys...)
	c, err := ParseText(textName, "kubehosts {\nhosts /a\n}", keys, "")
	if err != nil {
		t.Fatal(err)
	}
	before := base.Hash() + c.Hash()
	if _, err := c.Over(base); err != nil {
		t.Fatal(err)
	}
	if after := base.Hash() + c.Hash(); after != before {
		t.Error("Over changed its arguments")
	}
}

func TestHash(t *testing.T) {
	hash := func(body string) string { return mustParse(t, "kubehosts a {\n"+body+"\n}").Hash() }
	plain := hash("")
	if len(plain) != 12 || strings.Trim(plain, "0123456789abcdef") != "" {
		t.Errorf("hash %q", plain)
	}
	for _, same := range [][2]string{
		{"", "# comment\n\n ttl 5\npods disabled\nstartup_timeout 5000ms\naudit 360m"},
		{"namespaces x y", "namespaces y\nnamespaces x"},
		{"labels x in (a,b)", "labels x in ( b, a )"},
		{"hosts {\n10.0.0.1  x\n}", "\nhosts {\n10.0.0.1 x\nttl 3600\n}"},
		{"endpoint x y", "endpoint x"},
		{"", "wire on"},
		{"", "status :80"}, // which does not affect anything in the hash
	} {
		if hash(same[0]) != hash(same[1]) {
			t.Errorf("%q and %q differ", same[0], same[1])
		}
	}
	seen := map[string]string{}
	for _, body := range []string{
		"", "ttl 6", "pods insecure", "pods verified", "namespaces x", "namespaces x y", "namespace_labels x", "labels x",
		"endpoint x", "kubeconfig x", "kubeconfig x y", "tls a b c", "apiserver_qps 1", "apiserver_burst 1", "apiserver_max_inflight 1",
		"startup_timeout 1s", "audit 1h", "audit 0", "wire off", "noendpoints", "endpoint_pod_names", "ignore empty_service", "fallthrough", "fallthrough x",
		"configmap x", "configmap y/x", "configmap x y", "manifests x", "manifests x y", "snapshot x", "snapshot y", "hosts", "hosts /x", "hosts /x /y", "hosts /x\nhosts /y",
		"hosts /x {\nttl 5\n}", "hosts /x {\nreload 0\n}", "hosts /x {\nno_reverse\n}", "hosts {\n10.0.0.1 x\n}", "hosts {\n10.0.0.1 x\n10.0.0.1 y\n}",
	} {
		h := hash(body)
		if other, ok := seen[h]; ok {
			t.Errorf("%q and %q have the same hash", body, other)
		}
		seen[h] = body
	}
	if mustParse(t, "kubehosts b").Hash() == plain {
		t.Error("zones are not in the hash")
	}
}
