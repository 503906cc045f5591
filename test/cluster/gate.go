package cluster

import (
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
)

// Gate passes bytes between a client and the API server. A closed gate refuses connections; a mute one accepts them and
// sends nothing. Both changes break existing connections.
type Gate struct {
	URL string // https://127.0.0.1:PORT, the same after each change

	addr, target string
	mu           sync.Mutex
	listener     net.Listener
	mute         bool
	conns        map[net.Conn]struct{}
	accepted     int
}

// Gate returns an open gate to the API server. It ends with the test.
func (a *API) Gate(t testing.TB) *Gate {
	t.Helper()
	target, err := url.Parse(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{
		addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort())), target: target.Host,
		conns: make(map[net.Conn]struct{}),
	}
	g.URL = "https://" + g.addr
	g.Open(t)
	t.Cleanup(g.Close)
	return g
}

// Open lets clients through.
func (g *Gate) Open(t testing.TB) { g.listen(t, false) }

// Mute accepts clients and sends nothing to them.
func (g *Gate) Mute(t testing.TB) { g.listen(t, true) }

func (g *Gate) listen(t testing.TB, mute bool) {
	t.Helper()
	g.Close()
	l, err := net.Listen("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.listener, g.mute = l, mute
	g.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.pass(c, l)
		}
	}()
}

// Close breaks all connections and refuses new ones.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener != nil {
		g.listener.Close()
		g.listener = nil
	}
	for c := range g.conns {
		c.Close()
	}
	clear(g.conns)
}

// Accepted counts the connections so far.
func (g *Gate) Accepted() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accepted
}

// hold keeps c open until Close. It reports whether c, of the listener l, is still needed.
func (g *Gate) hold(c net.Conn, l net.Listener) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener != l {
		c.Close()
		return false
	}
	g.conns[c] = struct{}{}
	return true
}

func (g *Gate) pass(client net.Conn, l net.Listener) {
	if !g.hold(client, l) {
		return
	}
	g.mu.Lock()
	g.accepted++
	mute := g.mute
	g.mu.Unlock()
	if mute {
		return
	}
	server, err := net.Dial("tcp", g.target)
	if err != nil {
		client.Close()
		return
	}
	if !g.hold(server, l) {
		return
	}
	var once sync.Once
	for _, way := range [2][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			buf := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(buf)
				if n > 0 {
					if _, err := way[1].Write(buf[:n]); err != nil {
						break
					}
				}
				if err != nil {
					break
				}
			}
			once.Do(func() {
				client.Close()
				server.Close()
				g.mu.Lock()
				delete(g.conns, client)
				delete(g.conns, server)
				g.mu.Unlock()
			})
		}()
	}
}
