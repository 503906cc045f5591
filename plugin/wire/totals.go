package wire

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Totals are what this process has done over UDP.
type Totals struct {
	Addresses []string // that questions are answered on, as dnsserver.Server has them, sorted
	Answered  uint64   // questions that were answered here
	PassedOn  uint64   // packets that CoreDNS's own server was handed
}

// Now returns what was done until now.
func Now() Totals {
	t := Totals{Addresses: addresses(), Answered: counted(answersTotal)}
	for _, c := range passedOn[notPlain:] {
		t.PassedOn += counted(c)
	}
	return t
}

func counted(c prometheus.Counter) uint64 {
	var m dto.Metric
	if c.Write(&m) != nil {
		return 0
	}
	return uint64(m.GetCounter().GetValue())
}
