package test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// runOnce runs coredns until it exits and returns its output.
func runOnce(t *testing.T, args ...string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, coredns(t), args...).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("coredns %v still runs:\n%s", args, out)
	}
	return string(out), err
}

// An invalid Corefile prevents the start, with one line that contains the position and the reason.
func TestBadCorefiles(t *testing.T) {
	for _, tt := range []struct {
		stanza string // its first line is line 3 of the Corefile
		want   string // in the error
	}{
		{"kubehosts cluster.local {\nbogus\n}", "Corefile:4 - Error during parsing: unknown property 'bogus'"},
		{"kubehosts cluster.local {\npods maybe\n}", "Corefile:4 - Error during parsing: wrong value for pods: maybe"},
		{"kubehosts cluster.local {\npods\n}", "Corefile:4 - Error during parsing: Wrong argument count"},
		{"kubehosts cluster.local {\nttl 3601\n}", "Corefile:4 - Error during parsing: ttl must be in range [0, 3600]: 3601"},
		{"kubehosts cluster.local {\nttl\n}", "Corefile:4 - Error during parsing: Wrong argument count"},
		{"kubehosts cluster.local {\n\nendpoint\n}", "Corefile:5 - Error during parsing: Wrong argument count"},
		{"kubehosts cluster.local {\ntls a b\n}", "Corefile:4 - Error during parsing: Wrong argument count"},
		{"kubehosts cluster.local {\nkubeconfig\n}", "Corefile:4 - Error during parsing: Wrong argument count"},
		{"kubehosts cluster.local {\napiserver_qps fast\n}", "Corefile:4 - Error during parsing: invalid apiserver_qps \"fast\""},
		{"kubehosts cluster.local {\nstartup_timeout -1s\n}", "Corefile:4 - Error during parsing: failed to parse startup_timeout"},
		{"kubehosts cluster.local {\nnamespaces a\nnamespace_labels b=c\n}", "Corefile:5 - Error during parsing: namespaces and namespace_labels cannot both be set"},
		{"kubehosts cluster.local {\nlabels a in b\n}", "Corefile:4 - Error during parsing: unable to parse label selector value"},
		{"kubehosts cluster.local {\nignore nothing\n}", "Corefile:4 - Error during parsing: unable to parse ignore value"},
		{"kubehosts cluster.local {\nconfigmap a/b/c\n}", "Corefile:4 - Error during parsing: configmap 'a/b/c'"},
		{"kubehosts cluster.local {\nconfigmap a\nconfigmap b\n}", "Corefile:5 - Error during parsing: configmap may be given only once"},
		{"kubehosts cluster.local {\nhosts {\nttl 0\n}\n}", "Corefile:5 - Error during parsing: ttl provided is invalid"},
		{"kubehosts cluster.local {\nhosts {\n10.0.0.300 a.example\n}\n}", "Corefile:5 - Error during parsing: unknown property '10.0.0.300'"},
		{"kubehosts cluster.local {\nhosts {\n10.0.0.3\n}\n}", "Corefile:5 - Error during parsing: no name after the address"},
		{"kubehosts cluster.local {\nhosts {\nreload -5s\n}\n}", "Corefile:5 - Error during parsing: invalid negative duration"},
		{"kubehosts cluster.local {\nhosts [a-\n}", "Corefile:4 - Error during parsing: hosts: '[a-'"},
		{"kubehosts cluster.local {\nmanifests\n}", "Corefile:4 - Error during parsing: Wrong argument count"},
		{"kubehosts cluster.local {\n}\nkubehosts cluster.local {\n}", "Corefile:5 - Error during parsing:"},
		{"kubehosts cluster.local {\nhosts {\n10.0.0.3 a.example", "Unexpected EOF"},
		{"kubehosts cluster.local {\nkubeconfig /nonexistent/kubeconfig\n}", "/nonexistent/kubeconfig"},
		{"kubehosts cluster.local", "KUBERNETES_SERVICE_HOST"},
		{"kubehosts cluster.local", "to serve only hosts entries, write noservices"},
		{"kubehosts {\nhosts /etc/hosts corp.example 10.0.0.0/8 {\nfallthrough\n}\n}", "Corefile:4 - Error during parsing: hosts: '10.0.0.0/8' is a zone"},
		{"kubehosts {\nhosts /etc/hosts corp.example\n}", "Corefile:4 - Error during parsing: hosts: 'corp.example' is a zone"},
	} {
		conf := filepath.Join(t.TempDir(), "Corefile")
		port := cluster.FreePort()
		cluster.WriteFile(t, conf, ".:"+strconv.Itoa(port)+" {\nbind 127.0.0.1\n"+tt.stanza+"\n}\n")
		out, err := runOnce(t, "-conf", conf)
		if err == nil {
			t.Errorf("%s\nno error; output:\n%s", tt.stanza, out)
			continue
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "maxprocs: ") })
		if len(lines) != 1 || !strings.Contains(lines[0], tt.want) {
			t.Errorf("%s\nwant one line with %q, got:\n%s", tt.stanza, tt.want, strings.Join(lines, "\n"))
		}
	}
}

// stockPlugins returns the plugins of CoreDNS with their packages, from its plugin.cfg.
func stockPlugins(t *testing.T) map[string]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(cluster.ReadFile(t, filepath.Join(strings.TrimSpace(string(dir)), "plugin.cfg"))) {
		if name, pkg, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(line, "#") {
			all[name] = pkg
		}
	}
	return all
}

// The binary has every stock plugin, and kubehosts.
func TestPlugins(t *testing.T) {
	out, err := runOnce(t, "-plugins")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out) {
		if name := strings.TrimSpace(line); name != "" {
			got = append(got, name)
		}
	}
	want := []string{"kubehosts"}
	for name := range stockPlugins(t) {
		want = append(want, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if missing := slices.DeleteFunc(slices.Clone(want), func(n string) bool { return slices.Contains(got, n) }); len(want) < 50 || len(missing) > 0 {
		t.Errorf("of %d plugins these are missing: %q", len(want), missing)
	}
	if more := slices.DeleteFunc(got, func(n string) bool { return slices.Contains(want, n) }); len(more) > 0 {
		t.Errorf("more plugins than stock: %q", more)
	}
}

// The binary prints the versions of kubehosts and of CoreDNS.
func TestVersion(t *testing.T) {
	out, err := runOnce(t, "-version")
	if err != nil {
		t.Fatal(err)
	}
	commit := `[0-9a-f]{40}`
	if exec.Command("git", "rev-parse", "HEAD").Run() != nil { // not a checkout
		commit = `\(unknown\)`
	}
	if want := regexp.MustCompile(`^CoreDNS-1\.15\.0\nkubehosts-\S+, commit ` + commit + `\nlinux/`); !want.MatchString(out) {
		t.Errorf("-version prints\n%s", out)
	}
}

// A plugin that still refers to kubernetes causes a warning, at the start and after a reload, only in the server block
// of kubehosts.
func TestAutoPathOfKubernetes(t *testing.T) {
	const corefile = "other:PORT {\n\tbind 127.0.0.1\n\tautopath @kubernetes\n}\n" +
		".:PORT {\n\tbind 127.0.0.1\n\tready READY\n\tautopath @NAME\n\tkubehosts cluster.local {\n\t\tmanifests none.yaml\n\t}\n}\n"
	const warning = " - autopath @kubernetes has no effect, since this server block has no kubernetes plugin: write autopath @kubehosts"
	c := cluster.Run(t, coredns(t), strings.Replace(corefile, "NAME", "kubehosts", 1))
	if strings.Contains(c.Log(), warning) {
		t.Error("autopath @kubehosts is warned of")
	}
	c.Write(t, strings.Replace(corefile, "NAME", "kubernetes", 1))
	for n := 1; n <= 2; n++ {
		c.Reload(t)
		cluster.Eventually(t, bound, func() (bool, string) {
			return strings.Count(c.Log(), "Corefile:8"+warning) == n, fmt.Sprintf("%d warnings in\n%s", n, c.Log())
		})
	}
}

// A query reaches kubehosts after template and transfer, which precede hosts in the stock order, and before hosts.
func TestOrder(t *testing.T) {
	c := cluster.Run(t, coredns(t), `.:PORT {
	bind 127.0.0.1
	ready READY
	hosts {
		192.0.2.1 a.example b.example c.example
		fallthrough
	}
	kubehosts {
		hosts {
			192.0.2.2 a.example b.example
		}
	}
	template IN A a.example {
		answer "{{ .Name }} 60 IN A 192.0.2.3"
	}
}
`)
	udp := cluster.Dial(t, "udp", c.Addr)
	for name, want := range map[string]string{"a.example.": "192.0.2.3", "b.example.": "192.0.2.2", "c.example.": "192.0.2.1"} {
		if ip, err := address(udp, name); ip != want {
			t.Errorf("%s is %q, want %s: %v", name, ip, want, err)
		}
	}
	if m, err := udp.Ask("d.example.", dns.TypeA); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a name that nobody has: %v, %v", m, err)
	}
}
