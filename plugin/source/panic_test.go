package source

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/metrics/vars"
	api "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
)

// A follower of a ConfigMap that panics is called again with the same state, and then with the next ones.
func TestPanicOfFollower(t *testing.T) {
	quietly(t)
	before := value(vars.Panic)
	a := newAPIServer(t)
	a.put("configmaps", "kube-system", "coredns", nil, object{"data": object{"Corefile": "1"}})
	calls := make(chan string, 10)
	panicked := false
	stop := a.open(t).ConfigMap("kube-system", "coredns", func(e ConfigMapEvent) {
		calls <- e.Data["Corefile"]
		if !panicked {
			panicked = true
			panic("hostile")
		}
	})
	t.Cleanup(stop)
	receive := func(want string) {
		t.Helper()
		select {
		case got := <-calls:
			if got != want {
				t.Errorf("it is called with %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("it is not called with %q", want)
		}
	}
	receive("1")
	receive("1")
	if n := value(vars.Panic) - before; n != 1 {
		t.Errorf("%v panics are counted, want 1", n)
	}
	a.put("configmaps", "kube-system", "coredns", nil, object{"data": object{"Corefile": "2"}})
	receive("2")
}

// eventStub is a stand-in for the API server's Events.
type eventStub struct {
	core.EventInterface
	create func(*api.Event) error
}

func (w eventStub) Create(_ context.Context, e *api.Event, _ meta.CreateOptions) (*api.Event, error) {
	return e, w.create(e)
}

// A panic while an Event is written costs at most that Event.
func TestPanicOfEvent(t *testing.T) {
	quietly(t)
	before := value(vars.Panic)
	notes := make(chan string, 10)
	r := newReporter(t.Context(), eventStub{create: func(e *api.Event) error {
		if notes <- e.Message; e.Message == "first" {
			panic("hostile")
		}
		return nil
	}})
	for _, note := range []string{"first", "second"} {
		r.add(objectName{"a", "b"}, ConfigMapEvent{}, Report{Block: note, Note: note})
	}
	got := []string{}
	eventually(t, "both Events", func() bool {
		select {
		case note := <-notes:
			got = append(got, note)
		default:
		}
		return len(got) == 2
	})
	if n := value(vars.Panic) - before; n != 1 {
		t.Errorf("%v panics are counted, want 1", n)
	}
}

// Events that can't be written are logged once, with what still works, and so is the end.
func TestFailingEvents(t *testing.T) {
	l := captureLog(t)
	var failure error
	written := make(chan string, 10)
	r := newReporter(t.Context(), eventStub{create: func(e *api.Event) error { written <- e.Message; return failure }})
	write := func(note string, err error) {
		t.Helper()
		failure = err
		r.write(reportKey{}, &api.Event{Message: note, Reason: reasonApplied, InvolvedObject: api.ObjectReference{Name: "b"}, ObjectMeta: meta.ObjectMeta{Namespace: "a"}})
		<-written
	}
	write("1", nil)
	if lines := l.with("Event"); len(lines) != 0 {
		t.Errorf("without a failure: %q", lines)
	}
	for range 3 {
		write("2", errors.New("etcd is down"))
	}
	write("3", errors.New("something else"))
	l.once(t, "[WARNING]", "ConfigMap a/b gets no Events: etcd is down; everything else works")
	write("4", nil)
	write("5", nil)
	l.once(t, "[INFO]", "ConfigMap a/b gets Events again, after")
	write("6", errors.New("etcd is down")) // within a minute
	write("7", nil)
	if lines := l.with("Event"); len(lines) != 2 {
		t.Errorf("an API server that comes and goes: %q", lines)
	}
}
