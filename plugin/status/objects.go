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

// nameOf parses a lower-case name in the zone of a. ok is false if it contains no Service's name.
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

// sayObjects adds the objects involved in the answer: the Service of the name, and those of the aliases after it.
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

// factsOf returns the details of a Service that are not in memory, which it requests once.
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
			target = "a target that does not fit into a CNAME record"
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

// sayEndpoints adds the number of ready endpoints.
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
		e.say("pod", "the address comes from the name, whether or not such a pod exists (pods insecure)")
		return
	}
	for m := range e.answer.Match().Members {
		if p := e.answer.State().PodWith(m.Addr); p != nil {
			e.say("pod", "%s/%s has %s", p.Namespace(), p.ObjectName(), m.Addr)
			return
		}
		e.say("pod", "several pods have %s, among them one in the namespace", m.Addr)
	}
}

// sayAddress adds which objects have the address of a reverse name.
func (e *explanation) sayAddress() {
	ip, ok := services.ParseReverse(e.answer.Lower)
	if !ok {
		e.say("address", "the name is above the reverse names of addresses")
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

// sayWhy adds why there is no such record, and the nearest names.
func (e *explanation) sayWhy() {
	a := &e.answer
	denied := a.Outcome == answer.Ours && (a.Rcode != dns.RcodeSuccess || a.Kind == answer.None && len(a.Aliases) == 0)
	switch a.Why() {
	case answer.IsTransfer:
		e.say("why", "only the transfer plugin sends zone transfers")
	case answer.AliasLoop:
		e.say("why", "the aliases form a loop, or there are more than %d", answer.MaxAliases)
	case answer.NothingRead:
		e.say("why", "%s", e.unread())
	case answer.FromHosts:
		if denied {
			e.say("why", "hosts entries have the name, but no %s for it", e.Type)
		}
	case answer.IsApex, answer.OfZone:
		if denied {
			e.say("why", "every zone has the name, but no %s record for it", e.Type)
		}
	case answer.IsReverse:
		if denied {
			e.say("why", "a reverse name has only PTR records, and the names above it have none")
		}
	case answer.AboveZone:
		e.say("why", "no object has the name; it exists because a zone below it is served")
	case answer.AboveHosts:
		e.say("why", "no object has the name; it exists because a hosts entry is below it")
	case answer.HostsLackType:
		e.say("why", "hosts entries have the name, but no %s for it, and nothing else has the name", e.Type)
	case answer.FellThrough:
		e.sayMissing()
		e.say("next", "fallthrough %s passes on names that do not exist", strings.Join(e.now.Config.Fallthrough, " "))
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

// unread returns why no objects are known.
func (e *explanation) unread() string {
	if e.servers.Offline {
		return "no objects are known: offline, they come from manifests or a snapshot"
	}
	return "no objects were read from the Kubernetes API yet"
}

// sayFollowed adds the records that the alias leads to.
func (e *explanation) sayFollowed() {
	target := e.answer.Target()
	e.say("alias", "this server answers for %s: %s", target, outcomeOf(e.servers.ask(target, e.answer.Type)))
}

// types are the types of the records that a name may have.
var types = []uint16{dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeMX}

// sayLacking adds the records that the name has, in place of the missing ones.
func (e *explanation) sayLacking() {
	switch e.answer.Match().Why {
	case services.StandsAbove:
		e.say("why", "the name exists because names below it do, but it has no records of its own")
		return
	case services.NoZone:
		e.say("why", "no ready endpoint is in that topology zone")
		return
	}
	e.sayTypes()
}

// sayTypes adds the records that the name has, and that the one in question is missing.
func (e *explanation) sayTypes() {
	var has []string
	for _, t := range types {
		other := e.now.View.Answer(answer.NewQuestion(e.answer.Owner(), t, dns.ClassINET))
		if other.Outcome == answer.Follow || other.Outcome == answer.Ours && other.Rcode == dns.RcodeSuccess && (other.Kind != answer.None || len(other.Aliases) > 0) {
			has = append(has, dns.Type(t).String())
		}
	}
	if len(has) == 0 {
		e.say("why", "%s exists, but has no records", e.answer.Owner())
		return
	}
	e.say("why", "%s has no %s record: it has %s", e.answer.Owner(), e.Type, listed(has, len(has)))
}
