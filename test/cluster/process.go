package cluster

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Process is a child process whose output goes to a file. It ends when this process ends, for whatever
// reason.
type Process struct {
	cmd  *exec.Cmd
	log  string        // path of the file for stdout and stderr, which are appended
	done chan struct{} // closed when the child has ended
	err  error         // the error of Wait, to be read after done
}

// Spawn starts path with args in the working directory dir; argv[0] is path itself. It appends the output to the file
// log.
func Spawn(dir, log, path string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &Process{cmd: cmd, log: log, done: make(chan struct{})}

	started := make(chan error, 1)
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends, not the process: keep the thread
		// alive.
		runtime.LockOSThread()
		defer out.Close()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, <-started
}

// stop sends sig and waits for the end; a child that has not ended after grace is killed.
func (p *Process) stop(sig os.Signal, grace time.Duration) {
	p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// PID is the process id of the child.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the child at once.
func (p *Process) Kill() { p.stop(os.Kill, time.Second) }

// Ended reports whether the child has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Tail returns the last lines of a log file, up to 8 kB.
func Tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 8 << 10
	if fi, err := f.Stat(); err == nil && fi.Size() > most {
		f.Seek(-most, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return fmt.Sprintf("the end of %s:\n%s", path, bytes.TrimSpace(b))
}

// FreePort returns a port of 127.0.0.1 with no UDP or TCP listener. It is below Linux's range of ephemeral ports, so no
// outgoing connection takes it while its server is down.
func FreePort() int {
	for {
		port := 10000 + rand.IntN(20000)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		u.Close()
		t, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		t.Close()
		return port
	}
}

// Eventually calls ok repeatedly, with short pauses, until it returns true, and fails the test after bound. The text
// that ok returns with false describes what is still missing; it is printed on failure. Eventually returns the time it
// took.
func Eventually(t testing.TB, bound time.Duration, ok func() (bool, string)) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, missing := ok()
		took := time.Since(start)
		if yes {
			return took
		}
		if took > bound {
			t.Fatalf("not within %v: %s", bound, missing)
		}
		<-tick.C
	}
}
