package source

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gaugeOf returns a gauge of the API server at url as it is exported, and whether there is one.
func gaugeOf(t *testing.T, name, url string) (value float64, ok bool) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() != "coredns_kubehosts_source_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); len(l) == 1 && l[0].GetName() == "source" && l[0].GetValue() == url {
				return m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

// connectedIs waits for a value of the gauge that shows whether the API server at url replies.
func connectedIs(t *testing.T, url string, want float64) {
	t.Helper()
	eventually(t, "connected", func() bool {
		got, ok := gaugeOf(t, "connected", url)
		return ok && got == want
	})
}

// newsOf returns the time of the last news of the API server at url, according to its gauge.
func newsOf(t *testing.T, url string) float64 {
	t.Helper()
	got, ok := gaugeOf(t, "last_event_timestamp_seconds", url)
	if !ok {
		t.Fatal("no time of the last event")
	}
	return got
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// The gauges of an API server follow its lists, its events, and each watch that has become silent.
func TestSourceMetrics(t *testing.T) {
	a := newAPIServer(t)
	start := seconds(time.Now())
	a.put("namespaces", "", "default", nil, nil)
	s := a.open(t)
	if _, ok := gaugeOf(t, "connected", a.URL); ok {
		t.Error("a server without requests has a metric")
	}
	o := listed(t, s, Selection{})
	connectedIs(t, a.URL, 1)
	first := newsOf(t, a.URL)
	if first < start || first > seconds(time.Now()) {
		t.Errorf("the lists came at %f, after %f", first, start)
	}

	// The watch that has been silent for longest counts, whatever the other one brings.
	for _, ip := range []string{"10.0.0.1", "10.0.0.2"} {
		a.putService("web", ip)
		eventually(t, "the event", func() bool { return ipOf(o, "web") == ip })
	}
	silent := newsOf(t, a.URL)
	a.putService("web", "10.0.0.3")
	eventually(t, "the event", func() bool { return ipOf(o, "web") == "10.0.0.3" })
	if got := newsOf(t, a.URL); got != silent {
		t.Errorf("%f, but the watch of namespaces is silent since %f", got, silent)
	}
	a.put("namespaces", "", "shop", nil, nil)
	eventually(t, "news of both", func() bool { return newsOf(t, a.URL) > silent })

	// A server that does not reply is not connected, and its last news stay.
	a.cut()
	a.Server.Config.Close()
	connectedIs(t, a.URL, 0)
	before := newsOf(t, a.URL)
	if got := newsOf(t, a.URL); got != before || got > seconds(time.Now()) {
		t.Errorf("%f, after %f", got, before)
	}
	o.Close()
	eventually(t, "no metric of an unused server", func() bool {
		_, ok := gaugeOf(t, "connected", a.URL)
		return !ok
	})
}

// A server that replies, but does not return a resource, is connected and has no news. One that lacks an optional
// resource has.
func TestSourceMetricsOfRefusals(t *testing.T) {
	a := newAPIServer(t)
	a.answer("services", http.StatusForbidden)
	s := a.open(t)
	o, err := s.Objects(Selection{})
	must(t, err)
	t.Cleanup(o.Close)
	connectedIs(t, a.URL, 1)
	eventually(t, "it is refused", func() bool { return o.Refused() != nil })
	begun := newsOf(t, a.URL)
	asked := a.asked()
	eventually(t, "it is requested again", func() bool { return a.asked() != asked })
	if got := newsOf(t, a.URL); got != begun {
		t.Errorf("a refusal is news: %f, after %f", got, begun)
	}
	a.answer("services", 0)
	eventually(t, "news", func() bool { return newsOf(t, a.URL) > begun })
}

func TestSourceMetricsOfOptional(t *testing.T) {
	a := newAPIServer(t)
	a.answer("serviceimports", http.StatusNotFound)
	listed(t, a.open(t), Selection{Multicluster: true})
	news := newsOf(t, a.URL)
	move := func() {
		a.put("namespaces", "", "default", nil, nil)
		a.putService("web", "10.0.0.1")
	}
	move()
	eventually(t, "news without ServiceImports in the server", func() bool { return newsOf(t, a.URL) > news })
}

// Sources of one server share one series, with the worst value of all.
func TestSourceMetricsOfTwo(t *testing.T) {
	a := newAPIServer(t)
	listed(t, a.open(t), Selection{})
	other, err := Open(Spec{Endpoint: a.URL, QPS: 7})
	must(t, err)
	t.Cleanup(other.Close)
	connectedIs(t, a.URL, 1)
	for _, resource := range []string{"services", "endpointslices", "namespaces"} { // an open watch would count as a reply
		a.answer(resource, http.StatusForbidden)
	}
	o, err := other.Objects(Selection{})
	must(t, err)
	t.Cleanup(o.Close)
	eventually(t, "the one that is not connected", func() bool {
		other.clients.health.saw(http.ErrServerClosed) // until the next try gets its refusal
		got, _ := gaugeOf(t, "connected", a.URL)
		return got == 0
	})
	if got, want := newsOf(t, a.URL), seconds(other.News()); got > want {
		t.Errorf("news of %f, and the other Source had its last at %f", got, want)
	}
}

func TestSourceName(t *testing.T) {
	for host, want := range map[string]string{
		"https://10.96.0.1:443":              "https://10.96.0.1:443",
		"10.96.0.1:6443":                     "10.96.0.1:6443",
		"https://me:secret@10.96.0.1:443/k8": "https://me:xxxxx@10.96.0.1:443/k8",
		"https://\xff":                       "https://\uFFFD",
	} {
		if got := sourceName(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}
