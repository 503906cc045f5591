package stanza

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy/caddyfile"
)

// FuzzParseText checks that no text causes a panic or takes more memory than a text may, and that an
// accepted text
//   - stays within the limits,
//   - means the same when it is read again, over itself, and written out again,
//   - means the same to caddyfile.Parse and Parse, which CoreDNS uses for it as a Corefile.
func FuzzParseText(f *testing.F) {
	f.Add("kubehosts cluster.local {\nttl 5\n}")
	f.Add(". {\n" + baseStanza + "\n}")
	f.Add("(s) {\nttl 5\nhosts /a {\nreload 1s\n}\n}\n.:53 {\nkubehosts a {\nimport s\n}\n}\nb c, d {\nlog {\n}\n}")
	f.Add(".\nkubehosts 10.0.0.0/9 {\nlabels a in (b, c)\nfallthrough\nhosts {\n::1 \"a b\" # c\n}\n}")
	f.Add("import x\n.:53 {\nimport y\nkubehosts {\nhosts {\n10.0.0.1 {$HOME} {%USER%}\n}\nstartup_timeout 1h\n}\n}")
	f.Add("\ufeff. {\r\nkubehosts \"a\n\" {\r\n}\r\n}")
	f.Add("corp.example {\nkubehosts {\nconfigmap a\nhosts /a b.hosts {\nfallthrough\n}\n}\n}")
	f.Add("kubehosts {\nnoservices\nhosts\n}")
	f.Add("kubehosts cluster.local {\nexternal Example.org b {\nfrom node ingress\nclass nginx\nnamespaces team-a\nttl 0\ninside\n}\nexternal c\n}")
	f.Add("corp.example {\nkubehosts {\nnoservices\nfallthrough\nexternal corp.example {\nfrom dnsendpoint\n}\n}\n}")

	f.Fuzz(func(t *testing.T, text string) {
		for _, key := range []string{"dns://.:53", "dns://corp.example.:53"} {
			checkText(t, text, []string{key})
		}
	})
}

func checkText(t *testing.T, text string, keys []string) {
	before := allocated()
	c, err := ParseText("T", text, keys, "")
	if n := allocated() - before; n > maxCost {
		t.Fatalf("%d MiB were allocated", n>>20)
	}
	if err != nil {
		if !strings.HasPrefix(err.Error(), "T:") || len(err.Error()) > 2*maxErrorText {
			t.Fatalf("error %q", err)
		}
		return
	}
	checkLimits(t, c)
	again, err := ParseText("T", text, keys, "")
	if err != nil || again.Hash() != c.Hash() {
		t.Fatalf("read again: %v", err)
	}
	if over, err := c.Over(again); err != nil || over.Hash() != c.Hash() {
		t.Fatalf("over itself: %v", err)
	}
	if anew, ok := render(c); ok {
		if r, err := ParseText("T", anew, keys, ""); err != nil || r.Hash() != c.Hash() {
			t.Fatalf("written anew as %q: %v", anew, err)
		}
	}
	checkExcerpt(t, text, keys, c)
	if !c.bare && !strings.Contains(text, "import") && !asCorefile(t, text, c.Hash()) {
		t.Fatal("the Corefile has no such stanza")
	}
}

// checkExcerpt checks that the excerpt of a text is the same stanza.
func checkExcerpt(t *testing.T, text string, keys []string, c *Config) {
	shown, err := Excerpt("T", text, keys, "")
	if err != nil {
		t.Fatalf("no excerpt: %v", err)
	}
	if !c.ZonesWritten && !c.bare {
		return // it has the zones of its server block, which are not in it
	}
	if strings.Contains(text, "{$") || strings.Contains(text, "{%") || strings.ContainsAny(text, "\"\\") {
		return // a variable's value may be several words, and caddyfile can't write every word
	}
	if again, err := ParseText("T", shown, keys, ""); err != nil || again.Hash() != c.Hash() {
		t.Fatalf("the excerpt is\n%s, %v", shown, err)
	}
}

// asCorefile reports whether text, as a Corefile, has a stanza with the hash.
func asCorefile(t *testing.T, text, hash string) bool {
	blocks, err := caddyfile.Parse("T", strings.NewReader(text), nil)
	if err != nil {
		t.Fatalf("refused as a Corefile: %v", err)
	}
	return slices.ContainsFunc(blocks, func(b caddyfile.ServerBlock) bool {
		tokens, ok := b.Tokens[Name]
		if !ok {
			return false
		}
		d := caddyfile.NewDispenserTokens("T", tokens)
		c, err := Parse(&d, b.Keys)
		return err == nil && c.Hash() == hash
	})
}

// render writes c as a bare stanza. ok is false if a word of it can't be written plainly.
func render(c *Config) (text string, ok bool) {
	var b strings.Builder
	ok = true
	line := func(words ...string) {
		for _, w := range words {
			if w == "" || w == "{" || w == "}" || strings.ContainsAny(w, "\"#\r\n") || strings.Contains(w, "{$") || strings.Contains(w, "{%") ||
				len(strings.Fields(w)) != 1 || w == "import" {
				ok = false
			}
		}
		b.WriteString(strings.Join(words, " ") + "\n")
	}
	option := func(set bool, words ...string) {
		if set {
			line(words...)
		}
	}
	b.WriteString(Name + " " + strings.Join(c.Zones, " ") + " {\n")
	for _, z := range c.Zones {
		ok = ok && !strings.ContainsAny(z, "\"#{}:/") && len(strings.Fields(z)) == 1
	}
	for _, name := range fixedOptions {
		if o, there := c.sources[name]; there {
			line(append([]string{name}, o.args...)...)
		}
	}
	option(true, "startup_timeout", c.StartupTimeout.String())
	option(true, "audit", c.Audit.String())
	option(c.Status != "", "status", c.Status)
	option(len(c.Namespaces) > 0, append([]string{"namespaces"}, c.Namespaces...)...)
	option(c.NamespaceLabels != "", append([]string{"namespace_labels"}, strings.Fields(c.NamespaceLabels)...)...)
	option(c.Labels != "", append([]string{"labels"}, strings.Fields(c.Labels)...)...)
	option(true, "pods", c.Pods.String())
	option(c.EndpointPodNames, "endpoint_pod_names")
	option(c.NoEndpoints, "noendpoints")
	option(c.IgnoreEmptyService, "ignore", "empty_service")
	option(true, "ttl", fmt.Sprint(c.TTL))
	for _, h := range c.Hosts {
		line(append([]string{"hosts"}, h.Files...)...)
		text := strings.TrimSuffix(b.String(), "\n") + " {\n"
		b.Reset()
		b.WriteString(text)
		for _, l := range h.Inline {
			line(strings.Fields(l.Text)...)
		}
		option(true, "ttl", fmt.Sprint(h.TTL))
		option(h.NoReverse, "no_reverse")
		option(true, "reload", h.Reload.String())
		b.WriteString("}\n")
	}
	for _, e := range c.External {
		line(append([]string{"external"}, append(slices.Clone(e.Zones), "{")...)...)
		line(append([]string{"from"}, strings.Fields(e.From.String())...)...)
		option(e.Classes != nil, append([]string{"class"}, e.Classes...)...)
		option(e.Namespaces != nil, append([]string{"namespaces"}, e.Namespaces...)...)
		option(true, "ttl", fmt.Sprint(e.TTL))
		option(e.Inside, "inside")
		b.WriteString("}\n")
		for _, z := range e.Zones {
			ok = ok && !strings.ContainsAny(z, "\"#{}:/") && len(strings.Fields(z)) == 1
		}
	}
	option(c.Fallthrough != nil, append([]string{"fallthrough"}, c.Fallthrough...)...)
	for _, z := range c.Fallthrough {
		ok = ok && !strings.ContainsAny(z, ":/")
	}
	b.WriteString("}\n")
	return b.String(), ok
}
