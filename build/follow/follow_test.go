package follow

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubehosts/kubehosts/build/check"
	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/source"
)

func parsed(t testing.TB, args ...string) (*Flags, error) {
	t.Helper()
	flags := flag.NewFlagSet("coredns", flag.ContinueOnError)
	flags.SetOutput(&bytes.Buffer{})
	f := Register(flags)
	return f, flags.Parse(args)
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct{ args, want string }{ // the values of -configmap, -last-good and -import; or an error
		{"-configmap coredns", "kube-system/coredns:Corefile |  | "},
		{"-configmap dns/coredns:Main", "dns/coredns:Main |  | "},
		{"-configmap a/b -last-good a/c -import a/d=custom -import a/e=/etc/x/", "a/b:Corefile | a/c:Corefile | a/d=custom a/e=/etc/x"},
		{"-configmap a/b -last-good a/b:good", "a/b:Corefile | a/b:good | "},
		{"-configmap a/b/c", "error: name 'b/c'"},
		{"-configmap a/", "error: name ''"},
		{"-configmap A/b", "error: namespace 'A'"},
		{"-configmap a/b:x/y", "error: key 'x/y'"},
		{"-configmap a/b:", "error: key ''"},
		{"-configmap a/b -import a/c", "error: expecting NAMESPACE/NAME=DIR"},
		{"-configmap a/b -import a/c=", "error: expecting NAMESPACE/NAME=DIR"},
		{"-configmap a/b -import a/c=x -import a/d=./x", "error: folder x is named twice"},
		{"-configmap a/b" + many(maxImports+1), "error: more than 20"},
		{"-last-good a/b", "error: -last-good and -import need -configmap"},
		{"-import a/b=c", "error: -last-good and -import need -configmap"},
		{"-configmap a/b -last-good a/b", "error: -last-good must name another key than -configmap"},
	} {
		f, err := parsed(t, strings.Fields(tt.args)...)
		if err == nil {
			_, err = f.Check("Corefile")
		}
		got := strings.Join([]string{f.configMap.String(), f.lastGood.String(), f.imports.String()}, " | ")
		if err != nil {
			got = err.Error()
		}
		want, wrong := strings.CutPrefix(tt.want, "error: ")
		if wrong != (err != nil) || wrong && !strings.Contains(got, want) || !wrong && got != want {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
	f, _ := parsed(t)
	if follows, err := f.Check("stdin"); follows || err != nil {
		t.Error("without flags something is followed:", err)
	}
}

func many(n int) (args string) {
	for i := range n {
		args += " -import a/b=dir" + string(rune('a'+i))
	}
	return args
}

// following returns a Follower with the ConfigMaps of data, without an API server. The file of -conf is in dir.
func following(t testing.TB, dir string, data map[string]map[string]string) *Follower {
	t.Helper()
	flags, err := parsed(t, "-configmap", "kube-system/coredns", "-import", "kube-system/coredns-custom=custom", "-import", "kube-system/unheard=unheard")
	if err != nil {
		t.Fatal(err)
	}
	f := New(flags, filepath.Join(dir, "Corefile"))
	for name, keys := range data {
		f.hear(object{"kube-system", name}, source.ConfigMapEvent{Data: keys, Found: keys != nil})
	}
	return f
}

func (f *Follower) text() (*corefile.Text, error) {
	e, _ := f.event(f.flags.configMap.object())
	return f.textOf(f.flags.configMap, e)
}

// Imports are keys of the ConfigMaps of -import, else files beside the Corefile. Errors have the origin of a line.
func TestImports(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"unheard/a.override", "custom/hidden.override", "beside"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("file "+name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, corefile string
		custom         map[string]string // nil: it does not exist
		want           string            // the part of it in the text, or the error
	}{
		{"keys", ". {\n import custom/*.override\n}\n", map[string]string{"b.override": "bbb", "a.override": "aaa", "c.server": "ccc"}, "aaa\nbbb\n"},
		{"an absolute path", ". {\n import " + dir + "/custom/*.override\n}\n", map[string]string{"a.override": "aaa"}, "aaa"},
		{"of a key in a key", "import custom/a\n", map[string]string{"a": "import b", "b": "bbb"}, "bbb"},
		{"beside", ". {\n import beside\n}\n", nil, "file beside"},
		{"not there", ". {\n import custom/*.override\n errors\n}\n", nil, ". {\n \n\n errors\n}\n"},
		{"not heard of", ". {\n import unheard/*.override\n}\n", nil, "file unheard/a.override"},
		{"no such key", "\nimport custom/gone\n", map[string]string{}, "error: ConfigMap kube-system/coredns key Corefile:2 - import custom/gone: ConfigMap kube-system/coredns-custom: there is no key gone"},
		{"no such key in a key", "import custom/a", map[string]string{"a": "\n\nimport gone"}, "error: ConfigMap kube-system/coredns-custom key a:3 - import gone: ConfigMap kube-system/coredns-custom: there is no key gone"},
		{"itself", "import custom/a", map[string]string{"a": "import a"}, "error: ConfigMap kube-system/coredns-custom key a:1 - import a: imports go deeper than 10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := following(t, dir, map[string]map[string]string{"coredns": {"Corefile": tt.corefile}, "coredns-custom": tt.custom})
			text, err := f.text()
			got := ""
			if err != nil {
				got = "error: " + err.Error()
			} else {
				got = text.Body
			}
			if !strings.Contains(got, tt.want) || strings.Contains(got, "hidden") {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// A Corefile that imports a missing file is refused, and applied when the file appears, without another edit.
func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	f := following(t, dir, map[string]map[string]string{"coredns": {"Corefile": ". {\n import more\n}\n"}})
	text, err := corefile.Read(corefile.Source{Name: "file", Text: ". {\n errors\n}\n"}, corefile.Files)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := newState(text, fromFile)
	if err != nil {
		t.Fatal(err)
	}
	f.serving, f.read = serving, serving
	again, ended := make(chan time.Time), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(ended); f.applyAll(ctx, again) }()
	again <- time.Time{}
	again <- time.Time{} // follow has processed the first one
	state := func() (refused, origin string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.refused.why, f.serving.origin
	}
	if refused, _ := state(); !strings.Contains(refused, "no such file") {
		t.Errorf("while the file is not there: %q", refused)
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), []byte("errors\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again <- time.Time{}
	again <- time.Time{}
	if refused, origin := state(); refused != "" || origin != fromConfigMap {
		t.Errorf("when it is there: refused for %q, what serves is out of the %s", refused, origin)
	}
	cancel()
	<-ended
}

func TestTextOf(t *testing.T) {
	for _, tt := range []struct {
		e    source.ConfigMapEvent
		want string
	}{
		{source.ConfigMapEvent{}, "ConfigMap kube-system/coredns does not exist"},
		{source.ConfigMapEvent{Err: apierrors.NewUnauthorized("renew\n")}, `ConfigMap kube-system/coredns can't be read: this account needs list and watch on it ("renew\n")`},
		{source.ConfigMapEvent{Err: errors.New("busy")}, "ConfigMap kube-system/coredns can't be read: the API server does not return it, and it is requested again (busy)"},
		{source.ConfigMapEvent{Found: true}, "ConfigMap kube-system/coredns has no key Corefile"},
	} {
		f := following(t, t.TempDir(), nil)
		if _, err := f.textOf(f.flags.configMap, tt.e); err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

// A ConfigMap beside that of the Corefile that can't be read is logged with what works without it, and so is the end.
func TestUnreadableIsLogged(t *testing.T) {
	var log bytes.Buffer
	clog.SetOutput(&log)
	t.Cleanup(func() { clog.SetOutput(os.Stderr) })
	flags, err := parsed(t, "-configmap", "kube-system/coredns", "-last-good", "kube-system/good", "-import", "kube-system/custom=custom")
	if err != nil {
		t.Fatal(err)
	}
	f := New(flags, "")
	fault := source.ConfigMapEvent{Err: errors.New("etcd is down")}
	for _, e := range []source.ConfigMapEvent{fault, fault, {Found: true}} {
		for _, name := range []string{"coredns", "good", "custom"} {
			f.hear(object{"kube-system", name}, e)
		}
	}
	want := []string{
		"ConfigMap kube-system/good can't be read: the API server does not return it, and it is requested again (etcd is down); until then no start is made from it",
		"ConfigMap kube-system/custom can't be read: the API server does not return it, and it is requested again (etcd is down); until then its imports come from files",
		"ConfigMap kube-system/good can be read",
		"ConfigMap kube-system/custom can be read",
	}
	got := strings.Split(strings.TrimSpace(log.String()), "\n")
	for i, line := range want {
		if i >= len(got) || !strings.HasSuffix(got[i], line) {
			t.Fatalf("the log is\n%s\nwant\n%s", log.String(), strings.Join(want, "\n"))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lines: %s", len(got), log.String())
	}
}

// FuzzImports resolves imports of ConfigMaps with arbitrary content.
func FuzzImports(f *testing.F) {
	f.Add(". {\n import custom/*.override\n}\nimport custom/b\n", "a.override", "errors\nimport b", "import custom/*")
	f.Add("import custom/a", "a", "import a", "\"")
	f.Add("import custom/../custom/a*", "a\x00", "import /b", "(s) {\nimport s\n}")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, main, key, a, b string) {
		if strings.Contains(main+a+b, "import /") || strings.Contains(main+a+b, "..") {
			return // no files are read here
		}
		follower := following(t, dir, map[string]map[string]string{"coredns": {"Corefile": main}, "coredns-custom": {key: a, "b": b}})
		text, err := follower.text()
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("an error of more than one line: %q", err)
			}
			return
		}
		if len(text.Body) > 2*corefile.MaxText {
			t.Fatalf("%d bytes", len(text.Body))
		}
		if s, err := newState(text, fromConfigMap); err == nil {
			places(s.blocks, corefile.Compare(s.blocks, s.blocks).Stanzas)
		}
	})
}

// The findings of the other process get the lines of the Corefile's sources.
func TestFindings(t *testing.T) {
	f := following(t, t.TempDir(), map[string]map[string]string{"coredns": {"Corefile": ". {\n import custom/a\n log\n}\n"}, "coredns-custom": {"a": "errors\ncache 0"}})
	text, err := f.text()
	if err != nil {
		t.Fatal(err)
	}
	lines := `{"file":"stdin","line":4,"level":"warning","text":"w"}
{"file":"stdin","line":4,"level":"error","text":"cache"}
{"file":"stdin","line":7,"level":"error","text":"last"}
`
	all, err := findings(text, []byte(lines))
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	if got := all[1].String(); got != "ConfigMap kube-system/coredns-custom key a:2: error: cache" {
		t.Errorf("%s in\n%s", got, text.Body)
	}
	if got := wrong(all).Error(); got != "ConfigMap kube-system/coredns-custom key a:2 - cache (and 1 more)" {
		t.Error(got)
	}
	if err := wrong(all[:1]); err != nil {
		t.Error(err)
	}
	if _, err := findings(text, []byte("{")); err == nil {
		t.Error("half an object is no error")
	}
	if !check.IsWrong(all) {
		t.Error("no error among them")
	}
}

// The process that checks may fail to start, not end, end in an unexpected way, or print something
// else.
func TestCheckBy(t *testing.T) {
	text, err := following(t, t.TempDir(), map[string]map[string]string{"coredns": {"Corefile": ". {\n}\n"}}).text()
	if err != nil {
		t.Fatal(err)
	}
	script := func(body string) string {
		path := filepath.Join(t.TempDir(), "checker")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	finding := `echo '{"file":"stdin","line":1,"level":"error","text":"bad"}'`
	for _, tt := range []struct {
		program, want string // in the error, "" for none
		found         int
	}{
		{"/nonexistent/program", errNoChecker.Error(), 0},
		{script("exit 0"), "", 0},
		{script(finding + "; exit 1"), "", 1},
		{script("exit 1"), "ended the process that checked it: exit status 1", 0},
		{script("echo fatal error: out of memory >&2; exit 2"), "ended the process that checked it: exit status 2: fatal error: out of memory", 0},
		{script("kill -9 $$"), "ended the process that checked it: signal: killed", 0},
		{script("exec sleep 60"), "takes longer than 300ms", 0},
		{script("echo nonsense"), "can't read its input", 0},
		{script("cat >&2; exit 3"), ". {", 0},
	} {
		most := time.Minute
		if strings.Contains(tt.want, "takes longer") {
			most = 300 * time.Millisecond
		}
		found, err := checkBy(tt.program, most, text)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || len(found) != tt.found {
			t.Errorf("%s: %v %v, want %d and %q", tt.program, found, err, tt.found, tt.want)
		}
		if errors.Is(err, errNoChecker) != strings.HasPrefix(tt.program, "/nonexistent") {
			t.Errorf("%s: %v", tt.program, err)
		}
	}
}

// A refused Corefile is logged for each reason, and counted once. It is retried after growing pauses, or at once if
// triggered.
func TestRefuse(t *testing.T) {
	f := following(t, t.TempDir(), map[string]map[string]string{"coredns": {"Corefile": ". {\n errors\n}\n"}})
	text, err := f.text()
	if err != nil {
		t.Fatal(err)
	}
	if f.serving, err = newState(text, fromFile); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.accept(f.serving, "") })
	count := testutil.ToFloat64(rejected)
	var log bytes.Buffer
	clog.SetOutput(&log)
	t.Cleanup(func() { clog.SetOutput(os.Stderr) })
	for i, tt := range []struct {
		why, hash string
		pause     time.Duration
		counts    float64
		logs      bool
	}{
		{"no key", "a", retryFirst, 1, true},
		{"no key", "a", 2 * retryFirst, 0, false},
		{"no certificate", "a", 4 * retryFirst, 0, true},
		{"no key", "b", retryFirst, 1, true},
		{"no key", "b", 2 * retryFirst, 0, false},
		{"no key", "b", 4 * retryFirst, 0, false},
		{"no key", "b", 8 * retryFirst, 0, false},
		{"no key", "b", retryMost, 0, false},
		{"no key", "b", retryMost, 0, false},
		{"does not exist", "", 0, 1, true},
		{"does not exist", "", 0, 0, false},
		{"no such file", "", 0, 1, true},
	} {
		log.Reset()
		f.refuse(errors.New(tt.why), tt.hash)
		count += tt.counts
		if n := testutil.ToFloat64(rejected); n != count {
			t.Errorf("%d: %v are counted, want %v", i, n, count)
		}
		if logs := strings.Contains(log.String(), tt.why); logs != tt.logs {
			t.Errorf("%d: logged: %v, want %v", i, logs, tt.logs)
		}
		if f.refused.pause != tt.pause || f.refused.covers(tt.hash) != (tt.hash != "") || f.refused.covers("other") {
			t.Errorf("%d: it is tried again after %v, want %v", i, f.refused.pause, tt.pause)
		}
	}
	f.refuse(errors.New("pods are forbidden"), "c")
	f.tryNow("b")
	if !f.refused.covers("c") {
		t.Error("what another one waits for lets it be tried again")
	}
	f.tryNow("c")
	if f.refused.covers("c") {
		t.Error("it is not tried again at once")
	}
	if f.accept(f.serving, ""); f.refused.why != "" {
		t.Errorf("it is refused when it serves: %s", f.refused.why)
	}
}

// A Corefile without a plugin is invalid: CoreDNS would serve nothing.
func TestIdle(t *testing.T) {
	for _, body := range []string{"", "# a comment\n", "(snippet) {\n errors\n}\n", "edited by hand", ". {\n}\n"} {
		text, err := following(t, t.TempDir(), map[string]map[string]string{"coredns": {"Corefile": body}}).text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newState(text, fromConfigMap); err == nil || !strings.HasPrefix(err.Error(), "ConfigMap kube-system/coredns key Corefile:1 - no server block has a plugin") {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// If a ConfigMap for imports can no longer be read, the Corefile is refused rather than applied without it. One that
// could never be read is replaced by files.
func TestImportForbidden(t *testing.T) {
	dir := t.TempDir()
	f := following(t, dir, map[string]map[string]string{"coredns": {"Corefile": ". {\n import custom/*.override\n import unheard/*.override\n}\n"}, "coredns-custom": {"a.override": "errors"}})
	if err := os.Mkdir(filepath.Join(dir, "unheard"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "unheard", "a.override"), []byte("whoami\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	forbidden := source.ConfigMapEvent{Err: apierrors.NewUnauthorized("forbidden")}
	f.hear(object{"kube-system", "unheard"}, forbidden)
	text, err := f.text()
	if err != nil || !strings.Contains(text.Body, "errors") || !strings.Contains(text.Body, "whoami") {
		t.Errorf("before: %v %v", text, err)
	}
	f.hear(object{"kube-system", "coredns-custom"}, forbidden)
	if _, err := f.text(); err == nil || !strings.Contains(err.Error(), "ConfigMap kube-system/coredns-custom can't be read: this account needs list and watch on it (forbidden)") {
		t.Errorf("when it can't be read any more: %v", err)
	}
	f.hear(object{"kube-system", "coredns-custom"}, source.ConfigMapEvent{})
	if _, err := f.text(); err != nil {
		t.Errorf("when it is gone: %v", err)
	}
}

// storing returns a follower with a last good Corefile, and a good text.
func storing(t *testing.T) (*Follower, *corefile.Text) {
	t.Helper()
	flags, err := parsed(t, "-configmap", "kube-system/coredns", "-last-good", "kube-system/good")
	if err != nil {
		t.Fatal(err)
	}
	f := New(flags, "")
	f.source = new(source.Source)
	text, err := corefile.Read(corefile.Source{Name: "Corefile", Text: ". {\n errors\n}\n"}, corefile.Files)
	if err != nil {
		t.Fatal(err)
	}
	return f, text
}

// The last good Corefile is stored again if the stored text is not a Corefile, but not if it is a
// different one.
func TestMend(t *testing.T) {
	f, text := storing(t)
	for _, tt := range []struct {
		origin string
		e      source.ConfigMapEvent
		mends  bool
	}{
		{fromConfigMap, source.ConfigMapEvent{}, false}, // there is nothing to store it in
		{fromConfigMap, source.ConfigMapEvent{Err: errors.New("forbidden")}, false},
		{fromConfigMap, source.ConfigMapEvent{Found: true}, true},
		{fromConfigMap, source.ConfigMapEvent{Found: true, Data: map[string]string{"Corefile": ""}}, true},
		{fromConfigMap, source.ConfigMapEvent{Found: true, Data: map[string]string{"Corefile": "edited by hand"}}, true},
		{fromConfigMap, source.ConfigMapEvent{Found: true, Data: map[string]string{"Corefile": ". {\n bogus\n}\n"}}, true},
		{fromConfigMap, source.ConfigMapEvent{Found: true, Data: map[string]string{"Corefile": ". {\n errors"}}, true},
		{fromConfigMap, source.ConfigMapEvent{Found: true, Data: map[string]string{"Corefile": text.Body}}, false},
		{fromConfigMap, source.ConfigMapEvent{Found: true, Data: map[string]string{"Corefile": ". {\n log\n}\n"}}, false},
		{fromLastGood, source.ConfigMapEvent{Found: true}, true},
		{fromFile, source.ConfigMapEvent{Found: true}, false},
	} {
		s, err := newState(text, tt.origin)
		if err != nil {
			t.Fatal(err)
		}
		f.serving = s
		f.storing, f.looked = nil, "none"
		f.hear(object{"kube-system", "good"}, tt.e)
		f.mend()
		if mends := f.storing != nil; mends != tt.mends {
			t.Errorf("%s, stored: %v: stored again: %v", tt.origin, tt.e, mends)
		}
		if f.storing != nil {
			f.storing.Stop()
		}
	}
}

func blocksOf(t *testing.T, body string) []corefile.Block {
	t.Helper()
	text, err := corefile.Read(corefile.Source{Name: "Corefile", Text: body}, corefile.Files)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := text.Blocks(nil)
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

// The server is not restarted with addresses on which it can't listen.
func TestListenable(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for body, want := range map[string]string{
		".:" + port + " {\n bind 127.0.0.1\n}\n":                                                         "127.0.0.1:" + port,
		".:0 {\n bind 127.0.0.1 203.0.113.1\n}\n":                                                        "203.0.113.1:0",
		".:0 {\n bind 127.0.0.1\n prometheus 127.0.0.1:" + port + "\n}\n":                                "127.0.0.1:" + port,
		".:0 {\n bind 127.0.0.1\n prometheus 127.0.0.1:0\n health 127.0.0.1:0 {\n  lameduck 5s\n }\n}\n": "",
	} {
		err := listenable(nil, blocksOf(t, body))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), "can't listen on "+want) {
			t.Errorf("%s\n%v, want %q", body, err, want)
		}
		if err := listenable(blocksOf(t, body), blocksOf(t, body)); err != nil {
			t.Errorf("%s\nwhere it listens already: %v", body, err)
		}
	}
}

// A stanza's place is its position among the server blocks that have one.
func TestPlaces(t *testing.T) {
	blocks := blocksOf(t, "a {\n}\nb {\n kubehosts b\n}\nc {\n}\nd {\n kubehosts d\n}\n")
	c, err := blocks[3].Stanza()
	if err != nil {
		t.Fatal(err)
	}
	if got := places(blocks, map[int]corefile.Config{3: c}); len(got) != 1 || got[1] != c {
		t.Errorf("%v", got)
	}
}

// A spare process checks the next Corefile, and ends if none comes. If it has ended before, another process
// checks it.
func TestSpareChecker(t *testing.T) {
	text, err := following(t, t.TempDir(), map[string]map[string]string{"coredns": {"Corefile": ". {\n}\n"}}).text()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "checker")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nread first\n[ \"$first\" = '. {' ] || exit 3\necho '{\"file\":\"stdin\",\"line\":1,\"level\":\"warning\",\"text\":\"w\"}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var a checkers
	if a.take() != nil {
		t.Error("there is a spare one at first")
	}
	for _, killed := range []bool{false, true} {
		c, err := startChecker(program)
		if err != nil {
			t.Fatal(err)
		}
		if killed {
			_ = c.cmd.Process.Kill()
		}
		if found, err := c.check(time.Minute, text); (err != nil) != killed || !killed && len(found) != 1 {
			t.Errorf("killed: %v: %v %v", killed, found, err)
		}
	}
	c, err := startChecker(program)
	if err != nil {
		t.Fatal(err)
	}
	a.spare, a.ends = c, time.NewTimer(time.Hour)
	a.prepare()
	if a.take() != c || a.take() != nil {
		t.Error("the spare one is not taken, or taken twice")
	}
	if c.end(); c.cmd.ProcessState == nil {
		t.Error("it does not end")
	}
}

func TestLimited(t *testing.T) {
	var l limited
	for range 3 {
		if n, err := l.Write(make([]byte, 1<<19)); n != 1<<19 || err != nil {
			t.Fatal(n, err)
		}
	}
	if l.Len() != 1<<20 {
		t.Errorf("%d bytes are stored", l.Len())
	}
}

// A Corefile that was active only for a moment does not stay in memory until it could be stored as
// the last good one.
func TestEditsThatComeFast(t *testing.T) {
	f, text := storing(t)
	var served []weak.Pointer[state]
	for range 10 {
		s, err := newState(text, fromConfigMap)
		if err != nil {
			t.Fatal(err)
		}
		f.serving = s
		f.storeLater(s)
		served = append(served, weak.Make(s))
	}
	for i, s := range served {
		want := i == len(served)-1
		for range 100 { // a collection may miss what a stopped timer holds
			if runtime.GC(); (s.Value() != nil) == want {
				break
			}
		}
		if held := s.Value() != nil; held != want {
			t.Errorf("Corefile %d of %d is held: %v", i, len(served), held)
		}
	}
	f.storeLater(&state{origin: fromConfigMap})
	if !f.storing.Stop() {
		t.Error("nothing is to be stored")
	}
}
