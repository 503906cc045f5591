package source

import (
	"cmp"
	"context"
	"encoding/hex"
	"hash/fnv"
	"os"
	"strings"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// Report is the outcome of a ConfigMap for a server block.
type Report struct {
	Block   string // the server block
	Refused bool   // the ConfigMap is not applied
	Note    string // what happened, for people; all replicas use the same text for the same outcome
	// Reason is the reason of the Event, a word for programs; "" for a stanza's, StanzaApplied or StanzaRejected.
	Reason string
}

// The reasons of Events.
const (
	reasonApplied  = "StanzaApplied"
	reasonRejected = "StanzaRejected"
)

// The first reportBurst Events on one ConfigMap are written at once, further ones every reportPause. Those in between
// are counted in the next one with their block and reason.
const (
	reportBurst = 6
	reportPause = time.Minute
)

// reporter writes Events on one ConfigMap.
//
// It replaces client-go's recorders. They use a new name for each Event and so make one for each replica, hold two
// goroutines and a queue of a thousand, and log each refused one. Here the name is derived from the report and the
// version of the ConfigMap: the first replica creates the Event, the others find it. That takes only the permission
// create, while aggregation on the server takes patch, which would also allow changes to other components' Events.
type reporter struct {
	events core.EventInterface
	ctx    context.Context // ends when the ConfigMap is no longer followed
	limit  flowcontrol.RateLimiter

	mu      sync.Mutex
	running bool
	waiting map[reportKey]*api.Event // not yet written; the last one of each key
	written map[reportKey]string     // the name of the last Event of the key, so that a reload does not write it again
	failing spell                    // of the writing
}

type reportKey struct{ block, reason string }

func newReporter(ctx context.Context, events core.EventInterface) *reporter {
	return &reporter{
		events: events, ctx: ctx,
		limit:   flowcontrol.NewTokenBucketRateLimiter(float32(time.Second)/float32(reportPause), reportBurst),
		waiting: make(map[reportKey]*api.Event), written: make(map[reportKey]string),
	}
}

// Report writes an Event on the ConfigMap of e, in its namespace, as soon as the API server accepts it. It does not
// wait. It does nothing for a ConfigMap that comes from manifests, does not exist, or is not followed.
func (s *Source) Report(namespace, name string, e ConfigMapEvent, r Report) {
	s.mu.Lock()
	c := s.configMaps[objectName{namespace, name}]
	s.mu.Unlock()
	if c == nil || c.reporter == nil || !e.Found {
		return
	}
	c.reporter.add(c.name, e, r)
}

func (r *reporter) add(of objectName, e ConfigMapEvent, report Report) {
	event := eventOf(of, e, report)
	key := reportKey{report.Block, event.Reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.waiting[key]
	if r.written[key] == event.Name || before != nil && before.Name == event.Name {
		return
	}
	if before != nil {
		event.Count += before.Count
		event.FirstTimestamp = before.FirstTimestamp
	}
	r.waiting[key] = event
	if !r.running {
		r.running = true
		safe.Go(r.ctx, "the writing of Events on ConfigMap "+safe.Printable(of.String()), func(context.Context) { r.run() })
	}
}

// eventOf makes the Event of a report.
func eventOf(of objectName, e ConfigMapEvent, report Report) *api.Event {
	now := meta.Now()
	host, _ := os.Hostname() // "" if it has none
	event := &api.Event{
		ObjectMeta: meta.ObjectMeta{Namespace: of.namespace},
		InvolvedObject: api.ObjectReference{
			APIVersion: "v1", Kind: kindConfigMap, Namespace: of.namespace, Name: of.name,
			UID: types.UID(e.UID), ResourceVersion: e.ResourceVersion,
		},
		Type: api.EventTypeNormal, Reason: reasonApplied, Message: clipped(safe.Line(report.Note), 1024), // the limit of the newer Event API
		Source: api.EventSource{Component: subsystem, Host: host}, Count: 1, FirstTimestamp: now, LastTimestamp: now,
	}
	if report.Refused {
		event.Type, event.Reason = api.EventTypeWarning, reasonRejected
	}
	event.Reason = cmp.Or(report.Reason, event.Reason)
	h := fnv.New64a()
	for _, part := range []string{e.UID, e.ResourceVersion, report.Block, event.Reason, event.Message} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	const digits = 16
	prefix := strings.TrimRight(of.name[:min(len(of.name), 253-1-digits)], "-.") // a name has at most 253 bytes
	event.Name = prefix + "." + hex.EncodeToString(h.Sum(nil))
	return event
}

// clipped returns the first n bytes of s as valid UTF-8, which protobuf requires of an Event.
func clipped(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len("...")], "") + "..."
}

// run writes the waiting Events until there are none.
func (r *reporter) run() {
	for r.more() {
		if err := r.limit.Wait(r.ctx); err != nil {
			continue // the ConfigMap is no longer followed
		}
		key, event := r.next()
		r.write(key, event)
	}
}

// more reports whether there is something to write. If not, run ends.
func (r *reporter) more() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = len(r.waiting) > 0 && r.ctx.Err() == nil
	return r.running
}

// next takes the oldest waiting Event. There must be one.
func (r *reporter) next() (key reportKey, event *api.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, e := range r.waiting {
		if event == nil || e.LastTimestamp.Before(&event.LastTimestamp) {
			key, event = k, e
		}
	}
	delete(r.waiting, key)
	r.written[key] = event.Name
	return key, event
}

func (r *reporter) write(key reportKey, event *api.Event) {
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	_, err := r.events.Create(ctx, event, meta.CreateOptions{})
	of := safe.Printable(objectName{event.Namespace, event.InvolvedObject.Name}.String())
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || apierrors.IsAlreadyExists(err) {
		if lasted, logged := r.failing.over(); logged {
			log.Infof("ConfigMap %s gets Events again, after %s", of, lasted)
		}
		return
	}
	if r.ctx.Err() == nil {
		r.failing.noEvents("ConfigMap "+of+" gets no Events", err, "in that namespace")
	}
}

// noEvents logs that an Event could not be written, what still works, and what to do. where is in which namespaces the
// account has to be able to create Events.
func (s *spell) noEvents(what string, err error, where string) {
	why := safe.Printable(err.Error())
	switch {
	case !s.failed(why):
	case apierrors.IsForbidden(err): // may be intended
		log.Infof("%s: %s; everything else works; to enable Events, grant this account create on events %s", what, why, where)
	default:
		log.Warningf("%s: %s; everything else works, and the log has what they would report", what, why)
	}
}
