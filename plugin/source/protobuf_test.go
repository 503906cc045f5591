package source

import (
	"bytes"
	"reflect"
	"testing"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
	"sigs.k8s.io/randfill"

	"github.com/kubehosts/kubehosts/plugin/external"
)

var (
	protobufInfo, _ = runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	wholeDecoder    = scheme.Codecs.WithoutConversion().DecoderToVersion(protobufInfo.Serializer, nil)
	everyKept       = []sliceParts{{}, {podNames: true}, {zones: true}, {podNames: true, zones: true}}
)

// inProtobuf returns o as an API server sends it.
func inProtobuf(t testing.TB, o runtime.Object, version schema.GroupVersion) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := scheme.Codecs.EncoderForVersion(protobufInfo.Serializer, version).Encode(o, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// randomObjects returns objects with content in nearly every field, the same for the same seed.
func randomObjects(seed int64) (*discovery.EndpointSlice, *api.Service, *networking.Ingress) {
	fill := randfill.NewWithSeed(seed).NilChance(0.3).NumElements(0, 4).MaxDepth(12).Funcs(
		func(r *runtime.RawExtension, _ randfill.Continue) { *r = runtime.RawExtension{} },
	)
	es, svc, ing := new(discovery.EndpointSlice), new(api.Service), new(networking.Ingress)
	fill.Fill(es)
	fill.Fill(svc)
	fill.Fill(ing)
	for i := range es.Endpoints {
		if len(es.Endpoints[i].Addresses) > 0 {
			es.Endpoints[i].Addresses[0] = "10.0.0.1"
		}
	}
	if len(svc.Spec.ClusterIPs) > 0 {
		svc.Spec.ClusterIPs[0] = "fd00::1"
	}
	es.Labels = map[string]string{discovery.LabelServiceName: "web", mcs.LabelServiceName: "db", mcs.LabelSourceCluster: "east", "other": "label"}
	es.Annotations = map[string]string{api.EndpointsLastChangeTriggerTime: "now", "other": "annotation"}
	ing.Annotations = map[string]string{meta.InitialEventsAnnotationKey: "true", classAnnotation: "nginx", "coredns.io/hostname": "www.example.org", "other": "annotation"}
	return es, svc, ing
}

func keptOf(parts sliceParts) runtime.Decoder {
	return keptCodecs{NegotiatedSerializer: scheme.Codecs.WithoutConversion(), kept: parts}.DecoderToVersion(protobufInfo.Serializer, nil)
}

// sameKept compares the decoded part of data with the stored part of the whole object.
func sameKept(t testing.TB, data []byte) {
	t.Helper()
	whole, wholeKind, err := wholeDecoder.Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range everyKept {
		lean, kind, err := keptOf(kept).Decode(data, nil, nil)
		if err != nil || *kind != *wholeKind || reflect.TypeOf(lean) != reflect.TypeOf(whole) {
			t.Fatalf("a %T, %v %v; as a whole a %T, %v", lean, kind, err, whole, wholeKind)
		}
		switch whole := whole.(type) {
		case *discovery.EndpointSlice:
			lean := lean.(*discovery.EndpointSlice)
			sameMeta(t, &lean.ObjectMeta, &whole.ObjectMeta)
			if got, want := sliceSpec(lean, kept), sliceSpec(whole, kept); !reflect.DeepEqual(got, want) {
				t.Errorf("%+v\ngot  %+v\nwant %+v", kept, got, want)
			}
		case *api.Service:
			lean := lean.(*api.Service)
			sameMeta(t, &lean.ObjectMeta, &whole.ObjectMeta)
			if got, want := serviceSpec(lean), serviceSpec(whole); !reflect.DeepEqual(got, want) {
				t.Errorf("\ngot  %+v\nwant %+v", got, want)
			}
		case *networking.Ingress:
			lean := lean.(*networking.Ingress)
			sameMeta(t, &lean.ObjectMeta, &whole.ObjectMeta)
			got, want := ingressSpec(lean), ingressSpec(whole)
			got.Annotations, want.Annotations = only(got.Annotations, external.Annotations()), only(want.Annotations, external.Annotations())
			if !reflect.DeepEqual(got, want) {
				t.Errorf("\ngot  %+v\nwant %+v", got, want)
			}
		}
	}
}

func sameMeta(t testing.TB, lean, whole *meta.ObjectMeta) {
	t.Helper()
	kept := func(o *meta.ObjectMeta) *meta.ObjectMeta {
		return &meta.ObjectMeta{
			Name: o.Name, Namespace: o.Namespace, ResourceVersion: o.ResourceVersion,
			Labels: only(o.Labels, keptLabels), Annotations: only(o.Annotations, keptAnnotations),
		}
	}
	if got, want := kept(lean), kept(whole); !reflect.DeepEqual(got, want) {
		t.Errorf("\ngot  %+v\nwant %+v", got, want)
	}
}

// only returns those of all that have one of keys.
func only(all map[string]string, keys []string) map[string]string {
	some := make(map[string]string)
	for _, k := range keys {
		if v, ok := all[k]; ok {
			some[k] = v
		}
	}
	return some
}

// The decoded part of an object is the part that is stored when it is decoded whole, whatever else it has.
func TestDecodeKept(t *testing.T) {
	for seed := range int64(1000) {
		es, svc, ing := randomObjects(seed)
		sameKept(t, inProtobuf(t, es, discovery.SchemeGroupVersion))
		sameKept(t, inProtobuf(t, svc, api.SchemeGroupVersion))
		sameKept(t, inProtobuf(t, ing, networking.SchemeGroupVersion))
		if t.Failed() {
			t.Fatalf("seed %d: %+v\n%+v\n%+v", seed, es, svc, ing)
		}
	}
}

// All other objects, and data that can't be parsed, go to the general decoder.
func TestDecodeOthers(t *testing.T) {
	ns := inProtobuf(t, &api.Namespace{ObjectMeta: meta.ObjectMeta{Name: "shop", UID: "u"}}, api.SchemeGroupVersion)
	d := keptOf(sliceParts{})
	if o, _, err := d.Decode(ns, nil, nil); err != nil || o.(*api.Namespace).UID != "u" {
		t.Errorf("a Namespace is %+v, %v", o, err)
	}
	es, _, ing := randomObjects(1)
	data := inProtobuf(t, es, discovery.SchemeGroupVersion)
	if o, _, err := d.Decode(data, nil, nil); err != nil || o.(*discovery.EndpointSlice).OwnerReferences != nil || es.OwnerReferences == nil {
		t.Errorf("nothing is left out of %+v, %v", o, err)
	}
	published := inProtobuf(t, ing, networking.SchemeGroupVersion)
	if o, _, err := d.Decode(published, nil, nil); err != nil || o.(*networking.Ingress).OwnerReferences != nil || ing.OwnerReferences == nil {
		t.Errorf("nothing is left out of %+v, %v", o, err)
	}
	into := new(discovery.EndpointSlice)
	if _, _, err := d.Decode(data, nil, into); err != nil || !reflect.DeepEqual(into.OwnerReferences, es.OwnerReferences) {
		t.Errorf("decoded into an EndpointSlice it is %+v, %v", into, err)
	}
	for _, data := range [][]byte{data, published} {
		for n := range data {
			_, _, err := d.Decode(data[:n], nil, nil)
			if _, _, want := wholeDecoder.Decode(data[:n], nil, nil); want != nil && err == nil {
				t.Fatalf("cut off at %d of %d bytes it is an object", n, len(data))
			}
		}
	}
	if _, _, err := d.Decode([]byte(`{"kind":"Service","apiVersion":"v1"}`), nil, nil); err == nil {
		t.Error("JSON is protobuf")
	}
}

// FuzzDecodeKept checks that no bytes cause a panic, and that each object has the same result as when it is decoded
// whole.
func FuzzDecodeKept(f *testing.F) {
	for seed := range int64(4) {
		es, svc, ing := randomObjects(seed)
		f.Add(inProtobuf(f, es, discovery.SchemeGroupVersion))
		f.Add(inProtobuf(f, svc, api.SchemeGroupVersion))
		f.Add(inProtobuf(f, ing, networking.SchemeGroupVersion))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := keptOf(sliceParts{}).Decode(data, nil, nil); err != nil {
			return
		}
		switch o, _, _ := wholeDecoder.Decode(data, nil, nil); o := o.(type) {
		case *discovery.EndpointSlice:
			sameKept(t, inProtobuf(t, o, discovery.SchemeGroupVersion))
		case *api.Service:
			sameKept(t, inProtobuf(t, o, api.SchemeGroupVersion))
		case *networking.Ingress:
			sameKept(t, inProtobuf(t, o, networking.SchemeGroupVersion))
		}
	})
}
