package answer

import (
	"strings"
	"testing"
)

func TestToLower(t *testing.T) {
	for _, name := range []string{"", ".", "Web.", "web.shop.", "web.shop.svc.cluster.local.", "1234567A", "é234567890"} {
		for at := range len(name) { // each byte next to a capital, at each place
			for _, c := range "@AMZ[`amz{\x00\x7f\x80\xff" {
				spelled := name[:at] + string([]byte{byte(c)}) + name[at+1:]
				if got, want := ToLower(spelled), strings.ToLower(spelled); got != want {
					t.Errorf("%q is %q, want %q", spelled, got, want)
				}
			}
		}
	}
}
