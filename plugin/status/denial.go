package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// sayMissing adds why nothing has the name, and what is nearest to it.
func (e *explanation) sayMissing() {
	a := &e.answer
	name := answer.ToLower(a.Owner())
	if a.Zone.Reverse || strings.HasSuffix(name, ".arpa.") {
		e.say("why", "no object has an address that this is the reverse name of")
		return
	}
	if a.Outside() != nil {
		e.noHost(name)
		return
	}
	n := services.ParseName(a.Zone.Below(name), a.Zone.Grammar)
	m := a.Match()
	switch m.Why {
	case services.NotDefined:
		e.say("why", "names in %s end in svc or pod, as in SERVICE.NAMESPACE.svc.%[1]s", a.Zone.Name)
		e.sayWithoutSvc(name)
	case services.NoNamespace:
		e.noNamespace(&n)
	case services.NamespaceHidden:
		e.say("why", "the option namespaces leaves namespace %s out", n.Namespace)
	case services.NoService:
		e.noService(&n)
	case services.NoReady, services.EmptyHidden:
		e.noReady(&n)
	case services.EndpointsHidden:
		e.say("why", "the option noendpoints hides the endpoints")
	case services.NoEndpoint:
		e.noEndpoint(&n)
	case services.NoPort:
		e.noPort(&n)
	case services.NotHeadless:
		e.say("why", "Service %s/%s is not headless, and topology zones can be asked for of headless Services alone", n.Namespace, n.Service)
	case services.BelowAlias:
		e.say("why", "Service %s/%s is an ExternalName, which has no names below it", n.Namespace, n.Service)
	case services.BadAlias:
		e.say("why", "the externalName of Service %s/%s is an address, or no domain name", n.Namespace, n.Service)
	case services.PodsHidden:
		e.say("why", "the option pods is disabled, as it is by default, so no pod has a name")
	case services.NoPodAddress:
		e.say("why", "%q spells no address, as 10-244-1-9 does", n.Service)
	case services.NoPod:
		e.say("why", "no pod in namespace %s has the address that %s spells", n.Namespace, n.Service)
	}
}

// exposed returns the namespaces that are served.
func (e *explanation) exposed() (all []string) {
	served := e.now.View.Options.Namespaces
	for name := range e.answer.State().Namespaces {
		if _, ok := served[name]; ok || len(served) == 0 {
			all = append(all, strings.Clone(name))
		}
	}
	return all
}

// sayNear names likely intended names.
func (e *explanation) sayNear(what string, near []string) {
	if len(near) > 0 {
		e.say("near", "%s%s", what, listed(near, maxNear))
	}
}

// sayWithoutSvc names the Service that a name lacks the label svc of.
func (e *explanation) sayWithoutSvc(name string) {
	z := e.answer.Zone
	n := services.ParseName(z.Below(name)+".svc", z.Grammar)
	if n.Service == "" {
		return
	}
	if svc := e.answer.State().Owned(n.Service+"."+n.Namespace, z.Imported); !svc.IsZero() {
		e.sayNear("", []string{z.Below(name) + answer.Under(".svc.", z.Name)})
	}
}

// noNamespace adds that there is no such namespace, and names similar ones, and those that have a Service of the name.
func (e *explanation) noNamespace(n *services.Name) {
	if n.Service != "" && n.Kind == services.Svc && e.leftOut(n) {
		return
	}
	e.say("why", "there is no namespace %s", n.Namespace)
	e.sayNear("namespace ", nearest(n.Namespace, e.exposed()))
	if n.Service == "" || n.Kind != services.Svc {
		return
	}
	if svc := e.answer.State().Owned(n.Namespace+"."+n.Service, e.answer.Zone.Imported); !svc.IsZero() {
		e.say("near", "Service %s, whose name is %s: the Service comes first, then its namespace", objectName(svc), svc.Owner())
	}
	e.otherNamespaces(n)
}

// otherNamespaces names the Services of that name in other namespaces.
func (e *explanation) otherNamespaces(n *services.Name) {
	var all []string
	for _, svc := range names(e.answer.State(), e.answer.Zone.Imported, "") {
		if svc.ObjectName() == n.Service && svc.Namespace() != n.Namespace {
			all = append(all, objectName(svc))
		}
	}
	slices.Sort(all)
	e.sayNear("Service ", all)
}

// leftOut reports whether the Service of n exists and an option leaves it or its namespace out, and if so adds that.
func (e *explanation) leftOut(n *services.Name) bool {
	f := e.factsOf(n.Namespace, n.Service, false)
	if f.LeftOut != "" {
		e.say("why", "Service %s/%s is there (%s), and %s leaves it out", n.Namespace, n.Service, f.Origin, f.LeftOut)
	}
	return f.LeftOut != ""
}

// noService adds that there is no such Service, and what is nearest.
func (e *explanation) noService(n *services.Name) {
	if e.leftOut(n) {
		return
	}
	f := e.factsOf(n.Namespace, n.Service, false)
	if f.Found {
		e.say("why", "Service %s/%s is there (%s), and this server is yet to hear of it", n.Namespace, n.Service, f.Origin)
		return
	}
	e.say("why", "there is no Service %s in namespace %s", n.Service, n.Namespace)
	if f.Missing != "" && !e.servers.Offline {
		e.say("", "%s", f.Missing)
	}
	var same []string
	for _, svc := range names(e.answer.State(), e.answer.Zone.Imported, n.Namespace) {
		same = append(same, svc.ObjectName())
	}
	for _, name := range nearest(n.Service, same) {
		e.sayNear("Service ", []string{n.Namespace + "/" + name})
	}
	e.otherNamespaces(n)
}

// noReady adds that no endpoint is ready, and which are not.
func (e *explanation) noReady(n *services.Name) {
	why := fmt.Sprintf("Service %s/%s has no ready endpoint", n.Namespace, n.Service)
	if e.answer.Match().Why == services.EmptyHidden {
		why += ", and the option ignore empty_service hides it"
	}
	e.say("why", "%s", why)
	f := e.factsOf(n.Namespace, n.Service, true)
	switch {
	case f.Missing != "":
		e.say("", "which ones are not ready is not known: %s", f.Missing)
	case f.Unready.Total > 0:
		e.say("", "not ready: %s", unready(f.Unready))
	case f.Unready.Known && f.Selector != "":
		e.say("", "its selector %s finds no pod with an address", f.Selector)
	case f.Unready.Known:
		e.say("", "it has no selector, and no EndpointSlice with an endpoint")
	}
}

// unready puts endpoints into words.
func unready(u source.Unready) string {
	var all []string
	for _, e := range u.First {
		text := cmp.Or(e.Pod, e.Addr)
		if e.Pod != "" {
			text = "pod " + text + " at " + e.Addr
		}
		if e.Terminating {
			text += " (terminating)"
		}
		all = append(all, text)
	}
	text := count(u.Total, "endpoint") + ": " + strings.Join(all, ", ")
	if more := u.Total - len(u.First); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// noEndpoint adds that no ready endpoint has the name, and which do.
func (e *explanation) noEndpoint(n *services.Name) {
	e.say("why", "no ready endpoint of Service %s/%s is called %s", n.Namespace, n.Service, n.Endpoint)
	f := e.factsOf(n.Namespace, n.Service, true)
	for _, u := range f.Unready.First {
		if u.Hostname == n.Endpoint || u.Pod == n.Endpoint {
			e.say("", "not ready: %s", unready(source.Unready{Total: 1, First: []source.UnreadyEndpoint{u}}))
		}
	}
	var labels []string
	for _, sl := range e.slices() {
		for label := range sl.Labels {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	labels = slices.Compact(labels)
	if near := nearest(n.Endpoint, labels); len(near) > 0 {
		e.sayNear("", near)
		return
	}
	e.sayNear("its endpoints are ", labels)
}

// noPort adds that there is no such port, and which there are.
func (e *explanation) noPort(n *services.Name) {
	asked := fmt.Sprintf("port _%s._%s", n.Port, n.Protocol)
	e.say("why", "Service %s/%s has no %s", n.Namespace, n.Service, asked)
	svc := e.answer.State().Owned(n.Service+"."+n.Namespace, e.answer.Zone.Imported)
	ports := portsOf(svc.Ports())
	if svc.Headless() {
		ports = nil
		for _, sl := range e.slices() {
			ports = append(ports, portsOf(sl.Ports())...)
		}
		slices.Sort(ports)
		ports = slices.Compact(ports)
	}
	if len(ports) > 0 {
		e.say("near", "its ports are %s", listed(ports, 10))
	}
}
