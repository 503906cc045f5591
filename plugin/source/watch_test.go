package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	golog "log"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/metrics/vars"
	api "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// logs collects the log until the end of the test.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// with returns the lines that have all of the words.
func (l *logs) with(words ...string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

func captureLog(t *testing.T) *logs {
	t.Helper()
	l := new(logs)
	golog.SetOutput(io.MultiWriter(l, t.Output()))
	t.Cleanup(func() { golog.SetOutput(os.Stderr) })
	return l
}

// once waits for the one line that has all of the words.
func (l *logs) once(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("a line with %q", words), func() bool { return len(l.with(words...)) > 0 })
	if n := len(l.with(words...)); n != 1 {
		t.Errorf("%d lines with %q", n, words)
	}
}

// A server that asks to repeat requests for a moment, as it does for a resource whose definition is new, is in no
// trouble.
func TestTooManyRequestsForAMoment(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.answer("services", http.StatusTooManyRequests)
	a.answer("serviceimports", http.StatusNotFound)
	o, err := a.open(t).Objects(Selection{Multicluster: true})
	must(t, err)
	t.Cleanup(o.Close)
	l.once(t, "[ERROR]", "returns no serviceimports", "install their CustomResourceDefinition")
	a.answer("serviceimports", http.StatusTooManyRequests)
	before := timesAsked(a.asked(), "watch serviceimports")
	eventually(t, "several requests", func() bool {
		return timesAsked(a.asked(), "watch services") >= 3 && timesAsked(a.asked(), "watch serviceimports") >= before+2
	})
	a.answer("services", 0)
	a.answer("serviceimports", 0)
	eventually(t, "the Services", o.Synced)
	if lines := l.with("the API server's own log"); len(lines) != 0 {
		t.Errorf("it is logged: %q", lines)
	}
}

// timesAsked returns the number of requests of a kind in what a server was asked for.
func timesAsked(asked, kind string) (n int) {
	_, rest, _ := strings.Cut(asked, kind+":")
	fmt.Sscanf(rest, "%d", &n)
	return n
}

// Each way in which a server that replies returns nothing is logged once, with the resource and the remedy. So is its
// end.
func TestTroubleIsLogged(t *testing.T) {
	tests := []struct {
		name   string
		status int
		page   bool // replies with a page of HTML
		want   string
	}{
		{"a page with status 200", 0, true, "a proxy's login page"},
		{"unauthorized", http.StatusUnauthorized, false, "renew this account's token"},
		{"forbidden", http.StatusForbidden, false, "grant list and watch on services (rbac/rbac.yaml)"},
		{"not found", http.StatusNotFound, false, "check that this is the URL of a Kubernetes API server"},
		{"too many requests", http.StatusTooManyRequests, false, "see the API server's own log"},
		{"an internal error", http.StatusInternalServerError, false, "see the API server's own log"},
		{"unavailable", http.StatusServiceUnavailable, false, "see the API server's own log"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			l := captureLog(t)
			a := newAPIServer(t)
			a.putService("web", "10.0.0.1")
			a.answer("services", tc.status)
			a.page("services", tc.page)
			o, err := a.open(t).Objects(Selection{})
			must(t, err)
			t.Cleanup(o.Close)
			l.once(t, "[ERROR]", "returns no services", "none were read yet", tc.want)
			asked := a.asked()
			eventually(t, "it is retried", func() bool { return a.asked() != asked })
			if o.Synced() {
				t.Error("synced without the Services")
			}
			a.answer("services", 0)
			a.page("services", false)
			l.once(t, "[INFO]", "returns services for the first time, after")
			l.once(t, "returns no services")
			eventually(t, "its objects", func() bool { return ipOf(o, "web") == "10.0.0.1" })
			if lines := l.with("can't be reached"); len(lines) > 0 {
				t.Errorf("a replying server: %q", lines)
			}
			if lines := l.with("namespaces"); len(lines) > 0 {
				t.Errorf("a returned resource: %q", lines)
			}
		})
	}
}

// For a resource that was read before, the log states that it is still served. Replies for another resource do not
// count as its return.
func TestTroubleOfOneResource(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	o := listed(t, a.open(t), Selection{})
	eventually(t, "the watches", func() bool { return a.watches("services") && a.watches("namespaces") })
	a.answer("services", http.StatusServiceUnavailable)
	a.cut()
	l.once(t, "returns no services", "those read before are still served")
	eventually(t, "the watch of namespaces", func() bool { return strings.Contains(a.asked(), "watch namespaces:2") })
	asked := a.asked()
	eventually(t, "it is retried", func() bool { return a.asked() != asked })
	if lines := l.with("again"); len(lines) > 0 {
		t.Errorf("before it is over: %q", lines)
	}
	a.answer("services", 0)
	l.once(t, "returns services again")
	a.putService("web", "10.0.0.2")
	eventually(t, "a change", func() bool { return ipOf(o, "web") == "10.0.0.2" })
}

// A watch that gets no reply is logged, as the others show that the server works. The time without one counts from the
// request: an outage before it is no trouble of the resource.
func TestWatchWithoutReply(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	s := a.open(t)
	listed(t, s, Selection{})
	eventually(t, "the watches", func() bool { return a.watches("services") && a.watches("namespaces") })
	a.answer("services", hang)
	a.cut()
	var f *follower
	s.followers.mu.Lock()
	for of := range s.followers.all {
		if of.resource == "services" {
			f = of
		}
	}
	s.followers.mu.Unlock()
	eventually(t, "the watch of namespaces", func() bool { return a.watches("namespaces") })
	requested := func() (yes bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !f.asked.IsZero()
	}
	eventually(t, "the request", requested)
	f.look(t.Context())
	if lines := l.with("returns no services"); len(lines) != 0 {
		t.Errorf("right after the request: %q", lines)
	}
	f.mu.Lock()
	f.asked = f.asked.Add(-2 * overdue)
	f.mu.Unlock()
	f.look(t.Context())
	f.look(t.Context())
	l.once(t, "[ERROR]", "returns no services", "it does not reply", "those read before are still served")
}

// Why a ConfigMap is not returned changes with each request. Its followers get one state for all of these.
func TestReasonsOfConfigMap(t *testing.T) {
	quietly(t)
	c := &configMap{}
	for i, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("page 1"), "page 1"}, {errors.New("page 2"), "page 1"}, {errSilent, "page 1"},
		{apierrors.NewUnauthorized("renew"), "renew"}, {errors.New("page 3"), "renew"},
	} {
		if c.fail(tt.err); c.state.Err.Error() != tt.want {
			t.Errorf("%d: %v, want %s", i, c.state.Err, tt.want)
		}
	}
	c.told = c.told.Add(-quiet)
	if c.fail(errSilent); c.state.Err != errSilent {
		t.Errorf("after a minute: %v", c.state.Err)
	}
}

func TestTroubleThatChanges(t *testing.T) {
	l := captureLog(t)
	tr := &trouble{resource: "services"}
	for _, err := range []error{
		errors.New("page 0"),                                             // may be over in a second
		errors.New("page 1"), errors.New("page 2"), errors.New("page 2"), // one class, and a minute has yet to pass
		errCut, errCut, errors.New("page 3"),
	} {
		tr.saw(err)
	}
	tr.over()
	tr.over()
	got := l.with("services")
	for i, want := range []string{"page 1", "cuts off streams", "page 3", "returns services for the first time, after"} {
		if i >= len(got) || !strings.Contains(got[i], want) {
			t.Fatalf("line %d lacks %q: %q", i, want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d lines: %q", len(got), got)
	}
	tr.saw(errCut)
	tr.over() // since each watch that is cut off was granted
	if lines := l.with("again, after"); len(lines) != 0 {
		t.Errorf("%q", lines)
	}
	tr.lasted()
	if lines := l.with("returns services again, after"); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
	tr.logged = tr.logged.Add(-quiet)
	tr.saw(errors.New("page 4"))
	tr.logged = tr.logged.Add(-quiet)
	tr.saw(errors.New("page\n5"))
	if lines := l.with(`"page\n5"`); len(lines) != 1 {
		t.Errorf("another text after a minute: %q", lines)
	}
}

// Watches that are cut off at once make client-go list everything again and again, without an
// error.
func TestWatchesThatEndAtOnce(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	listed(t, a.open(t), Selection{})
	a.mu.Lock()
	a.short = true
	a.mu.Unlock()
	a.cut()
	l.once(t, "returns no services", "cuts off streams")
	if n := len(a.since(0, "services")); n > 30 {
		t.Errorf("%d requests for them", n)
	}
}

// While nothing can be listed, garbage is collected at the serving pace.
func TestPaceDuringOutage(t *testing.T) {
	for _, noStream := range []bool{false, true} {
		t.Run(fmt.Sprintf("no streams %v", noStream), func(t *testing.T) {
			t.Setenv("GOGC", "") // since it would be obeyed
			defer debug.SetGCPercent(debug.SetGCPercent(100))
			a := newAPIServer(t)
			a.noStream = noStream
			a.answer("services", http.StatusServiceUnavailable)
			o, err := a.open(t).Objects(Selection{})
			must(t, err)
			t.Cleanup(o.Close)
			eventually(t, "it is retried", func() bool { return len(a.since(0, "services")) > 3 })
			eventually(t, "the end of the lists", func() bool {
				collector.mu.Lock()
				defer collector.mu.Unlock()
				return len(collector.listing) == 0
			})
		})
	}
}

// A wait for objects gets the refusal, with the remedy, and the later grant.
func TestRefused(t *testing.T) {
	a := newAPIServer(t)
	a.put("pods", "default", "p", nil, object{"status": object{"podIPs": []object{{"ip": "10.1.0.1"}}}})
	a.answer("pods", http.StatusForbidden)
	s := a.open(t)
	first := listed(t, s, Selection{})
	o, err := s.Objects(Selection{Pods: true})
	must(t, err)
	t.Cleanup(o.Close)
	refused := make(chan error, 100)
	waited := make(chan error)
	go func() { waited <- o.Wait(t.Context(), func(err error) { refused <- err }) }()
	var failed *RefusedError
	if err := <-refused; !errors.As(err, &failed) || failed.Resource != "pods" ||
		err.Error() != "this account may not list pods: grant list and watch on pods (rbac/pods.yaml)" {
		t.Errorf("refused with %v", err)
	}
	if o.Refused() == nil || o.Synced() || first.Refused() != nil {
		t.Errorf("refused: %v, synced: %v; without pods: %v", o.Refused(), o.Synced(), first.Refused())
	}
	eventually(t, "it is retried", func() bool { return strings.Contains(a.asked(), "list pods:2") })
	a.answer("pods", http.StatusUnauthorized)
	if err := <-refused; !strings.Contains(err.Error(), "renew this account's token") {
		t.Errorf("refused with %v", err)
	}
	a.answer("pods", 0)
	must(t, <-waited, o.Refused())
	if !o.Synced() || len(refused) > 0 {
		t.Errorf("synced: %v, refused %d more times", o.Synced(), len(refused))
	}

	// A kind that was listed once and is refused later stays as it was.
	a.answer("pods", http.StatusForbidden)
	a.cut()
	asked := len(a.since(0, "pods"))
	eventually(t, "it is retried", func() bool { return len(a.since(0, "pods")) > asked+2 })
	if o.Refused() != nil || !o.Synced() {
		t.Errorf("refused: %v, synced: %v", o.Refused(), o.Synced())
	}
}

// A server, or a proxy before it, may put the number of the request into each refusal. Whatever waits for the objects,
// or follows the ConfigMap, is told once: it logs and counts what it is told.
func TestRefusalsWithNumbers(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusInternalServerError, http.StatusTooManyRequests} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			captureLog(t)
			a := newAPIServer(t)
			a.numbered = true
			for _, resource := range []string{"pods", "configmaps"} {
				a.answer(resource, status)
			}
			a.put("configmaps", "kube-system", "coredns", nil, object{"data": object{"Corefile": "1"}})
			s := a.open(t)
			o, err := s.Objects(Selection{Pods: true})
			must(t, err)
			t.Cleanup(o.Close)
			refused := make(chan error, 100)
			waited := make(chan error)
			go func() { waited <- o.Wait(t.Context(), func(err error) { refused <- err }) }()
			events, _ := configMapEvents(t, s, "coredns")
			if e := next(t, events, "refused"); e.Err == nil {
				t.Errorf("the ConfigMap: %+v", e)
			}
			<-refused
			asked := [2]int{len(a.since(0, "pods")), len(a.since(0, "configmaps"))}
			eventually(t, "both are requested again and again", func() bool {
				return len(a.since(0, "pods")) > asked[0]+6 && len(a.since(0, "configmaps")) > asked[1]+6
			})
			if len(refused)+len(events) > 0 {
				t.Errorf("told %d more times about the pods and %d about the ConfigMap", len(refused), len(events))
			}
			for _, resource := range []string{"pods", "configmaps"} {
				a.answer(resource, 0)
			}
			must(t, <-waited)
			if e := next(t, events, "granted"); !e.Found {
				t.Errorf("the ConfigMap: %+v", e)
			}
		})
	}
}

// A reason replaces the one reported before it as soon as a person has to do something else, but texts that change all
// the time do not.
func TestReasonsThatReplaceOthers(t *testing.T) {
	of := func(code int32, text string) error {
		return &apierrors.StatusError{ErrStatus: meta.Status{Code: code, Message: text}}
	}
	forbidden, unauthorized, failing, busy := of(403, "1"), of(401, "1"), of(500, "1"), of(429, "1")
	long := time.Now().Add(-2 * quiet)
	for _, tt := range []struct {
		err, known  error
		soon, later bool
	}{
		{unauthorized, forbidden, true, true},
		{forbidden, failing, true, true},
		{of(403, "2"), forbidden, false, true},
		{failing, forbidden, false, true},
		{busy, failing, false, true},
		{of(500, "2"), failing, false, false},
		{errSilent, failing, false, true},
	} {
		if soon, later := !isDetail(tt.err, tt.known, time.Now()), !isDetail(tt.err, tt.known, long); soon != tt.soon || later != tt.later {
			t.Errorf("%v after %v: at once %v, later %v", tt.err, tt.known, soon, later)
		}
	}
}

// restore changes the server into one whose etcd was restored: its version falls to that number, and one Service is as
// it was.
func (a *apiServer) restore(version int, name, ip string, of int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version, a.past = version, nil
	a.objects["services"]["default/"+name] = object{
		"apiVersion": "v1", "kind": "Service", "spec": object{"clusterIP": ip},
		"metadata": object{"namespace": "default", "name": name, "resourceVersion": strconv.Itoa(of)},
	}
}

// A server that is in an older state than what was read is detected, however that shows.
func TestRewind(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(a *apiServer, o *Objects, t *testing.T)
		break_  func(a *apiServer)
	}{
		{"a lower version when the watch begins again", nil, func(a *apiServer) {
			a.restore(50, "web", "10.0.0.9", 40)
			a.cut()
		}},
		{"a higher version, but the object that changed last is old", func(a *apiServer, o *Objects, t *testing.T) {
			a.putService("web", "10.0.0.2")
			eventually(t, "a change", func() bool { return ipOf(o, "web") == "10.0.0.2" })
		}, func(a *apiServer) {
			a.restore(500, "web", "10.0.0.9", 40)
			a.cut()
		}},
		{"a higher version, but the object that was deleted last exists", func(a *apiServer, o *Objects, t *testing.T) {
			a.remove("services", "default", "web")
			eventually(t, "a deletion", func() bool { return ipOf(o, "web") == "" })
		}, func(a *apiServer) {
			a.restore(500, "web", "10.0.0.9", 40)
			a.cut()
		}},
		{"an old event", nil, func(a *apiServer) {
			a.restore(50, "web", "10.0.0.9", 40)
			a.putService("db", "10.0.0.10")
		}},
		{"an old bookmark", nil, func(a *apiServer) {
			a.restore(50, "web", "10.0.0.9", 40)
			a.mu.Lock()
			a.tell("services", event("BOOKMARK", object{"apiVersion": "v1", "kind": "Service", "metadata": object{"resourceVersion": "50"}}))
			a.mu.Unlock()
		}},
		{"an old list", nil, func(a *apiServer) {
			a.restore(50, "web", "10.0.0.9", 40)
			a.mu.Lock()
			a.gone = true
			a.mu.Unlock()
			a.cut()
		}},
	}
	for _, noStream := range []bool{false, true} {
		for _, tc := range tests {
			t.Run(fmt.Sprintf("%s, no streams %v", tc.name, noStream), func(t *testing.T) {
				l := captureLog(t)
				a := newAPIServer(t)
				a.noStream = noStream
				a.version = 100
				a.putService("web", "10.0.0.1")
				o := listed(t, a.open(t), Selection{})
				eventually(t, "the watches", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.streams) == 2 })
				if tc.prepare != nil {
					tc.prepare(a, o, t)
				}
				tc.break_(a)
				eventually(t, "the older state", func() bool { return ipOf(o, "web") == "10.0.0.9" })
				l.once(t, "[WARNING]", "older state of services", "listed again")
				eventually(t, "the watch", func() bool { return a.watches("services") })
				a.putService("web", "10.0.0.11")
				eventually(t, "a change after it", func() bool { return ipOf(o, "web") == "10.0.0.11" })
				if lines := l.with("older state of services"); len(lines) != 1 {
					t.Errorf("%q", lines)
				}
			})
		}
	}
}

// watches reports whether a watch of the resource is open.
func (a *apiServer) watches(resource string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, of := range a.streams {
		if of == resource {
			return true
		}
	}
	return false
}

// A server that continues from where it was gets no new requests for everything.
func TestNoRewind(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	o := listed(t, a.open(t), Selection{})
	a.putService("web", "10.0.0.2")
	eventually(t, "a change", func() bool { return ipOf(o, "web") == "10.0.0.2" })
	first := len(a.since(0, "services"))
	for i := range 2 {
		a.cut()
		eventually(t, "the watch", func() bool { return a.watches("services") })
		ip := fmt.Sprintf("10.0.0.%d", 10+i)
		a.putService("web", ip)
		eventually(t, "a change", func() bool { return ipOf(o, "web") == ip })
	}
	for _, q := range a.since(0, "services")[first:] {
		if strings.Contains(q, "sendInitialEvents") || !strings.Contains(q, "watch=true") && !strings.Contains(q, "metadata.name") && !strings.Contains(q, "limit=1&") && !strings.HasSuffix(q, "limit=1") {
			t.Errorf("requested everything: %s", q)
		}
	}
	if lines := l.with("older state"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

// A watch that is silent for longer than a server allows is checked.
func TestSilentWatch(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.version = 100
	a.putService("web", "10.0.0.1")
	s := a.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := &group{source: s, ix: services.NewIndex(), counts: make(map[string]int), news: make(chan struct{})}
	f := &follower{
		watched: watched{client: s.clients.core, resource: "services", kind: kindService, example: &api.Service{}},
		store:   &store[api.Service, services.Service]{table: serviceTable, group: g, listed: func() {}, skipped: make(map[objectName]struct{})},
		refused: func(error) {},
	}
	go f.run(ctx)
	ip := func() string {
		if svc := g.ix.State().Service("default", "web"); !svc.IsZero() {
			for a := range svc.Addrs().All {
				return a.String()
			}
		}
		return ""
	}
	eventually(t, "the list", func() bool { return ip() == "10.0.0.1" })
	eventually(t, "the watch", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.watching })
	asked := len(a.since(0, "services"))
	f.look(ctx)
	if n := len(a.since(0, "services")); n != asked {
		t.Errorf("%d requests for a watch with recent news", n-asked)
	}
	silent := func() {
		f.mu.Lock()
		f.heard = f.heard.Add(-2 * silence)
		f.mu.Unlock()
		f.look(ctx)
	}
	a.answer("services", http.StatusInternalServerError)
	silent()
	silent()
	l.once(t, "[WARNING]", "The watch of services has been silent", "the last state read serves")
	a.answer("services", 0)
	a.restore(50, "web", "10.0.0.9", 40)
	silent()
	l.once(t, "[INFO]", "returns the resourceVersion of services again, after")
	eventually(t, "the older state", func() bool { return ip() == "10.0.0.9" })
}

// silently changes the server without notifying the watches.
func (a *apiServer) silently(change func()) {
	a.mu.Lock()
	a.deaf = true
	a.mu.Unlock()
	change()
	a.mu.Lock()
	a.deaf = false
	a.mu.Unlock()
}

// An audit finds the changes that a watch lost, and lists everything again.
func TestAuditHeals(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.put("namespaces", "", "default", nil, nil)
	a.put("namespaces", "", "old", nil, nil)
	a.putService("web", "10.0.0.1")
	a.putService("db", "10.0.0.2")
	a.putSlice("web-1", nil, "10.1.0.1")
	a.putPod("p", "10.2.0.1")
	a.put("configmaps", "kube-system", "coredns", nil, object{"data": object{"Corefile": "1"}})
	s, err := Open(Spec{Endpoint: a.URL, Audit: 100 * time.Millisecond})
	must(t, err)
	t.Cleanup(s.Close)
	o := listed(t, s, Selection{Endpoints: true, Pods: true})
	events, _ := configMapEvents(t, s, "coredns")
	next(t, events, "found")
	healed := func(kind string) float64 { return value(auditHealed.WithLabelValues(kind)) }
	before := make(map[string]float64)
	for _, kind := range []string{kindNamespace, kindService, kindSlice, kindPod, kindConfigMap} {
		before[kind] = healed(kind)
		eventually(t, "two audits of "+kind, func() bool { return value(audits.WithLabelValues(kind)) >= 2 })
		if healed(kind) != before[kind] {
			t.Errorf("%s: healed without a loss", kind)
		}
	}

	a.silently(func() {
		a.putService("web", "10.0.0.11")
		a.putService("new", "10.0.0.13")
		a.remove("services", "default", "db")
		a.putSlice("web-1", nil, "10.1.0.11")
		a.remove("namespaces", "", "old")
		a.putPod("p", "10.2.0.11")
		a.put("configmaps", "kube-system", "coredns", nil, object{"data": object{"Corefile": "2"}})
	})
	a.bookmarks()
	eventually(t, "the lost change", func() bool {
		return ipOf(o, "web") == "10.0.0.11" && ipOf(o, "new") == "10.0.0.13" && ipOf(o, "db") == "" && slicesOf(o, "10.1.0.11") == 1
	})
	if e := next(t, events, "the ConfigMap"); e.Data["Corefile"] != "2" {
		t.Errorf("the ConfigMap: %+v", e)
	}
	for kind, want := range map[string]float64{kindNamespace: 1, kindService: 3, kindSlice: 1, kindPod: 1, kindConfigMap: 1} {
		eventually(t, "the count of "+kind, func() bool { return healed(kind) == before[kind]+want })
	}
	l.once(t, "[WARNING]", "Audit", "services", "3 objects: default/db, default/new, default/web;")
	l.once(t, "[WARNING]", "Audit", "namespaces", "/old")
}

// An audit that can't be made is logged once, with what goes on, and so is the first one that can.
func TestAuditThatFails(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	s, err := Open(Spec{Endpoint: a.URL, Audit: 50 * time.Millisecond})
	must(t, err)
	t.Cleanup(s.Close)
	o := listed(t, s, Selection{})
	eventually(t, "the watch", func() bool { return a.watches("services") })
	a.answer("services", http.StatusInternalServerError)
	l.once(t, "[WARNING]", "Audit of services: the API server does not list them", "the watch goes on")
	asked := len(a.since(0, "services"))
	eventually(t, "it is repeated", func() bool { return len(a.since(0, "services")) > asked+2 })
	a.putService("web", "10.0.0.2")
	eventually(t, "a change meanwhile", func() bool { return ipOf(o, "web") == "10.0.0.2" })
	a.answer("services", 0)
	l.once(t, "[INFO]", "Audit of services: the API server lists them again, after")
	l.once(t, "[WARNING]", "Audit of services")
}

// bookmarks sends a bookmark to every watch.
func (a *apiServer) bookmarks() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for resource, kind := range kinds {
		a.tell(resource, event("BOOKMARK", object{
			"apiVersion": kind[0], "kind": kind[1], "metadata": object{"resourceVersion": strconv.Itoa(a.version)},
		}))
	}
}

func (a *apiServer) putPod(name, ip string) {
	a.put("pods", "default", name, nil, object{"status": object{"podIPs": []object{{"ip": ip}}}})
}

// Changes that the watch had yet to bring when the list was made, or brought meanwhile, are not lost.
func TestAuditCriesNoWolf(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	s, err := Open(Spec{Endpoint: a.URL, Audit: 50 * time.Millisecond})
	must(t, err)
	t.Cleanup(s.Close)
	o := listed(t, s, Selection{})
	healed, made := value(auditHealed.WithLabelValues(kindService)), value(audits.WithLabelValues(kindService))
	for i := range 10 {
		ip := fmt.Sprintf("10.0.0.%d", 10+i)
		a.silently(func() { a.putService("web", ip) })
		asked := len(a.since(0, "services"))
		eventually(t, "an audit that sees it", func() bool { return len(a.since(0, "services")) > asked })
		a.mu.Lock() // the event comes late
		a.tell("services", event("MODIFIED", a.objects["services"]["default/web"]))
		a.mu.Unlock()
		eventually(t, "the change", func() bool { return ipOf(o, "web") == ip })
	}
	eventually(t, "audits", func() bool { return value(audits.WithLabelValues(kindService)) > made })
	if n := value(auditHealed.WithLabelValues(kindService)) - healed; n != 0 || len(l.with("Audit")) > 0 {
		t.Errorf("%v healed: %q", n, l.with("Audit"))
	}
}

// A pod that is being deleted is served until it is gone, and is in the list all the while.
func TestAuditOfIgnored(t *testing.T) {
	st := &store[api.Pod, services.Pod]{table: podTable, group: &group{ix: services.NewIndex(), counts: make(map[string]int)}, skipped: make(map[objectName]struct{})}
	pod := func(name, ip string) *api.Pod {
		p := new(api.Pod)
		p.Namespace, p.Name = "default", name
		if ip != "" {
			p.Status.PodIPs = []api.PodIP{{IP: ip}}
		}
		return p
	}
	must(t, st.Add(pod("a", "10.0.0.1")), st.Add(pod("b", "10.0.0.2")), st.Add(pod("c", "")))
	t.Cleanup(func() { st.group.setCount(kindPod, 0) })
	ending := pod("a", "10.0.0.1")
	ending.DeletionTimestamp = &meta.Time{Time: time.Now()}
	check := func(want string, list ...any) {
		t.Helper()
		got, err := st.differing(list)
		must(t, err)
		if namesOf(got) != want {
			t.Errorf("got %q, want %q", namesOf(got), want)
		}
	}
	check("", ending, pod("b", "10.0.0.2"), pod("c", ""))
	check("default/b", ending, pod("b", "10.0.0.3"), pod("c", ""))
	check("default/b", ending, pod("b", ""), pod("c", ""))
	check("default/a, default/d", pod("b", "10.0.0.2"), pod("d", "10.0.0.4"))
}

// Audits are spread over their periods, one in each.
func TestSchedule(t *testing.T) {
	f := &follower{auditing: time.Hour}
	s := f.audits()
	begins := s.begins
	s.next(true)
	if d := s.begins.Sub(begins); d != time.Hour {
		t.Errorf("the next period begins %v after the first", d)
	}
	s.begins = s.begins.Add(-10 * time.Hour) // the machine slept
	s.next(true)
	if d := time.Until(s.begins); d < -time.Hour || d > time.Hour {
		t.Errorf("after a sleep the period begins in %v", d)
	}
	if c := (&follower{}).audits().C; c != nil {
		t.Error("audits without a period")
	}
}

// A panic over one object affects only that object.
func TestPanicOverOneObject(t *testing.T) {
	l := captureLog(t)
	forgetNamed()
	before := value(vars.Panic)
	of := serviceTable
	of.pack = func(svc *api.Service) (*services.Service, disposition) {
		if svc.Name == "bad\nname" {
			panic("hostile\ntext")
		}
		return toService(svc)
	}
	g := &group{ix: services.NewIndex(), counts: make(map[string]int)}
	t.Cleanup(func() { g.setCount(kindService, 0) })
	st := &store[api.Service, services.Service]{table: of, group: g, listed: func() {}, skipped: make(map[objectName]struct{})}
	service := func(name string) *api.Service {
		svc := new(api.Service)
		svc.Namespace, svc.Name, svc.Spec.ClusterIP = "default", name, "10.0.0.1"
		return svc
	}
	must(t, st.Replace([]any{service("bad\nname"), service("good")}, "1"), st.Add(service("other")), st.Update(service("bad\nname")))
	for _, name := range []string{"good", "other"} {
		if g.ix.State().Service("default", name).IsZero() {
			t.Errorf("%s is missing", name)
		}
	}
	if n := value(vars.Panic) - before; n != 2 {
		t.Errorf("%v panics are counted, want 2", n)
	}
	if lines := l.with(`"Service default/bad\nname": `, "can't be processed"); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
	if lines := l.with("name"); slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "name") }) {
		t.Errorf("a name forges a line: %q", lines)
	}
}

type panics struct{ runtime.Decoder }

func (panics) Decode([]byte, *schema.GroupVersionKind, runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	panic("hostile")
}

// A panic in decoding becomes an error of the watch. client-go would let it end the process.
func TestPanicInDecoder(t *testing.T) {
	captureLog(t)
	if o, _, err := (keptDecoder{Decoder: panics{}}).Decode([]byte("x"), nil, nil); o != nil || err == nil {
		t.Errorf("got %v, %v", o, err)
	}
}

func TestEventIsValidUTF8(t *testing.T) {
	for note, want := range map[string]string{
		"hosts file m\xfcller.hosts":   `hosts file m\xfcller.hosts`,
		strings.Repeat("\u00fc", 5000): strings.Repeat("\u00fc", 510) + "...",
	} {
		if got := eventOf(objectName{"a", "b"}, ConfigMapEvent{}, Report{Note: note}).Message; got != want {
			t.Errorf("%.40q becomes %.40q, of %d bytes", note, got, len(got))
		}
	}
}
