package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// After a restore of its etcd from a backup, an API server is in an older state than the one that was read from it. It
// grants a watch from a resourceVersion that it has not reached yet, and the watch is silent while answers become
// stale.
//
// resourceVersions can be compared (KEP-5504), so a decreasing one reveals this: in a list, an event, a bookmark, or
// the reply to a probe. A probe requests the current resourceVersion each time a watch begins again, and when a watch
// was silent for longer than a server waits between bookmarks.
//
// The versions no longer reveal it once the server has counted past what was read. So a probe also requests the object
// that changed last: the server is in an older state, too, if it has that object in an older version than was read, or
// still has it after its deletion was read.

const (
	silence = 75 * time.Second // without an event or a bookmark, before a probe; a watch cache sends a bookmark every minute
	asking  = 5 * time.Second  // for a probe
)

// change is a change that a watch brought.
type change struct {
	name    objectName
	version string
	deleted bool
}

// older reports whether a is an older resourceVersion than b. It returns false if either is not a
// number.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

// changed records an event. It returns false for one that is older than what was read, which must not be
// applied.
func (f *follower) changed(obj any, deleted bool) bool {
	m, err := meta.Accessor(obj)
	if err != nil {
		return true // the store returns the error
	}
	c := change{objectName{m.GetNamespace(), m.GetName()}, m.GetResourceVersion(), deleted}
	if !f.reached(c.version) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = c
	if f.audit != nil {
		f.audit.touched[c.name] = struct{}{}
	}
	return true
}

// reached records that the watch is at version. It returns false if that is a step back.
func (f *follower) reached(version string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = time.Now()
	f.news = f.heard
	if older(version, f.version) {
		f.rewind(f.behindOf(version))
		return false
	}
	f.version = version
	return true
}

// replaced records a list of everything, as of version.
func (f *follower) replaced(version string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if older(version, f.version) && !f.rewound {
		f.logRewind(f.behindOf(version))
	}
	f.version, f.last, f.heard, f.fresh, f.unsure, f.known = version, change{}, time.Now(), true, false, true
	f.news = f.heard
	f.rewound, f.audit = false, nil
}

// rewind causes a new list of everything because the server is in an older state. why is the evidence. f.mu is held.
func (f *follower) rewind(why string) {
	if !f.rewound {
		f.logRewind(why)
	}
	f.rewound = true
	f.restart()
}

// behindOf returns the evidence that the server is at version.
func (f *follower) behindOf(version string) string {
	return fmt.Sprintf("it is at resourceVersion %s, and %s was read", safe.Printable(version), safe.Printable(f.version))
}

func (f *follower) logRewind(why string) {
	log.Warningf("Kubernetes API has an older state of %s than was read before, as after a restore of its etcd from a backup: %s; all of them are listed again, and the last state read serves until then",
		f.resource, why)
}

// behind sends a probe before a watch, unless the watch follows a list. It returns true if the server is in an older
// state than what was read; then everything is listed again. An error is one that a watch would meet as well.
func (f *follower) behind(ctx context.Context) (bool, error) {
	f.mu.Lock()
	fresh := f.fresh
	f.mu.Unlock()
	if fresh {
		return false, nil
	}
	behind, err := f.probe(ctx)
	if isOutage(err) && !errors.Is(err, context.DeadlineExceeded) || isRefusal(err) && !apierrors.IsBadRequest(err) || isServerError(err) {
		return false, err
	}
	return behind, nil
}

// isServerError reports whether err is the server's reply that it can't serve the request, as during its
// start.
func isServerError(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && (status.Status().Code >= http.StatusInternalServerError || status.Status().Code == http.StatusTooManyRequests)
}

// probe is behind for any other moment, and returns any error. After an error, patrol tries again.
func (f *follower) probe(ctx context.Context) (behind bool, err error) {
	f.mu.Lock()
	was, last := f.version, f.last
	f.heard, f.unsure = time.Now(), false
	f.mu.Unlock()
	if was == "" {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	version, of, err := f.current(ctx, last.name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		log.Debugf("Kubernetes API does not return its resourceVersion of %s: %s", f.resource, safe.Printable(err.Error()))
		f.unsure = true
		return false, err
	}
	switch {
	case older(version, was):
		f.rewind(f.behindOf(version))
	case older(of, last.version):
		f.rewind(fmt.Sprintf("%s has resourceVersion %s, and %s was read", safe.Printable(last.name.String()), safe.Printable(of), safe.Printable(last.version)))
	default:
		return false, nil
	}
	return true, nil
}

// current requests the current resourceVersion of the resource, and of the object of that name: "" if there is no such
// object. The name may be the zero one.
func (f *follower) current(ctx context.Context, name objectName) (version, of string, err error) {
	o := metav1.ListOptions{LabelSelector: f.labels, FieldSelector: f.fields, Limit: 1}
	namespace := f.namespace
	if name != (objectName{}) {
		o = metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name.name).String()}
		namespace = name.namespace
	}
	res := f.client.Get().Namespace(namespace).Resource(f.resource).
		SpecificallyVersionedParams(&o, metav1.ParameterCodec, metav1.SchemeGroupVersion).
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json").
		Do(ctx)
	if err := res.Error(); err != nil {
		return "", "", err
	}
	raw, err := res.Raw()
	if err != nil {
		return "", "", err
	}
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal(raw, &list); err != nil {
		return "", "", err
	}
	for i := range list.Items {
		if m := &list.Items[i].ObjectMeta; m.Name == name.name && m.Namespace == name.namespace {
			of = m.ResourceVersion
		}
	}
	return list.ResourceVersion, of, nil
}
