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

// AutoPath implements autopath.AutoPather: the search list of the pod that asks, as the kubelet writes it, with the
// domains of this machine's resolv.conf behind. It is nil, for no search, unless pods are verified and one has the
// address that asks.
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
	return append(search, "") // the end mark that autopath wants
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

// leftBehind returns what LeftBehind finds in the server block of c, for the log. It looks at the whole Corefile, for a plugin is
// handed its own part alone.
func leftBehind(c *caddy.Controller) (all []string) {
	instances := caddy.Instances()
	if len(instances) == 0 {
		return nil
	}
	corefile := instances[len(instances)-1].Caddyfile() // of the instance that starts
	blocks, err := caddyfile.Parse(corefile.Path(), bytes.NewReader(corefile.Body()), nil)
	if err != nil || c.ServerBlockIndex >= len(blocks) {
		return nil // an imported file has changed since the server has read it
	}
	for _, r := range LeftBehind(blocks[c.ServerBlockIndex]) {
		all = append(all, fmt.Sprintf("%s:%d - %s", cmp.Or(r.At.File, corefile.Path()), r.At.Line, r.Text))
	}
	return all
}

// Remark is something in a Corefile that works, but hardly as it was meant.
type Remark struct {
	At   caddyfile.Token
	Text string
}

// LeftBehind finds, in a server block of kubehosts, plugins that look for the stock plugin kubernetes where kubehosts has taken
// its place: they find none, do nothing, and do not tell.
func LeftBehind(b caddyfile.ServerBlock) (all []Remark) {
	if _, stock := b.Tokens["kubernetes"]; stock {
		return nil
	}
	for _, t := range b.Tokens["autopath"] {
		if t.Text == "@kubernetes" {
			all = append(all, Remark{t, "autopath @kubernetes completes no names, as this server block has no plugin kubernetes: write autopath @" + pluginName})
		}
	}
	if tokens := b.Tokens["k8s_external"]; len(tokens) > 0 {
		all = append(all, Remark{tokens[0], "k8s_external answers nothing, as this server block has no plugin kubernetes: write external and its zones into the stanza of " + pluginName})
	}
	return all
}
