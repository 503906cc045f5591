package source

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

const patience = 20 * time.Second

// followed follows patterns without polling, and returns what receives a token for each call.
func followed(t *testing.T, patterns ...string) <-chan struct{} {
	t.Helper()
	calls := make(chan struct{}, 100)
	fs, err := Follow(patterns, 0, func() { calls <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fs.Close)
	return calls
}

func awaitCall(t *testing.T, calls <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-calls:
	case <-time.After(patience):
		t.Fatalf("%s: not told", what)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	tests := []struct {
		name    string
		pattern string // in the directory
		before  func(t *testing.T, dir string)
		changes []func(t *testing.T, dir string) // each must be told
	}{
		{
			name: "written in place", pattern: "f",
			before: func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) { write(t, dir+"/f", "22") },
				func(t *testing.T, dir string) { write(t, dir+"/f", "333") },
				func(t *testing.T, dir string) { write(t, dir+"/f", "444") }, // the size says nothing
			},
		},
		{
			name: "renamed over", pattern: "f",
			before: func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) {
					write(t, dir+"/f~", "2")
					must(t, os.Rename(dir+"/f~", dir+"/f"))
				},
				func(t *testing.T, dir string) { write(t, dir+"/f", "33") },
			},
		},
		{
			name: "deleted and back", pattern: "f",
			before: func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) { must(t, os.Remove(dir+"/f")) },
				func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
			},
		},
		{
			name: "not there yet, nor its directories", pattern: "a/b/c/f",
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) {
					must(t, os.MkdirAll(dir+"/a/b/c", 0o700))
					write(t, dir+"/a/b/c/f", "1")
				},
				func(t *testing.T, dir string) { write(t, dir+"/a/b/c/f", "22") },
			},
		},
		{
			name: "directory deleted and back", pattern: "d/f",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/d", 0o700))
				write(t, dir+"/d/f", "1")
			},
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/d")) },
				func(t *testing.T, dir string) {
					must(t, os.Mkdir(dir+"/d", 0o700))
					write(t, dir+"/d/f", "1")
				},
				func(t *testing.T, dir string) { write(t, dir+"/d/f", "22") },
			},
		},
		{
			name: "directory renamed away, another in its place", pattern: "d/f",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/d", 0o700), os.Mkdir(dir+"/e", 0o700))
				write(t, dir+"/d/f", "1")
				write(t, dir+"/e/f", "2")
			},
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) { must(t, os.Rename(dir+"/d", dir+"/old")) },
				func(t *testing.T, dir string) { must(t, os.Rename(dir+"/e", dir+"/d")) },
				func(t *testing.T, dir string) { write(t, dir+"/d/f", "33") },
			},
		},
		{
			name: "a mounted ConfigMap", pattern: "f",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/..2026_1", 0o700), os.Symlink("..2026_1", dir+"/..data"), os.Symlink("..data/f", dir+"/f"))
				write(t, dir+"/..2026_1/f", "1")
			},
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) { swap(t, dir, "..2026_1", "..2026_2") },
				func(t *testing.T, dir string) { swap(t, dir, "..2026_2", "..2026_3") },
			},
		},
		{
			name: "a link to elsewhere", pattern: "l",
			before: func(t *testing.T, dir string) {
				must(t, os.MkdirAll(dir+"/x/y", 0o700), os.Symlink(dir+"/x/y/../m", dir+"/l"), os.Symlink("y/f", dir+"/x/m"))
				write(t, dir+"/x/y/f", "1")
			},
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) { write(t, dir+"/x/y/f", "22") },
				func(t *testing.T, dir string) { must(t, os.Remove(dir+"/x/m")) },
				func(t *testing.T, dir string) { write(t, dir+"/x/m", "22") },
			},
		},
		{
			name: "a wildcard", pattern: "*/*.hosts",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/a", 0o700))
				write(t, dir+"/a/1.hosts", "1")
			},
			changes: []func(t *testing.T, dir string){
				func(t *testing.T, dir string) { write(t, dir+"/a/2.hosts", "1") },
				func(t *testing.T, dir string) {
					must(t, os.Mkdir(dir+"/b", 0o700))
					write(t, dir+"/b/1.hosts", "1")
				},
				func(t *testing.T, dir string) { write(t, dir+"/b/1.hosts", "22") },
				func(t *testing.T, dir string) { must(t, os.Remove(dir+"/a/1.hosts")) },
			},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.before != nil {
				tc.before(t, dir)
			}
			calls := followed(t, filepath.Join(dir, tc.pattern))
			for i, change := range tc.changes {
				for drained := false; !drained; { // a change in two steps may have been told twice
					select {
					case <-calls:
					default:
						drained = true
					}
				}
				change(t, dir)
				awaitCall(t, calls, tc.name+", change "+string(rune('1'+i)))
			}
		})
	}
}

// swap does what the kubelet does with a changed ConfigMap.
func swap(t *testing.T, dir, from, to string) {
	t.Helper()
	must(t, os.Mkdir(filepath.Join(dir, to), 0o700))
	write(t, filepath.Join(dir, to, "f"), to)
	must(t,
		os.Symlink(to, filepath.Join(dir, "..data_tmp")),
		os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")),
		os.RemoveAll(filepath.Join(dir, from)),
	)
}

// What does not concern the file must not be told: the calls are counted up to a change that comes after all others.
func TestFollowTellsNothingElse(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "1")
	calls := followed(t, dir+"/f")
	write(t, dir+"/other", "1")
	write(t, dir+"/f.swp", "1")
	must(t, os.Mkdir(dir+"/d", 0o700), os.Remove(dir+"/other"), os.Rename(dir+"/f.swp", dir+"/f"))
	awaitCall(t, calls, "the change")
	if n := len(calls); n > 0 {
		t.Errorf("%d calls too many", n)
	}
}

func TestFollowPolls(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "1")
	fs, err := Follow([]string{dir + "/f"}, time.Millisecond, func() {})
	must(t, err)
	fs.Close()
	if fs.poll != pollLeast {
		t.Errorf("files are looked at every %v, want %v at the soonest", fs.poll, pollLeast)
	}

	// One that gets no events.
	calls := make(chan struct{}, 100)
	blind := &Files{patterns: []string{dir + "/f"}, poll: time.Millisecond, changed: func() { calls <- struct{}{} }, cancel: func() {}}
	blind.unnotified(fsnotify.ErrEventOverflow)
	blind.last = blind.look()
	go blind.run(t.Context())
	write(t, dir+"/f", "22")
	awaitCall(t, calls, "a change that is polled")
}

func TestUnnotifiedPolls(t *testing.T) {
	fs := &Files{patterns: []string{"/f"}}
	fs.unnotified(errors.New("too many open files"))
	if fs.poll != pollUnnotified {
		t.Errorf("files are looked at every %v, want %v", fs.poll, pollUnnotified)
	}
}

func TestFollowRefusesBadPattern(t *testing.T) {
	if _, err := Follow([]string{"/a["}, 0, func() {}); !errors.Is(err, filepath.ErrBadPattern) {
		t.Errorf("got %v", err)
	}
}

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/a/..data", 0o700), os.Mkdir(dir+"/b", 0o700))
	for _, f := range []string{"a/1.hosts", "a/.2.hosts", "a/..data/3.hosts", "b/4.hosts", "5"} {
		write(t, filepath.Join(dir, f), "")
	}
	must(t, os.Symlink("nowhere", dir+"/a/6.hosts"), os.Symlink("../5", dir+"/a/7.hosts"), os.Mkdir(dir+"/c", 0o700), os.Symlink("../a", dir+"/c/link"))
	tests := []struct {
		patterns []string
		want     []string
	}{
		{[]string{"5", "b/4.hosts", "5"}, []string{"5", "b/4.hosts"}},
		{[]string{"missing", "a", "a["}, nil},
		{[]string{"*/*.hosts"}, []string{"a/1.hosts", "a/7.hosts", "b/4.hosts"}},
		{[]string{"a/.*.hosts"}, []string{"a/.2.hosts"}},
		{[]string{"a/*/*.hosts"}, nil},
		{[]string{"a/*", "a/1.hosts"}, []string{"a/1.hosts"}}, // 7.hosts leads out of a
		{[]string{"a/*", "a/7.hosts"}, []string{"a/1.hosts", "a/7.hosts"}},
		{[]string{"a/[7].hosts"}, nil},
		{[]string{"c/link/*"}, []string{"c/link/1.hosts"}},
	}
	for _, tc := range tests {
		var patterns, want []string
		for _, p := range tc.patterns {
			patterns = append(patterns, filepath.Join(dir, p))
		}
		for _, f := range tc.want {
			want = append(want, filepath.Join(dir, f))
		}
		if got := Expand(patterns); !slices.Equal(got, want) {
			t.Errorf("Expand(%v) = %v, want %v", tc.patterns, got, want)
		}
	}
}
