package source

import (
	"context"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/metrics/vars"
)

func TestGoStartsAgainAfterPanic(t *testing.T) {
	quietly(t)
	before := value(vars.Panic)
	calls := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		restarting(t.Context(), "a test", time.Millisecond, func(context.Context) {
			if calls++; calls < 3 {
				panic("hostile")
			}
		})
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it does not return after f did")
	}
	if calls != 3 {
		t.Errorf("f was called %d times, want 3", calls)
	}
	if n := value(vars.Panic) - before; n != 2 {
		t.Errorf("%v panics are counted, want 2", n)
	}
}

func TestGoEndsWithContext(t *testing.T) {
	quietly(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		restarting(ctx, "a test", time.Hour, func(context.Context) {
			cancel()
			panic("hostile")
		})
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("it continues after its context ended")
	}
}

func TestRecovered(t *testing.T) {
	quietly(t)
	if err := Recovered("a test", func() {}); err != nil {
		t.Errorf("without a panic: %v", err)
	}
	err := Recovered("a test", func() { panic("forged\n[INFO] line") })
	if want := `panic: "forged\n[INFO] line"`; err == nil || err.Error() != want {
		t.Errorf("a panic becomes %v, want %s", err, want)
	}
}
