package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// testExplain runs the kubectl plugin, which explains the answers of a replica.
func (n *node) testExplain(t *testing.T) {
	plugins, err := filepath.Abs(manifests)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		code int
		want []string
	}{
		{"web.shop", 0, []string{"of ConfigMap kube-system/coredns, applied ", "service  shop/web, ClusterIP, resourceVersion ", "answer   NOERROR 30 s  web.shop.svc.cluster.local. A "}},
		{"db.corp.example", 0, []string{"hosts    found: ConfigMap kube-system/coredns key Corefile:"}},
		{"wbe.shop", 1, []string{"why      there is no Service wbe in namespace shop\nnear     Service shop/web\n"}},
		{"outside.example.", 1, []string{"answer   by another plugin: forward\n"}},
	} {
		cmd := n.kubectl("dns-explain", tt.name)
		cmd.Env = append(cmd.Env, "PATH="+plugins+":"+pathOf(cmd))
		out, err := cmd.Output()
		code := 0
		var exited *exec.ExitError
		if errors.As(err, &exited) {
			code = exited.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if code != tt.code || !strings.Contains(string(out), want) {
				t.Errorf("kubectl dns-explain %s: exit code %d, want %d and %q:\n%s", tt.name, code, tt.code, want, out)
			}
		}
	}
}

// pathOf returns the PATH of cmd.
func pathOf(cmd *exec.Cmd) (path string) {
	for _, v := range cmd.Env { // the last one counts
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	return path
}
