//go:build !linux

package growth

import "time"

// threadTime is 0: there is no such clock everywhere.
func threadTime() time.Duration { return 0 }
