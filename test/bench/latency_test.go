package bench

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// askRate is the number of queries per second to a server that has other work: far below its maximum.
const askRate = 2000

// patience is how long the client waits for an answer.
const patience = 2 * time.Second

// latencies sends the queries to a server repeatedly, at a steady rate per second whether it answers or not, and
// returns how long each answer took, sorted. A query without an answer counts as two seconds.
func latencies(t *testing.T, addr string, questions []*dns.Msg, rate int, d time.Duration) []time.Duration {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packed := make([][]byte, len(questions))
	for i, q := range questions {
		if packed[i], err = q.Pack(); err != nil {
			t.Fatal(err)
		}
	}
	n := int(d.Seconds() * float64(rate))
	type answer struct {
		id uint16
		at time.Time
	}
	answers := make(chan answer, n)
	go func() {
		defer close(answers)
		buf := make([]byte, 65536)
		for range n {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			answers <- answer{binary.BigEndian.Uint16(buf), time.Now()}
		}
	}()

	start := time.Now()
	sent := make([]time.Time, n) // n is below 65536: every query has a unique ID
	for i := range n {
		if wait := time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))); wait > 0 {
			time.Sleep(wait)
		}
		b := packed[i%len(packed)]
		binary.BigEndian.PutUint16(b, uint16(i))
		sent[i] = time.Now()
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	took := make([]time.Duration, 0, n)
	for a := range answers {
		took = append(took, a.at.Sub(sent[a.id]))
	}
	slices.Sort(took)
	for len(took) < n {
		took = append(took, patience)
	}
	return took
}

// quantile returns a quantile of sorted durations, in microseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Nanoseconds()) / 1000
}
