package cluster

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"k8s.io/component-base/version"
)

// Kube returns the path of the etcd and kube-apiserver that Start runs.
func Kube() (string, error) {
	return built("test/bin/kube", "test", "etcd and kube-apiserver from Go modules, about 4 minutes the first time", "./kube")
}

// Version is the release of the API server that Start runs, such as 1.34: KUBE_VERSION of the environment, or the
// newest, which Kube has.
func Version() string { return cmp.Or(os.Getenv("KUBE_VERSION"), version.DefaultKubeBinaryVersion) }

// server returns the path of the kube-apiserver that Start runs, out of kube if that has it.
func server(kube string) (string, error) {
	v := Version()
	if v == version.DefaultKubeBinaryVersion {
		return kube, nil
	}
	return built("test/bin/kube-apiserver-"+v, "test", "kube-apiserver "+v+" from Go modules, about 3 minutes the first time",
		"-modfile=versions/"+v+".mod", "./apiserver")
}

// Kubehosts returns the path of the CoreDNS under test.
func Kubehosts() (string, error) {
	return built("coredns", ".", "coredns with kubehosts, about 3 minutes the first time", "./build")
}

// Stock returns the path of the released CoreDNS, from the module that kubehosts is built with.
func Stock() (string, error) {
	return built("test/bin/stock", ".", "stock CoreDNS, about 3 minutes the first time", "github.com/coredns/coredns")
}

// built returns the full path of an executable of the repository. If it does not exist, built runs `go build` with args
// in the folder module. `make` builds all of them before the tests, which keeps them fresh.
func built(path, module, what string, args ...string) (string, error) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	path = filepath.Join(root, path)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Printf("building %s\n", what)
	cmd := exec.Command("go", append([]string{"build", "-o", path}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(root, module), os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s is missing and `go build %s` in %s failed: %w", path, strings.Join(args, " "), cmd.Dir, err)
	}
	return path, nil
}
