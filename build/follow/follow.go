package follow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

var log = safe.NewLog(stanza.Name)

// The origins of the active Corefile.
const (
	fromConfigMap = "configmap"
	fromLastGood  = "last-good"
	fromFile      = "file"
)

const (
	// A refused Corefile is retried after retryFirst, then after twice as long each time, up to retryMost: a file that
	// it needs may exist by then, or a port may be free.
	retryFirst = 30 * time.Second
	retryMost  = 5 * time.Minute
	never      = 100 * 365 * 24 * time.Hour
	// reread is how often the files that a Corefile imports are read again. There are no events for them.
	reread = 30 * time.Second
	// listMost limits how long a restart waits for objects that the Corefile needs and the previous one did not.
	listMost = 5 * time.Second
	// firstListMost limits that for a start. It is a little longer than the API server may take until it counts as
	// failing.
	firstListMost = 11 * time.Second
)

// Follower follows the ConfigMap of the Corefile.
//
// It has one writer, the goroutine of follow, which restarts the server and replaces stanzas in place. The watches, the
// plugin reload, signals and metrics read its state, and hold mu only for that.
type Follower struct {
	flags    *Flags
	conf     string         // the file of -conf; "" for none
	source   *source.Source // nil if no API server is configured
	wake     chan struct{}  // holds one token when there is an event
	ahead    *live.Ahead    // the objects that the first Corefile needs, until the server runs
	checkers checkers
	trial    *note  // for the Corefile on trial; nil if there are no notes
	died     string // the hash of the Corefile that the previous process had on trial; "" for none

	mu       sync.Mutex
	events   map[object]source.ConfigMapEvent // the newest one of each ConfigMap
	readable map[object]bool                  // those that could be read at least once
	serving  *state
	read     *state      // what CoreDNS has read; stanzas may have been replaced since
	refused  refusal     // of the newest Corefile
	unstored string      // why the last good Corefile could not be stored, as last logged
	storing  *time.Timer // until the active one is stored; nil if it will not be
	looked   string      // the version of the last good Corefile that mend has checked
}

// refusal is the reason why a Corefile is not applied. The zero value means that it is applied.
type refusal struct {
	why  string
	hash string // of the Corefile; "" if it can't be read, which is retried at each look

	pause time.Duration // until the next attempt
	until time.Time
	again *time.Timer // wakes follow then
	ahead *live.Ahead // the missing objects; nil if there is another reason
}

// drop stops the timer and the requests of r.
func (r *refusal) drop() {
	if r.again != nil {
		r.again.Stop()
	}
	if r.ahead != nil {
		r.ahead.Close()
	}
}

// covers reports whether a Corefile is refused and must not be retried yet.
func (r *refusal) covers(hash string) bool { return r.hash == hash && time.Now().Before(r.until) }

// object is a ConfigMap.
type object struct{ namespace, name string }

func (o object) String() string { return "ConfigMap " + safe.Printable(o.namespace+"/"+o.name) }

func (r keyRef) object() object    { return object{r.namespace, r.name} }
func (r importRef) object() object { return object{r.namespace, r.name} }

// title returns the name of a key in errors.
func (r keyRef) title() string { return r.object().String() + " key " + r.key }

// state is a Corefile. It never changes.
type state struct {
	text   *corefile.Text
	name   string // in errors of CoreDNS
	hash   string
	origin string
	blocks []corefile.Block
	since  time.Time
}

// newState returns the state of a text from origin.
func newState(text *corefile.Text, origin string) (*state, error) {
	blocks, err := text.Blocks(dnsserver.Directives)
	if err != nil {
		return nil, err
	}
	if corefile.Idle(blocks) {
		return nil, &corefile.Error{At: text.Position(1), Text: corefile.IdleText}
	}
	return &state{text, text.Position(1).File, hashOf(text), origin, blocks, time.Now()}, nil
}

// hashLen is the length of a Corefile's hash in logs and metrics.
const hashLen = 12

func hashOf(text *corefile.Text) string { return hashOfBody(text.Body) }

func hashOfBody(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])[:hashLen]
}

// input returns the text for CoreDNS to read.
func (s *state) input() caddy.Input {
	return caddy.CaddyfileInput{Filepath: s.name, Contents: []byte(s.text.Body), ServerTypeName: "dns"}
}

// located adds the line in the ConfigMap or file to an error of CoreDNS or of a plugin.
func (s *state) located(err error) error { return s.text.Locate(err, s.name, s.text.Position(1)) }

// New returns the Follower of the ConfigMaps of flags. conf is the file for starts without the API server; "" for none.
func New(flags *Flags, conf string) *Follower {
	return &Follower{flags: flags, conf: conf, wake: make(chan struct{}, 1), events: make(map[object]source.ConfigMapEvent), readable: make(map[object]bool)}
}

// spec returns the cluster with the ConfigMaps: the one in which the process runs, or the one of the environment
// variable KUBECONFIG.
func spec() source.Spec {
	return source.Spec{Kubeconfig: os.Getenv("KUBECONFIG"), Audit: stanza.DefaultAudit}
}

// listen starts watching all ConfigMaps.
func (f *Follower) listen() error {
	source.RouteKlog()
	main := f.flags.configMap
	live.FollowCorefile(live.Corefile{Spec: spec(), Namespace: main.namespace, Name: main.name, Key: main.key, Report: f.report})
	if os.Getenv("KUBECONFIG") == "" && os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return errors.New("no API server is known: this process does not run in a pod, and the environment variable KUBECONFIG is not set")
	}
	s, err := source.Open(spec())
	if err != nil {
		return err
	}
	f.source = s
	for _, o := range f.objects() {
		s.ConfigMap(o.namespace, o.name, func(e source.ConfigMapEvent) { f.hear(o, e) })
	}
	return nil
}

// objects returns the ConfigMaps to follow, without duplicates, the one of the Corefile first.
func (f *Follower) objects() (all []object) {
	known := map[object]bool{}
	add := func(o object) {
		if o.name != "" && !known[o] {
			known[o] = true
			all = append(all, o)
		}
	}
	add(f.flags.configMap.object())
	for _, i := range f.flags.imports {
		add(i.object())
	}
	add(f.flags.lastGood.object())
	return all
}

// hear stores the event of a ConfigMap.
func (f *Follower) hear(o object, e source.ConfigMapEvent) {
	f.mu.Lock()
	before := f.events[o]
	f.events[o] = e
	if e.Err == nil {
		f.readable[o] = true
	}
	once := f.readable[o]
	f.mu.Unlock()
	f.logReadable(o, before.Err, e.Err, once)
	f.look()
}

// logReadable logs that a ConfigMap beside that of the Corefile can't be read, or that it can again. once means that it
// could be read before. For the ConfigMap of the Corefile, and one with imports that can no longer be read, apply logs
// it.
func (f *Follower) logReadable(o object, before, now error, once bool) {
	good := o == f.flags.lastGood.object()
	switch {
	case o == f.flags.configMap.object() || (before == nil) == (now == nil):
	case now == nil:
		log.Infof("%s can be read", o)
	case good:
		log.Warningf("%v; until then no start is made from it", unreadable(o, now))
	case !once:
		log.Warningf("%v; until then its imports come from files", unreadable(o, now))
	}
}

// look wakes follow.
func (f *Follower) look() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *Follower) event(o object) (e source.ConfigMapEvent, heard bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, heard = f.events[o]
	return e, heard
}

// textOf returns the Corefile in a key of a ConfigMap.
func (f *Follower) textOf(r keyRef, e source.ConfigMapEvent) (*corefile.Text, error) {
	switch body, ok := e.Data[r.key]; {
	case e.Err != nil:
		return nil, unreadable(r.object(), e.Err)
	case !e.Found:
		return nil, fmt.Errorf("%s does not exist", r.object())
	case !ok:
		return nil, fmt.Errorf("%s has no key %s", r.object(), r.key)
	default:
		return corefile.Read(corefile.Source{Name: r.title(), Text: body, Dir: f.dir()}, f.imports)
	}
}

// dir returns the folder of relative imports: the folder of the file of -conf.
func (f *Follower) dir() string {
	dir, err := filepath.Abs(filepath.Dir(f.conf))
	if err != nil {
		return "/"
	}
	return dir
}

// imports is the Importer: it imports from the ConfigMaps of -import, else from files. A ConfigMap that does not exist
// has no keys. For one that has not been read yet, or could never be read, it uses the keys that the kubelet mounts as
// files. A ConfigMap that can no longer be read is an error.
func (f *Follower) imports(pattern string, from *corefile.Source) ([]corefile.Source, error) {
	path := pattern
	if !filepath.IsAbs(path) {
		path = filepath.Join(from.Dir, path)
	}
	for _, i := range f.flags.imports {
		dir := i.dir
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(f.dir(), dir)
		}
		e, readable := f.imported(i.object())
		if !readable {
			continue
		}
		keys := make(map[string]corefile.Source, len(e.Data))
		for key, text := range e.Data {
			keys[key] = corefile.Source{Name: i.object().String() + " key " + safe.Printable(key), Text: text, Dir: dir}
		}
		if all, ok, err := corefile.Mounted(path, dir, keys); ok {
			if e.Err != nil {
				return nil, unreadable(i.object(), e.Err)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", i.object(), err)
			}
			return all, err
		}
	}
	return corefile.Files(pattern, from)
}

// imported returns the last event of a ConfigMap for imports, and whether it could be read at least
// once.
func (f *Follower) imported(o object) (e source.ConfigMapEvent, readable bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.events[o], f.readable[o]
}

// unreadable is the error for a ConfigMap that the API server does not return.
func unreadable(o object, err error) error { return source.Unreadable(o.String(), err) }

// follow applies edits one after the other until ctx ends. It skips those superseded meanwhile.
func (f *Follower) follow(ctx context.Context) {
	again := time.NewTicker(reread)
	defer again.Stop()
	f.applyAll(ctx, again.C)
}

// applyAll applies the current Corefile after each event, and at each tick of again.
func (f *Follower) applyAll(ctx context.Context, again <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-again:
		}
		f.apply()
		f.mend()
	}
}

// apply applies the current Corefile of the ConfigMaps, unless it is already active or was just
// refused.
func (f *Follower) apply() {
	main := f.flags.configMap
	e, heard := f.event(main.object())
	if !heard {
		return
	}
	text, err := f.textOf(main, e)
	if err != nil {
		f.refuse(err, "")
		return
	}
	next, err := newState(text, fromConfigMap)
	if err != nil {
		f.refuse(err, hashOf(text))
		return
	}
	f.mu.Lock()
	serving, covered := f.serving, f.refused.covers(next.hash)
	f.mu.Unlock()
	switch {
	case covered:
		return
	case next.hash == serving.hash && serving.origin == fromConfigMap:
		f.accept(serving, "")
		return
	}
	how, err := f.put(serving, next)
	if err != nil {
		f.trial.clear()
		f.refuse(err, next.hash)
		return
	}
	f.accept(next, how)
}

// How an edit is applied.
const (
	inPlace   = "in_place"
	byRestart = "restart"
)

// put makes next the active Corefile instead of serving, and returns how: "" if they are
// equivalent.
func (f *Follower) put(serving, next *state) (how string, err error) {
	edit := corefile.Compare(serving.blocks, next.blocks)
	switch {
	case edit.Empty():
		return "", nil
	case edit.Restart == "":
		f.onTrial(next.hash)
		err := live.Replace(places(next.blocks, edit.Stanzas))
		if !errors.Is(err, live.ErrRestart) {
			return inPlace, err
		}
	}
	found, err := f.checkers.check(next.text)
	defer f.checkers.prepare()
	if errors.Is(err, errNoChecker) {
		log.Warningf("Corefile %s was not checked before the restart: %v", next.hash, err)
	} else if err != nil {
		return "", err
	}
	if err := wrong(found); err != nil {
		return "", err
	}
	if err := listenable(serving.blocks, next.blocks); err != nil {
		return "", err
	}
	ahead, err := listed(next.blocks, listMost)
	if err != nil {
		return "", err
	}
	defer ahead.Close()
	f.onTrial(next.hash)
	if err := restart(next); err != nil {
		return "", next.located(err)
	}
	f.mu.Lock()
	f.read = next
	f.mu.Unlock()
	return byRestart, nil
}

// places maps stanzas by their position among the server blocks that have one.
func places(blocks []corefile.Block, stanzas map[int]corefile.Config) map[int]*stanza.Config {
	all := make(map[int]*stanza.Config)
	place := 0
	for i := range blocks {
		if blocks[i].Directives[stanza.Name] == nil {
			continue
		}
		if c := stanzas[i]; c != nil {
			all[place] = c
		}
		place++
	}
	return all
}

// listed waits, at most for most, until the API server has listed what the kubehosts stanzas of a Corefile need, so
// that all names are available after a restart with it. The caller closes the result after the restart. The error is an
// *unlisted if the API server refuses or fails to list something, or takes longer.
func listed(blocks []corefile.Block, most time.Duration) (*live.Ahead, error) {
	ahead, err := live.OpenAhead(stanzas(blocks))
	if err != nil {
		return nil, err
	}
	bound, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	ctx, refused := context.WithCancelCause(bound)
	defer refused(nil)
	if ahead.Wait(ctx, refused) == nil {
		return ahead, nil
	}
	if bound.Err() != nil {
		return nil, &unlisted{fmt.Errorf("the API server did not list within %s the objects that it needs", most), ahead, true}
	}
	why := context.Cause(ctx)
	var silent *source.RefusedError
	return nil, &unlisted{why, ahead, errors.As(why, &silent) && silent.Silent()}
}

// stanzas returns the kubehosts stanzas of server blocks. All are valid.
func stanzas(blocks []corefile.Block) (all []*stanza.Config) {
	for i := range blocks {
		if blocks[i].Directives[stanza.Name] == nil {
			continue
		}
		if c, err := blocks[i].Stanza(); err == nil {
			all = append(all, c)
		}
	}
	return all
}

// unlisted is the error that the API server has not listed what a Corefile needs.
type unlisted struct {
	error
	ahead *live.Ahead // the missing lists, still being requested
	late  bool        // the lists may still arrive
}

// restart restarts the server with a Corefile, like the plugin reload. If that fails, the previous one goes on serving.
func restart(next *state) error {
	instance := running()
	if instance == nil {
		return errors.New("the server is not running")
	}
	undo := live.Forget()
	token := new(int)
	live.RestartBegan(token) // for a previous Corefile without kubehosts
	after, err := instance.Restart(next.input())
	if after == nil && err == nil {
		err = errors.New("a panic; the log has its stack")
	}
	if err != nil {
		undo()
		live.RestartFailed(token)
	}
	return err
}

// running returns the running instance of CoreDNS.
func running() (last *caddy.Instance) {
	for _, i := range caddy.Instances() {
		if len(i.Servers()) > 0 {
			last = i
		}
	}
	return last
}

// accept records that s, the ConfigMap's Corefile, is active, and how it was applied: "" if it was active
// already.
func (f *Follower) accept(s *state, how string) {
	f.mu.Lock()
	before, refused := f.serving, f.refused
	f.serving, f.refused = s, refusal{}
	f.mu.Unlock()
	refused.drop()
	note := ""
	switch {
	case how != "":
		applied.WithLabelValues(how).Inc()
		words := map[string]string{inPlace: "in place", byRestart: "with a restart"}
		note = fmt.Sprintf("Corefile %s applied %s", s.hash, words[how])
		log.Infof("%s of %s, in place of %s", note, f.flags.configMap.title(), before.hash)
	case refused.why != "":
		note = fmt.Sprintf("Corefile %s is good and serves", s.hash)
		log.Infof("%s is good again, and its Corefile %s serves", f.flags.configMap.title(), s.hash)
	case before == s:
		return
	}
	f.storeLater(s)
	if note != "" {
		f.report(source.Report{Note: note, Reason: "CorefileApplied"})
	}
}

// refuse records that the newest Corefile, with that hash, is not applied. It logs the reason, unless it has already
// done so, and counts each Corefile once.
func (f *Follower) refuse(err error, hash string) {
	why := err.Error()
	before := f.setRefused(err, hash)
	if before.why == why && before.hash == hash {
		return
	}
	if before.hash != hash || hash == "" {
		rejected.Inc()
	}
	log.Errorf("Corefile not changed, the last good one (%s) goes on serving: %s", f.now().hash, why)
	f.report(source.Report{Refused: true, Note: "Corefile not changed, the last good one goes on serving: " + why, Reason: "CorefileRejected"})
}

// setRefused stores err as the reason why the newest Corefile, with that hash, is not applied, and returns the previous
// refusal. The Corefile is retried after a while, and at once when the missing objects are listed.
func (f *Follower) setRefused(err error, hash string) (before refusal) {
	r := refusal{why: err.Error(), hash: hash}
	var waits *unlisted
	if errors.As(err, &waits) {
		r.ahead = waits.ahead
	}
	f.mu.Lock()
	before = f.refused
	switch {
	case hash == "":
	case errors.Is(err, deadly{}):
		r.until = time.Now().Add(never)
	default:
		r.pause = retryFirst
		if before.hash == hash {
			r.pause = min(2*before.pause, retryMost)
		}
		r.until = time.Now().Add(r.pause)
		r.again = time.AfterFunc(r.pause, f.look)
	}
	f.refused = r
	f.mu.Unlock()
	before.drop()
	if r.ahead != nil {
		safe.Go(context.Background(), "the wait for the objects of a Corefile", func(ctx context.Context) {
			if r.ahead.Wait(ctx, nil) == nil {
				f.tryNow(hash)
			}
		})
	}
	return before
}

// tryNow retries the refused Corefile with that hash, if it is still the newest.
func (f *Follower) tryNow(hash string) {
	f.mu.Lock()
	if f.refused.hash == hash {
		f.refused.until = time.Time{}
	}
	f.mu.Unlock()
	f.look()
}

// now returns the active Corefile.
func (f *Follower) now() *state {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.serving
}

// report writes an Event on the ConfigMap, or, if that does not exist, on the one of -last-good.
func (f *Follower) report(r source.Report) {
	if f.source == nil {
		return
	}
	for _, o := range []object{f.flags.configMap.object(), f.flags.lastGood.object()} {
		if e, _ := f.event(o); e.Found {
			f.source.Report(o.namespace, o.name, e, r)
			return
		}
	}
}
