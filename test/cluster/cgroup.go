package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Cgroup is a memory cgroup, version 1 or 2. Its processes have a memory limit and no swap, like those of a container.
type Cgroup struct {
	dir   string
	files *cgroupFiles
}

// cgroupFiles are the file names of one version of cgroups.
type cgroupFiles struct {
	limit, swap string // to be written; swap does not exist if the kernel has no swap
	events      string // its line oom_kill is the number of killed processes
}

var (
	cgroupV1 = &cgroupFiles{"memory.limit_in_bytes", "memory.swappiness", "memory.oom_control"}
	cgroupV2 = &cgroupFiles{"memory.max", "memory.swap.max", "memory.events"}
)

// cgroupName is the prefix of cgroup names; the id of the process that made the cgroup and a number
// follow.
const cgroupName = "kubehosts-test-"

var cgroups atomic.Int64

// LimitMemory makes a cgroup with a memory limit in bytes, page cache included. It needs root. It removes the cgroup at
// the end of the test, when its processes must have ended, and removes now what killed runs have left.
func LimitMemory(t testing.TB, limit int) *Cgroup {
	t.Helper()
	root, files, err := memoryHierarchy(ReadFile(t, "/proc/self/mountinfo"))
	if err == nil && files == cgroupV2 {
		err = enableMemory(root)
	}
	if err != nil {
		t.Fatal(err)
	}
	removeLeftCgroups(root)
	g := &Cgroup{filepath.Join(root, fmt.Sprintf("%s%d-%d", cgroupName, os.Getpid(), cgroups.Add(1))), files}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatalf("a cgroup with a limit of memory needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(g.dir); err != nil {
			t.Error(err)
		}
	})
	err = g.write(files.limit, limit)
	if none := g.write(files.swap, 0); err == nil && !errors.Is(none, os.ErrNotExist) {
		err = none
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// memoryHierarchy finds the hierarchy of the memory controller in /proc/self/mountinfo: version 1 if the controller is
// bound to it, else version 2.
func memoryHierarchy(mountinfo string) (root string, files *cgroupFiles, err error) {
	for line := range strings.Lines(mountinfo) {
		// 36 35 0:30 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if len(place) < 5 || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup":
			for option := range strings.SplitSeq(kind[2], ",") {
				if option == "memory" {
					return place[4], cgroupV1, nil
				}
			}
		case "cgroup2":
			root, files = place[4], cgroupV2
		}
	}
	if files == nil {
		return "", nil, errors.New("no cgroup hierarchy is mounted")
	}
	return root, files, nil
}

// enableMemory enables the memory controller for the children of a version 2 cgroup. systemd has usually done so.
func enableMemory(root string) error {
	path := filepath.Join(root, "cgroup.subtree_control")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for controller := range strings.FieldsSeq(string(b)) {
		if controller == "memory" {
			return nil
		}
	}
	if err := writeCgroup(path, "+memory"); err != nil {
		return fmt.Errorf("the cgroups below %s get no memory controller: %w", root, err)
	}
	return nil
}

func (g *Cgroup) write(name string, value int) error {
	return writeCgroup(filepath.Join(g.dir, name), strconv.Itoa(value))
}

// writeCgroup writes a file of a cgroup and does not create it.
func writeCgroup(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Program returns the path of a script that runs a program in g, with the same arguments and process id. All of its
// memory counts.
func (g *Cgroup) Program(t testing.TB, program string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), filepath.Base(program))
	text := fmt.Sprintf("#!/bin/sh\necho $$ >%s && exec %s \"$@\"\n", filepath.Join(g.dir, "cgroup.procs"), program)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

// Killed returns how many processes the kernel has killed because of the limit.
func (g *Cgroup) Killed(t testing.TB) (n int) {
	t.Helper()
	for line := range strings.Lines(ReadFile(t, filepath.Join(g.dir, g.files.events))) {
		fmt.Sscanf(line, "oom_kill %d", &n)
	}
	return n
}

// removeLeftCgroups removes the cgroups of runs that were killed.
func removeLeftCgroups(root string) {
	left, _ := filepath.Glob(filepath.Join(root, cgroupName+"*"))
	for _, dir := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), cgroupName+"%d-", &pid); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = removeCgroup(dir) // the next run tries again
		}
	}
}

// removeCgroup removes a cgroup, which is busy for some milliseconds after its last process.
func removeCgroup(dir string) error {
	err := syscall.Rmdir(dir)
	for end := time.Now().Add(5 * time.Second); err == syscall.EBUSY && time.Now().Before(end); err = syscall.Rmdir(dir) {
		<-time.After(10 * time.Millisecond)
	}
	if err != nil {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
