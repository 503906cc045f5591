package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/hostile"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

// unprivileged runs the calling test as user 65532, the user of the image, and reports whether the process is that
// user: root can read every file.
func unprivileged(t *testing.T) bool {
	if os.Getuid() != 0 {
		return true
	}
	dir, err := os.MkdirTemp("", "unprivileged")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	must(t, err)
	binary, err := os.ReadFile(self)
	must(t, err, os.Chmod(dir, 0o755), os.WriteFile(dir+"/test", binary, 0o755)) // #nosec G302 G306 -- to be run
	cmd := exec.Command(dir+"/test", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as user 65532: %v\n%s", err, out)
	}
	return false
}

// A file that can't be read is refused once, and read as soon as it can be.
func TestFollowUnreadable(t *testing.T) {
	if !unprivileged(t) {
		return
	}
	dir := t.TempDir()
	path := dir + "/f"
	write(t, path, "1")
	var refused, repeated atomic.Int32
	r := reading(func() {}, path)
	r.Refused = func(_ string, err error, again bool) {
		refused.Add(1)
		if again {
			repeated.Add(1)
		}
		if err.Error() != "permission denied" {
			t.Errorf("refused: %v", err)
		}
	}
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	write(t, path+"~", "2")
	must(t, os.Chmod(path+"~", 0), os.Rename(path+"~", path))
	eventually(t, "it is reported", func() bool { return refused.Load() > 0 })
	if contents(fs) != "1" {
		t.Errorf("%q is served, want the last good content", contents(fs))
	}
	start := time.Now()
	must(t, os.Chmod(path, 0o644))
	eventually(t, "it can be read", func() bool { return contents(fs) == "2" })
	t.Logf("read %v after the chmod", time.Since(start).Round(time.Millisecond))
	if n, m := refused.Load(), repeated.Load(); n != 1 || m != 0 {
		t.Errorf("refused %d times, %d of them for the same reason; want 1 and 0", n, m)
	}

	// The folder, and one that is searched.
	sub := dir + "/d"
	must(t, os.Mkdir(sub, 0o700))
	write(t, sub+"/g", "3")
	glob, err := Follow(reading(func() {}, sub+"/*"))
	must(t, err)
	defer glob.Close()
	must(t, os.Chmod(sub, 0))
	write(t, path, "4") // its change has the folder checked
	glob.Look(t.Context())
	if got := contents(glob); got != "3" {
		t.Errorf("%q is served from an unreadable folder, want its last content", got)
	}
	must(t, os.Chmod(sub, 0o700), os.Remove(sub+"/g"))
	eventually(t, "the folder can be read", func() bool { return contents(glob) == "" })
}

// blind returns Files without notifications, which poll fast.
func blind(t *testing.T, patterns ...string) *Followed[string] {
	t.Helper()
	null, err := os.Open(os.DevNull)
	must(t, err)
	t.Cleanup(func() { null.Close() })
	r := reading(func() {}, patterns...)
	r.Poll = pollLeast
	fs, err := newFollowed(r)
	must(t, err)
	fs.watches.by = newNotifier(int(null.Fd())) // which is not an inotify instance
	go fs.run(t.Context())
	<-fs.started
	return fs
}

func TestFollowWithoutNotice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "1")
	fs := blind(t, dir+"/f")
	write(t, dir+"/f", "22")
	eventually(t, "written", func() bool { return contents(fs) == "22" })
	write(t, dir+"/f~", "3")
	must(t, os.Rename(dir+"/f~", dir+"/f"))
	eventually(t, "renamed over", func() bool { return contents(fs) == "3" })
}

// The last content of a file serves until its writer has closed it, whatever is in it meanwhile.
func TestFollowWaitsForWriter(t *testing.T) {
	for name, begin := range map[string]func(path string) (*os.File, error){
		"emptied":         os.Create,
		"overwritten":     func(path string) (*os.File, error) { return os.OpenFile(path, os.O_WRONLY, 0) },
		"appended to":     func(path string) (*os.File, error) { return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0) },
		"deleted, anew":   func(path string) (*os.File, error) { must(t, os.Remove(path)); return os.Create(path) },
		"opened for more": func(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/f"
			write(t, path, "old")
			write(t, dir+"/z", "0")
			r := reading(func() {}, dir+"/f", dir+"/z")
			r.KeepGone = true
			fs, err := Follow(r)
			must(t, err)
			defer fs.Close()
			passed := 0
			looked := func() { // the files were checked since
				t.Helper()
				passed++
				write(t, dir+"/z~", fmt.Sprint(passed))
				must(t, os.Rename(dir+"/z~", dir+"/z"))
				want := fmt.Sprintf("old %d", passed)
				eventually(t, "the other file", func() bool { return strings.HasSuffix(contents(fs), fmt.Sprintf(" %d", passed)) })
				if got := contents(fs); got != want {
					t.Errorf("%q is served while the file is open, want %q", got, want)
				}
			}
			f, err := begin(path)
			must(t, err)
			looked()
			for _, piece := range []string{"new", " and", " newer"} {
				_, err := f.WriteString(piece)
				must(t, err)
				looked()
			}
			end, err := f.Seek(0, io.SeekCurrent)
			must(t, err, f.Truncate(end), f.Close())
			whole, err := os.ReadFile(path)
			must(t, err)
			eventually(t, "closed", func() bool { return contents(fs) == fmt.Sprintf("%s %d", whole, passed) })
		})
	}
}

// settledAfter returns how long a change of a file waits until the file is read.
func settledAfter(t *testing.T, fs *Followed[string], st *fileState[string], m match, told bool) time.Duration {
	t.Helper()
	start := time.Now()
	for d := time.Duration(0); d < time.Hour; d += time.Second {
		if fs.settled(st, m, told, start.Add(d)) {
			return d
		}
		told = false
	}
	t.Fatal("it is never read")
	return 0
}

func TestSettled(t *testing.T) {
	hostile.CheckLog(t)
	for _, tc := range []struct {
		name    string
		blind   bool // no events
		old     string
		open    func(path string) (*os.File, error) // with a writer that never closes the file
		replace string                              // by another file
		size    int64
		told    bool
		want    time.Duration
	}{
		{name: "no writer is reported", blind: true, old: "1", size: 2, want: stillFor},
		{name: "truncated, and no writer is reported", blind: true, old: "1", size: 0, want: writerPatience},
		{name: "empty before", blind: true, old: "", size: 0, want: stillFor},
		{name: "a writer that does not close", old: "1", open: os.Create, size: 2, want: writerPatience},
		{name: "another file", old: "1", replace: "22", size: 2, told: true, want: 0},
		{name: "another file that is found", blind: true, old: "1", replace: "22", size: 2, want: stillFor},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/f"
			write(t, path, tc.old)
			old, err := os.Stat(path)
			must(t, err)
			fs, err := newFollowed(reading(func() {}, path))
			must(t, err)
			fs.first = false
			if !tc.blind {
				fs.watched(path, func() {})
			}
			switch {
			case tc.open != nil:
				f, err := tc.open(path)
				must(t, err)
				defer f.Close()
				must(t, f.Truncate(tc.size))
			case tc.replace != "":
				write(t, path+"~", tc.replace)
				must(t, os.Rename(path+"~", path))
			default:
				write(t, path, strings.Repeat("x", int(tc.size)))
			}
			info, err := os.Stat(path)
			must(t, err)
			st := &fileState[string]{File: File[string]{Path: path, Good: true, Size: old.Size()}, info: old}
			if got := settledAfter(t, fs, st, match{path: path, real: path, info: info}, tc.told); got != tc.want {
				t.Errorf("it is read after %v, want %v", got, tc.want)
			}
		})
	}
}

// All followers of files share one inotify instance.
func TestOneNotifier(t *testing.T) {
	instances := func() (n int) {
		all, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		for _, f := range all {
			if to, _ := os.Readlink("/proc/self/fd/" + f.Name()); to == "anon_inode:inotify" {
				n++
			}
		}
		return n
	}
	dir := t.TempDir()
	write(t, dir+"/f", "1")
	var all []*Followed[string]
	for range 300 {
		fs, _ := followed(t, dir+"/f")
		all = append(all, fs)
	}
	if n := instances(); n != 1 {
		t.Errorf("%d inotify instances, want 1", n)
	}
	write(t, dir+"/f", "22")
	for _, fs := range all {
		eventually(t, "each is notified", func() bool { return contents(fs) == "22" })
	}
	watched := func() int {
		inotify.mu.Lock()
		defer inotify.mu.Unlock()
		n := 0
		for wd := range inotify.watched {
			for w := range inotify.watched[wd] {
				for _, fs := range all {
					if fs.watches == w {
						n++
					}
				}
			}
		}
		return n
	}
	for _, fs := range all {
		fs.Close()
	}
	eventually(t, "unfollowed files are not watched", func() bool { return watched() == 0 })
}

// A named pipe in the place of a file blocks nothing, and the file's last content goes on serving.
func TestFollowNamedPipe(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", "1")
	write(t, dir+"/b", "2")
	r := reading(func() {}, dir+"/a", dir+"/b")
	fs, err := Follow(r)
	must(t, err)
	defer fs.Close()
	must(t, syscall.Mkfifo(dir+"/p", 0o600), os.Rename(dir+"/p", dir+"/a"))
	eventually(t, "it is reported", func() bool { return fs.All()[0].Problem == "it is a named pipe, not a file" })
	write(t, dir+"/b", "33")
	eventually(t, "the other file", func() bool { return contents(fs) == "1 33" })
	must(t, os.Remove(dir+"/a"))
	write(t, dir+"/a", "4")
	eventually(t, "a file again", func() bool { return contents(fs) == "4 33" })

	if _, _, err := open("", dir+"/p"); err == nil || !absent(err) {
		t.Errorf("a missing file: %v", err)
	}
	must(t, syscall.Mkfifo(dir+"/p", 0o600))
	for _, root := range []string{"", dir} {
		if _, _, err := open(root, dir+"/p"); err == nil || err.Error() != "it is a named pipe, not a file" {
			t.Errorf("a named pipe: %v", err)
		}
	}
}

// putAnything replaces path by a file, a folder, a link out of its folder to a secret in out, a link to itself, a named
// pipe or a device.
func putAnything(r *rand.Rand, out, path string) {
	aside := fmt.Sprintf("%s/.%d", filepath.Dir(path), r.Uint64())
	switch r.IntN(9) {
	case 0:
		_ = os.Symlink(out+"/f", aside)
	case 1:
		_ = os.Symlink(out+"/d", aside)
	case 2:
		_ = syscall.Mkfifo(aside, 0o600)
	case 3:
		_ = os.Symlink("/dev/zero", aside)
	case 4:
		_ = os.Mkdir(aside, 0o700)
		_ = os.WriteFile(aside+"/f", []byte("good"), 0o600)
	case 5:
		_ = os.Symlink("../"+filepath.Base(out)+"/f", aside)
	case 6:
		_ = os.Symlink(path, aside) // to itself
	default:
		_ = os.WriteFile(aside, []byte("good"), 0o600)
	}
	_ = os.RemoveAll(path)
	_ = os.Rename(aside, path)
}

// Files in a folder are swapped, as fast as possible, for links out of it, named pipes, devices and folders. Nothing
// outside the folder is ever read, and nothing hangs.
func TestHostileSwaps(t *testing.T) {
	hostile.CheckLog(t)
	out, dir := t.TempDir(), t.TempDir()
	write(t, out+"/f", "secret")
	must(t, os.Mkdir(out+"/d", 0o700))
	write(t, out+"/d/f", "secret")
	put := func(r *rand.Rand, path string) { putAnything(r, out, path) }
	var leaked atomic.Pointer[string]
	r := reading(func() {}, dir+"/*/f", dir+"/[ab]")
	parse := r.Parse
	r.Parse = func(path string, in io.Reader) (string, error) {
		s, err := parse(path, in)
		if err == nil && s != "good" {
			leaked.Store(&path)
		}
		return s, err
	}
	between := rand.New(rand.NewPCG(0, 1))
	r.stuck = stuck
	r.open = func(root, path string) (*os.File, os.FileInfo, error) {
		put(between, fmt.Sprintf("%s/%c", dir, 'a'+between.IntN(2))) // between the check and this
		return open(root, path)
	}
	fs, err := newFollowed(r)
	must(t, err)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 2 {
		r := rand.New(rand.NewPCG(uint64(i), 0))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					put(r, fmt.Sprintf("%s/%c", dir, 'a'+r.IntN(2)))
				}
			}
		})
	}
	reads := 0
	hostile.Run(t, 1000, func(*rand.Rand) {
		fs.round(t.Context(), true)
		for _, f := range fs.All() {
			if f.Good {
				reads++
			}
		}
		if path := leaked.Load(); path != nil {
			t.Errorf("%s was read, but leads out of the folder", *path)
		}
	})
	close(stop)
	wg.Wait()
	if reads == 0 {
		t.Error("none was read")
	}
	fs.reading.open = open
	must(t, os.RemoveAll(dir+"/a"), os.RemoveAll(dir+"/b"))
	write(t, dir+"/b", "good")
	fs.round(t.Context(), true)
	if got := contents(fs); got != "good" {
		t.Errorf("%q is served in the end", got)
	}
}

// File names may be any bytes.
func TestFollowHostileNames(t *testing.T) {
	dir := t.TempDir()
	names := []string{"m\xfcller", "a\n[INFO] forged", "*", "[", "a b", "\\", strings.Repeat("x", 255), "-", "\u202e", "%s%d"}
	for _, name := range names {
		write(t, filepath.Join(dir, name), "1")
	}
	fs, _ := followed(t, dir+"/*")
	if got := strings.Count(contents(fs), "1"); got != len(names) {
		t.Errorf("%d of %d files are read", got, len(names))
	}
	for _, name := range names {
		write(t, filepath.Join(dir, name), "22")
	}
	eventually(t, "all are read again", func() bool { return strings.Count(contents(fs), "22") == len(names) })
}

// A file is read again for an explanation, or read once at a start, while its path is swapped as fast as possible.
// Nothing outside the folder of a pattern is read, and nothing hangs.
func TestReadingWhatIsSwapped(t *testing.T) {
	out, dir := t.TempDir(), t.TempDir()
	write(t, out+"/f", "secret")
	must(t, os.Mkdir(out+"/d", 0o700))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-stop:
				return
			default:
				putAnything(r, out, dir+"/a")
			}
		}
	})
	good, whole := 0, 0
	for begun := time.Now(); good < 20 || whole < 20; {
		err := Reread(t.Context(), dir+"/[ab]", dir+"/a", 100, func(in io.Reader) error {
			b, err := io.ReadAll(in)
			if err == nil && string(b) != "good" {
				t.Errorf("%q was read", b)
			}
			return err
		})
		if err == nil {
			good++
		}
		if b, err := ReadAll(dir+"/a", 100); err == nil && len(b) > 0 {
			whole++
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("%d and %d files were read in %v", good, whole, time.Since(begun))
		}
	}
	close(stop)
	wg.Wait()
}

// What is not a file is refused at once, with the path, and a file over the limit is not read.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "0123456789")
	must(t, syscall.Mkfifo(dir+"/pipe", 0o600), os.Symlink("pipe", dir+"/link"), os.Symlink("loop", dir+"/loop"), os.Symlink("file", dir+"/other"))
	for _, tt := range []struct{ path, want string }{
		{dir + "/file", ""},
		{dir + "/other", ""},
		{dir + "/pipe", "it is a named pipe, not a file"},
		{dir + "/link", "it is a named pipe, not a file"},
		{dir + "/loop", "too many levels of symbolic links"},
		{dir, "it is a directory, not a file"},
		{"/dev/zero", "it is a device, not a file"},
		{dir + "/none", "no such file or directory"},
		{dir + "/a\nb", "no such file or directory"},
	} {
		b, err := ReadAll(tt.path, 10)
		switch {
		case tt.want == "" && (err != nil || string(b) != "0123456789"):
			t.Errorf("%s: %q, %v", tt.path, b, err)
		case tt.want != "" && (err == nil || err.Error() != safe.Printable(tt.path)+": "+tt.want):
			t.Errorf("%s: error %v, want %s", tt.path, err, tt.want)
		}
	}
	if _, err := ReadAll(dir+"/file", 9); err == nil || !strings.Contains(err.Error(), "above the limit") {
		t.Errorf("a file over the limit: %v", err)
	}
	if _, err := ReadAll(dir+"/none", 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
