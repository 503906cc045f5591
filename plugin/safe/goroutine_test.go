package safe

import (
	"context"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kubehosts/kubehosts/plugin/hostile"
)

const patience = 20 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// panics returns the number of panics that were counted.
func panics(t *testing.T) float64 {
	t.Helper()
	var m dto.Metric
	must(t, vars.Panic.Write(&m))
	return m.GetCounter().GetValue()
}

func TestGoStartsAgainAfterPanic(t *testing.T) {
	hostile.CheckLog(t)
	before := panics(t)
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
	if n := panics(t) - before; n != 2 {
		t.Errorf("%v panics are counted, want 2", n)
	}
}

func TestGoEndsWithContext(t *testing.T) {
	hostile.CheckLog(t)
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
	hostile.CheckLog(t)
	if err := Recovered("a test", func() {}); err != nil {
		t.Errorf("without a panic: %v", err)
	}
	err := Recovered("a test", func() { panic("forged\n[INFO] line") })
	if want := `panic: "forged\n[INFO] line"`; err == nil || err.Error() != want {
		t.Errorf("a panic becomes %v, want %s", err, want)
	}
}

// A scrape outlasts a panic of a collector.
func TestScraped(t *testing.T) {
	hostile.CheckLog(t)
	before := panics(t)
	registry := prometheus.NewRegistry()
	must(t, registry.Register(panicking{}))
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
	if n := panics(t) - before; n != 1 {
		t.Errorf("%v panics are counted, want 1", n)
	}
}

type panicking struct{}

func (panicking) Describe(ch chan<- *prometheus.Desc) {
	ch <- prometheus.NewDesc("test", "A gauge.", nil, nil)
}

func (panicking) Collect(chan<- prometheus.Metric) { Scraped("a test", func() { panic("hostile") }) }
