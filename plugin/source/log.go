package source

import (
	"fmt"
	"sync"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

var log = clog.NewWithPlugin("kubehosts")

var routeKlog sync.Once

// RouteKlog sends the log of client-go to the log of CoreDNS: errors as errors, everything else at debug level. Only
// the first call has an effect. It must come before the first Open, because klog must not be redirected while it is in
// use.
func RouteKlog() { routeKlog.Do(func() { klog.SetLogger(clientLog) }) }

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
