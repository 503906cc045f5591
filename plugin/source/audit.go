package source

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// An API server, or something between it and this process, may lose events of a watch without any sign. An audit finds
// the losses: it lists everything once more, as a stream, and compares the list with the store.
//
// Not every difference is a loss. The watch continues while the list is made, and may be ahead of the list or behind
// it. So an audit leaves out
//
//   - the objects that the watch brought since the audit began, which may be newer in the store than in the list, and
//   - the objects that the watch brings until it reaches the resourceVersion of the list, which were still to come when the
//     list was made. This takes a minute at most, since a server sends a bookmark every minute.
//
// Any other difference results from a change at or before the resourceVersion of the list, which the watch has passed
// without bringing it. If the watch ends meanwhile, the audit has no result and is soon repeated.

// Limits of an audit.
const (
	auditList  = 5 * time.Minute // for the list
	auditReach = 2 * time.Minute // for the watch to reach the resourceVersion of the list; what it brings later counts as lost
	auditLook  = 200 * time.Millisecond
	auditAgain = time.Minute // until the next audit after one without a result
	auditNamed = 5           // objects named in the log
)

// audit is a comparison in progress.
type audit struct {
	version string                  // of the watch when it began
	touched map[objectName]struct{} // the objects that the watch brought since
}

// patrolLook is the interval at which patrol checks whether the watch is silent.
const patrolLook = 15 * time.Second

// patrol runs until ctx ends. It checks that the first list is not overdue, and that the watch is not silent because
// the server is in an older state, and makes the audits.
func (f *follower) patrol(ctx context.Context) {
	ctx = klog.NewContext(ctx, clientLog)
	audits := f.audits()
	first := time.After(overdue)
	for {
		select {
		case <-ctx.Done():
			return
		case <-first:
			f.checkFirst()
		case <-time.After(patrolLook):
			f.look(ctx)
		case <-audits.C:
			audits.next(f.check(ctx))
		}
	}
}

// look sends a probe if the watch is silent, or if the last probe got no answer. It logs a request that gets no reply.
func (f *follower) look(ctx context.Context) {
	f.mu.Lock()
	ask := f.watching && (f.unsure || time.Since(f.heard) > silence)
	lasts := f.watching && time.Since(f.opened) > quiet
	stalled := !f.asked.IsZero() && time.Since(f.asked) > overdue
	f.mu.Unlock()
	if stalled && !f.trouble.isLogged() {
		f.saw(errSilent)
	}
	if lasts {
		f.trouble.lasted()
	}
	if !ask {
		return
	}
	if _, err := f.probe(ctx); err == nil {
		if lasted, logged := f.unproven.over(); logged {
			log.Infof("Kubernetes API returns the resourceVersion of %s again, after %s", f.resource, lasted)
		}
	} else if ctx.Err() == nil && f.unproven.failed(safe.Printable(err.Error())) {
		log.Warningf("The watch of %s has been silent for longer than usual, and the API server does not return their resourceVersion: %s; the last state read serves, and may be stale; asking again every %s",
			f.resource, safe.Printable(err.Error()), patrolLook)
	}
}

// schedule determines when audits are made: one in each period, at a random moment, so that replicas that started
// together do not list together.
type schedule struct {
	C      <-chan time.Time
	period time.Duration
	begins time.Time // the period that C is in
}

func (f *follower) audits() *schedule {
	s := &schedule{period: f.auditing, begins: time.Now()}
	if s.period > 0 {
		s.C = time.After(rand.N(s.period))
	}
	return s
}

// next sets C to the time of the next audit, after one with or without a result.
func (s *schedule) next(result bool) {
	if !result {
		s.C = time.After(min(auditAgain, s.period))
		return
	}
	for s.begins = s.begins.Add(s.period); time.Until(s.begins) < -s.period; s.begins = s.begins.Add(s.period) {
	}
	s.C = time.After(time.Until(s.begins.Add(rand.N(s.period))))
}

// check makes an audit. It returns false if the audit had no result.
func (f *follower) check(ctx context.Context) bool {
	a := f.beginAudit()
	if a == nil {
		return false
	}
	list, version, err := f.listAgain(ctx)
	if err != nil {
		f.endAudit()
		if ctx.Err() == nil && f.unaudited.failed(safe.Printable(err.Error())) {
			log.Warningf("Audit of %s: the API server does not list them: %s; the watch goes on, and the audit is soon repeated", f.resource, safe.Printable(err.Error()))
		}
		return false
	}
	if lasted, logged := f.unaudited.over(); logged {
		log.Infof("Audit of %s: the API server lists them again, after %s", f.resource, lasted)
	}
	differ, err := f.store.differing(list)
	if err != nil || len(differ) > 0 && !f.await(ctx, a, version) {
		f.endAudit()
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.audit != a {
		return false
	}
	f.audit = nil
	if older(version, a.version) {
		f.rewind(f.behindOf(version))
		return false
	}
	audits.WithLabelValues(f.kind).Inc()
	lost := slices.DeleteFunc(differ, func(n objectName) bool { _, touched := a.touched[n]; return touched })
	if len(lost) > 0 {
		auditHealed.WithLabelValues(f.kind).Add(float64(len(lost)))
		log.Warningf("Audit: the watch of %s lost changes to %d objects: %s; all of them are listed again now",
			f.resource, len(lost), namesOf(lost))
		f.restart()
	}
	return true
}

// beginAudit returns nil if there is no watch to audit.
func (f *follower) beginAudit() *audit {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.watching {
		return nil
	}
	f.audit = &audit{f.version, make(map[objectName]struct{})}
	return f.audit
}

func (f *follower) endAudit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.audit = nil
}

// await waits until the watch has reached version, or should have. It returns false if a ended meanwhile.
func (f *follower) await(ctx context.Context, a *audit, version string) bool {
	tick := time.NewTicker(auditLook)
	defer tick.Stop()
	for begun := time.Now(); ; {
		f.mu.Lock()
		going, there := f.audit == a, !older(f.version, version)
		f.mu.Unlock()
		if !going || there || time.Since(begun) > auditReach {
			return going
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// listAgain lists everything while the watch continues.
func (f *follower) listAgain(ctx context.Context) (list []any, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, auditList)
	defer cancel()
	l := &listing{transform: f.Transformer(), done: cancel}
	r := f.reflectorOf(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o meta.ListOptions) (runtime.Object, error) {
			o.ResourceVersion = "" // the latest
			return f.listPlain(ctx, o)
		},
		WatchFuncWithContext: f.stream,
	}, l)
	collector.list(l)
	defer collector.listed(l)
	err = r.ListAndWatchWithContext(ctx)
	if l.version == "" && err == nil {
		err = ctx.Err()
	}
	return l.list, l.version, err
}

// listing receives one list.
type listing struct {
	transform cache.TransformFunc
	done      context.CancelFunc // called once the list is complete
	list      []any
	version   string
}

// Transformer implements cache.TransformingStore.
func (l *listing) Transformer() cache.TransformFunc { return l.transform }

// Replace implements cache.ReflectorStore.
func (l *listing) Replace(list []any, version string) error {
	l.list, l.version = list, version
	l.done()
	return nil
}

// Add implements cache.ReflectorStore.
func (*listing) Add(any) error { return nil }

// Update implements cache.ReflectorStore.
func (*listing) Update(any) error { return nil }

// Delete implements cache.ReflectorStore.
func (*listing) Delete(any) error { return nil }

// Resync implements cache.ReflectorStore.
func (*listing) Resync() error { return nil }

// namesOf sorts all, and returns the first few as text.
func namesOf(all []objectName) string {
	slices.SortFunc(all, objectName.compare)
	named := make([]string, 0, auditNamed)
	for _, n := range all[:min(len(all), auditNamed)] {
		named = append(named, safe.Printable(n.String()))
	}
	text := strings.Join(named, ", ")
	if more := len(all) - len(named); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
