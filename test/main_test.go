// Package test runs the real coredns binary against a real API server, and the benchmarks beside the stock plugins.
package test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

func TestMain(m *testing.M) {
	code := m.Run()
	stopShared()
	os.Exit(code)
}

// shared is the API server of all tests. The first test that needs it starts it.
var shared struct {
	sync.Mutex
	api *cluster.API
	dir string
	err error
}

// api returns an API server with etcd, both from bin/kube. A test that stops it must start it
// again.
func api(t testing.TB) *cluster.API {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.api == nil && shared.err == nil {
		shared.err = startShared()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.api
}

func startShared() (err error) {
	kube, err := cluster.Kube()
	if err != nil {
		return err
	}
	if shared.dir, err = os.MkdirTemp("", "kubehosts-test-"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	start := time.Now()
	a, err := cluster.Start(ctx, kube, shared.dir)
	if err != nil {
		return err
	}
	shared.api = a
	fmt.Printf("etcd and kube-apiserver %s %s ready after %v\n", cluster.Version(), cluster.Features(), time.Since(start).Round(time.Millisecond))
	return nil
}

func stopShared() {
	if shared.api != nil {
		shared.api.Stop()
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
}

// coredns is the path of the binary under test.
func coredns(t testing.TB) string {
	t.Helper()
	path, err := cluster.Kubehosts()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
