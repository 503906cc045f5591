package follow

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coredns/caddy"
)

// CoreDNS may accept a Corefile that then ends the process: the plugin loop ends it when it finds a loop, and the container may have too
// little memory. The next process would begin with it again. So a process notes the hash of the Corefile that it has on trial, until that
// is proven, or until the process ends in an orderly way. A process that finds such a note begins with the last good Corefile.
//
// The note is a file in memory that outlives the process and, in Kubernetes, its container: it is the pod's. Where there is no such folder
// there are no notes.

// trialDir is the folder of notes.
const trialDir = "/dev/shm"

// deadly is why a Corefile is not tried again.
type deadly struct{}

func (deadly) Error() string {
	return fmt.Sprintf("a process that had it ended without a word within %s, and its log has why (kubectl logs --previous): a loop, or too little memory; edit it to have it tried again", proven)
}

// beginTrials looks for a note of the process before, and makes notes from now on. They are about a Corefile other than the last good one.
func (f *Follower) beginTrials(dir string) {
	if f.flags.lastGood.name == "" {
		return
	}
	sum := sha256.Sum256([]byte(f.flags.configMap.title() + "\n" + os.Getenv("KUBECONFIG")))
	f.trial, f.died = openNote(filepath.Join(dir, "kubehosts-"+hex.EncodeToString(sum[:8])))
	caddy.OnProcessExit = append(caddy.OnProcessExit, f.trial.end)
}

// onTrial notes that the Corefile with that hash is on trial, unless it is the last good one.
func (f *Follower) onTrial(hash string) {
	if f.proved(hash) {
		f.trial.clear()
		return
	}
	f.trial.write(hash)
}

// kills reports whether the process before ended while it had the Corefile with that hash on trial.
func (f *Follower) kills(hash string) bool { return f.died == hash && !f.proved(hash) }

// proved reports whether the last good Corefile has that hash.
func (f *Follower) proved(hash string) bool {
	good := f.flags.lastGood
	if good.name == "" {
		return false
	}
	e, _ := f.event(good.object())
	body, ok := e.Data[good.key]
	return ok && hashOfBody(body) == hash
}
