package external

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/domain"
)

// octetsOf returns how a label of any octets may be written: with each octet as an escape and, if nothing separates
// names in it, as it is. name is that of a question with the label before example.org.
func octetsOf(t *testing.T, label []byte) (written []string, name string, wide bool) {
	t.Helper()
	var decimal strings.Builder
	for _, c := range label {
		fmt.Fprintf(&decimal, "\\%03d", c)
		wide = wide || c >= 0x80
	}
	wire := append(append([]byte{byte(len(label))}, label...), "\x07example\x03org\x00"...)
	name, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		t.Fatal(err)
	}
	written = []string{decimal.String() + ".example.org"}
	if !strings.ContainsFunc(string(label), func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(".\\,*", r) }) {
		written = append(written, string(label)+".Example.ORG.")
	}
	return written, strings.ToLower(name), wide
}

// Whatever octets a name has, an object that claims it has the name that a question with these octets has, and leads to
// a target with them. What it publishes is the same after a restart with a snapshot.
func TestNamesOfAnyOctets(t *testing.T) {
	r := rand.New(rand.NewPCG(20, 11))
	for i := range 600 {
		label := make([]byte, 1+r.IntN(12))
		for j := range label {
			label[j] = byte(r.IntN(256))
		}
		if i < 256 {
			label = []byte{'x', byte(i)}
		}
		if strings.Contains(string(label), "*") {
			continue
		}
		written, name, wide := octetsOf(t, label)
		for _, text := range written {
			target := name
			if ascii, err := domain.ASCII(text); wide && err == nil {
				target = ascii
			}
			objects := map[string]*Object{
				"192.0.2.1":                         NewDNSEndpoint(DNSEndpointSpec{Meta: named("a"), Endpoints: []Endpoint{{Name: text, Type: "A", Targets: []string{"192.0.2.1"}}}}),
				target:                              NewDNSEndpoint(DNSEndpointSpec{Meta: named("cname"), Endpoints: []Endpoint{{Name: text, Type: "CNAME", Targets: []string{text}}}}),
				fmt.Sprint("MX ", Mail{10, target}): NewDNSEndpoint(DNSEndpointSpec{Meta: named("mx"), Endpoints: []Endpoint{{Name: text, Type: "MX", Targets: []string{"10 " + text}}}}),
				fmt.Sprint("SRV ", Server{1, 2, 3, target}): NewDNSEndpoint(DNSEndpointSpec{Meta: named("srv"), Endpoints: []Endpoint{{Name: text, Type: "SRV", Targets: []string{"1 2 3 " + text}}}}),
				"192.0.2.2": NewIngress(IngressSpec{Meta: named("rule"), Hosts: []string{text}, Addresses: []string{"192.0.2.2"}}),
				"192.0.2.3": NewIngress(IngressSpec{Meta: annotated("host", hostnameKeys[0], "other.example.org, "+text), Addresses: []string{"192.0.2.3"}}),
				"192.0.2.4": NewService(ServiceSpec{Meta: annotated("svc", hostnameKeys[0], text), LoadBalancer: true, Addresses: []string{"192.0.2.4"}}),
			}
			for want, o := range objects {
				again := pack(unpack(o))
				if !again.Equal(o) {
					t.Fatalf("%q: %+v differs when it is packed again", text, unpack(o))
				}
				s := indexOf(again).State()
				if got := answerTo(s, name, &everything); got != want {
					t.Fatalf("%s of %q: %s has %q, want %q", o.Ref(), text, name, got, want)
				}
				if ascii, err := domain.ASCII(text); wide && err == nil && ascii != name {
					if got := answerTo(s, ascii, &everything); got != want {
						t.Fatalf("%s of %q: %s has %q, want %q", o.Ref(), text, ascii, got, want)
					}
				}
			}
		}
	}
}

// Names that no object may have are told apart from those that it may.
func TestCheckNames(t *testing.T) {
	for host, want := range map[string]string{
		"a;b.example.org": "", "user@host.example.org": "", "_acme.example.org": "", "*.example.org": "", "müller.example.org": "", "ü_1.example": "", "\xff.example": "",
		"a b.example": "it has a space", "a..b": "empty label", "192.0.2.1": "an address", "fe80::1%eth0": "an address", "*": "a *", "a.*.b": "a *", ".": "the root",
		strings.Repeat("x", 64) + ".example": "63 octets",
	} {
		for how, m := range map[string]*Meta{"host": {}, "annotation": {Annotations: map[string]string{hostnameKeys[1]: host}}, "internal": {Annotations: map[string]string{internalKeys[0]: host}}} {
			var hosts []string
			if how == "host" {
				hosts = []string{host}
			}
			if err := m.CheckNames(hosts...); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s %q: %v, want %q", how, host, err, want)
			}
		}
	}
}
