//go:build !linux

package growth

import "time"

// ThreadTime is 0: there is no such clock everywhere.
func ThreadTime() time.Duration { return 0 }
