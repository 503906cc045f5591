package source

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// found returns the addresses of a name below the zone: endpoints as label@address, cluster IPs as the address alone.
// It returns "none" for a name that does not exist, and "nothing" for one without an address.
func found(o *Objects, name string, g services.Grammar) string {
	n := services.ParseName(name, g)
	m := o.Index().State().Lookup(&n, &services.Options{})
	switch m.Outcome {
	case services.NameError:
		return "none"
	case services.NoData:
		return "nothing"
	}
	var all []string
	for e := range m.Members {
		text := e.Addr.String()
		if m.Outcome == services.OfEndpoints {
			text = string(e.AppendLabel(nil)) + "@" + text
		}
		all = append(all, text)
	}
	return strings.Join(sorted(all), " ")
}

func (a *apiServer) putImport(name, kind string, ips ...string) {
	a.put("serviceimports", "default", name, nil, object{"spec": object{"type": kind, "ips": ips, "ports": []object{{"name": "http", "port": 80}}}})
}

func ofImport(name, cluster string) object {
	return object{"labels": object{"multicluster.kubernetes.io/service-name": name, "multicluster.kubernetes.io/source-cluster": cluster}}
}

func TestMulticluster(t *testing.T) {
	a := newAPIServer(t)
	a.put("namespaces", "", "default", nil, nil)
	a.putService("web", "10.0.0.1")
	a.putSlice("web-1", nil, "10.1.0.1")
	a.putImport("web", "ClusterSetIP", "10.9.0.1")
	a.putImport("db", "Headless")
	a.putSlice("db-east", ofImport("db", "east"), "10.2.0.1")

	s := a.open(t)
	local := listed(t, s, Selection{Endpoints: true, Labels: "a notin (b)"})
	a.wasAsked(t, "map[list endpointslices:1 list namespaces:1 list services:1 watch endpointslices:1 watch namespaces:1 watch services:1]")
	o := listed(t, s, Selection{Endpoints: true, Labels: "a notin (b)", Multicluster: true})
	if o.Index() != local.Index() {
		t.Error("imported objects do not share the index")
	}
	a.mu.Lock()
	for verb, want := range map[string]string{
		"watch serviceimports": "labelSelector=a+notin+%28b%29&",
		"list endpointslices":  "labelSelector=a+notin+%28b%29%2Cmulticluster.kubernetes.io%2Fservice-name&",
	} {
		if q := a.queries[verb]; !strings.Contains(q, want) {
			t.Errorf("%s with %s, want %s", verb, q, want)
		}
	}
	if got := a.accepts["watch serviceimports"]; strings.Contains(got, "protobuf") {
		t.Errorf("a custom resource is requested as %s", got)
	}
	a.mu.Unlock()

	check := func(what string, want map[string]string) {
		t.Helper()
		for name, want := range want {
			eventually(t, fmt.Sprintf("%s: %s is %s", what, name, want), func() bool {
				return found(o, name, services.Multicluster) == want
			})
		}
	}
	check("listed", map[string]string{
		"web.default.svc": "10.9.0.1", "db.default.svc": "10-2-0-1.east@10.2.0.1", "10-2-0-1.east.db.default.svc": "10-2-0-1.east@10.2.0.1",
	})
	if got := found(o, "web.default.svc", 0); got != "10.0.0.1" {
		t.Errorf("the Service of this cluster has %s", got)
	}
	if got := found(o, "db.default.svc", 0); got != "none" {
		t.Errorf("a Service that is only imported has %s in this cluster", got)
	}
	for kind, want := range map[string]float64{kindServiceImport: 2, kindImportedSlice: 1, kindService: 1, kindSlice: 1} {
		if n := value(objectsHeld.WithLabelValues(kind)); n != want {
			t.Errorf("%v %s are counted, want %v", n, kind, want)
		}
	}

	a.putImport("web", "ClusterSetIP", "10.9.0.2")
	a.putSlice("db-west", ofImport("db", "west"), "10.3.0.1")
	a.remove("endpointslices", "default", "db-east")
	check("changed", map[string]string{"web.default.svc": "10.9.0.2", "db.default.svc": "10-3-0-1.west@10.3.0.1"})
	a.remove("serviceimports", "default", "web")
	check("removed", map[string]string{"web.default.svc": "none"})

	o.Close()
	if got := found(local, "db.default.svc", services.Multicluster); got != "none" {
		t.Errorf("unused objects are still stored: %s", got)
	}
	if st := local.Index().State(); len(st.SlicesOf("db.default", true)) != 0 || len(st.Served(&services.Options{}, true)) != 0 {
		t.Error("unused imported objects are still stored")
	}
	for _, kind := range []string{kindServiceImport, kindImportedSlice} {
		if n := value(objectsHeld.WithLabelValues(kind)); n != 0 {
			t.Errorf("%v unused %s are counted", n, kind)
		}
	}
	if got := found(local, "web.default.svc", 0); got != "10.0.0.1" {
		t.Errorf("the Service of this cluster was removed too: %s", got)
	}
}

func TestMulticlusterWithoutEndpoints(t *testing.T) {
	a := newAPIServer(t)
	listed(t, a.open(t), Selection{Multicluster: true})
	a.wasAsked(t, "map[list namespaces:1 list services:1 watch namespaces:1 watch serviceimports:1 watch services:1]") // custom resources are streamed
}

// A server without the CustomResourceDefinition, or an account without the permission, must not remove the
// Services.
func TestMulticlusterRefused(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			a := newAPIServer(t)
			a.put("namespaces", "", "default", nil, nil)
			a.putService("web", "10.0.0.1")
			a.putImport("web", "ClusterSetIP", "10.9.0.1")
			a.answer("serviceimports", status)
			o := listed(t, a.open(t), Selection{Endpoints: true, Multicluster: true})
			if s := o.Index().State(); !s.Synced(&services.Options{}, false) || !s.Synced(&services.Options{}, true) {
				t.Error("the index is not synced")
			}
			if got := found(o, "web.default.svc", 0); got != "10.0.0.1" {
				t.Errorf("web has %s", got)
			}
			if got := found(o, "web.default.svc", services.Multicluster); got != "none" {
				t.Errorf("the imported web has %s", got)
			}
			a.answer("serviceimports", 0)
			eventually(t, "it is requested again", func() bool { return found(o, "web.default.svc", services.Multicluster) == "10.9.0.1" })

			// What was read before stays, as with everything else.
			a.answer("serviceimports", status)
			tries := func() int {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.seen["list serviceimports"]
			}
			before := tries()
			a.cut()
			eventually(t, "it is refused again", func() bool { return tries() > before })
			if got := found(o, "web.default.svc", services.Multicluster); got != "10.9.0.1" {
				t.Errorf("refused again, the imported web has %s", got)
			}

			// A server that still denies having them a minute later has none.
			feed := func() *feed {
				o.group.source.mu.Lock()
				defer o.group.source.mu.Unlock()
				return o.group.feeds[kindServiceImport]
			}()
			o.group.source.mu.Lock()
			feed.missing = feed.missing.Add(-2 * vanished)
			o.group.source.mu.Unlock()
			before = tries()
			eventually(t, "it is refused twice more", func() bool { return tries() > before+2 })
			if got, gone := found(o, "web.default.svc", services.Multicluster) == "none", status == http.StatusNotFound; got != gone {
				t.Errorf("after a minute, the imported web is gone: %v, want %v", got, gone)
			}
			a.answer("serviceimports", 0)
			eventually(t, "they are back", func() bool { return found(o, "web.default.svc", services.Multicluster) == "10.9.0.1" })
		})
	}
}

// A server that is merely busy may have ServiceImports, so they are waited for. So is everything else that
// is refused.
func TestMulticlusterIsWaitedFor(t *testing.T) {
	for resource, status := range map[string]int{"serviceimports": http.StatusServiceUnavailable, "services": http.StatusNotFound} {
		t.Run(resource, func(t *testing.T) {
			a := newAPIServer(t)
			a.answer(resource, status)
			o, err := a.open(t).Objects(Selection{Multicluster: true})
			must(t, err)
			defer o.Close()
			eventually(t, "the second try", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.seen["watch "+resource] > 1
			})
			if o.Synced() || o.Index().State().Synced(&services.Options{NoEndpoints: true}, resource == "serviceimports") {
				t.Errorf("synced without %s", resource)
			}
			a.answer(resource, 0)
			must(t, o.Wait(t.Context(), nil))
		})
	}
}

const importedYAML = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: web, namespace: shop, labels: {team: a}}
spec: {type: ClusterSetIP, ips: [10.9.0.1], ports: [{port: 80}]}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: db, namespace: shop}
spec: {type: Headless, ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-east, namespace: shop, labels: {multicluster.kubernetes.io/service-name: db, multicluster.kubernetes.io/source-cluster: east}}
addressType: IPv4
endpoints: [{addresses: [10.2.0.1], hostname: db-0}]
---
apiVersion: v1
kind: Service
metadata: {name: derived, namespace: shop}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: db-west
  namespace: shop
  labels: {kubernetes.io/service-name: derived, multicluster.kubernetes.io/service-name: db, multicluster.kubernetes.io/source-cluster: west}
addressType: IPv4
endpoints: [{addresses: [10.3.0.1]}]
`

func TestManifestsMulticluster(t *testing.T) {
	f := t.TempDir() + "/f.yaml"
	write(t, f, importedYAML)
	s, local := openFiles(t, Selection{Endpoints: true}, f)
	if st := local.Index().State(); len(st.Served(&services.Options{}, true)) != 0 || len(st.SlicesOf("db.shop", true)) != 0 {
		t.Error("imported objects without Multicluster")
	}
	o, err := s.Objects(Selection{Endpoints: true, Multicluster: true})
	must(t, err, o.Wait(t.Context(), nil))
	for name, want := range map[string]string{
		"web.shop.svc": "10.9.0.1", "db.shop.svc": "10-3-0-1.west@10.3.0.1 db-0.east@10.2.0.1", "derived.shop.svc": "none",
	} {
		if got := found(o, name, services.Multicluster); got != want {
			t.Errorf("%s, imported: got %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"web.shop.svc": "10.0.0.1", "db.shop.svc": "none", "derived.shop.svc": "10-3-0-1@10.3.0.1"} {
		if got := found(o, name, 0); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for kind, want := range map[string]float64{kindServiceImport: 2, kindImportedSlice: 2, kindService: 2, kindSlice: 1} {
		if n := value(objectsHeld.WithLabelValues(kind)); n != want {
			t.Errorf("%v %s are counted, want %v", n, kind, want)
		}
	}

	write(t, f+"~", strings.Replace(importedYAML, "10.9.0.1", "10.9.0.2", 1))
	must(t, os.Rename(f+"~", f))
	eventually(t, "a saved change", func() bool { return found(o, "web.shop.svc", services.Multicluster) == "10.9.0.2" })

	some, err := s.Objects(Selection{Labels: "team=a", Endpoints: true, Multicluster: true})
	must(t, err)
	defer some.Close()
	if web, db := found(some, "web.shop.svc", services.Multicluster), found(some, "db.shop.svc", services.Multicluster); web != "10.9.0.2" || db != "none" {
		t.Errorf("selected by labels, web has %s and db %s", web, db)
	}

	o.Close()
	if got := found(local, "web.shop.svc", services.Multicluster); got != "none" {
		t.Errorf("unused objects are still stored: %s", got)
	}
}

const zonesYAML = `
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.1], zone: EU-1, targetRef: {kind: Pod, name: p}}
- {addresses: [10.1.0.2], zone: eu-2}
- {addresses: [10.1.0.3]}
`

func TestZones(t *testing.T) {
	f := t.TempDir() + "/f.yaml"
	write(t, f, zonesYAML)
	s, plain := openFiles(t, Selection{Endpoints: true}, f)
	const name = "eu-1.pin._zone.db.default.svc"
	if got := found(plain, name, services.Zonal); got != "nothing" {
		t.Errorf("unused zones are still stored: %s", got)
	}
	for podNames, want := range map[bool]string{false: "10-1-0-1@10.1.0.1", true: "p@10.1.0.1"} {
		o := listed(t, s, Selection{Endpoints: true, Zones: true, PodNames: podNames})
		if got := found(o, name, services.Zonal); got != want {
			t.Errorf("with zones: got %s, want %s", got, want)
		}
	}

	a := newAPIServer(t)
	a.put("namespaces", "", "default", nil, nil)
	a.putService("db", "None")
	a.put("endpointslices", "default", "db-1", object{"labels": object{"kubernetes.io/service-name": "db"}}, object{
		"addressType": "IPv4", "endpoints": []object{{"addresses": []string{"10.1.0.1"}, "zone": "EU-1"}, {"addresses": []string{"10.1.0.2"}}},
	})
	if got := found(listed(t, a.open(t), Selection{Endpoints: true, Zones: true}), name, services.Zonal); got != "10-1-0-1@10.1.0.1" {
		t.Errorf("from the API server: got %s", got)
	}
	if got := found(listed(t, a.open(t), Selection{Endpoints: true}), name, services.Zonal); got != "nothing" {
		t.Errorf("from the API server, without: got %s", got)
	}
}
