package e2e

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each test has a whole cluster, one after the other. For each test the test binary runs three times, nested:
//
//  1. outside makes a folder and a cgroup, starts the second in new namespaces, waits, and removes both again;
//  2. inside is process 1 of the new PID namespace: it hides the folders of the machine that Kubernetes writes to,
//     starts the third, and reaps orphans, such as the shims of containers;
//  3. the test.
//
// When the first ends, by whatever signal, the kernel kills the second and with it every process of its PID namespace.
// Then it drops the network and the mounts, which nothing else uses.
const (
	role    = "KUBEHOSTS_E2E"     // which of the three: unset, "init", "tests"
	folder  = "KUBEHOSTS_E2E_DIR" // of this run, with all of its files
	prefix  = "kubehosts-e2e-"    // of the folder and of the cgroup, followed by the process id of the first
	cgroups = "/sys/fs/cgroup"
)

func TestMain(m *testing.M) {
	flag.Parse()
	var code int
	var err error
	switch os.Getenv(role) {
	case "":
		code, err = each(outside)
	case "init":
		code, err = inside()
	default:
		code = m.Run()
		printLogs(code)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// each calls run for each test that -test.run selects, with a -test.run that selects only this test, whether others
// fail or not.
func each(run func(selects string) (int, error)) (code int, err error) {
	if err := needs(); err != nil {
		return 0, err
	}
	top, parts, _ := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	list := again("tests", "-test.list="+cmp.Or(top, "."))
	list.Stdout = nil
	names, err := list.Output()
	if err != nil {
		return 0, err
	}
	for _, name := range strings.Fields(string(names)) {
		selects := "^" + name + "$"
		if parts != "" {
			selects += "/" + parts
		}
		failed, err := run(selects)
		if err != nil {
			return 0, err
		}
		code = max(code, failed)
	}
	return code, nil
}

// outside runs a test in namespaces and cleans up what the kernel does not.
func outside(selects string) (int, error) {
	for _, old := range leftovers() {
		if err := remove(old); err != nil {
			return 0, err
		}
	}
	id := prefix + strconv.Itoa(os.Getpid())
	defer remove(id)
	if err := create(id); err != nil {
		return 0, err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(stop)

	runtime.LockOSThread() // the kernel sends Pdeathsig when the thread that forked ends
	cmd := again("init", "-test.run="+selects)
	cmd.Env = append(cmd.Env, folder+"="+dir(id), "TMPDIR="+dir(id))
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
		syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	cmd.SysProcAttr.Setpgid = true // Ctrl-C only reaches this process
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("new namespaces: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case s := <-stop:
			fmt.Fprintln(os.Stderr, "e2e:", s)
			cmd.Process.Kill()
		case <-ended:
		}
	}()
	err := cmd.Wait()
	if e := (*exec.ExitError)(nil); errors.As(err, &e) && e.Exited() {
		return e.ExitCode(), nil
	}
	return 0, err
}

// again is a command that runs this program with the same arguments, and more, in another role. It
// ends with its parent.
func again(as string, more ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", slices.Concat(os.Args[1:], more)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, role+"=") }), role+"="+as)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// needs returns what is missing on this machine.
func needs() error {
	if os.Getuid() != 0 {
		return errors.New("the cluster needs root: it makes namespaces, mounts, cgroups and containers")
	}
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		return errors.New("a bridge's packets do not reach the netfilter rules on this kernel: modprobe br_netfilter")
	}
	for _, file := range []string{"kube", "node", "pod", "stock", "cni/bridge", "cni/loopback", "cni/host-local"} {
		if _, err := os.Stat(filepath.Join("../bin", file)); err != nil {
			return fmt.Errorf("test/bin/%s is missing: run make e2e", file)
		}
	}
	return nil
}

// dir is the folder of a run.
func dir(id string) string { return filepath.Join(os.TempDir(), id) }

// leftovers returns the runs whose process no longer exists: they were killed.
func leftovers() (ids []string) {
	found, _ := filepath.Glob(dir(prefix + "*"))
	for _, root := range hierarchies() {
		more, _ := filepath.Glob(filepath.Join(root, prefix+"*"))
		found = append(found, more...)
	}
	for _, path := range found {
		id := filepath.Base(path)
		pid, err := strconv.Atoi(strings.TrimPrefix(id, prefix))
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// hierarchies are the cgroup trees of this machine: one in version 2, one per controller in version 1.
func hierarchies() (roots []string) {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		// 36 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup") && len(f) > 4 && strings.HasPrefix(f[4], cgroups) {
			roots = append(roots, f[4])
		}
	}
	return roots
}

// create makes the folder and the cgroups of a run.
func create(id string) error {
	roots := hierarchies()
	if len(roots) == 0 {
		return errors.New("no cgroup hierarchy is mounted below " + cgroups)
	}
	if err := os.Mkdir(dir(id), 0o755); err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.Mkdir(filepath.Join(root, id), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the folder and the cgroups of a run whose processes have ended. A cgroup stays busy for some
// milliseconds after its last process.
func remove(id string) error {
	err := os.RemoveAll(dir(id))
	for _, root := range hierarchies() {
		err = errors.Join(err, removeCgroup(filepath.Join(root, id)))
	}
	return err
}

func removeCgroup(path string) error {
	var all []string
	filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, p)
		}
		return nil
	})
	slices.Reverse(all) // children first
	for _, p := range all {
		err := syscall.Rmdir(p)
		for deadline := time.Now().Add(5 * time.Second); err == syscall.EBUSY && time.Now().Before(deadline); err = syscall.Rmdir(p) {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil && err != syscall.ENOENT {
			return &os.PathError{Op: "rmdir", Path: p, Err: err}
		}
	}
	return nil
}

// sysctls are the settings that the kubelet writes to the kernel for the whole machine, unless they
// have these values.
var sysctls = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// inside is process 1 of the PID namespace.
func inside() (int, error) {
	if err := mounts(); err != nil {
		return 0, err
	}
	if err := syscall.Sethostname([]byte("node")); err != nil { // kubeadm looks for a node with this name
		return 0, fmt.Errorf("host name: %w", err)
	}
	runtime.LockOSThread()
	cmd := again("tests")
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil && err != syscall.EINTR {
			return 0, err
		}
		if pid == cmd.Process.Pid {
			if status.Signaled() {
				return 0, fmt.Errorf("the tests ended by signal %v", status.Signal())
			}
			return status.ExitStatus(), nil
		}
	}
}

// mounts makes the mount namespace private for all that a node writes to fixed paths, so that nothing reaches the
// machine: network namespaces and sockets below /run, logs, the state of CNI, the sysctls of the kernel.
func mounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	for _, path := range []string{"/run", "/var/lib", "/var/log"} {
		if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for path, value := range sysctls {
		file := filepath.Join(os.Getenv(folder), strings.ReplaceAll(path, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(file, "/proc/sys/"+path, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("/proc/sys/%s: %w", path, err)
		}
	}
	// The containers and the node share mounts, as on any node.
	return syscall.Mount("", "/", "", syscall.MS_SHARED|syscall.MS_REC, "")
}
