package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// open opens a regular file for reading, and nothing else: it neither blocks on nor reads a named pipe or a device in
// its place. With root, unless "", the file is below that folder, whatever links lead to it (os.Root).
func open(root, path string) (*os.File, os.FileInfo, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	f, err := openIn(root, path, flags)
	if err != nil {
		return nil, nil, reason(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("it is %s, not a file", kindOf(info.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, nil, reason(err)
	}
	return f, info, nil
}

func openIn(root, path string, flags int) (*os.File, error) {
	if root == "" {
		return os.OpenFile(path, flags, 0) // #nosec G304 -- the Corefile names it
	}
	folder, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	return folder.OpenFile(rel, flags, 0)
}

// Stat is os.Stat, with an error if the file system does not respond for 5 s.
func Stat(path string) (os.FileInfo, error) {
	type result struct {
		info os.FileInfo
		err  error
	}
	r, err := begin("looking at "+safe.Printable(path), func(_, _ func()) (r result) {
		r.info, r.err = os.Stat(path)
		return r
	}).wait(context.Background(), stuck)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return r.info, r.err
}

// reason returns err without the path, which the caller logs anyway.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// stuck is how long one system call for a file may take before the file is skipped for now.
const stuck = 5 * time.Second

var errStuck = errors.New("the file system does not respond")

// errand is work on files, on a goroutine of its own, that a file system may block for good.
type errand[R any] struct {
	done  chan outcome[R] // has the outcome once there is one
	since atomic.Int64    // start of the current system call, as Unix time in nanoseconds; 0 without one
}

type outcome[R any] struct {
	result R
	err    error // a panic
}

// begin begins work. what names it, as for safe.Go. work calls beat before each system call, and returned after it if
// other work follows.
func begin[R any](what string, work func(beat, returned func()) R) *errand[R] {
	e := &errand[R]{done: make(chan outcome[R], 1)}
	beat := func() { e.since.Store(time.Now().UnixNano()) }
	beat()
	go func() { // its work is recovered, and the panic is the outcome
		var o outcome[R]
		o.err = safe.Recovered(what, func() { o.result = work(beat, func() { e.since.Store(0) }) })
		e.done <- o
	}()
	return e
}

// wait returns the result. It gives up when a system call takes longer than most, with errStuck, or when ctx ends. The
// error may also be a panic in the work.
func (e *errand[R]) wait(ctx context.Context, most time.Duration) (result R, err error) {
	look := time.NewTicker(most / 10)
	defer look.Stop()
	for {
		select {
		case o := <-e.done:
			return o.result, o.err
		case <-ctx.Done():
			return result, ctx.Err()
		case <-look.C:
			if since := e.since.Load(); since != 0 && time.Since(time.Unix(0, since)) > most {
				return result, errStuck
			}
		}
	}
}

// ended returns the outcome if there is one already.
func (e *errand[R]) ended() (o outcome[R], ok bool) {
	select {
	case o = <-e.done:
		return o, true
	default:
		return o, false
	}
}

// input reads a file, at most most bytes of it. It stores the first error of the file itself, which may pass, unlike
// faults of the content.
type input struct {
	file           *os.File
	most, read     int64
	beat, returned func()
	err            error
}

func (in *input) Read(b []byte) (int, error) {
	in.beat()
	n, err := in.file.Read(b)
	in.returned()
	if in.read += int64(n); in.read > in.most {
		return 0, tooLarge(in.read, in.most)
	}
	if err != nil && err != io.EOF {
		in.err = reason(err)
		return n, in.err
	}
	return n, err
}

func tooLarge(size, most int64) error {
	return fmt.Errorf("it has %d bytes or more, above the limit of %d MiB", size, most>>20)
}

// readTime is how long ReadAll may take.
const readTime = 30 * time.Second

// ReadAll returns the content of the file path, which may have most bytes. It is os.ReadFile for a path that others may
// change at any time: see Read. It also gives up after 30 s.
func ReadAll(path string, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	return Read(ctx, path, most, func(in io.Reader) ([]byte, error) {
		content, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", safe.Printable(path), err)
		}
		return content, nil
	})
}

// Read returns what parse makes of the file path, which may have most bytes. It neither waits for a named pipe nor
// reads a device, and gives up when ctx ends or the file system does not respond for 5 s. The error begins with the
// path, unless it is one of parse.
func Read[T any](ctx context.Context, path string, most int64, parse func(io.Reader) (T, error)) (T, error) {
	type result struct {
		content     T
		bad, failed error
	}
	r, err := begin("reading "+safe.Printable(path), func(beat, returned func()) (r result) {
		r.failed = readFile("", path, most, beat, returned, func(in io.Reader) error {
			r.content, r.bad = parse(in)
			return nil
		})
		return r
	}).wait(ctx, stuck)
	if err = cmp.Or(err, r.failed); err != nil {
		return r.content, fmt.Errorf("%s: %w", safe.Printable(path), err)
	}
	return r.content, r.bad
}

// readFile calls f to read the file path, below root unless that is "".
func readFile(root, path string, most int64, beat, returned func(), f func(io.Reader) error) error {
	beat()
	file, info, err := open(root, path)
	if err != nil {
		return err
	}
	defer file.Close()
	if info.Size() > most {
		return tooLarge(info.Size(), most)
	}
	return f(&input{file: file, most: most, beat: beat, returned: returned})
}

// rereadTime is how long Reread may take.
const rereadTime = 2 * time.Second

// Reread reads a file of FILE once more, at most most bytes of it, to search it. path is one of its matches. As when it
// was read first, it must not be a link out of the folder before the first wildcard. Reread gives up after 2 s, or when
// ctx ends. The error may come from f.
func Reread(ctx context.Context, pattern, path string, most int64, f func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, rereadTime)
	defer cancel()
	err, waited := begin("reading "+safe.Printable(path)+" again", func(beat, returned func()) error {
		s := &scan{dirs: make(map[string]names), pattern: pattern, beat: beat}
		real, _, err := s.walk(path)
		if err == nil && IsPattern(pattern) {
			s.root, _, err = s.walk(fixedPart(pattern))
		}
		if err != nil {
			return reason(err)
		}
		return readFile(s.root, real, most, beat, returned, f)
	}).wait(ctx, stuck)
	return cmp.Or(waited, err)
}

// At returns a line of a file in the form of errors and explanations: "corp.hosts:12".
func At(path string, line int) string { return fmt.Sprintf("%s:%d", safe.Printable(path), line) }
