package status

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	golog "log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

var log = safe.NewLog(stanza.Name)

// The bounds of the page's work.
const (
	maxConnections = 32
	maxExplaining  = 4                // at a time: an explanation may use the API server, and read hosts files again
	explainTime    = 10 * time.Second // for one of them
	maxHeader      = 16 << 10         // bytes of a request
)

// listeners are the sockets of the status page, by their address. A reload of the Corefile takes them over.
var listeners struct {
	mu   sync.Mutex
	open map[string]*listener
}

type listener struct {
	server *http.Server
	users  int
}

// Listen serves the page on an address, until close was called as often as Listen. It returns an error if it can't
// listen there.
func Listen(addr string) (close func(), err error) {
	l := &listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	on := l.open[addr]
	if on == nil {
		if on, err = listen(addr); err != nil {
			return nil, err
		}
		if l.open == nil {
			l.open = make(map[string]*listener)
		}
		l.open[addr] = on
	}
	on.users++
	var once sync.Once
	return func() { once.Do(func() { release(addr, on) }) }, nil
}

func listen(addr string) (*listener, error) {
	socket, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("the status page can't listen on %s: %w; set another ADDRESS in the status option, or stop the other listener", addr, err)
	}
	server := &http.Server{
		Handler:           handler(Running),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          golog.New(io.Discard, "", 0), // for clients that disconnect
	}
	safe.Go(context.Background(), "the status page on "+addr, func(context.Context) { // until release closes it
		if err := server.Serve(netutil.LimitListener(socket, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			log.Errorf("Status page on http://%s ended, until the next change of the Corefile; everything else works: %v", addr, err)
		}
	})
	log.Infof("Status page on http://%s", addr)
	return &listener{server: server}, nil
}

func release(addr string, on *listener) {
	l := &listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if on.users--; on.users == 0 {
		delete(l.open, addr)
		on.server.Close()
	}
}

//go:embed page.html style.css
var assets embed.FS

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"ago":     func(t time.Time) string { return ago(time.Since(t)) },
	"bytes":   bytesText,
	"size":    func(n int64) string { return bytesText(uint64(max(0, n))) }, // #nosec G115 -- it is not negative
	"things":  func(n int) string { return count(n, "thing") },
	"clock":   clock,
	"refused": func(verdict string) bool { return strings.HasPrefix(verdict, "refused") },
	"lines":   func(n int) string { return count(n, "line") },
	"utc":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).ParseFS(assets, "page.html"))

// view is the content of the template: the Report, or the Result of a question.
type view struct {
	Title   string
	Form    form
	Error   string
	Report  *Report
	Explain *Result
}

// form is the content of the fields for a question.
type form struct{ Name, Type, Client string }

// pages serves the page for the result of servers.
type pages struct {
	servers func() *Servers
	slots   chan struct{}
}

// handler returns the handler of the page: / and /explain, each as HTML, or as JSON if the path ends in .json or the
// client prefers it.
func handler(servers func() *Servers) http.Handler {
	p := &pages{servers: servers, slots: make(chan struct{}, maxExplaining)}
	mux := http.NewServeMux()
	for path, f := range map[string]http.HandlerFunc{
		"/{$}": p.index, "/index.json": p.index, "/explain": p.explain, "/explain.json": p.explain, "/style.css": style,
	} {
		mux.HandleFunc(path, f)
	}
	return guarded(mux)
}

// guarded refuses requests from pages of other sites. A browser that was led here by a name of such a site sends that
// name as the host (DNS rebinding). The page runs no scripts and can't be framed.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				_ = safe.Recovered("the status page", func() { panic(v) }) // logs and counts it
				http.Error(w, "an internal error, see the log", http.StatusInternalServerError)
			}
		}()
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !byAddress(r.Host) {
			http.Error(w, "Use an IP address or localhost to reach this page, not another name.", http.StatusMisdirectedRequest)
			return
		}
		if r.Method != http.MethodGet {
			h.Set("Allow", http.MethodGet)
			http.Error(w, "This page answers only GET requests.", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// byAddress reports whether the host of a request is an IP address or localhost.
func byAddress(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

func style(w http.ResponseWriter, _ *http.Request) {
	css, err := assets.ReadFile("style.css")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Write(css)
}

func (p *pages) index(w http.ResponseWriter, r *http.Request) {
	report := p.servers().Report()
	if wantsJSON(r) {
		writeJSON(w, report)
		return
	}
	write(w, http.StatusOK, view{Title: "Status", Report: report})
}

func (p *pages) explain(w http.ResponseWriter, r *http.Request) {
	f := form{r.FormValue("name"), r.FormValue("type"), r.FormValue("client")}
	result, status, err := p.result(r, f)
	switch {
	case err == nil && wantsJSON(r):
		writeJSON(w, result)
	case err == nil:
		write(w, status, view{Title: "Explain " + f.Name, Form: f, Explain: result})
	case wantsJSON(r):
		http.Error(w, err.Error(), status)
	default:
		write(w, status, view{Title: "Explain", Form: f, Error: err.Error()})
	}
}

// result explains the answer to the question in f.
func (p *pages) result(r *http.Request, f form) (*Result, int, error) {
	q, err := NewQuery(strings.TrimSpace(f.Name), strings.TrimSpace(f.Type), strings.TrimSpace(f.Client))
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return nil, http.StatusServiceUnavailable, fmt.Errorf("%d names are being explained, which is the limit: try again", maxExplaining)
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainTime)
	defer cancel()
	return p.servers().Explain(ctx, q), http.StatusOK, nil
}

// wantsJSON reports whether the path ends in .json, or the client accepts JSON and no HTML.
func wantsJSON(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.HasSuffix(r.URL.Path, ".json") || strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		log.Debugf("Status page: %v", err) // the client has disconnected
	}
}

// write writes the page.
func write(w http.ResponseWriter, status int, v view) {
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		log.Errorf("Status page can't be shown: %v", err)
		http.Error(w, "the page can't be shown, see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
