// Package version makes a CoreDNS report the version of kubehosts that is compiled in.
package version

import (
	"cmp"
	"fmt"
	"runtime/debug"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/coremain"
)

// The Makefile sets these by -ldflags='-X ...'. Without it they come from the build information of the go command.
var (
	version string // git describe --tags --always --dirty
	commit  string // git rev-parse HEAD
)

// Announce adds a line with the version and the commit of kubehosts to the output of CoreDNS's -version and to its log
// at the start, and sets the version as the label revision of coredns_build_info. It is called before coremain.Run.
func Announce() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	v, c := describe(version, commit, info)
	caddy.AppVersion += fmt.Sprintf("\nkubehosts-%s, commit %s", v, c)
	coremain.GitCommit = cmp.Or(coremain.GitCommit, v)
}

// describe returns the version and the commit, from the linker's flags if they are set, else from info.
func describe(version, commit string, info *debug.BuildInfo) (string, string) {
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = cmp.Or(commit, s.Value)
		}
	}
	return cmp.Or(version, info.Main.Version, "(unknown)"), cmp.Or(commit, "(unknown)")
}
