// Package kubehosts is a CoreDNS plugin that answers for Kubernetes Services and for the lines of hosts files, and
// takes its stanza live from a ConfigMap. See README.md.
package kubehosts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/upstream"

	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
	"github.com/kubehosts/kubehosts/plugin/wire"
)

const pluginName = stanza.Name

var log = safe.NewLog(pluginName)

func init() { plugin.Register(pluginName, setup) }

// Kubehosts is the plugin in one server block.
type Kubehosts struct {
	Next     plugin.Handler
	upstream *upstream.Upstream
	block    *live.Block
	ready    atomic.Bool
	search   []string      // of this machine's resolv.conf, for AutoPath
	patience time.Duration // how long a start waits for the first objects
}

// obeyMemoryLimit sets the Go memory limit to nine tenths of the container's, unless the environment sets GOMEMLIMIT.
// The collector then runs sooner near the limit, and the kernel does not kill the process. A changed limit takes effect
// within a minute (KEP-1287).
//
// Without it, the process was killed within 20 s at a limit of 170 MiB, with a hosts file of 1,000,000 names that
// changed every second.
var obeyMemoryLimit = sync.OnceFunc(func() {
	if _, err := memlimit.Set(memlimit.WithRefreshInterval(context.Background(), time.Minute)); err != nil {
		log.Debugf("Can't determine the memory limit, so none is set: %v", err)
	}
})

func setup(c *caddy.Controller) error {
	source.RouteKlog()
	obeyMemoryLimit()

	config, err := stanza.Parse(&c.Dispenser, c.ServerBlockKeys)
	if err != nil {
		return failed(err)
	}
	k := &Kubehosts{
		upstream: upstream.New(),
		block:    live.New(config, live.ServerBlock{Keys: c.ServerBlockKeys, Root: dnsserver.GetConfig(c).Root, Corefile: c.Context()}),
		search:   searchOf("/etc/resolv.conf"),
		patience: config.StartupTimeout,
	}
	if err := k.block.CheckFiles(); err != nil {
		return failed(err)
	}

	c.OnStartup(func() error {
		if err := k.block.Start(dnsserver.GetConfig(c).ViewName, localAddrs(c)); err != nil {
			return failed(err)
		}
		if err := k.show(c, config); err != nil {
			return failed(err)
		}
		log.Info(authority(config, k.block.Name()))
		for _, warning := range leftBehind(c) {
			log.Warning(warning)
		}
		k.waitForObjects()
		return nil
	})
	c.OnShutdown(func() error { k.block.Stop(); return nil })

	// A failed reload drops the new instances without notifying them. The running one is notified.
	c.OnRestart(func() error { live.RestartBegan(c.Context()); return nil })
	c.OnRestartFailed(func() error { live.RestartFailed(c.Context()); return nil })

	if !config.WireOff {
		wire.Serve(c, k.block.View)
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		k.Next = next
		return k
	})
	return nil
}

// failed returns err as an error of the plugin. CoreDNS logs it, so it is one line, whatever text from outside it
// quotes.
func failed(err error) error {
	if line := safe.Line(err.Error()); line != err.Error() {
		err = errors.New(line)
	}
	return plugin.Error(pluginName, err)
}

// authority returns the zones for which the Corefile's stanza makes the server block authoritative, and what answers
// for other names.
func authority(c *stanza.Config, block string) string {
	const most = 10 // zones that are named
	zones := strings.Join(c.Zones[:min(len(c.Zones), most)], " ")
	switch more := len(c.Zones) - most; {
	case len(c.Zones) == 0:
		zones = "no zone"
	case more > 0:
		zones += fmt.Sprintf(" and %d more (Services)", more)
	default:
		zones += " (Services)"
	}
	var outside []string
	for _, e := range c.External {
		outside = append(outside, e.Zones...)
	}
	if more := len(outside) - most; more > 0 {
		outside = append(outside[:most], fmt.Sprintf("and %d more", more))
	}
	if names := strings.Join(outside, " ") + " (external names)"; len(outside) > 0 && len(c.Zones) == 0 {
		zones = names
	} else if len(outside) > 0 {
		zones += " and " + names
	}
	others := "the next plugin answers for other names"
	if len(c.Hosts) > 0 {
		others = "hosts entries answer for other names, else the next plugin does"
	}
	hint := ""
	if c.HostsOnly {
		hint = "; the stanza has only hosts options: to serve Services too, write their zones after " + pluginName
	}
	return fmt.Sprintf("%s is authoritative for %s; %s%s", block, zones, others, hint)
}

// waitForObjects delays the start until there is something to serve, or until startup_timeout.
func (k *Kubehosts) waitForObjects() {
	const look = 2 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	started, logged := time.Now(), false
	for !k.Ready() {
		<-tick.C
		waited := time.Since(started)
		if waited > k.patience {
			log.Warning("starting server with unsynced Kubernetes API")
			return
		}
		if waited > 500*time.Millisecond && !logged {
			log.Info("waiting for Kubernetes API before starting server")
			logged = true
		}
	}
}
