package hosts

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/coredns/coredns/plugin"

	"github.com/kubehosts/kubehosts/plugin/domain"
	"github.com/kubehosts/kubehosts/plugin/growth"
)

func mustParse(t testing.TB, text string, o Options) *Table {
	t.Helper()
	table, err := Parse(strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestNil(t *testing.T) {
	var table *Table
	if a, held := table.Lookup("a.test."); held || a.Len4()+a.Len6() != 0 {
		t.Error("a nil table has a name")
	}
	if n := table.Names(netip.MustParseAddr("10.0.0.1")).Len(); n != 0 {
		t.Errorf("a nil table has %d names of an address", n)
	}
	if _, held := table.LookupWildcard("a.test."); held {
		t.Error("a nil table has a wildcard")
	}
	if table.NonTerminal(".") {
		t.Error("a nil table has non-terminals")
	}
	if n := table.Len(); n != 0 {
		t.Errorf("a nil table has %d entries", n)
	}
	if p, n := table.Problems(); p != nil || n != 0 {
		t.Errorf("a nil table has %d problems", n)
	}
}

func TestOddQuestions(t *testing.T) {
	for _, text := range []string{"", "10.0.0.1 *.a.test . a.test\n::1 b.test\n"} {
		table := mustParse(t, text, Options{})
		for _, name := range []string{"", "..", "a", "a.test", `\`, `\.`, `a\`, strings.Repeat("a.", 5000)} {
			if _, held := answer(table, name); held {
				t.Errorf("%q is found", name)
			}
		}
		if n := table.Names(netip.Addr{}).Len(); n != 0 {
			t.Errorf("the zero address has %d names", n)
		}
	}
}

func TestNamesOfAddress(t *testing.T) {
	table := mustParse(t, "10.0.0.1 a.test\n::ffff:10.0.0.1 b.test\nfe80::1%eth0 c.test\n", Options{})
	for addr, want := range map[string][]string{
		"10.0.0.1":             {"a.test.", "b.test."},
		"::ffff:10.0.0.1":      {"a.test.", "b.test."},
		"::ffff:10.0.0.1%eth0": {"a.test.", "b.test."},
		"fe80::1":              {"c.test."},
		"fe80::1%eth1":         {"c.test."},
		"::a00:1":              nil,
	} {
		if got := namesOf(table.Names(netip.MustParseAddr(addr))); !slices.Equal(got, want) {
			t.Errorf("%s has names %q, want %q", addr, got, want)
		}
	}
}

func TestLen(t *testing.T) {
	const text = "10.0.0.1 a.test b.test\n10.0.0.1 a.test\n::1 a.test *.a.test\n10.0.0.2 *.a.test x.other\n"
	for _, tt := range []struct {
		o    Options
		want int
	}{
		{Options{}, 10},
		{Options{NoReverse: true}, 6},
		{Options{Origins: []string{"test."}}, 8},
		{Options{Origins: []string{"test.", "other."}}, 10},
		{Options{Origins: []string{"est."}}, 0},
	} {
		if got := mustParse(t, text, tt.o).Len(); got != tt.want {
			t.Errorf("%+v: Len is %d, want %d", tt.o, got, tt.want)
		}
	}
}

func TestProblems(t *testing.T) {
	const text = "# c\n10.0.0 a.test\n\n10.0.0.1 a..test b.test\r\n10.0.0.2 a\\ *\n"
	problems, n := mustParse(t, text+strings.Repeat("\nbad", 20), Options{}).Problems()
	if n != 24 || len(problems) != maxProblems {
		t.Fatalf("%d problems of %d", len(problems), n)
	}
	want := []Problem{
		{2, `"10.0.0" is not an IP address; line left out`},
		{4, `"a..test" is not a domain name: it has an empty label; left out`},
		{5, `"a\\" is not a domain name: nothing follows the backslash; left out`},
		{5, `"*" is a wildcard without a domain and matches nothing; left out`},
		{7, `"bad" is not an IP address; line left out`},
	}
	if got := problems[:len(want)]; !slices.Equal(got, want) {
		t.Errorf("the problems are\n%+v, want\n%+v", got, want)
	}

	problems, _ = mustParse(t, strings.Repeat("b", 1000)+" a.test\n", Options{}).Problems()
	if n := len(problems[0].Reason); n > 150 {
		t.Errorf("a reason is %d bytes long: %s", n, problems[0].Reason)
	}
}

// Names that are served but may be mistakes.
func TestWarnings(t *testing.T) {
	const text = "10.0.0.1 a*.test *a.test a.*.test *.*.test *.test a\\042.test\n\n10.0.0.2 ü_.test m\xfcller.test ü.*.test\n10.0.0.3 m\\252ller.test *\n"
	const star = ` has a "*" that is not its whole first label, so it is not a wildcard; served as written`
	const octets = " is not a valid internationalized name; served only as its octets"
	table := mustParse(t, text, Options{})
	want := []Problem{
		{1, `"a*.test"` + star},
		{1, `"*a.test"` + star},
		{1, `"a.*.test"` + star},
		{1, `"*.*.test"` + star},
		{1, `"a\\042.test"` + star},
		{3, `"ü_.test"` + octets},
		{3, `"m\xfcller.test"` + octets},
		{3, `"ü.*.test"` + star},
		{4, `"m\\252ller.test"` + octets},
	}
	if got, n := table.Warnings(); !slices.Equal(got, want) || n != len(want) {
		t.Errorf("%d warnings:\n%+v, want\n%+v", n, got, want)
	}
	if problems, n := table.Problems(); n != 1 || problems[0].Line != 4 {
		t.Errorf("the problems are %+v", problems)
	}
	for _, name := range []string{"a*.test.", "*a.test.", "a.*.test.", `\195\188_.test.`, `m\252ller.test.`, "xn--tda.*.test."} {
		if _, ok := table.Lookup(name); !ok {
			t.Errorf("%s is not served", name)
		}
	}
	if problems, n := mustParse(t, text, Options{Origins: []string{"other."}}).Warnings(); n != 3 {
		t.Errorf("the warnings of names in no zone are %+v", problems)
	}
}

// A name is found by its form in questions, whatever its octets.
func TestNamesInWireForm(t *testing.T) {
	for _, tt := range []struct{ field, asked, pointer string }{
		{"bob's-macbook.lan", `bob\'s-macbook.lan.`, ""},
		{`Bob\'s-MacBook.LAN`, `bob\'s-macbook.lan.`, ""},
		{"user@host.lan", `user\@host.lan.`, ""},
		{"a;b.lan", `a\;b.lan.`, ""},
		{"printer(2nd).lan", `printer\(2nd\).lan.`, ""},
		{`a"b`, `a\"b.`, ""},
		{"a$b", "a$b.", ""},
		{`tv\032set.lan`, `tv\ set.lan.`, ""},
		{`a\046b.lan`, `a\.b.lan.`, ""},
		{`a\035b.lan`, "a#b.lan.", ""},
		{`\097\066.lan`, "ab.lan.", ""},
		{"del\x7f.lan", `del\127.lan.`, ""},
		{"m\xfcller.lan", `m\252ller.lan.`, ""},
		{`m\252ller.lan`, `m\252ller.lan.`, ""},
		{"müller.lan", `m\195\188ller.lan.`, "xn--mller-kva.lan."},
		{"müller.lan", "xn--mller-kva.lan.", ""},
		{`m\195\188ller.lan`, "xn--mller-kva.lan.", ""},
		{"MÜLLER.lan", `m\195\156ller.lan.`, "xn--mller-kva.lan."},
		{"_http.müller.lan", "_http.xn--mller-kva.lan.", ""},
		{"例え。テスト", "xn--r8jz45g.xn--zckzah.", ""},
		{strings.Repeat("书", 22) + ".lan", "xn--1jq" + strings.Repeat("a", 21) + ".lan.", ""},
	} {
		for _, wildcard := range []string{"", "*."} {
			table := mustParse(t, "192.0.2.1 "+wildcard+tt.field+"\n", Options{})
			asked := tt.asked
			if wildcard != "" {
				asked = "x." + asked
			}
			if _, ok := answer(table, asked); !ok {
				t.Errorf("%q: %s is not found", wildcard+tt.field, asked)
			}
			if problems, n := table.Problems(); n > 0 {
				t.Errorf("%q: %+v", tt.field, problems)
			}
			if wildcard != "" {
				continue
			}
			want := tt.pointer
			if want == "" {
				want = tt.asked
			}
			if got := namesOf(table.Names(netip.MustParseAddr("192.0.2.1"))); !slices.Equal(got, []string{want}) {
				t.Errorf("%q: the address has names %q, want %q", tt.field, got, want)
			}
		}
	}
}

// Zones are also compared with names in wire form.
func TestOriginsInWireForm(t *testing.T) {
	const text = "192.0.2.1 a.bob's.lan a.müller.lan\n"
	one := netip.MustParseAddr("192.0.2.1")
	for zone, want := range map[string]string{
		"bob's.lan.":             `a.bob\'s.lan.`,
		`bob\039s.lan.`:          `a.bob\'s.lan.`,
		"xn--mller-kva.lan.":     "a.xn--mller-kva.lan.",
		"müller.lan.":            `a.m\195\188ller.lan.`,
		`m\195\188ller.lan.`:     `a.m\195\188ller.lan.`,
		"..":                     "",
		strings.Repeat("a", 300): "",
	} {
		table := mustParse(t, text, Options{Origins: []string{zone}})
		var got string
		if names := table.Names(one); names.Len() == 1 {
			got = names.At(0)
		}
		if _, ok := table.Lookup(got); got != want || ok != (want != "") {
			t.Errorf("in zone %q the name is %q, want %q", zone, got, want)
		}
		if n := table.names.used; want == "" && n > 0 {
			t.Errorf("in zone %q there are %d names", zone, n)
		}
	}
}

// Lines are counted as in editors, whatever ends them.
func TestLines(t *testing.T) {
	for _, tt := range []struct {
		what, text string
		bad        int // the line of the problem
	}{
		{"LF", "#\n10.0.0.1 a.test\n\nbad\n10.0.0.2 b.test\n", 4},
		{"CRLF", "#\r\n10.0.0.1 a.test\r\n\r\nbad\r\n10.0.0.2 b.test\r\n", 4},
		{"CR", "#\r10.0.0.1 a.test\r\rbad\r10.0.0.2 b.test\r", 4},
		{"CR CR LF", "#\r\r\n10.0.0.1 a.test\r\r\n\r\r\nbad\r\r\n10.0.0.2 b.test\r\r\n", 4},
		{"a mix", "#\r10.0.0.1 a.test\n\r\nbad\r10.0.0.2 b.test", 4},
		{"a comment that CR ends", "# c\r10.0.0.1 a.test # c\rbad # c\r\n10.0.0.2 b.test", 3},
		{"a mark before the first line", "\ufeff10.0.0.1 a.test\nbad\n10.0.0.2 b.test\n", 2},
		{"a mark before a comment", "\ufeff# c\n10.0.0.1 a.test\nbad\n10.0.0.2 b.test\n", 3},
		{"a mark where files were joined", "10.0.0.1 a.test\n\ufeff10.0.0.2 b.test\nbad\n", 3},
	} {
		for _, r := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
			table, err := Parse(r, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"a.test.", "b.test."} {
				if a, _ := table.Lookup(name); a.Len4() != 1 {
					t.Errorf("%s: %s has %d addresses", tt.what, name, a.Len4())
				}
			}
			if problems, n := table.Problems(); n != 1 || problems[0].Line != tt.bad {
				t.Errorf("%s: the problems are %+v, want one in line %d", tt.what, problems, tt.bad)
			}
		}
	}
}

// A file in UTF-16 is refused as a whole.
func TestUTF16(t *testing.T) {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		for _, rest := range []string{"", "1\x000\x00.\x000\x00"} {
			if table, err := Parse(strings.NewReader(mark+rest), Options{}); table != nil || err != errUTF16 {
				t.Errorf("%q: table %v, error %v", mark+rest, table, err)
			}
		}
	}
	for _, text := range []string{"\xff", "\xef", "\xfe"} {
		if _, n := mustParse(t, text, Options{}).Problems(); n != 1 {
			t.Errorf("%q: %d problems", text, n)
		}
	}
}

func TestReadError(t *testing.T) {
	boom := errors.New("boom")
	r := io.MultiReader(strings.NewReader("10.0.0.1 a.test\n10.0.0.2 b.te"), iotest.ErrReader(boom))
	table, err := Parse(r, Options{})
	if table != nil || !errors.Is(err, boom) {
		t.Errorf("got table %v, error %v", table, err)
	}
	// A reader that never returns anything must not block forever.
	if _, err := Parse(silent{}, Options{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got error %v", err)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestSlowReader(t *testing.T) {
	const text = "10.0.0.1 a.test b.test#c\r\n\n::1 a.test"
	table, err := Parse(iotest.OneByteReader(strings.NewReader(text)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := table.Lookup("a.test.")
	if got := slices.Concat(strings4(a), strings6(a)); !slices.Equal(got, []string{"10.0.0.1", "::1"}) {
		t.Errorf("a.test. has addresses %q", got)
	}
}

func TestLimits(t *testing.T) {
	const text = "10.0.0.1 a.test\n10.0.0.2 a.test\n10.0.0.3 a.test\n10.0.0.3 a.test\n"
	for _, tt := range []struct {
		max  limits
		want string
	}{
		{limits{size: len(text), more: 2}, ""},
		{limits{size: len(text) - 1, more: 2}, "line 4: " + errTooLong.Error()},
		{limits{size: len(text), more: 1}, "line 3: " + errTooLarge.Error()},
	} {
		table, err := parse(strings.NewReader(text), Options{}, tt.max)
		if (table == nil) != (err != nil) || fmt.Sprint(err) != tt.want && tt.want != "" {
			t.Errorf("%+v: table %v, error %v, want %q", tt.max, table != nil, err, tt.want)
		}
	}

	full := store{blocks: make([][]byte, maxBlocks)}
	full.blocks[maxBlocks-1] = make([]byte, blockSize-10, blockSize)
	if off, ok := full.add(0, []byte("a.bc"), []byte{10, 0, 0, 1}); !ok || off != isGroup-10 {
		t.Errorf("the last record is at %#x, %v", off, ok)
	}
	if _, ok := full.add(0, []byte("a."), []byte{10, 0, 0, 1}); ok {
		t.Error("a full store takes a record")
	}
}

func TestNoAllocations(t *testing.T) {
	table := mustParse(t, "10.0.0.1 a.test b.test\n::1 a.test\n10.0.0.2 c.test\n::2 *.d.test\n", Options{})
	alone, shared := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1")
	six, net := netip.MustParseAddr("::1"), netip.MustParsePrefix("10.0.0.0/24")
	seen := 0
	n := growth.Allocations(100, 0, func() {
		for _, name := range []string{"a.test.", "x.d.test.", "none.test."} {
			a, _ := answer(table, name)
			if table.NonTerminal(name) || table.HasNames(net) {
				seen++
			}
			for i := range a.Len4() {
				seen += int(a.At4(i)[3])
			}
			for i := range a.Len6() {
				seen += int(a.At6(i)[15])
			}
		}
		for _, addr := range []netip.Addr{alone, shared, six} {
			names := table.Names(addr)
			for i := range names.Len() {
				seen += len(names.At(i))
			}
		}
	})
	if n != 0 || seen == 0 {
		t.Errorf("%v allocations", n)
	}
}

// Four times as many lines take four times the work, or a little more, whatever they share, and so do the names of one
// line.
func TestWorkGrowsWithTheLines(t *testing.T) {
	lines := func(n int, line func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(line(i))
		}
		return b.String()
	}
	addr := func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255) }
	for what, text := range map[string]func(n int) string{
		"of their own": func(n int) string {
			return lines(n, func(i int) string { return fmt.Sprintf("%s h%d.test\n", addr(i), i) })
		},
		"of one name": func(n int) string { return lines(n, func(i int) string { return addr(i) + " a.test\n" }) },
		"of one address": func(n int) string {
			return lines(n, func(i int) string { return fmt.Sprintf("10.0.0.1 h%d.test\n", i) })
		},
		"that are all the same": func(n int) string { return strings.Repeat("10.0.0.1 a.test\n", n) },
		"of wildcards": func(n int) string {
			return lines(n, func(i int) string { return fmt.Sprintf("%s *.h%d.test\n", addr(i), i) })
		},
		"below one another": func(n int) string {
			return lines(n, func(i int) string { return addr(i) + " " + strings.Repeat("a.", 1+i%100) + "test\n" })
		},
		"that can't be used": func(n int) string {
			return lines(n, func(i int) string { return fmt.Sprintf("10.0.0.%d..1 a.test\n", i) })
		},
		"names of one line": func(n int) string {
			return "10.0.0.1" + lines(n, func(i int) string { return fmt.Sprintf(" h%d.test", i) }) + "\n"
		},
	} {
		t.Run(what, func(t *testing.T) {
			growth.Linear(t, 2000, func(n int) []growth.Work {
				text := text(n)
				var table *Table
				parse := growth.Of(func() { table = mustParse(t, text, Options{}) })
				return []growth.Work{parse, growth.Of(func() {
					for range table.All {
					}
				})}
			})
		})
	}
}

func TestManyReaders(t *testing.T) {
	table := mustParse(t, "10.0.0.1 a.test b.test\n10.0.0.2 a.test\n", Options{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				a, _ := table.Lookup("a.test.")
				n := table.Names(netip.AddrFrom4(a.At4(0)))
				if a.Len4() != 2 || n.Len() != 2 || n.At(1) != "b.test." {
					t.Error("a reader got something else")
					return
				}
			}
		})
	}
	wg.Wait()
}

// lines returns a reader of n lines.
func lines(n int, line func(b []byte, i int) []byte) io.Reader {
	next := 0
	var rest []byte
	return reader(func(p []byte) (int, error) {
		for len(rest) < len(p) && next < n {
			rest = line(rest, next)
			next++
		}
		if len(rest) == 0 {
			return 0, io.EOF
		}
		k := copy(p, rest)
		rest = rest[:copy(rest, rest[k:])]
		return k, nil
	})
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// TestLopsided has files with which this test would never end if a table took quadratic time
// anywhere.
func TestLopsided(t *testing.T) {
	const n = 300_000
	one := netip.MustParseAddr("10.0.0.1")
	for _, tt := range []struct {
		name    string
		line    func(b []byte, i int) []byte
		entries int
		check   func(t *Table) bool
	}{
		{"one address", func(b []byte, i int) []byte { return fmt.Appendf(b, "10.0.0.1 n%d.test\n", i) }, 2 * n,
			func(t *Table) bool {
				names := t.Names(one)
				return names.Len() == n && names.At(n-1) == fmt.Sprintf("n%d.test.", n-1) && len(t.rev4.tags) < 10
			}},
		{"one name", func(b []byte, i int) []byte {
			return fmt.Appendf(b, "10.%d.%d.%d a.test\n", i>>16, i>>8&255, i&255)
		}, 2 * n, func(t *Table) bool {
			a, _ := t.Lookup("a.test.")
			last := n - 1
			return a.Len4() == n && a.At4(n-1) == [4]byte{10, byte(last >> 16), byte(last >> 8), byte(last)} &&
				t.Names(one).Len() == 1
		}},
		{"one line", func(b []byte, i int) []byte {
			if i == 0 {
				b = append(b, "10.0.0.1"...)
			}
			return fmt.Appendf(b, " n%d.test", i)
		}, 2 * n, func(t *Table) bool { return t.Names(one).Len() == n }},
		{"the same line", func(b []byte, i int) []byte { return append(b, "10.0.0.1 a.test\n"...) }, 2,
			func(t *Table) bool { return t.Names(one).Len() == 1 }},
		{"the same two lines", func(b []byte, i int) []byte { return append(b, "10.0.0.1 a.test\n::1 a.test\n"...) }, 4,
			func(t *Table) bool { return t.Names(one).Len() == 1 }},
		{"wildcards", func(b []byte, i int) []byte { return fmt.Appendf(b, "10.0.0.1 *.n%d.test\n", i) }, n,
			func(t *Table) bool {
				_, held := t.LookupWildcard("x.n7.test.")
				return held && t.Names(one).Len() == 0
			}},
		{"two families", func(b []byte, i int) []byte {
			return fmt.Appendf(b, "10.%d.%d.%d n%d.test\n2001:db8::%x:%x n%d.test\n", i>>16, i>>8&255, i&255, i, i>>16, i&0xffff, i)
		}, 4 * n, func(t *Table) bool {
			a, _ := t.Lookup("n70000.test.")
			names := t.Names(netip.MustParseAddr("2001:db8::1:1170"))
			return a.Len4() == 1 && a.Len6() == 1 && names.Len() == 1 && names.At(0) == "n70000.test."
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table, err := Parse(lines(n, tt.line), Options{})
			if err != nil {
				t.Fatal(err)
			}
			check(t, table)
			if got := table.Len(); got != tt.entries {
				t.Errorf("Len is %d, want %d", got, tt.entries)
			}
			if !tt.check(table) {
				t.Error("the last line is not answered")
			}
		})
	}
}

// TestNormalize compares with the form of a name after it was in a message.
func TestNormalize(t *testing.T) {
	fields := []string{
		".", "a", "a.", "A.b", "a..b", ".a", "..", `a\.`, `a\..`, `a\\`, `a\\.`, `a\`, `\`, `\\`, `\.`, `\..`, `a\1`, `a\12`, `a\123`,
		`\1234.a`, label(63), label(64), label(62) + `\.`, label(63) + `\.`, strings.Repeat(`\000`, 63), strings.Repeat(`\000`, 64),
		"É", "\xff", "*.a", "*", "a b", "\x00", `\255`, `\256`, `\999.a`, `\\999.a`, `\065.\Z`, `\*.a`, `\`, `a\`, `bob's-macbook.lan`,
		"user@host.lan", "a;b.lan", "printer(2nd).lan", `a"b`, "a$b", `tv\032set.lan`, "müller.lan", "MÜLLER.lan",
		strings.Repeat(`\001`, 63) + "." + strings.Repeat(strings.Repeat(`\002`, 63)+".", 2) + strings.Repeat(`\003`, 61),
		strings.Repeat(`\001`, 63) + "." + strings.Repeat(strings.Repeat(`\002`, 63)+".", 2) + strings.Repeat(`\003`, 62),
	}
	for c := range 256 {
		if c != 0 && c != '.' && c != '\\' {
			fields = append(fields, "x"+string([]byte{byte(c)})+".test")
		}
		fields = append(fields, fmt.Sprintf(`x\%03d.test`, c))
	}
	for _, field := range fields {
		name, wide, fault := domain.Normalize(nil, []byte(field))
		want := wireForm(field)
		if field == "\x00" {
			want = "" // the octet is valid in a question, but no text has it
		}
		if fault != "" {
			name = nil
		}
		if string(name) != want {
			t.Errorf("%q becomes %q, %q, but in a question %q", field, name, fault, want)
		}
		if got := strings.IndexFunc(unescapeOctets(field), func(r rune) bool { return r >= 0x80 }) >= 0; got != wide && want != "" {
			t.Errorf("%q: wide is %v", field, wide)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, name := range []string{"a.test.", "test.", ".", "b.a.test.", "atest.", `\.test.`, `a\.test.`, `a\\.test.`, `a\\\.test.`, "a.b."} {
		for _, zone := range []string{".", "test.", "a.test.", `\.test.`, `a\.test.`, "b."} {
			want := plugin.Zones{zone}.Contains(name)
			if got := within([]string{zone}, []byte(name)); got != want {
				t.Errorf("%q in %q: %v, in stock %v", name, zone, got, want)
			}
		}
	}
}

// Parsing a long file pauses at every stage of the work, and makes the same table.
func TestPause(t *testing.T) {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "10.0.%d.%d host-%d.test alias-%d.test\n", i>>8&255, i&255, i, i)
	}
	pauses := 0
	got := mustParse(t, b.String(), Options{Pause: func() { pauses++ }})
	const names, stages = 20_000, 3 // each name is read, added to the index, and added to the index by address
	if want := stages * names / 256; pauses < want {
		t.Errorf("%d pauses, want %d or more", pauses, want)
	}
	want := mustParse(t, b.String(), Options{})
	for i := range 10_000 {
		name := fmt.Sprintf("alias-%d.test.", i)
		a, _ := got.Lookup(name)
		b, _ := want.Lookup(name)
		if a.Len4() != 1 || a.At4(0) != b.At4(0) {
			t.Fatalf("%s: %v, want %v", name, a, b)
		}
	}
	if got.Len() != want.Len() {
		t.Errorf("%d entries, want %d", got.Len(), want.Len())
	}
}
