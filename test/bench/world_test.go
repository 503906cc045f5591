package bench

import (
	"fmt"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// The size of the cluster for most measurements: Service svc-I in namespace ns-(I mod 80), with a cluster IP for even I
// and headless for odd I.
const (
	manyServices  = 8000
	endpointsEach = 10
	spaces        = 80
	bigServices   = 100 // big-I in namespace ns-0, headless, with 100 endpoints
)

// world calls add for the objects of a cluster of n Services and for the big ones.
func world(n, big int, add func(kind string, o runtime.Object)) {
	for i := range spaces {
		add("namespaces", &core.Namespace{ObjectMeta: object("", fmt.Sprintf("ns-%d", i), i)})
	}
	for i := range n {
		space, name := fmt.Sprintf("ns-%d", i%spaces), fmt.Sprintf("svc-%d", i)
		address := core.ClusterIPNone
		if i%2 == 0 {
			address = clusterIP(i)
		}
		add("services", service(space, name, address, i))
		add("endpointslices", slice(space, name, i, i*endpointsEach, endpointsEach))
	}
	for i := range big {
		name := fmt.Sprintf("big-%d", i)
		add("services", service("ns-0", name, core.ClusterIPNone, i))
		add("endpointslices", slice("ns-0", name, i, 1<<22+100*i, 100))
	}
}

func service(space, name, address string, i int) *core.Service {
	return &core.Service{ObjectMeta: object(space, name, i), Spec: core.ServiceSpec{
		Type: core.ServiceTypeClusterIP, ClusterIP: address, ClusterIPs: []string{address},
		Selector: map[string]string{"app": name},
		Ports:    []core.ServicePort{{Name: "http", Protocol: core.ProtocolTCP, Port: 80}},
	}}
}

// slice is the EndpointSlice of a Service with n endpoints, whose addresses count up from first.
func slice(space, service string, i, first, n int) *discovery.EndpointSlice {
	s := &discovery.EndpointSlice{
		ObjectMeta:  object(space, service+"-x2zf8", i),
		AddressType: discovery.AddressTypeIPv4,
		Ports:       []discovery.EndpointPort{{Name: new("http"), Protocol: new(core.ProtocolTCP), Port: new(int32(8080))}},
	}
	s.Labels[discovery.LabelServiceName] = service
	s.Labels[discovery.LabelManagedBy] = "endpointslice-controller.k8s.io"
	for e := first; e < first+n; e++ {
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{
			Addresses:  []string{podIP(e)},
			Conditions: discovery.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   new(fmt.Sprintf("node-%d", e%250)),
			TargetRef: &core.ObjectReference{
				Kind: "Pod", Namespace: space, Name: fmt.Sprintf("%s-5d89d6c7b9-%05d", service, e), UID: uid(e),
			},
		})
	}
	return s
}

// object is the metadata of a controller's object, including the parts that stock and kubehosts drop.
func object(namespace, name string, i int) meta.ObjectMeta {
	return meta.ObjectMeta{
		Namespace: namespace, Name: name, ResourceVersion: fmt.Sprint(i + 1), UID: uid(i), Generation: 1,
		CreationTimestamp: meta.Unix(1_790_000_000, 0),
		Labels:            map[string]string{"app.kubernetes.io/name": name},
		ManagedFields: []meta.ManagedFieldsEntry{{
			Manager: "kube-controller-manager", Operation: meta.ManagedFieldsOperationUpdate, APIVersion: "v1",
			Time: new(meta.Unix(1_790_000_000, 0)), FieldsType: "FieldsV1",
			FieldsV1: &meta.FieldsV1{Raw: []byte(`{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{}}},"f:spec":{"f:ports":{}}}`)},
		}},
	}
}

func uid(i int) types.UID { return types.UID(fmt.Sprintf("8b1f2c3e-7d44-4a55-9e0b-%012d", i)) }

func clusterIP(i int) string { return fmt.Sprintf("10.%d.%d.%d", 64+i>>16, i>>8&255, i&255) }
func podIP(i int) string     { return fmt.Sprintf("11.%d.%d.%d", i>>16&255, i>>8&255, i&255) }

// serviceName is the name queried for the i-th Service.
func serviceName(i int) string {
	return fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local.", i, i%spaces)
}
