package corefile

import (
	"strings"
	"testing"
)

const kubectlYAML = `apiVersion: v1
data:
  Corefile: |
    .:53 {
        errors
    }
  NodeHosts: |-
    10.0.0.1 node
  folded: >
    one
    two
  quoted: "one\ntwo \n"
kind: ConfigMap
metadata:
  name: coredns
  namespace: kube-system
`

func TestManifest(t *testing.T) {
	for name, text := range map[string]string{
		"YAML": kubectlYAML,
		"JSON": "{\n \"apiVersion\": \"v1\",\n \"data\": {\n  \"Corefile\": \".:53 {\\n    errors\\n}\\n\"\n },\n \"kind\": \"ConfigMap\",\n" +
			" \"metadata\": {\"name\": \"coredns\", \"namespace\": \"kube-system\"}\n}\n",
		"List":      "apiVersion: v1\nitems:\n- " + strings.ReplaceAll(strings.TrimSpace(kubectlYAML), "\n", "\n  ") + "\nkind: List\n",
		"documents": "---\nkind: Service\nmetadata:\n  name: a\n---\n" + kubectlYAML,
	} {
		t.Run(name, func(t *testing.T) {
			if !IsManifest(text) {
				t.Fatal("it is not recognized as a manifest")
			}
			all, err := Manifest("file", text)
			if err != nil {
				t.Fatal(err)
			}
			if len(all) != 1 || all[0].Name != "coredns" || all[0].Namespace != "kube-system" {
				t.Fatalf("%+v", all)
			}
			s := all[0].Keys["Corefile"]
			if s.Text != ".:53 {\n    errors\n}\n" {
				t.Errorf("%q", s.Text)
			}
			at := s.position(2)
			if line := strings.Split(text, "\n")[at.Line-1]; !strings.Contains(line, "errors") {
				t.Errorf("line 2 is %s, with %q", at, line)
			}
		})
	}
}

func TestManifestStyles(t *testing.T) {
	all, err := Manifest("file", kubectlYAML)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{"Corefile": 5, "NodeHosts": 9, "folded": 9, "quoted": 12} {
		s := all[0].Keys[key]
		if at := s.position(2); at.Line != want {
			t.Errorf("line 2 of %s is %s, want line %d", key, at, want)
		}
	}
}

func TestManifestErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"kind: ConfigMap\ndata: [\n", "not a manifest in YAML or JSON"},
		{"kind: ConfigMap\ndata:\n  a: b\n c: d\n", "file:3 - not a manifest"},
		{"kind: List\nitems: 7\n", "file:1 - it contains no ConfigMap"},
		{"a: &a [*a]\nkind: ConfigMap\n", ""},
		{"kind: ConfigMap\ndata: 7\n", ""},
	} {
		_, err := Manifest("file", tt.text)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
	if IsManifest(".:53 {\n forward . 1.1.1.1\n}\n") {
		t.Error("a Corefile is taken for a manifest")
	}
}

func TestMounted(t *testing.T) {
	keys := map[string]Source{"b.override": {Text: "b"}, "a.override": {Text: "a"}, "z.server": {Text: "z"}}
	for _, tt := range []struct{ pattern, want string }{
		{"custom/*.override", "ab"},
		{"./custom/z.server", "z"},
		{"custom/*.none", ""},
		{"other/*.override", "not there"},
		{"custom/gone", "there is no key gone"},
		{"custom/*.*", "the pattern may have one *"},
		{"custom/[", "syntax error in pattern"},
	} {
		all, ok, err := Mounted(tt.pattern, "custom", keys)
		got := ""
		for _, s := range all {
			got += s.Text
		}
		if !ok {
			got = "not there"
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", tt.pattern, got, tt.want)
		}
	}
}

// FuzzManifest reads manifests that may be nonsense.
func FuzzManifest(f *testing.F) {
	f.Add(kubectlYAML)
	f.Add("kind: List\nitems:\n- kind: ConfigMap\n  data: {a: &a b, c: *a}\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Manifest("file", text)
		if err != nil {
			return
		}
		for _, c := range all {
			for key, s := range c.Keys {
				if at := s.position(1); at.Line < 1 {
					t.Fatalf("key %q begins on line %d", key, at.Line)
				}
			}
		}
	})
}
