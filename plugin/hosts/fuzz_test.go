package hosts

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/coredns/coredns/plugin"
)

// FuzzParse compares with the stock plugin, for each of the options, and compares a file read at
// once with the same file read in pieces.
func FuzzParse(f *testing.F) {
	for _, u := range ugly {
		if len(u.text) < 10_000 {
			f.Add([]byte(u.text), uint8(0))
			f.Add([]byte(u.text), uint8(5))
		}
	}
	origins := [][]string{nil, {"."}, {"test."}, {"a.test.", `a\.b.test.`, "m\xc3\xbcller.", "xn--mller-kva."}}
	f.Fuzz(func(t *testing.T, text []byte, options uint8) {
		o := Options{Origins: origins[options>>1%4], NoReverse: options&1 == 1}
		table := compare(t, string(text), o)
		if table == nil {
			return
		}

		var r io.Reader = bytes.NewReader(text)
		if options&8 != 0 {
			r = iotest.HalfReader(r)
		} else {
			r = iotest.DataErrReader(r)
		}
		again, err := Parse(r, o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.Join(table.blocks, nil), bytes.Join(again.blocks, nil)) ||
			!bytes.Equal(table.lists, again.lists) || table.problems.n != again.problems.n || table.warnings.n != again.warnings.n {
			t.Error("the file read in pieces makes another table")
		}
	})
}

// FuzzLookup looks up any name. A table must cope with every name, even if it has none of them.
func FuzzLookup(f *testing.F) {
	table, err := Parse(bytes.NewReader([]byte("10.0.0.1 a.test\n::1 *.a.test *.test\n10.0.0.2 .\n")), Options{})
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"a.test.", "x.a.test.", ".", "", `\`, `\.`, "a.", ".a.test."} {
		f.Add(name)
	}
	h := newStock(f, "10.0.0.1 a.test\n::1 *.a.test *.test\n10.0.0.2 .\n", Options{})
	f.Fuzz(func(t *testing.T, name string) {
		a, held := answer(table, name)
		if held != (a.Len4()+a.Len6() > 0) {
			t.Errorf("%q: found is %v with %d addresses", name, held, a.Len4()+a.Len6())
		}
		name = plugin.Name(name).Normalize()
		if !askable(name) {
			return
		}
		table.NonTerminal(name)
		a, _ = answer(table, name)
		want4, want6 := wanted(table, h, name)
		if want := len(want4) + len(want6); a.Len4()+a.Len6() != want {
			t.Errorf("%q has %d addresses, stock has %d", name, a.Len4()+a.Len6(), want)
		}
	})
}
