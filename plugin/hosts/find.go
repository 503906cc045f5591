package hosts

import (
	"io"
	"net/netip"
)

// Find reads a hosts file like [Parse], and returns the first lines, at most most, with a name and
// an address for which want returns true. The name has the form that [Table.All] yields, and is
// valid during the call. Errors are those of Parse.
func Find(r io.Reader, o Options, most int, want func(name string, addr netip.Addr) bool) (lines []int, err error) {
	p := parser{origins: normalizeAll(o.Origins), line: 1, b: newBuilder(o, defaults)}
	p.seen = func(name, addr []byte) {
		if n := len(lines); n == most || n > 0 && lines[n-1] == p.line {
			return
		}
		full := view(name)
		if wildcard(name) {
			full = "*" + full
		}
		if ip, _ := netip.AddrFromSlice(addr); want(full, ip) {
			lines = append(lines, p.line)
		}
	}
	err = p.read(r, defaults)
	return lines, err
}
