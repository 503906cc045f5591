package version

import (
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	stamped := &debug.BuildInfo{
		Main:     debug.Module{Version: "v0.1.0"},
		Settings: []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "0123"}},
	}
	for _, tt := range []struct {
		name            string
		version, commit string
		info            *debug.BuildInfo
		want            [2]string
	}{
		{"the Makefile's", "v0.2.0-3-gabcd", "abcd", stamped, [2]string{"v0.2.0-3-gabcd", "abcd"}},
		{"go build", "", "", stamped, [2]string{"v0.1.0", "0123"}},
		{"go build without git", "", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, [2]string{"(devel)", "(unknown)"}},
		{"no build information", "", "", new(debug.BuildInfo), [2]string{"(unknown)", "(unknown)"}},
	} {
		if v, c := describe(tt.version, tt.commit, tt.info); v != tt.want[0] || c != tt.want[1] {
			t.Errorf("%s: version %s, commit %s, want %q", tt.name, v, c, tt.want)
		}
	}
}
