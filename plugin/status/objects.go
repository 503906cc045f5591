package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// objectName is the name of a Service in kubectl's form, NAMESPACE/NAME.
func objectName(svc services.Service) string { return svc.Namespace() + "/" + svc.ObjectName() }

// nameOf parses a lower-case name in the zone of a. ok is false if there is no Service's name in it.
func nameOf(a *answer.Answer, name string) (n services.Name, ok bool) {
	z := a.Zone
	if z == nil || z.Reverse || z.External != nil || !answer.InZone(name, z.Name) {
		return n, false
	}
	n = services.ParseName(z.Below(name), z.Grammar)
	return n, n.Kind == services.Svc && n.Service != ""
}

// serviceOf returns the Service of a name in the zone of a, whether or not the options serve it.
func serviceOf(a *answer.Answer, name string) (services.Service, bool) {
	n, ok := nameOf(a, name)
	if !ok {
		return services.Service{}, false
	}
	svc := a.State().Owned(n.Service+"."+n.Namespace, a.Zone.Imported)
	return svc, !svc.IsZero()
}

// sayObjects adds the objects involved in the answer: the Service of the name, and those of the aliases that follow.
func (e *explanation) sayObjects() {
	a := &e.answer
	if a.Zone == nil || a.Why() == answer.FromHosts && len(a.Aliases) == 0 {
		return
	}
	for _, name := range append([]string{a.Lower}, a.Aliases...) {
		if svc, ok := serviceOf(a, answer.ToLower(name)); ok {
			e.say(kindOf(a), "%s", e.service(svc))
		}
	}
	m := a.Match()
	switch {
	case a.Outside() != nil:
		e.sayHost()
	case a.Why() == answer.IsReverse:
		e.sayAddress()
	case m.Outcome == services.OfEndpoints:
		e.sayEndpoints()
	case m.Outcome == services.OfPod:
		e.sayPod()
	}
}

func kindOf(a *answer.Answer) string {
	if a.Zone.Imported {
		return "import"
	}
	return "service"
}

// factsOf looks up the details of a Service that are not in memory, once.
func (e *explanation) factsOf(namespace, name string, unready bool) source.Facts {
	objects := e.now.Objects()
	if objects == nil || e.answer.Zone != nil && e.answer.Zone.Imported {
		return source.Facts{}
	}
	key := name + "." + namespace
	f, known := e.facts[key]
	if !known || unready && !f.Unready.Known {
		f = objects.Facts(e.ctx, namespace, name, unready)
		f.Origin = short(f.Origin)
		e.facts[key] = f
	}
	return f
}

// service describes a Service.
func (e *explanation) service(svc services.Service) string {
	f := e.factsOf(svc.Namespace(), svc.ObjectName(), false)
	kind := "ClusterIP"
	switch {
	case svc.External():
		kind = "ExternalName"
	case svc.Headless():
		kind = "headless"
	case f.Type != "":
		kind = f.Type
	}
	text := objectName(svc) + ", " + kind
	if f.Origin != "" {
		text += ", " + f.Origin
	}
	var parts []string
	for ip := range svc.Addrs().All {
		parts = append(parts, ip.String())
	}
	if svc.External() {
		target := svc.ExternalName()
		if target == "" {
			target = "a target that fits no CNAME record"
		}
		parts = append(parts, "alias of "+target)
	} else if ports := portsOf(svc.Ports()); len(ports) > 0 {
		parts = append(parts, "port "+listed(ports, 10))
	}
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return text
}

// portsOf returns ports as "http 80/TCP".
func portsOf(p services.Ports) (all []string) {
	for p.Next() {
		if p.Name() == "" && p.Protocol() == "" && p.Number() == 0 {
			continue
		}
		text := fmt.Sprintf("%d/%s", p.Number(), strings.ToUpper(p.Protocol()))
		if p.Name() != "" {
			text = p.Name() + " " + text
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

// sayEndpoints adds how many endpoints are ready.
func (e *explanation) sayEndpoints() {
	n4, n6 := e.answer.Match().Count()
	all := e.slices()
	var names []string
	for _, sl := range all {
		names = append(names, sl.ObjectName())
	}
	e.say("endpoint", "%s ready, of EndpointSlice %s", count(n4+n6, "address"), listed(names, 5))
}

// slices returns the EndpointSlices of the last name's Service.
func (e *explanation) slices() []services.Slice {
	svc := e.answer.Match().Service()
	if svc.IsZero() {
		svc, _ = serviceOf(&e.answer, answer.ToLower(e.answer.Owner()))
	}
	if svc.IsZero() {
		return nil
	}
	return e.answer.State().SlicesOf(svc.Owner(), e.answer.Zone.Imported)
}

// sayPod adds the pod with the address in the name.
func (e *explanation) sayPod() {
	if e.now.View.Options.Pods == services.PodsInsecure {
		e.say("pod", "the address is taken out of the name, whether there is such a pod or not (pods insecure)")
		return
	}
	for m := range e.answer.Match().Members {
		if p := e.answer.State().PodWith(m.Addr); p != nil {
			e.say("pod", "%s/%s has %s", p.Namespace(), p.ObjectName(), m.Addr)
			return
		}
		e.say("pod", "several pods have %s, one of the namespace among them", m.Addr)
	}
}

// sayAddress adds which objects have the address of a reverse name.
func (e *explanation) sayAddress() {
	ip, ok := services.ParseReverse(e.answer.Lower)
	if !ok {
		e.say("address", "the name is above those of addresses that have names")
		return
	}
	state := e.answer.State()
	var of []string
	for svc := range state.Owners(false) {
		if svc.IsZero() {
			continue
		}
		for a := range svc.Addrs().All {
			if a == ip {
				of = append(of, "Service "+objectName(svc))
			}
		}
	}
	for sl := range state.SlicesWith(ip) {
		of = append(of, fmt.Sprintf("EndpointSlice %s/%s of Service %s", sl.Namespace(), sl.ObjectName(), sl.Service()))
	}
	if len(of) == 0 {
		e.say("address", "%s is below the name of an object", ip)
		return
	}
	slices.Sort(of)
	e.say("address", "%s of %s", ip, listed(of, 5))
}

// sayWhy adds why there is no such record, and what is nearest.
func (e *explanation) sayWhy() {
	a := &e.answer
	denied := a.Outcome == answer.Ours && (a.Rcode != dns.RcodeSuccess || a.Kind == answer.None && len(a.Aliases) == 0)
	switch a.Why() {
	case answer.IsTransfer:
		e.say("why", "zone transfers are sent by the plugin transfer alone")
	case answer.AliasLoop:
		e.say("why", "the aliases lead back, or there are more than %d of them", answer.MaxAliases)
	case answer.NothingRead:
		e.say("why", "%s", e.unread())
	case answer.FromHosts:
		if denied {
			e.say("why", "hosts entries hold the name, and no %s for it", e.Type)
		}
	case answer.IsApex, answer.OfZone:
		if denied {
			e.say("why", "every zone has the name, and no %s records of it", e.Type)
		}
	case answer.IsReverse:
		if denied {
			e.say("why", "a reverse name has PTR records alone, and names above it have none")
		}
	case answer.AboveZone:
		e.say("why", "nothing has the name, which exists because a zone below it is served")
	case answer.AboveHosts:
		e.say("why", "nothing has the name, which exists because a hosts entry is below it")
	case answer.HostsLackType:
		e.say("why", "hosts entries hold the name, no %s for it, and nothing else has the name", e.Type)
	case answer.FellThrough:
		e.sayMissing()
		e.say("next", "fallthrough %s passes names that do not exist on", strings.Join(e.now.Config.Fallthrough, " "))
	case answer.NoName:
		e.sayMissing()
	case answer.OfObject:
		if denied {
			e.sayLacking()
		}
	case answer.OfHost:
		if denied {
			e.sayHostLacking()
		}
	}
	if a.Outcome == answer.Follow {
		e.sayFollowed()
	}
}

// unread returns why nothing is known of the objects.
func (e *explanation) unread() string {
	if e.servers.Offline {
		return "nothing is known of the objects: offline, they are those of manifests or of a snapshot"
	}
	return "nothing was read from the Kubernetes API yet"
}

// sayFollowed adds what the alias leads to.
func (e *explanation) sayFollowed() {
	target := e.answer.Target()
	e.say("alias", "%s is asked of this server: %s", target, outcomeOf(e.servers.ask(target, e.answer.Type)))
}

// types are the types of the records that a name may have.
var types = []uint16{dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeMX}

// sayLacking adds which records the name has, in place of those that were asked for.
func (e *explanation) sayLacking() {
	switch e.answer.Match().Why {
	case services.StandsAbove:
		e.say("why", "the name exists because there are names below it, and has no records of its own")
		return
	case services.NoZone:
		e.say("why", "no ready endpoint is in that topology zone")
		return
	}
	e.sayTypes()
}

// sayTypes adds which records the name has, and that the one that was asked for is not among them.
func (e *explanation) sayTypes() {
	var has []string
	for _, t := range types {
		other := e.now.View.Answer(answer.NewQuestion(e.answer.Owner(), t, dns.ClassINET))
		if other.Outcome == answer.Follow || other.Outcome == answer.Ours && other.Rcode == dns.RcodeSuccess && (other.Kind != answer.None || len(other.Aliases) > 0) {
			has = append(has, dns.Type(t).String())
		}
	}
	if len(has) == 0 {
		e.say("why", "%s exists, and has no record of any type", e.answer.Owner())
		return
	}
	e.say("why", "%s has no %s record: it has %s", e.answer.Owner(), e.Type, listed(has, len(has)))
}
