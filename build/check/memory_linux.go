package check

import (
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Bounds of the memory of the process that judges a Corefile for a running server, which shares the limit of a container with it.
const (
	// maxData is how much memory that can be written to the process may map, 80 MiB of which a Go program maps at its start. With
	// more the Go runtime ends it. A Corefile of 1 MiB, all of it hosts lines, takes 160 MiB.
	maxData = 192 << 20
	// aim is how much the collector tries to do with.
	aim = 48 << 20
)

// boundMemory sets these bounds. Where the system refuses the first there is the second alone.
func boundMemory() {
	debug.SetMemoryLimit(aim)
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: maxData, Max: maxData})
}
