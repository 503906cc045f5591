package e2e

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// typed runs the command of README that begins with start, in a folder, and returns its stdout. If README shows an
// output below the command, the output must be the same.
func (n *node) typed(t testing.TB, folder, start string) string {
	t.Helper()
	line, want := shown(t, start)
	var out, errs bytes.Buffer
	cmd := n.user("sh", "-c", line)
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &out, &errs
	err := cmd.Run()
	differ := strings.Contains(line, "diff ") && cmd.ProcessState.ExitCode() == 1 // not a failure
	if err != nil && !differ {
		t.Fatalf("$ %s\n%v\n%s%s", line, err, out.String(), errs.String())
	}
	if want != "" && out.String() != want {
		t.Errorf("$ %s\n%sREADME shows\n%s", line, out.String(), want)
	}
	t.Logf("$ %s\n%s%s", line, out.String(), errs.String())
	return out.String()
}

// shown returns a command of README and the output that README shows for it.
func shown(t testing.TB, start string) (line, output string) {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "\n    $ "+start)
	if !found {
		t.Fatalf("README shows no command that starts with %s", start)
	}
	line, rest, _ = strings.Cut(rest, "\n")
	for next := range strings.Lines(rest) {
		text, is := strings.CutPrefix(next, "    ")
		if !is || strings.HasPrefix(text, "$ ") {
			break
		}
		output += text
	}
	return start + line, output
}
