package follow

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coredns/caddy"
)

// CoreDNS may accept a Corefile that then ends the process: the plugin loop ends it when it finds a loop, and the
// container may have too little memory. The next process would begin with it again. So a process writes the hash of the
// Corefile on trial into a note, and removes the note when the Corefile is proven, or when the process ends normally. A
// process that finds such a note begins with the last good Corefile.
//
// The note is a file in memory that outlives the process and, in Kubernetes, its container: it belongs to the pod.
// Without this folder there are no notes.

// trialDir is the folder of notes.
const trialDir = "/dev/shm"

// deadly is the reason for not retrying a Corefile.
type deadly struct{}

func (deadly) Error() string {
	return fmt.Sprintf("a process that had it ended without a word within %s, and its log has why (kubectl logs --previous): a loop, or too little memory; edit it to have it tried again", proven)
}

// beginTrials reads the note of the previous process, and enables notes from now on. They are about Corefiles other
// than the last good one.
func (f *Follower) beginTrials(dir string) {
	if f.flags.lastGood.name == "" {
		return
	}
	sum := sha256.Sum256([]byte(f.flags.configMap.title() + "\n" + os.Getenv("KUBECONFIG")))
	f.trial, f.died = openNote(filepath.Join(dir, "kubehosts-"+hex.EncodeToString(sum[:8])))
	caddy.OnProcessExit = append(caddy.OnProcessExit, f.trial.end)
}

// onTrial writes a note that the Corefile with that hash is on trial, unless it is the last good
// one.
func (f *Follower) onTrial(hash string) {
	if f.proved(hash) {
		f.trial.clear()
		return
	}
	f.trial.write(hash)
}

// kills reports whether the previous process ended while the Corefile with that hash was on trial.
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
