package live

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"

	"github.com/kubehosts/kubehosts/plugin/serial"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// A zone with all that its content comes from: objects inside and outside, a stanza in a ConfigMap, and hosts files.
const (
	shopService = `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.%d"}}` + "\n"
	shopIngress = `{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web", "namespace": "shop"}, ` +
		`"spec": {"rules": [{"host": "www.example.org"}]}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.%d"}]}}}` + "\n"
	shopStanza = `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns", "namespace": "kube-system", "resourceVersion": "%d"}, ` +
		`"data": {"Corefile": "kubehosts {\nttl %d\nexternal example.org {\nfrom ingress\n}\n}\n"}}` + "\n"
)

// serialCase is a server block with a zone of each kind.
type serialCase struct {
	dir   string
	keys  []string
	root  string
	local []netip.Addr
	more  string // options

	corefile int
	block    *Block
}

func newSerialCase(t *testing.T) *serialCase {
	dir := t.TempDir()
	c := &serialCase{dir: dir, keys: []string{dot}, root: filepath.Join(dir, "one")}
	for _, root := range []string{"one", "two"} {
		if err := os.Mkdir(filepath.Join(dir, root), 0o700); err != nil {
			t.Fatal(err)
		}
		save(t, filepath.Join(dir, root, "corp.hosts"), "192.0.2.7 corp.cluster.local\n192.0.2.8 "+root+".cluster.local\n")
	}
	if err := os.Mkdir(filepath.Join(dir, "objects"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.write(t, "service.json", shopService, 1)
	c.write(t, "ingress.json", shopIngress, 1)
	c.write(t, "stanza.json", shopStanza, 1, 30)
	c.reload(t)
	return c
}

// write replaces a file of objects.
func (c *serialCase) write(t *testing.T, name, format string, args ...any) {
	path := filepath.Join(c.dir, "objects", name)
	save(t, path+"~", fmt.Sprintf(format, args...))
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

// reload starts the server block of the next Corefile, and stops the one before it.
func (c *serialCase) reload(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf("kubehosts cluster.local {\nmanifests %s/objects\nconfigmap kube-system/coredns\nhosts corp.hosts {\nreload 1s\n}\nexternal example.org {\nfrom ingress\n}\n%s\n}\n", c.dir, c.more)
	controller := caddy.NewTestController("dns", text)
	config, err := stanza.Parse(&controller.Dispenser, c.keys)
	if err != nil {
		t.Fatal(err)
	}
	c.corefile++
	last := c.block
	c.block = New(config, ServerBlock{Keys: c.keys, Root: c.root, Corefile: c.corefile})
	t.Cleanup(c.block.Stop)
	if err := c.block.Start("", c.local); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stanza of the ConfigMap", func() bool { return c.block.Settled() && c.block.serving.Load().origin == fromConfigMap })
	if last != nil {
		last.Stop()
	}
}

// Whatever changes the content of a zone, its SOA record or its name servers gives it a later serial, even within a
// second of the change before it: else a secondary that transferred in between never gets the change. What changes
// nothing leaves the serial as it is.
func TestEveryChangeRaisesTheSerial(t *testing.T) {
	quietly(t)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, c *serialCase, n int)
	}{
		{"an object", func(t *testing.T, c *serialCase, n int) { c.write(t, "service.json", shopService, 10+n) }},
		{"an object with an external name", func(t *testing.T, c *serialCase, n int) { c.write(t, "ingress.json", shopIngress, 10+n) }},
		{"the ConfigMap's stanza", func(t *testing.T, c *serialCase, n int) { c.write(t, "stanza.json", shopStanza, 10+n, 40+n) }},
		{"a hosts file", func(t *testing.T, c *serialCase, n int) {
			save(t, c.root+"/corp.hosts~", fmt.Sprintf("192.0.2.%d corp.cluster.local\n", 10+n))
			if err := os.Rename(c.root+"/corp.hosts~", c.root+"/corp.hosts"); err != nil {
				t.Fatal(err)
			}
		}},
		{"keys that allow other hosts entries", func(t *testing.T, c *serialCase, n int) {
			c.keys = [][]string{{"dns://cluster.local.:53"}, {"dns://shop.cluster.local.:53"}}[n]
			c.reload(t)
		}},
		{"another key besides", func(t *testing.T, c *serialCase, n int) {
			c.keys = append(c.keys[:1:1], fmt.Sprintf("dns://v%d.cluster.local.:53", n))
			if n == 0 {
				c.keys[0] = "dns://example.net.:53"
			}
			c.reload(t)
		}},
		{"addresses of the server", func(t *testing.T, c *serialCase, n int) {
			c.local = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + n)})}
			c.reload(t)
		}},
		{"a root folder with other hosts files", func(t *testing.T, c *serialCase, n int) {
			c.root = filepath.Join(c.dir, []string{"two", "three"}[n])
			if n == 1 {
				if err := os.Mkdir(c.root, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			c.reload(t)
		}},
		{"a Corefile with another hosts option", func(t *testing.T, c *serialCase, n int) {
			save(t, fmt.Sprintf("%s/more%d.hosts", c.root, n), "192.0.2.9 more.cluster.local\n")
			c.more += fmt.Sprintf("hosts more%d.hosts\n", n)
			c.reload(t)
		}},
		{"other objects with external names", func(t *testing.T, c *serialCase, n int) {
			c.write(t, "stanza.json", strings.Replace(shopStanza, "from ingress", []string{"from service", "from ingress service"}[n], 1), 10+n, 30)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newSerialCase(t)
			c.reload(t)
			before := c.block.View().Latest().Last()
			if c.reload(t); c.block.View().Latest().Last() != before {
				t.Errorf("a reload without a change made %d of the serial %d", c.block.View().Latest().Last(), before)
			}
			for n := range 2 {
				before := c.block.View().Latest().Now()
				tt.change(t, c, n)
				eventually(t, fmt.Sprintf("a later serial than %d", before), func() bool { return serial.Before(before, c.block.View().Latest().Now()) })
			}
			if ahead := int64(c.block.View().Latest().Now()) - time.Now().Unix(); ahead > serial.MaxAhead {
				t.Errorf("the serial is %d s ahead", ahead)
			}
		})
	}
}

// A process that starts from a snapshot continues with its serial, even if the clock was set back: with the same one if
// the zones have the same content, else with a later one.
func TestSerialOfSnapshot(t *testing.T) {
	quietly(t)
	for _, tt := range []struct {
		name  string
		keys  []string
		local []netip.Addr
		more  string // options
		lines string // of the hosts file
		same  bool
	}{
		{name: "the same content", same: true},
		{name: "another port", keys: []string{"dns://.:1053"}, same: true},
		{name: "other keys", keys: []string{"dns://example.org.:53"}},
		{name: "other addresses", local: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		{name: "another stanza", more: "ttl 77"},
		{name: "another hosts file", lines: "192.0.2.2 corp.example\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPIServer(t)
			dir := t.TempDir()
			save(t, dir+"/corp.hosts", "192.0.2.1 corp.example\n")
			options := []string{"snapshot " + dir + "/snapshot", "hosts " + dir + "/corp.hosts"}
			b := running(t, 1, following(a, options...))
			eventually(t, "a start without the ConfigMap", b.Settled)
			c := b.capture()
			ahead := uint32(time.Now().Add(time.Hour).Unix())
			c.Serial = ahead
			b.Stop()
			if _, err := c.Write(dir + "/snapshot"); err != nil {
				t.Fatal(err)
			}
			for name := range apiKinds {
				a.hold(name)
			}
			if tt.lines != "" {
				save(t, dir+"/corp.hosts", tt.lines)
			}
			if tt.keys == nil {
				tt.keys = []string{dot}
			}
			again := newIn(t, 2, tt.keys, following(a, append(options, tt.more)...))
			if err := again.Start("", tt.local); err != nil {
				t.Fatal(err)
			}
			got := again.View().Latest().Last()
			if tt.same && got != ahead || !tt.same && !serial.Before(ahead, got) {
				t.Errorf("the serial is %d, it was %d", got, ahead)
			}
		})
	}
}
