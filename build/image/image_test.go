package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var from = source{"v1.2.3", "0123456789abcdef", time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}

// build compiles a small program for linux.
func build(t *testing.T, arch, cgo string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", "coredns", "main.go")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "coredns")
}

// untar reads a whole tar: the headers in their order, and the contents by name.
func untar(t *testing.T, r io.Reader) ([]*tar.Header, map[string][]byte) {
	t.Helper()
	var headers []*tar.Header
	contents := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
		if contents[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRootFileSystem(t *testing.T) {
	binary := build(t, "amd64", "0")
	p, err := pack(binary, from.created)
	if err != nil {
		t.Fatal(err)
	}
	headers, contents := untar(t, bytes.NewReader(p.root))
	var list []string
	for _, h := range headers {
		list = append(list, fmt.Sprintf("%s %d:%d %s %s", h.FileInfo().Mode(), h.Uid, h.Gid, h.ModTime.UTC().Format(time.DateOnly), h.Name))
	}
	want := []string{
		"-rwxr-xr-x 0:0 2026-11-23 coredns",
		"drwxr-xr-x 0:0 2026-11-23 etc/",
		"drwxr-xr-x 0:0 2026-11-23 etc/ssl/",
		"drwxr-xr-x 0:0 2026-11-23 etc/ssl/certs/",
		"-rw-r--r-- 0:0 2026-11-23 etc/ssl/certs/ca-certificates.crt",
	}
	if got := strings.Join(list, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(contents["coredns"], data) {
		t.Error("coredns in the image is not the binary")
	}
	// 10 is CAP_NET_BIND_SERVICE in linux/capability.h.
	capability := headers[0].PAXRecords["SCHILY.xattr.security.capability"]
	if want := "\x01\x00\x00\x02\x00\x04\x00\x00" + strings.Repeat("\x00", 12); capability != want || capability[5] != 1<<(10-8) {
		t.Errorf("capability %x, want %x", capability, want)
	}
	// There are more than a hundred authorities, and a client can read each.
	pool := 0
	for rest := contents["etc/ssl/certs/ca-certificates.crt"]; len(rest) > 0; pool++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("no PEM after %d certificates", pool)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			t.Error(err)
		}
	}
	if pool < 100 {
		t.Errorf("%d certificates", pool)
	}
}

// Readers of the OCI layout and readers of the docker-archive find the same image, with valid digests.
func TestArchive(t *testing.T) {
	var platforms []platform
	for _, arch := range []string{"amd64", "arm64"} {
		p, err := pack(build(t, arch, "0"), from.created)
		if err != nil {
			t.Fatal(err)
		}
		platforms = append(platforms, p)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	digest, err := write(path, "kubehosts/coredns:test", from, platforms)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, files := untar(t, bytes.NewReader(data))

	read := func(name string, v any) {
		t.Helper()
		if err := json.Unmarshal(files[name], v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	blob := func(d descriptor) string {
		t.Helper()
		name := blobPath(d.Digest)
		if hash(files[name]) != d.Digest || len(files[name]) != d.Size {
			t.Errorf("%s: %d bytes, digest %s, want %d", name, len(files[name]), hash(files[name]), d.Size)
		}
		return name
	}
	var top, all index
	read("index.json", &top)
	if got := top.Manifests[0].Annotations["io.containerd.image.name"]; got != "docker.io/kubehosts/coredns:test" {
		t.Errorf("name %q", got)
	}
	if top.Manifests[0].Digest != digest {
		t.Errorf("digest %s, want %s", top.Manifests[0].Digest, digest)
	}
	read(blob(top.Manifests[0]), &all)
	var docker []dockerImage
	read("manifest.json", &docker)
	for i, arch := range []string{"amd64", "arm64"} {
		var m manifest
		read(blob(all.Manifests[i]), &m)
		var c image
		read(blob(m.Config), &c)
		if got := *all.Manifests[i].Platform; got != c.osArch || got != (osArch{arch, "linux"}) {
			t.Errorf("platform %v and %v, want %s", got, c.osArch, arch)
		}
		z, err := gzip.NewReader(bytes.NewReader(files[blob(m.Layers[0])]))
		if err != nil {
			t.Fatal(err)
		}
		layer, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(layer, platforms[i].root) || c.RootFS.DiffIDs[0] != hash(layer) {
			t.Errorf("%s: the layer is not the root file system: %v", arch, err)
		}
		if i == 0 && (docker[0].Config != blobPath(m.Config.Digest) || docker[0].Layers[0] != blobPath(m.Layers[0].Digest) || docker[0].RepoTags[0] != "kubehosts/coredns:test") {
			t.Errorf("manifest.json: %v", docker)
		}
	}

	// The same input gives the same file, byte by byte.
	again := filepath.Join(t.TempDir(), "again.tar")
	if second, err := write(again, "kubehosts/coredns:test", from, platforms); err != nil || second != digest {
		t.Errorf("digest %s, the first time %s: %v", second, digest, err)
	}
	if second, err := os.ReadFile(again); err != nil || !bytes.Equal(second, data) {
		t.Errorf("the second file differs: %v", err)
	}
}

func TestRefused(t *testing.T) {
	text := filepath.Join(t.TempDir(), "coredns")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		build(t, "amd64", "1"): "CGO_ENABLED=0",
		text:                   "coredns: ",
		"/nonexistent":         "no such file",
	} {
		if _, err := pack(path, from.created); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestReference(t *testing.T) {
	for name, want := range map[string]string{
		"kubehosts/coredns:dev":           "docker.io/kubehosts/coredns:dev",
		"coredns:dev":                     "docker.io/library/coredns:dev",
		"registry.example/coredns:v1.2.3": "registry.example/coredns:v1.2.3",
		"localhost:5000/a/coredns:dev":    "localhost:5000/a/coredns:dev",
		"localhost/coredns:dev":           "localhost/coredns:dev",
	} {
		if got := reference(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
