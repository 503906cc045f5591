package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

const (
	// maxFiles limits the files of one pattern that are read, the first in the order of their names, and the folders
	// that are searched.
	maxFiles = 10_000

	// maxMatches limits the matching names that are sorted for that.
	maxMatches = 100_000

	maxLinks = 40 // symbolic links on the path to one file, the limit of Linux
)

const (
	separator = string(filepath.Separator)
	globMeta  = `*?[\`
)

// IsPattern reports whether s has a wildcard or an escape of filepath.Match.
func IsPattern(s string) bool { return strings.ContainsAny(s, globMeta) }

// Escape returns a pattern that matches s only.
func Escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(globMeta, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// hidden reports whether a wildcard must skip name: as in a shell, it does not match a leading dot. So the ..data of a
// mounted ConfigMap and the scratch files of editors are left out.
func hidden(name, pattern string) bool {
	return strings.HasPrefix(name, ".") && !strings.HasPrefix(pattern, ".")
}

// fixedPart returns the folder before the first wildcard of a pattern.
func fixedPart(pattern string) string {
	return filepath.Dir(pattern[:strings.IndexAny(pattern, globMeta)] + "x")
}

// match is a file that a pattern matches.
type match struct {
	path string      // in the form of the pattern
	real string      // the same without links
	info os.FileInfo // nil with err
	err  error       // why it can't be checked, or isn't a file; it may pass
}

// names are names in a folder, or patterns of names.
type names map[string]struct{}

// scan is a search for the files of a pattern.
type scan struct {
	found []match
	dirs  map[string]names // the folders that determine the result, each with its relevant names; and named files, without names
	err   error            // why files may be missing: a folder that can't be read
	more  bool             // there are more than maxFiles

	pattern string
	root    string // the fixed part of pattern, without links; "" without a wildcard
	visited int    // folders
	beat    func() // called before each system call
}

// look searches for the files of pattern, an absolute path or a pattern of filepath.Match. A wildcard matches neither a
// leading dot of a name nor a link out of the folder before the first wildcard: a person who fills a folder must not
// choose what else is read. beat is called again and again, as long as the file system responds.
func look(pattern string, beat func()) *scan {
	s := &scan{dirs: make(map[string]names), pattern: pattern, beat: beat}
	if !IsPattern(pattern) {
		s.named()
		return s
	}
	fixed := fixedPart(pattern)
	dir, _, err := s.walk(fixed)
	if err != nil {
		s.fail(err)
		return s
	}
	s.root = dir
	s.glob(fixed, dir, strings.Split(strings.TrimPrefix(pattern[len(fixed):], separator), separator))
	if s.more = len(s.found) > maxFiles; s.more {
		s.found = s.found[:maxFiles]
	}
	return s
}

// fail records a folder that can't be read, unless it does not exist.
func (s *scan) fail(err error) {
	if !absent(err) && s.err == nil {
		s.err = err
	}
}

// absent reports whether err means that there is no such file. All other errors may pass.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// named checks a pattern that is a path.
func (s *scan) named() {
	real, info, err := s.walk(s.pattern)
	switch {
	case absent(err) || err == nil && info.IsDir():
		return
	case err != nil:
		s.found = []match{{path: s.pattern, real: real, err: err}}
		return
	}
	s.dirs[real] = nil // it may be a mount point, so that its folder shows no changes
	s.add(s.pattern, real, info)
}

func (s *scan) add(path, real string, info os.FileInfo) {
	f := match{path: path, real: real, info: info}
	if !info.Mode().IsRegular() {
		f.info, f.err = nil, fmt.Errorf("it is %s, not a file", kindOf(info.Mode()))
	}
	s.found = append(s.found, f)
}

func kindOf(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeNamedPipe != 0:
		return "a named pipe"
	case m&os.ModeSocket != 0:
		return "a socket"
	case m&os.ModeDevice != 0:
		return "a device"
	}
	return "special (" + m.Type().String() + ")"
}

// glob searches for matches of rest in the folder dir. path is its name with links.
func (s *scan) glob(path, dir string, rest []string) {
	if s.visited++; s.visited > maxFiles || len(s.found) > maxFiles {
		s.more = true
		return
	}
	pattern := rest[0]
	s.watch(dir, pattern)
	matches, err := s.matches(dir, pattern)
	if err != nil {
		s.fail(err)
		return
	}
	for _, name := range matches {
		real, info, err := s.step(filepath.Join(path, name), filepath.Join(dir, name))
		switch {
		case absent(err):
		case err != nil:
			s.found = append(s.found, match{path: filepath.Join(path, name), real: real, err: err})
		case !s.within(filepath.Join(path, name), real):
		case len(rest) > 1 && info.IsDir():
			s.glob(filepath.Join(path, name), real, rest[1:])
		case len(rest) == 1 && info.Mode().IsRegular():
			s.add(filepath.Join(path, name), real, info)
		}
	}
}

// step returns the target of path, whose folder at is given without links.
func (s *scan) step(path, at string) (real string, info os.FileInfo, err error) {
	s.beat()
	info, err = os.Lstat(at)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		return at, info, err
	}
	return s.walk(path)
}

// matches returns the names in dir that match pattern, sorted.
func (s *scan) matches(dir, pattern string) ([]string, error) {
	if !IsPattern(pattern) {
		return []string{pattern}, nil
	}
	s.beat()
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec G304 -- the Corefile names it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []string
	for {
		s.beat()
		some, err := f.Readdirnames(1000)
		for _, name := range some {
			if ok, _ := filepath.Match(pattern, name); ok && !hidden(name, pattern) {
				all = append(all, name)
			}
		}
		if len(all) > maxMatches {
			s.fail(fmt.Errorf("more than %d names in %s match", maxMatches, dir))
			err = io.EOF
		}
		if err == io.EOF {
			slices.Sort(all)
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// within reports whether real, the target of path, is below the folder before the wildcards.
func (s *scan) within(path, real string) bool {
	if rel, err := filepath.Rel(s.root, real); err == nil && filepath.IsLocal(rel) {
		return true
	}
	if logged.First("link " + path) {
		log.Warningf("%s is left out: it is a link out of %s, to %s; to include it, name it without a wildcard", safe.Printable(path), safe.Printable(s.root), safe.Printable(real))
	}
	return false
}

// watch records that name in dir is relevant.
func (s *scan) watch(dir, name string) {
	if s.dirs[dir] == nil {
		s.dirs[dir] = make(names)
	}
	s.dirs[dir][name] = struct{}{}
}

// walk follows path to its end and returns the result without links. It watches the folders that determine the result:
// that of the file, those of links on the way and, where the path breaks off, the last one that exists.
func (s *scan) walk(path string) (real string, info os.FileInfo, err error) {
	at := filepath.VolumeName(path) + separator
	rest := strings.Split(strings.Trim(path[len(at)-1:], separator), separator)
	links := maxLinks
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at, info = filepath.Dir(at), nil
			continue
		}
		next := filepath.Join(at, name)
		s.beat()
		info, err = os.Lstat(next)
		link := err == nil && info.Mode()&os.ModeSymlink != 0
		if err != nil || link || len(rest) == 0 {
			s.watch(at, name)
		}
		if err != nil {
			return next, nil, err
		}
		if !link {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil {
			return next, nil, err
		}
		if links--; links < 0 {
			return next, nil, &os.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
		}
		if filepath.IsAbs(target) {
			at = filepath.VolumeName(target) + separator
			target = target[len(at)-1:]
		}
		rest = append(strings.Split(strings.Trim(target, separator), separator), rest...)
	}
	if info == nil { // it ends in "..", or is the root
		s.beat()
		info, err = os.Lstat(at)
	}
	return at, info, err
}
