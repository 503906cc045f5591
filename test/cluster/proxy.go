package cluster

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Exchange is one request through a Proxy and the head of its response.
type Exchange struct {
	Path    string
	Query   url.Values
	Accept  string // what the client requested
	Content string // what the API server sent
}

// Proxy sits between a client and the API server and records what the audit log lacks: the encodings of the objects
// requested and sent. While the proxy is stopped, clients can't reach the API server through it.
type Proxy struct {
	URL         string           // https://127.0.0.1:PORT, the same after a stop and a start; client-go sends no token over http
	Certificate *tls.Certificate // for Start; nil for a self-signed one
	Delay       time.Duration    // of each reply, for Start
	NoStreams   bool             // refuse streamed lists (KEP-3157), like an API server without them; for Start

	lose    atomic.Pointer[string]
	lost    atomic.Int64
	addr    string
	handler http.Handler
	server  *httptest.Server
	mu      sync.Mutex
	seen    []Exchange
}

// Proxy returns a proxy to the API server that has not been started. It ends with the test.
func (a *API) Proxy(t testing.TB) *Proxy {
	t.Helper()
	target, err := url.Parse(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort()))}
	p.URL = "https://" + p.addr
	p.handler = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Accept-Encoding") // a streamed list would be gzipped, and Lose could not find anything in it
		},
		Transport:      &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true},
		FlushInterval:  -1, // a watch is a stream
		ModifyResponse: p.record,
		ErrorLog:       log.New(io.Discard, "", 0), // some tests break off watches
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	t.Cleanup(p.Stop)
	return p
}

// Lose drops the watch events that contain text, without notice to the client, until it is called with "".
func (p *Proxy) Lose(text string) {
	if text == "" {
		p.lose.Store(nil)
		return
	}
	p.lose.Store(&text)
}

// Lost returns how many events Lose dropped.
func (p *Proxy) Lost() int { return int(p.lost.Load()) }

// lossy passes on the frames of a watch except the ones to lose: lines of JSON, or protobuf preceded by its length in
// four bytes, the format of application/vnd.kubernetes.protobuf;stream=watch.
type lossy struct {
	io.Closer
	proxy *Proxy
	next  func() ([]byte, error)
	rest  []byte // of the frame being read
}

func (p *Proxy) lossy(body io.ReadCloser, content string) io.ReadCloser {
	in := bufio.NewReader(body)
	l := &lossy{Closer: body, proxy: p, next: func() ([]byte, error) { return in.ReadBytes('\n') }}
	if strings.Contains(content, "protobuf") {
		l.next = func() ([]byte, error) {
			frame := make([]byte, 4)
			if _, err := io.ReadFull(in, frame); err != nil {
				return nil, err
			}
			frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
			_, err := io.ReadFull(in, frame[4:])
			return frame, err
		}
	}
	return l
}

// Read implements io.Reader.
func (l *lossy) Read(b []byte) (int, error) {
	for len(l.rest) == 0 {
		frame, err := l.next()
		if err != nil {
			return 0, err
		}
		if text := l.proxy.lose.Load(); text != nil && bytes.Contains(frame, []byte(*text)) {
			l.proxy.lost.Add(1)
			continue
		}
		l.rest = frame
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (p *Proxy) record(r *http.Response) error {
	if r.StatusCode == http.StatusOK && r.Request.URL.Query().Get("watch") != "" {
		r.Body = p.lossy(r.Body, r.Header.Get("Content-Type"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, Exchange{
		Path: r.Request.URL.Path, Query: r.Request.URL.Query(),
		Accept: r.Request.Header.Get("Accept"), Content: r.Header.Get("Content-Type"),
	})
	return nil
}

// Seen returns the requests so far.
func (p *Proxy) Seen() []Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// Start begins to accept clients.
func (p *Proxy) Start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	handler, delay, noStreams := p.handler, p.Delay, p.NoStreams
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if noStreams && r.URL.Query().Get("sendInitialEvents") == "true" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,
				"message":"sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"}`)
			return
		}
		select {
		case <-time.After(delay):
			handler.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if p.Certificate != nil {
		p.server.TLS = &tls.Config{Certificates: []tls.Certificate{*p.Certificate}}
	}
	p.server.Listener.Close()
	p.server.Listener = l
	p.server.StartTLS()
}

// Stop breaks every connection and refuses new ones.
func (p *Proxy) Stop() {
	if p.server != nil {
		p.server.CloseClientConnections() // watches never end on their own
		p.server.Close()
		p.server = nil
	}
}
