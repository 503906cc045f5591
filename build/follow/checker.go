package follow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubehosts/kubehosts/build/check"
	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

// checkMost limits the time to check a Corefile.
const checkMost = 20 * time.Second

// errNoChecker is the error of check if no process can be started. Then CoreDNS itself checks the Corefile, as it does
// for the plugin reload.
var errNoChecker = errors.New("can't start a process that checks the Corefile")

// errLate is the error of check if it takes too long.
var errLate = errors.New("the setup of its plugins takes longer")

// After checking a Corefile, the package starts a spare process for the next one: an edit is often followed by another,
// and starting a process takes most of the time of an edit. The spare process takes 8 MB and ends after spareFor.
const spareFor = time.Minute

// checkers check Corefiles, one after the other.
type checkers struct {
	mu    sync.Mutex
	spare *checker    // nil if there is none
	ends  *time.Timer // of the spare one
}

// check has another process of this program check a Corefile, as `coredns check` does, and returns the findings. This
// isolates the server from the side effects of the plugins' setups, some of which change state that all server blocks
// share.
//
// It is an error if a Corefile ends that process, or can't be checked.
func (a *checkers) check(text *corefile.Text) ([]check.Finding, error) {
	program, err := thisProgram()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoChecker, err)
	}
	if c := a.take(); c != nil {
		found, err := c.check(checkMost, text)
		if err == nil || errors.Is(err, errLate) {
			return found, err
		}
		// it may have ended for another reason, so let a fresh process decide
	}
	return checkBy(program, checkMost, text)
}

// take returns the spare process, nil if there is none.
func (a *checkers) take() *checker {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.spare
	if c != nil {
		a.ends.Stop()
		a.spare = nil
	}
	return c
}

// prepare starts a spare process, unless there is one.
func (a *checkers) prepare() {
	program, err := thisProgram()
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.spare != nil {
		return
	}
	c, err := startChecker(program)
	if err != nil {
		return // a fresh process checks the next Corefile, if it can be started
	}
	a.spare = c
	a.ends = time.AfterFunc(spareFor, func() { _ = safe.Recovered("ending a spare process", a.endSpare) })
}

// endSpare ends the spare process, if there is one.
func (a *checkers) endSpare() {
	if c := a.take(); c != nil {
		c.end()
	}
}

// checker is a process that waits for a Corefile to check.
type checker struct {
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr limited
}

// startChecker starts a process of a program.
func startChecker(program string) (*checker, error) {
	c := &checker{cmd: exec.Command(program, "check", "-json", "-conf", "-")} // #nosec G204 -- this program itself
	c.cmd.Args[0] = "coredns"
	c.cmd.Env = append(os.Environ(), check.Alone+"=1")
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoChecker, err)
	}
	return c, nil
}

// end ends a process that was given no Corefile.
func (c *checker) end() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// checkBy checks a Corefile with a process of a program, within a time limit.
func checkBy(program string, most time.Duration, text *corefile.Text) ([]check.Finding, error) {
	c, err := startChecker(program)
	if err != nil {
		return nil, err
	}
	return c.check(most, text)
}

// check checks a Corefile with the process, within a time limit. The process then ends.
func (c *checker) check(most time.Duration, text *corefile.Text) ([]check.Finding, error) {
	var late atomic.Bool
	limit := time.AfterFunc(most, func() { // the process was started, so there is one to kill
		late.Store(true)
		_ = c.cmd.Process.Kill()
	})
	_, _ = io.WriteString(c.stdin, text.Body) // fails if the process has ended; Wait returns why
	c.stdin.Close()
	err := c.cmd.Wait()
	limit.Stop()
	if late.Load() {
		return nil, fmt.Errorf("%w than %s", errLate, most)
	}
	found, malformed := findings(text, c.stdout.Bytes())
	var exit *exec.ExitError
	done := err == nil || errors.As(err, &exit) && exit.ExitCode() == check.ExitWrong && check.IsWrong(found)
	if !done {
		first, _, _ := strings.Cut(strings.TrimSpace(c.stderr.String()), "\n")
		return nil, fmt.Errorf("the setup of its plugins ended the process that checked it: %v: %s", err, safe.Printable(first))
	}
	return found, malformed
}

// thisProgram returns a path of the running program that is valid even if its file was replaced or
// removed.
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
			return nil, fmt.Errorf("the process that checks it can't read its input: %w", err)
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
