package check

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	_ "github.com/coredns/coredns/plugin/rewrite"
)

func TestMemoryRoom(t *testing.T) {
	for limit, want := range map[uint64]uint64{0: mostMemory, 64 << 20: leastMemory, 180 << 20: 72 << 20, 4 << 30: mostMemory} {
		if got := memoryRoom(limit); got != want {
			t.Errorf("limit %d MiB: %d MiB, want %d MiB", limit>>20, got>>20, want>>20)
		}
	}
}

const roomVariable = "KUBEHOSTS_TEST_MEMORY_ROOM"

// A Corefile whose setups take too much memory ends the process that checks it, and no other one.
func TestBoundMemory(t *testing.T) {
	if room, err := strconv.ParseUint(os.Getenv(roomVariable), 10, 64); err == nil {
		boundTo(room)
		os.Exit(Main([]string{"-conf", "-"}, os.Stdin, os.Stdout, os.Stderr))
	}
	const room = 56 << 20
	checked := func(body string) (code int, used int64) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBoundMemory$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", roomVariable, room))
		cmd.Stdin = strings.NewReader(body)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Logf("%v: %.200s", err, out.String())
		}
		return cmd.ProcessState.ExitCode(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	}
	var hosts, rewrites strings.Builder
	hosts.WriteString(".:53 {\n kubehosts {\n  hosts {\n")
	for i := range 28_000 {
		fmt.Fprintf(&hosts, "   10.0.%d.%d host%d.example.org\n", i>>8, i&255, i)
	}
	rewrites.WriteString(".:53 {\n")
	for i := range 5_000 {
		fmt.Fprintf(&rewrites, " rewrite name regex (a{1000})b%d c\n", i)
	}
	least, before := checked(".:53 {\n errors\n whoami\n}\n")
	large, _ := checked(hosts.String() + "  }\n }\n}\n")
	if least != exitGood || large != exitGood {
		t.Errorf("a good Corefile: exit code %d, one of %d KiB: %d", least, hosts.Len()>>10, large)
	}
	if code, used := checked(rewrites.String() + "}\n"); code == exitGood || used > before+4*room { // under the race detector memory has a shadow
		t.Errorf("one that takes too much: exit code %d, %d MiB more than a small one", code, (used-before)>>20)
	}
}
