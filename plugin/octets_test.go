package kubehosts

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Names with any octets, in zones, objects and their targets, are those of questions with these octets. The API server
// refuses such names in the rules of an Ingress, the status of a load balancer and the target of an ExternalName, and
// takes them in a DNSEndpoint and in annotations.
func TestNamesOfAnyOctets(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "octets.yaml")
	save(t, manifest, `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: externaldns.k8s.io/v1alpha1
kind: DNSEndpoint
metadata: {name: ep, namespace: shop}
spec:
  endpoints:
  - {dnsName: 'a;b.example.org', recordType: A, targets: [192.0.2.1]}
  - {dnsName: 'user@host.example.org', recordType: A, targets: [192.0.2.2]}
  - {dnsName: '_acme.x.example.org', recordType: TXT, targets: [acme]}
  - {dnsName: 'müller.example.org', recordType: A, targets: [192.0.2.3]}
  - {dnsName: 'tv\032set.example.org', recordType: A, targets: [192.0.2.4]}
  - {dnsName: 'alias.example.org', recordType: CNAME, targets: ['USER@host.example.org']}
  - {dnsName: 'wide.example.org', recordType: CNAME, targets: ['müller.example.org']}
  - {dnsName: 'mail.example.org', recordType: MX, targets: ['10 a;b.example.net']}
  - {dnsName: 'not a name.example.org', recordType: A, targets: [192.0.2.5]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, annotations: {external-dns.kubernetes.io/hostname: "bob's.example.org, größe.example.org"}}
spec: {rules: [{host: "it's.example.org"}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.6}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: cloud, namespace: shop}
spec: {rules: [{host: cloud.example.org}]}
status: {loadBalancer: {ingress: [{hostname: 'müller.example.org'}]}}
---
apiVersion: v1
kind: Service
metadata: {name: docs, namespace: shop}
spec: {type: ExternalName, externalName: 'web.shop.svc.c;l.example'}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.7.10, ports: [{name: http, port: 80}]}
`)
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts c;l.example in-addr.arpa {\n\tmanifests %s\n\texternal example.org\n}", manifest))
	const rejected = "objects_rejected_total"
	for name, want := range map[string]string{
		`a\;b.example.org. A`: "NOERROR A 192.0.2.1", `A\;B.example.org. A`: "NOERROR A 192.0.2.1", `user\@host.example.org. A`: "NOERROR A 192.0.2.2",
		"_acme.x.example.org. TXT": `NOERROR TXT "acme"`, `m\195\188ller.example.org. A`: "NOERROR A 192.0.2.3", "xn--mller-kva.example.org. A": "NOERROR A 192.0.2.3",
		`tv\ set.example.org. A`: "NOERROR A 192.0.2.4", "mail.example.org. MX": `NOERROR MX 10 a\;b.example.net.`,
		"alias.example.org. A": `NOERROR CNAME user\@host.example.org. A 192.0.2.2`, "wide.example.org. A": "NOERROR CNAME xn--mller-kva.example.org. A 192.0.2.3",
		`not\ a\ name.example.org. A`: "NXDOMAIN | SOA example.org.",
		`bob\'s.example.org. A`:       "NOERROR A 192.0.2.6", "xn--gre-6ka8i.example.org. A": "NOERROR A 192.0.2.6", `gr\195\182\195\159e.example.org. A`: "NOERROR A 192.0.2.6",
		`it\'s.example.org. A`: "NOERROR A 192.0.2.6", "cloud.example.org. A": "NOERROR CNAME xn--mller-kva.example.org. A 192.0.2.3",
		`web.shop.svc.c\;l.example. A`:              "NOERROR A 10.96.7.10",
		`_http._tcp.web.shop.svc.C\;l.example. SRV`: `NOERROR SRV 0 100 80 web.shop.svc.C\;l.example. + web.shop.svc.C\;l.example. 10.96.7.10`,
		`docs.shop.svc.c\;l.example. A`:             `NOERROR CNAME web.shop.svc.c\;l.example. A 10.96.7.10`,
		"10.7.96.10.in-addr.arpa. PTR":              `NOERROR PTR web.shop.svc.c\;l.example.`,
		`none.shop.svc.c\;l.example. A`:             `NXDOMAIN | SOA c\;l.example.`,
	} {
		at := strings.LastIndexByte(name, ' ')
		m := ask(t, k, name[:at], dns.StringToType[name[at+1:]])
		if got := described(m); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if m == nil {
			continue
		}
		wire, err := m.Pack()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if back := new(dns.Msg); back.Unpack(wire) != nil || described(back) != described(m) {
			t.Errorf("%s: %s becomes %s on the wire", name, described(m), described(back))
		}
	}
	if got := metric(t, rejected, "DNSEndpoint"); got != 1 {
		t.Errorf("%v DNSEndpoints with a name that can't be served, want 1", got)
	}
	var names []string
	for _, rr := range transferred(t, k, "example.org.") {
		names = append(names, rr.Header().Name)
	}
	for _, name := range []string{`a\;b.example.org.`, `m\195\188ller.example.org.`, "xn--mller-kva.example.org."} {
		if !strings.Contains(strings.Join(names, " "), name) {
			t.Errorf("the transfer lacks %s: %q", name, names)
		}
	}
}
