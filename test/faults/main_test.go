package faults

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// The defaults of a run, which takes three minutes on a busy machine. `make faults` does more.
var (
	lasts   = durationOf("FAULTS_LASTS", 2*time.Second)   // how long each fault lasts
	floods  = durationOf("FAULTS_HOSTILE", 3*time.Second) // how long hostile queries are sent, and files saved
	soak    = durationOf("FAULTS_SOAK", 5*time.Second)
	reloads = numberOf("FAULTS_RELOADS", 300)
)

// bound is the limit of the time to heal. Beyond it the server counts as broken; it is not a goal.
const bound = time.Minute

func durationOf(name string, usual time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv(name)); err == nil {
		return d
	}
	return usual
}

func numberOf(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return usual
}

func TestMain(m *testing.M) {
	code := m.Run()
	table.print()
	if shared.api != nil {
		shared.api.Stop()
	}
	os.RemoveAll(shared.dir)
	os.Exit(code)
}

var shared struct {
	sync.Once
	api *cluster.API
	dir string
	err error
}

func api(t testing.TB) *cluster.API {
	t.Helper()
	shared.Do(func() {
		var kube string
		if kube, shared.err = cluster.Kube(); shared.err != nil {
			return
		}
		if shared.dir, shared.err = os.MkdirTemp("", "kubehosts-faults-"); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		shared.api, shared.err = cluster.Start(ctx, kube, shared.dir)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.api
}

// stock selects the released CoreDNS instead, for comparison. Then nothing is asserted.
var stock = os.Getenv("FAULTS_STOCK") != ""

func coredns(t testing.TB) string {
	t.Helper()
	find := cluster.Kubehosts
	if stock {
		find = cluster.Stock
	}
	path, err := find()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// rows is the table at the end.
type rows struct {
	mu    sync.Mutex
	all   []row
	stock map[string]string // the other cells of stock's row, by fault
}

type row struct {
	fault                string
	asked, failed, wrong int64
	rate                 float64 // queries a second
	heal                 time.Duration
}

var table rows

func (r *rows) add(one row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
}

// healed is the time to heal as text. Only stock may take longer than bound.
func (o *row) healed() string {
	if o.heal >= bound {
		return "over " + bound.String()
	}
	return o.heal.Round(10 * time.Millisecond).String()
}

func (r *rows) print() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Printf("\n| %-52s | queries | a second | failed | wrong | time to heal |\n", "fault")
	fmt.Printf("| %-52s | ------: | -------: | -----: | ----: | -----------: |\n", "---")
	for _, o := range r.all {
		fmt.Printf("| %-52s | %7d | %8.0f | %6d | %5d | %12s |\n", o.fault, o.asked, o.rate, o.failed, o.wrong, o.healed())
		if cells, ok := r.stock[o.fault]; ok {
			fmt.Printf("| %-52s |%s |\n", "likewise, stock", cells)
		}
	}
	fmt.Println()
}
