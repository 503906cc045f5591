package answer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/growth"
	"github.com/kubehosts/kubehosts/plugin/hosts"
)

// ofFiles returns a View of n hosts files of ten names each, and the tables of the files.
func ofFiles(t testing.TB, n int) (*View, []*hosts.Table) {
	t.Helper()
	files := make([]*hosts.Table, n)
	for i := range files {
		var text strings.Builder
		fmt.Fprintf(&text, "192.0.2.%d *.wild-%d.test\n", i&255, i)
		for j := range 9 {
			fmt.Fprintf(&text, "10.%d.%d.%d host-%d.file-%d.test\n", i>>8, i&255, j, j, i)
		}
		var err error
		if files[i], err = hosts.Parse(strings.NewReader(text.String()), hosts.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	return New(&View{
		Zones: []Zone{{Name: "cluster.local."}, {Name: "test."}, {Name: "in-addr.arpa.", Reverse: true}}, Pointed: ".svc.cluster.local.",
		Index: whyIndex(), Hosts: []Layer{{Tables: NewTables(files...)}},
	}), files
}

// ofFilesAsked are questions of every sort for a View of n files, with the rcodes and kinds of their answers.
func ofFilesAsked(n int) []struct {
	what, name string
	qtype      uint16
	rcode      int
	kind       Kind
} {
	last := n - 1
	return []struct {
		what, name string
		qtype      uint16
		rcode      int
		kind       Kind
	}{
		{"entry", fmt.Sprintf("host-3.file-%d.test.", last), dns.TypeA, dns.RcodeSuccess, Addresses},
		{"wildcard", fmt.Sprintf("any.wild-%d.test.", last), dns.TypeA, dns.RcodeSuccess, Addresses},
		{"pointer", fmt.Sprintf("3.%d.%d.10.in-addr.arpa.", last&255, last>>8), dns.TypePTR, dns.RcodeSuccess, Pointers},
		{"above", fmt.Sprintf("file-%d.test.", last), dns.TypeA, dns.RcodeSuccess, None},
		{"aboveReverse", fmt.Sprintf("%d.%d.10.in-addr.arpa.", last&255, last>>8), dns.TypeA, dns.RcodeSuccess, None},
		{"missing", "missing.test.", dns.TypeA, dns.RcodeNameError, None},
		{"missingReverse", "9.9.9.11.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, None},
		{"service", "web.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, Addresses},
		{"elsewhere", "www.example.org.", dns.TypeA, dns.RcodeSuccess, None},
	}
}

// A question goes through few tables and allocates nothing, whatever the number of files is.
func TestManyFiles(t *testing.T) {
	const n = 2000
	v, files := ofFiles(t, n)
	if tables := v.Hosts[0].Tables.few(); len(tables) > 4 {
		t.Errorf("a look-up goes through %d tables", len(tables))
	}
	for _, q := range ofFilesAsked(n) {
		question := NewQuestion(q.name, q.qtype, dns.ClassINET)
		a := v.Answer(question)
		if a.Rcode != q.rcode || a.Kind != q.kind || (q.what == "elsewhere") != (a.Outcome == NotOurs) {
			t.Errorf("%s: outcome %d, rcode %d, kind %d", q.name, a.Outcome, a.Rcode, a.Kind)
		}
		if allocs := growth.Allocations(10, 0, func() { _ = v.Answer(question) }); allocs > 0 {
			t.Errorf("%s: %v allocations", q.name, allocs)
		}
	}
	for _, q := range ofFilesAsked(n)[:3] {
		a := v.Answer(NewQuestion(q.name, q.qtype, dns.ClassINET))
		var held []*hosts.Table
		for _, table := range a.Held {
			held = append(held, table)
		}
		if !slices.Equal(held, files[n-1:]) {
			t.Errorf("%s: found in %d files, and not just in the one that has it", q.name, len(held))
		}
	}
}

func BenchmarkFiles(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		v, _ := ofFiles(b, n)
		for _, q := range ofFilesAsked(n) {
			question := NewQuestion(q.name, q.qtype, dns.ClassINET)
			b.Run(fmt.Sprintf("%d/%s", n, q.what), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if a := v.Answer(question); a.Kind != q.kind {
						b.Fatal(q.name)
					}
				}
			})
		}
	}
}

// BenchmarkFileChanges replaces the table of one file among many.
func BenchmarkFileChanges(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		v, files := ofFiles(b, n)
		_, other := ofFiles(b, 1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				next := slices.Clone(files)
				if i%2 == 0 {
					next[n/2] = other[0]
				}
				v.Hosts[0].Tables.Set(next, nil)
			}
		})
	}
}
