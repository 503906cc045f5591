package check

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"golang.org/x/sys/unix"
)

// The memory that a process may use to check a Corefile for a running server, beyond what it has when it starts: two
// fifths of the container's limit, which is enough for a Corefile of 1 MiB. The kernel would kill the server as well if
// both together exceeded the limit (memory.oom.group).
const (
	leastMemory = 32 << 20
	mostMemory  = 176 << 20
)

// memoryRoom returns that memory for a limit of the container, 0 without a limit.
func memoryRoom(limit uint64) uint64 {
	if limit == 0 {
		return mostMemory
	}
	return min(max(limit/5*2, leastMemory), mostMemory)
}

// boundMemory bounds the memory of this process. Beyond the bound, the Go runtime ends it.
func boundMemory() {
	limit, err := memlimit.FromCgroup()
	if err != nil {
		limit = 0
	}
	boundTo(memoryRoom(limit))
}

// boundTo sets the bound, unless the system refuses it.
func boundTo(room uint64) {
	soft := room / 4 * 3
	debug.SetMemoryLimit(int64(soft))                         // #nosec G115 -- it fits
	_ = os.Setenv("GOMEMLIMIT", strconv.FormatUint(soft, 10)) // so that no setup sets another one
	if data, ok := dataSize(); ok {
		_ = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: data + room, Max: data + room})
	}
}

// dataSize returns the size that counts against RLIMIT_DATA.
func dataSize() (bytes uint64, ok bool) {
	const field = 5 // data and stack, in pages (proc_pid_statm(5))
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(b))
	if len(fields) <= field {
		return 0, false
	}
	pages, err := strconv.ParseUint(fields[field], 10, 64)
	return pages * uint64(max(0, os.Getpagesize())), err == nil // #nosec G115 -- it is not negative
}
