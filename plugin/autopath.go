package kubehosts

import (
	"bytes"
	"cmp"
	"fmt"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
)

// AutoPath implements autopath.AutoPather: the search list of the querying pod, as the kubelet writes it, followed by
// the domains of this machine's resolv.conf. It is nil, for no search, unless pods are verified and one has the
// client's address.
func (k *Kubehosts) AutoPath(state request.Request) []string {
	v := k.block.View()
	z := v.ZoneOf(state.Name())
	if z == nil || z.External != nil {
		return nil
	}
	pod := podAt(v, state.IP())
	if pod == nil {
		return nil
	}
	search := append(answer.SearchList(pod.Namespace(), z.Name), k.search...)
	return append(search, "") // the end mark that autopath expects
}

// searchOf returns the search list of a resolv.conf, fully qualified. It is empty if the file can't be read.
func searchOf(path string) []string {
	rc, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil
	}
	plugin.Zones(rc.Search).Normalize()
	return rc.Search
}

// leftBehind returns the result of LeftBehind for the server block of c, for the log. It reads the whole Corefile,
// because a plugin gets only its own part.
func leftBehind(c *caddy.Controller) (all []string) {
	instances := caddy.Instances()
	if len(instances) == 0 {
		return nil
	}
	corefile := instances[len(instances)-1].Caddyfile() // of the instance that starts
	blocks, err := caddyfile.Parse(corefile.Path(), bytes.NewReader(corefile.Body()), nil)
	if err != nil || c.ServerBlockIndex >= len(blocks) {
		return nil // an imported file has changed since the server read it
	}
	for _, r := range LeftBehind(blocks[c.ServerBlockIndex]) {
		all = append(all, fmt.Sprintf("%s:%d - %s", cmp.Or(r.At.File, corefile.Path()), r.At.Line, r.Text))
	}
	return all
}

// Remark is something in a Corefile that works, but probably not as intended.
type Remark struct {
	At   caddyfile.Token
	Text string
}

// LeftBehind finds plugins in a server block of kubehosts that look up the stock kubernetes plugin, which kubehosts
// replaces. They don't find it and do nothing, without an error.
func LeftBehind(b caddyfile.ServerBlock) (all []Remark) {
	if _, stock := b.Tokens["kubernetes"]; stock {
		return nil
	}
	for _, t := range b.Tokens["autopath"] {
		if t.Text == "@kubernetes" {
			all = append(all, Remark{t, "autopath @kubernetes has no effect, since this server block has no kubernetes plugin: write autopath @" + pluginName})
		}
	}
	if tokens := b.Tokens["k8s_external"]; len(tokens) > 0 {
		all = append(all, Remark{tokens[0], "k8s_external has no effect, since this server block has no kubernetes plugin: add external and its zones to the stanza of " + pluginName})
	}
	return all
}
