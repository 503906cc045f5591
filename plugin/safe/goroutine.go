// Package safe confines what outside text and faults of code may do: goroutines that recover from a panic and start
// again, and texts and log entries of one printable line.
package safe

import (
	"context"
	"fmt"
	"time"

	"github.com/coredns/coredns/plugin/metrics/vars"
)

// The pause before a function that panicked is called again. It doubles with each panic, and is reset once the function
// ran for longer than panicForgotten.
const (
	panicPause     = time.Second
	panicPauseMost = 30 * time.Second
	panicForgotten = 5 * time.Minute
)

// Go calls f on a goroutine of its own. If f panics, Go logs the panic with its stack, counts it in
// coredns_panics_total, and calls f again after a pause of 1 s to 30 s, until f returns or ctx ends. So f must be able
// to start over. what names the work for the log, in a few words: "the watch of services".
func Go(ctx context.Context, what string, f func(ctx context.Context)) {
	go restarting(ctx, what, panicPause, f)
}

func restarting(ctx context.Context, what string, first time.Duration, f func(ctx context.Context)) {
	for pause := first; ; pause = min(2*pause, panicPauseMost) {
		start := time.Now()
		if err := Recovered(what, func() { f(ctx) }); err == nil || ctx.Err() != nil {
			return
		}
		if time.Since(start) > panicForgotten {
			pause = first
		}
		log.Errorf("%s starts again in %s", what, pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// Scraped calls f, which sends the metrics of what for a scrape. After a panic, the scrape lacks the rest of them, and
// the next one has another try: the registry calls collectors on goroutines that end the process when they panic.
func Scraped(what string, f func()) { _ = Recovered("the metrics of "+what, f) }

// Recovered calls f. It turns a panic in f into an error, logs it with its stack, and counts it in
// coredns_panics_total. what is as for Go.
func Recovered(what string, f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			vars.Panic.Inc()
			err = fmt.Errorf("panic: %s", Printable(fmt.Sprint(v)))
			log.panicked(what, err)
		}
	}()
	f()
	return nil
}
