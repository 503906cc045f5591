package domain

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// question returns the name of a question, as the DNS library has it, with these labels.
func question(t testing.TB, labels ...string) string {
	t.Helper()
	var wire []byte
	for _, label := range labels {
		wire = append(append(wire, byte(len(label))), label...)
	}
	name, _, err := dns.UnpackDomainName(append(wire, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	return lower(name)
}

// lower is strings.ToLower for the form of the DNS library, which has no character outside ASCII.
func lower(name string) string { return strings.ToLower(name) }

// However the octets of a label are written, the name is that of a question with them.
func TestParseIsTheNameOfAQuestion(t *testing.T) {
	check := func(text, want string, wide bool) {
		t.Helper()
		name, isWide, err := Parse(text)
		if err != nil || name != want || isWide != wide {
			t.Errorf("%q is %q, %v, %v, but in a question %q", text, name, isWide, err, want)
		}
		if again, _, err := Parse(name); err != nil || again != name {
			t.Errorf("%q is %q, which is %q, %v", text, name, again, err)
		}
	}
	decimal := func(label string) string {
		var b strings.Builder
		for _, c := range []byte(label) {
			b.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
		}
		return b.String()
	}
	r := rand.New(rand.NewPCG(20, 20))
	for i := range 2000 {
		label := make([]byte, 1+r.IntN(63))
		for j := range label {
			label[j] = byte(r.IntN(256))
		}
		if i < 256 {
			label = []byte{byte(i)}
		}
		wide := strings.ContainsFunc(string(label), func(c rune) bool { return c >= 0x80 })
		want := question(t, string(label), "Example", "org")
		check(decimal(string(label))+".EXAMPLE.org", want, wide)
		check(want, want, wide)
		raw := string(label)
		if !strings.ContainsAny(raw, ".\\") && !strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			check(raw+".example.org.", want, wide)
		}
		if raw[0] > ' ' && raw[0] < 0x7f && (raw[0] < '0' || raw[0] > '9') {
			check(`\`+raw[:1]+".example.org", question(t, raw[:1], "example", "org"), false)
		}
	}
	check(".", ".", false)
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"": "empty", "..": "empty label", "a..b": "empty label", ".a": "empty label", "a b.example": "space", "a\tb": "space", "a\nb": "control", "\x00": "control",
		`a\`: "backslash", `\256.a`: "over 255", strings.Repeat("x", 64): "63 octets", strings.Repeat("é", 32): "63 octets",
		strings.Repeat(strings.Repeat("x", 63)+".", 4): "255 octets",
	} {
		if name, _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %q, %v, want an error about %q", text, name, err, want)
		}
	}
}

func TestASCII(t *testing.T) {
	for text, want := range map[string]string{
		"müller.example.org": "xn--mller-kva.example.org.", "MÜLLER.Example": "xn--mller-kva.example.", `m\195\188ller.a`: "xn--mller-kva.a.",
		"a;b.ü": `a\;b.xn--tda.`, "ü_1.example": "", "\xff.example": "", `ü\`: "", `ü\256`: "", `ü\..example`: "",
	} {
		if got, err := ASCII(text); got != want || (err != nil) != (want == "") {
			t.Errorf("%q is %q, %v, want %q", text, got, err, want)
		}
	}
}

// A name that Parse returns fits into a message, and is what a question with its octets has.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"a.example", `a;b.example`, `a\;b`, `\001\.x.`, "müller.lan", "*.a", `\`, `a\ b`, "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, _, err := Parse(text)
		if err != nil {
			return
		}
		wire := make([]byte, 256)
		n, err := dns.PackDomainName(name, wire, 0, nil, false)
		if err != nil || n > 255 {
			t.Fatalf("%q is %q: %d octets, %v", text, name, n, err)
		}
		if back, _, err := dns.UnpackDomainName(wire[:n], 0); err != nil || lower(back) != name {
			t.Fatalf("%q is %q, and in a question %q, %v", text, name, back, err)
		}
		if ascii, err := ASCII(text); err == nil && strings.ContainsFunc(ascii, func(c rune) bool { return c >= 0x80 }) {
			t.Fatalf("%q in ASCII is %q", text, ascii)
		}
	})
}
