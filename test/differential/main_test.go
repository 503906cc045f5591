package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// What a run without a word about it in the environment does, in about a minute. `make differential` does ten times as
// much.
const (
	defaultQuestions = 80_000           // DIFFERENTIAL_QUESTIONS: over all configurations
	defaultChange    = 10 * time.Second // DIFFERENTIAL_CHANGE: how long objects change under the questions
)

// serverBound is how long the API server may take for what it does by itself. It is a limit on broken, not a goal.
const serverBound = time.Minute

// seed decides what objects there are and what is asked. DIFFERENTIAL_SEED repeats a run.
var seed = func() uint64 {
	if s, err := strconv.ParseUint(os.Getenv("DIFFERENTIAL_SEED"), 10, 64); err == nil {
		return s
	}
	return rand.Uint64N(1_000_000)
}()

// random returns a source of its own for each use of the seed, so that one test draws the same with and without another.
func random(use string) *rand.Rand {
	var n uint64
	for _, c := range use {
		n = n*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(seed, n))
}

func questionCount(t testing.TB) int {
	t.Helper()
	text, ok := os.LookupEnv("DIFFERENTIAL_QUESTIONS")
	if !ok {
		return defaultQuestions
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("DIFFERENTIAL_QUESTIONS: %v", err)
	}
	return n
}

func changeTime(t testing.TB) time.Duration {
	t.Helper()
	text, ok := os.LookupEnv("DIFFERENTIAL_CHANGE")
	if !ok {
		return defaultChange
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("DIFFERENTIAL_CHANGE: %v", err)
	}
	return d
}

func TestMain(m *testing.M) {
	if code, done := inNetworkOfItsOwn(); done {
		os.Exit(code)
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{}) // of deprecated fields, which the world is full of
	fmt.Printf("DIFFERENTIAL_SEED=%d repeats this run\n", seed)
	code := m.Run()
	stopShared()
	os.Exit(code)
}

// shared is the API server of all tests, with the objects of one world in it.
var shared struct {
	sync.Once
	api        *cluster.API
	dir        string
	world      *world
	kubeconfig string
	err        error
}

// start returns the API server, full of objects, once they are all there.
func start(t testing.TB) (*cluster.API, *world) {
	t.Helper()
	shared.Do(func() { shared.err = startShared(t) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.api, shared.world
}

func startShared(t testing.TB) (err error) {
	kube, err := built("../bin/kube", "..", "./kube", "etcd and kube-apiserver from Go modules, about 5 minutes the first time")
	if err != nil {
		return err
	}
	if shared.dir, err = os.MkdirTemp("", "kubehosts-differential-"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if shared.api, err = cluster.Start(ctx, kube, shared.dir); err != nil {
		return err
	}
	shared.kubeconfig = filepath.Join(shared.dir, "kubeconfig")
	if err := os.Rename(cluster.Kubeconfig(t, shared.api.URL, "admin"), shared.kubeconfig); err != nil {
		return err
	}
	shared.world = newWorld(random("world"))
	return shared.world.create(ctx, t, shared.api)
}

func stopShared() {
	if shared.api != nil {
		shared.api.Stop()
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
}

// stockBinary is CoreDNS as it is released, out of the module that kubehosts is built with.
func stockBinary(t testing.TB) string {
	t.Helper()
	path, err := built("../bin/stock", "../..", "github.com/coredns/coredns", "stock CoreDNS, about 3 minutes the first time")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ourBinary is the CoreDNS under test. DIFFERENTIAL_COREDNS names another build of it, such as one with -race.
func ourBinary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("DIFFERENTIAL_COREDNS"); path != "" {
		return path
	}
	path, err := built("../../coredns", "../..", "./build", "coredns with kubehosts, about 3 minutes the first time")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// built returns the full path of an executable, and builds it from the package pkg, as seen from the folder module, when
// it is not there. `make` builds all of them ahead of the tests, which keeps them fresh.
func built(path, module, pkg, what string) (string, error) {
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
