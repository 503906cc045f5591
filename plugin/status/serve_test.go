package status

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
)

// offlineServers are the servers of testdata/Corefile.
func offlineServers(t *testing.T) *Servers {
	t.Helper()
	text, err := os.ReadFile("testdata/Corefile")
	if err != nil {
		t.Fatal(err)
	}
	s, closeAll, err := Offline("testdata/Corefile", text)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeAll)
	return s
}

// get sends a request to h, and returns the response with its body.
func get(t *testing.T, h http.Handler, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8182"+target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

// The page is HTML, or JSON if the path or the client selects it.
func TestPages(t *testing.T) {
	s := offlineServers(t)
	h := handler(func() *Servers { return s })
	for _, tt := range []struct {
		target, accept string
		code           int
		kind           string
		want           []string
	}{
		{"/", "", 200, "text/html", []string{"<title>Status - kubehosts</title>", "2 things to look at", "shop.apps.example.: Ingress test/other claims it, and the older Ingress shop/front has it", "line 4: &#34;nonsense&#34; is not an IP address", "192.0.2.30 db.corp.example", "Namespace <b>2</b>"}},
		{"/", "application/json", 200, "application/json", []string{`"well": false`, `"kind": "Service"`}},
		{"/", "text/html,application/json", 200, "text/html", nil},
		{"/index.json", "text/html", 200, "application/json", []string{`"well": false`}},
		{"/explain?name=web.shop", "", 200, "text/html", []string{"the first that exists", "NOERROR 30 s  web.shop.svc.cluster.local. A 10.96.7.10", "value=\"web.shop\"", "/explain.json?name=web.shop&amp;type=&amp;client="}},
		{"/explain.json?name=web.shop", "", 200, "application/json", []string{`"answered": true`}},
		{"/explain?name=web.shop", "application/json", 200, "application/json", []string{`"answered": true`}},
		{"/explain?name=+web.shop.svc.cluster.local.+&type=srv&client=+10.244.1.5+", "", 200, "text/html", []string{"SRV 0 50 80"}},
		{"/explain?name=", "", 400, "text/html", []string{"the name is empty"}},
		{"/explain?name=web..shop", "", 400, "text/html", []string{"is not a domain name"}},
		{"/explain.json?name=web&type=NO", "", 400, "text/plain", []string{"is not a record type"}},
		{"/explain?name=%3Cscript%3Ealert(1)%3C/script%3E.", "", 200, "text/html", []string{"&lt;script&gt;"}},
		{"/style.css", "", 200, "text/css", []string{"prefers-color-scheme"}},
		{"/other", "", 404, "text/plain", nil},
		{"/explain/x", "", 404, "text/plain", nil},
	} {
		resp, body := get(t, h, "GET", tt.target, "Accept", tt.accept)
		if resp.StatusCode != tt.code || !strings.HasPrefix(resp.Header.Get("Content-Type"), tt.kind) {
			t.Errorf("%s for %q: %d %s, want %d %s", tt.target, tt.accept, resp.StatusCode, resp.Header.Get("Content-Type"), tt.code, tt.kind)
		}
		for _, want := range tt.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s for %q has no %q:\n%s", tt.target, tt.accept, want, body)
			}
		}
		if strings.Contains(body, "<script") {
			t.Errorf("%s has a script", tt.target)
		}
		if tt.kind == "application/json" && !json.Valid([]byte(body)) {
			t.Errorf("%s is not JSON: %s", tt.target, body)
		}
	}
}

// The page has the same text as the command.
func TestPageHasTheWords(t *testing.T) {
	s := offlineServers(t)
	h := handler(func() *Servers { return s })
	for _, name := range []string{"web.shop", "queue.shop", "cart.shop", "10.96.7.10", "web.prod"} {
		q, err := NewQuery(name, "", "")
		if err != nil {
			t.Fatal(err)
		}
		_, body := get(t, h, "GET", "/explain?name="+url.QueryEscape(name))
		for _, l := range s.Explain(t.Context(), q).Explanations[0].Lines {
			if !strings.Contains(body, l.Text) {
				t.Errorf("the page for %s has no %q", name, l.Text)
			}
		}
	}
}

// Requests other than GET, and for names that a DNS server may have led a browser to, are refused. The page may load
// nothing and can't be framed.
func TestPageIsGuarded(t *testing.T) {
	h := handler(func() *Servers { return new(Servers) })
	for host, code := range map[string]int{
		"127.0.0.1:8182": 200, "localhost:8182": 200, "LOCALHOST": 200, "[::1]:8182": 200, "[fd00::1]": 200, "10.0.0.1": 200,
		"evil.example:8182": 421, "evil.example": 421, "127.0.0.1.evil.example": 421, "": 421, "localhost.evil.example:8182": 421,
	} {
		for _, target := range []string{"/", "/index.json", "/explain?name=.", "/style.css"} {
			resp, _ := get(t, h, "GET", target, "Host", host)
			if resp.StatusCode != code {
				t.Errorf("%s of host %q: %d, want %d", target, host, resp.StatusCode, code)
			}
			if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'self';") || !strings.Contains(csp, "frame-ancestors 'none'") {
				t.Errorf("%s of host %q has the policy %q", target, host, csp)
			}
		}
	}
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
		if resp, _ := get(t, h, method, "/"); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
}

// A panic affects one reply and does not end the process.
func TestPageThatPanics(t *testing.T) {
	h := handler(func() *Servers { panic("a fault of a test") })
	if resp, body := get(t, h, "GET", "/"); resp.StatusCode != 500 || strings.Contains(body, "fault") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// The number of explanations at a time is limited.
func TestExplainingIsBounded(t *testing.T) {
	p := &pages{servers: func() *Servers { return new(Servers) }, slots: make(chan struct{}, 1)}
	r := httptest.NewRequest("GET", "http://127.0.0.1/explain?name=a", nil)
	p.slots <- struct{}{}
	if _, status, err := p.result(r, form{Name: "a"}); err == nil || status != http.StatusServiceUnavailable {
		t.Errorf("%d, %v while another name is explained", status, err)
	}
	<-p.slots
	if _, _, err := p.result(r, form{Name: "a"}); err != nil || len(p.slots) != 0 {
		t.Errorf("%v afterwards, %d slots in use", err, len(p.slots))
	}
}

// The page shows no value of an environment variable.
func TestPageKeepsSecrets(t *testing.T) {
	t.Setenv("KUBEHOSTS_SECRET", "hunter2")
	s, closeAll, err := Offline("Corefile", []byte(".:53 {\n kubehosts cluster.local {\n hosts {\n 192.0.2.1 a.example # {$KUBEHOSTS_SECRET}\n 192.0.2.2 {$KUBEHOSTS_SECRET}.example\n }\n }\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeAll)
	h := handler(func() *Servers { return s })
	for _, target := range []string{"/", "/index.json"} {
		_, body := get(t, h, "GET", target)
		if strings.Contains(body, "hunter2") || !strings.Contains(body, "192.0.2.2 {$KUBEHOSTS_SECRET}.example") {
			t.Errorf("%s:\n%s", target, body)
		}
	}
}

// The socket of an address is opened once, and closed with its last user.
func TestListen(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := socket.Addr().String()
	if _, err := Listen(addr); err == nil || !strings.HasPrefix(err.Error(), "the status page can't listen on "+addr+": ") {
		t.Errorf("where another listens: %v", err)
	}
	socket.Close()
	one, err := Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	reached := func() bool {
		resp, err := http.Get("http://" + addr + "/index.json")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	}
	one()
	one()
	if !reached() {
		t.Error("closed, although it has another user")
	}
	two()
	if reached() {
		t.Error("open, although it has no user")
	}
}
