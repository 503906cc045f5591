// Package lab checks the smallest lab, which `make lab` leaves running for a person to experiment
// with.
package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// TestLab runs the commands that lab.sh suggests, and checks that nothing is left at the end.
func TestLab(t *testing.T) {
	for tool, pkg := range map[string]string{"ip": "iproute2", "dig": "dnsutils"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install --no-install-recommends %s", tool, pkg)
		}
	}
	lab := fmt.Sprintf("lab%d", os.Getpid())
	dir := t.TempDir()
	sh := func(line string) string {
		t.Helper()
		cmd := exec.Command("sh", "-c", line)
		cmd.Env = append(os.Environ(), "LAB="+lab, "TMPDIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	left := func() string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(entries)
		for line := range strings.Lines(sh("ip netns list")) {
			if strings.HasPrefix(line, lab) {
				text += " " + line
			}
		}
		return text
	}
	t.Cleanup(func() {
		sh("./lab.sh down")
		if left := left(); left != "[]" {
			t.Errorf("left: %s", left)
		}
	})

	// The indented lines are commands.
	var commands, answers []string
	for line := range strings.Lines(sh("./lab.sh up")) {
		if command, ok := strings.CutPrefix(line, "  "); ok {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	if got := commands[len(commands)-1]; got != "make lab-down" {
		t.Errorf("the last command is %q", got)
	}
	for _, command := range commands[:len(commands)-1] {
		answer := sh(command)
		t.Logf("%s\n%s", command, answer)
		answers = append(answers, answer)
	}
	for i, want := range []string{"192.0.2.10", "192.0.2.10", "db.corp.example.", "", lab + "-veth-server", "inet 10.99.0.2/24", "server"} {
		if got := answers[i]; !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %s, want %s", commands[i], got, want)
		}
	}
	// The additional line.
	again := strings.Replace(commands[0], "db.corp", "git.corp", 1)
	took := cluster.Eventually(t, time.Minute, func() (bool, string) {
		got := sh(again)
		return got == "192.0.2.11", again + ": " + got
	})
	t.Logf("the line more is answered after %v, dig included", took.Round(time.Millisecond))

	// The server has several addresses, and replies come from the queried one: dig accepts no others.
	sh("ip -n " + lab + "-veth-server address add 10.99.0.7/24 dev eth0")
	local := strings.Fields(sh("ip -n " + lab + "-veth-server -6 -oneline address show eth0 scope link"))[3]
	local, _, _ = strings.Cut(local, "/")
	for _, server := range []string{"10.99.0.7", "10.99.0.1", local + "%eth0"} {
		for _, name := range []string{"git.corp.example A", "git.corp.example MX", "nobody.example A"} { // kubehosts does not answer the last one
			ask := fmt.Sprintf("ip netns exec %s-veth-client dig @%s +noall +comments +tries=1 %s", lab, server, name)
			cluster.Eventually(t, time.Minute, func() (bool, string) { // a new IPv6 address first needs neighbor discovery
				out, err := exec.Command("sh", "-c", ask).CombinedOutput()
				return err == nil && strings.Contains(string(out), "status: "), string(out)
			})
		}
	}

	// A second lab with the same name is refused, and does not affect the first.
	if out, err := exec.Command("env", "LAB="+lab, "TMPDIR="+dir, "./lab.sh", "up").CombinedOutput(); err == nil || !strings.Contains(string(out), "make lab-down first") {
		t.Errorf("a second lab: %v %s", err, out)
	}
	if got := sh(again); got != "192.0.2.11" {
		t.Errorf("%s: %s", again, got)
	}
	if _, err := os.Stat(filepath.Join(dir, "kubehosts-"+lab, "hosts")); err != nil {
		t.Error(err)
	}
}
