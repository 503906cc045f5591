package hosts

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
)

// A million lines, for comparable figures.
const million = 1_000_000

func benchLine(b []byte, i int) []byte {
	return fmt.Appendf(b, "10.%d.%d.%d name-%d.example.org\n", i>>16&255, i>>8&255, i&255, i)
}

func benchText(n int) []byte {
	var b []byte
	for i := range n {
		b = benchLine(b, i)
	}
	return b
}

func benchQuestions(n int) (names []string, addrs []netip.Addr) {
	for k := range 1 << 12 {
		i := k * 7919 % n
		names = append(names, fmt.Sprintf("name-%d.example.org.", i))
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	return names, addrs
}

var sizes = []int{100_000, million}

func BenchmarkLookup(b *testing.B) {
	for _, n := range sizes {
		text := benchText(n)
		names, _ := benchQuestions(n)
		run := func(by string, lookup func(name string) int) {
			b.Run(fmt.Sprintf("%d/%s", n, by), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if lookup(names[i%len(names)]) != 1 {
						b.Fatal("not found")
					}
				}
			})
		}
		table := mustParse(b, string(text), Options{})
		run("table", func(name string) int { a, _ := table.Lookup(name); return a.Len4() })
		h := newStock(b, string(text), Options{})
		run("stock", func(name string) int { return len(h.LookupStaticHostV4(name)) })
	}
}

func BenchmarkLookupMiss(b *testing.B) {
	text := benchText(million)
	table := mustParse(b, string(text)+"10.0.0.1 *.other.test\n", Options{})
	h := newStock(b, string(text)+"10.0.0.1 *.other.test\n", Options{})
	var names []string
	for i := range 1 << 12 {
		names = append(names, fmt.Sprintf("svc-%d.default.svc.cluster.local.", i))
	}
	b.Run("table", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, held := answer(table, names[i%len(names)]); held {
				b.Fatal("found")
			}
		}
	})
	b.Run("stock", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			name := names[i%len(names)]
			if len(h.LookupStaticHostV4(name))+len(h.LookupStaticHostV6(name)) > 0 {
				b.Fatal("found")
			}
		}
	})
}

func BenchmarkNames(b *testing.B) {
	for _, n := range sizes {
		text := benchText(n)
		_, addrs := benchQuestions(n)
		table := mustParse(b, string(text), Options{})
		b.Run(fmt.Sprintf("%d/table", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if names := table.Names(addrs[i%len(addrs)]); names.Len() != 1 || names.At(0) == "" {
					b.Fatal("not found")
				}
			}
		})
		h := newStock(b, string(text), Options{})
		texts := make([]string, len(addrs))
		for i, addr := range addrs {
			texts[i] = addr.String()
		}
		b.Run(fmt.Sprintf("%d/stock", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if len(h.LookupStaticAddr(texts[i%len(texts)])) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}

// BenchmarkAbove checks whether there are names below a name, and below a reverse name, where each name has a parent of
// its own and each address is in a network of its own.
func BenchmarkAbove(b *testing.B) {
	var text []byte
	for i := range million {
		text = scatteredLine(text, i)
	}
	table := mustParse(b, string(text), Options{})
	for _, q := range []struct {
		what, format string
		want         bool
	}{
		{"parent", "d-%d.example.org.", true},
		{"miss", "svc-%d.default.svc.cluster.local.", false},
		{"missInZone", "a.b.c.x-%d.example.org.", false},
	} {
		var names []string
		for k := range 1 << 12 {
			names = append(names, fmt.Sprintf(q.format, k*7919%million))
		}
		b.Run(q.what, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if table.NonTerminal(names[i%len(names)]) != q.want {
					b.Fatal(names[i%len(names)])
				}
			}
		})
	}
	for _, bits := range []int{8, 24} {
		var prefixes []netip.Prefix
		for k := range 1 << 12 {
			prefixes = append(prefixes, netip.PrefixFrom(scattered(k*7919%million), bits).Masked())
		}
		b.Run(fmt.Sprintf("reverse%d", bits), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !table.HasNames(prefixes[i%len(prefixes)]) {
					b.Fatal(prefixes[i%len(prefixes)])
				}
			}
		})
	}
}

// scattered returns an address that shares its network with few others.
func scattered(i int) netip.Addr {
	x := uint32(i) * 2654435761
	return netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)})
}

func scatteredLine(b []byte, i int) []byte {
	return fmt.Appendf(b, "%s host.d-%d.example.org\n", scattered(i), i)
}

// BenchmarkParse1M reports, beside the time, how many bytes a name takes in the heap once the file
// is read, and how many were allocated for it.
func BenchmarkParse1M(b *testing.B) {
	shapes := []struct {
		name  string
		names int
		line  func(b []byte, i int) []byte
	}{
		{"oneEach", million, benchLine},
		{"blocklist", million, func(b []byte, i int) []byte { return fmt.Appendf(b, "0.0.0.0 name-%d.example.org\n", i) }},
		{"twoFamilies", million, func(b []byte, i int) []byte {
			b = benchLine(b, i)
			return fmt.Appendf(b, "2001:db8::%x:%x name-%d.example.org\n", i>>16, i&0xffff, i)
		}},
		{"parents", million, func(b []byte, i int) []byte { return fmt.Appendf(b, "0.0.0.0 host.d-%d.example.org\n", i) }},
		{"scattered", million, scatteredLine},
		{"scattered6", million, func(b []byte, i int) []byte {
			ip := scattered(i).As4()
			return fmt.Appendf(b, "2001:db8:%x:%x::1 host.d-%d.example.org\n", int(ip[0])<<8|int(ip[1]), int(ip[2])<<8|int(ip[3]), i)
		}},
		{"aliases", 2 * million, func(b []byte, i int) []byte {
			b = benchLine(b, i)
			return fmt.Appendf(b[:len(b)-1], " name-%d\n", i)
		}},
	}
	for _, s := range shapes {
		var text []byte
		for i := range million {
			text = s.line(text, i)
		}
		b.Run(s.name+"/table", func(b *testing.B) {
			measure(b, s.names, func() any {
				table, err := Parse(bytes.NewReader(text), Options{})
				if err != nil {
					b.Fatal(err)
				}
				return table
			})
		})
		b.Run(s.name+"/stock", func(b *testing.B) {
			in := string(text)
			measure(b, s.names, func() any { return newStock(b, in, Options{}) })
		})
	}
}

func measure(b *testing.B, names int, parse func() any) {
	var before, after runtime.MemStats
	var kept any
	for b.Loop() {
		b.StopTimer()
		kept = nil
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		kept = parse()
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.StartTimer()
	}
	runtime.KeepAlive(kept)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(names), "live-B/name")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(names), "total-B/name")
}
