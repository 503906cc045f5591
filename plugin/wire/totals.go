package wire

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Totals are this process's counts for UDP.
type Totals struct {
	Addresses []string // addresses that are answered here, in the form of dnsserver.Server, sorted
	Answered  uint64   // questions answered here
	PassedOn  uint64   // packets passed on to CoreDNS's own server
}

// Now returns the current totals.
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
