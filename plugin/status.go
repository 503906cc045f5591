package kubehosts

import (
	"slices"

	"github.com/coredns/caddy"

	"github.com/kubehosts/kubehosts/plugin/stanza"
	"github.com/kubehosts/kubehosts/plugin/status"
	"github.com/kubehosts/kubehosts/plugin/wire"
)

// show adds the server block to the status page, and opens the page if the Corefile's stanza has the option.
func (k *Kubehosts) show(c *caddy.Controller, config *stanza.Config) error {
	status.Add(k.block, c.ServerBlockIndex, func() status.Servers { return serversOf(c, k.search) })
	if config.Status == "" {
		return nil
	}
	closePage, err := status.Listen(config.Status)
	if err != nil {
		return err
	}
	k.block.AtStop(closePage)
	return nil
}

// serversOf returns all server blocks of the Corefile, as CoreDNS has set them up.
func serversOf(c *caddy.Controller, search []string) (s status.Servers) {
	s.Search = search
	if all := caddy.Instances(); len(all) > 0 {
		corefile := all[len(all)-1].Caddyfile() // of the instance that starts
		s.Path, s.Text = corefile.Path(), string(corefile.Body())
	}
	for index, config := range wire.Configs(c) {
		if index == len(s.All) {
			s.All = append(s.All, status.Server{View: config.ViewName})
		}
		server := &s.All[index]
		server.Zones = append(server.Zones, config.Zone)
		server.Keys = append(server.Keys, config.Transport+"://"+config.Zone+":"+config.Port)
		for _, h := range config.Handlers() {
			if !slices.Contains(server.Plugins, h.Name()) {
				server.Plugins = append(server.Plugins, h.Name())
			}
		}
	}
	return s
}
