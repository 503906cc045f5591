package source

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"time"

	api "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

// The first tellBurst Events on objects that lose a name are written at once, and then one every tellPause. At most
// tellWaiting wait: the log has all conflicts, and an Event is for people who look at one object.
const (
	tellBurst   = 25
	tellPause   = 10 * time.Second
	tellWaiting = 100
)

const reasonConflict = "NameConflict"

// news is an Event to write on an object.
type news struct {
	of   external.Ref
	note string
}

// teller writes Events on the objects that have external names.
type teller struct {
	clients *clients
	limit   flowcontrol.RateLimiter
	waiting chan news
	failing spell // of the writing
}

// Tell writes an Event on an object that has external names, reporting that it lost one, as soon as the API server
// accepts it. It does not wait. It does nothing for an object from manifests, or if too many Events are waiting. note
// is the same in all replicas for the same report, so that the object gets one Event for it.
func (s *Source) Tell(of external.Ref, note string) {
	if s.clients == nil {
		return
	}
	s.telling.Lock()
	t := s.teller
	if t == nil {
		ctx, cancel := context.WithCancel(context.Background())
		t = &teller{
			clients: s.clients, waiting: make(chan news, tellWaiting),
			limit: flowcontrol.NewTokenBucketRateLimiter(float32(time.Second)/float32(tellPause), tellBurst),
		}
		s.teller, s.untell = t, cancel
		safe.Go(ctx, "the writing of Events on objects", t.run)
	}
	s.telling.Unlock()
	select {
	case t.waiting <- news{of, note}:
	default:
		log.Debugf("No Event on %s: too many wait", safe.Printable(of.String()))
	}
}

// run writes the waiting Events until ctx ends.
func (t *teller) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-t.waiting:
			if t.limit.Wait(ctx) == nil {
				t.write(ctx, n)
			}
		}
	}
}

// write writes n, on the current object: without its UID, kubectl describe would not show the Event.
func (t *teller) write(parent context.Context, n news) {
	ctx, cancel := context.WithTimeout(parent, 10*time.Second)
	defer cancel()
	event, err := t.event(ctx, n)
	if err == nil && event != nil {
		_, err = t.clients.all.CoreV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{})
	}
	if err == nil || apierrors.IsAlreadyExists(err) {
		if lasted, logged := t.failing.over(); logged {
			log.Infof("Objects get Events about names that they lose again, after %s", lasted)
		}
		return
	}
	if parent.Err() == nil {
		t.failing.noEvents(safe.Printable(n.of.String())+" and others get no Events about names that they lose", err, "in all namespaces (rbac/external.yaml)")
	}
}

// event makes the Event of n, nil if the object no longer exists.
func (t *teller) event(ctx context.Context, n news) (*api.Event, error) {
	client, resource, version := t.clients.of(n.of.Kind)
	if client == nil {
		return nil, fmt.Errorf("no client for objects of kind %s", n.of.Kind)
	}
	list, err := client.Get().Namespace(n.of.Namespace).Resource(resource).
		VersionedParams(&metav1.ListOptions{FieldSelector: "metadata.name=" + n.of.Name}, metav1.ParameterCodec).Do(ctx).Get()
	if err != nil {
		return nil, err
	}
	items, err := meta.ExtractList(list)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	o, err := meta.Accessor(items[0])
	if err != nil {
		return nil, err
	}
	namespace := n.of.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // like the kubelet's Events on Nodes
	}
	now := metav1.Now()
	host, _ := os.Hostname() // "" if it has none
	return &api.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: eventName(n, o.GetUID())},
		InvolvedObject: api.ObjectReference{
			APIVersion: version, Kind: n.of.Kind.String(), Namespace: n.of.Namespace, Name: n.of.Name, UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
		},
		Type: api.EventTypeWarning, Reason: reasonConflict, Message: clipped(safe.Line(n.note), 1024), // the limit of the newer Event API
		Source: api.EventSource{Component: subsystem, Host: host}, Count: 1, FirstTimestamp: now, LastTimestamp: now,
	}, nil
}

// eventName returns the same name in all replicas: the first creates the Event, the others find it.
func eventName(n news, uid types.UID) string {
	h := fnv.New64a()
	for _, part := range []string{string(uid), n.note} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	const digits = 16
	return strings.TrimRight(n.of.Name[:min(len(n.of.Name), 253-1-digits)], "-.") + "." + hex.EncodeToString(h.Sum(nil))
}

// of returns the client and resource for objects of a kind, and their group and version.
func (c *clients) of(kind external.Kind) (client rest.Interface, resource, version string) {
	switch kind {
	case external.KindService:
		return c.whole, "services", "v1"
	case external.KindNode:
		return c.whole, "nodes", "v1"
	case external.KindIngress:
		return c.ingresses, "ingresses", "networking.k8s.io/v1"
	}
	custom, ok := customKinds[kind.String()]
	if !ok {
		return nil, "", ""
	}
	return c.custom[custom.version], custom.resource, custom.version
}
