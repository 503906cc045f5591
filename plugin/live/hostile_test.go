package live

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kubehosts/kubehosts/plugin/hostile"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// quietly drops a test's thousands of log lines, once they are checked.
func quietly(t *testing.T) { hostile.CheckLog(t) }

// start starts a Block for a stanza, in the server block key, until the test ends.
func start(t *testing.T, key, text string) *Block {
	t.Helper()
	return startIn(t, nil, []string{key}, "", text)
}

// startIn starts a Block for a stanza, in a server block of a Corefile, until the test ends.
func startIn(t *testing.T, corefile any, keys []string, view, text string) *Block {
	t.Helper()
	b := newIn(t, corefile, keys, text)
	if err := b.Start(view, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

// newIn makes the Block of startIn, without starting it.
func newIn(t *testing.T, corefile any, keys []string, text string) *Block {
	t.Helper()
	c := caddy.NewTestController("dns", text)
	config, err := stanza.Parse(&c.Dispenser, keys)
	if err != nil {
		t.Fatal(err)
	}
	b := New(config, ServerBlock{Keys: keys, Corefile: corefile})
	t.Cleanup(b.Stop)
	return b
}

// holds reports whether a hosts entry of the live stanza has the name.
func holds(b *Block, name string) bool {
	for _, layer := range b.View().Hosts {
		for _, table := range layer.Tables.All() {
			if _, ok := table.Lookup(name); ok {
				return true
			}
		}
	}
	return false
}

func save(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The ConfigMap holds a stanza that is changed in some place. One that is refused changes nothing, and one that is
// applied reaches no further than the Corefile's.
func TestHostileStanzas(t *testing.T) {
	quietly(t)
	entries := filepath.Join(t.TempDir(), "corp.hosts")
	var lines strings.Builder // many, since reading them often is a fault
	for i := range 50_000 {
		fmt.Fprintf(&lines, "10.1.%d.%d n%d.example\n", i>>8, i&255, i)
	}
	save(t, entries, "192.0.2.1 file.example\n"+lines.String())
	k := start(t, "dns://.:53", fmt.Sprintf(`kubehosts cluster.local in-addr.arpa {
		manifests ../../build/example/shop.yaml
		configmap kube-system/coredns
		hosts %s
	}`, entries))
	written := fmt.Sprintf(`kubehosts cluster.local in-addr.arpa {
		configmap kube-system/coredns
		namespaces shop
		labels tier in (front, back)
		pods verified
		endpoint_pod_names
		ignore empty_service
		ttl 9
		hosts %s {
			192.0.2.3 inline.example "quoted.example" # a comment
			ttl 60
			reload 1s
			no_reverse
		}
		fallthrough in-addr.arpa
	}
`, entries)
	good := []string{
		written, "kubehosts {\n\tzonal\n\tmulticluster cluster.local\n\tnoendpoints\n}\n",
		"(snippet) {\n\tttl 5\n}\nexample.org {\n\twhoami\n}\n.:53 dns://a. {\n\terrors\n" + strings.Replace(written, "ttl 9", "import snippet", 1) + "\n\tcache 30\n}\n",
	}
	taken, version := 0, 0
	follow := func(text string) (hash string, refused bool) {
		version++
		before := testutil.ToFloat64(stanzaRejected.WithLabelValues(k.name))
		k.follow(source.ConfigMapEvent{Data: map[string]string{"Corefile": text}, ResourceVersion: fmt.Sprint(version), Found: true})
		return k.serving.Load().hash, testutil.ToFloat64(stanzaRejected.WithLabelValues(k.name)) != before
	}
	hash, _ := follow(good[0])
	hostile.Run(t, 500, func(r *rand.Rand) {
		text := hostile.Text(r, good...)
		now, refused := follow(text)
		if refused && now != hash {
			t.Errorf("stanza %s was refused and serves in place of %s: %q", now, hash, text)
		}
		if !refused {
			taken++
		}
		hash = now
		checkReach(t, k, text)
		if v := k.View(); len(v.Hosts) > 200 || len(v.Zones)+len(v.Fallthrough) > 1000 || len(v.Options.Namespaces) > 1000 {
			t.Errorf("a query checks %d layers, %d zones and %d namespaces: %q", len(v.Hosts), len(v.Zones)+len(v.Fallthrough), len(v.Options.Namespaces), text)
		}
		if !holds(k, "file.example.") {
			t.Errorf("the entry in the Corefile's file is not served: %q", text)
		}
	})
	if taken == 0 {
		t.Error("none was applied")
	}
	if _, refused := follow(good[0]); refused || !holds(k, "inline.example.") {
		t.Errorf("a good stanza no longer serves: %s", k.Refused())
	}
}

// checkReach asserts that the live stanza uses no source that the Corefile's does not.
func checkReach(t *testing.T, k *Block, text string) {
	t.Helper()
	c, base := k.serving.Load().config, k.base
	if c.Endpoint() != base.Endpoint() || c.Kubeconfig != base.Kubeconfig || c.Context != base.Context || c.TLS != base.TLS ||
		c.Snapshot != base.Snapshot || *c.ConfigMap != *base.ConfigMap || !slices.Equal(c.Manifests, base.Manifests) {
		t.Errorf("it has other sources than the Corefile: %q", text)
	}
	for _, h := range c.Hosts {
		for _, file := range h.Files {
			if !slices.Contains(base.Hosts[0].Files, file) {
				t.Errorf("it reads %q: %q", file, text)
			}
		}
	}
	for _, z := range c.Zones {
		if !plugin.Zones(base.Zones).Contains(z) {
			t.Errorf("it serves zone %q: %q", z, text)
		}
	}
}

// In hosts files that are changed in some place, each good line is served, and the entries of other files stay.
func TestHostileHostsFiles(t *testing.T) {
	quietly(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.hosts")
	save(t, filepath.Join(dir, "b.hosts"), "192.0.2.1 still.example\n")
	good := []string{
		"127.0.0.1 localhost\n::1 localhost ip6-localhost\n10.0.0.7 db.example.org db # the old one\n\n# 10.0.0.8 gone\n10.0.0.9\ta.example.org\tA.example.org b.example.org.\n",
		"fe80::1%eth0 router.example.org\n10.0.0.80 *.apps.example.org\n::ffff:10.0.0.81 mapped.example.org\r\n10.0.0.82 esc\\.aped.example.org\n",
	}
	use, err := openTables.open(dir+"/*.hosts", nil, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer use.close()
	seen := 0
	hostile.Run(t, 500, func(r *rand.Rand) {
		text := hostile.Text(r, good...)
		save(t, path+"~", text+"\n192.0.2.9 last.example\n")
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
		use.of.files.Load().Look(t.Context())
		for _, table := range use.of.tables.All() {
			for _, name := range []string{"still.example.", "last.example."} {
				if a, _ := table.Lookup(name); a.Len4() > 0 {
					seen++
				}
			}
			for _, word := range strings.Fields(text)[:min(50, len(strings.Fields(text)))] {
				table.Lookup(strings.ToLower(dns.Fqdn(word)))
				if a, err := netip.ParseAddr(word); err == nil {
					table.Names(a)
				}
			}
		}
		if seen != 2 {
			t.Errorf("%d of 2 good lines are served with %q", seen, text)
		}
		seen = 0
	})
}

// Whoever chooses a name that is shown, or an error that quotes one, forges no line of the log, hides nothing in it,
// and breaks no metric: paths, views, ConfigMaps and their keys and texts, and what the API server says.
func TestHostileNames(t *testing.T) {
	quietly(t)
	shown := func(what, text string) {
		if !hostile.Printable(text) {
			t.Errorf("%s shows %q", what, text)
		}
	}
	for _, name := range hostile.Names {
		a := newAPIServer(t)
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		file := name != "" && !strings.ContainsAny(name, "\x00/*?[") && len(name) < 250
		failed := func(what string, err error) {
			if err != nil {
				shown("the error of "+what, err.Error())
			}
		}
		b := newIn(t, name, []string{dot}, following(a, "hosts /a", "snapshot /a"))
		b.base.Hosts[0].Files = []string{path, dir + "/*.hosts"}
		b.base.Snapshot = filepath.Join(path, "snapshot")
		failed("a missing file", b.CheckFiles())
		if file {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			failed("a folder", b.CheckFiles())
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			save(t, path, name+"\n192.0.2.1 "+name+" \u202e.example\n192.0.2.1 good.example\n")
			save(t, path+".hosts", "\xff\xfe") // UTF-16
			failed("a file", b.CheckFiles())
		}
		if err := b.Start(name, nil); err != nil { // a malformed pattern
			failed("a start", err)
			b = startIn(t, name, []string{dot}, name, following(a))
		}
		shown("the name of a server block", b.Name())
		text := func(text string) source.ConfigMapEvent {
			return source.ConfigMapEvent{Data: map[string]string{"Corefile": text}, Found: true}
		}
		for i, e := range []source.ConfigMapEvent{
			{Err: fmt.Errorf("%s", name)}, {Found: true, Data: map[string]string{name: ""}}, text(name), text("kubehosts {\n" + name + "\n}"), text("kubehosts \"" + name + "\""),
			text("kubehosts {\nhosts \"" + name + "\"\n}"), text("kubehosts {\nhosts {\n192.0.2.1 " + name + "\n}\n}"), text("kubehosts {\nlabels \"" + name + "\"\n}"),
			text("kubehosts {\npods verified\nnamespaces \"" + name + "\"\n}"), text("\"" + name + "\" {\nkubehosts\n}"), text("kubehosts {\npods verified\n}"),
		} {
			e.ResourceVersion = fmt.Sprint(i)
			b.follow(e)
			shown("a refusal", b.Refused())
		}
		for _, e := range b.Edits() {
			shown("an edit", e.Verdict)
		}
		other := newIn(t, "other", []string{dot}, following(a))
		other.base.ConfigMap = &stanza.ConfigMapRef{Namespace: "kube-system", Name: "coredns" + name, Key: name}
		failed("a start", other.Start("", nil))
		for i, e := range []source.ConfigMapEvent{{}, text(""), {Found: true, Data: map[string]string{name: "kubehosts {\nbogus\n}"}}} {
			e.ResourceVersion = fmt.Sprint(i)
			other.follow(e)
			shown("a refusal", other.Refused())
		}
		hostile.CheckMetrics(t)
		for _, e := range a.written() {
			shown("an Event", e)
		}
		other.Stop()
		b.Stop()
	}

	a := newAPIServer(t)
	a.message = strings.Join(hostile.Names[:24], " ") // of all errors
	a.answer("pods", 403)
	b := start(t, dot, following(a))
	eventually(t, "a start without the ConfigMap", b.Settled)
	a.put("kubehosts {\npods verified\n}")
	eventually(t, "the refusal of the API server", func() bool { return strings.Contains(b.Refused(), "list pods") && len(a.written()) > 0 })
	a.put("kubehosts {\n" + a.message + "\n}")
	eventually(t, "the refusal of a text", func() bool {
		return b.Refused() != "" && !strings.Contains(b.Refused(), "list pods") && len(a.written()) > 1
	})
	for _, text := range append(a.written(), b.Refused()) {
		shown("a refusal", text)
	}
}
