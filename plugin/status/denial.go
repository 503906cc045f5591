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

// sayMissing adds why nothing has the name, and the nearest names.
func (e *explanation) sayMissing() {
	a := &e.answer
	name := answer.ToLower(a.Owner())
	if a.Zone.Reverse || strings.HasSuffix(name, ".arpa.") {
		e.say("why", "no object has the address of this reverse name")
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
		e.say("why", "the namespaces option excludes namespace %s", n.Namespace)
	case services.NoService:
		e.noService(&n)
	case services.NoReady, services.EmptyHidden:
		e.noReady(&n)
	case services.EndpointsHidden:
		e.say("why", "the noendpoints option hides the endpoints")
	case services.NoEndpoint:
		e.noEndpoint(&n)
	case services.NoPort:
		e.noPort(&n)
	case services.NotHeadless:
		e.say("why", "Service %s/%s is not headless, and only headless Services have names with topology zones", n.Namespace, n.Service)
	case services.BelowAlias:
		e.say("why", "Service %s/%s is an ExternalName, which has no names below it", n.Namespace, n.Service)
	case services.BadAlias:
		e.say("why", "the externalName of Service %s/%s is an address or not a domain name", n.Namespace, n.Service)
	case services.PodsHidden:
		e.say("why", "the pods option is disabled, which is the default, so pods have no names")
	case services.NoPodAddress:
		e.say("why", "%q is not an address in the form 10-244-1-9", n.Service)
	case services.NoPod:
		e.say("why", "no pod in namespace %s has the address in %s", n.Namespace, n.Service)
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

// sayNear adds names that were likely meant.
func (e *explanation) sayNear(what string, near []string) {
	if len(near) > 0 {
		e.say("near", "%s%s", what, listed(near, maxNear))
	}
}

// sayWithoutSvc adds the Service whose name this would be with the label svc.
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

// noNamespace adds that the namespace does not exist, with similar ones, and those that have a Service of the name.
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

// otherNamespaces adds the Services of that name in other namespaces.
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

// leftOut reports whether the Service of n exists and an option excludes it or its namespace, and if so adds that.
func (e *explanation) leftOut(n *services.Name) bool {
	f := e.factsOf(n.Namespace, n.Service, false)
	if f.LeftOut != "" {
		e.say("why", "Service %s/%s exists (%s), but %s excludes it", n.Namespace, n.Service, f.Origin, f.LeftOut)
	}
	return f.LeftOut != ""
}

// noService adds that the Service does not exist, and the nearest ones.
func (e *explanation) noService(n *services.Name) {
	if e.leftOut(n) {
		return
	}
	f := e.factsOf(n.Namespace, n.Service, false)
	if f.Found {
		e.say("why", "Service %s/%s exists (%s), but this server has not received it yet", n.Namespace, n.Service, f.Origin)
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
		why += ", and the ignore empty_service option hides it"
	}
	e.say("why", "%s", why)
	f := e.factsOf(n.Namespace, n.Service, true)
	switch {
	case f.Missing != "":
		e.say("", "which endpoints are not ready is unknown: %s", f.Missing)
	case f.Unready.Total > 0:
		e.say("", "not ready: %s", unready(f.Unready))
	case f.Unready.Known && f.Selector != "":
		e.say("", "its selector %s matches no pod with an address", f.Selector)
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

// noEndpoint adds that no ready endpoint has the name, and the names of those that are ready.
func (e *explanation) noEndpoint(n *services.Name) {
	e.say("why", "no ready endpoint of Service %s/%s is named %s", n.Namespace, n.Service, n.Endpoint)
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

// noPort adds that the port does not exist, and the existing ones.
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
