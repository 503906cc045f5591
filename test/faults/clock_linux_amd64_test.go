package faults

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// clock is the wall clock of one process. A program reads the clock with a function that the kernel maps into it, the
// vDSO, so there is no system call to intercept. The test overwrites that function in the process: the new one makes
// the system call, and adds to CLOCK_REALTIME a number of seconds that the test may change at any time. Other clocks
// and other processes do not change.
type clock struct {
	mem *os.File
	at  int64 // address of the number
}

// realtime is clock_gettime(id in edi, *timespec in rsi) of the vDSO. The number of seconds follows it.
var realtime = []byte{
	0xb8, 228, 0, 0, 0, // mov eax, 228, which is clock_gettime
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi; CLOCK_REALTIME is 0
	0x75, 0x0a, // jnz to the end
	0x48, 0x8b, 0x0d, 0x04, 0, 0, 0, // mov rcx, [rip+4], the number
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3, // ret
}

// clockOf replaces the clock of a process started by the test.
func clockOf(t *testing.T, pid int) *clock {
	t.Helper()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	start, end := vdso(t, pid)
	image := make([]byte, end-start)
	if _, err := mem.ReadAt(image, start); err != nil {
		t.Fatal(err)
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	code := append(realtime[:len(realtime):len(realtime)], make([]byte, 8)...)
	c := &clock{mem: mem}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" && s.Size >= uint64(len(code)) {
			c.at = start + int64(s.Value)
		}
	}
	if c.at == 0 {
		t.Fatalf("no clock_gettime of %d bytes in the vDSO", len(code))
	}
	halted(t, pid, start, end, func() {
		if _, err := mem.WriteAt(code, c.at); err != nil {
			t.Fatal(err)
		}
	})
	c.at += int64(len(realtime))
	return c
}

// set shifts the clock by d from ours, in whole seconds.
func (c *clock) set(t *testing.T, d time.Duration) {
	t.Helper()
	if _, err := c.mem.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(int64(d/time.Second))), c.at); err != nil {
		t.Fatal(err)
	}
}

// vdso returns the address range of the vDSO in the process.
func vdso(t *testing.T, pid int) (start, end int64) {
	t.Helper()
	for line := range strings.Lines(cluster.ReadFile(t, fmt.Sprintf("/proc/%d/maps", pid))) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			fmt.Sscanf(line, "%x-%x", &start, &end)
		}
	}
	if start == 0 {
		t.Fatal("the process has no vDSO")
	}
	return start, end
}

// halted calls do while all threads of the process are halted outside the address range.
func halted(t *testing.T, pid int, start, end int64, do func()) {
	t.Helper()
	defer syscall.Kill(pid, syscall.SIGCONT)
	cluster.Eventually(t, bound, func() (bool, string) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		if err != nil || len(threads) == 0 {
			t.Fatal("no threads: ", err)
		}
		for _, path := range threads {
			words := strings.Fields(cluster.ReadFile(t, path)) // the last one is the program counter (proc(5))
			at, err := strconv.ParseUint(strings.TrimPrefix(words[len(words)-1], "0x"), 16, 64)
			if err != nil || at >= uint64(start) && at < uint64(end) {
				syscall.Kill(pid, syscall.SIGCONT)
				return false, "all threads to be halted outside the vDSO: " + strings.Join(words, " ")
			}
		}
		do()
		return true, ""
	})
}

// The clock of the machine jumps. This delays nothing: no change, no snapshot, no edit of the ConfigMap. The serial of
// the zone does not decrease.
func TestClock(t *testing.T) {
	tr := changes(t)
	text := corefileOf(cluster.Kubeconfig(t, api(t).URL, account(t).Token), "snapshot DIR/snapshot", theConfigMap)
	setConfigMap(t, configMap(0, ""))
	t.Cleanup(func() { api(t).RemoveConfigMap(t, "coredns") })
	c := cluster.Run(t, coredns(t), text)
	a := ask(t, c.Addr, tr)
	a.heal(t)
	clock := clockOf(t, c.PID())
	serial := func() uint32 {
		udp := cluster.Dial(t, "udp", c.Addr)
		defer udp.Close()
		m, err := udp.Ask("cluster.local.", dns.TypeSOA)
		if err != nil || len(m.Answer) != 1 {
			t.Fatalf("SOA: %v %v", m, err)
		}
		return m.Answer[0].(*dns.SOA).Serial
	}
	for i, jump := range []struct {
		name string
		to   time.Duration // from the real time
	}{
		{"its clock jumps 6 hours ahead", 6 * time.Hour},
		{"its clock jumps back by 12 hours", -6 * time.Hour},
		{"its clock is set right", 0},
	} {
		before := serial()
		a.counted(t, jump.name, func() time.Duration {
			clock.set(t, jump.to)
			healed := a.heal(t)
			if stock { // stock has no snapshot and follows no ConfigMap
				return healed
			}
			setConfigMap(t, configMap(10+i, ""))
			for _, name := range []string{"coredns_kubehosts_snapshot_timestamp_seconds", "coredns_kubehosts_stanza_applied_timestamp_seconds"} {
				cluster.Eventually(t, bound, func() (bool, string) {
					is, want := c.Metric(t, name), float64(time.Now().Add(jump.to).Unix())
					return math.Abs(is-want) < 60, fmt.Sprintf("%s is %.0f, want about %.0f", name, is, want)
				})
			}
			return healed
		})
		if now := serial(); int32(now-before) <= 0 && !stock {
			t.Errorf("%s: the serial is %d, it was %d", jump.name, now, before)
		}
	}
}
