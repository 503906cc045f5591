// Package hostile derives bad input from good input, for tests.
package hostile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/growth"
)

// Limits for one input. Exceeding them means a defect; they are not goals.
const (
	maxAlloc   = 256 << 20        // bytes
	maxCPU     = 2 * time.Second  // of the goroutine that calls Run
	maxInotify = 2                // instances of this process; a user may have 128
	maxTime    = 30 * time.Second // until an input counts as one that never ends
)

// cost is what one input takes.
type cost struct {
	alloc   uint64
	cpu     time.Duration
	inotify int
}

// Run makes n inputs, or HOSTILE_INPUTS of them, and passes each to do, which must cope with it. It fails the test if
// do panics, does not end, or exceeds a limit, and prints the HOSTILE_SEED that reproduces the input.
func Run(t *testing.T, n int, do func(r *rand.Rand)) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n, seed := numberOf("HOSTILE_INPUTS", n), uint64(numberOf("HOSTILE_SEED", rand.IntN(1_000_000)))
	at := 0
	defer func() {
		if v := recover(); v != nil {
			t.Fatalf("input %d of HOSTILE_SEED=%d: %v\n%s", at, seed, v, debug.Stack())
		}
		if t.Failed() {
			t.Logf("at input %d of HOSTILE_SEED=%d", at, seed)
		}
	}()
	start, most := time.Now(), cost{}
	for ; at < n && !t.Failed(); at++ {
		hangs := time.AfterFunc(maxTime, func() { panic(fmt.Sprintf("input %d of HOSTILE_SEED=%d does not end", at, seed)) })
		one := costOf(func() { do(rand.New(rand.NewPCG(seed, uint64(at)))) })
		hangs.Stop()
		if one.alloc > maxAlloc || one.cpu > maxCPU || one.inotify > maxInotify {
			t.Errorf("%d MiB allocated, %v of CPU time, %d instances of inotify; the limits are %d MiB, %v, %d",
				one.alloc>>20, one.cpu, one.inotify, maxAlloc>>20, maxCPU, maxInotify)
		}
		most = cost{max(most.alloc, one.alloc), max(most.cpu, one.cpu), max(most.inotify, one.inotify)}
	}
	t.Logf("%d inputs of HOSTILE_SEED=%d in %v, at most %d KiB allocated for one, %v of CPU time, %d instances of inotify",
		at, seed, time.Since(start).Round(time.Millisecond), most.alloc>>10, most.cpu.Round(time.Millisecond), most.inotify)
}

func costOf(do func()) cost {
	alloc, cpu := allocated(), growth.ThreadTime()
	do()
	return cost{allocated() - alloc, growth.ThreadTime() - cpu, inotifies()}
}

// inotifies counts the inotify instances of this process, where /proc has them.
func inotifies() (n int) {
	all, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range all {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == "anon_inode:inotify" {
			n++
		}
	}
	return n
}

func numberOf(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return usual
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// words are words that parsers tend to mishandle.
var words = []string{
	"", " ", "\t", "\n", "\r\n", "\r", "\x00", "\xff", "\ufeff", "\u2028", "\u202e", "\u200b", "\u0085", "\nforged: [ERROR] a\n", "é", "ſ", "\x1b[2J", "\x1f\x8b",
	"{", "}", "{}", "[", "]", "[[[[[[[[", "{{{{{{{{", `"`, `'`, "`", `\`, `\"`, `\u0000`, `\ud800`, "\\\n", ":", ": ", ",", "#", "-", "- ", "---\n", "...\n", "|\n", ">\n", "?", "!", "%",
	"*a", "&a", "&a [*a]", "<<: *a", "!!binary", "!!merge", "!!int", "!!set {a}", "~", "null", "true", ".nan", ".inf", "0x10", "1e999", "-1", "0", "65536", "4294967296", "99999999999999999999", "1_000", "2026-11-23",
	"10.0.0.1", "255.255.255.256", "0.0.0.0", "::", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "010.0.0.1", "10.0.0.0/8", "fd00::/1",
	".", "..", "a..b", "*", "*.", "*.a", `a\.b`, `\000`, "_tcp", "-a-", "xn--a", "a/b", "/", "../../etc/passwd", "/dev/zero", "/proc/self/mem",
	"import /etc/passwd\n", "import a\n", "(a) {\nimport a\n}\n", "{$HOME}", "{%HOME%}", "{$", "kubehosts", "hosts", "ttl", "fallthrough", "snapshot /tmp/a\n", "manifests /etc\n", "kubeconfig /a\n", "endpoint http://a\n",
	strings.Repeat("hosts {\n::1 a\n}\n", 3_000), strings.Repeat("namespaces a b\n", 3_000), strings.Repeat("fallthrough 10.0.0.0/9 fd00::/9\n", 1_000),
	strings.Repeat("import snippet\n", 3_000), strings.Repeat("10.0.0.0/9 {\n}\n", 2_000), strings.Repeat("labels a,b in (c,d)\n", 2_000),
	"kind: List\nitems:\n", `"kind":"List","items":`, "apiVersion: v1\n", "metadata:", "None", "clusterIPs",
	strings.Repeat("x", 64), strings.Repeat("x.", 130), strings.Repeat("9", 400), strings.Repeat("[", 20_000), strings.Repeat("{\n", 5_000), strings.Repeat("a ", 10_000),
}

// Text changes one of the good texts in a few places, or has one line or block of it many times, with other numbers.
// The result may be as good as before, and is at most about a megabyte longer.
func Text(r *rand.Rand, good ...string) string {
	b := []byte(good[r.IntN(len(good))])
	if r.IntN(4) == 0 {
		from, to := line(b, r.IntN(len(b)+1))
		return string(join(b[:to], numbered(string(b[from:to]), 1<<r.IntN(16)), b[to:]))
	}
	for range 1 + r.IntN(6) {
		b = change(r, b, good)
	}
	return string(b)
}

func change(r *rand.Rand, b []byte, good []string) []byte {
	from, to := piece(r, len(b))
	switch r.IntN(8) {
	case 0: // other bits
		if from < to {
			b[from] ^= 1 << r.IntN(8)
		}
		return b
	case 1: // cut off
		return b[:to]
	case 2: // removed
		return append(b[:from:from], b[to:]...)
	case 3: // repeated
		return append(b[:to:to], b[from:]...)
	case 4: // repeated often
		most := 1 << r.IntN(17)
		return join(b[:to], strings.Repeat(string(b[from:to]), most/max(1, to-from)), b[to:])
	case 5: // from another text
		other := good[r.IntN(len(good))]
		start, end := piece(r, len(other))
		return join(b[:from], other[start:end], b[to:])
	case 6: // one word replaced by another
		from, to = word(b, from)
		return join(b[:from], words[r.IntN(len(words))], b[to:])
	}
	return join(b[:from], words[r.IntN(len(words))], b[from:])
}

func join(before []byte, middle string, after []byte) []byte {
	return append(append(append(make([]byte, 0, len(before)+len(middle)+len(after)), before...), middle...), after...)
}

// piece is a part of n bytes, a short one as often as a long one.
func piece(r *rand.Rand, n int) (from, to int) {
	from = r.IntN(n + 1)
	most := n - from
	if r.IntN(2) == 0 {
		most = min(most, 32)
	}
	return from, from + r.IntN(most+1)
}

// line returns the line at i, and with a line that opens a block those up to its end.
func line(b []byte, i int) (from, to int) {
	from, to = bytes.LastIndexByte(b[:i], '\n')+1, i
	for {
		end := bytes.IndexByte(b[to:], '\n')
		if end < 0 {
			return from, len(b)
		}
		to += end + 1
		if bytes.Count(b[from:to], []byte("{")) <= bytes.Count(b[from:to], []byte("}")) {
			return from, to
		}
	}
}

// numbers are those that begin a word, or follow a dot: not those in a path.
var numbers = regexp.MustCompile(`(?:^|[\s.:=])([0-9]+)`)

// numbered repeats text up to n times, 128 KiB in total at most. Each time its numbers are other ones, those of an
// octet in turn, or its last word has a number of its own at the end if there are none.
func numbered(text string, n int) string {
	const most = 128 << 10
	var between []string
	rest := 0
	for _, at := range numbers.FindAllStringSubmatchIndex(text, -1) {
		between, rest = append(between, text[rest:at[2]]), at[3]
	}
	modulus := 255
	if between == nil {
		rest = len(strings.TrimRight(text, " \t\r\n"))
		between, modulus = []string{text[:rest]}, n
	}
	var b strings.Builder
	for i := 0; i < n && b.Len()+len(text) <= most; i++ {
		for _, part := range between {
			b.WriteString(part)
			b.WriteString(strconv.Itoa(1 + i%modulus))
		}
		b.WriteString(text[rest:])
	}
	return b.String()
}

// word returns where the word at i begins and ends.
func word(b []byte, i int) (from, to int) {
	const between = " \t\r\n,:{}[]\""
	from, to = i, i
	for from > 0 && strings.IndexByte(between, b[from-1]) < 0 {
		from--
	}
	for to < len(b) && strings.IndexByte(between, b[to]) < 0 {
		to++
	}
	return from, to
}

// Value changes one part of v, a result of encoding/json, at any depth: a scalar becomes another, sometimes of another
// type, a member disappears, an item comes twice or a thousand times.
func Value(r *rand.Rand, v any) any {
	switch v := v.(type) {
	case map[string]any:
		return changeMap(r, v)
	case []any:
		return changeList(r, v)
	}
	switch r.IntN(10) {
	case 0:
		return nil
	case 1:
		return float64(r.IntN(1<<20)) - 1<<18
	case 2:
		return r.IntN(2) == 0
	}
	if s, ok := v.(string); ok && r.IntN(2) == 0 {
		return short(Text(r, s))
	}
	return short(words[r.IntN(len(words))])
}

// short cuts off what makes an object larger than an API server takes, once an item comes a thousand times.
func short(s string) string { return s[:min(len(s), 8<<10)] }

func changeMap(r *rand.Rand, v map[string]any) any {
	out := make(map[string]any, len(v))
	keys := make([]string, 0, len(v))
	for k, value := range v {
		out[k] = value
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return out
	}
	slices.Sort(keys) // for a given seed to give the same result
	k := keys[r.IntN(len(keys))]
	switch r.IntN(12) {
	case 0:
		delete(out, k)
	case 1:
		out[words[r.IntN(len(words))]] = out[k]
	default:
		out[k] = Value(r, out[k])
	}
	return out
}

func changeList(r *rand.Rand, v []any) any {
	out := append([]any(nil), v...)
	if len(out) == 0 {
		return append(out, words[r.IntN(len(words))])
	}
	i := r.IntN(len(out))
	switch r.IntN(8) {
	case 0:
		return append(out[:i], out[i+1:]...)
	case 1:
		for range min(1<<r.IntN(11), 1+maxLeaves/leaves(out[i])) {
			out = append(out, out[i])
		}
	default:
		out[i] = Value(r, out[i])
	}
	return out
}

// maxLeaves is the number of scalars that a repeated item may become. Repeated again, a thousand items would be a
// million, in an object of 60 MiB, which no API server takes.
const maxLeaves = 10_000

// leaves returns the number of scalars in v, and at least 1.
func leaves(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			n += leaves(member)
		}
	case []any:
		for _, item := range v {
			n += leaves(item)
		}
	}
	return max(1, n)
}
