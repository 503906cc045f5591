package faults

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// beside are the tests whose faults stock goes through as well. It fails some of them for as long as a test waits.
const beside = "^(TestRestoredEtcd|TestLostEvents|TestDefinitionComesAndGoes)$"

// Stock goes through the same faults in a process of its own, with an API server of its own, while the other tests run.
// The table has its rows below those of kubehosts. Nothing is asserted of them.
func TestStockBeside(t *testing.T) {
	if stock { // this is that process
		return
	}
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run", beside, "-test.v", "-test.parallel", "5", "-test.timeout", "10m")
	cmd.Env = append(os.Environ(), "FAULTS_STOCK=1")
	out, err := cmd.CombinedOutput()
	n := table.besides(string(out))
	if want := 6; n != want {
		t.Errorf("%d rows of stock, want %d: %v\n%s", n, want, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "as it was at the time of the backup") {
			t.Log("stock: " + strings.TrimSpace(line))
		}
	}
}

// besides adds the rows in the output of the tests with stock, and returns their number.
func (r *rows) besides(output string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stock = make(map[string]string)
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.SplitN(strings.Trim(line, "|\n "), "|", 2)
		if fault := strings.TrimSpace(cells[0]); len(cells) == 2 && fault != "fault" && fault != "---" {
			r.stock[fault] = cells[1]
			n++
		}
	}
	return n
}
