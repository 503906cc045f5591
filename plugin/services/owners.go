// What transfers and reverse names ask of a State; each look goes through all of it.
package services

import "net/netip"

func (s *State) AddressBelow(p netip.Prefix, o *Options) bool {
	for a := range s.Addresses {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func (s *State) OwnerNames(o *Options, imported bool, yield func(string) bool) {
	seen := map[string]bool{}
	for _, svc := range s.Served(o, imported) {
		name := svc.Owner() + ".svc"
		out := func(n string) bool {
			if seen[n] {
				return true
			}
			seen[n] = true
			return yield(n)
		}
		if !out(name) {
			return
		}
		for p := svc.Ports(); p.Next(); {
			if p.Name() != "" && !out("_"+p.Name()+"._"+p.Protocol()+"."+name) {
				return
			}
		}
		for _, sl := range s.SlicesOf(svc.Owner(), imported) {
			for p := sl.Ports(); p.Next(); {
				if p.Name() != "" && !out("_"+p.Name()+"._"+p.Protocol()+"."+name) {
					return
				}
			}
			for l := range sl.Labels {
				if !out(l + "." + name) {
					return
				}
			}
		}
	}
}
