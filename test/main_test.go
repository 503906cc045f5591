// Package test runs the real coredns binary against a real API server, and the benchmarks beside the stock plugins.
package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// shared is the API server of all tests, started by the first that needs it.
var shared struct {
	sync.Mutex
	api *cluster.API
	dir string
	err error
}

// api is an API server with an etcd, both of bin/kube. A test that stops it must start it again.
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
	kube, err := binary("bin/kube", ".", "./kube", "etcd and kube-apiserver from Go modules, about 4 minutes the first time")
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
	fmt.Printf("etcd and kube-apiserver ready after %v\n", time.Since(start).Round(time.Millisecond))
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
	path, err := binary("../coredns", "..", "./build", "coredns with kubehosts, about 3 minutes the first time")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// binary returns the full path of an executable, and builds it from the package pkg of the module in the folder module
// when it is not there. `make` builds both ahead of the tests, which keeps them fresh.
func binary(path, module, pkg, what string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Printf("building %s\n", what)
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir, cmd.Stdout, cmd.Stderr = module, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s is missing and `go build %s` in %s failed: %w", path, pkg, module, err)
	}
	return path, nil
}
