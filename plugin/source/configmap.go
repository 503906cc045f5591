package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	api "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// ConfigMapEvent is the state of a ConfigMap at one moment.
type ConfigMapEvent struct {
	Data            map[string]string // the receiver's own copy, with binaryData
	ResourceVersion string            // a new one means new content; opaque
	UID             string            // "" if it comes from manifests
	Found           bool              // false if there is no such ConfigMap, or with Err
	Err             error             // why the API server refuses the ConfigMap, or has never returned it; the other fields are empty then
}

func (e *ConfigMapEvent) equal(o *ConfigMapEvent) bool {
	return e != nil && o != nil && e.Found == o.Found && e.ResourceVersion == o.ResourceVersion &&
		(e.Err == nil) == (o.Err == nil) && (e.Err == nil || e.Err.Error() == o.Err.Error())
}

// configMap is a ConfigMap that is followed.
type configMap struct {
	name     objectName
	unwatch  func()
	reporter *reporter // nil when there are manifests

	mu    sync.Mutex
	state *ConfigMapEvent // nil until the first list has a result; never changed once set
	told  time.Time       // when it was set
	subs  map[*subscriber]struct{}
}

// subscriber gets the news of a ConfigMap on a goroutine of its own, so it may take its time.
type subscriber struct {
	wake   chan struct{} // holds one token when there is news
	done   context.Context
	cancel context.CancelFunc
	got    *ConfigMapEvent // the last state that it got; used by serve only
}

func newSubscriber() *subscriber {
	sub := &subscriber{wake: make(chan struct{}, 1)}
	sub.done, sub.cancel = context.WithCancel(context.Background())
	return sub
}

// look wakes sub.
func (sub *subscriber) look() {
	select {
	case sub.wake <- struct{}{}:
	default: // a token is there, so it will get the newest state
	}
}

// ConfigMap follows the ConfigMap of that namespace and name. It calls f with the current state, as soon as that is
// known, and after each change. One call ends before the next begins, and after changes in quick succession f may get
// only the last. The first call means that the first list has a result: the object was found or is absent, or the API
// server refuses it or fails to return it for 10 s. While the server can't be reached f is not called.
//
// All followers of one object share a watch, which selects by field metadata.name, so a Role with list and watch for
// that one resource name is enough. stop ends the subscription: no call begins after stop returned, but one may still
// be running.
func (s *Source) ConfigMap(namespace, name string, f func(ConfigMapEvent)) (stop func()) {
	key := objectName{namespace, name}
	sub := newSubscriber()

	s.mu.Lock()
	c := s.configMaps[key]
	if c == nil {
		c = &configMap{
			name:    key,
			unwatch: func() {}, subs: make(map[*subscriber]struct{}),
		}
		s.configMaps[key] = c
		if s.clients != nil {
			c.watch(s)
		}
	}
	c.add(sub)
	s.mu.Unlock()

	if s.manifests != nil {
		s.manifests.tell(c)
	}
	safe.Go(sub.done, "a change of ConfigMap "+safe.Printable(key.String()), func(ctx context.Context) { c.serve(ctx, sub, f) })

	var once sync.Once
	return func() {
		once.Do(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if c.remove(sub) && s.configMaps[key] == c {
				c.unwatch()
				delete(s.configMaps, key)
			}
		})
	}
}

// watch starts the watch at the API server.
func (c *configMap) watch(s *Source) {
	ctx, cancel := context.WithCancel(context.Background())
	c.unwatch = cancel
	c.reporter = newReporter(ctx, s.clients.all.CoreV1().Events(c.name.namespace))
	w := watched{
		client:    s.clients.core,
		resource:  "configmaps",
		kind:      kindConfigMap,
		namespace: c.name.namespace,
		fields:    fields.OneTermEqualSelector("metadata.name", c.name.name).String(),
		example:   &api.ConfigMap{},
	}
	f := &follower{
		watched: w,
		store:   c,
		trouble: trouble{silent: true, name: "ConfigMap " + safe.Printable(c.name.String())}, // followers of the ConfigMap log refusals
	}
	f.refused = func(err error) {
		if !f.trouble.isOutage(err) {
			c.fail(err)
		}
	}
	s.follow(ctx, f)
}

// stop ends the watch, and the calls of all subscribers.
func (c *configMap) stop() {
	c.unwatch()
	c.mu.Lock()
	defer c.mu.Unlock()
	for sub := range c.subs {
		sub.cancel()
	}
	clear(c.subs)
}

func (c *configMap) add(sub *subscriber) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[sub] = struct{}{}
	if c.state != nil {
		sub.look()
	}
}

// remove reports whether sub was the last.
func (c *configMap) remove(sub *subscriber) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.subs[sub]; !ok {
		return false
	}
	delete(c.subs, sub)
	sub.cancel()
	return len(c.subs) == 0
}

// set sets the state to e.
func (c *configMap) set(e *ConfigMapEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.equal(c.state) {
		return
	}
	c.state, c.told = e, time.Now()
	for sub := range c.subs {
		sub.look()
	}
}

// fail sets the state to an error, unless that is a detail of the one before.
func (c *configMap) fail(err error) {
	c.mu.Lock()
	known, told := c.state, c.told
	c.mu.Unlock()
	if known != nil && known.Err != nil && isDetail(err, known.Err, told) {
		return
	}
	c.set(&ConfigMapEvent{Err: err})
}

// serve calls f with all news until ctx ends. After a panic in f it is called again, and calls f with the state of
// then.
func (c *configMap) serve(ctx context.Context, sub *subscriber, f func(ConfigMapEvent)) {
	for {
		c.mu.Lock()
		_, ok := c.subs[sub]
		now := c.state
		c.mu.Unlock()
		if !ok {
			return
		}
		if now != nil && now != sub.got {
			e := *now
			e.Data = maps.Clone(now.Data)
			f(e)
			sub.got = now
		}
		select {
		case <-ctx.Done():
			return
		case <-sub.wake:
		}
	}
}

// take sets the state to obj, a ConfigMap.
func (c *configMap) take(obj any) error {
	cm, ok := obj.(*api.ConfigMap)
	if !ok {
		return fmt.Errorf("%T is not a ConfigMap", obj)
	}
	c.set(&ConfigMapEvent{Data: configMapData(cm), ResourceVersion: cm.ResourceVersion, UID: string(cm.UID), Found: true})
	return nil
}

// Add implements cache.ReflectorStore.
func (c *configMap) Add(obj any) error { return c.take(obj) }

// Update implements cache.ReflectorStore.
func (c *configMap) Update(obj any) error { return c.take(obj) }

// Delete implements cache.ReflectorStore.
func (c *configMap) Delete(any) error {
	c.set(&ConfigMapEvent{})
	return nil
}

// Replace implements cache.ReflectorStore.
func (c *configMap) Replace(list []any, _ string) error {
	if len(list) == 0 {
		return c.Delete(nil)
	}
	return c.take(list[0])
}

// Resync implements cache.ReflectorStore. It does nothing.
func (c *configMap) Resync() error { return nil }

// differing implements auditable.
func (c *configMap) differing(list []any) ([]objectName, error) {
	version := ""
	if len(list) > 0 {
		m, err := meta.Accessor(list[0])
		if err != nil {
			return nil, err
		}
		version = m.GetResourceVersion()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != nil && c.state.ResourceVersion == version {
		return nil, nil
	}
	return []objectName{c.name}, nil
}

// StoreConfigMap stores text under the key of a ConfigMap, unless it is there already. The ConfigMap must exist. The
// account needs list and update on it. A concurrent write by another client is an error.
func (s *Source) StoreConfigMap(ctx context.Context, namespace, name, key, text string) error {
	if s.clients == nil {
		return errors.New("manifests are not written to")
	}
	client := s.clients.all.CoreV1().ConfigMaps(namespace)
	list, err := client.List(ctx, meta1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		return err
	}
	if len(list.Items) == 0 {
		return errors.New("it does not exist")
	}
	cm := &list.Items[0]
	if cm.Data[key] == text {
		return nil
	}
	if cm.Data == nil {
		cm.Data = make(map[string]string)
	}
	cm.Data[key] = text
	_, err = client.Update(ctx, cm, meta1.UpdateOptions{})
	return err
}
