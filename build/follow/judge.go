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
	"github.com/kubehosts/kubehosts/plugin/source"
)

// judgeMost limits the time to judge a Corefile.
const judgeMost = 20 * time.Second

// errNoJudge is the error of judge if no process can be started. Then CoreDNS itself checks the Corefile, as it does
// for the plugin reload.
var errNoJudge = errors.New("no process can be started to judge the Corefile")

// errLate is the error of judge if it takes too long.
var errLate = errors.New("the setups of its plugins take longer")

// After judging a Corefile, the package starts a spare process for the next one: an edit is often followed by another,
// and starting a process takes most of the time of an edit. The spare process takes 8 MB and ends after spareFor.
const spareFor = time.Minute

// judges judges Corefiles, one after the other.
type judges struct {
	mu    sync.Mutex
	spare *judge      // nil if there is none
	ends  *time.Timer // of the spare one
}

// judge has another process of this program judge a Corefile, as `coredns check` does, and returns the findings. This
// isolates the server from the side effects of the plugins' setups, some of which change state that all server blocks
// share.
//
// It is an error if a Corefile ends that process, or can't be judged.
func (a *judges) judge(text *corefile.Text) ([]check.Finding, error) {
	program, err := thisProgram()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoJudge, err)
	}
	if j := a.take(); j != nil {
		found, err := j.judge(judgeMost, text)
		if err == nil || errors.Is(err, errLate) {
			return found, err
		}
		// it may have ended for another reason, so let a fresh process decide
	}
	return judgeBy(program, judgeMost, text)
}

// take returns the spare process, nil if there is none.
func (a *judges) take() *judge {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.spare
	if j != nil {
		a.ends.Stop()
		a.spare = nil
	}
	return j
}

// prepare starts a spare process, unless there is one.
func (a *judges) prepare() {
	program, err := thisProgram()
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.spare != nil {
		return
	}
	j, err := startJudge(program)
	if err != nil {
		return // a fresh process judges the next Corefile, if it can be started
	}
	a.spare = j
	a.ends = time.AfterFunc(spareFor, func() {
		if j := a.take(); j != nil {
			j.end()
		}
	})
}

// judge is a process that waits for a Corefile to judge.
type judge struct {
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr limited
}

// startJudge starts a process of a program.
func startJudge(program string) (*judge, error) {
	j := &judge{cmd: exec.Command(program, "check", "-json", "-conf", "-")} // #nosec G204 -- this program itself
	j.cmd.Args[0] = "coredns"
	j.cmd.Env = append(os.Environ(), check.Alone+"=1")
	j.cmd.Stdout, j.cmd.Stderr = &j.stdout, &j.stderr
	var err error
	if j.stdin, err = j.cmd.StdinPipe(); err == nil {
		err = j.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoJudge, err)
	}
	return j, nil
}

// end ends a process that was given no Corefile.
func (j *judge) end() {
	_ = j.cmd.Process.Kill()
	_ = j.cmd.Wait()
}

// judgeBy judges a Corefile with a process of a program, within a time limit.
func judgeBy(program string, most time.Duration, text *corefile.Text) ([]check.Finding, error) {
	j, err := startJudge(program)
	if err != nil {
		return nil, err
	}
	return j.judge(most, text)
}

// judge judges a Corefile with the process, within a time limit. The process then ends.
func (j *judge) judge(most time.Duration, text *corefile.Text) ([]check.Finding, error) {
	var late atomic.Bool
	limit := time.AfterFunc(most, func() {
		late.Store(true)
		_ = j.cmd.Process.Kill()
	})
	_, _ = io.WriteString(j.stdin, text.Body) // fails if the process has ended; Wait returns why
	j.stdin.Close()
	err := j.cmd.Wait()
	limit.Stop()
	if late.Load() {
		return nil, fmt.Errorf("%w than %s", errLate, most)
	}
	found, malformed := findings(text, j.stdout.Bytes())
	var exit *exec.ExitError
	judged := err == nil || errors.As(err, &exit) && exit.ExitCode() == check.ExitWrong && check.IsWrong(found)
	if !judged {
		first, _, _ := strings.Cut(strings.TrimSpace(j.stderr.String()), "\n")
		return nil, fmt.Errorf("the setups of its plugins end the process that tries them: %v: %s", err, source.Printable(first))
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
