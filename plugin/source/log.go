package source

import (
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

var log = NewLog("kubehosts")

// Log writes to the log of CoreDNS. Each entry is one line of printable characters, whatever text from outside it
// quotes. It is safe for concurrent use.
type Log struct{ to clog.P }

// NewLog returns the Log of a plugin.
func NewLog(plugin string) Log { return Log{clog.NewWithPlugin(plugin)} }

// Debugf writes an entry if CoreDNS logs at that level.
func (l Log) Debugf(format string, args ...any) {
	if clog.D.Value() {
		l.to.Debug(Line(fmt.Sprintf(format, args...)))
	}
}

// Debug writes an entry if CoreDNS logs at that level.
func (l Log) Debug(entry string) { l.Debugf("%s", entry) }

// Infof writes an entry.
func (l Log) Infof(format string, args ...any) { l.Info(fmt.Sprintf(format, args...)) }

// Info writes an entry.
func (l Log) Info(entry string) { l.to.Info(Line(entry)) }

// Warningf writes an entry.
func (l Log) Warningf(format string, args ...any) { l.Warning(fmt.Sprintf(format, args...)) }

// Warning writes an entry.
func (l Log) Warning(entry string) { l.to.Warning(Line(entry)) }

// Errorf writes an entry.
func (l Log) Errorf(format string, args ...any) { l.Error(fmt.Sprintf(format, args...)) }

// Error writes an entry.
func (l Log) Error(entry string) { l.to.Error(Line(entry)) }

// panicked writes an entry and the stack of the calling goroutine, which has several lines.
func (l Log) panicked(what string, err error) {
	l.to.Errorf("%s: %s\n%s", Line(what), Line(err.Error()), debug.Stack())
}

var routeKlog sync.Once

// RouteKlog sends the log of client-go to the log of CoreDNS: errors as errors, everything else at debug level. Only
// the first call has an effect. It must come before the first Open, because klog must not be redirected while it is in
// use.
func RouteKlog() { routeKlog.Do(func() { klog.SetLogger(clientLog) }) }

// spell is a time during which some work fails. The zero value is ready for use, by one goroutine at a time.
type spell struct {
	since  time.Time // zero while the work succeeds
	logged time.Time // the last line; zero before the first
	why    string    // its reason
	known  bool      // this spell was logged
}

// failed records a failure, and reports whether it should be logged: the first one of a spell and those with another
// reason, but at most one in quiet.
func (s *spell) failed(why string) bool {
	now := time.Now()
	if s.since.IsZero() {
		s.since = now
	}
	if s.known && s.why == why || !s.logged.IsZero() && now.Sub(s.logged) < quiet {
		return false
	}
	s.known, s.why, s.logged = true, why, now
	return true
}

// over records a success. It returns how long the spell lasted, and whether the end should be logged, since the spell
// was.
func (s *spell) over() (lasted time.Duration, logged bool) {
	if !s.since.IsZero() {
		lasted, logged = time.Since(s.since).Round(time.Second/10), s.known
	}
	s.since, s.known = time.Time{}, false
	return lasted, logged
}

// clientLog writes to the log of CoreDNS.
var clientLog = logr.New(&sink{})

// sink implements logr.LogSink.
type sink struct{ values []any }

func (*sink) Init(logr.RuntimeInfo)          {}
func (*sink) Enabled(int) bool               { return true }
func (s *sink) WithName(string) logr.LogSink { return s }

func (s *sink) Info(_ int, msg string, kv ...any) { log.Debug(s.line(msg, kv)) }

func (s *sink) Error(err error, msg string, kv ...any) {
	if err != nil {
		msg += ": " + err.Error()
	}
	log.Error(s.line(msg, kv))
}

func (s *sink) WithValues(kv ...any) logr.LogSink {
	return &sink{values: append(s.values[:len(s.values):len(s.values)], kv...)}
}

func (s *sink) line(msg string, kv []any) string {
	msg = "client-go: " + Printable(msg)
	for i, v := range append(s.values[:len(s.values):len(s.values)], kv...) {
		if i%2 == 0 {
			msg += fmt.Sprintf(" %v=", v)
		} else {
			msg += fmt.Sprintf("%q", fmt.Sprint(v))
		}
	}
	return msg
}
