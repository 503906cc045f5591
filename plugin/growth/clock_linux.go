package growth

import (
	"time"

	"golang.org/x/sys/unix"
)

// ThreadTime returns the time that CPUs have spent on this thread. It stands still while others run.
func ThreadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err) // Linux has had it since 2.6.12
	}
	return time.Duration(ts.Nano())
}
