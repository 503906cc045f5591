package answer

import (
	"testing"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// TestSerialOf wants the later of both serials, also where they wrap, and where there is but one.
func TestSerialOf(t *testing.T) {
	ix := services.NewIndex()
	empty := ix.State()
	ix.Update(func(tx *services.Tx) { tx.SetNamespace("shop") })
	changed := ix.State()
	now := changed.Modified()
	for _, tt := range []struct {
		state     *services.State
		put, want uint32
	}{
		{empty, 0, 0},
		{empty, 7, 7},
		{empty, 1 << 31, 1 << 31},
		{changed, 0, now},
		{changed, now - 1, now},
		{changed, now, now},
		{changed, now + 1, now + 1},
		{changed, now + 1<<31 - 1, now + 1<<31 - 1},
		{changed, now + 1<<31 + 1, now}, // that is before it
	} {
		v := View{Serial: tt.put}
		if got := v.SerialOf(tt.state); got != tt.want {
			t.Errorf("a View put at %d, a State of %d: %d, want %d", tt.put, tt.state.Modified(), got, tt.want)
		}
	}
}
