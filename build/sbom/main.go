// Package main lists what is in the image: an SBOM in CycloneDX's JSON for each binary, out of the binary's build
// information by cyclonedx-gomod, and the certificates that lie beside the binary.
package main

import (
	"debug/buildinfo"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("sbom: ")
	if len(os.Args) < 3 {
		log.Fatal("usage: sbom PACK BINARY...   (PACK is the built build/image; writes BINARY.cdx.json)")
	}
	for _, binary := range os.Args[2:] {
		if err := run(os.Args[1], binary); err != nil {
			log.Fatal(err)
		}
	}
}

// run writes the SBOM of an image with binary in it beside binary.
func run(pack, binary string) error {
	bom, err := list(pack, binary)
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	f, err := os.Create(binary + ".cdx.json")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return err
	}
	return f.Close()
}

// list returns the modules of a binary, the standard library among them, and the module that the certificates come
// from, which is one of pack's. Equal binaries have equal lists: the time is that of the commit, and the serial number
// comes from the hash.
func list(pack, binary string) (*cdx.BOM, error) {
	generator, err := bin.NewGenerator(binary, bin.WithIncludeStdlib(true), bin.WithShortPURLS(true), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return nil, err
	}
	bom, err := generator.Generate()
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, setting(info, "vcs.time"))
	if err != nil {
		return nil, fmt.Errorf("no time of a commit: build with -buildvcs=true: %w", err)
	}
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, data).URN()
	bom.Metadata.Timestamp = at.UTC().Format(time.RFC3339)
	bom.Metadata.Tools = &cdx.ToolsChoice{Components: &[]cdx.Component{tool()}}
	bom.Metadata.Component.Licenses = &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}
	certificates, err := authorities(pack)
	if err != nil {
		return nil, err
	}
	*bom.Components = append(*bom.Components, certificates)
	return bom, nil
}

const gomod = "github.com/CycloneDX/cyclonedx-gomod"

// tool returns what this program made the list with.
func tool() cdx.Component {
	c := cdx.Component{Type: cdx.ComponentTypeApplication, Name: "cyclonedx-gomod"}
	if info, ok := debug.ReadBuildInfo(); ok {
		c.Version = version(info, gomod)
	}
	return c
}

const roots = "golang.org/x/crypto/x509roots/fallback"

// authorities returns the module of the certificates in the image.
func authorities(pack string) (cdx.Component, error) {
	info, err := buildinfo.ReadFile(pack)
	if err != nil {
		return cdx.Component{}, err
	}
	v := version(info, roots)
	if v == "" {
		return cdx.Component{}, fmt.Errorf("%s: it has no certificates: it lacks the module %s", pack, roots)
	}
	purl := "pkg:golang/" + roots + "@" + v
	return cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeData, Name: roots, Version: v, PackageURL: purl, Scope: cdx.ScopeRequired,
		Description: "/etc/ssl/certs/ca-certificates.crt",
	}, nil
}

// version returns the version of a module in a program, or "".
func version(info *debug.BuildInfo, path string) string {
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

// setting returns how a program was built, by a key of `go version -m`: "" if there is none of that key.
func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
