package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/growth"
	"github.com/kubehosts/kubehosts/plugin/hostile"
)

const patience = 20 * time.Second

// followed follows patterns without polling, and returns a channel that receives a token for each
// call.
func followed(t *testing.T, patterns ...string) (*Followed[string], <-chan struct{}) {
	t.Helper()
	calls := make(chan struct{}, 100)
	fs, err := Follow(reading(func() { calls <- struct{}{} }, patterns...))
	must(t, err)
	t.Cleanup(fs.Close)
	return fs, calls
}

// reading reads whole files, and does not poll.
func reading(changed func(), patterns ...string) Reading[string] {
	return Reading[string]{
		Patterns: patterns, Poll: time.Hour, MaxSize: 1 << 20, MaxTotal: 1 << 21,
		Parse: func(_ string, r io.Reader) (string, error) {
			b, err := io.ReadAll(r)
			return string(b), err
		},
		Refused: func(string, error, bool) {},
		Changed: changed,
	}
}

// contents returns the contents of the files, separated by spaces.
func contents(fs *Followed[string]) string {
	var all []string
	for _, f := range fs.All() {
		if f.Good {
			all = append(all, f.Content)
		}
	}
	return strings.Join(all, " ")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, end := time.Tick(time.Millisecond), time.After(patience)
	for !ok() {
		select {
		case <-tick:
		case <-end:
			t.Fatalf("%s: not reached after %v", what, patience)
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	type change struct {
		do   func(t *testing.T, dir string)
		want string // the contents afterwards
	}
	put := func(name, text, want string) change {
		return change{func(t *testing.T, dir string) { write(t, filepath.Join(dir, name), text) }, want}
	}
	rename := func(from, to, want string) change {
		return change{func(t *testing.T, dir string) {
			must(t, os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)))
		}, want}
	}
	remove := func(name, want string) change {
		return change{func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, name))) }, want}
	}
	tests := []struct {
		name    string
		pattern string // in the directory
		before  func(t *testing.T, dir string)
		changes []change
	}{
		{
			name: "written in place", pattern: "f",
			before: func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
			changes: []change{
				put("f", "22", "22"), put("f", "333", "333"),
				put("f", "444", "444"), // the same size
				put("f", "", ""), put("f", "5", "5"),
			},
		},
		{
			name: "renamed over", pattern: "f",
			before:  func(t *testing.T, dir string) { write(t, dir+"/f", "1"); write(t, dir+"/f~", "2") },
			changes: []change{rename("f~", "f", "2"), put("f", "33", "33")},
		},
		{
			name: "deleted and back", pattern: "f",
			before:  func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
			changes: []change{remove("f", ""), put("f", "1", "1")},
		},
		{
			name: "missing, with its directories", pattern: "a/b/c/f",
			changes: []change{
				{func(t *testing.T, dir string) {
					must(t, os.MkdirAll(dir+"/a/b/c", 0o700))
					write(t, dir+"/a/b/c/f", "1")
				}, "1"},
				put("a/b/c/f", "22", "22"),
			},
		},
		{
			name: "directory deleted and back", pattern: "d/f",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/d", 0o700))
				write(t, dir+"/d/f", "1")
			},
			changes: []change{
				remove("d", ""),
				{func(t *testing.T, dir string) {
					must(t, os.Mkdir(dir+"/d", 0o700))
					write(t, dir+"/d/f", "1")
				}, "1"},
				put("d/f", "22", "22"),
			},
		},
		{
			name: "directory renamed away, another in its place", pattern: "d/f",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/d", 0o700), os.Mkdir(dir+"/e", 0o700))
				write(t, dir+"/d/f", "1")
				write(t, dir+"/e/f", "2")
			},
			changes: []change{rename("d", "old", ""), rename("e", "d", "2"), put("d/f", "33", "33")},
		},
		{
			name: "a mounted ConfigMap", pattern: "f",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/..2026_1", 0o700), os.Symlink("..2026_1", dir+"/..data"), os.Symlink("..data/f", dir+"/f"))
				write(t, dir+"/..2026_1/f", "1")
			},
			changes: []change{
				{func(t *testing.T, dir string) { swap(t, dir, "..2026_1", "..2026_2") }, "..2026_2"},
				{func(t *testing.T, dir string) { swap(t, dir, "..2026_2", "..2026_3") }, "..2026_3"},
			},
		},
		{
			name: "a mounted ConfigMap behind a wildcard", pattern: "*",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/..2026_1", 0o700), os.Symlink("..2026_1", dir+"/..data"), os.Symlink("..data/f", dir+"/f"))
				write(t, dir+"/..2026_1/f", "1")
			},
			changes: []change{
				{func(t *testing.T, dir string) { swap(t, dir, "..2026_1", "..2026_2") }, "..2026_2"},
				{func(t *testing.T, dir string) { swap(t, dir, "..2026_2", "..2026_3") }, "..2026_3"},
			},
		},
		{
			name: "a link to elsewhere", pattern: "l",
			before: func(t *testing.T, dir string) {
				must(t, os.MkdirAll(dir+"/x/y", 0o700), os.Symlink(dir+"/x/y/../m", dir+"/l"), os.Symlink("y/f", dir+"/x/m"))
				write(t, dir+"/x/y/f", "1")
			},
			changes: []change{put("x/y/f", "22", "22"), remove("x/m", ""), put("x/m", "33", "33")},
		},
		{
			name: "a wildcard", pattern: "*/*.hosts",
			before: func(t *testing.T, dir string) {
				must(t, os.Mkdir(dir+"/a", 0o700))
				write(t, dir+"/a/1.hosts", "1")
			},
			changes: []change{
				put("a/2.hosts", "2", "1 2"),
				{func(t *testing.T, dir string) {
					must(t, os.Mkdir(dir+"/b", 0o700))
					write(t, dir+"/b/1.hosts", "3")
				}, "1 2 3"},
				put("b/1.hosts", "44", "1 2 44"), remove("a/1.hosts", "2 44"),
			},
		},
		{
			name: "another name of a file", pattern: "*.hosts",
			before:  func(t *testing.T, dir string) { write(t, dir+"/f", "1") },
			changes: []change{{func(t *testing.T, dir string) { must(t, os.Link(dir+"/f", dir+"/a.hosts")) }, "1"}},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.before != nil {
				tc.before(t, dir)
			}
			fs, _ := followed(t, filepath.Join(dir, tc.pattern))
			for i, c := range tc.changes {
				c.do(t, dir)
				eventually(t, fmt.Sprintf("change %d", i+1), func() bool { return contents(fs) == c.want })
			}
		})
	}
}

// swap changes a mounted ConfigMap as the kubelet does.
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

// Changes that do not affect the file must not be reported. The calls are counted up to a change that comes after
// all others.
func TestFollowTellsNothingElse(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "1")
	fs, calls := followed(t, dir+"/f")
	write(t, dir+"/other", "1")
	write(t, dir+"/f.swp", "2")
	must(t, os.Mkdir(dir+"/d", 0o700), os.Remove(dir+"/other"), os.Rename(dir+"/f.swp", dir+"/f"))
	eventually(t, "the change", func() bool { return contents(fs) == "2" })
	<-calls
	if n := len(calls); n > 0 {
		t.Errorf("%d calls too many", n)
	}
}

func TestFollowPollsNotTooOften(t *testing.T) {
	r := reading(func() {}, t.TempDir()+"/f")
	r.Poll = time.Nanosecond
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	if poll := time.Duration(fs.poll.Load()); poll != pollLeast {
		t.Errorf("files are checked every %v, want %v at least", poll, pollLeast)
	}
	fs.SetPoll(time.Hour)
	if poll := time.Duration(fs.poll.Load()); poll != time.Hour {
		t.Errorf("files are checked every %v, want an hour", poll)
	}
}

func TestFollowRefusesBadPattern(t *testing.T) {
	if _, err := Follow(reading(func() {}, "/a[")); !errors.Is(err, filepath.ErrBadPattern) {
		t.Errorf("got %v", err)
	}
}

// Files that are read once are checked again on request, and until they were read.
func TestFollowOnce(t *testing.T) {
	dir := t.TempDir()
	r := reading(func() {}, dir+"/a", dir+"/b")
	write(t, dir+"/a", "1")
	r.Poll = 0
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	write(t, dir+"/a", "22")
	write(t, dir+"/b", "3") // it takes a second until the next attempt
	eventually(t, "the file that was missing", func() bool { return contents(fs) == "1 3" })
	fs.Look(t.Context())
	eventually(t, "requested", func() bool { return contents(fs) == "22 3" }) // once it is unchanged for a while
}

func TestFollowLimits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", strings.Repeat("a", 10))
	write(t, dir+"/b", strings.Repeat("b", 16))
	write(t, dir+"/c", strings.Repeat("c", 17))
	write(t, dir+"/d", strings.Repeat("d", 10))
	r := reading(func() {}, dir+"/*")
	r.MaxSize, r.MaxTotal = 16, 30
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	if got, want := contents(fs), "aaaaaaaaaa bbbbbbbbbbbbbbbb"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, f := range fs.All() {
		if strings.ContainsAny(filepath.Base(f.Path), "cd") != (f.Refused == 1) {
			t.Errorf("%+v", f)
		}
	}
	must(t, os.Remove(dir+"/a"))
	eventually(t, "within the limit again", func() bool { return contents(fs) == "bbbbbbbbbbbbbbbb dddddddddd" })
}

// The work for many files is in proportion to their number: no file is compared with all others.
func TestFollowGrowth(t *testing.T) {
	growth.Linear(t, 2000, func(n int) []growth.Work {
		dir := t.TempDir()
		for i := range n {
			write(t, fmt.Sprintf("%s/%d.hosts", dir, i), "1")
		}
		fs, err := newFollowed(reading(func() {}, dir+"/*.hosts"))
		must(t, err)
		defer fs.watches.close()
		first := growth.Of(func() { fs.round(t.Context(), true) })
		if len(fs.All()) != n {
			t.Fatalf("%d files are followed, want %d", len(fs.All()), n)
		}
		return []growth.Work{first}
	})
}

func TestFollowKeepsGone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", "1")
	write(t, dir+"/b.hosts", "2")
	r := reading(func() {}, dir+"/a", dir+"/*.hosts")
	r.KeepGone = true
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	must(t, os.Remove(dir+"/a"), os.Remove(dir+"/b.hosts"))
	eventually(t, "only the named one stays", func() bool { return contents(fs) == "1" })
	write(t, dir+"/a", "3")
	eventually(t, "it is back", func() bool { return contents(fs) == "3" })
}

// A panic in the parser affects one file.
func TestFollowParserPanics(t *testing.T) {
	hostile.CheckLog(t)
	dir := t.TempDir()
	write(t, dir+"/a", "bad")
	write(t, dir+"/b", "2")
	r := reading(func() {}, dir+"/*")
	parse := r.Parse
	r.Parse = func(path string, in io.Reader) (string, error) {
		s, err := parse(path, in)
		if s == "bad" {
			panic(s)
		}
		return s, err
	}
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	if got := contents(fs); got != "2" {
		t.Errorf("got %q", got)
	}
	write(t, dir+"/a", "1")
	eventually(t, "mended", func() bool { return contents(fs) == "1 2" })
}

// A file system that does not respond for one file holds up only that file.
func TestFollowStuck(t *testing.T) {
	hostile.CheckLog(t)
	dir := t.TempDir()
	write(t, dir+"/a", "1")
	write(t, dir+"/b", "2")
	r := reading(func() {}, dir+"/*")
	var hangs atomic.Bool
	answer := make(chan struct{})
	r.stuck = 50 * time.Millisecond
	r.open = func(root, path string) (*os.File, os.FileInfo, error) {
		if hangs.Load() && filepath.Base(path) == "a" {
			<-answer
		}
		return open(root, path)
	}
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	hangs.Store(true)
	write(t, dir+"/a", "33")
	eventually(t, "it is reported", func() bool { return fs.All()[0].Problem != "" })
	write(t, dir+"/b", "44")
	eventually(t, "the other is read", func() bool { return contents(fs) == "1 44" })
	hangs.Store(false)
	close(answer)
	eventually(t, "it responds", func() bool { return contents(fs) == "33 44" && fs.All()[0].Problem == "" })
}

func TestFollowBoundsWhatIsStuck(t *testing.T) {
	hostile.CheckLog(t)
	dir := t.TempDir()
	for i := range 10 {
		write(t, fmt.Sprintf("%s/%d", dir, i), "1")
	}
	var hanging atomic.Int32
	answer := make(chan struct{})
	r := reading(func() {}, dir+"/*")
	r.stuck = 20 * time.Millisecond
	r.open = func(root, path string) (*os.File, os.FileInfo, error) {
		hanging.Add(1)
		<-answer
		return open(root, path)
	}
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	if n := hanging.Load(); n != maxStuck {
		t.Errorf("%d reads hang, want %d", n, maxStuck)
	}
	close(answer)
	eventually(t, "all are read", func() bool { return strings.Count(contents(fs), "1") == 10 })
}

// expand returns the files that patterns match, as for followed files.
func expand(patterns []string) (paths []string) {
	for _, p := range patterns {
		for _, f := range look(p, func() {}).found {
			if f.err == nil {
				paths = append(paths, f.path)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func TestLook(t *testing.T) {
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
		{[]string{"missing", "a"}, nil},
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
		if got := expand(patterns); !slices.Equal(got, want) {
			t.Errorf("look(%v) = %v, want %v", tc.patterns, got, want)
		}
	}
}
