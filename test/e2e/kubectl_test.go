package e2e

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kubectl is a command of the real kubectl, with the arguments that a user would type.
func (n *node) kubectl(args ...string) *exec.Cmd { return n.user(n.program("kubectl"), args...) }

// user is a command that runs a program as the administrator of the cluster would.
func (n *node) user(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+n.kubeconfig, "HOME="+n.dir, "PATH="+n.program("")+":"+os.Getenv("PATH"))
	return cmd
}

// must runs kubectl to its end and returns its stdout.
func (n *node) must(t testing.TB, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := n.kubectl(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// in runs the program of the image of test/e2e/pod in a pod of namespace shop, and returns its output.
func (n *node) in(t testing.TB, pod string, args ...string) string {
	t.Helper()
	return n.must(t, append([]string{"exec", "-n", "shop", pod, "--", "/pod"}, args...)...)
}

// stream is a program that keeps running in a pod.
type stream struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string
	errs  bytes.Buffer
}

// stream is like in, but does not wait for the end.
func (n *node) stream(t testing.TB, pod string, args ...string) *stream {
	t.Helper()
	return streamOf(t, n.kubectl(append([]string{"exec", "-i", "-n", "shop", pod, "--", "/pod"}, args...)...))
}

// streamOf starts a program that ends when its stdin does.
func streamOf(t testing.TB, cmd *exec.Cmd) *stream {
	t.Helper()
	s := &stream{cmd: cmd, lines: make(chan string, 100)}
	s.cmd.Stderr = &s.errs
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stdin = stdin
	t.Cleanup(func() { s.stdin.Close() })
	go func() {
		defer close(s.lines)
		for scan := bufio.NewScanner(stdout); scan.Scan(); {
			s.lines <- scan.Text()
		}
	}()
	return s
}

// next returns the next line of the program, or fails the test after bound.
func (s *stream) next(t testing.TB, bound time.Duration) string {
	t.Helper()
	select {
	case line, ok := <-s.lines:
		if !ok {
			t.Fatalf("%s ended: %s", strings.Join(s.cmd.Args, " "), s.errs.String())
		}
		return line
	case <-time.After(bound):
		t.Fatalf("nothing from %s within %v", strings.Join(s.cmd.Args, " "), bound)
	}
	return ""
}

// answered waits until a `pod watch` prints an answer, and returns the time when the pod received
// it.
func (s *stream) answered(t testing.TB, answer string, bound time.Duration) time.Time {
	t.Helper()
	for deadline := time.Now().Add(bound); ; {
		at, got, _ := strings.Cut(s.next(t, time.Until(deadline)), " ")
		if got == answer {
			return nanoseconds(t, at)
		}
	}
}

// still ends a `pod watch`, and fails if it received another answer since the last one waited for.
func (s *stream) still(t testing.TB) {
	t.Helper()
	s.stdin.Close()
	for end := time.After(10 * time.Second); ; {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return
			}
			t.Errorf("meanwhile it saw %s", line)
		case <-end:
			t.Fatalf("%s did not end", strings.Join(s.cmd.Args, " "))
		}
	}
}

// edit runs `kubectl edit` on a ConfigMap and replaces one text by another, except in kubectl's last-applied
// annotation. It returns the time when the editor was left.
func (n *node) edit(t testing.TB, namespace, configmap, old, new string) time.Time {
	t.Helper()
	dir := t.TempDir()
	editor, left := filepath.Join(dir, "editor"), filepath.Join(dir, "left")
	script := "#!/bin/sh\nset -e\nsed -i '/{\"apiVersion/!s/" + old + "/" + new + "/' \"$1\"\ndate +%s%N > " + left + "\n"
	if err := os.WriteFile(editor, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := n.kubectl("edit", "configmap", configmap, "-n", namespace)
	cmd.Env = append(cmd.Env, "EDITOR="+editor)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "edited") {
		t.Fatalf("kubectl edit: %v %s", err, out)
	}
	b, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	return nanoseconds(t, strings.TrimSpace(string(b)))
}

// nanoseconds parses nanoseconds since 1970 as a time.
func nanoseconds(t testing.TB, s string) time.Time {
	t.Helper()
	ns, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, ns)
}
