package hosts

import (
	"context"
	"fmt"
	"io"
	golog "log"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	stock "github.com/coredns/coredns/plugin/hosts"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

func TestMain(m *testing.M) {
	golog.SetOutput(io.Discard) // the stock plugin reports long fields
	os.Exit(m.Run())
}

// newStock runs the setup of the stock plugin on a stanza that has text as its inline lines. They
// reach the plugin as one token, which it parses byte for byte like a file.
func newStock(t testing.TB, text string, o Options) stock.Hosts {
	t.Helper()
	setup, err := caddy.DirectiveAction("dns", "hosts")
	if err != nil {
		t.Fatal(err)
	}
	var tokens []caddyfile.Token
	line := 1
	add := func(words ...string) {
		for _, w := range words {
			tokens = append(tokens, caddyfile.Token{Line: line, Text: w})
		}
		line++
	}
	add(append(append([]string{"hosts", os.DevNull}, o.Origins...), "{")...)
	add("reload", "0s") // no goroutine outlives the test
	if o.NoReverse {
		add("no_reverse")
	}
	add("#\n" + text) // the comment keeps text from being an option's name
	line += 1 + strings.Count(text, "\n")
	add("}")

	c := caddy.NewTestController("dns", "")
	c.Dispenser = caddyfile.NewDispenserTokens("Testfile", tokens)
	c.ServerBlockKeys = []string{"."}
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	return dnsserver.GetConfig(c).Plugin[0](test.NextHandler(dns.RcodeNameError, nil)).(stock.Hosts)
}

// subjects returns the names and addresses that are worth querying for a file.
func subjects(text string) (names []string, addrs []netip.Addr) {
	names = []string{".", "nowhere.test.", "x.nowhere.test."}
	addrs = []netip.Addr{netip.MustParseAddr("192.0.2.255"), netip.MustParseAddr("2001:db8::ffff")}
	for f := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r#", r) }) {
		host, _, _ := strings.Cut(f, "%")
		if addr, err := netip.ParseAddr(host); err == nil {
			addrs = append(addrs, addr)
		}
		name := plugin.Name(f).Normalize()
		names = append(names, name, "x."+name, "x.x."+name)
		if i, end := dns.NextLabel(name, 0); !end {
			names = append(names, name[i:], "x."+name[i:], `x\.x.`+name[i:], "*."+name[i:])
		}
	}
	slices.Sort(names)
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(names), slices.Compact(addrs)
}

// askable reports whether a message can hold a name.
func askable(name string) bool {
	if _, ok := dns.IsDomainName(name); !ok {
		return false
	}
	buf := make([]byte, 2048)
	n, err := dns.PackDomainName(name, buf, 0, nil, false)
	return err == nil && n <= 255
}

func unique[T comparable](list []T) (out []T) {
	seen := make(map[T]bool, len(list))
	for _, v := range list {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

func strings4(a Addresses) (out []string) {
	for i := range a.Len4() {
		out = append(out, netip.AddrFrom4(a.At4(i)).String())
	}
	return out
}

func strings6(a Addresses) (out []string) {
	for i := range a.Len6() {
		out = append(out, netip.AddrFrom16(a.At6(i)).String())
	}
	return out
}

func stockStrings(ips []net.IP) (out []string) {
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return unique(out)
}

func namesOf(n Names) (out []string) {
	for i := range n.Len() {
		out = append(out, n.At(i))
	}
	return out
}

// answer returns the answer for name of a stanza with only this table.
func answer(table *Table, name string) (Addresses, bool) {
	if a, ok := table.Lookup(name); ok {
		return a, true
	}
	return table.LookupWildcard(name)
}

// wanted returns stock's addresses for name, without those that are meant to be missing.
func wanted(table *Table, h stock.Hosts, name string) (want4, want6 []string) {
	want4 = stockStrings(h.LookupStaticHostV4(name))
	want6 = stockStrings(h.LookupStaticHostV6(name))
	if a, exact := table.Lookup(name); exact {
		// Stock uses the addresses of the wildcard for a family that the name lacks.
		w, _ := table.LookupWildcard(name)
		if a.Len4() == 0 && slices.Equal(want4, strings4(w)) {
			want4 = nil
		}
		if a.Len6() == 0 && slices.Equal(want6, strings6(w)) {
			want6 = nil
		}
	}
	return want4, want6
}

// compare looks up every name and address in both, and fails if the results differ by more than intended. Stock gets
// the file with all names in wire form.
func compare(t *testing.T, text string, o Options) *Table {
	t.Helper()
	table, err := Parse(strings.NewReader(text), o)
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		if err != errUTF16 {
			t.Errorf("got error %v, want %v", err, errUTF16)
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	c := canonicalize(text, o)
	o.Origins = normalizeOrigins(o.Origins)
	h := newStock(t, c.text, o)
	names, addrs := subjects(c.text)
	for _, name := range names {
		if !askable(name) {
			continue
		}
		want4, want6 := wanted(table, h, name)
		a, held := answer(table, name)
		if got := strings4(a); !slices.Equal(got, want4) {
			t.Errorf("%q has IPv4 addresses %q, stock has %q", name, got, want4)
		}
		if got := strings6(a); !slices.Equal(got, want6) {
			t.Errorf("%q has IPv6 addresses %q, stock has %q", name, got, want6)
		}
		if want := len(want4)+len(want6) > 0; held != want {
			t.Errorf("%q: found is %v, want %v", name, held, want)
		}
	}
	for _, addr := range addrs {
		want := slices.DeleteFunc(unique(h.LookupStaticAddr(addr.String())), func(name string) bool { return !askable(name) || c.unpointed[name] })
		got := slices.DeleteFunc(namesOf(table.Names(addr)), func(name string) bool { return strings.ContainsAny(name, " #") })
		if !slices.Equal(got, want) {
			t.Errorf("%s has names %q, stock has %q", addr, got, want)
		}
	}
	check(t, table)
	return table
}

// check checks properties of every table.
func check(t *testing.T, table *Table) {
	t.Helper()
	entries := 0
	for off := range table.all {
		name := string(table.name(off))
		a := table.addresses(off)
		checkName(t, table, name)
		if a.Len4()+a.Len6() == 0 {
			t.Errorf("%q has no address", name)
		}
		entries += a.Len4() + a.Len6()
		if got, ok := table.find(name); !ok || got != off {
			t.Errorf("%q is not in the index", name)
		}
		if !table.pointed(off) {
			continue
		}
		entries += reverseOf(t, table, name, a)
	}
	if got := table.Len(); got != entries {
		t.Errorf("Len is %d, there are %d", got, entries)
	}
	for _, report := range []func() ([]Problem, int){table.Problems, table.Warnings} {
		if first, n := report(); len(first) != min(n, maxProblems) {
			t.Errorf("%d problems are stored of %d reported ones", len(first), n)
		}
	}
}

// checkName checks that a question can contain the name of a record, and finds the name and everything above
// it.
func checkName(t *testing.T, table *Table, name string) {
	t.Helper()
	lookup, asked := table.Lookup, name
	if wildcard(name) {
		lookup, asked = table.LookupWildcard, "*"+name
	}
	if _, ok := lookup(asked); !ok {
		t.Errorf("%q is not found", asked)
	}
	if got := wireForm(asked); got != asked {
		t.Errorf("%q is %q in a question", asked, got)
	}
	for i, end := dns.NextLabel(asked, 0); !end; i, end = dns.NextLabel(asked, i) {
		if !table.NonTerminal(asked[i:]) {
			t.Errorf("%q is not above %q", asked[i:], asked)
		}
	}
	if asked != "." && !table.NonTerminal(".") {
		t.Errorf("the root is not above %q", asked)
	}
}

// reverseOf returns the number of its addresses that lead back to name.
func reverseOf(t *testing.T, table *Table, name string, a Addresses) (n int) {
	t.Helper()
	has := func(addr netip.Addr) int {
		names := table.Names(addr)
		if names.Len() > 100 { // to avoid quadratic time
			return 1
		}
		switch list := namesOf(names); {
		case len(list) != len(unique(list)):
			t.Errorf("%s has names %q", addr, list)
		case slices.Contains(list, name):
			return 1
		case table.rev4.used+table.rev6.used > 0:
			t.Errorf("%s has names %q, but not %q", addr, list, name)
		}
		return 0
	}
	for i := range a.Len4() {
		n += has(netip.AddrFrom4(a.At4(i)))
	}
	for i := range a.Len6() {
		n += has(netip.AddrFrom16(a.At6(i)))
	}
	return n
}

func label(n int) string { return strings.Repeat("a", n) }

// ugly are the files, each with the number of its problems.
var ugly = []struct {
	name, text string
	problems   int
}{
	{"empty", "", 0},
	{"no line end", "10.0.0.1 a.test", 0},
	{"one address alone", "10.0.0.1", 0},
	{"one name alone", "a.test\n", 1},
	{"hosts(5)", "127.0.0.1\tlocalhost localhost.localdomain\n::1 localhost ip6-localhost\n# c\n\n10.0.0.1 a.test a\n", 0},
	{"CRLF", "10.0.0.1 a.test\r\n\r\n::2 a.test b.test\r\n# c\r\n10.0.0.2 c.test #c\r\n", 0},
	{"CR alone", "10.0.0.1 a.test\r10.0.0.2 b.test # c\r10.0.0.3 c.test\r\r# d\r", 0},
	{"CR CR LF", "10.0.0.1 a.test\r\r\n10.0.0.2 b.test\r\r\n\r\r\n", 0},
	{"odd white space", "\v10.0.0.1\f\ta.test \v b.test\t\r \n \t\n\u00a010.0.0.2 c.test\n10.0.0.3\u2003d.test\n", 2},
	{"comments", "#10.0.0.1 a.test\n10.0.0.1#a.test\n10.0.0.1 a#b.test c.test\n10.0.0.2 b.test # d.test\n10.0.0.3 #\n##\n10.0.0.4 c.test##x\n", 0},
	{"bad addresses", "123.123.123 a.test\n321.321.321.321 b.test\n010.0.0.1 c.test\n1.2.3.4.5 d.test\n0x7f.1 e.test\n:: f.test\n:::1 g.test\n1.2.3 h.test i.test\n[::1] j.test\n10.0.0.1/8 k.test\n10.0.0.1: l.test\n", 10},
	{"IPv6", "2001:DB8::1 a.test\n2001:db8:0:0:0:0:0:1 b.test\nfe80::1%eth0 c.test\nfe80::1%25lo d.test\nfe80::1% e.test\n%lo f.test\n10.0.0.1%lo g.test\n", 1},
	{"IPv4 within IPv6", "::ffff:10.0.0.1 a.test\n10.0.0.1 a.test b.test\n::10.0.0.1 c.test\n0:0:0:0:0:ffff:a00:2 d.test\n64:ff9b::10.0.0.1 e.test\n", 0},
	{"case", "10.0.0.1 MiXeD.Test\n10.0.0.2 mixed.TEST.\n10.0.0.1 MIXED.test\n", 0},
	{"final dots", "10.0.0.1 a.test.\n10.0.0.2 a.test\n10.0.0.3 a.test..\n10.0.0.4 .\n10.0.0.5 ..\n10.0.0.6 .a.test\n10.0.0.7 a..test\n", 4},
	{"escapes", "10.0.0.1 a\\.b.test\n10.0.0.2 a\\.\n10.0.0.3 a\\\\.\n10.0.0.4 a\\\n10.0.0.5 a\\\\\n10.0.0.6 \\097.test\n10.0.0.7 \\Z.test\n10.0.0.8 \\999.\n10.0.0.9 \\09.test \\0\n10.0.0.10 \\\n10.0.0.11 a\\046b.test a\\046\n10.0.0.12 \\..test \\.\\.\n", 3},
	{"wildcards", "10.0.0.1 *.a.test\n::1 *.a.test\n10.0.0.2 x.a.test\n::3 x.x.a.test\n10.0.0.4 *.*.a.test\n10.0.0.5 \\*.a.test a.*.test *a.test\n10.0.0.6 a.test .\n", 0},
	{"wildcard for one family", "10.0.0.1 *.a.test\n::2 x.a.test\n10.0.0.3 x.b.test\n::4 *.b.test\n", 0},
	{"wildcard of the root", "10.0.0.1 *\n10.0.0.2 *.\n10.0.0.3 .\n10.0.0.4 *.test\n", 2},
	{"wildcard and escapes", "10.0.0.1 *.b.test\n10.0.0.2 *.a\\.b.test\n10.0.0.3 *\\.b.test\n", 0},
	{"wildcard before exact", "10.0.0.1 *.a.test\n10.0.0.2 *.a.test b.a.test\n10.0.0.1 *.a.test\n10.0.0.1 b.a.test\n", 0},
	{"one name, many addresses", "10.0.0.1 a.test\n::1 a.test\n10.0.0.2 a.test\n::2 a.test\n10.0.0.1 a.test\n::2 a.test a.test\n", 0},
	{"one address, many names", "10.0.0.1 a.test b.test\n10.0.0.2 c.test\n10.0.0.1 c.test a.test d.test\n::1 b.test\n::1 a.test c.test\n", 0},
	{"order of names", "10.0.0.1 a.test\n10.0.0.2 b.test\n10.0.0.2 a.test\n::5 a.test\n::5 b.test c.test\n10.0.0.1 b.test d.test c.test\n::6 e.test\n10.0.0.6 e.test f.test\n::6 f.test\n10.0.0.6 a.test\n", 0},
	{"long labels", "10.0.0.1 " + label(63) + ".test " + label(64) + ".test\n", 1},
	{"long names", "10.0.0.1 " + strings.Repeat(label(63)+".", 3) + label(61) + "\n10.0.0.2 " + strings.Repeat(label(63)+".", 3) + label(62) + "\n10.0.0.3 " + strings.Repeat("a.", 127) + "\n10.0.0.4 " + strings.Repeat("a.", 128) + "\n", 2},
	{"longest name", "10.0.0.1 " + strings.Repeat(strings.Repeat(`\001`, 63)+".", 3) + strings.Repeat(`\001`, 61) + " " + strings.Repeat(strings.Repeat(`\001`, 63)+".", 3) + strings.Repeat(`\001`, 62) + "\n", 1},
	{"long fields", "10.0.0.1 a.test " + label(1024) + " b.test " + label(1025) + " c.test\n" + label(1024) + " d.test\n" + label(1025) + " e.test\n10.0.0.2 f.test\n", 4},
	{"long line", "10.0.0.1" + strings.Repeat(" a.test b.test", 20000) + " c.test\n10.0.0.2 d.test\n", 0},
	{"long white space", "10.0.0.1" + strings.Repeat(" ", 200001) + "a.test\n", 0},
	{"long comment", "10.0.0.1 a.test#" + strings.Repeat("x 10.0.0.2", 20000) + "\n10.0.0.3 b.test\n", 0},
	{"long field over pieces", "10.0.0.1 " + label(200000) + " a.test\n" + label(200000) + "\n10.0.0.2 b.test\n", 2},
	{"longest address", "fe80::1%" + label(1016) + " a.test\nfe80::2%" + label(1017) + " b.test\n", 1},
	{"longest address over pieces", strings.Repeat(" ", readSize-500) + "fe80::1%" + label(1016) + " a.test\n", 0},
	{"long address over pieces", strings.Repeat(" ", readSize-500) + "fe80::1%" + label(1017) + " a.test\n", 1},
	{"long problem", "10.0.0.1 " + strings.Repeat("..", 100) + "\n", 1},
	{"control characters", "10.0.0.1 a\x00b.test \x01\n10.0.0.2\x00 c.test\n\x00\n", 3},
	{"beyond ASCII", "10.0.0.1 ÄÖ.test \u212a.test İ.test\n10.0.0.2 \xff\xfe.test é.test É.test\n10.0.0.3 a\u3002test\n", 0},
	{"byte order mark", "\ufeff10.0.0.1 a.test\n\ufeff10.0.0.2 b.test\n\ufeff# c\n\ufeff\n\ufeff 10.0.0.3 c.test\n10.0.0.4\ufeff d.test\n", 1},
	{"signs", "10.0.0.1 bob's-macbook.lan user@host.lan a;b.lan printer(2nd).lan a\"b a$b\n10.0.0.2 Bob\\'s-MacBook.lan user\\064host.lan\n", 0},
	{"octets", "10.0.0.1 tv\\032set.lan \\065.lan a.lan \\000.lan\n10.0.0.2 m\\195\\188ller.lan\n", 0},
	{"internationalized", "10.0.0.1 müller.lan MÜLLER.lan *.bücher.test\n::1 xn--mller-kva.lan m\xfcller.lan\n10.0.0.2 _x.müller.lan ü_x.lan -ü.lan a。b.test\n10.0.0.1 x.bücher.test\n", 0},
	{"internationalized and long", "10.0.0.1 " + strings.Repeat("书", 22) + ".lan " + strings.Repeat("ü", 300) + ".lan\n", 1},
	{"a name in both forms", "10.0.0.1 müller.lan xn--mller-kva.lan\n10.0.0.1 müller.lan\n10.0.0.2 müller.lan\n", 0},
	{"options of a stanza", "reload 5s\ntimeout 3600\n10.0.0.1 a.test\n}\n", 3},
	{"many problems", strings.Repeat("x\n", 30), 30},
}

func TestSameAsStock(t *testing.T) {
	for _, tt := range ugly {
		t.Run(tt.name, func(t *testing.T) {
			table := compare(t, tt.text, Options{})
			if _, n := table.Problems(); n != tt.problems {
				t.Errorf("%d problems, want %d", n, tt.problems)
			}
			compare(t, tt.text, Options{NoReverse: true})
			compare(t, tt.text, Options{Origins: []string{"a.test.", "b.test."}})
			compare(t, tt.text, Options{Origins: []string{`b.test.`, "test."}})
			compare(t, tt.text, Options{Origins: []string{"."}})
		})
	}
}

// TestSameAsStockAtEveryEdge moves the end of the reader's buffer across a line.
func TestSameAsStockAtEveryEdge(t *testing.T) {
	line := "10.0.0.1 a.test bb.test # c\r\n10.0.0.2 c.test\n"
	for i := range len(line) + 1 {
		compare(t, "#"+strings.Repeat("x", readSize-2-i)+"\n"+line, Options{})
		compare(t, strings.Repeat(" ", readSize-i)+line, Options{})
	}
}

func TestSameAsStockAtRandom(t *testing.T) {
	labels := []string{"a", "b", "c", "dd", `e\.e`, "*", "A", ""}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		var b strings.Builder
		for range r.IntN(200) {
			switch addr := r.IntN(40); {
			case addr == 0:
				b.WriteString("bad")
			case addr < 20:
				fmt.Fprintf(&b, "10.0.0.%d", addr)
			default:
				fmt.Fprintf(&b, "2001:db8::%d", addr)
			}
			for range r.IntN(4) {
				fmt.Fprintf(&b, " %s.%s.test", labels[r.IntN(len(labels))], labels[r.IntN(3)])
			}
			b.WriteByte('\n')
		}
		compare(t, b.String(), Options{})
		if t.Failed() {
			t.Fatalf("the file was:\n%s", b.String())
		}
	}
}

// TestSameAnswerAsStock compares with the replies of the stock plugin.
func TestSameAnswerAsStock(t *testing.T) {
	const text = "10.0.0.1 A.test b.test\n10.0.0.2 a.test\n::1 a.test\n10.0.0.3 *.a.test\n::ffff:10.0.0.4 c.test\n"
	table, err := Parse(strings.NewReader(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := newStock(t, text, Options{})
	ask := func(name string, qtype uint16) (rcode int, rdata []string) {
		w := dnstest.NewRecorder(&test.ResponseWriter{})
		rcode, err := h.ServeDNS(context.Background(), w, new(dns.Msg).SetQuestion(name, qtype))
		if err != nil {
			t.Fatal(err)
		}
		if w.Msg != nil {
			for _, rr := range w.Msg.Answer {
				rdata = append(rdata, dns.Field(rr, 1))
			}
		}
		return rcode, rdata
	}
	for _, name := range []string{"a.test.", "b.test.", "c.test.", "x.a.test.", "x.x.a.test.", "x.b.test.", "test."} {
		a, held := answer(table, name)
		rcode, want := ask(name, dns.TypeA)
		if got := strings4(a); !slices.Equal(got, want) || held != (rcode == dns.RcodeSuccess) {
			t.Errorf("%s A: %q, found %v; stock has %q, rcode %d", name, got, held, want, rcode)
		}
		rcode, want = ask(name, dns.TypeAAAA)
		if got := strings6(a); !slices.Equal(got, want) || held != (rcode == dns.RcodeSuccess) {
			t.Errorf("%s AAAA: %q, found %v; stock has %q, rcode %d", name, got, held, want, rcode)
		}
	}
	for _, addr := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "::1", "::2"} {
		reverse, err := dns.ReverseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		_, want := ask(reverse, dns.TypePTR)
		if got := namesOf(table.Names(netip.MustParseAddr(addr))); !slices.Equal(got, want) {
			t.Errorf("%s PTR: %q; stock has %q", addr, got, want)
		}
	}
}
