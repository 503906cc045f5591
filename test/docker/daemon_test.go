// Package docker runs the image like plain Docker users, without a cluster.
package docker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dockerd runs in namespaces of its own: the network namespace has its bridge and iptables rules, the mount namespace
// its mounts and everything that it writes to fixed paths, and the PID namespace its processes. It is process 1 there,
// so when it ends, all of it ends. The kernel does not remove a folder and a cgroup, whose names contain the id of the
// test's process.
const prefix = "kubehosts-docker-"

// daemon is the shell that becomes dockerd. $1 is the folder, $2 the cgroup. A tmpfs or an overlay hides the folders
// that dockerd writes to, and AppArmor, into which it would load a profile.
const daemon = `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir "$1/etc" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" overlay /etc
if [ -d /sys/kernel/security ]; then mount -t tmpfs tmpfs /sys/kernel/security; fi
ip link set lo up
exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" --host "unix://$1/docker.sock" \
	--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$2"
`

var (
	id     = prefix + strconv.Itoa(os.Getpid())
	folder = filepath.Join(os.TempDir(), id)
	server *exec.Cmd // dockerd
)

func TestMain(m *testing.M) {
	code := 1
	if err := start(); err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	stop()
	os.Exit(code)
}

// start runs dockerd, and returns when it responds.
func start() error {
	if os.Getuid() != 0 {
		return errors.New("dockerd needs root: namespaces, mounts, cgroups and containers are made")
	}
	for _, tool := range [][2]string{{"dockerd", "docker.io"}, {"docker", "docker.io"}, {"iptables", "iptables"}, {"ip", "iproute2"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			return fmt.Errorf("%s is missing: apt-get install --no-install-recommends %s", tool[0], tool[1])
		}
	}
	for _, old := range leftovers() {
		remove(old)
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		fmt.Fprintln(os.Stderr, <-ended)
		stop()
		os.Exit(1)
	}()

	log, err := os.Create(filepath.Join(folder, "dockerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	server = exec.Command("sh", "-c", daemon, "sh", folder, id)
	server.Stdout, server.Stderr = log, log
	server.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // the kernel sends Pdeathsig when the thread that forked ends; this thread runs the tests and does not end
	if err := server.Start(); err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	var out []byte
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if out, err = command("version").CombinedOutput(); err == nil {
			return nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("dockerd does not answer after a minute: %v\n%s\n%s", err, out, text)
}

// stop ends dockerd and everything that it started, and removes the rest.
func stop() {
	if server != nil && server.Process != nil {
		server.Process.Kill()
		server.Wait()
	}
	if err := remove(id); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// leftovers are the ids of runs that were killed.
func leftovers() (ids []string) {
	for _, pattern := range []string{os.TempDir(), "/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, _ := filepath.Glob(filepath.Join(pattern, prefix+"*"))
		for _, path := range found {
			old := filepath.Base(path)
			pid, err := strconv.Atoi(strings.TrimPrefix(old, prefix))
			if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
				ids = append(ids, old)
			}
		}
	}
	return ids
}

// remove removes the folder and the cgroups of a run whose processes have ended. A cgroup stays busy for some
// milliseconds after its last process.
func remove(id string) error {
	err := os.RemoveAll(filepath.Join(os.TempDir(), id))
	for _, tree := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		// First those of the containers, then their parent.
		for _, below := range []string{"*", ""} {
			found, _ := filepath.Glob(filepath.Join(tree, id, below))
			for _, path := range found {
				if fi, e := os.Stat(path); e != nil || !fi.IsDir() {
					continue
				}
				e := syscall.Rmdir(path)
				for deadline := time.Now().Add(5 * time.Second); e == syscall.EBUSY && time.Now().Before(deadline); e = syscall.Rmdir(path) {
					runtime.Gosched()
				}
				if e != nil && e != syscall.ENOENT {
					err = errors.Join(err, &os.PathError{Op: "rmdir", Path: path, Err: e})
				}
			}
		}
	}
	return err
}

// command is the docker client beside dockerd, or else the first one in PATH.
func command(args ...string) *exec.Cmd {
	path := "docker"
	if d, err := exec.LookPath("dockerd"); err == nil {
		if beside := filepath.Join(filepath.Dir(d), "../bin/docker"); exec.Command(beside, "--version").Run() == nil {
			path = beside
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+filepath.Join(folder, "docker.sock"), "DOCKER_CONFIG="+filepath.Join(folder, "client"))
	return cmd
}

// docker runs the docker client and returns its stdout.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, command(args...))
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}
