package source

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// A plain list costs an API server a third of the time of a streamed one, which wraps every object into an event. So
// the first list is a plain one. In protobuf, a list is its items one after another, in the envelope that protobuf.go
// describes. Each item is decoded and packed as its bytes come in, and neither the reply nor its objects are ever in
// memory as a whole.
//
// Later lists are streams, which cost the server less memory (KEP-3157): many clients may request them at the same
// moment.

// longestList limits the time of a plain list. The server itself gives up after one minute by default. Tests shorten
// it.
var longestList = 5 * time.Minute

const (
	longestItem = 8 << 20  // bytes of one object; an API server accepts 3 MiB, and etcd 1.5 MiB by default
	listBuffer  = 64 << 10 // bytes of the reply that are read ahead
)

// errPlain is the reply to a reflector that requests a stream before the first plain list. The reflector then requests
// the list.
var errPlain = errors.New("the first list is a plain one")

// itemStore is a store that packs the items of a list in protobuf.
type itemStore interface {
	// item returns the form in which Replace takes an object of a list. It logs and counts an object that can't be
	// decoded, and returns nil for one without a name. raw can be reused afterwards.
	item(raw []byte) runtime.Object
}

// packedList is a list of objects that are packed.
type packedList struct {
	meta.ListMeta
	Items []runtime.Object
}

// GetObjectKind implements runtime.Object.
func (*packedList) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. A packed object never changes.
func (l *packedList) DeepCopyObject() runtime.Object {
	return &packedList{l.ListMeta, slices.Clone(l.Items)}
}

// manyUnlisted is the number of plain lists in a row that may fail before a stream is tried.
const manyUnlisted = 3

// plainFirst reports whether a plain list comes before a stream: nothing was read yet, and the server is not known to
// refuse plain lists.
func (f *follower) plainFirst() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version == "" && f.unlisted < manyUnlisted && f.items() != nil
}

// notePlain records how a plain list ended. A server that can't reply now, such as a starting one, may reply in a
// moment. A list that is refused or breaks off may succeed as a stream.
func (f *follower) notePlain(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil || isOutage(err):
		f.unlisted = 0
	case isServerError(err):
		f.unlisted++
	default:
		f.unlisted = manyUnlisted
	}
}

// items returns the store if it accepts objects in protobuf. Custom resources don't come in protobuf.
func (f *follower) items() itemStore {
	if _, ok := f.example.(unmarshaler); !ok {
		return nil
	}
	s, _ := f.store.(itemStore)
	return s
}

// unmarshaler is a type with a form in protobuf.
type unmarshaler interface{ Unmarshal([]byte) error }

// listPlain requests a plain list, and packs its objects as they come in if possible.
func (f *follower) listPlain(ctx context.Context, o meta.ListOptions) (runtime.Object, error) {
	limited, cancel := context.WithTimeout(ctx, longestList)
	defer cancel()
	var list runtime.Object
	var err error
	if f.items() == nil {
		list, err = f.request(o).Do(limited).Get()
	} else {
		list, err = f.listItems(limited, o)
	}
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = fmt.Errorf("%w: a list not complete after %v", errCut, longestList)
	}
	return list, err
}

func (f *follower) listItems(ctx context.Context, o meta.ListOptions) (runtime.Object, error) {
	body, err := f.request(o).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	kinds, _, err := scheme.Scheme.ObjectKinds(f.example)
	if err != nil {
		return nil, err
	}
	return readList(body, kinds[0], f.items())
}

// readList reads a list of objects of that kind.
func readList(from io.Reader, of schema.GroupVersionKind, items itemStore) (runtime.Object, error) {
	in := bufio.NewReaderSize(from, listBuffer)
	begins, err := in.Peek(len(protobufPrefix))
	switch {
	case string(begins) == protobufPrefix:
	case err != nil && err != io.EOF:
		return nil, err
	default:
		return decodeWhole(in)
	}
	list := new(packedList)
	list.ListMeta, err = decodeList(in, of, func(raw []byte) {
		if item := items.item(raw); item != nil {
			list.Items = append(list.Items, item)
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// decodeWhole decodes a list of a server that has no protobuf, as client-go does.
func decodeWhole(in io.Reader) (list runtime.Object, err error) {
	all, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	if failed := safe.Recovered("decoding a list", func() { list, err = runtime.Decode(scheme.Codecs.UniversalDeserializer(), all) }); failed != nil {
		return nil, failed
	}
	return list, err
}

// item implements itemStore.
func (s *store[O, R]) item(raw []byte) runtime.Object {
	var o *O
	var err error
	if failed := safe.Recovered("decoding a "+s.kind, func() { o, err = s.decoded(raw) }); failed != nil {
		err = failed
	}
	if err == nil {
		var p packed[R]
		if p, err = s.packAny(o); err == nil {
			return p
		}
	}
	name := nameInProtobuf(raw)
	reject(s.kind, name, "can't be decoded, so its last state stays: "+err.Error())
	if name.name == "" {
		return nil
	}
	return packed[R]{name: name, disposition: ignore}
}

// decoded decodes an object, or only the needed fields if the table has a function for that.
func (s *store[O, R]) decoded(raw []byte) (*O, error) {
	if s.decode != nil {
		if o := s.decode(raw); o != nil {
			return o, nil
		}
	}
	o := new(O)
	u, ok := any(o).(unmarshaler)
	if !ok {
		return nil, fmt.Errorf("%T has no form in protobuf", o)
	}
	return o, u.Unmarshal(raw)
}

// nameInProtobuf returns the name of an object, if it can be found in bytes that can't be decoded.
func nameInProtobuf(raw []byte) objectName {
	var o meta.ObjectMeta
	for m := (message{rest: raw}); m.next(); {
		if m.field == 1 {
			decodeMeta(&o, m.bytes)
		}
	}
	return objectName{o.Namespace, o.Name}
}

// GetObjectKind implements runtime.Object.
func (packed[R]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. A packed object never changes.
func (p packed[R]) DeepCopyObject() runtime.Object { return p }

// decodeList reads a list of objects of that kind in protobuf, and calls item with the bytes of each object, which are
// valid until item returns. It returns resourceVersion and continue of the list's metadata. It is an error if a list
// breaks off anywhere, is of another kind, has no resourceVersion, or holds an object larger than longestItem.
func decodeList(in *bufio.Reader, of schema.GroupVersionKind, item func([]byte)) (m meta.ListMeta, err error) {
	if _, err := in.Discard(len(protobufPrefix)); err != nil {
		return m, err
	}
	r := &fieldReader{in: in, left: math.MaxInt64} // the envelope ends where the reply does
	typed := false
	for {
		f, err := r.next()
		switch {
		case err == io.EOF && m.ResourceVersion == "":
			return m, errors.New("a list in protobuf without a resourceVersion")
		case err == io.EOF:
			return m, nil
		case err != nil:
			return m, err
		}
		switch {
		case f.number == 1: // typeMeta
			var b []byte
			if b, err = r.bytes(f); err == nil {
				err = checkListKind(b, of)
				typed = true
			}
		case f.number == 2 && typed && f.kind == protowire.BytesType: // the list
			m, err = decodeItems(&fieldReader{in: in, left: f.length, buf: r.buf}, item)
			r.left -= f.length
		case f.number == 2:
			err = errors.New("a list in protobuf that does not begin with its kind")
		case f.number == 3 && f.length > 0: // contentEncoding, never set
			err = errors.New("a list in protobuf in an unknown encoding")
		default:
			err = r.skip(f)
		}
		if err != nil {
			return m, whole(err)
		}
	}
}

// checkListKind returns an error unless typeMeta names a list of objects of that kind.
func checkListKind(typeMeta []byte, of schema.GroupVersionKind) error {
	version, kind, ok := pair(typeMeta)
	if !ok || string(version) != of.GroupVersion().String() || string(kind) != of.Kind+"List" {
		return fmt.Errorf("%.100q of %.100q in place of a list of objects of kind %s", kind, version, of.Kind)
	}
	return nil
}

// decodeItems reads the list in the envelope.
func decodeItems(r *fieldReader, item func([]byte)) (m meta.ListMeta, err error) {
	for r.left > 0 {
		f, err := r.next()
		if err != nil {
			return m, whole(err)
		}
		if f.number != 1 && f.number != 2 {
			if err := r.skip(f); err != nil {
				return m, whole(err)
			}
			continue
		}
		b, err := r.bytes(f)
		if err != nil {
			return m, whole(err)
		}
		if f.number == 2 {
			item(b)
			continue
		}
		of := message{rest: b}
		for of.next() {
			switch of.field {
			case 2:
				m.ResourceVersion = string(of.bytes)
			case 3:
				m.Continue = string(of.bytes)
			}
		}
		if of.bad {
			return m, errors.New("a list in protobuf with malformed metadata")
		}
	}
	return m, nil
}

// whole returns err for the inside of a message, where the end of the input is unexpected.
func whole(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fieldReader reads the fields of a message in protobuf as they come in.
type fieldReader struct {
	in   *bufio.Reader
	left int64 // bytes of the message still to come
	buf  []byte
}

// fieldHead is the head of a field.
type fieldHead struct {
	number protowire.Number
	kind   protowire.Type
	length int64 // of the data; -1 for a varint, whose last byte marks its end
}

// next reads the head of the next field. It returns io.EOF if the input ended before it.
func (r *fieldReader) next() (f fieldHead, err error) {
	tag, err := binary.ReadUvarint(r)
	if err != nil {
		return f, err
	}
	f.number, f.kind = protowire.DecodeTag(tag)
	if f.number < protowire.MinValidNumber {
		return f, errors.New("a field in protobuf without a number")
	}
	switch f.kind {
	case protowire.VarintType:
		f.length = -1
	case protowire.Fixed32Type:
		f.length = 4
	case protowire.Fixed64Type:
		f.length = 8
	case protowire.BytesType:
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return f, whole(err)
		}
		if n > uint64(r.left) { // #nosec G115 -- never negative
			return f, errors.New("a field in protobuf that is longer than the message it is in")
		}
		f.length = int64(n) // #nosec G115 -- at most left
	default:
		return f, fmt.Errorf("a field in protobuf of type %d", f.kind)
	}
	return f, nil
}

// ReadByte implements io.ByteReader, within the message.
func (r *fieldReader) ReadByte() (byte, error) {
	if r.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	b, err := r.in.ReadByte()
	if err == nil {
		r.left--
	}
	return b, err
}

// bytes reads a field that has a length. The result is valid until the next call. Memory is allocated as the bytes come
// in, not for the declared length.
func (r *fieldReader) bytes(f fieldHead) ([]byte, error) {
	if f.kind != protowire.BytesType {
		return nil, fmt.Errorf("field %d in protobuf of type %d", f.number, f.kind)
	}
	if f.length > longestItem {
		return nil, fmt.Errorf("an object of %d MiB in a list, above the limit of %d MiB", f.length>>20, longestItem>>20)
	}
	n := int(f.length)
	r.buf = r.buf[:0]
	for at := 0; at < n; at = len(r.buf) {
		step := min(n-at, max(listBuffer, at))
		r.buf = slices.Grow(r.buf, step)[:at+step]
		if _, err := io.ReadFull(r.in, r.buf[at:]); err != nil {
			return nil, err
		}
	}
	r.left -= f.length
	return r.buf, nil
}

// skip skips a field.
func (r *fieldReader) skip(f fieldHead) error {
	if f.kind == protowire.VarintType {
		_, err := binary.ReadUvarint(r)
		return err
	}
	if f.length > r.left {
		return io.ErrUnexpectedEOF
	}
	_, err := io.CopyN(io.Discard, r.in, f.length)
	r.left -= f.length
	return err
}
