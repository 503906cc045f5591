package kubehosts

import (
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
	if z == nil {
		return nil
	}
	pod := podAt(v, state.IP())
	if pod == nil {
		return nil
	}
	search := []string{
		pod.Namespace() + answer.Under(".svc.", z.Name),
		answer.Under("svc.", z.Name),
		z.Name,
	}
	search = append(search, k.search...)
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
