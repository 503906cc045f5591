package source

import (
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

var log = safe.NewLog("kubehosts")

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
	msg = "client-go: " + safe.Printable(msg)
	for i, v := range append(s.values[:len(s.values):len(s.values)], kv...) {
		if i%2 == 0 {
			msg += fmt.Sprintf(" %v=", v)
		} else {
			msg += fmt.Sprintf("%q", fmt.Sprint(v))
		}
	}
	return msg
}
