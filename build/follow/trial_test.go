package follow

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/source"
)

// A process that ended unexpectedly leaves the hash of the Corefile on trial. One that ended normally, that proved the
// Corefile, or that is still running does not.
func TestTrials(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // there are no notes
	}
	dir := t.TempDir()
	begin := func(args string) *Follower {
		t.Helper()
		flags, err := parsed(t, strings.Fields(args)...)
		if err != nil {
			t.Fatal(err)
		}
		f := New(flags, "")
		f.beginTrials(dir)
		return f
	}
	const args = "-configmap a/b -last-good a/good"
	end := func(f *Follower) {
		if f.trial != nil {
			f.trial.file.Close() // as the kernel does
		}
	}
	hash := hashOfBody("text")

	first := begin(args)
	if first.died != "" {
		t.Errorf("at first: %q", first.died)
	}
	first.onTrial(hash)
	if beside := begin(args); beside.trial != nil || beside.died != "" {
		t.Error("a process beside it takes it for one that ended")
	}
	if other := begin("-configmap a/c -last-good a/good"); other.died != "" {
		t.Error("the note is another ConfigMap's")
	} else {
		end(other)
	}
	end(first)

	second := begin(args)
	if !second.kills(hash) || second.kills(hashOfBody("another")) {
		t.Errorf("after the end: %q", second.died)
	}
	second.trial.clear() // the note is not its own
	end(second)
	third := begin(args)
	if !third.kills(hash) {
		t.Error("the note is gone with a process that did not try it")
	}
	third.hear(third.flags.lastGood.object(), source.ConfigMapEvent{Found: true, Data: map[string]string{"Corefile": "text"}})
	if third.kills(hash) {
		t.Error("what was proved is not tried")
	}
	third.onTrial(hashOfBody("another"))
	third.trial.clear()
	end(third)
	fourth := begin(args)
	if fourth.died != "" {
		t.Errorf("after it was proved: %q", fourth.died)
	}
	fourth.onTrial(hash)
	fourth.trial.end()
	end(fourth)
	if notes, _ := filepath.Glob(filepath.Join(dir, "kubehosts-*")); len(notes) != 1 { // that of the other ConfigMap
		t.Errorf("after an orderly end: %v", notes)
	}

	if f := begin("-configmap a/b"); f.trial != nil {
		t.Error("something is on trial though there is no last good Corefile")
	}
	last := begin(args)
	end(last)
	if err := os.Remove(last.trial.file.Name()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", last.trial.file.Name()); err != nil {
		t.Fatal(err)
	}
	if f := begin(args); f.trial != nil || f.died != "" {
		t.Error("a symbolic link is followed")
	}
	dir = filepath.Join(dir, "nowhere")
	f := begin(args)
	f.onTrial(hash)
	f.trial.clear()
	if f.trial != nil {
		t.Error("there is a note in no folder")
	}
}
