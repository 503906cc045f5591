package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	table.print()
	os.Exit(code)
}

// TestBench measures everything in the table, in its order. A slow result does not fail it.
func TestBench(t *testing.T) {
	t.Run("InProcess", inProcess)
	t.Run("UDP", udp)
	t.Run("Memory", memory)
	t.Run("Scale", scale)
	t.Run("Hosts", hostsFiles)
	t.Run("Start", start)
	t.Run("StartReal", startReal)
	t.Run("Change", change)
	t.Run("UnderChange", underChange)
	t.Run("External", external)
	t.Run("ExternalChange", externalChange)
}

// row is one line of the table.
type row struct{ what, stock, ours, ratio, goal, reached string }

type rows []row

// table is printed at the end.
var table rows

// add adds a row. reached is whether the goal was reached; it is meaningless without a goal.
func (t *rows) add(what, stock, ours, ratio, goal string, reached bool) {
	verdict := "yes"
	if goal == "" {
		verdict = ""
	} else if !reached {
		verdict = "**no**"
	}
	*t = append(*t, row{what, stock, ours, ratio, goal, verdict})
}

// print writes the table as Markdown with even columns.
func (t rows) print() {
	if len(t) == 0 {
		return
	}
	all := slices.Insert(slices.Clone(t), 0, row{"what", "stock", "kubehosts", "ratio", "goal", "reached"})
	cells := make([][]string, len(all))
	var width [6]int
	for i, r := range all {
		cells[i] = []string{r.what, r.stock, r.ours, r.ratio, r.goal, r.reached}
		for j, c := range cells[i] {
			width[j] = max(width[j], len([]rune(c)))
		}
	}
	rule := make([]string, len(width))
	for j := range rule {
		rule[j] = strings.Repeat("-", width[j])
	}
	for _, line := range slices.Insert(cells, 1, rule) {
		for j, c := range line {
			fmt.Printf("| %s%s ", c, strings.Repeat(" ", width[j]-len([]rune(c))))
		}
		fmt.Println("|")
	}
}

// progress prints what is being measured.
func progress(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}

func times(ratio float64) string { return fmt.Sprintf("%.1f", ratio) }
func percent(share float64) string {
	return fmt.Sprintf("%.1f %%", 100*share)
}
func mb(bytes float64) string { return fmt.Sprintf("%.1f MB", bytes/1e6) }
