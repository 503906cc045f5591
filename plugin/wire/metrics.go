package wire

import (
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/coredns/coredns/plugin/pkg/rcode"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// reason is why a packet was passed on to CoreDNS.
type reason uint8

const (
	answered   reason = iota
	notPlain          // not a plain question
	unusualOPT        // an EDNS option or flag that CoreDNS handles
	otherType         // a type that the server or another plugin treats differently
	otherZone         // a name in a server block that CoreDNS answers for
	nextPlugin        // kubehosts passes it on
	panicked          // a panic in this package
	reasons
)

var reasonNames = [reasons]string{
	notPlain:   "query",
	unusualOPT: "edns",
	otherType:  "type",
	otherZone:  "zone",
	nextPlugin: "plugin",
	panicked:   "panic",
}

const (
	namespace = plugin.Namespace
	subsystem = "kubehosts"
)

var (
	answersTotal = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: namespace,
		Subsystem: subsystem,
		Name:      "wire_answers_total",
		Help:      "Counter of the questions over UDP answered outside CoreDNS's own server.",
	})
	passedOnTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace,
		Subsystem: subsystem,
		Name:      "wire_passed_on_total",
		Help:      "Counter of the packets passed on to CoreDNS's own server, by reason.",
	}, []string{"reason"})

	passedOn = func() (all [reasons]prometheus.Counter) {
		for r := notPlain; r < reasons; r++ {
			all[r] = passedOnTotal.WithLabelValues(reasonNames[r])
		}
		return all
	}()
)

// counters are the metrics that *prometheus* has for one zone on one address. Each is created on first use, so a label
// that never occurred has no series.
type counters struct {
	server, zone, plugin string

	requests    [2][types]prometheus.Counter // over IPv4 and IPv6
	do          prometheus.Counter
	duration    prometheus.Observer
	requestLen  prometheus.Observer
	responseLen prometheus.Observer
	responses   [16]prometheus.Counter
}

// Types are counted by their own number, as ANY, or as other.
const (
	typeANY = iota + typeLast + 1
	typeOther
	types

	typeLast = int(dns.TypeHTTPS)
)

const udp = "udp"

// counting is an answer to be counted when its batch is done.
type counting struct {
	to        *counters
	qtype     uint16
	v4, do    bool
	rcode     int
	asked     int // octets of the query
	responded int // of the response
}

func newCounting(to *counters, q *Query, rcode int, w written) counting {
	return counting{to: to, qtype: q.Type, v4: q.v4, do: q.DO, rcode: rcode, asked: len(q.packet), responded: w.length}
}

// count counts an answer as plugin/metrics does.
func (n *counting) count(took time.Duration) {
	c := n.to
	if n.do {
		if c.do == nil {
			c.do = vars.RequestDo.WithLabelValues(c.server, c.zone, "")
		}
		c.do.Inc()
	}
	family, familyName := 0, "1"
	if !n.v4 {
		family, familyName = 1, "2"
	}
	at, name := typeOf(n.qtype)
	requests := &c.requests[family][at]
	if *requests == nil {
		*requests = vars.RequestCount.WithLabelValues(c.server, c.zone, "", udp, familyName, name)
	}
	(*requests).Inc()
	if c.duration == nil {
		c.duration = vars.RequestDuration.WithLabelValues(c.server, c.zone, "")
		c.responseLen = vars.ResponseSize.WithLabelValues(c.server, c.zone, "", udp)
		c.requestLen = vars.RequestSize.WithLabelValues(c.server, c.zone, "", udp)
	}
	c.duration.Observe(took.Seconds())
	c.responseLen.Observe(float64(n.responded))
	c.requestLen.Observe(float64(n.asked))
	response := &c.responses[n.rcode]
	if *response == nil {
		*response = vars.ResponseRcode.WithLabelValues(c.server, c.zone, "", rcode.ToString(n.rcode), c.plugin)
	}
	(*response).Inc()
}

// typeOf returns the index of a type in counters, and its label: "other" for types without one in plugin/metrics/vars.
func typeOf(qtype uint16) (at int, label string) {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeDNSKEY, dns.TypeDS, dns.TypeMX, dns.TypeNSEC3, dns.TypeNSEC, dns.TypeNS,
		dns.TypePTR, dns.TypeRRSIG, dns.TypeSOA, dns.TypeSRV, dns.TypeTXT, dns.TypeHTTPS, dns.TypeSVCB:
		return int(qtype), dns.TypeToString[qtype]
	case dns.TypeANY:
		return typeANY, "ANY"
	}
	return typeOther, "other"
}
