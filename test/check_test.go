package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// check runs `coredns check` and returns its output and exit code.
func check(t *testing.T, stdin string, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), coredns(t), append([]string{"check"}, args...)...)
	cmd.Dir, cmd.Stdin = "..", strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if errs.Len() > 0 && cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("coredns check %v: on stderr %s", args, errs.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// The Corefiles of distributions are valid in each of their forms, and a bad line in each is reported with its
// position.
func TestCheckDistributions(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.yaml")
	if err != nil || len(files) < 11 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			good := string(body)
			if out, code := check(t, good, "-conf", "-"); code != 0 || strings.Contains(out, " error: ") {
				t.Errorf("exit code %d:\n%s", code, out)
			}
			out, code := check(t, good, "-conf", "-", "-strict")
			if lacksLoop := file == "testdata/check/openshift.yaml"; (code == 1) != lacksLoop || lacksLoop != strings.Contains(out, "forward without loop") {
				t.Errorf("-strict: exit code %d:\n%s", code, out)
			}
			for i, line := range strings.Split(good, "\n") {
				for _, name := range []string{"forward ", "cache ", "errors"} {
					if !strings.HasPrefix(strings.TrimSpace(line), name) {
						continue
					}
					lines := strings.Split(good, "\n")
					lines[i] = strings.Replace(line, strings.TrimSpace(name), "bogus", 1)
					want := "stdin:" + strconv.Itoa(i+1) + ": error: Unknown directive 'bogus'\n"
					if out, code := check(t, strings.Join(lines, "\n"), "-conf", "-"); code != 1 || !strings.Contains(out, want) {
						t.Errorf("exit code %d, want %q in\n%s", code, want, out)
					}
				}
			}
		})
	}
}

// Our own Corefiles are valid, too, and no plugin in them hides a live zone.
func TestCheckOwnCorefiles(t *testing.T) {
	for _, file := range []string{"corefile.example", "build/kubernetes/base/Corefile", "build/kubernetes/kubeadm/Corefile", "build/kubernetes/second/Corefile"} {
		if out, code := check(t, "", "-strict", "-conf", file); code != 0 || out != "" {
			t.Errorf("%s: exit code %d:\n%s", file, code, out)
		}
	}
}

// Every stock plugin's setup checks its stanza, without contact to an API server or a cloud, and without opening a
// listener.
func TestCheckSetups(t *testing.T) {
	dir := t.TempDir()
	port := strconv.Itoa(cluster.FreePort())
	for _, tt := range []struct {
		stanza string // on line 2
		want   string // the only finding; "" for none
	}{
		{"acl {\n allow type\n}", "plugin/acl: "},
		{"any x", "plugin/any: "},
		{"auto {\n directory " + dir + " (.*) {2\n}", ""},
		{"autopath", "plugin/autopath: no resolv-conf specified"},
		{"bufsize 100", "plugin/bufsize: "},
		{"chaos a b", ""},
		{"dns64 x", "plugin/dns64: "},
		{"dnssec {\n key file /nonexistent/K\n}", "plugin/dnssec: "},
		{"dnstap", "plugin/dnstap: "},
		{"etcd {\n bogus\n}", "plugin/etcd: unknown property 'bogus'"},
		{"etcd {\n endpoint http://192.0.2.1:2379\n}", ""},
		{"file /nonexistent/zone example.org {\n reload 0\n}", "plugin/file: "},
		{"geoip /nonexistent/db", "plugin/geoip: "},
		{"grpc . nowhere", "plugin/grpc: "},
		{"header {\n response bogus\n}", "plugin/header: "},
		{"health 127.0.0.1:" + port, ""},
		{"k8s_external", ""},
		{"kubernetes cluster.local", ""},
		{"kubernetes cluster.local {\n pods maybe\n}", "plugin/kubernetes: wrong value for pods"},
		{"loadbalance bogus", "plugin/loadbalance: "},
		{"log . {\n class bogus\n}", "plugin/log: "},
		{"minimal x", "plugin/minimal: "},
		{"nomad {\n bogus\n}", "plugin/nomad: unknown property 'bogus'"},
		{"prometheus 127.0.0.1:" + port, ""},
		{"ready 127.0.0.1:" + port, ""},
		{"reload 1s", "plugin/reload: interval value must be greater"},
		{"rewrite name", "plugin/rewrite: "},
		{"route53 example.org.:Z1", "route53 is not checked"},
		{"azure group:zone", "azure is not checked"},
		{"clouddns a.:b:c", "clouddns is not checked"},
		{"secondary example.org", "plugin/secondary: "},
		{"sign /nonexistent/db example.org", ""},
		{"template IN A {\n match (\n}", "plugin/template: "},
		{"tls /nonexistent/cert /nonexistent/key", "plugin/tls: "},
		{"trace bogus a", "plugin/trace: "},
		{"transfer {\n to nowhere\n}", "plugin/transfer: "},
		{"tsig {\n bogus\n}", "plugin/tsig: "},
		{"view v {\n expr (\n}", "plugin/view: "},
		{"kubehosts cluster.local {\n endpoint https://192.0.2.1\n}", ""},
		{"kubehosts cluster.local {\n pods maybe\n}", "plugin/kubehosts: wrong value for pods"},
	} {
		start := time.Now()
		out, code := check(t, ".:"+port+" {\n"+tt.stanza+"\n}\n", "-conf", "-")
		took := time.Since(start)
		out = strings.TrimSuffix(out, "\n")
		wantCode := 0
		if strings.HasPrefix(tt.want, "plugin/") {
			wantCode = 1
		}
		if code != wantCode || (out == "") != (tt.want == "") || !strings.Contains(out, ": "+tt.want) && tt.want != "" || strings.Contains(out, "\n") {
			t.Errorf("%s\nexit code %d, want %d and %q:\n%s", tt.stanza, code, wantCode, tt.want, out)
		}
		if line, ok := strings.CutPrefix(out, "stdin:"); ok && !strings.HasPrefix(line, "2:") && !strings.HasPrefix(line, "3:") {
			t.Errorf("%s\nnot on line 2 or 3: %s", tt.stanza, out)
		}
		t.Logf("%5d ms  %s", took.Milliseconds(), strings.ReplaceAll(tt.stanza, "\n", " "))
	}
}

// CoreDNS's own flags keep working, also with a Corefile named check.
func TestCheckLeavesFlags(t *testing.T) {
	if out, err := runOnce(t, "-version"); err != nil || !strings.HasPrefix(out, "CoreDNS-") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, code := check(t, "", "-help"); code != 2 || out != "" {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
