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
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

var created = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// git runs a git command in dir that nobody's configuration changes, and returns what it prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a", "GIT_AUTHOR_DATE=2026-11-23T00:00:00Z",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a", "GIT_COMMITTER_DATE=2026-11-23T00:00:00Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// checkout makes a repository with a small program in it.
func checkout(t *testing.T) (dir string, from source) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"go.mod":     "module kubehosts.example\n\ngo 1.26\n",
		"main.go":    "package main\n\nfunc main() {}\n",
		".gitignore": "/bin\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git(t, dir, "init", "-q")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "a program")
	return dir, source{"v1.2.3", git(t, dir, "rev-parse", "HEAD"), created}
}

// build compiles the program of a checkout for linux, with an SBOM beside it that names no more than the binary's hash.
func build(t *testing.T, dir, arch, cgo string, flags ...string) string {
	t.Helper()
	path := filepath.Join(dir, "bin", arch, "coredns")
	cmd := exec.Command("go", append([]string{"build", "-buildvcs=true", "-o", path}, flags...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".cdx.json", []byte(`{"sha256": "`+strings.TrimPrefix(hash(data), "sha256:")+`"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
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
	dir, from := checkout(t)
	binary := build(t, dir, "amd64", "0", "-trimpath")
	p, err := pack(binary, from)
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
	dir, from := checkout(t)
	var platforms []platform
	for _, arch := range []string{"amd64", "arm64"} {
		p, err := pack(build(t, dir, arch, "0", "-trimpath"), from)
		if err != nil {
			t.Fatal(err)
		}
		platforms = append(platforms, p)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	digest, statements, err := write(path, "kubehosts/coredns:test", from, platforms)
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

		// What is attached comes behind all images in the index, marked as BuildKit does, and refers to one of them.
		for j, want := range []struct {
			mediaType, title string
			data             []byte
		}{
			{"application/vnd.cyclonedx+json", "coredns-linux-" + arch + ".cdx.json", platforms[i].sbom},
			{"application/vnd.in-toto+json", "coredns-linux-" + arch + ".intoto.json", statements[i]},
		} {
			d := all.Manifests[2+2*i+j]
			var m manifest
			read(blob(d), &m)
			blob(m.Config)
			subject := all.Manifests[i]
			subject.Platform = nil
			if !reflect.DeepEqual(m.Subject, &subject) {
				t.Errorf("%s: subject %v, want %v", want.title, m.Subject, subject)
			}
			if d.Platform.OS != "unknown" || d.Platform.Architecture != "unknown" ||
				d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" || d.Annotations["vnd.docker.reference.digest"] != subject.Digest {
				t.Errorf("%s: container engines would take it for an image: %v", want.title, d)
			}
			if d.ArtifactType != want.mediaType || m.ArtifactType != want.mediaType || m.Layers[0].MediaType != want.mediaType ||
				m.Layers[0].Annotations["org.opencontainers.image.title"] != want.title || !bytes.Equal(files[blob(m.Layers[0])], want.data) {
				t.Errorf("%s: %v", want.title, m)
			}
		}
	}

	// The same commit in another folder makes the same file, byte by byte.
	elsewhere, _ := checkout(t)
	for i, arch := range []string{"amd64", "arm64"} {
		if platforms[i], err = pack(build(t, elsewhere, arch, "0", "-trimpath"), from); err != nil {
			t.Fatal(err)
		}
	}
	again := filepath.Join(t.TempDir(), "again.tar")
	if second, _, err := write(again, "kubehosts/coredns:test", from, platforms); err != nil || second != digest {
		t.Errorf("digest %s, at first %s: %v", second, digest, err)
	}
	if second, err := os.ReadFile(again); err != nil || !bytes.Equal(second, data) {
		t.Errorf("the second file differs: %v", err)
	}
}

// The statement names the manifest, the commit and the Go release, and admits a change in the checkout.
func TestProvenance(t *testing.T) {
	dir, from := checkout(t)
	state := func() statement {
		t.Helper()
		p, err := pack(build(t, dir, "arm64", "0", "-trimpath"), from)
		if err != nil {
			t.Fatal(err)
		}
		text, err := p.provenance("kubehosts/coredns:test", "sha256:abcd")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(dir)) {
			t.Errorf("the statement names a folder of this machine: %s", text)
		}
		var s statement
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := state()
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("types %q and %q", s.Type, s.PredicateType)
	}
	if want := []resource{{Name: "kubehosts/coredns:test", Digest: map[string]string{"sha256": "abcd"}}}; !reflect.DeepEqual(s.Subject, want) {
		t.Errorf("subject %v, want %v", s.Subject, want)
	}
	built := s.Predicate.BuildDefinition
	want := []resource{
		{URI: "git+https://github.com/kubehosts/kubehosts@" + from.revision, Digest: map[string]string{"gitCommit": from.revision}},
		{Name: runtime.Version(), URI: "pkg:github/golang/go@" + runtime.Version()},
	}
	if !reflect.DeepEqual(built.ResolvedDependencies, want) {
		t.Errorf("dependencies %v, want %v", built.ResolvedDependencies, want)
	}
	if e := built.ExternalParameters; e["platform"] != "linux/arm64" || e["package"] != "kubehosts.example" {
		t.Errorf("external parameters %v", e)
	}
	if i := built.InternalParameters; i["GOARCH"] != "arm64" || i["CGO_ENABLED"] != "0" || i["-trimpath"] != "true" || i["vcs.revision"] != "" {
		t.Errorf("internal parameters %v", i)
	}

	if err := os.WriteFile(filepath.Join(dir, "new.go"), []byte("package main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if source := state().Predicate.BuildDefinition.ResolvedDependencies[0]; source.Annotations["modified"] == "" {
		t.Errorf("a changed checkout: %v", source)
	}
}

func TestRefused(t *testing.T) {
	dir, from := checkout(t)
	folder := func(files map[string]string) string {
		t.Helper()
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return filepath.Join(dir, "coredns")
	}
	cgo, _ := checkout(t)
	paths, _ := checkout(t)
	good := build(t, dir, "amd64", "0", "-trimpath")
	binary, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	other := from
	other.revision = "0123456789abcdef"
	for _, tt := range []struct {
		path string
		from source
		want string
	}{
		{build(t, cgo, "amd64", "1", "-trimpath"), from, "CGO_ENABLED=0"},
		{build(t, paths, "amd64", "0"), from, "-trimpath"},
		{good, other, `want "0123456789abcdef"`},
		{folder(map[string]string{"coredns": string(binary)}), from, "coredns.cdx.json: no such file"},
		{folder(map[string]string{"coredns": string(binary), "coredns.cdx.json": "{}"}), from, "lists another binary"},
		{folder(map[string]string{"coredns": "#!/bin/sh\n"}), from, "coredns: "},
		{"/nonexistent", from, "no such file"},
	} {
		if _, err := pack(tt.path, tt.from); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.path, err, tt.want)
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
