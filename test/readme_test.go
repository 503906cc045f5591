package test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// movingOver returns the line of README that makes the new Corefile, here Corefile.after, from
// Corefile.before.
func movingOver(t *testing.T) string {
	t.Helper()
	_, rest, found := strings.Cut(cluster.ReadFile(t, "../README.md"), "\n    $ awk '")
	line, _, ended := strings.Cut(rest, "\n")
	if !found || !ended {
		t.Fatal("README shows no such line")
	}
	return strings.ReplaceAll("awk '"+line, "build/kubernetes/kubeadm/Corefile", "Corefile.after")
}

// That line works for Corefiles in any format.
func TestMovingOver(t *testing.T) {
	line := movingOver(t)
	for _, tt := range []struct{ name, before, after string }{
		{"kubeadm",
			".:53 {\n    kubernetes cluster.local in-addr.arpa ip6.arpa {\n       pods insecure\n    }\n    cache 30\n}\n",
			".:53 {\n    kubehosts cluster.local in-addr.arpa ip6.arpa {\n       configmap kube-system/coredns\n       pods insecure\n    }\n    cache 30\n}\n"},
		{"tabs",
			".:53 {\n\tkubernetes\tcluster.local\t{\n\t\tpods insecure\n\t}\n}\n",
			".:53 {\n\tkubehosts\tcluster.local\t{\n\t   configmap kube-system/coredns\n\t\tpods insecure\n\t}\n}\n"},
		{"CRLF",
			".:53 {\r\n  kubernetes cluster.local {\r\n    pods insecure\r\n  }\r\n}\r\n",
			".:53 {\r\n  kubehosts cluster.local {\r\n     configmap kube-system/coredns\r\n    pods insecure\r\n  }\r\n}\r\n"},
		{"comments",
			".:53 {\n# kubernetes cluster.local {\n  kubernetes cluster.local { # of kubernetes {\n    pods insecure\n  }\n}\n",
			".:53 {\n# kubernetes cluster.local {\n  kubehosts cluster.local { # of kubernetes {\n     configmap kube-system/coredns\n    pods insecure\n  }\n}\n"},
		{"no zones, no indentation",
			".:53 {\nkubernetes {\npods insecure\n}\n}\n",
			".:53 {\nkubehosts {\n   configmap kube-system/coredns\npods insecure\n}\n}\n"},
		{"no block", ".:53 {\n  kubernetes cluster.local # {\n  kubernetesx a {\n  }\n}\n", ".:53 {\n  kubernetes cluster.local # {\n  kubernetesx a {\n  }\n}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cluster.WriteFile(t, filepath.Join(dir, "Corefile.before"), tt.before)
			cmd := exec.Command("sh", "-c", line)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			after := cluster.ReadFile(t, filepath.Join(dir, "Corefile.after"))
			if after != tt.after {
				t.Errorf("%q becomes\n%q, want\n%q", tt.before, after, tt.after)
			}
		})
	}
}

// README shows the output of `coredns explain` exactly, except for the hash of the stanza.
func TestReadmeExplain(t *testing.T) {
	_, rest, found := strings.Cut(cluster.ReadFile(t, "../README.md"), "\n    $ ./coredns explain ")
	command, rest, _ := strings.Cut(rest, "\n")
	shown, _, ended := strings.Cut(rest, "\n    $ echo $?")
	if !found || !ended {
		t.Fatal("README shows no such command")
	}
	cmd := exec.Command(coredns(t), append([]string{"explain"}, strings.Fields(command)...)...)
	cmd.Dir = ".."
	printed, _ := cmd.Output() // the exit code is 1, as there is no answer
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit code %d", cmd.ProcessState.ExitCode())
	}
	hash := regexp.MustCompile("stanza [0-9a-f]{12} ")
	plain := func(s string) string { return strings.TrimSpace(hash.ReplaceAllString(s, "stanza ")) }
	if got, want := plain(string(printed)), plain(strings.ReplaceAll(shown, "\n    ", "\n")); got != want {
		t.Errorf("it prints\n%s\nand README shows\n%s", got, want)
	}
}
