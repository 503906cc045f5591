package kubehosts

import (
	"context"
	"net/netip"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// Metadata implements metadata.Provider: the parts of a query's name and, if pods are verified, the one pod that has
// the client's address. Each label is published under kubehosts/ and, as in stock, under kubernetes/. A value that
// would break a log line is quoted.
func (k *Kubehosts) Metadata(ctx context.Context, state request.Request) context.Context {
	v := k.block.View()
	if pod := podAt(v, state.IP()); pod != nil {
		publish(ctx, "client-namespace", pod.Namespace())
		publish(ctx, "client-pod-name", pod.ObjectName())
		for key, value := range pod.Labels() {
			publish(ctx, "client-label/"+key, value)
		}
	}

	name := state.Name()
	z := v.ZoneOf(name)
	if z == nil {
		return ctx
	}
	if z.External != nil {
		hostMetadata(ctx, v, z, name)
		return ctx
	}
	n := services.ParseName(z.Below(name), z.Grammar)
	if n.Kind == services.Unknown {
		publish(ctx, "parse-error", "invalid query name")
		return ctx
	}
	kind := n.Kind.String()
	if n.Namespace == "" {
		kind = ""
	}
	publish(ctx, "port-name", n.Port)
	publish(ctx, "protocol", n.Protocol)
	publish(ctx, "endpoint", n.Endpoint)
	if z.Imported {
		publish(ctx, "cluster", n.Cluster)
	}
	if v.Zonal {
		publish(ctx, "zone", n.Zone)
	}
	publish(ctx, "service", n.Service)
	publish(ctx, "namespace", n.Namespace)
	publish(ctx, "kind", kind)
	return ctx
}

// hostMetadata publishes the object, if any, that has a name in an external zone.
func hostMetadata(ctx context.Context, v *answer.View, z *answer.Zone, name string) {
	m := v.Outside.State().Lookup(z.Name, name, &z.External.Selection)
	if m.Outcome == external.NameError || m.Outcome == external.NoData {
		return
	}
	of := m.Object()
	publish(ctx, "external-kind", of.Kind.String())
	publish(ctx, "external-namespace", of.Namespace)
	publish(ctx, "external-name", of.Name)
}

func publish(ctx context.Context, label, value string) {
	f := func() string { return safe.Printable(value) }
	metadata.SetValueFunc(ctx, "kubehosts/"+label, f)
	metadata.SetValueFunc(ctx, "kubernetes/"+label, f)
}

// podAt returns the one Pod with the address ip, nil if there is none or more than one, or if pods are not verified.
func podAt(v *answer.View, ip string) *services.Pod {
	if v.Options.Pods != services.PodsVerified {
		return nil
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return nil
	}
	return v.Index.State().PodWith(a.Unmap())
}
