package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Kube returns the path of the etcd and kube-apiserver that Start runs.
func Kube() (string, error) {
	return built("test/bin/kube", "test", "./kube", "etcd and kube-apiserver from Go modules, about 4 minutes the first time")
}

// Kubehosts returns the path of the CoreDNS under test.
func Kubehosts() (string, error) {
	return built("coredns", ".", "./build", "coredns with kubehosts, about 3 minutes the first time")
}

// Stock returns the path of the released CoreDNS, from the module that kubehosts is built with.
func Stock() (string, error) {
	return built("test/bin/stock", ".", "github.com/coredns/coredns", "stock CoreDNS, about 3 minutes the first time")
}

// built returns the full path of an executable of the repository, and builds it from the package pkg of the module in the
// folder module if it does not exist. `make` builds all of them before the tests, which keeps them fresh.
func built(path, module, pkg, what string) (string, error) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	path = filepath.Join(root, path)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Printf("building %s\n", what)
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(root, module), os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s is missing and `go build %s` in %s failed: %w", path, pkg, cmd.Dir, err)
	}
	return path, nil
}
