package source

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// health logs when the API server can't be reached, and when it can again. Any reply counts as reached: trouble handles
// replies for a single resource.
type health struct {
	host     string
	watching func() bool // reports whether a watch of the server is open; nil before there is one

	mu           sync.Mutex
	seen         bool      // it replied at least once
	down         time.Time // since when it does not reply; zero while it does
	logged       time.Time // when that was last logged
	outageLogged bool      // this outage was logged
}

// quiet is how long an outage that follows another one is not logged, so that a server that comes and goes does not
// flood the log. It is also the pause between two lines for one resource that differ only in details.
const quiet = time.Minute

// saw records how a request ended. A request without a reply while a watch is open does not show that the server can't
// be reached: the trouble of its resource logs it.
func (h *health) saw(err error) {
	if err != nil && h.watching != nil && h.watching() {
		return
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()

	if err == nil {
		if h.outageLogged {
			log.Infof("Kubernetes API %s can be reached again, after %s", h.host, now.Sub(h.down).Round(time.Second/10))
		}
		h.seen, h.down, h.outageLogged = true, time.Time{}, false
		return
	}
	if !h.down.IsZero() {
		return
	}
	h.down = now
	if !h.logged.IsZero() && now.Sub(h.logged) < quiet {
		return
	}
	h.logged, h.outageLogged = now, true
	works := "answers come from the last state read and may become stale"
	if !h.seen {
		works = "nothing was read from it yet, so answers for Services come from a snapshot, or fail without one"
	}
	log.Warningf("Kubernetes API %s can't be reached: %s; %s; retrying", h.host, safe.Printable(err.Error()), works)
}

// connected reports whether the server replied to the last finished request.
func (h *health) connected() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen && h.down.IsZero()
}

// trouble logs why an API server that replies does not return the objects of one resource, and when it returns them
// again.
type trouble struct {
	resource  string      // plural, as in the URL
	name      string      // of the one object that is requested, for the log; "" for all
	elsewhere func() bool // reports whether another watch of the server is open; nil if there can be none
	optional  bool        // of a CustomResourceDefinition, which the server may lack
	silent    bool        // other code logs refusals
	unasked   bool        // the resource was not requested explicitly, so its absence is no trouble

	mu       sync.Mutex
	listed   bool      // all objects were read at least once
	returned bool      // the server granted them at least once
	errors   int       // since the last trouble ended
	since    time.Time // start of the trouble; zero without any
	busy     time.Time // the first of the errors with status 429 in a row; zero without any
	class    string    // class of the trouble last logged
	reason   string    // its text
	logged   time.Time // its time
	window   time.Time // start of the minute that lines counts in
	lines    int       // begun troubles and new classes that were logged in it
}

// errCut is the error for watches that the server grants and that end at once.
var errCut = errors.New("its watches end as soon as they begin, so everything is listed again and again")

// errSilent is the error for a request without a reply, or without a whole one, for longer than overdue.
var errSilent = errors.New("it does not reply, or not with all of them")

// The classes of errors that are not statuses.
const (
	cutClass     = "cut"      // of errCut
	silentClass  = "no reply" // of errSilent and outages
	unknownClass = "malformed"
)

// troubleLines limits the lines in a minute about one resource. Further troubles of that minute are not logged, nor is
// their end.
const troubleLines = 6

// saw records an error that is not nil, and returns whether it counts. The first one does not: a starting API server
// refuses requests that it grants a second later. Neither does a status 429 for the first seconds, which a server also
// returns for a resource whose definition is new, or an outage of the whole server, which health logs. saw
// logs an error of a new class at once, and another text of the same class when quiet has passed since the last line.
func (t *trouble) saw(err error) (stands bool) {
	if t.isOutage(err) {
		return false
	}
	class, reason := classOf(err), safe.Printable(err.Error())
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		t.since = now
	}
	if t.errors++; t.errors == 1 && class != cutClass && !errors.Is(err, errSilent) {
		return false
	}
	if !apierrors.IsTooManyRequests(err) {
		t.busy = time.Time{}
	} else if t.busy.IsZero() {
		t.busy = now
	}
	if !t.busy.IsZero() && now.Sub(t.busy) < overdue/2 {
		return false
	}
	if t.silent && isRefusal(err) || t.class == class && (t.reason == reason || now.Sub(t.logged) < quiet) {
		return true
	}
	if t.class != class && !t.mayLog(now) {
		return true
	}
	t.class, t.reason, t.logged = class, reason, now
	works := "those read before are still served"
	if !t.listed {
		works = "none were read yet"
	}
	if t.unasked && apierrors.IsNotFound(err) {
		log.Infof("Kubernetes API has no %s, so none of their names are served; they are read as soon as their CustomResourceDefinition exists", t.resource)
		return true
	}
	log.Errorf("Kubernetes API returns no %s: %s; %s; %s; retrying", t.what(), reason, works, t.remedy(err))
	return true
}

// what returns what is requested, for the log.
func (t *trouble) what() string { return cmp.Or(t.name, t.resource) }

// mayLog reports whether there may be another line about a begun trouble or a new class, and counts it. t.mu is held.
func (t *trouble) mayLog(now time.Time) bool {
	if now.Sub(t.window) >= quiet {
		t.window, t.lines = now, 0
	}
	t.lines++
	return t.lines <= troubleLines
}

// isOutage reports whether err means that the whole server does not reply, as far as this process can see.
func (t *trouble) isOutage(err error) bool {
	return isSilence(err) && (t.elsewhere == nil || !t.elsewhere())
}

// isLogged reports whether the current trouble was logged.
func (t *trouble) isLogged() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.class != ""
}

// over records that the server grants the resource. That does not affect watches that end at once.
func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.class != cutClass {
		t.end()
	}
}

// lasted records that a watch lasted for a while.
func (t *trouble) lasted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// end records that the trouble is over. t.mu is held.
func (t *trouble) end() {
	if t.class != "" {
		times := "for the first time"
		if t.returned {
			times = "again"
		}
		log.Infof("Kubernetes API returns %s %s, after %s", t.what(), times, time.Since(t.since).Round(time.Second/10))
	}
	t.returned = true
	t.errors, t.since, t.busy, t.class, t.reason = 0, time.Time{}, time.Time{}, "", ""
}

// read records that all objects were listed.
func (t *trouble) read() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listed = true
}

// remedy returns what a person can do about err.
func (t *trouble) remedy(err error) string {
	var status apierrors.APIStatus
	switch {
	case errors.Is(err, errCut):
		return "look for a proxy in between that cuts off streams"
	case isSilence(err):
		return "look for a proxy or firewall in between that holds up or resets these requests, and see the API server's own log"
	case !errors.As(err, &status):
		return "look for something that replies in place of the API server, such as a proxy's login page"
	case apierrors.IsUnauthorized(err):
		return "renew this account's token or certificate"
	case apierrors.IsForbidden(err):
		return grant(t.resource)
	case apierrors.IsNotFound(err) && t.optional:
		return "install their CustomResourceDefinition"
	case apierrors.IsNotFound(err):
		return "check that this is the URL of a Kubernetes API server"
	}
	return "see the API server's own log"
}

// grant returns the remedy for an account that may not list a resource.
func grant(resource string) string {
	file := "rbac.yaml"
	switch resource {
	case "pods":
		file = "pods.yaml"
	case "serviceimports":
		file = "multicluster.yaml"
	case "ingresses", "nodes":
		file = "external.yaml"
	}
	for _, custom := range customKinds {
		if custom.resource == resource {
			file = "external.yaml"
		}
	}
	return fmt.Sprintf("grant list and watch on %s (rbac/%s)", resource, file)
}

// isOutage reports whether err means that there was no reply, which health logs.
func isOutage(err error) bool {
	var unsent *url.Error
	return errors.As(err, &unsent)
}

// isSilence reports whether err means that there was no reply, or not a whole one.
func isSilence(err error) bool { return isOutage(err) || errors.Is(err, errSilent) }

// classOf returns the common part of errors that differ only in details, such as the number of a request.
func classOf(err error) string {
	var status apierrors.APIStatus
	switch {
	case isSilence(err):
		return silentClass
	case errors.As(err, &status):
		return fmt.Sprintf("status %d %s", status.Status().Code, status.Status().Reason)
	case errors.Is(err, errCut):
		return cutClass
	}
	return unknownClass
}

// isRefusal reports whether err is a lasting reply of the server to a request, rather than a sign that it is down or
// busy, or no longer has an old resourceVersion.
func isRefusal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= 400 && code < 500 &&
		code != http.StatusGone && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout
}

// isDetail reports whether err, which is why the server still does not return something, does not replace the reason
// known at the time told. Within quiet, only a refusal of another class replaces it; later, another text of the same
// failure still does not, since it may just have the number of the request in it.
func isDetail(err, known error, told time.Time) bool {
	same := classOf(err) == classOf(known)
	switch {
	case isRefusal(err) && !same:
		return false
	case !isRefusal(err) && same:
		return true
	}
	return time.Since(told) < quiet
}

// RefusedError is the error for a resource that the API server refuses to list, or has not listed in time. Whatever
// needs it has to wait.
type RefusedError struct {
	Resource string // plural, as in the URL and in a Role
	Err      error  // the server's answer, or why there is none
}

// Error returns the refusal and its remedy in one line.
func (e *RefusedError) Error() string {
	t := trouble{resource: e.Resource}
	refused := fmt.Sprintf("this account may not list %s", e.Resource)
	if !apierrors.IsForbidden(e.Err) {
		refused = fmt.Sprintf("the API server returns no %s (%s)", e.Resource, safe.Printable(e.Err.Error()))
	}
	return refused + ": " + t.remedy(e.Err)
}

// Unwrap returns the server's answer, or why there is none.
func (e *RefusedError) Unwrap() error { return e.Err }

// Silent reports whether the server does not reply, so the objects may only be slow to come.
func (e *RefusedError) Silent() bool { return isSilence(e.Err) }

// Unreadable returns the error for a ConfigMap, named like "ConfigMap kube-system/coredns", that the API server does
// not return because of err.
func Unreadable(name string, err error) error {
	need := "this account needs list and watch on it"
	if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
		need = "the API server does not return it, and it is requested again"
	}
	return fmt.Errorf("%s can't be read: %s (%s)", name, need, safe.Printable(err.Error()))
}
