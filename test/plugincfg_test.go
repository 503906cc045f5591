package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// TestPluginCfg compiles the plugin in like any external plugin: a line in CoreDNS's plugin.cfg, go generate, go
// build.
func TestPluginCfg(t *testing.T) {
	repo, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(in, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = in
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	source := run(repo, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns")
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	run(dir, "chmod", "-R", "u+w", ".") // files of the module cache are read-only

	cfg := filepath.Join(dir, "plugin.cfg")
	text := cluster.ReadFile(t, cfg)
	const line = "\nkubehosts:github.com/kubehosts/kubehosts/plugin"
	cluster.WriteFile(t, cfg, strings.Replace(text, "\nhosts:hosts", line+"\nhosts:hosts", 1))
	run(dir, "go", "run", "directives_generate.go")
	// Use the checkout's requirements, so that the build equals that of this repository's binary and little is
	// compiled.
	run(dir, "go", "mod", "edit", "-require=github.com/kubehosts/kubehosts@v0.0.0", "-replace=github.com/kubehosts/kubehosts="+repo)
	run(dir, "go", "build", "-mod=mod", "-o", "coredns", ".")

	bin := filepath.Join(dir, "coredns")
	if plugins := strings.Fields(run(dir, bin, "-plugins")); !slices.Contains(plugins, "kubehosts") || !slices.Contains(plugins, "kubernetes") {
		t.Errorf("the plugins are %v", plugins)
	}
	c := cluster.Run(t, bin, `.:PORT {
	bind 127.0.0.1
	ready READY
	kubehosts {
		hosts {
			192.0.2.1 one.example
		}
	}
	hosts {
		192.0.2.2 one.example two.example
	}
}
`)
	client := cluster.Dial(t, "udp", c.Addr)
	for name, want := range map[string]string{"one.example.": "192.0.2.1", "two.example.": "192.0.2.2"} {
		m, err := client.Ask(name, dns.TypeA)
		if err != nil || len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), want) {
			t.Errorf("%s: %v %v, want %s", name, m, err, want)
		}
	}
}
