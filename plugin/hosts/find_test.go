package hosts

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Find returns the lines from which Parse took a name or an address.
func TestFind(t *testing.T) {
	text := "# nothing\n192.0.2.1 A.example b.example # c.example\r\nnonsense a.example\n\n192.0.2.2 *.example a\\.b.example\r192.0.2.1 a.example a.example\n192.0.2.3 a.other"
	address := netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		name string // "" for the address
		most int
		want []int
	}{
		{"a.example.", 10, []int{2, 6}},
		{"a.example.", 1, []int{2}},
		{"b.example.", 10, []int{2}},
		{"c.example.", 10, nil},
		{"*.example.", 10, []int{5}},
		{`a\.b.example.`, 10, []int{5}},
		{"a.other.", 10, nil}, // in no zone
		{"", 10, []int{2, 6}},
	} {
		lines, err := Find(strings.NewReader(text), Options{Origins: []string{"example."}}, tt.most, func(name string, ip netip.Addr) bool {
			return name == tt.name || tt.name == "" && ip == address
		})
		if err != nil || !slices.Equal(lines, tt.want) {
			t.Errorf("%q is on %v, error %v; want %v", tt.name, lines, err, tt.want)
		}
	}
	if _, err := Find(strings.NewReader("\xff\xfe1"), Options{}, 1, nil); err == nil {
		t.Error("a file in UTF-16 was searched")
	}
}
