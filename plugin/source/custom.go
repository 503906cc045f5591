package source

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// customResource is an object of a CustomResourceDefinition: the metadata that is needed, and the rest as it was sent.
// So an object with an unexpected spec is refused alone, and does not end the watch of its kind.
type customResource struct {
	meta.TypeMeta
	meta.ObjectMeta `json:"metadata"`
	Spec            json.RawMessage `json:"spec"`
	Status          json.RawMessage `json:"status"`
}

// DeepCopyObject implements runtime.Object.
func (r *customResource) DeepCopyObject() runtime.Object {
	c := &customResource{TypeMeta: r.TypeMeta, Spec: slices.Clone(r.Spec), Status: slices.Clone(r.Status)}
	r.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	return c
}

// customList is a list of customResources of one kind.
type customList struct {
	meta.TypeMeta
	meta.ListMeta
	Items []customResource
}

// DeepCopyObject implements runtime.Object.
func (l *customList) DeepCopyObject() runtime.Object {
	c := &customList{TypeMeta: l.TypeMeta, ListMeta: l.ListMeta, Items: make([]customResource, len(l.Items))}
	for i := range l.Items {
		c.Items[i] = *l.Items[i].DeepCopyObject().(*customResource)
	}
	return c
}

// customCodecs are codecs that decode the objects of CustomResourceDefinitions, in JSON, as customResources.
type customCodecs struct{ runtime.NegotiatedSerializer }

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (c customCodecs) DecoderToVersion(d runtime.Decoder, gv runtime.GroupVersioner) runtime.Decoder {
	return customDecoder{c.NegotiatedSerializer.DecoderToVersion(d, gv)}
}

// customDecoder decodes the kinds of customKinds. Its Decoder decodes others, such as a Status.
type customDecoder struct{ runtime.Decoder }

// Decode implements runtime.Decoder. It turns a panic into an error: client-go would let it end the process.
func (d customDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (o runtime.Object, kind *schema.GroupVersionKind, err error) {
	failed := safe.Recovered("decoding an object", func() {
		if into == nil {
			if o, kind, err = decodeCustom(data); o != nil || err != nil {
				return
			}
		}
		o, kind, err = d.Decoder.Decode(data, defaults, into)
	})
	if failed != nil {
		return nil, nil, failed
	}
	return o, kind, err
}

// customObject is a customResource, or a list of them, in JSON, with only the metadata that is needed.
type customObject struct {
	typeMeta
	Metadata customMeta        `json:"metadata"`
	Spec     json.RawMessage   `json:"spec"`
	Status   json.RawMessage   `json:"status"`
	Items    []json.RawMessage `json:"items"`
}

type customMeta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	ResourceVersion   string            `json:"resourceVersion"`
	Continue          string            `json:"continue"` // of a list
	Generation        int64             `json:"generation"`
	CreationTimestamp meta.Time         `json:"creationTimestamp"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	UID               types.UID         `json:"uid"`
}

// decodeCustom returns nil for anything but one of customKinds or a list of them.
func decodeCustom(data []byte) (runtime.Object, *schema.GroupVersionKind, error) {
	var o customObject
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, nil, err
	}
	kind := schema.FromAPIVersionAndKind(o.APIVersion, o.Kind)
	if kind.Group != gatewayGroup && kind.Group != externalDNSGroup {
		return nil, nil, nil
	}
	if item, ok := strings.CutSuffix(kind.Kind, "List"); ok {
		l, err := listOf(&o, item)
		if err != nil {
			return nil, nil, err
		}
		return l, &kind, nil
	}
	return o.resource(), &kind, nil
}

// listOf returns the list o, whose items are of that kind. They need not name it.
func listOf(o *customObject, kind string) (*customList, error) {
	l := &customList{TypeMeta: meta.TypeMeta{APIVersion: o.APIVersion, Kind: o.Kind}, Items: make([]customResource, len(o.Items))}
	l.ResourceVersion, l.Continue = o.Metadata.ResourceVersion, o.Metadata.Continue
	for i, raw := range o.Items {
		var item customObject
		if err := json.Unmarshal(raw, &item); err != nil {
			return nil, fmt.Errorf("item %d of a %s: %w", i, o.Kind, err)
		}
		item.APIVersion, item.Kind = o.APIVersion, kind
		l.Items[i] = *item.resource()
	}
	return l, nil
}

func (o *customObject) resource() *customResource {
	r := &customResource{TypeMeta: meta.TypeMeta{APIVersion: o.APIVersion, Kind: o.Kind}, Spec: o.Spec, Status: o.Status}
	m := &o.Metadata
	r.Name, r.Namespace, r.ResourceVersion, r.Generation, r.UID = m.Name, m.Namespace, m.ResourceVersion, m.Generation, m.UID
	r.CreationTimestamp, r.Labels, r.Annotations = m.CreationTimestamp, m.Labels, m.Annotations
	return r
}
