package corefile

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy/caddyfile"
	"golang.org/x/sys/unix"
)

// words returns the words of a Corefile as CoreDNS reads them: its server blocks, with the line breaks that plugins
// see.
func words(t *testing.T, name, body string) ([]string, error) {
	t.Helper()
	blocks, err := caddyfile.Parse(name, strings.NewReader(body), nil)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, b := range blocks {
		all = append(all, "keys "+strings.Join(b.Keys, " "))
		for _, name := range sortedKeys(b.Tokens) {
			last := caddyfile.Token{}
			for _, tok := range b.Tokens[name] {
				if tok.File != last.File || tok.Line != last.Line+strings.Count(last.Text, "\n") {
					all = append(all, "newline")
				}
				all, last = append(all, tok.Text), tok
			}
		}
	}
	return all, nil
}

func sortedKeys(m map[string][]caddyfile.Token) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := range i {
			if keys[i] < keys[j] {
				keys[i], keys[j] = keys[j], keys[i]
			}
		}
	}
	return keys
}

// folder writes files, and returns their folder.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A whole Corefile means the same to CoreDNS as the original with its imported files.
func TestReadMeansTheSame(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"nothing":        {"Corefile": ".:53 {\n errors\n}\n"},
		"empty":          {"Corefile": ""},
		"override":       {"Corefile": ".:53 {\n errors\n import custom/*.override\n forward . 1.1.1.1\n}\nimport custom/*.server\n", "custom/a.override": "log", "custom/b.override": "rewrite stop {\n name a b\n}\n", "custom/z.server": "example.org {\n whoami\n}"},
		"none":           {"Corefile": ".:53 {\n errors\n import custom/*.override\n}\nimport custom/*.server\n"},
		"in a stanza":    {"Corefile": ".:53 {\n hosts {\n  import more\n  fallthrough\n }\n}\n", "more": "10.0.0.1 a\n10.0.0.2 b"},
		"behind a brace": {"Corefile": ".:53 { import more\n}\n", "more": "errors\nlog"},
		"nested":         {"Corefile": "import one\n", "one": "import two # a comment\nimport three", "two": ". {\n errors\n", "three": "log\n}\n"},
		"snippets":       {"Corefile": "(snip) {\n errors\n log\n}\n. {\n import snip\n import more\n}\n", "more": "import snip2", "snip2": "whoami"},
		"in a snippet":   {"Corefile": "(snip) {\n errors\n import more\n}\n. {\n import snip\n}\n", "more": "log"},
		"snippet there":  {"Corefile": "import more\n. {\n import snip\n}\n", "more": "(snip) {\n errors\n}\n"},
		"open quote":     {"Corefile": ". {\n import more\n log\n}\n", "more": "errors \"a b"},
		"open, empty":    {"Corefile": ". {\n import more\n log\n}\n", "more": "errors \""},
		"open, escaped":  {"Corefile": ". {\n import more\n log\n}\n", "more": "errors \"a\\"},
		"byte order":     {"Corefile": ". {\n import more\n log\n}\n", "more": "\uFEFFerrors"},
		"two arguments":  {"Corefile": ". {\n import more log\n}\n", "more": "errors"},
		"a word":         {"Corefile": ". {\n errors import more\n}\n", "more": "log"},
		"line breaks":    {"Corefile": ". {\r\n import more\r\n log\r\n}\r\n", "more": "errors\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, files)
			path := filepath.Join(dir, "Corefile")
			want, wantErr := words(t, path, files["Corefile"])
			text, err := Read(Source{Name: path, Text: files["Corefile"], Dir: dir}, Files)
			if err != nil {
				t.Fatal(err)
			}
			got, gotErr := words(t, path, text.Body)
			if (wantErr != nil) != (gotErr != nil) || !reflect.DeepEqual(want, got) {
				t.Errorf("CoreDNS reads\n%q %v\nand from\n%s\n%q %v", want, wantErr, text.Body, got, gotErr)
			}
			if !strings.Contains(files["Corefile"], "import") && text.Body != files["Corefile"] {
				t.Errorf("a text without imports changed: %q", text.Body)
			}
			checkLines(t, text)
		})
	}
}

// checkLines fails the test unless text has a position for each of its lines.
func checkLines(t *testing.T, text *Text) {
	t.Helper()
	lines := strings.Count(strings.TrimSuffix(text.Body, "\n"), "\n") + 1
	if len(text.lines) != lines {
		t.Errorf("%d positions for %d lines of %q", len(text.lines), lines, text.Body)
	}
}

// Each line has the file and the number of its origin.
func TestPositions(t *testing.T) {
	dir := folder(t, map[string]string{"custom/a.override": "one\ntwo\n", "custom/b.override": "three"})
	s := Source{Name: "ConfigMap kube-system/coredns key Corefile", Text: ". {\n errors\n import custom/*.override\n log\n}\n", Dir: dir}
	text, err := Read(s, Files)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(text.Body, "\n"), "\n") {
		at := text.Position(i + 1)
		source := s.Text
		if at.File != s.Name {
			b, err := os.ReadFile(at.File)
			if err != nil {
				t.Fatal(err)
			}
			source = string(b)
		}
		if want := strings.Split(source, "\n")[at.Line-1]; strings.TrimSpace(line) != strings.TrimSpace(want) && strings.TrimSpace(line) != "" {
			t.Errorf("line %d is %q, and %s is %q", i+1, line, at, want)
		}
	}
	if at := text.Position(1 << 30); at.Line != 5 {
		t.Errorf("the line after the last is %s", at)
	}
}

func TestReadErrors(t *testing.T) {
	dir := folder(t, map[string]string{"self": "import self\n", "big": strings.Repeat("# a comment\n", MaxText/12)})
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	many := strings.Repeat("import more\n", maxImports+1)
	for _, tt := range []struct{ text, want string }{
		{". {\n import gone\n}\n", "Corefile:2 - import gone: "},
		{"import self\n", "self:1 - import self: imports go deeper than 10"},
		{"\n\nimport a*b*\n", "Corefile:3 - import a*b*: the pattern may have one *"},
		{"import big\nimport big\n", "big:1 - the Corefile is larger than 4 MiB"},
		{"(a) {\n log\n}\n(b) {\n import a\n import b\n}\n. {\n import b\n}\n", "Corefile:9 - import of snippet b: more than 1000 imports"},
		{doubling(40) + ". {\n import s40\n}\n", "import of snippet s40: more than 1000 imports"},
		{"(a) {\n" + strings.Repeat("log\n", 1<<11) + "}\n. {\n" + strings.Repeat("import a\n", 100) + "}\n", "words from snippets"},
		{". {\n" + strings.Repeat("a ", maxWords) + "\n}\n", "Corefile:1 - the Corefile has more than 262144 words"},
		{". {\n" + strings.Repeat(`""`, maxWords) + "\n}\n", "Corefile:1 - the Corefile has more than 262144 words"},
		{"(a) {\n log\n}\n. {\n" + strings.Repeat("import a\n", 900) + strings.Repeat("a ", 50_000) + "\n}\n", "imports are too many for a Corefile of 51807 words"},
		{"log " + strings.Repeat("{$A}", maxVariables+1), "more than 1024 environment variables"},
		{"import \"gone\nforged\"\n", `Corefile:1 - import "gone\nforged": `},
		{"\"(a\n)\" {\n import \"a\n\"\n}\n. {\n import \"a\n\"\n}\n", `import of snippet "a\n": more`},
		{"import fifo\n", "fifo: it is a named pipe, not a file"},
		{many, "Corefile:1001 - more than 1000 files are imported"},
	} {
		imports := Files
		if tt.text == many {
			imports = func(string, *Source) ([]Source, error) { return []Source{{Name: "more"}}, nil }
		}
		_, err := Read(Source{Name: "Corefile", Text: tt.text, Dir: dir}, imports)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: error %v, want %q", tt.text, err, tt.want)
		}
	}
}

// The Corefile and what it imports may be swapped for named pipes and links between any two system calls. Reading them
// does not hang.
func TestFilesAreSwapped(t *testing.T) {
	dir := folder(t, map[string]string{"more": "log"})
	path := filepath.Join(dir, "more")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			aside := fmt.Sprintf("%s/.%d", dir, i)
			switch i % 3 {
			case 0:
				_ = unix.Mkfifo(aside, 0o600)
			case 1:
				_ = os.Symlink(path, aside)
			default:
				_ = os.WriteFile(aside, []byte("log"), 0o600)
			}
			_ = os.Rename(aside, path)
		}
	}()
	read := 0
	for begun := time.Now(); read < 20; {
		for _, pattern := range []string{"more", "mor*"} {
			if all, err := Files(pattern, &Source{Dir: dir}); err == nil && len(all) > 0 && all[0].Text == "log" {
				read++
			}
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("%d files were read in %v", read, time.Since(begun))
		}
	}
	close(stop)
	<-done
}

// doubling returns snippets that each import the one before twice. CoreDNS would take days for the
// last.
func doubling(n int) string {
	text := "(s0) {\n log\n}\n"
	for i := range n {
		text += fmt.Sprintf("(s%d) {\n import s%d\n import s%d\n}\n", i+1, i, i)
	}
	return text
}

// lineless returns words without the line breaks. CoreDNS takes two words for words of one line if they are on lines
// with the same number in the same file, even if the file is imported twice.
func lineless(words []string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "newline" })
}

// FuzzRead imports files in files. CoreDNS reads the same words from the whole as from the files, unless it refuses
// them.
func FuzzRead(f *testing.F) {
	f.Add(".:53 {\n import a\n}\nimport b\n", "errors\nimport b", "log \"x")
	f.Add("(s) {\n import a\n}\n. {\n import s\n}", "import a", "")
	f.Add("import a", "import b", "import a")
	f.Fuzz(func(t *testing.T, top, a, b string) {
		dir := folder(t, map[string]string{"a": a, "b": b})
		path := filepath.Join(dir, "Corefile")
		times := map[string]int{}
		imports := func(pattern string, from *Source) ([]Source, error) {
			if pattern != "a" && pattern != "b" {
				return nil, fmt.Errorf("not in this test")
			}
			times[pattern]++
			return Files(pattern, from)
		}
		text, err := Read(Source{Name: path, Text: top, Dir: dir}, imports)
		if err != nil {
			return
		}
		checkLines(t, text)
		want, wantErr := words(t, path, top)
		unread := func(word string) bool { return strings.Contains(word, "import") } // the keys of a server block are one word
		if wantErr != nil || slices.ContainsFunc(want, unread) {
			return // CoreDNS leaves an import in a snippet unread if its line in the file is not below that of the word before
		}
		got, gotErr := words(t, path, text.Body)
		if strings.Contains(text.Body, "(") && (gotErr != nil || strings.ContainsAny(a+b, "{}")) {
			return // a file that breaks the snippet it is imported in, which CoreDNS reads only where the snippet is used
		}
		if times["a"] > 1 || times["b"] > 1 {
			want, got = lineless(want), lineless(got)
		}
		if gotErr != nil || !reflect.DeepEqual(want, got) {
			t.Errorf("CoreDNS reads\n%q\nand out of\n%q\n%q %v", want, text.Body, got, gotErr)
		}
	})
}
