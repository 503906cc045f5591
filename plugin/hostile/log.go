package hostile

import (
	"bytes"
	golog "log"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/prometheus/client_golang/prometheus"
)

// CheckLog fails the test for each entry of the log, at any level, that is not one line of printable characters. It
// drops the entries. Of a panic it checks the first line, as the stack follows.
func CheckLog(t *testing.T) {
	golog.SetOutput(&checkedLog{t: t})
	clog.D.Set()
	t.Cleanup(func() {
		clog.D.Clear()
		golog.SetOutput(os.Stderr)
	})
}

// checkedLog gets each entry in one call. Those after a failure are dropped.
type checkedLog struct {
	t      *testing.T
	mu     sync.Mutex
	failed bool
}

func (c *checkedLog) Write(entry []byte) (int, error) {
	line, rest, _ := bytes.Cut(entry, []byte("\n"))
	c.mu.Lock()
	defer c.mu.Unlock()
	if whole := len(rest) == 0 || bytes.Contains(line, []byte("panic: ")); (!whole || !Printable(string(line))) && !c.failed {
		c.failed = true
		c.t.Errorf("an entry of the log is not one line of printable characters: %q", entry)
	}
	return len(entry), nil
}

// CheckMetrics fails the test for each label of this process's metrics that has other than printable characters.
func CheckMetrics(t *testing.T) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !Printable(l.GetValue()) {
					t.Errorf("%s has the label %s=%q", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
}

// Printable reports whether s is UTF-8 of printable characters: no control characters, and none that hide others or
// change their order.
func Printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) < 0
}

// Names are texts that somebody may choose as a name, in the hope that it does harm where it is shown.
var Names = []string{
	"a\nforged [ERROR] plugin/kubehosts: everything is lost", "a\r[ERROR] forged", "m\xfcller", "\xff\xfe", "a\x1b[2Jb", "a\x00b", "a\x7fb", "a\tb",
	"moc.elgoog\u202e", "\u2066isolated\u2069", "zero\u200bwidth", "soft\u00adhyphen", "bom\ufeff", "line\u2028separator", "next\u0085line", "\ue000private",
	"\U000e0041tag", "\U0010ffff", "%s%d%!x", `back\slash`, `"quoted"`, "'quoted'", "{$HOME}", "${HOME}", "a b", "", strings.Repeat("x", 5000), strings.Repeat("\u202e", 2000),
}
