package hosts

import (
	"bytes"
	"io"
	"regexp"
	"testing"
	"testing/iotest"

	"github.com/coredns/coredns/plugin"
)

// misread are fields that end in an escaped dot behind a letter beyond ASCII, which stock takes for the end of the name:
// dns.IsFqdn, counting backslashes, counts the letter as one byte.
var misread = regexp.MustCompile(`[\x80-\x{10ffff}]\\+\.([\s\v#]|$)`)

// FuzzParse compares with the stock plugin, for each of the options, and a file
// read at once with the same file read in pieces.
func FuzzParse(f *testing.F) {
	for _, u := range ugly {
		if len(u.text) < 10_000 {
			f.Add([]byte(u.text), uint8(0))
			f.Add([]byte(u.text), uint8(5))
		}
	}
	origins := [][]string{nil, {"."}, {"test."}, {"a.test.", `a\.b.test.`}}
	f.Fuzz(func(t *testing.T, text []byte, options uint8) {
		if misread.Match(text) {
			return
		}
		o := Options{Origins: origins[options>>1%4], NoReverse: options&1 == 1}
		table := compare(t, string(text), o)

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
			!bytes.Equal(table.lists, again.lists) || table.bad != again.bad {
			t.Error("the file read in pieces makes another table")
		}
	})
}

// FuzzLookup asks for any name. A table must answer all but not know them.
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
			t.Errorf("%q: held is %v of %d addresses", name, held, a.Len4()+a.Len6())
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
