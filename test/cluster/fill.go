package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Fill creates Services in the namespace load, every other one headless, each with one EndpointSlice of the given
// number of endpoints. It creates 170 Services a second on 2 cores.
func (a *API) Fill(t testing.TB, services, endpoints int) {
	t.Helper()
	config := rest.CopyConfig(a.Config)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	a.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: load}\n")
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := createService(client, i, endpoints); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range services {
		next <- i
	}
	close(next)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// createService creates the i-th Service and its EndpointSlice.
func createService(client *kubernetes.Clientset, i, endpoints int) error {
	ctx := context.Background()
	name, port := fmt.Sprintf("service-%d", i), "http"
	s := &core.Service{ObjectMeta: meta.ObjectMeta{Name: name}, Spec: core.ServiceSpec{
		Selector: map[string]string{"app": name},
		Ports:    []core.ServicePort{{Name: port, Port: 80}},
	}}
	if i%2 == 1 {
		s.Spec.ClusterIP = core.ClusterIPNone
	}
	if _, err := client.CoreV1().Services("load").Create(ctx, s, meta.CreateOptions{}); err != nil {
		return err
	}
	number, ready := int32(8080), true
	slice := &discovery.EndpointSlice{
		ObjectMeta:  meta.ObjectMeta{Name: name + "-abcde", Labels: map[string]string{discovery.LabelServiceName: name}},
		AddressType: discovery.AddressTypeIPv4,
		Ports:       []discovery.EndpointPort{{Name: &port, Port: &number}},
	}
	for j := range endpoints {
		n := i*endpoints + j
		node := fmt.Sprintf("node-%d", n%100)
		slice.Endpoints = append(slice.Endpoints, discovery.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255)},
			Conditions: discovery.EndpointConditions{Ready: &ready, Serving: &ready},
			NodeName:   &node,
			TargetRef: &core.ObjectReference{
				Kind: "Pod", Namespace: "load", Name: fmt.Sprintf("%s-6d4cf56db6-%05d", name, j),
				UID: types.UID(fmt.Sprintf("8b1f2c3e-7d44-4a55-9e0b-%012d", n)),
			},
		})
	}
	_, err := client.DiscoveryV1().EndpointSlices("load").Create(ctx, slice, meta.CreateOptions{})
	return err
}
