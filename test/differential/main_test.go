package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// The defaults of a run, which takes less than a minute: a part of the configurations, selected by the seed. `make
// differential` runs all of it.
const (
	defaultConfigs   = 12
	defaultQuestions = 24_000           // DIFFERENTIAL_QUESTIONS: over all configurations
	defaultChange    = 10 * time.Second // DIFFERENTIAL_CHANGE: how long objects change during the queries
)

// serverBound limits the time of the API server's own actions. Beyond it the server counts as broken; it is not a
// goal.
const serverBound = time.Minute

// seed determines the objects and the queries. DIFFERENTIAL_SEED repeats a run.
var seed = func() uint64 {
	if s, err := strconv.ParseUint(os.Getenv("DIFFERENTIAL_SEED"), 10, 64); err == nil {
		return s
	}
	return rand.Uint64N(1_000_000)
}()

// random returns a source of its own for each use of the seed, so that a test draws the same whether or not others run.
func random(use string) *rand.Rand {
	var n uint64
	for _, c := range use {
		n = n*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(seed, n))
}

// questionCount returns the number of queries, and whether all configurations are used.
func questionCount(t testing.TB) (count int, all bool) {
	t.Helper()
	text, ok := os.LookupEnv("DIFFERENTIAL_QUESTIONS")
	if !ok {
		return defaultQuestions, false
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("DIFFERENTIAL_QUESTIONS: %v", err)
	}
	return n, true
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
	rest.SetDefaultWarningHandler(rest.NoWarnings{}) // of deprecated fields, which these objects use often
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
	upstream   string // address of the server that forward uses
	err        error
}

// start returns the API server once it has all objects.
func start(t testing.TB) (*cluster.API, *world) {
	t.Helper()
	shared.Do(func() { shared.err = startShared(t) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.api, shared.world
}

func startShared(t testing.TB) (err error) {
	kube, err := cluster.Kube()
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
	shared.upstream = startUpstream(t)
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

// stockBinary is the released CoreDNS.
func stockBinary(t testing.TB) string {
	t.Helper()
	path, err := cluster.Stock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ourBinary is the CoreDNS under test. DIFFERENTIAL_COREDNS is the path of another build, such as one with
// -race.
func ourBinary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("DIFFERENTIAL_COREDNS"); path != "" {
		return path
	}
	path, err := cluster.Kubehosts()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
