package safe

import (
	"fmt"
	"runtime/debug"
	"sync"

	clog "github.com/coredns/coredns/plugin/pkg/log"
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

// maxOnce limits the keys of a Once.
const maxOnce = 1000

// Once stores the names of faults that are logged only once, such as those of an unusable object or file. The zero
// value is empty. It is safe for concurrent use.
type Once struct {
	mu  sync.Mutex
	all map[string]struct{}
}

// First reports whether it is called with key for the first time. After 1,000 keys it returns false for new ones.
func (o *Once) First(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.all[key]; known || len(o.all) >= maxOnce {
		return false
	}
	if o.all == nil {
		o.all = make(map[string]struct{})
	}
	o.all[key] = struct{}{}
	return true
}
