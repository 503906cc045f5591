package source

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// livePods leaves out the pods that will never serve again, at the server, as stock does.
const livePods = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"

// A failed watch is retried after 0.8 s, then at growing intervals, but at least every 5 to 10 s. With client-go's own
// 30 to 60 s, answers would stay stale for that long after the API server is back, and these clients are few. Tests
// shorten this.
var firstPause, longestPause = 800 * time.Millisecond, 5 * time.Second

func backoff() *wait.Backoff {
	return &wait.Backoff{Duration: firstPause, Factor: 2, Jitter: 1, Cap: longestPause, Steps: 10}
}

// watched selects the objects of a watch.
type watched struct {
	client    rest.Interface
	resource  string // plural, as in the URL and in a Role
	kind      string // as named in metrics and logs
	namespace string // "" for all
	labels    string // label selector; "" for all
	fields    string // field selector; "" for all
	example   runtime.Object
	optional  bool // a server that does not have or grant the resource counts as one without such objects
}

// selects sets the selectors of w in o.
func (w *watched) selects(o *meta.ListOptions) { o.LabelSelector, o.FieldSelector = w.labels, w.fields }

// auditable is a store that an audit can compare with a list.
type auditable interface {
	cache.ReflectorStore
	// differing returns the names of the objects that the store lacks, has in another form than list, or has while list
	// lacks them. list holds all objects of the server.
	differing(list []any) ([]objectName, error)
}

// follower updates a store with the watched objects. It lists them and watches from there. It never holds a whole list
// if the server has protobuf.
//
// A reflector of client-go does the work, with the follower as its store. The follower adds four things:
//
//   - The first list is a plain one, and later ones are streams where the server has them: see list.go.
//   - It logs once why a server that replies returns no objects, and logs the end of that: see health.go.
//   - It lists everything again when the server is in an older state than what was read, as after a restore of its etcd: see
//     rewind.go.
//   - It compares the store with the server from time to time: see audit.go.
type follower struct {
	watched
	store    auditable
	auditing time.Duration              // the period with one audit; 0 for none
	refused  func(error)                // called each time the server refuses a list, or fails to return an overdue first one
	doubts   func() bool                // reports whether one reply does not prove that an optional resource is absent; nil if it does
	stumbled func()                     // called each time the server replies without a list, for whatever reason; nil for no call
	has      func(context.Context) bool // reports whether the server may have the resource; nil if only a list can show that
	absent   error                      // the reply of a server that does not have the resource; nil if it may; used by run only
	trouble  trouble
	health   *health // nil in tests

	unaudited, unproven spell // used by patrol only

	mu       sync.Mutex
	restart  context.CancelFunc // ends the current attempt, so that the next one lists everything from scratch
	streams  bool               // the current list is a stream
	unlisted int                // plain lists in a row that the server replied to and refused
	granted  int                // streams that the server granted in the current attempt
	version  string             // the highest resourceVersion read; "" before the first
	last     change             // the last change that the watch brought since the list
	heard    time.Time          // when the server last sent a resourceVersion, or one was requested
	news     time.Time          // when the server last sent an event, a bookmark or a list; before the first, when f began
	fresh    bool               // no watch has ended since the last list
	unsure   bool               // the last probe got no reply
	watching bool               // a watch is open
	opened   time.Time          // when the last watch of the current attempt began; zero for none
	rewound  bool               // the server is in an older state, and the correcting list is still to come
	audit    *audit             // the current audit; nil without one
	known    bool               // everything was listed, or the server does not have or grant the resource
	late     bool               // not known, and overdue has passed
	failure  error              // why the last attempt failed; nil if none did
	asked    time.Time          // when the current list or watch was requested; zero once there is a result
}

// follow runs f until ctx ends.
func (s *Source) follow(ctx context.Context, f *follower) {
	f.auditing = s.spec.Audit
	f.trouble.resource, f.trouble.optional, f.trouble.unasked = f.resource, f.optional, f.has != nil
	f.trouble.elsewhere = func() bool { return s.followers.watching(f) }
	f.health = s.clients.health
	f.news = time.Now()
	s.followers.add(ctx, f)
	safe.Go(ctx, "the watch of "+f.resource, f.run)
	safe.Go(ctx, "the audit of "+f.resource, f.patrol)
}

// run lists and watches until ctx ends.
func (f *follower) run(ctx context.Context) {
	ctx = klog.NewContext(ctx, clientLog)
	defer collector.listed(f.store)
	delay := backoff().DelayWithReset(clock.RealClock{}, 2*time.Minute)
	var r *cache.Reflector
	var restarted time.Time
	cut := 0 // attempts in a row that were cut off
	for ctx.Err() == nil {
		if r == nil {
			r = f.reflectorOf(&cache.ListWatch{ListWithContextFunc: f.list, WatchFuncWithContext: f.watch}, f)
		}
		restart, err := f.attempt(ctx, r)
		switch {
		case ctx.Err() != nil:
		case restart:
			r = nil // it would continue from the resourceVersion that it read
		case isCut(err) || err == nil && !f.lasted():
			if cut++; cut >= manyCut {
				f.failed(errCut)
			}
		case err != nil:
			f.failed(err)
		default:
			cut = 0
		}
		pause := delay()
		if r == nil && time.Since(restarted) > longestPause { // the server works, and answers become stale
			restarted, pause = time.Now(), 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		f.awaitResource(ctx)
	}
}

// attempt lists and watches once. restart reports whether everything must be listed from scratch. What the attempt
// started ends with it, even if it panics.
func (f *follower) attempt(ctx context.Context, r *cache.Reflector) (restart bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.begin(cancel)
	err = r.ListAndWatchWithContext(ctx)
	collector.listed(f.store)
	return ctx.Err() != nil, err
}

// awaitResource waits while the server does not have the resource, if that was the reason of the last failure.
func (f *follower) awaitResource(ctx context.Context) {
	if f.has == nil {
		return
	}
	for ; f.absent != nil && ctx.Err() == nil && !f.has(ctx); f.noteAbsent(f.absent) {
		select {
		case <-ctx.Done():
		case <-time.After(longestPause):
		}
	}
	f.absent = nil
}

// noteAbsent records that, according to the server, there are no such objects now.
func (f *follower) noteAbsent(err error) {
	stands := f.trouble.saw(err) || f.doubts == nil || !f.doubts()
	f.mu.Lock()
	f.news = time.Now()
	f.known = f.known || stands
	f.mu.Unlock()
	if stands {
		f.refused(err)
	} else if f.stumbled != nil {
		f.stumbled()
	}
}

// overdue is how long a first list may take. Then whatever waits for it gets the reason, and no longer prevents the
// server from being ready. Tests shorten it.
var overdue = 10 * time.Second

// checkFirst makes f late if the first list is not complete.
func (f *follower) checkFirst() {
	f.mu.Lock()
	f.late = !f.known
	late, err := f.late, f.failure
	f.mu.Unlock()
	if !late {
		return
	}
	if err == nil {
		err = errSilent
	}
	f.saw(err)
	f.refused(err)
}

// saw records an error, as trouble of the resource or as an outage of the server. It returns whether the error counts
// as trouble.
func (f *follower) saw(err error) bool {
	if errors.Is(err, errSilent) && f.health != nil && f.trouble.isOutage(err) {
		f.health.saw(err) // no request has failed
	}
	return f.trouble.saw(err)
}

// isLate reports whether the first list is overdue.
func (f *follower) isLate() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.late && !f.known
}

// A watch that ends within shortWatch, without an error, was cut off. A server that shuts down cuts one off; manyCut in
// a row have another cause.
const (
	shortWatch = 3 * time.Second
	manyCut    = 3
)

// isCut reports whether err means that the reply to a list broke off.
func isCut(err error) bool {
	var stream http2.StreamError
	return errors.Is(err, errCut) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &stream)
}

// lasted reports whether the last watch of the attempt that just ended was open for shortWatch or more.
func (f *follower) lasted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.opened.IsZero() && time.Since(f.opened) >= shortWatch
}

func (f *follower) begin(restart context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restart, f.granted, f.opened = restart, 0, time.Time{}
}

// failed records why an attempt to list and watch ended.
func (f *follower) failed(err error) {
	if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) { // a list follows
		return
	}
	f.mu.Lock()
	f.failure = err
	f.mu.Unlock()
	if f.optional && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err)) {
		if f.noteAbsent(err); apierrors.IsNotFound(err) {
			f.absent = err
		}
		return
	}
	if f.stumbled != nil && !isOutage(err) {
		f.stumbled()
	}
	if f.trouble.saw(err) && isRefusal(err) || f.isLate() {
		f.refused(err)
	}
}

// followers are the followers of one Source.
type followers struct {
	mu  sync.Mutex
	all map[*follower]struct{}
}

// add registers f until ctx ends.
func (s *followers) add(ctx context.Context, f *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*follower]struct{})
	}
	s.all[f] = struct{}{}
	context.AfterFunc(ctx, func() { // it only removes f from a map
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, f)
	})
}

// watching reports whether a watch of any follower but one, which may be nil, is open.
func (s *followers) watching(but *follower) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.all {
		if f == but {
			continue
		}
		f.mu.Lock()
		watching := f.watching
		f.mu.Unlock()
		if watching {
			return true
		}
	}
	return false
}

// news returns the oldest last news of the followers, the zero time without a follower.
func (s *followers) news() (oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.all {
		f.mu.Lock()
		if oldest.IsZero() || f.news.Before(oldest) {
			oldest = f.news
		}
		f.mu.Unlock()
	}
	return oldest
}

// reflectorOf makes a reflector that has read nothing yet.
func (f *follower) reflectorOf(lw *cache.ListWatch, store cache.ReflectorStore) *cache.Reflector {
	logger := clientLog
	return cache.NewReflectorWithOptions(
		cache.ToListWatcherWithWatchListSemantics(lw, f.client), f.example, store,
		cache.ReflectorOptions{Name: "kubehosts", TypeDescription: f.resource, Logger: &logger, Backoff: backoff()},
	)
}

// request makes a request for the objects of f.
func (f *follower) request(o meta.ListOptions) *rest.Request {
	f.selects(&o)
	return f.client.Get().Namespace(f.namespace).Resource(f.resource).VersionedParams(&o, meta.ParameterCodec).
		MaxRetries(0) // else client-go silently repeats one that the server is too busy for, ten times
}

// stream sends a request for a watch, uncompressed. An API server would compress it event by event, which doubles its
// work: with 8,000 Services and 80,000 endpoints the streamed lists take 0.28 s of its CPU time uncompressed, and 0.58
// s compressed. A plain list, which is compressed as a whole, takes the same time either way.
func (f *follower) stream(ctx context.Context, o meta.ListOptions) (watch.Interface, error) {
	o.Watch = true
	return f.request(o).SetHeader("Accept-Encoding", "identity").Watch(ctx)
}

// list requests a list that is not a stream.
func (f *follower) list(ctx context.Context, o meta.ListOptions) (runtime.Object, error) {
	f.mu.Lock()
	f.streams = false
	if o.ResourceVersion == "0" && f.version != "" {
		o.ResourceVersion = "" // with 0 a server may reply from an old state, which is acceptable only for the first list
	}
	f.mu.Unlock()
	collector.list(f.store)
	f.ask(true)
	list, err := f.listPlain(ctx, o)
	f.ask(false)
	if err != nil {
		collector.listed(f.store)
	}
	f.notePlain(err)
	return list, err
}

// errRewound ends an attempt to watch a server that is in an older state than what was read.
var errRewound = errors.New("the API server is in an older state than what was read before")

// watch requests a watch, or a streamed list that continues as a watch.
func (f *follower) watch(ctx context.Context, o meta.ListOptions) (watch.Interface, error) {
	stream := o.SendInitialEvents != nil && *o.SendInitialEvents
	if stream {
		if f.plainFirst() {
			return nil, errPlain
		}
		if !f.mayStream(ctx) {
			f.trouble.saw(errCut)
			return nil, errCut // a plain list follows
		}
		collector.list(f.store)
	} else if behind, err := f.behind(ctx); err != nil {
		return nil, err
	} else if behind {
		return nil, errRewound
	}
	f.mu.Lock()
	f.streams = stream
	f.mu.Unlock()

	f.ask(true)
	w, err := f.stream(ctx, o)
	if err != nil {
		f.ask(false)
		collector.listed(f.store)
		if apierrors.IsTooManyRequests(err) || utilnet.IsConnectionRefused(err) { // the reflector retries silently
			f.failed(err)
		}
		return nil, err
	}
	if _, ok := w.(*watch.StreamWatcher); !ok {
		f.ask(false)
		return w, nil // client-go returns an empty one if the connection broke
	}
	if stream {
		f.mu.Lock()
		f.granted++
		f.mu.Unlock()
	} else {
		f.open()
		f.trouble.over()
	}
	return &closing{w, f.closed}, nil
}

// mayStream waits a moment if a stream of this attempt broke off, since a reflector requests another one at once. It
// returns false once too many broke off.
func (f *follower) mayStream(ctx context.Context) bool {
	f.mu.Lock()
	granted := f.granted
	f.mu.Unlock()
	if granted == 0 {
		return true
	}
	select {
	case <-time.After(firstPause):
	case <-ctx.Done():
	}
	return granted < manyCut
}

// closing is a watch that calls closed when it is stopped. A reflector stops each of its watches.
type closing struct {
	watch.Interface
	closed func()
}

// Stop implements watch.Interface.
func (c *closing) Stop() {
	c.Interface.Stop()
	c.closed()
}

// open records that a watch begins.
func (f *follower) open() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watching, f.opened, f.asked = true, time.Now(), time.Time{}
}

// closed records that a watch ends, and with it the current audit.
func (f *follower) closed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watching, f.fresh, f.audit, f.asked = false, false, nil, time.Time{}
}

// ask records that a list or a watch is requested, or, if not on, that the request has ended.
func (f *follower) ask(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked = (time.Time{}); on {
		f.asked = time.Now()
	}
}

// Transformer implements cache.TransformingStore: the objects of a streamed list are packed as they come in.
func (f *follower) Transformer() cache.TransformFunc {
	if s, ok := f.store.(cache.TransformingStore); ok {
		return s.Transformer()
	}
	return nil
}

// Add implements cache.ReflectorStore.
func (f *follower) Add(obj any) error {
	if !f.changed(obj, false) {
		return nil
	}
	return f.store.Add(obj)
}

// Update implements cache.ReflectorStore.
func (f *follower) Update(obj any) error {
	if !f.changed(obj, false) {
		return nil
	}
	return f.store.Update(obj)
}

// Delete implements cache.ReflectorStore.
func (f *follower) Delete(obj any) error {
	if !f.changed(obj, true) {
		return nil
	}
	return f.store.Delete(obj)
}

// Bookmark implements cache.ReflectorBookmarkStore.
func (f *follower) Bookmark(version string) error {
	f.reached(version)
	return nil
}

// Replace implements cache.ReflectorStore. list is everything that the server had at version.
func (f *follower) Replace(list []any, version string) error {
	f.replaced(version)
	if err := f.store.Replace(list, version); err != nil {
		return err
	}
	collector.listed(f.store)
	f.trouble.read()
	f.mu.Lock()
	streams := f.streams
	f.mu.Unlock()
	if streams { // it continues as a watch
		f.open()
		f.trouble.over()
	}
	return nil
}

// Resync implements cache.ReflectorStore. It does nothing.
func (f *follower) Resync() error { return nil }
