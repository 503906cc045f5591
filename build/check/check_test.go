package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/autopath"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/root"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/view"
	_ "github.com/coredns/coredns/plugin/whoami"

	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// The setups of these plugins panic, or return errors without a line.
func init() {
	dnsserver.Directives = append(slices.Insert(slices.Clone(dnsserver.Directives), slices.Index(dnsserver.Directives, "hosts"), stanza.Name), "panics", "vague")
	plug := func(name string, setup caddy.SetupFunc) {
		caddy.RegisterPlugin(name, caddy.Plugin{ServerType: "dns", Action: setup})
	}
	plug("panics", func(*caddy.Controller) error { panic("out of range") })
	plug("vague", func(c *caddy.Controller) error {
		for c.Next() {
			if slices.Contains(c.RemainingArgs(), "bad") {
				return errors.New("something is wrong")
			}
		}
		return nil
	})
	for _, name := range []string{"route53", "clouddns", "azure", "etcd"} {
		plug(name, func(*caddy.Controller) error { return errors.New("asked the cloud") })
	}
}

// checked returns the findings for a Corefile, one per line.
func checked(t testing.TB, body string) string {
	t.Helper()
	text, err := corefile.Read(corefile.Source{Name: "Corefile", Text: body}, corefile.Files)
	if err != nil {
		t.Fatal(err)
	}
	lines := ""
	for _, f := range Corefile(text, map[string]corefile.Source{"mounted": {}}) {
		lines += f.String() + "\n"
	}
	return lines
}

func TestCorefile(t *testing.T) {
	here := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(here, []byte("10.0.0.1 a.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, body string
		want       []string // the beginning of each finding
	}{
		{"good", ".:53 {\n errors\n forward . 1.1.1.1\n loop\n}\n", nil},
		{"empty", "", []string{"Corefile:1: error: no server block has a plugin"}},
		{"some words", "edited by hand\n", []string{"Corefile:1: error: no server block has a plugin"}},
		{"comments alone", "# nothing\n(snippet) {\n errors\n}\n", []string{"Corefile:1: error: no server block has a plugin"}},
		{"unknown", ".:53 {\n bogus\n}\n", []string{"Corefile:2: error: Unknown directive 'bogus'"}},
		{"unbalanced", ".:53 {\n errors\n", []string{"Corefile:2: error: Syntax error"}},
		{"a setup with a line", ".:53 {\n errors {\n  consolidate x\n }\n}\n", []string{"Corefile:3: error: plugin/errors: "}},
		{"a setup without", ".:53 {\n errors\n\n forward . nowhere://x\n loop\n}\n", []string{"Corefile:4: error: plugin/forward: "}},
		{"a name of an upstream", ".:53 {\n errors\n forward . tls://dns.example 1.1.1.1 {\n  tls_servername a\n }\n loop\n}\n", []string{"Corefile:3: warning: upstream dns.example of forward is not checked"}},
		{"a file of upstreams", ".:53 {\n forward . /nonexistent/resolv.conf\n loop\n}\n", []string{"Corefile:2: error: plugin/forward: there is no file '/nonexistent/resolv.conf' here"}},
		{"of two server blocks", "a {\n forward . 1.1.1.1\n}\nb {\n forward . nowhere://x\n}\n", []string{"Corefile:5: error: plugin/forward: "}},
		{"two that are wrong", "a {\n forward . nowhere://x\n cache 0\n}\nb {\n cache 0\n}\n",
			[]string{"Corefile:2: error: plugin/forward: ", "Corefile:3: error: plugin/cache: ", "Corefile:6: error: plugin/cache: "}},
		{"an error without a plugin", ".:53 {\n errors\n vague good\n}\na {\n vague bad\n}\n", []string{"Corefile:5: error: something is wrong"}},
		{"a panic", ".:53 {\n errors\n panics\n}\n", []string{"Corefile:3: error: a setup panics: out of range"}},
		{"a panic and more", ".:53 {\n panics\n forward . nowhere://x\n loop\n}\n",
			[]string{"Corefile:2: error: a setup panics", "Corefile:3: error: plugin/forward: "}},
		{"one key twice", ".:53 {\n errors\n}\nexample.org {\n whoami\n}\n.:53 {\n whoami\n}\n", []string{"Corefile:7: error: cannot serve dns://.:53 - it is already defined"}},
		{"kubehosts", ".:53 {\n kubehosts cluster.local {\n  pods maybe\n }\n}\n", []string{"Corefile:3: error: plugin/kubehosts: wrong value for pods"}},
		{"kubehosts is not started", ".:53 {\n kubehosts cluster.local {\n  endpoint https://192.0.2.1\n  configmap kube-system/coredns\n }\n}\n", nil},
		{"a cloud", ".:53 {\n route53 a:b\n clouddns a:b:c\n azure a:b\n}\n", []string{
			"Corefile:2: warning: route53 is not checked: its setup contacts the cloud", "Corefile:3: warning: clouddns is not checked", "Corefile:4: warning: azure is not checked"}},
		{"etcd", ".:53 {\n etcd {\n  credentials a b\n }\n}\n", []string{"Corefile:2: warning: etcd is not checked: its setup logs in"}},
		{"glued", ".:53{\n errors\n}\n", []string{"Corefile:1: error: '.:53{' is read as one word"}},
		{"glued, below", ".:53 {\n errors\n}\nexample.org{\n whoami\n}\n", []string{"Corefile:4: error: 'example.org{' is read as one word"}},
		{"a brace too few", ".:53 {\n errors {\n }\n", []string{"Corefile:3: warning: the text ends before the last '}'"}},
		{"a brace too many", ".:53 {\n errors\n}\n}\n", []string{"Corefile:4: error: '}' is where a server block may begin"}},
		{"a brace too many inside", ".:53 {\n errors\n }\n whoami\n}\n", []string{"Corefile:5: error: '}' is where"}},
		{"cache", ".:53 {\n kubehosts cluster.local in-addr.arpa {\n  endpoint http://a\n }\n cache 30\n}\n", []string{
			"Corefile:5: warning: cache is ahead of live zones: its entries hide edits and changed objects; add 'disable success cluster.local.'"}},
		{"cache, half", ".:53 {\n kubehosts cluster.local {\n  endpoint http://a\n }\n cache 30 {\n  disable success cluster.local\n }\n}\n", []string{"Corefile:5: warning: cache is ahead"}},
		{"cache, spared", ".:53 {\n kubehosts cluster.local {\n  endpoint http://a\n }\n cache 30 {\n  disable success cluster.local\n  disable denial\n }\n}\n", nil},
		{"cache of another zone", ".:53 {\n kubehosts cluster.local {\n  endpoint http://a\n }\n cache 30 example.org\n}\n", nil},
		{"cache of external zones", ".:53 {\n kubehosts cluster.local {\n  endpoint http://a\n  external example.org\n  external example.net\n }\n cache 30 {\n  disable success cluster.local example.net\n  disable denial cluster.local example.net\n }\n}\n", []string{
			"Corefile:7: warning: cache is ahead of live zones: its entries hide edits and changed objects; add 'disable success example.org.'"}},
		{"cache of external zones alone", "example.org {\n kubehosts {\n  endpoint http://a\n  external example.org\n }\n cache\n}\n", []string{
			"Corefile:6: warning: cache is ahead of live zones: its entries hide edits and changed objects; add 'disable success example.org.'"}},
		{"cache before hosts", ".:53 {\n kubehosts {\n  hosts " + here + "\n }\n cache\n}\n", []string{"Corefile:5: warning: cache is ahead of live hosts entries"}},
		{"no loop", ".:53 {\n forward . 1.1.1.1\n}\n", []string{"Corefile:2: warning: forward without loop"}},
		{"no loop in a stub domain", "corp.example {\n forward . 10.0.0.1\n}\n", nil},
		{"no loop, one name", ".:53 {\n forward corp.example 10.0.0.1\n}\n", nil},
		{"forward to itself", ".:53 {\n forward . 127.0.0.1\n loop\n}\n", []string{"Corefile:2: error: forward sends queries back to this server block, which listens on 127.0.0.1"}},
		{"forward to itself, a port", ".:1053 {\n forward . 1.1.1.1 dns://[::1]:1053 {\n  max_fails 0\n }\n loop\n}\n", []string{"Corefile:2: error: forward sends queries back"}},
		{"forward to itself, bind", ".:53 {\n bind 10.0.0.1\n forward corp.example 10.0.0.1:53\n}\n", []string{"Corefile:3: error: forward sends queries back"}},
		{"forward to itself, bind to all", ".:53 {\n bind 0.0.0.0\n forward corp.example 127.0.0.53\n}\n", []string{"Corefile:3: error: forward sends queries back"}},
		{"forward beside it", "corp.example {\n bind 10.0.0.1\n forward . 127.0.0.1 10.0.0.2 10.0.0.1:54 tls://10.0.0.1\n}\nb:54 {\n forward . 127.0.0.1:53\n}\n", nil},
		{"forward to another view", ".:53 {\n view v {\n  expr incidr(client_ip(), '10.0.0.0/8')\n }\n forward . 127.0.0.1\n loop\n}\n", nil},
		{"hosts file", ".:53 {\n hosts /nonexistent/hosts\n}\n", []string{"Corefile:2: warning: hosts file '/nonexistent/hosts' does not exist"}},
		{"hosts file of kubehosts", ".:53 {\n kubehosts {\n  hosts /nonexistent/*.hosts " + here + "\n }\n}\n", []string{"Corefile:3: warning: hosts file '/nonexistent/*.hosts' does not exist"}},
		{"hosts file below root", ".:53 {\n root " + filepath.Dir(here) + "\n hosts hosts\n}\n", nil},
		{"hosts file that is mounted", ".:53 {\n hosts /etc/coredns/mounted\n}\n", nil},
		{"inline hosts", ".:53 {\n hosts {\n  10.0.0.1 a\n }\n}\n", nil},
		{"two forward", ".:53 {\n forward . 1.1.1.1\n forward . 1.0.0.1\n forward corp.example 10.0.0.1\n loop\n}\n", []string{"Corefile:3: warning: a second forward of .: the first, Corefile:2, answers everything"}},
		{"two forward, the next", ".:53 {\n forward . 1.1.1.1 {\n  next NXDOMAIN\n }\n forward . 1.0.0.1\n loop\n}\n", nil},
		{"autopath", ".:53 {\n autopath @kubernetes\n kubehosts cluster.local {\n  endpoint http://a\n }\n}\n", []string{"Corefile:2: warning: autopath @kubernetes has no effect"}},
		{"bind", ".:53 {\n bind 127.0.0.1\n whoami\n}\nexample.org {\n whoami\n}\n", []string{"Corefile:2: warning: bind 127.0.0.1 on port 53, which the server block of Corefile:5 has on all addresses"}},
		{"bind on another port", ".:53 {\n bind 127.0.0.1\n whoami\n}\nexample.org:54 {\n whoami\n}\n", nil},
		{"bind everywhere", ".:53 {\n bind 127.0.0.1\n whoami\n}\nexample.org {\n bind 127.0.0.2\n whoami\n}\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Split(strings.TrimSuffix(checked(t, tt.body), "\n"), "\n")
			if got[0] == "" {
				got = nil
			}
			same := slices.EqualFunc(got, tt.want, strings.HasPrefix)
			if !same {
				t.Errorf("%s\ngot\n%s\nwant\n%s", tt.body, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// The stock kubernetes plugin's setup fails outside a cluster unless it gets an API server.
func TestOutsideCluster(t *testing.T) {
	for body, want := range map[string]string{
		"a {\n kubernetes cluster.local\n}\n":                      "kubernetes cluster.local { | endpoint http://127.0.0.1:1 | }",
		"a {\n kubernetes cluster.local {\n  ttl 5\n }\n}\n":       "kubernetes cluster.local { | endpoint http://127.0.0.1:1 | ttl 5 | }",
		"a {\n kubernetes {\n  endpoint http://b\n }\n}\n":         "kubernetes { | endpoint http://b | }",
		"a {\n kubernetes {\n  kubeconfig /nonexistent x\n }\n}\n": "kubernetes { | kubeconfig /nonexistent x | }",
	} {
		text, err := corefile.Read(corefile.Source{Name: "Corefile", Text: body}, corefile.Files)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := text.Blocks(nil)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, line := range corefile.Lines(outsideCluster(blocks[0].Directives["kubernetes"])) {
			lines = append(lines, strings.Join(textsOf(line), " "))
		}
		if got := strings.Join(lines, " | "); got != want {
			t.Errorf("%q became %q, want %q", body, got, want)
		}
	}
}

const manifest = `apiVersion: v1
kind: ConfigMap
metadata:
  name: coredns
data:
  Corefile: |
    .:53 {
        errors
        forward . nowhere://x
        loop
    }
`

func TestMain(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", ".:53 {\n kubehosts cluster.local {\n  endpoint http://a\n }\n forward . 1.1.1.1\n loop\n}\n")
	restart := file("restart", ".:53 {\n kubehosts cluster.local {\n  endpoint http://a\n }\n forward . 1.0.0.1\n loop\n}\n")
	fixed := file("fixed", ".:53 {\n kubehosts cluster.local {\n  endpoint http://b\n }\n forward . 1.1.1.1\n loop\n}\n")
	inPlace := file("inplace", ".:53 {\n kubehosts cluster.local example.org {\n  endpoint http://a\n  ttl 7\n }\n forward . 1.1.1.1\n loop\n}\n")
	warns := file("warns", ".:53 {\n forward . 1.1.1.1\n}\n")
	bounded := file("bounded", ".:53 {\n kubehosts cluster.local {\n  endpoint http://a\n  configmap kube-system/coredns\n }\n}\n")
	beyond := file("beyond", ".:53 {\n kubehosts example.org {\n  configmap kube-system/coredns\n  ttl 7\n }\n}\n")
	within := file("within", ".:53 {\n kubehosts cluster.local {\n  endpoint http://a\n  configmap kube-system/coredns\n  ttl 7\n }\n}\n")
	custom := file("custom", "kind: ConfigMap\nmetadata:\n  name: coredns-custom\ndata:\n  a.override: |\n    errors\n    forward . nowhere://x\n  b.server: |\n    b {\n        cache 0\n    }\n")
	list := file("list", "kind: List\nitems:\n- kind: ConfigMap\n  metadata: {name: coredns}\n  data:\n    Corefile: |\n      . {\n          import custom/*.override\n          loop\n      }\n"+
		"- kind: ConfigMap\n  metadata: {name: coredns-custom}\n  data:\n    a.override: |\n      forward . nowhere://x\n")
	for _, tt := range []struct {
		args  string
		stdin string
		code  int
		want  []string // parts of the lines on stdout
	}{
		{"-conf " + good, "", 0, nil},
		{"-conf -", ".:53 {\n bogus\n}\n", 1, []string{"stdin:2: error: Unknown directive 'bogus'"}},
		{"-conf -", manifest, 1, []string{"stdin:9: error: plugin/forward: "}},
		{"-conf " + warns, "", 0, []string{"warns:2: warning: forward without loop"}},
		{"-strict -conf " + warns, "", 1, []string{"warns:2: warning: forward without loop"}},
		{"-conf " + custom, "", 1, []string{"custom:7: error: plugin/forward", "custom:10: error: plugin/cache"}},
		{"-conf -", "kind: ConfigMap\ndata:\n  Corefile: \"\"\n", 1, []string{"stdin:3: error: no server block has a plugin"}},
		{"-conf -", "kind: ConfigMap\nmetadata: {name: coredns-custom}\ndata:\n  a.server: \"# none\"\n  b.override: \"\"\n", 0, nil},
		{"-conf " + list, "", 1, []string{"list:15: error: plugin/forward"}},
		{"-conf -", "kind: ConfigMap\ndata:\n  other: x\n", 1, []string{"stdin:1: error: no ConfigMap in it has a key Corefile"}},
		{"-conf -", "kind: ConfigMap\ndata: [\n", 1, []string{"stdin:2: error: not a manifest"}},
		{"-conf -", "import nonexistent\n", 1, []string{"stdin:1: error: import nonexistent:"}},
		{"-conf " + good + " -base " + good, "", 0, []string{"good:1: note: nothing to apply"}},
		{"-conf " + restart + " -base " + good, "", 0, []string{"restart:1: note: applied with a restart of the server blocks, because of forward in the server block of " + restart + ":1"}},
		{"-conf " + fixed + " -base " + good, "", 0, []string{"fixed:1: note: applied with a restart of the server blocks, because of endpoint in the kubehosts stanza of " + fixed + ":2"}},
		{"-conf " + inPlace + " -base " + good, "", 0, []string{"inplace:2: note: applied in place"}},
		{"-conf " + beyond + " -base " + bounded, "", 1, []string{"beyond:2: error: refused by the server block of " + bounded + ":1, whose last good stanza goes on serving: the ConfigMap may not add zone example.org."}},
		{"-conf " + within + " -base " + bounded, "", 0, []string{"within:2: note: applied in place"}},
		{"-conf - -base " + good, ".:53 {\n bogus\n}\n", 1, []string{"stdin:2: error: Unknown directive"}},
		{"-conf /nonexistent/Corefile", "", 2, nil},
		{"-conf " + good + " -base /nonexistent/Corefile", "", 2, nil},
		{"-conf - -base -", "", 2, nil},
		{"extra", "", 2, nil},
		{"-bogus", "", 2, nil},
	} {
		for _, asJSON := range []bool{false, true} {
			args := strings.Fields(tt.args)
			if asJSON {
				args = append([]string{"-json"}, args...)
			}
			var stdout, stderr bytes.Buffer
			code := Main(args, strings.NewReader(tt.stdin), &stdout, &stderr)
			got := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
			if stdout.Len() == 0 {
				got = nil
			}
			if asJSON {
				for i := range got {
					var f Finding
					if err := json.Unmarshal([]byte(got[i]), &f); err != nil {
						t.Fatalf("%s: %v in %s", tt.args, err, got[i])
					}
					got[i] = f.String()
				}
			}
			if code != tt.code || !slices.EqualFunc(got, tt.want, strings.Contains) {
				t.Errorf("coredns check %v: exit code %d, want %d; got\n%s\nwant\n%s", args, code, tt.code, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if (stderr.Len() > 0) != (code == exitUsage) {
				t.Errorf("coredns check %v: on stderr %q", args, stderr.String())
			}
		}
	}
}

// FuzzCorefile checks Corefiles that may be nonsense.
func FuzzCorefile(f *testing.F) {
	f.Add(".:53 {\n errors\n kubehosts cluster.local {\n  endpoint http://a\n  hosts x {\n   10.0.0.1 a\n  }\n }\n cache 30 {\n  disable success\n }\n forward . 1.1.1.1\n}\n")
	f.Add(".:53{\n}\na b:1,\nc {\n bind ::1\n hosts\n template ANY ANY {\n  answer \"{{\"\n }\n}\n")
	f.Add("kind: ConfigMap\ndata:\n  Corefile: |\n    . {\n    }\n")
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(body, "import /") || strings.Contains(body, "..") {
			return // no files are read here
		}
		units, _ := unitsOf(corefile.Source{Name: "Corefile", Text: body, Dir: t.TempDir()})
		for _, u := range units {
			all := u.check()
			for _, finding := range all {
				if strings.ContainsAny(finding.String(), "\n\r") {
					t.Fatalf("a finding of more than one line: %q", finding)
				}
			}
			if !IsWrong(all) {
				Edit(u.text, u.text)
			}
		}
	})
}
