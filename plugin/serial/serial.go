// Package serial assigns the SOA serials of zones. A serial is the Unix time of the last change of a zone, in seconds.
//
// A zone's content has several writers: the indexes of objects, hosts files and stanzas. Its serial is the latest of
// theirs, so all of them take serials from one Clock. Otherwise a change of one writer would go unnoticed after a later
// serial of another.
package serial

import (
	"sync"
	"time"
)

// MaxAhead is how many seconds serials may get ahead of the time because of changes that follow each other within a
// second. A process that starts without a snapshot begins with the time, and secondaries ignore its zones until the
// time is beyond the serials that they have. So it can't take longer than that.
const MaxAhead = 60

// shareUntil is how long before a serial begins the last change may share it. A later one might become visible only
// after that, and a secondary could have transferred the zone without it under the same serial.
const shareUntil = time.Second / 2

// mostLeft leaves a second of MaxAhead for serials that the first change of the next one makes visible before they
// begin.
const mostLeft = MaxAhead - 1

// Stamp is the serial of a change. Its zero value stands for none.
type Stamp struct {
	n    uint32        // 0 for none
	from time.Duration // since start; before that, the serial is that of the change before
}

// start is the beginning of the time in a Stamp, which runs on when the time of the machine is set.
var start = time.Now()

// Of returns the Stamp of a serial of another process.
func Of(n uint32) Stamp { return Stamp{n: n} }

// Now returns the present serial, 0 for none.
func (s Stamp) Now() uint32 {
	if s.from == 0 { // nearly always
		return s.n
	}
	return s.at(time.Now())
}

func (s Stamp) at(now time.Time) uint32 {
	if s.from == 0 || now.Sub(start) >= s.from {
		return s.n
	}
	return s.n - 1
}

// Last returns the serial that s has now or soon, 0 for none.
func (s Stamp) Last() uint32 { return s.n }

// Before reports whether the change of s was before that of o.
func (s Stamp) Before(o Stamp) bool { return Before(s.n, o.n) }

// Clock assigns serials. The zero Clock is ready. It is safe for concurrent use.
type Clock struct {
	mu     sync.Mutex
	last   Stamp
	opened bool    // last was assigned by Open alone
	left   float64 // how much further serials may get ahead, at most mostLeft
	at     time.Time
}

// Change calls publish with the serial of a change at the time now. publish makes the change visible and must not call
// c. The serial is the time, or one more than the last serial if the time is not later than that, as in the second of
// the last change or after the time was set back. So each change has a later serial. But if serials are MaxAhead before
// the time, the next one begins a second after the last, and the changes until shortly before that share it.
func (c *Clock) Change(now time.Time, publish func(Stamp)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change(now, publish)
}

// change is Change with c.mu held.
func (c *Clock) change(now time.Time, publish func(Stamp)) {
	c.opened = false
	publish(c.step(now))
}

// Open returns a serial for content that nobody has seen before, such as objects that are listed for the first time. It
// is later than that of each change before. Contents opened within a second share a serial, since their number at a
// start has no bound.
func (c *Clock) Open(now time.Time) Stamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opened || Before(c.last.n, of(now)) {
		c.opened = true
		return c.step(now)
	}
	return c.last
}

// Advance makes the serials of c continue after last, a serial of another process. 0 is none.
func (c *Clock) Advance(last uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last != 0 && (c.last.n == 0 || !Before(last, c.last.n)) {
		c.last, c.opened = Of(last), false
	}
}

// step assigns the next serial. c.mu is held.
func (c *Clock) step(now time.Time) Stamp {
	if c.at.IsZero() {
		c.left = mostLeft
	} else {
		passed := max(0, now.Sub(c.at).Seconds()) // by a clock that can't be set, if now is from time.Now
		c.left = min(c.left+passed, mostLeft)
	}
	c.at = now
	next := c.last.n + 1
	if next == 0 { // which stands for none
		next = 1
	}
	switch t := of(now); {
	case c.last.n == 0 || Before(c.last.n, t):
		c.last = Stamp{n: t}
	case c.last.at(now.Add(shareUntil)) != c.last.n: // it does not begin soon
	case c.left >= 1:
		c.left--
		c.last = Stamp{n: next}
	default:
		wait := time.Duration((1 - c.left) * float64(time.Second))
		c.left--
		c.last = Stamp{n: next, from: now.Sub(start) + wait}
	}
	return c.last
}

func of(t time.Time) uint32 { return max(1, uint32(t.Unix())) } // #nosec G115 -- an SOA serial wraps

// Before reports whether the serial a is older than b (RFC 1982, section 3.2).
func Before(a, b uint32) bool { return int32(a-b) < 0 } // #nosec G115 -- the comparison wraps

// Later returns the later of two Stamps.
func Later(a, b Stamp) Stamp {
	if a.n == 0 || b.n != 0 && a.Before(b) {
		return b
	}
	return a
}

// clock is the Clock of this process.
var clock Clock

// Change is Clock.Change with the Clock of this process, at the time when no other change is published.
func Change(publish func(Stamp)) {
	clock.mu.Lock()
	defer clock.mu.Unlock()
	clock.change(time.Now(), publish)
}

// Open is Clock.Open with the Clock of this process, now.
func Open() Stamp { return clock.Open(time.Now()) }

// Advance is Clock.Advance with the Clock of this process.
func Advance(last uint32) { clock.Advance(last) }
