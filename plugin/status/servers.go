// Package status explains why an answer is what it is, and shows the state of a server. The command explain, the status
// page and its JSON share their text, which is made here from the results of package answer.
package status

import (
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// Server is a server block of a Corefile.
type Server struct {
	Keys    []string    // in CoreDNS's form: dns://.:53
	Zones   []string    // of Keys, lower case and fully qualified
	View    string      // the name that the view plugin gives it; "" without one
	Plugins []string    // in the order in which they get a query
	Block   *live.Block // nil without a kubehosts stanza
}

// Servers are the server blocks of one Corefile, in its order.
type Servers struct {
	All     []Server
	Search  []string // the domains at the end of a pod's search list, fully qualified: those of the node's resolv.conf
	Path    string   // of the Corefile
	Text    string   // of the Corefile, to show stanzas from it
	Offline bool     // nothing is served, and no API server is contacted
}

// name returns the name of the server block in logs.
func (s *Server) name() string {
	if s.Block != nil && s.Block.Name() != "" {
		return s.Block.Name()
	}
	name := strings.Join(s.Keys[:min(1, len(s.Keys))], " ")
	if s.View != "" {
		name += " view=" + s.View
	}
	return name
}

// now returns what the server block serves. ok is false without a stanza.
func (s *Server) now() (live.Now, bool) {
	if s.Block == nil {
		return live.Now{}, false
	}
	return s.Block.Now()
}

// ahead and behind return the plugins ahead of kubehosts and behind it.
func (s *Server) ahead() []string { return s.Plugins[:max(0, slices.Index(s.Plugins, stanza.Name))] }
func (s *Server) behind() []string {
	return s.Plugins[slices.Index(s.Plugins, stanza.Name)+1:]
}

// of returns the server blocks that may get a lower-case name: those with the longest zone that contains it. There are
// several if ports or views differ.
func (s *Servers) of(name string) (all []*Server) {
	longest := -1
	for i := range s.All {
		for _, z := range s.All[i].Zones {
			switch n := dns.CountLabel(z); {
			case !answer.InZone(name, z) || n < longest:
				continue
			case n > longest:
				longest, all = n, nil
			}
			if !slices.Contains(all, &s.All[i]) {
				all = append(all, &s.All[i])
			}
		}
	}
	return all
}

// cluster returns the Service zone in the search lists of pods, the first that is served, "" without one.
func (s *Servers) cluster() string {
	for i := range s.All {
		now, ok := s.All[i].now()
		if !ok {
			continue
		}
		for _, z := range now.View.Zones {
			if !z.Reverse && !z.Imported && z.External == nil {
				return z.Name
			}
		}
	}
	return ""
}

// names returns the names of all Services of s in the namespace, or in any if it is "".
func names(s *services.State, imported bool, namespace string) (all []services.Service) {
	for svc := range s.Owners(imported) {
		if !svc.IsZero() && (namespace == "" || svc.Namespace() == namespace) {
			all = append(all, svc)
		}
	}
	return all
}
