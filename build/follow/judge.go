package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/kubehosts/kubehosts/build/check"
	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// judgeMost is how long judging a Corefile may take.
const judgeMost = 20 * time.Second

// errNoJudge is the error of judge if no process can be started. CoreDNS itself is then the judge, as it is for the plugin
// reload.
var errNoJudge = errors.New("no process can be started to judge the Corefile")

// judge runs another process of this program to judge a Corefile, as `coredns check` does, and returns the findings. So
// whatever the setups of plugins leave behind, use up or break has no effect here; some change state that all server blocks
// share.
//
// It is an error if a Corefile ends that process, or can't be judged.
func judge(text *corefile.Text) ([]check.Finding, error) {
	program, err := thisProgram()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoJudge, err)
	}
	return judgeBy(program, judgeMost, text)
}

// judgeBy is judge with a given program and time limit.
func judgeBy(program string, most time.Duration, text *corefile.Text) ([]check.Finding, error) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "check", "-json", "-conf", "-") // #nosec G204 -- this program itself
	cmd.Args[0] = "coredns"
	cmd.Stdin = strings.NewReader(text.Body)
	cmd.Env = append(os.Environ(), check.Alone+"=1")
	var stdout, stderr limited
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoJudge, err)
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("the setups of its plugins take longer than %s", most)
	}
	found, malformed := findings(text, stdout.Bytes())
	var exit *exec.ExitError
	judged := err == nil || errors.As(err, &exit) && exit.ExitCode() == check.ExitWrong && check.IsWrong(found)
	if !judged {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return nil, fmt.Errorf("the setups of its plugins end the process that tries them: %v: %s", err, source.Printable(first))
	}
	return found, malformed
}

// thisProgram returns a path of the running program, even if its file was replaced or removed.
func thisProgram() (string, error) {
	const link = "/proc/self/exe"
	if _, err := os.Stat(link); err == nil {
		return link, nil
	}
	return os.Executable()
}

// findings reads the output of `coredns check -json`, and replaces the lines with their origins.
func findings(text *corefile.Text, lines []byte) (all []check.Finding, err error) {
	decoder := json.NewDecoder(bytes.NewReader(lines))
	for decoder.More() {
		var f check.Finding
		if err := decoder.Decode(&f); err != nil {
			return nil, fmt.Errorf("what it is to be judged by is not understood: %w", err)
		}
		at := text.Position(f.Line)
		f.File, f.Line = at.File, at.Line
		all = append(all, f)
	}
	return all, nil
}

// wrong returns the first error among findings.
func wrong(all []check.Finding) error {
	var first error
	more := 0
	for _, f := range all {
		if f.Level != check.Wrong {
			continue
		}
		if more++; first == nil {
			first = &corefile.Error{At: corefile.Position{File: f.File, Line: f.Line}, Text: f.Text}
		}
	}
	if more > 1 {
		return fmt.Errorf("%w (and %d more)", first, more-1)
	}
	return first
}

// limited stores the first part of its input.
type limited struct{ bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	const most = 1 << 20
	if room := most - l.Len(); room > 0 {
		l.Buffer.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}
