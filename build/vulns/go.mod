// The tools of `make vulns`, in a module of their own so that the plugin's go.mod does not have them.
module github.com/kubehosts/kubehosts/build/vulns

go 1.27.0

toolchain go1.27.3

require golang.org/x/vuln v1.9.0

// The database. Nothing imports a package of this module, so `go mod tidy` would take it out.
require golang.org/x/vulndb v0.0.0-20261105234957-e22db6528018 // indirect

require (
	github.com/google/go-cmp v0.7.0 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/telemetry v0.0.0-20261010193011-f71dc92da45e // indirect
	golang.org/x/tools v0.52.0 // indirect
)
