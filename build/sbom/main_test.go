package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// build compiles a package of this repository.
func build(t *testing.T, dir, pkg string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// What go.mod lists is in the SBOM, each module once, and nothing of this machine.
func TestRun(t *testing.T) {
	pack := build(t, "../..", "./build/image")
	binary := build(t, ".", ".", "-trimpath", "-buildvcs=true")
	if err := run(pack, binary); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(binary + ".cdx.json")
	if err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"std": info.GoVersion}
	for _, m := range info.Deps {
		want[m.Path] = m.Version
	}
	if want[gomod] == "" {
		t.Fatalf("the program lacks %s: %v", gomod, want)
	}
	for _, c := range *bom.Components {
		if c.Name == roots {
			if c.Version == "" || c.Description != "/etc/ssl/certs/ca-certificates.crt" {
				t.Errorf("certificates: %v", c)
			}
			continue
		}
		if v, ok := want[c.Name]; !ok || c.Version != v || c.PackageURL != "pkg:golang/"+c.Name+"@"+v {
			t.Errorf("%s %s, want %s", c.PackageURL, c.Version, v)
		}
		delete(want, c.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if c := bom.Metadata.Component; c.Name != info.Main.Path || c.Version != info.Main.Version || c.Version == "" {
		t.Errorf("program %v, want %v", c, info.Main)
	}
	if got := (*bom.Metadata.Tools.Components)[0]; got.Name != "cyclonedx-gomod" {
		t.Errorf("tool %v", got)
	}
	for _, folder := range []string{filepath.Dir(binary), os.TempDir(), filepath.Dir(pack)} {
		if bytes.Contains(text, []byte(folder)) {
			t.Errorf("the SBOM names %s", folder)
		}
	}
	if err := run(pack, binary); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(binary + ".cdx.json"); err != nil || !bytes.Equal(again, text) {
		t.Errorf("a second run makes another SBOM: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	pack := build(t, "../..", "./build/image")
	stamped := build(t, ".", ".", "-buildvcs=true")
	for _, tt := range []struct{ name, pack, binary, want string }{
		{"a binary without commit", pack, build(t, ".", ".", "-buildvcs=false"), "no time of a commit"},
		{"a packer without certificates", stamped, stamped, "it has no certificates"},
		{"no binary", pack, filepath.Join(t.TempDir(), "none"), "no such file"},
	} {
		if err := run(tt.pack, tt.binary); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}
