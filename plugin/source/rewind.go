package source

import (
	"context"
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// An API server whose etcd was restored from a backup is in an older state than what was read from it. It grants a watch from a
// resourceVersion that it has not reached yet, and the watch is silent while answers grow stale.
//
// resourceVersions can be compared (KEP-5504), so one that falls shows that: in a list, an event, a bookmark, or the reply to a
// probe. A probe asks for the current resourceVersion each time that a watch begins again, and when a watch was silent for
// longer than a server leaves one without a bookmark.
//
// The versions do not show it once the server has counted past what was read. So a probe also asks for the object that changed
// last: the server is in an older state, too, if it has that in an older version than was read, or has it though its deletion
// was read.

const (
	silence = 75 * time.Second // without an event or a bookmark, after which there is a probe; a watch cache sends a bookmark every minute
	asking  = 5 * time.Second  // that a probe may take
)

// change is what a watch brought.
type change struct {
	name    objectName
	version string
	deleted bool
}

// older reports whether a is an older resourceVersion than b. It is false if one of them is no number.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

// changed notes an event. It returns false for one that is older than what was read, which is not to be applied.
func (f *follower) changed(obj any, deleted bool) bool {
	m, err := meta.Accessor(obj)
	if err != nil {
		return true // the store says what is wrong with it
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

// reached notes that the watch is at version. It returns false if that is a step back.
func (f *follower) reached(version string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = time.Now()
	if older(version, f.version) {
		f.rewind(version)
		return false
	}
	f.version = version
	return true
}

// replaced notes a list of everything, as of version.
func (f *follower) replaced(version string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if older(version, f.version) && !f.rewound {
		f.logRewind(version)
	}
	f.version, f.last, f.heard, f.fresh, f.rewound, f.audit = version, change{}, time.Now(), true, false, nil
}

// rewind has everything listed again because the server is at version. f.mu is held.
func (f *follower) rewind(version string) {
	if !f.rewound {
		f.logRewind(version)
	}
	f.rewound = true
	f.restart()
}

func (f *follower) logRewind(version string) {
	log.Warningf("Kubernetes API is in an older state of %s (resourceVersion %s) than what was read from it before (%s), as after its etcd was restored from a backup; they are all listed again, and what was read is served until then",
		f.resource, Printable(version), Printable(f.version))
}

// behind sends a probe before a watch, unless the watch follows a list. It returns true if the server is in an older state than
// what was read; then everything is listed again. If the server gives no answer, it returns false, and the next probe comes when
// the watch is silent. The error is that the server can't be reached.
func (f *follower) behind(ctx context.Context) (bool, error) {
	f.mu.Lock()
	fresh := f.fresh
	f.mu.Unlock()
	if fresh {
		return false, nil
	}
	return f.probe(ctx)
}

// probe is behind for any other moment.
func (f *follower) probe(ctx context.Context) (bool, error) {
	f.mu.Lock()
	was, last := f.version, f.last
	f.heard = time.Now() // not to ask again at once, whatever the answer is
	f.mu.Unlock()
	if was == "" {
		return false, nil
	}
	limited, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	version, of, err := f.current(limited, last.name)
	switch {
	case err != nil && isOutage(err) && limited.Err() == nil:
		return false, err
	case err != nil:
		log.Debugf("Kubernetes API does not tell how far it is with %s: %s", f.resource, Printable(err.Error()))
		return false, nil
	case !older(version, was) && !older(of, last.version):
		return false, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rewind(version)
	return true, nil
}

// current asks the server for the current resourceVersion of the resource, and of the object of that name: "" if there is no
// such object. The name may be the zero one.
func (f *follower) current(ctx context.Context, name objectName) (version, of string, err error) {
	o := metav1.ListOptions{LabelSelector: f.labels, FieldSelector: f.fields, Limit: 1}
	namespace := f.namespace
	if name != (objectName{}) {
		o = metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name.name).String()}
		namespace = name.namespace
	}
	raw, err := f.client.Get().Namespace(namespace).Resource(f.resource).
		SpecificallyVersionedParams(&o, metav1.ParameterCodec, metav1.SchemeGroupVersion).
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json").
		DoRaw(ctx)
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
