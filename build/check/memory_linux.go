package check

import "golang.org/x/sys/unix"

// maxMemory is how much memory the process may use that judges a Corefile for a running server. With more the Go runtime ends it.
const maxMemory = 256 << 20

// boundMemory sets that bound. Where the system refuses it there is none.
func boundMemory() {
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: maxMemory, Max: maxMemory})
}
