package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// The behavior of glibc's resolver according to resolv.conf(5): it waits 5 seconds for a reply, and makes two attempts.
// The second attempt has its own socket, like glibc's after a timeout.
const timeout = 5 * time.Second

// sockets is the number of sockets that the load is spread over. They are reused: each new socket adds an entry to
// the connection-tracking table.
const sockets = 20

// Report is the result of a load.
type Report struct {
	Asked   int // names
	Retried int // asked again, after a timeout or a SERVFAIL
	Failed  int // without a good answer after the second attempt
	Refused int // "connection refused" errors: nothing listens on the port
	Errors  map[string]int
	Median  time.Duration // time to the good answer, for names that had one
	Slowest time.Duration
}

// socket is one UDP socket to the server, with several queries in flight.
type socket struct {
	conn *dns.Conn
	mu   sync.Mutex
	wait map[uint16]chan *dns.Msg
}

// loader is a load in progress.
type loader struct {
	server  string
	sockets []*socket
	refused atomic.Int64

	mu     sync.Mutex
	report Report
	took   []time.Duration
}

// load queries the A records of the full names in turn, qps times a second, whether replies come or not, until end.
// It waits for the queries in flight.
func load(server string, qps int, names []string, end <-chan struct{}) Report {
	l := &loader{server: server, report: Report{Errors: map[string]int{}}}
	for range sockets {
		conn, err := dns.Dial("udp", server)
		if err != nil {
			return Report{Errors: map[string]int{err.Error(): 1}}
		}
		s := &socket{conn: conn, wait: map[uint16]chan *dns.Msg{}}
		l.sockets = append(l.sockets, s)
		go l.read(s)
	}
	if reason := again(server, new(dns.Msg).SetQuestion(dns.Fqdn(names[0]), dns.TypeA)); reason != "" {
		return Report{Errors: map[string]int{reason: 1}}
	}
	fmt.Println("asking", server)
	var all sync.WaitGroup
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for asked := 0; ; {
		select {
		case <-end:
			all.Wait()
			return l.end()
		case <-tick.C:
		}
		for due := int(time.Since(start).Seconds() * float64(qps)); asked < due; asked++ {
			round := asked / sockets
			s, id, name := l.sockets[asked%sockets], uint16(round), names[round%len(names)]
			all.Go(func() { l.one(s, id, name) })
		}
	}
}

// one queries one name, and repeats the query if there is no good answer.
func (l *loader) one(s *socket, id uint16, name string) {
	start := time.Now()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	q.Id = id
	reason := s.ask(q)
	retry := reason == "timeout" || reason == "SERVFAIL"
	if retry {
		reason = again(l.server, q)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Asked++
	if retry {
		l.report.Retried++
	}
	if reason != "" {
		l.report.Failed++
		l.report.Errors[name+" "+reason]++
		return
	}
	l.took = append(l.took, time.Since(start))
}

// ask sends a query and returns what is wrong with the reply, or "".
func (s *socket) ask(q *dns.Msg) string {
	reply := make(chan *dns.Msg, 1)
	s.mu.Lock()
	s.wait[q.Id] = reply
	s.conn.WriteMsg(q) // an error here is about an earlier query; this one has its timeout
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.wait, q.Id)
		s.mu.Unlock()
	}()
	select {
	case m := <-reply:
		return wrong(m)
	case <-time.After(timeout):
		return "timeout"
	}
}

// again makes the second attempt.
func again(server string, q *dns.Msg) string {
	m, _, err := (&dns.Client{Timeout: timeout}).Exchange(q, server)
	if err != nil {
		return err.Error()
	}
	return wrong(m)
}

// wrong returns what is wrong with a reply, or "": each name of the load has an address.
func wrong(m *dns.Msg) string {
	if m.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[m.Rcode]
	}
	if len(m.Answer) == 0 {
		return "NODATA"
	}
	return ""
}

// read passes replies to the queries that wait for them, until the process ends.
func (l *loader) read(s *socket) {
	for {
		m, err := s.conn.ReadMsg()
		if errors.Is(err, syscall.ECONNREFUSED) {
			l.refused.Add(1)
		}
		if err != nil {
			continue
		}
		s.mu.Lock()
		if reply := s.wait[m.Id]; reply != nil {
			reply <- m
			delete(s.wait, m.Id)
		}
		s.mu.Unlock()
	}
}

// end computes the report.
func (l *loader) end() Report {
	r := l.report
	r.Refused = int(l.refused.Load())
	if len(l.took) > 0 {
		slices.Sort(l.took)
		r.Median, r.Slowest = l.took[len(l.took)/2], l.took[len(l.took)-1]
	}
	return r
}
