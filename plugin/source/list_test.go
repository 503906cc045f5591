package source

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	work "github.com/kubehosts/kubehosts/plugin/growth"
	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// storeOf is a store without a follower.
func storeOf[O any, R any](t table[O, R]) *store[O, R] {
	g := &group{ix: services.NewIndex(), counts: make(map[string]int)}
	return &store[O, R]{table: t, group: g, listed: func() {}, skipped: make(map[objectName]struct{})}
}

// listsOf returns lists of all kinds, of n objects with something in nearly every field.
func listsOf(n int, seed int64) (*api.ServiceList, *discovery.EndpointSliceList, *api.NamespaceList, *api.PodList) {
	of := meta.ListMeta{ResourceVersion: "17", Continue: "more"}
	svcs, ess, nss, pods := &api.ServiceList{ListMeta: of}, &discovery.EndpointSliceList{ListMeta: of}, &api.NamespaceList{ListMeta: of}, &api.PodList{ListMeta: of}
	for i := range n {
		es, svc, _ := randomObjects(seed + int64(i))
		svcs.Items, ess.Items = append(svcs.Items, *svc), append(ess.Items, *es)
		nss.Items = append(nss.Items, api.Namespace{ObjectMeta: svc.ObjectMeta})
		pods.Items = append(pods.Items, api.Pod{ObjectMeta: svc.ObjectMeta, Status: api.PodStatus{PodIPs: []api.PodIP{{IP: "10.0.0." + strconv.Itoa(i)}}}})
	}
	return svcs, ess, nss, pods
}

// sameList checks that a list read item by item is the same as the list decoded whole.
func sameList[O any, R any](t testing.TB, st *store[O, R], data []byte) {
	t.Helper()
	whole, kind, err := wholeDecoder.Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	of := *kind
	of.Kind = strings.TrimSuffix(of.Kind, "List")
	got, err := readList(bytes.NewReader(data), of, st)
	if err != nil {
		t.Fatal(err)
	}
	list := got.(*packedList)
	v := reflect.ValueOf(whole).Elem()
	if want := v.FieldByName("ListMeta").Interface().(meta.ListMeta); list.ResourceVersion != want.ResourceVersion || list.Continue != want.Continue {
		t.Fatalf("its metadata is %+v, want %+v", list.ListMeta, want)
	}
	items := v.FieldByName("Items")
	if len(list.Items) != items.Len() {
		t.Fatalf("%d items, want %d", len(list.Items), items.Len())
	}
	for i, p := range list.Items {
		want, err := st.packAny(items.Index(i).Addr().Interface())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(p, want) {
			t.Errorf("item %d\ngot  %+v\nwant %+v", i, p, want)
		}
	}
}

func TestReadList(t *testing.T) {
	quietly(t)
	for seed := range int64(50) {
		svcs, ess, nss, pods := listsOf(int(seed%5), 10*seed)
		sameList(t, storeOf(serviceTable), inProtobuf(t, svcs, api.SchemeGroupVersion))
		for _, kept := range everyKept {
			sameList(t, storeOf(sliceTable(kept)), inProtobuf(t, ess, discovery.SchemeGroupVersion))
			sameList(t, storeOf(importedSliceTable(kept)), inProtobuf(t, ess, discovery.SchemeGroupVersion))
		}
		sameList(t, storeOf(namespaceTable), inProtobuf(t, nss, api.SchemeGroupVersion))
		sameList(t, storeOf(podTable), inProtobuf(t, pods, api.SchemeGroupVersion))
	}
}

// A list that breaks off is an error wherever it does, whether its bytes come together or one by one.
func TestReadListCut(t *testing.T) {
	quietly(t)
	svcs, _, _, _ := listsOf(2, 1)
	for i := range svcs.Items { // so that there are fewer places to cut
		svcs.Items[i].ManagedFields = nil
		svcs.Items[i].Spec.Ports = svcs.Items[i].Spec.Ports[:min(1, len(svcs.Items[i].Spec.Ports))]
	}
	data := inProtobuf(t, svcs, api.SchemeGroupVersion)
	whole := 0
	for n := range len(data) + 1 {
		cut, _, want := wholeDecoder.Decode(data[:n], nil, nil)
		if want == nil && cut.(*api.ServiceList).ResourceVersion == "" {
			want = errors.New("no version to watch from")
		}
		for name, from := range map[string]io.Reader{
			"together":     bytes.NewReader(data[:n]),
			"one by one":   iotest.OneByteReader(bytes.NewReader(data[:n])),
			"with the end": iotest.DataErrReader(bytes.NewReader(data[:n])),
		} {
			list, err := readList(from, serviceKind, storeOf(serviceTable))
			if (err == nil) != (want == nil) || (err == nil) != (list != nil) {
				t.Fatalf("%d of %d bytes, %s: %v, %v; as a whole %v", n, len(data), name, list, err, want)
			}
			if err == nil {
				whole++
			}
		}
		broken := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(errCut))
		if _, err := readList(broken, serviceKind, storeOf(serviceTable)); !errors.Is(err, errCut) {
			t.Fatalf("%d of %d bytes and an error: %v", n, len(data), err)
		}
	}
	if whole == 0 || whole > 9 {
		t.Errorf("%d are whole", whole) // it is also whole without the two empty fields at its end
	}
}

// field is a field of a message in protobuf.
func field(number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// claim is the head of a field that declares n bytes.
func claim(number protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.BytesType), n)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// The bytes of a list may declare any length.
func TestReadListHostile(t *testing.T) {
	prefix := []byte(protobufPrefix)
	kind := field(1, join(field(1, []byte("v1")), field(2, []byte("ServiceList"))))
	version := field(1, field(2, []byte("17")))
	item := field(2, field(1, join(field(1, []byte("web")), field(3, []byte("default")))))
	tests := []struct {
		name string
		data []byte
		want string // in the error; "" for none
	}{
		{"good", join(prefix, kind, field(2, join(version, item, item))), ""},
		{"without items", join(prefix, kind, field(2, version)), ""},
		{"with unknown fields", join(prefix, kind, field(9, []byte("x")), field(2, join(
			version, field(9, []byte("x")), protowire.AppendVarint(protowire.AppendTag(nil, 8, protowire.VarintType), 1<<63),
			protowire.AppendFixed32(protowire.AppendTag(nil, 7, protowire.Fixed32Type), 1),
			protowire.AppendFixed64(protowire.AppendTag(nil, 6, protowire.Fixed64Type), 1), item))), ""},
		{"of another kind", join(prefix, field(1, join(field(1, []byte("v1")), field(2, []byte("PodList")))), field(2, join(version, item))), `"PodList" of "v1" in place of`},
		{"a Status", join(prefix, field(1, join(field(1, []byte("v1")), field(2, []byte("Status")))), field(2, nil)), `"Status" of "v1" in place of`},
		{"without a kind", join(prefix, field(2, join(version, item))), "does not begin with its kind"},
		{"a malformed kind", join(prefix, field(1, []byte{0xff})), "in place of"},
		{"without a version", join(prefix, kind, field(2, item)), "without a resourceVersion"},
		{"nothing but a kind", join(prefix, kind), "without a resourceVersion"},
		{"malformed metadata", join(prefix, kind, field(2, field(1, []byte{0xff}))), "metadata"},
		{"encoded", join(prefix, kind, field(2, version), field(3, []byte("gzip"))), "encoding"},
		{"an item longer than its list", join(prefix, kind, claim(2, 30), version, claim(2, 1000)), "longer than the message"},
		{"an item longer than any", join(prefix, kind, claim(2, 1<<40), version, claim(2, 1<<39)), "an object of 524288 MiB"},
		{"an impossible length", join(prefix, kind, claim(2, 1<<63)), "longer than the message"},
		{"a skipped field that never ends", join(prefix, kind, claim(9, 1<<40), []byte("x")), io.ErrUnexpectedEOF.Error()},
		{"an item that never ends", join(prefix, kind, claim(2, 1<<40), version, claim(2, longestItem), []byte("x")), io.ErrUnexpectedEOF.Error()},
		{"an item that is a number", join(prefix, kind, field(2, join(version, []byte{2 << 3, 1}))), "field 2 in protobuf of type 0"},
		{"a list that is a number", join(prefix, kind, []byte{2 << 3, 1}), "does not begin with its kind"},
		{"a tag that is too long", join(prefix, kind, bytes.Repeat([]byte{0xff}, 11)), "overflow"},
		{"field 0", join(prefix, kind, []byte{0, 0}), "without a number"},
		{"a group", join(prefix, kind, []byte{5<<3 | 3}), "of type 3"},
		{"a page", []byte("<html>"), "couldn't get version/kind"},
		{"nothing", nil, "'Kind' is missing"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var list runtime.Object
			var err error
			if n := work.Allocations(1, 1000, func() { list, err = readList(bytes.NewReader(tc.data), serviceKind, storeOf(serviceTable)) }); n > 1000 {
				t.Errorf("%v allocations", n)
			}
			if tc.want == "" {
				must(t, err)
				if list.(*packedList).ResourceVersion != "17" {
					t.Errorf("it is %+v", list)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, %v; want an error with %q", list, err, tc.want)
			}
		})
	}
}

// An item that can't be decoded is logged and counted, and affects nothing else.
func TestReadListUndecodable(t *testing.T) {
	l := captureLog(t)
	forgetNamed()
	svcs := &api.ServiceList{ListMeta: meta.ListMeta{ResourceVersion: "17"}}
	for _, name := range []string{"a", "b", "c"} {
		svc := api.Service{ObjectMeta: meta.ObjectMeta{Namespace: "default", Name: name}}
		svc.Spec.ClusterIP = "10.0.0.1"
		svcs.Items = append(svcs.Items, svc)
	}
	bad := join(field(1, join(field(1, []byte("b\nd")), field(3, []byte("default")))), []byte{0xff})
	data := join([]byte(protobufPrefix), field(1, join(field(1, []byte("v1")), field(2, []byte("ServiceList")))),
		field(2, join(field(1, field(2, []byte("17"))), field(2, marshal(t, &svcs.Items[0])), field(2, bad), field(2, []byte{0xff}), field(2, marshal(t, &svcs.Items[2])))))
	before := value(objectsRejected.WithLabelValues(kindService))
	list, err := readList(bytes.NewReader(data), serviceKind, storeOf(serviceTable))
	must(t, err)
	var names []string
	for _, p := range list.(*packedList).Items {
		p := p.(packed[services.Service])
		names = append(names, fmt.Sprintf("%q %v", p.name, p.record != nil))
	}
	if got, want := strings.Join(names, ", "), `"default/a" true, "default/b\nd" false, "default/c" true`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n := value(objectsRejected.WithLabelValues(kindService)) - before; n != 2 {
		t.Errorf("%v are counted, want 2", n)
	}
	l.once(t, `"Service default/b\nd": can't be decoded, so its last state stays`, "the rest is served")
	l.once(t, `Service /: can't be decoded`)
}

// forgetNamed clears the marks of what other tests had logged.
func forgetNamed() { named = safe.Once{} }

func marshal(t *testing.T, o interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	b, err := o.Marshal()
	must(t, err)
	return b
}

// An ignored object in a list removes nothing.
func TestIgnoredInList(t *testing.T) {
	st := storeOf(podTable)
	t.Cleanup(func() { st.group.setCount(kindPod, 0) })
	pod := func(name string) *api.Pod {
		return &api.Pod{ObjectMeta: meta.ObjectMeta{Namespace: "default", Name: name}, Status: api.PodStatus{PodIPs: []api.PodIP{{IP: "10.0.0." + name}}}}
	}
	held := func() (names []string) {
		for p := range st.group.ix.State().Pods {
			names = append(names, p.ObjectName())
		}
		return names
	}
	must(t, st.Replace([]any{pod("1"), pod("2"), pod("3")}, "1"))
	ending, never := pod("2"), pod("4")
	ending.DeletionTimestamp, never.DeletionTimestamp = new(meta.Now()), new(meta.Now())
	must(t, st.Replace([]any{pod("1"), ending, never}, "2"))
	if got := held(); len(got) != 2 || got[0] == "3" || got[1] == "3" || st.group.counts[kindPod] != 2 {
		t.Errorf("pods %v are stored, and %d counted; a pod is served until it is deleted", got, st.group.counts[kindPod])
	}
	must(t, st.Delete(never), st.Delete(ending))
	if got := held(); len(got) != 1 || got[0] != "1" || st.group.counts[kindPod] != 1 {
		t.Errorf("pods %v are stored, and %d counted", got, st.group.counts[kindPod])
	}
}

// counting counts what was read.
type counting struct {
	io.Reader
	n int
}

func (c *counting) Read(p []byte) (n int, err error) {
	n, err = c.Reader.Read(p)
	c.n += n
	return n, err
}

// No more of a list is read ahead than the buffer holds, however long the list is.
func TestReadListAhead(t *testing.T) {
	const items, size = 2000, 10 << 10
	raw := field(2, make([]byte, size)) // field number 0: it can't be decoded
	head := join(field(1, join(field(1, []byte("v1")), field(2, []byte("ServiceList")))), claim(2, uint64(len(field(1, field(2, []byte("17"))))+items*len(raw))), field(1, field(2, []byte("17"))))
	parts := []io.Reader{strings.NewReader(protobufPrefix), bytes.NewReader(head)}
	for range items {
		parts = append(parts, bytes.NewReader(raw))
	}
	c := &counting{Reader: io.MultiReader(parts...)}
	n, most := 0, 0
	_, err := decodeList(bufio.NewReaderSize(c, listBuffer), serviceKind, func(b []byte) {
		n++
		most = max(most, c.n-n*len(raw)-len(head)-len(protobufPrefix))
		if len(b) != size || cap(b) > 2*listBuffer {
			t.Fatalf("item %d has %d bytes, in a buffer of %d", n, len(b), cap(b))
		}
	})
	must(t, err)
	if n != items || most > listBuffer {
		t.Errorf("%d items, and %d bytes ahead", n, most)
	}
}

// FuzzReadList checks that no bytes cause a panic, and that each list is the same as when it is decoded
// whole.
func FuzzReadList(f *testing.F) {
	for seed := range int64(3) {
		svcs, ess, nss, _ := listsOf(2, seed)
		f.Add(inProtobuf(f, svcs, api.SchemeGroupVersion))
		f.Add(inProtobuf(f, ess, discovery.SchemeGroupVersion))
		f.Add(inProtobuf(f, nss, api.SchemeGroupVersion))
	}
	f.Add([]byte(`{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"web"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		quietly(t)
		svcs, ess := storeOf(serviceTable), storeOf(sliceTable(sliceParts{podNames: true, zones: true}))
		_, err := readList(bytes.NewReader(data), serviceKind, svcs)
		_, sliceErr := readList(bytes.NewReader(data), sliceKind, ess)
		if !bytes.HasPrefix(data, []byte(protobufPrefix)) {
			return
		}
		if err == nil && sliceErr == nil {
			t.Error("a list of two kinds")
		}
		// as an API server sends it
		switch o, _, _ := wholeDecoder.Decode(data, nil, nil); o := o.(type) {
		case *api.ServiceList:
			o.ResourceVersion += "1"
			sameList(t, svcs, inProtobuf(t, o, api.SchemeGroupVersion))
		case *discovery.EndpointSliceList:
			o.ResourceVersion += "1"
			sameList(t, ess, inProtobuf(t, o, discovery.SchemeGroupVersion))
		}
	})
}

// Whatever happens to the first list, none of it is served before it is whole, and the Services are served in the end.
func TestFirstList(t *testing.T) {
	half := func(list []byte) []byte { return list[:len(list)/2] }
	tests := []struct {
		name string
		json bool
		send func(w http.ResponseWriter, r *http.Request, list []byte) // nil for the list unchanged
		want int                                                       // plain lists
	}{
		{"whole", false, nil, 1},
		{"in JSON", true, nil, 1},
		{"ends early", false, func(w http.ResponseWriter, _ *http.Request, list []byte) { _, _ = w.Write(half(list)) }, 1},
		{"the connection is cut", false, func(w http.ResponseWriter, _ *http.Request, list []byte) {
			_, _ = w.Write(half(list))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 1},
		{"forbidden, and a watch is not", false, refuse(http.StatusForbidden, ""), 1},
		{"not supported, and a watch is", false, refuse(http.StatusMethodNotAllowed, ""), 1},
		{"a page", false, func(w http.ResponseWriter, _ *http.Request, _ []byte) { fmt.Fprint(w, "<html>Please log in</html>") }, 1},
		{"of another kind", false, func(w http.ResponseWriter, _ *http.Request, list []byte) {
			_, _ = w.Write(bytes.Replace(list, []byte("ServiceList"), []byte("SurpriseLis"), 1))
		}, 1},
		{"too many requests, twice", false, times(2, refuse(http.StatusTooManyRequests, "")), 3},
		{"unavailable, twice", false, times(2, refuse(http.StatusServiceUnavailable, "")), 3},
		{"unavailable, to be retried at once", false, times(2, refuse(http.StatusServiceUnavailable, "0")), 3},
		{"a gateway's timeout, each time", false, refuse(http.StatusGatewayTimeout, ""), 3},
		{"in pages", false, inPages, 3},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := newAPIServer(t)
			a.json, a.plain = tc.json, tc.send
			for i := range 5 {
				a.putService(fmt.Sprintf("web-%d", i), fmt.Sprintf("10.0.0.%d", 1+i))
			}
			o, err := a.open(t).Objects(Selection{})
			must(t, err)
			t.Cleanup(o.Close)
			count := func() (n int) {
				st := o.Index().State()
				for i := range 5 {
					if !st.Service("default", fmt.Sprintf("web-%d", i)).IsZero() {
						n++
					}
				}
				return n
			}
			eventually(t, "the Services", func() bool {
				n := count()
				if n != 0 && n != 5 {
					t.Fatalf("%d of 5 Services are served", n)
				}
				return n == 5
			})
			eventually(t, "a watch", func() bool { return a.watches("services") })
			a.putService("web-0", "10.0.0.9")
			eventually(t, "a change", func() bool { return ipOf(o, "web-0") == "10.0.0.9" })
			plain := 0
			for _, q := range a.since(0, "services") {
				if !strings.Contains(q, "watch=true") && !strings.Contains(q, "limit=1&") {
					plain++
				}
			}
			if plain != tc.want {
				t.Errorf("%d plain lists, want %d: %q", plain, tc.want, a.since(0, "services"))
			}
		})
	}
}

type sender = func(w http.ResponseWriter, r *http.Request, list []byte)

// refuse replies with a status, and the time after which to retry unless that is "".
func refuse(status int, after string) sender {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"so it is","code":%d,"reason":%q}`, status, reasons[status])
	}
}

// times sends n lists with send, and later ones unchanged.
func times(n int, send sender) sender {
	tokens := make(chan struct{}, n)
	for range n {
		tokens <- struct{}{}
	}
	return func(w http.ResponseWriter, r *http.Request, list []byte) {
		select {
		case <-tokens:
			send(w, r, list)
		default:
			_, _ = w.Write(list)
		}
	}
}

// inPages sends two items at a time, as a server without a watch cache does for a long list.
func inPages(w http.ResponseWriter, r *http.Request, list []byte) {
	o, _, err := wholeDecoder.Decode(list, nil, nil)
	if err != nil {
		panic(err)
	}
	svcs := o.(*api.ServiceList)
	from, _ := strconv.Atoi(r.FormValue("continue"))
	to := min(from+2, len(svcs.Items))
	if to < len(svcs.Items) {
		svcs.Continue = strconv.Itoa(to)
	}
	slices.SortFunc(svcs.Items, func(a, b api.Service) int { return strings.Compare(a.Name, b.Name) })
	svcs.Items = svcs.Items[from:to]
	_, _ = w.Write(encodeProtobuf(svcs))
}

// A list that stalls is given up, and the next one is whole.
func TestListThatStalls(t *testing.T) {
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	stalled := make(chan struct{}, 1)
	stalled <- struct{}{}
	a.plain = func(w http.ResponseWriter, r *http.Request, list []byte) {
		select {
		case <-stalled:
			_, _ = w.Write(list[:len(list)/2])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			_, _ = w.Write(list)
		}
	}
	defer func(was time.Duration) { longestList = was }(longestList)
	longestList = 100 * time.Millisecond
	o := listed(t, a.open(t), Selection{})
	if ip := ipOf(o, "web"); ip != "10.0.0.1" {
		t.Errorf("web has %q", ip)
	}
}

// Plain lists are requested with gzip, and watches without.
func TestCompression(t *testing.T) {
	a := newAPIServer(t)
	a.putService("web", "10.0.0.1")
	listed(t, a.open(t), Selection{})
	eventually(t, "the watch", func() bool { return a.watches("services") })
	a.mu.Lock()
	defer a.mu.Unlock()
	if list, watch := a.encodings["list services"], a.encodings["watch services"]; list != "gzip" || watch != "identity" {
		t.Errorf("lists are requested in %q, and watches in %q", list, watch)
	}
}

// An audit of a server without streams reads a plain list.
func TestAuditOfPlainLists(t *testing.T) {
	l := captureLog(t)
	a := newAPIServer(t)
	a.noStream = true
	a.putService("web", "10.0.0.1")
	a.putService("db", "10.0.0.2")
	s, err := Open(Spec{Endpoint: a.URL, Audit: 100 * time.Millisecond})
	must(t, err)
	t.Cleanup(s.Close)
	o := listed(t, s, Selection{})
	made := value(audits.WithLabelValues(kindService))
	eventually(t, "two audits", func() bool { return value(audits.WithLabelValues(kindService)) >= made+2 })
	if lines := l.with("Audit"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
	a.silently(func() { a.putService("web", "10.0.0.11") })
	a.bookmarks()
	eventually(t, "the lost change", func() bool { return ipOf(o, "web") == "10.0.0.11" })
	l.once(t, "[WARNING]", "Audit", "1 objects: default/web;")
}
