package follow

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// note is a file with a hash. It is locked as long as the process lives, so that a concurrent process is not mistaken
// for one that ended. A nil note does nothing.
type note struct {
	mu   sync.Mutex
	file *os.File
	mine bool // this process wrote the content, if any
}

// openNote opens or creates a note, and returns the hash in it. It returns nil if that is not possible, or another
// process has it open.
func openNote(path string) (n *note, found string) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600) // #nosec G304 -- the name is a hash
	if err != nil {
		log.Debugf("No Corefile is on trial: %v", err)
		return nil, ""
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // #nosec G115 -- a file descriptor
		file.Close()
		return nil, ""
	}
	b := make([]byte, hashLen)
	k, _ := io.ReadFull(file, b) // a shorter content is not a hash
	return &note{file: file, mine: k < hashLen}, string(b[:k])
}

// write replaces the content by hash.
func (n *note) write(hash string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mine = true
	if _, err := n.file.WriteAt([]byte(hash), 0); err != nil {
		log.Debugf("Corefile %s is not on trial: %v", hash, err)
	}
}

// clear removes the content, if this process wrote it.
func (n *note) clear() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mine {
		_ = n.file.Truncate(0) // if this fails, the next process begins with the last good one once
	}
}

// end removes the note, if this process wrote it, when the process ends.
func (n *note) end() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mine {
		_ = os.Remove(n.file.Name()) // errors have the same effect as in clear
	}
}
