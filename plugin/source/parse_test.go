package source

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf16"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"go.yaml.in/yaml/v3"
	sigs "sigs.k8s.io/yaml"

	work "github.com/kubehosts/kubehosts/plugin/growth"
	"github.com/kubehosts/kubehosts/plugin/services"
)

const svcJSON = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"clusterIP":"10.0.0.1"}}`

func TestParse(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // kind namespace/name:line, one a word
	}{
		{"nothing", "", ""},
		{"comments", "# nothing\n---\n# here\n---\n", ""},
		{"one", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n", "Service default/web:1"},
		{"several", "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n\n" +
			"apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: a}\n---\n" +
			"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n...\n---\n" +
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: a}\n",
			"Namespace /a:2 Pod a/p:7 ConfigMap a/c:16"},
		{"list", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n" +
			"- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: v1\n    kind: Service\n    metadata: {name: b}\n",
			"Service default/a:4 Service default/b:10"},
		{"kind after items", "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\nkind: List\n", "Service default/a:3"},
		{"empty list", "apiVersion: v1\nkind: List\nitems: []\n---\napiVersion: v1\nkind: List\nitems:\n", ""},
		{"typed list", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSliceList\nitems:\n- metadata: {name: a, namespace: x}\n", "EndpointSlice x/a:4"},
		{"JSON", "\n" + svcJSON + "\n\n" + svcJSON, "Service default/web:2 Service default/web:4"},
		{"JSON list", `{"kind":"List","apiVersion":"v1","items":[` + "\n" + svcJSON + ",\n" + svcJSON + "]}", "Service default/web:2 Service default/web:3"},
		{"JSON typed list", `{"kind":"ServiceList","apiVersion":"v1","items":[` + "\n" + `{"metadata":{"name":"a","namespace":"b"}}]}`, "Service b/a:2"},
		{"JSON between YAML", "---\n" + svcJSON + "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n", "Service default/web:2 Service default/b:4"},
		{"JSON separated like YAML", svcJSON + "\n---\n" + svcJSON + "\n--- # a comment\n\n" + svcJSON + "\n---\n---\r\n" + svcJSON + "\n",
			"Service default/web:1 Service default/web:3 Service default/web:6 Service default/web:9"},
		{"YAML after JSON", svcJSON + "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n---\n" + svcJSON, "Service default/web:1 Service default/b:3 Service default/web:7"},
		{"dashes in JSON", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"b` + `\n---\nc"}}` + "\n", "ConfigMap default/c:1"},
		{"UTF-16", utf16le("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"), "Service default/web:1"},
		{"JSON in UTF-16", utf16le(svcJSON), "Service default/web:1"},
		{"booleans", "apiVersion: v1\nkind: Service\nmetadata: {name: n, namespace: on}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {publishNotReadyAddresses: yes}\n",
			"Service on/n:1 Service default/a:5"},
		{"Endpoints", "apiVersion: v1\nkind: EndpointsList\nitems:\n- metadata: {name: web}\n- metadata: {name: db, namespace: x}\n", "Endpoints default/web:4 Endpoints x/db:5"},
		{"EndpointSlices of v1beta1", "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a}\n", "EndpointSlice default/a:1"},
		{"flow style", "{apiVersion: v1, kind: Service, metadata: {name: web}}", "Service default/web:1"},
		{"byte order mark", "\uFEFFapiVersion: v1\nkind: Service\nmetadata: {name: web}\n", "Service default/web:1"},
		{"carriage returns", "apiVersion: v1\r\nkind: Service\r\nmetadata: {name: web}\r\n---\r\n", "Service default/web:1"},
		{"anchors", "apiVersion: v1\nkind: Service\nmetadata: &m {name: web}\n---\napiVersion: v1\nkind: List\nitems:\n- &a\n  apiVersion: v1\n  kind: Pod\n  metadata: {name: p}\n- *a\n",
			"Service default/web:1 Pod default/p:8 Pod default/p:8"},
		{"merge keys", "apiVersion: v1\nkind: Service\nx: &x {name: a, namespace: b}\nmetadata: {<<: [*x, {name: c}], name: d}\n", "Service b/d:1"},
		{"dates and numbers", "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {d: 2020-01-01}, creationTimestamp: 2020-01-01T00:00:00Z}\n", "Service default/web:1"},
		{"keys that aren't strings", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {1: a, true: b}\n", "ConfigMap default/c:1"},
		{"ServiceImports", "apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceImport\nmetadata: {name: a}\n---\n" +
			"apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceImportList\nitems:\n- metadata: {name: b, namespace: x}\n",
			"ServiceImport default/a:1 ServiceImport x/b:8"},
		{"the Service of another", "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\n", ""},
		{"finished and terminating pods", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {phase: Succeeded}\n---\n" +
			"apiVersion: v1\nkind: Pod\nmetadata: {name: b, deletionTimestamp: \"2020-01-01T00:00:00Z\"}\n", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse("f", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, m := range got {
				words = append(words, m.kind+" "+m.name.String()+strings.TrimPrefix(m.at(), "f"))
			}
			if s := strings.Join(words, " "); s != tc.want {
				t.Errorf("got  %q\nwant %q", s, tc.want)
			}
		})
	}
}

// utf16le is the encoding that PowerShell uses for a program's output.
func utf16le(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune("\uFEFF" + s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// Scalars have the same value as in kubectl, which uses sigs.k8s.io/yaml.
func TestParseScalars(t *testing.T) {
	scalars := []string{
		"y", "Y", "yes", "Yes", "YES", "yES", "on", "On", "ON", "oN", "n", "N", "no", "No", "NO", "off", "Off", "OFF", "true", "True", "TRUE", "false",
		"'yes'", `"on"`, "!!str no", "|-\n    yes", ">-\n    off", "~", "null", "", "1", "-1", "+1", "0x10", "0o10", "010", "0b10", "1_000", "1.5", "1e3", ".5", "1.", "0",
		"2026-11-26", "2026-11-26T00:00:00Z", "12:30:45", "a", "=", "-", "18446744073709551615", "'1'", "*", "yes no", "[yes, n]", "{on: off}", "{1: yes, y: 2}",
	}
	for _, s := range scalars {
		text := "a:\n  b: " + s + "\n"
		want, wantErr := sigs.YAMLToJSON([]byte(text))
		var doc yaml.Node
		var got []byte
		err := yaml.Unmarshal([]byte(text), &doc)
		if err == nil {
			var v any
			if v, err = (&parser{budget: growth, yes: true}).value(doc.Content[0], false, 0); err == nil {
				got, err = json.Marshal(v)
			}
		}
		if (err == nil) != (wantErr == nil) || err == nil && string(got) != string(want) {
			t.Errorf("%s is %s (%v), and in kubectl %s (%v)", s, got, err, want, wantErr)
		}
	}
}

// An object that was probably meant to be served is not skipped silently.
func TestParsePassedOver(t *testing.T) {
	var b bytes.Buffer
	clog.SetOutput(&b)
	defer clog.SetOutput(os.Stderr)
	text := "apiVersion: discovery.k8s.io/v9\nkind: EndpointSlice\nmetadata: {name: a}\n---\n"
	text += text + "apiVersion: v1\nkind: service\nmetadata: {name: a}\n---\n"
	text += "apiVersion: v2\nkind: Service\nmetadata: {name: a}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n---\n"
	text += "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n---\n"
	text += "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\n---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TLSRoute\nmetadata: {name: a}\n"
	if got, err := parse("f", []byte(text)); err != nil || len(got) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
	for _, want := range []string{
		"f: 2 objects of kind EndpointSlice and version discovery.k8s.io/v9 are skipped",
		"f: 1 objects of kind service and version v1 are skipped",
		"f: 1 objects of kind Service and version v2 are skipped",
		"f: 1 objects of kind TLSRoute and version gateway.networking.k8s.io/v1alpha2 are skipped",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if n := strings.Count(b.String(), "\n"); n != 4 {
		t.Errorf("%d lines, want 4:\n%s", n, b.String())
	}
}

func TestParseErrors(t *testing.T) {
	deep := strings.Repeat(`{"apiVersion":"v1","kind":"List","items":[`, maxNesting+2) + strings.Repeat("]}", maxNesting+2)
	bomb := "a: &a " + strings.Repeat("x", 1<<20) + "\nb: [" + strings.Repeat("*a,", 1000) + "*a]\napiVersion: v1\nkind: Service\n"
	tests := []struct {
		name, text, want string
	}{
		{"a scalar", "\n\nhello\n", "f:3: the document is not an object"},
		{"a sequence", "- a\n", "f:1: the document is not an object"},
		{"a JSON scalar", svcJSON + "\n1", "f:2: the document is not an object"},
		{"no kind", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n\na: b\n", "f:6: an object without kind and apiVersion"},
		{"an item that isn't an object", "apiVersion: v1\nkind: List\nitems:\n- a\n", "f:4: the document is not an object"},
		{"no name", "---\napiVersion: v1\nkind: Service\n", "f:2: Service without metadata.name"},
		{"bad YAML", "apiVersion: v1\nkind: Service\n  metadata: {\n", "f:3: mapping values are not allowed"},
		{"tab", "a:\n\tb: c\n", "f:2: found character that cannot start any token"},
		{"key twice", "apiVersion: v1\nkind: Service\nkind: Pod\nmetadata: {name: a}\n", `f:3: duplicate key "kind"`},
		{"bad JSON", svcJSON + "\n{", "f:2: no JSON: unexpected EOF"},
		{"wrong type", "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {ports: 1}\n", "f:1: Service b/a: json: cannot unmarshal number"},
		{"wrong type in a list", "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n  spec: {ports: 1}\n", "f:5: Service b: json: cannot"},
		{"Lists in Lists", deep, "f:1: Lists nested more than 10 deep"},
		{"an alias of itself", "apiVersion: v1\nkind: Service\nmetadata: &a\n  b: *a\n", "f:3: nested more than 10000 deep"},
		{"aliases that are large", bomb, "f:1: aliases make the file too large"},
		{"a mapping as a key", "apiVersion: v1\nkind: Service\nmetadata:\n  {a: b}: c\n", "f:4: the key is not a string"},
		{"a merged scalar", "apiVersion: v1\nkind: Service\nmetadata:\n  <<: a\n", "f:4: << does not merge a mapping"},
		{"not a number", "apiVersion: v1\nkind: Service\nmetadata: {name: !!int a}\n", `f:3: "a" is not of type !!int`},
		{"booleans for strings", "apiVersion: v1\nkind: Service\nmetadata: {name: on}\nspec: {publishNotReadyAddresses: yes}\n", "f:1: Service true: json: cannot unmarshal bool"},
		{"bad YAML after JSON", svcJSON + "\n---\na: b\n  c: d\n", "f:4: mapping values are not allowed"},
		{"no kind after JSON", svcJSON + "\n---\n\na: b\n", "f:4: an object without kind and apiVersion"},
		{"bad JSON after JSON", svcJSON + "\n---\n" + svcJSON + "\n{", "f:4: no JSON: unexpected EOF"},
		{"a boolean twice", "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {yes: a, on: b}}\nspec: {publishNotReadyAddresses: no}\n", `f:3: duplicate key "on"`},
		{"bytes", "\x00\x01", "f: control characters are not allowed"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse("f", []byte(tc.text))
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, %v\nwant %s", got, err, tc.want)
			}
		})
	}
	lists := "apiVersion: v1\nkind: List\nitems:\n- &a0 {apiVersion: v1, kind: List, items: []}\n"
	for i := range maxNesting - 2 {
		lists += fmt.Sprintf("- &a%d {apiVersion: v1, kind: List, items: [%s]}\n", i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 100))
	}
	if _, err := parse("f", []byte(lists)); err == nil || !strings.Contains(err.Error(), "aliases") {
		t.Errorf("Lists of Lists of Lists: %v", err)
	}
	if _, err := parse("f", []byte(strings.Repeat("a: b\n", 1<<17))); err == nil || err.Error() != `f:2: duplicate key "a"` {
		t.Errorf("a key again and again: %v", err)
	}
}

func TestParseDefaults(t *testing.T) {
	got, err := parse("f", []byte(`
apiVersion: v1
kind: Service
metadata: {name: web, labels: {a: b}}
spec: {ports: [{port: 80}, {port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}}]
ports: [{port: 80}]
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {k: v}
binaryData: {b: AAE=}
`))
	if err != nil {
		t.Fatal(err)
	}
	web, slice, ns, cm := got[0], got[1], got[2], got[3]
	if p := web.service.Ports; !web.addresses || p[0] != (services.Port{Protocol: "TCP", Number: 80}) || p[1].Protocol != "UDP" {
		t.Errorf("Service: %+v", web.service)
	}
	if web.labels["a"] != "b" {
		t.Errorf("labels: %v", web.labels)
	}
	if p := slice.slice.Ports; p[0] != (services.Port{Protocol: "TCP", Number: 80}) {
		t.Errorf("EndpointSlice: %+v", slice.slice)
	}
	if a, b := slice.slice.Endpoints[0].Name, slice.slicePods.Endpoints[0].Name; a != "" || b != "p" {
		t.Errorf("endpoint names %q and, with pod names, %q", a, b)
	}
	if ns.labels["kubernetes.io/metadata.name"] != "a" {
		t.Errorf("labels of the Namespace: %v", ns.labels)
	}
	if d := cm.configMap.Data; d["k"] != "v" || d["b"] != "\x00\x01" || !cm.configMap.Found || cm.configMap.ResourceVersion == "" {
		t.Errorf("ConfigMap: %+v", cm.configMap)
	}
}

func FuzzManifests(f *testing.F) {
	for _, s := range []string{
		svcJSON, svcJSON + "\n" + svcJSON,
		"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: web}\n  spec: {clusterIPs: [10.0.0.1, fd00::1]}\n",
		"apiVersion: discovery.k8s.io/v1\nkind: EndpointSliceList\nitems:\n- metadata: {name: a, labels: {kubernetes.io/service-name: web}}\n  endpoints: [{addresses: [10.0.0.1]}]\n",
		"apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceImport\nmetadata: {name: a}\nspec: {type: ClusterSetIP, ips: [10.0.0.1], ports: [{port: 80}]}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {podIPs: [{ip: 10.0.0.1}]}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\nbinaryData: {b: AAE=}\n",
		svcJSON + "\n---\n" + svcJSON + "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n",
		"apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\nsubsets: [{addresses: [{ip: 10.0.0.1, hostname: a}, {ip: fd00::1}], notReadyAddresses: [{ip: 10.0.0.2}], ports: [{name: http, port: 80}]}]\n",
		"apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a, labels: {kubernetes.io/service-name: web}}\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: no}, topology: {topology.kubernetes.io/zone: a}}]\n",
		utf16le("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"),
		"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec: {rules: [{host: a.b}]}\nstatus: {loadBalancer: {ingress: [{ip: 10.0.0.1}]}}\n",
		"apiVersion: v1\nkind: Node\nmetadata: {name: a}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.1}]}\n",
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {hostnames: [a.b], parentRefs: [{name: g}]}\nstatus: {parents: []}\n",
		"a: &a [*a]\n", "a: &a {<<: *a}\n", "? {a: b}\n: c\n", "{apiVersion: v1, kind: Namespace, metadata: {name: ~}}", "%YAML 1.1\n---\n...\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parse("f", b)
		if err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("an error without the place: %v", err)
		}
		size := 0
		for _, m := range got {
			if m.name.name == "" {
				t.Error("an object without a name")
			}
			if (m.kind != kindNamespace && m.kind != kindNode) != (m.name.namespace != "") {
				t.Errorf("%s %v", m.kind, m.name)
			}
			text, err := json.Marshal(m.service)
			if err != nil {
				t.Error(err)
			}
			size += len(text)
			if m.service != nil {
				packService(m.kind, *m.service)
			}
			if m.slice != nil {
				packSlice(m.slice, m.labels)
				packImportedSlice(m.slicePods, m.labels)
			}
			if m.pod != nil {
				packPod(m.pod)
			}
			for _, slice := range m.mirrored {
				packSlice(slice.slice, slice.labels)
			}
		}
		if size > 100*len(b)+100*growth {
			t.Errorf("%d bytes grew to %d", len(b), size)
		}
	})
}

// Four times as many objects in one file take four times the work, or a little more, and so do the parts of one object.
func TestWorkGrowsWithTheManifest(t *testing.T) {
	const service = `{apiVersion: v1, kind: Service, metadata: {name: web%d, namespace: shop}, spec: {clusterIP: 10.0.0.1}}`
	repeat := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for what, text := range map[string]func(n int) string{
		"documents": func(n int) string { return repeat(n, service+"\n---\n") },
		"documents of JSON": func(n int) string {
			return repeat(n, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web%d"}}`)
		},
		"items of a List": func(n int) string { return "apiVersion: v1\nkind: List\nitems:\n" + repeat(n, "- "+service+"\n") },
		"annotations": func(n int) string {
			return "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations:\n" + repeat(n, "    a%d: b\n")
		},
		"endpoints": func(n int) string {
			return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints:\n" + repeat(n, "- {addresses: [10.0.0.1], hostname: h%d}\n")
		},
		"anchors and aliases": func(n int) string {
			return "apiVersion: v1\nkind: List\nitems:\n" + repeat(n, "- &a%[1]d {apiVersion: v1, kind: Service, metadata: {name: &n%[1]d web%[1]d, labels: {a: *n%[1]d}}}\n")
		},
		"comments": func(n int) string { return repeat(n, "# %d\n") + service },
	} {
		t.Run(what, func(t *testing.T) {
			work.Linear(t, 400, func(n int) []work.Work {
				text := []byte(text(n))
				return []work.Work{work.Of(func() {
					if _, err := parse("f", text); err != nil {
						t.Fatal(err)
					}
				})}
			})
		})
	}
}
