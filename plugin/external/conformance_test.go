package external

import (
	"slices"
	"strings"
	"testing"
)

// The cases of the Gateway API's conformance tests (kubernetes-sigs/gateway-api, conformance/tests, v1.6) that concern
// hostnames and what attaches to which listener. Each case has the name of its file, and its objects in short form.
// Each route has the status Accepted for each of its parents, even where the test wants it refused: the rules have to
// decide, not the status.

// infra is the namespace of nearly all objects.
const infra = "infra"

func meta(namespace, name string) Meta {
	return Meta{Namespace: namespace, Name: name, Created: 1, Generation: 1}
}

func acceptance1() []Condition { return []Condition{{"Accepted", "True", 1}} }

func gatewayOfListeners(name string, sets From, listeners ...Listener) any {
	return GatewaySpec{Meta: meta(infra, name), Class: "conformance", Addresses: []Address{{"IPAddress", "192.0.2.1"}}, AllowedListeners: sets, Listeners: listeners}
}

func setOfListeners(namespace, name, gateway string, listeners ...Listener) any {
	for i := range listeners {
		if listeners[i].Conditions == nil {
			listeners[i].Conditions = acceptance1()
		}
	}
	return ListenerSetSpec{Meta: meta(namespace, name), Parent: ParentRef{Kind: "Gateway", Namespace: infra, Name: gateway}, Listeners: listeners, Conditions: acceptance1()}
}

// on is a listener: "HTTP:80", its hostname, and the namespaces of its routes.
func on(name, protocol, host, from string) Listener {
	protocol, port, _ := strings.Cut(protocol, ":")
	l := Listener{Name: name, Hostname: host, Routes: From{Namespaces: from}, Port: map[string]int32{"": 80, "443": 443, "8080": 8080, "8090": 8090, "9300": 9300, "9301": 9301}[port]}
	l.Protocol, l.TLSMode, _ = strings.Cut(protocol, "/")
	return l
}

// taking restricts a listener to kinds of routes.
func (l Listener) taking(kinds ...string) Listener {
	for _, k := range kinds {
		l.Kinds = append(l.Kinds, GroupKind{Kind: k})
	}
	return l
}

// with gives a listener a condition, which is True or not.
func (l Listener) with(condition, status string) Listener {
	l.Conditions = append(l.Conditions, Condition{condition, status, 1})
	return l
}

// refer returns a reference: "gateway", "gateway/section", "gateway:80", each with a leading "set " for a
// ListenerSet.
func refer(text string) ParentRef {
	p := ParentRef{Namespace: infra}
	if rest, ok := strings.CutPrefix(text, "set "); ok {
		text, p.Kind = rest, "ListenerSet"
	}
	if ns, rest, ok := strings.Cut(text, "@"); ok {
		p.Namespace, text = ns, rest
	}
	text, port, _ := strings.Cut(text, ":")
	for _, c := range port {
		p.Port = 10*p.Port + c - '0'
	}
	p.Name, p.Section, _ = strings.Cut(text, "/")
	return p
}

func routeTo(kind Kind, namespace, name, hosts string, parents ...string) any {
	spec := RouteSpec{Meta: meta(namespace, name), Kind: kind, Hostnames: strings.Fields(hosts)}
	for _, text := range parents {
		spec.Parents = append(spec.Parents, refer(text))
		spec.Status = append(spec.Status, ParentStatus{refer(text), acceptance1()})
	}
	return spec
}

func http(name, hosts string, parents ...string) any {
	return routeTo(KindHTTPRoute, infra, name, hosts, parents...)
}

var isolated = []Listener{on("empty-hostname", "HTTP", "", "All"), on("wildcard-example-com", "HTTP", "*.example.com", "All"),
	on("wildcard-foo-example-com", "HTTP", "*.foo.example.com", "All"), on("abc-foo-example-com", "HTTP", "abc.foo.example.com", "All")}

var hostMatching = []Listener{on("listener-1", "HTTP", "bar.com", "Same"), on("listener-2", "HTTP", "foo.bar.com", "Same"), on("listener-3", "HTTP", "*.bar.com", "Same"), on("listener-4", "HTTP", "*.foo.com", "Same")}

var selected = From{"Selector", &Selector{Labels: map[string]string{"allowed": "ns"}}}

var conformance = []struct {
	file    string
	objects []any
	want    map[string]string // the names of each route
}{
	{"httproute-hostname-intersection", []any{
		gatewayOfListeners("some", From{}, on("listener-1", "HTTP", "very.specific.com", "Same"), on("listener-2", "HTTP", "*.wildcard.io", "Same"), on("listener-3", "HTTP", "*.anotherwildcard.io", "Same")),
		gatewayOfListeners("all", From{}, on("listener-1", "HTTP", "", "Same")),
		http("specific-specific", "non.matching.com *.nonmatchingwildcard.io very.specific.com", "some"),
		http("specific-wildcard", "non.matching.com wildcard.io foo.wildcard.io bar.wildcard.io foo.bar.wildcard.io", "some"),
		http("wildcard-specific", "non.matching.com *.specific.com", "some"),
		http("wildcard-wildcard", "*.anotherwildcard.io", "some"),
		http("none", "specific.but.wrong.com wildcard.io", "some"),
		http("any", "first.com sub.first.com second.com sub.second.com", "all"),
	}, map[string]string{
		"specific-specific": "very.specific.com",
		"specific-wildcard": "bar.wildcard.io foo.bar.wildcard.io foo.wildcard.io",
		"wildcard-specific": "very.specific.com",
		"wildcard-wildcard": "*.anotherwildcard.io",
		"none":              "",
		"any":               "first.com second.com sub.first.com sub.second.com",
	}},
	{"httproute-listener-hostname-matching", []any{
		gatewayOfListeners("gw", From{}, hostMatching...),
		http("v1", "", "gw/listener-1"), http("v2", "", "gw/listener-2"), http("v3", "", "gw/listener-3", "gw/listener-4"),
	}, map[string]string{"v1": "bar.com", "v2": "foo.bar.com", "v3": "*.bar.com *.foo.com"}},
	{"grpcroute-listener-hostname-matching", []any{
		gatewayOfListeners("gw", From{}, hostMatching...),
		routeTo(KindGRPCRoute, infra, "v1", "", "gw/listener-1"), routeTo(KindGRPCRoute, infra, "v2", "", "gw/listener-2"), routeTo(KindGRPCRoute, infra, "v3", "", "gw/listener-3", "gw/listener-4"),
	}, map[string]string{"v1": "bar.com", "v2": "foo.bar.com", "v3": "*.bar.com *.foo.com"}},
	{"tlsroute-hostname-intersection", []any{
		gatewayOfListeners("x1", From{}, on("l", "TLS/Passthrough:443", "abc.example.com", "Same").taking("TLSRoute")),
		gatewayOfListeners("x2", From{}, on("l", "TLS/Passthrough:443", "*.example.com", "Same").taking("TLSRoute")),
		gatewayOfListeners("x3", From{}, on("l", "TLS/Passthrough:443", "*.com", "Same").taking("TLSRoute")),
		gatewayOfListeners("x4", From{}, on("l", "TLS/Passthrough:443", "", "Same").taking("TLSRoute")),
		routeTo(KindTLSRoute, infra, "more-specific-wc-x1", "*.example.com", "x1"),
		routeTo(KindTLSRoute, infra, "exact-x2", "abc.example.com", "x2"),
		routeTo(KindTLSRoute, infra, "less-specific-wc-x2", "*.com", "x2"),
		routeTo(KindTLSRoute, infra, "exact-x3", "abc.example.com", "x3"),
		routeTo(KindTLSRoute, infra, "more-specific-wc-x3", "*.example.com", "x3"),
		routeTo(KindTLSRoute, infra, "exact-x4", "abc.example.com", "x4"),
		routeTo(KindTLSRoute, infra, "less-specific-wc-x4", "*.com", "x4"),
	}, map[string]string{
		"more-specific-wc-x1": "abc.example.com", "exact-x2": "abc.example.com", "less-specific-wc-x2": "*.example.com", "exact-x3": "abc.example.com",
		"more-specific-wc-x3": "*.example.com", "exact-x4": "abc.example.com", "less-specific-wc-x4": "*.com",
	}},
	{"tlsroute-invalid-no-matching-listener-hostname", []any{
		gatewayOfListeners("exact", From{}, on("tls", "TLS/Passthrough:443", "www.example.com", "Same").taking("TLSRoute")),
		gatewayOfListeners("wildcard", From{}, on("tls", "TLS/Passthrough:443", "*.example.com", "Same").taking("TLSRoute")),
		routeTo(KindTLSRoute, infra, "mismatch-1", "www.nomatch.com *.nomatch.com", "exact"),
		routeTo(KindTLSRoute, infra, "mismatch-2", "www.different.com *.different.com", "wildcard"),
	}, map[string]string{"mismatch-1": "", "mismatch-2": ""}},
	{"tlsroute-invalid-no-matching-listener", []any{
		gatewayOfListeners("passthrough", From{}, on("tls-passthrough", "TLS/Passthrough:443", "", "Same")),
		gatewayOfListeners("http", From{}, on("http", "HTTP", "", "Same")),
		gatewayOfListeners("https", From{}, on("https", "HTTPS/Terminate:443", "", "Same")),
		routeTo(KindTLSRoute, infra, "http", "tls.example.com", "http"),
		routeTo(KindTLSRoute, infra, "https", "tls.example.com", "https"),
		routeTo(KindTLSRoute, infra, "section", "tls.example.com", "passthrough/nonexistent-listener"),
	}, map[string]string{"http": "", "https": "", "section": ""}},
	{"tlsroute-mixed-termination-same-namespace", []any{
		gatewayOfListeners("gw", From{}, on("tls-terminate", "TLS/Terminate:443", "tls.example.com", "Same").taking("TLSRoute"), on("tls-passthrough", "TLS/Passthrough:443", "abc.example.com", "Same").taking("TLSRoute")),
		routeTo(KindTLSRoute, infra, "passthrough", "abc.example.com", "gw"),
		routeTo(KindTLSRoute, infra, "terminate", "tls.example.com", "gw"),
	}, map[string]string{"passthrough": "abc.example.com", "terminate": "tls.example.com"}},
	{"gateway-http-listener-isolation", []any{
		gatewayOfListeners("gw", From{}, isolated...),
		http("empty", "", "gw/empty-hostname"), http("example", "", "gw/wildcard-example-com"), http("foo", "", "gw/wildcard-foo-example-com"), http("abc", "", "gw/abc-foo-example-com"),
	}, map[string]string{"empty": "", "example": "*.example.com", "foo": "*.foo.example.com", "abc": "abc.foo.example.com"}},
	{"gateway-http-listener-isolation-with-hostname-intersection", []any{
		gatewayOfListeners("gw", From{}, isolated...),
		http("empty", "bar.com *.example.com *.foo.example.com abc.foo.example.com", "gw/empty-hostname"),
		http("example", "bar.com *.example.com *.foo.example.com abc.foo.example.com", "gw/wildcard-example-com"),
		http("foo", "bar.com *.example.com *.foo.example.com abc.foo.example.com", "gw/wildcard-foo-example-com"),
		http("abc", "bar.com *.example.com *.foo.example.com abc.foo.example.com", "gw/abc-foo-example-com"),
	}, map[string]string{
		"empty":   "*.example.com *.foo.example.com abc.foo.example.com bar.com",
		"example": "*.example.com *.foo.example.com abc.foo.example.com",
		"foo":     "*.foo.example.com abc.foo.example.com",
		"abc":     "abc.foo.example.com",
	}},
	{"httproute-listener-port-matching", []any{
		gatewayOfListeners("gw", From{}, on("listener-1", "HTTP", "foo.com", "Same"), on("listener-2", "HTTP:8080", "foo.com", "Same"), on("listener-3", "HTTP:8080", "bar.com", "Same"),
			on("listener-4", "HTTP:8090", "foo.com", "Same"), on("listener-5", "HTTP:8090", "bar.com", "Same")),
		http("v1", "", "gw:80"), http("v2", "", "gw:8080"), http("v3", "", "gw/listener-4:8090"),
	}, map[string]string{"v1": "foo.com", "v2": "bar.com foo.com", "v3": "foo.com"}},
	{"httproute-cross-namespace, httproute-invalid-cross-namespace-parent-ref, httproute-multiple-gateways", []any{
		gatewayOfListeners("same-namespace", From{}, on("http", "HTTP", "", "Same")),
		gatewayOfListeners("all-namespaces", From{}, on("http", "HTTP", "", "All")),
		gatewayOfListeners("backend-namespaces", From{}, Listener{Name: "http", Protocol: "HTTP", Port: 80, Routes: From{"Selector", &Selector{Labels: map[string]string{"gateway-conformance": "backend"}}}}),
		NamespaceSpec{"web-backend", map[string]string{"gateway-conformance": "backend"}},
		routeTo(KindHTTPRoute, "web-backend", "cross-namespace", "cross.example.org", "backend-namespaces"),
		routeTo(KindHTTPRoute, "web-backend", "invalid", "invalid.example.org", "same-namespace"),
		http("invalid-selector", "selector.example.org", "backend-namespaces"),
		http("shared", "shared.example.org", "same-namespace", "all-namespaces"),
	}, map[string]string{"cross-namespace": "cross.example.org", "invalid": "", "invalid-selector": "", "shared": "shared.example.org"}},
	{"httproute-disallowed-kind, gateway-invalid-route-kind, tcproute-invalid-non-tcp-listener, udproute-not-allowed-by-listeners", []any{
		gatewayOfListeners("tlsroutes-only", From{}, on("tls", "TLS/Passthrough:443", "", "Same").taking("TLSRoute")),
		gatewayOfListeners("invalid-only", From{}, on("http", "HTTP", "", "All").taking("InvalidRoute")),
		gatewayOfListeners("invalid-too", From{}, on("http", "HTTP", "", "All").taking("InvalidRoute", "HTTPRoute")),
		gatewayOfListeners("http-only", From{}, on("http", "HTTP", "", "").taking("HTTPRoute")),
		gatewayOfListeners("tls", From{}, on("tls", "TLS/Passthrough:443", "", "Same")),
		http("disallowed", "a.example.org", "tlsroutes-only"), http("invalid", "b.example.org", "invalid-only"), http("valid", "c.example.org", "invalid-too"),
		withHostname(routeTo(KindTCPRoute, infra, "tcp", "", "http-only/http"), "tcp.example.org"),
		withHostname(routeTo(KindUDPRoute, infra, "udp", "", "tls/tls"), "udp.example.org"),
	}, map[string]string{"disallowed": "", "invalid": "", "valid": "c.example.org", "tcp": "", "udp": ""}},
	{"httproute-invalid-parentref-*", []any{
		gatewayOfListeners("gw", From{}, on("http", "HTTP", "", "All").taking("HTTPRoute")),
		http("port", "a.example.org", "gw:81"), http("section", "b.example.org", "gw/http1:80"), http("section-port", "c.example.org", "gw/http:81"),
	}, map[string]string{"port": "", "section": "", "section-port": ""}},
	{"tcproute-parentref-port-and-section-name, tcproute-parentref-attach-all, udproute-parentref-*", []any{
		gatewayOfListeners("gw", From{}, on("one", "TCP:9300", "", "").taking("TCPRoute"), on("two", "TCP:9301", "", "").taking("TCPRoute"), on("udp", "UDP:9300", "", "")),
		withHostname(routeTo(KindTCPRoute, infra, "port", "", "gw:9300"), "port.example.org"),
		withHostname(routeTo(KindTCPRoute, infra, "section", "", "gw/two"), "section.example.org"),
		withHostname(routeTo(KindTCPRoute, infra, "both", "", "gw/two:9301"), "both.example.org"),
		withHostname(routeTo(KindTCPRoute, infra, "neither", "", "gw/two:9300"), "neither.example.org"),
		withHostname(routeTo(KindTCPRoute, infra, "all", "", "gw"), "all.example.org"),
		withHostname(routeTo(KindUDPRoute, infra, "udp", "", "gw"), "udp.example.org"),
		routeTo(KindTCPRoute, infra, "unnamed", "", "gw"),
	}, map[string]string{"port": "port.example.org", "section": "section.example.org", "both": "both.example.org", "neither": "", "all": "all.example.org", "udp": "udp.example.org", "unnamed": ""}},
	{"listenerset-allowed-namespace-none, listenerset-default-not-allowed", []any{
		gatewayOfListeners("none", From{Namespaces: "None"}, on("l", "HTTP", "gateway-listener.com", "All")),
		gatewayOfListeners("default", From{}, on("l", "HTTP", "gateway-listener.com", "All")),
		setOfListeners(infra, "not-allowed", "none", on("l", "HTTP", "listener-set-listener.com", "All")),
		setOfListeners(infra, "default-not-allowed", "default", on("l", "HTTP", "listener-set-listener.com", "All")),
		http("none", "", "none", "set not-allowed"), http("default", "", "default", "set default-not-allowed"),
	}, map[string]string{"none": "gateway-listener.com", "default": "gateway-listener.com"}},
	{"listenerset-allowed-namespace-same", []any{
		gatewayOfListeners("gw", From{Namespaces: "Same"}, on("l", "HTTP", "gateway-listener.com", "All")),
		setOfListeners(infra, "same", "gw", on("l", "HTTP", "same.com", "All")),
		setOfListeners("other", "different", "gw", on("l", "HTTP", "different.com", "All")),
		http("same", "", "set same"), http("different", "", "set other@different"),
	}, map[string]string{"same": "same.com", "different": ""}},
	{"listenerset-allowed-namespace-selector", []any{
		NamespaceSpec{"allowed-ns", map[string]string{"allowed": "ns"}}, NamespaceSpec{"not-allowed-ns", nil},
		gatewayOfListeners("gw", selected, on("l", "HTTP", "gateway-listener.com", "All")),
		setOfListeners("allowed-ns", "in", "gw", on("l", "HTTP", "in.com", "All")),
		setOfListeners("not-allowed-ns", "out", "gw", on("l", "HTTP", "out.com", "All")),
		http("in", "", "set allowed-ns@in"), http("out", "", "set not-allowed-ns@out"),
	}, map[string]string{"in": "in.com", "out": ""}},
	{"listenerset-allowed-routes-namespaces", []any{
		NamespaceSpec{"allowed-ns", map[string]string{"allowed": "ns"}}, NamespaceSpec{"not-allowed-ns", nil}, NamespaceSpec{"cross-ns", nil},
		gatewayOfListeners("gw", From{Namespaces: "All"}, on("l", "HTTP", "gateway-listener.com", "All")),
		setOfListeners(infra, "set", "gw", on("all", "HTTP", "all.com", "All"), on("same", "HTTP", "same.com", "Same"), Listener{Name: "selector", Protocol: "HTTP", Port: 80, Hostname: "selector.com", Routes: selected}),
		setOfListeners("cross-ns", "cross", "gw", on("same", "HTTP", "cross-same.com", "Same")),
		http("same", "", "set set"), routeTo(KindHTTPRoute, "allowed-ns", "selected", "", "set set"), routeTo(KindHTTPRoute, "not-allowed-ns", "not-selected", "", "set set"),
		routeTo(KindHTTPRoute, "cross-ns", "of-the-set", "", "set cross-ns@cross"), http("of-the-gateway", "", "set cross-ns@cross"),
	}, map[string]string{"same": "all.com same.com", "selected": "all.com selector.com", "not-selected": "all.com", "of-the-set": "cross-same.com", "of-the-gateway": ""}},
	{"listenerset-allowed-routes-supported-kinds", []any{
		gatewayOfListeners("gw", From{Namespaces: "All"}, on("l", "HTTP", "gateway-listener.com", "All")),
		setOfListeners(infra, "set", "gw", on("tls", "TLS/Passthrough:443", "tls-only.com", "All").taking("HTTPRoute")),
		http("http", "", "set set"), routeTo(KindTLSRoute, infra, "tls", "tls-only.com", "set set"),
	}, map[string]string{"http": "", "tls": ""}},
	{"listenerset-dual-parentref-independence", []any{
		gatewayOfListeners("gw", From{Namespaces: "Same"}, on("gw-listener", "HTTP", "gw-dual.com", "Same")),
		setOfListeners(infra, "set", "gw", on("ls-listener", "HTTP", "ls-dual.com", "Same")),
		http("both", "", "gw", "set set"), http("one", "", "gw/ls-listener", "set set/ls-listener"),
	}, map[string]string{"both": "gw-dual.com ls-dual.com", "one": "ls-dual.com"}},
	{"listenerset-gateway-parent-section-name-not-found, listenerset-route-status-scoped-to-parentref", []any{
		gatewayOfListeners("gw", From{Namespaces: "Same"}, on("gw-listener", "HTTP", "gw-section.com", "Same")),
		setOfListeners(infra, "set", "gw", on("ls-only", "HTTP", "ls-section-name.com", "Same")),
		http("via-set", "", "set set/ls-only"), http("via-gateway", "", "gw/ls-only"), http("gateway-only", "", "gw"), http("set-only", "", "set set"),
	}, map[string]string{"via-set": "ls-section-name.com", "via-gateway": "", "gateway-only": "gw-section.com", "set-only": "ls-section-name.com"}},
	{"listenerset-hostname-conflict", []any{
		gatewayOfListeners("gw", From{Namespaces: "Same"}, on("l", "HTTP", "gateway-listener.com", "All"), on("conflict", "HTTP", "conflict-with-gateway.com", "All").with("Conflicted", "False").with("Accepted", "True")),
		setOfListeners(infra, "set-1", "gw", on("l", "HTTP", "set-1.com", "All"), on("conflict", "HTTP", "conflict-with-gateway.com", "All").with("Accepted", "False").with("Conflicted", "True"), on("conflict-2", "HTTP", "conflict-with-set.com", "All")),
		setOfListeners(infra, "set-2", "gw", on("l", "HTTP", "set-2.com", "All"), on("conflict-2", "HTTP", "conflict-with-set.com", "All").with("Accepted", "True").with("Conflicted", "True")),
		http("gw", "", "gw"), http("set-1", "", "set set-1"), http("set-2", "", "set set-2"),
	}, map[string]string{"gw": "conflict-with-gateway.com gateway-listener.com", "set-1": "conflict-with-set.com set-1.com", "set-2": "set-2.com"}},
	{"listenerset-protocol-conflict", []any{
		gatewayOfListeners("gw", From{Namespaces: "Same"}, on("conflict", "HTTP", "conflict-with-gateway.com", "All")),
		setOfListeners(infra, "set", "gw", on("l", "HTTP", "set.com", "All"), on("conflict", "TCP", "", "All").with("Accepted", "False").with("Conflicted", "True")),
		http("gw", "", "gw"), http("set", "", "set set"), withHostname(routeTo(KindTCPRoute, infra, "tcp", "", "set set"), "tcp.com"),
	}, map[string]string{"gw": "conflict-with-gateway.com", "set": "set.com", "tcp": ""}},
	{"listenerset-http-routing", []any{
		gatewayOfListeners("gw", From{Namespaces: "All"}, on("listener-1", "HTTP", "gw-1.com", "All"), on("listener-2", "HTTP", "gw-2.com", "All")),
		setOfListeners(infra, "set-1", "gw", on("listener-1", "HTTP", "set-1-1.com", "All"), on("listener-2", "HTTP", "set-1-2.com", "All")),
		setOfListeners(infra, "set-2", "gw", on("listener-1", "HTTP", "set-2-1.com", "All"), on("listener-2", "HTTP", "set-2-2.com", "All")),
		http("all", "", "gw", "set set-1", "set set-2"), http("gateway", "", "gw"), http("gateway-section", "", "gw/listener-1"), http("set-1", "", "set set-1"), http("set-1-section", "", "set set-1/listener-1"), http("set-2", "", "set set-2"),
	}, map[string]string{
		"all":     "gw-1.com gw-2.com set-1-1.com set-1-2.com set-2-1.com set-2-2.com",
		"gateway": "gw-1.com gw-2.com", "gateway-section": "gw-1.com", "set-1": "set-1-1.com set-1-2.com", "set-1-section": "set-1-1.com", "set-2": "set-2-1.com set-2-2.com",
	}},
}

// withHostname gives a route a hostname by an annotation.
func withHostname(route any, host string) any {
	spec := route.(RouteSpec)
	spec.Annotations = map[string]string{"external-dns.kubernetes.io/hostname": host}
	return spec
}

func refTo(spec any) Ref {
	return pack(spec).Ref()
}

// namesOf returns the names that each object claims.
func namesOf(s *State) map[Ref][]string {
	all := map[Ref][]string{}
	for c := range s.claims.All {
		packed := s.at(c.id)
		all[refOf(packed)] = append(all[refOf(packed)], claimed(packed, c.at).String())
	}
	return all
}

func TestConformance(t *testing.T) {
	for _, c := range conformance {
		for turn := range len(c.objects) { // whichever object comes first
			ix := NewIndex()
			for i := range c.objects {
				ix.Update(func(tx *Tx) { tx.Set(pack(c.objects[(turn+i)%len(c.objects)])) })
			}
			names := namesOf(ix.State())
			for _, spec := range c.objects {
				ref := refTo(spec)
				want, ok := c.want[ref.Name]
				if !ok || !ref.Kind.route() {
					continue
				}
				got := names[ref]
				slices.Sort(got)
				if strings.Join(got, " ") != want {
					t.Errorf("%s: %s has %q, want %q", c.file, ref, got, want)
				}
			}
		}
	}
}
