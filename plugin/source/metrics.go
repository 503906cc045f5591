package source

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

const subsystem = "kubehosts"

var (
	// programmingDuration is the DNS programming latency that Kubernetes SIG Scalability defines: from the change of a
	// Service's pods, as the endpoint controller saw it, to the moment when an answer shows it. Clocks of two machines
	// are compared.
	programmingDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        "dns_programming_duration_seconds",
		Help:                        "Time in seconds from a change of a Service's endpoints to the changed answer.",
		Buckets:                     prometheus.ExponentialBuckets(0.001, 2, 20), // 1 ms to 9 minutes
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
	}, []string{"service_kind"})

	requestDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        "rest_client_request_duration_seconds",
		Help:                        "Time in seconds until the API server began to reply, by verb and host.",
		Buckets:                     prometheus.DefBuckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
	}, []string{"verb", "host"})

	requests = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "rest_client_requests_total",
		Help:      "Requests to the API server, by status code, method and host.",
	}, []string{"code", "method", "host"})

	objectsHeld = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "objects",
		Help:      "Objects that answers are made from, by kind.",
	}, []string{"kind"})

	objectsRejected = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "objects_rejected_total",
		Help:      "Objects, or addresses in them, that can't be used, by kind.",
	}, []string{"kind"})

	audits = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "audits_total",
		Help:      "Comparisons of the objects with those of the API server, by kind.",
	}, []string{"kind"})

	auditHealed = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "audit_healed_total",
		Help:      "Objects that differed from those of the API server in an audit, by kind. They were listed again.",
	}, []string{"kind"})

	manifestsRejected = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "manifests_rejected_total",
		Help:      "Changed manifest files that could not be parsed; their last good state went on serving.",
	})
)

// The gauges of API servers are read at each scrape, so a server that is no longer read from has none.
var (
	sourceConnected = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "source_connected"),
		"1 while the API server replies, 0 from the first request without a reply to the next reply.", []string{"source"}, nil)
	sourceNews = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, "source_last_event_timestamp_seconds"),
		"Unix time of the last event, bookmark or list of the watch that has been silent for longest.", []string{"source"}, nil)
)

func init() { prometheus.MustRegister(sourceMetrics{}) }

// sourceMetrics is the collector of the gauges of API servers.
type sourceMetrics struct{}

// Describe implements prometheus.Collector.
func (sourceMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- sourceConnected
	ch <- sourceNews
}

// Collect implements prometheus.Collector.
func (sourceMetrics) Collect(ch chan<- prometheus.Metric) {
	safe.Scraped("API servers", func() {
		for url, c := range contacts() {
			connected := 0.0
			if c.connected {
				connected = 1
			}
			ch <- prometheus.MustNewConstMetric(sourceConnected, prometheus.GaugeValue, connected, safe.Printable(url))
			ch <- prometheus.MustNewConstMetric(sourceNews, prometheus.GaugeValue, float64(c.news.UnixNano())/1e9, safe.Printable(url))
		}
	})
}

// contact is the state of the connection to an API server.
type contact struct {
	connected bool
	news      time.Time // of Source.News
}

// contacts returns the API servers that are read from, by their URL without a password. Among Sources that differ only
// in their credentials, the worst counts.
func contacts() map[string]contact {
	sources.mu.Lock()
	defer sources.mu.Unlock()
	all := make(map[string]contact)
	for _, s := range sources.all {
		news := s.News()
		if news.IsZero() {
			continue
		}
		h := s.clients.health
		now := contact{h.connected(), news}
		name := sourceName(h.host)
		if other, ok := all[name]; ok {
			now.connected = now.connected && other.connected
			if other.news.Before(news) {
				now.news = other.news
			}
		}
		all[name] = now
	}
	return all
}

// sourceName is the value of the label source for the API server at host.
func sourceName(host string) string {
	if u, err := url.Parse(host); err == nil && u.User != nil {
		host = u.Redacted()
	}
	return strings.ToValidUTF8(host, "\uFFFD")
}

// named stores the unusable objects that were logged.
var named safe.Once

// reject counts an object, or a part of it, that can't be used, and logs it the first time.
func reject(kind string, name objectName, reason string) {
	objectsRejected.WithLabelValues(kind).Inc()
	if key := kind + " " + name.String(); named.First(key) {
		log.Warningf("%s: %s; the rest is served", safe.Printable(key), safe.Printable(reason))
	}
}

// measured counts and times the requests of the transport below.
type measured struct {
	next   http.RoundTripper
	health *health
}

// WrappedRoundTripper lets client-go find the transport below.
func (m *measured) WrappedRoundTripper() http.RoundTripper { return m.next }

// RoundTrip implements http.RoundTripper.
func (m *measured) RoundTrip(r *http.Request) (*http.Response, error) {
	host := safe.Printable(r.URL.Host)
	start := time.Now()
	resp, err := replied(m.next, r)
	requestDuration.WithLabelValues(r.Method, host).Observe(time.Since(start).Seconds())
	code := "<error>" // client-go's label
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	requests.WithLabelValues(code, r.Method, host).Inc()
	if r.Context().Err() == nil { // else this process gave up
		m.health.saw(err)
	}
	return resp, err
}

// longestReply limits the time until the API server begins to reply. The server itself gives up a list after one minute
// by default. A proxy in between may hold the head of a watch's reply back until the first event or bookmark, which
// comes within a minute or so. Tests shorten it.
var longestReply = 65 * time.Second

// replied sends a request to next. It gives up when no reply has begun in time: without a limit, a request that is
// stuck would never be repeated.
func replied(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	most := longestReply
	if r.URL.Query().Get("watch") != "" {
		most *= 2
	}
	ctx, cancel := context.WithCancel(r.Context())
	timer := time.AfterFunc(most, cancel)
	resp, err := next.RoundTrip(r.WithContext(ctx))
	if inTime := timer.Stop(); !inTime && r.Context().Err() == nil {
		if err == nil {
			resp.Body.Close()
		}
		return nil, fmt.Errorf("no reply within %s", most)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &cancelling{resp.Body, cancel}
	return resp, nil
}

// cancelling is the body of a reply that frees the context of its request when it is closed.
type cancelling struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (c *cancelling) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// limited limits the requests without a reply.
type limited struct {
	next  http.RoundTripper
	slots chan struct{}
}

// WrappedRoundTripper lets client-go find the transport below.
func (l *limited) WrappedRoundTripper() http.RoundTripper { return l.next }

// RoundTrip implements http.RoundTripper.
func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
		return l.next.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}
