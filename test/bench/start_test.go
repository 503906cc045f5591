package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// startReal measures the time from a server's start until it is ready with the real API server, beside clients that
// read the same lists and discard them: streamed lists like stock, and plain ones like kubehosts.
func startReal(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	a := realServer(ctx, t)
	progress("filling the real API server")
	fill(ctx, t, a)

	kubeconfig := cluster.Kubeconfig(t, a.URL, cluster.AdminToken)
	took := map[string][]float64{}
	add := func(what string, d time.Duration) { took[what] = append(took[what], d.Seconds()) }
	for i := range rounds + 1 {
		progress("start with the real API server, round %d of %d", i, rounds)
		for _, name := range []string{"kubernetes", "kubehosts"} {
			c, d := run(t, name, kubeStanza(name, kubeconfig))
			add(name, d)
			c.Stop()
		}
		for _, r := range readings {
			add(r.String(), r.read(ctx, t, a))
		}
		if i == 0 { // the API server has warmed up its caches
			clear(took)
		}
	}
	text := func(what string) string { return fmt.Sprintf("%.2f s", median(took[what])) }
	stock, ours := median(took["kubernetes"]), median(took["kubehosts"])
	table.add("start to ready with the real API server, the same objects", text("kubernetes"), text("kubehosts"),
		fmt.Sprintf("%.2f", ours/stock), "0.6 of stock's", ours <= 0.6*stock)
	without := func(r reading) string {
		return fmt.Sprintf("a client that reads %s and keeps nothing; without gzip %s", r.lists(), text(reading{r.streamed, false}.String()))
	}
	streams, plain := reading{true, true}, reading{false, true}
	progress("memory with the real API server")
	c, stockMost, stockSteady := begin(t, "kubernetes", kubeStanza("kubernetes", kubeconfig))
	c.Stop()
	c, most, steady := begin(t, "kubehosts", kubeStanza("kubehosts", kubeconfig))
	c.Stop()
	peakRow("RssAnon of the whole process, its peak during that start", stockMost, stockSteady, most, steady)
	table.add(without(streams), text(streams.String()), "", "", "", false)
	table.add(without(plain), "", text(plain.String()), "", "", false)
}

// fill writes the objects of a cluster of 8,000 Services, without the fields that the API server
// sets itself.
func fill(ctx context.Context, t *testing.T, a *cluster.API) {
	t.Helper()
	cfg := rest.CopyConfig(a.Config)
	cfg.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	create := func(o runtime.Object) (err error) {
		switch o := o.(type) {
		case *core.Namespace:
			_, err = client.CoreV1().Namespaces().Create(ctx, o, meta.CreateOptions{})
		case *core.Service:
			if o.Spec.ClusterIP != core.ClusterIPNone {
				o.Spec.ClusterIP, o.Spec.ClusterIPs = "", nil
			}
			_, err = client.CoreV1().Services(o.Namespace).Create(ctx, o, meta.CreateOptions{})
		case *discovery.EndpointSlice:
			_, err = client.DiscoveryV1().EndpointSlices(o.Namespace).Create(ctx, o, meta.CreateOptions{})
		}
		return err
	}
	objects := make(chan runtime.Object)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for o := range objects {
				if err := create(o); err != nil {
					t.Error(err)
				}
			}
		})
	}
	world(manyServices, 0, func(kind string, o runtime.Object) {
		m := o.(meta.Object)
		m.SetResourceVersion("")
		m.SetUID("")
		m.SetManagedFields(nil)
		if kind == "namespaces" { // before the objects in them
			if err := create(o); err != nil {
				t.Fatal(err)
			}
			return
		}
		objects <- o
	})
	close(objects)
	writers.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// reading is a way to read everything that a server lists at its start.
type reading struct{ streamed, gzip bool }

var readings = []reading{{true, true}, {true, false}, {false, true}, {false, false}}

func (r reading) lists() string {
	if r.streamed {
		return "streamed lists"
	}
	return "plain lists"
}

func (r reading) String() string { return fmt.Sprintf("%s, gzip %v", r.lists(), r.gzip) }

// The paths of the lists.
var paths = []string{"/api/v1/namespaces", "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"}

// read reads the lists concurrently, over a connection of its own, and discards them.
func (r reading) read(ctx context.Context, t *testing.T, a *cluster.API) time.Duration {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, DisableCompression: !r.gzip,
	}}
	defer client.CloseIdleConnections()
	start := time.Now()
	var readers sync.WaitGroup
	for _, path := range paths {
		readers.Go(func() {
			if err := r.readOne(ctx, client, a.URL+path); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	return time.Since(start)
}

func (r reading) readOne(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithCancel(ctx) // ends a stream that continues as a watch
	defer cancel()
	accept := protobufType
	if r.streamed {
		url += "?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
		accept += ";stream=watch"
	} else {
		url += "?resourceVersion=0"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Authorization", "Bearer "+cluster.AdminToken)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	if !r.streamed {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return readStream(bufio.NewReaderSize(resp.Body, 64<<10))
}

// readStream reads the events of a streamed list up to the bookmark at the end. Each is preceded by its length in four
// bytes.
func readStream(in io.Reader) error {
	var event []byte
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		event = append(event[:0], make([]byte, n)...)
		if _, err := io.ReadFull(in, event); err != nil {
			return err
		}
		if bytes.Contains(event, []byte(meta.InitialEventsAnnotationKey)) {
			return nil
		}
	}
}
