// Package supply checks the documents that `make image` attaches to its images, and that a commit makes the same images
// in any folder.
package supply

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

const (
	root = "../../"
	out  = root + "build/image/out/" // of make image
)

// images are the files of make image, by the name of the binary in them.
var images = map[string]string{"coredns": "kubehosts.tar", "coredns-slim": "kubehosts-slim.tar"}

// run returns what a command prints to its standard output, without the last newline.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, stdout, &stderr)
	}
	return strings.TrimSpace(string(stdout))
}

type descriptor struct {
	MediaType, ArtifactType, Digest string
	Platform                        struct{ OS, Architecture string }
	Annotations                     map[string]string
}

type index struct{ Manifests []descriptor }

type manifest struct {
	ArtifactType string
	Config       descriptor
	Layers       []descriptor
	Subject      descriptor
}

// layout is an image of `make image`: the files of an OCI image layout.
type layout map[string][]byte

func open(t *testing.T, path string) layout {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return members(t, f)
}

// members returns the files of a tar.
func members(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[h.Name], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
	}
}

func (l layout) decode(t *testing.T, name string, v any) {
	t.Helper()
	if err := json.Unmarshal(l[name], v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// blob returns what a descriptor stands for, after a look at the digest.
func (l layout) blob(t *testing.T, d descriptor) []byte {
	t.Helper()
	data, ok := l["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
	if got := "sha256:" + sum(data); !ok || got != d.Digest {
		t.Fatalf("%s %s: the file has the digest %s", d.MediaType, d.Digest, got)
	}
	return data
}

func (l layout) manifest(t *testing.T, d descriptor) (m manifest) {
	t.Helper()
	if err := json.Unmarshal(l.blob(t, d), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// digest returns the digest that the image's name stands for.
func (l layout) digest(t *testing.T) string {
	t.Helper()
	var top index
	l.decode(t, "index.json", &top)
	return top.Manifests[0].Digest
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// part is the image of one platform: the binary in it, and what is attached to its manifest.
type part struct {
	name     string // of the binary's file
	arch     string
	digest   string // of the manifest
	binary   []byte
	info     *debug.BuildInfo
	attached map[string][]byte // by media type
}

// read are the parts of both images, once they are read.
var read []part

// parts returns the parts of both images.
func parts(t *testing.T) []part {
	t.Helper()
	if read != nil {
		return read
	}
	var all []part
	for name, file := range images {
		l := open(t, out+file)
		var top, image index
		l.decode(t, "index.json", &top)
		if err := json.Unmarshal(l.blob(t, top.Manifests[0]), &image); err != nil {
			t.Fatal(err)
		}
		for _, d := range image.Manifests {
			if d.Platform.OS == "linux" {
				all = append(all, l.part(t, name, d, image))
			}
		}
	}
	if len(all) < len(images) {
		t.Fatalf("%d images, want %d", len(all), len(images))
	}
	read = all
	return all
}

func (l layout) part(t *testing.T, name string, d descriptor, image index) part {
	t.Helper()
	p := part{name: name, arch: d.Platform.Architecture, digest: d.Digest, attached: make(map[string][]byte)}
	z, err := gzip.NewReader(bytes.NewReader(l.blob(t, l.manifest(t, d).Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	p.binary = members(t, z)["coredns"]
	if p.info, err = buildinfo.Read(bytes.NewReader(p.binary)); err != nil {
		t.Fatal(err)
	}
	for _, other := range image.Manifests {
		m := l.manifest(t, other)
		if m.Subject.Digest == d.Digest {
			p.attached[m.ArtifactType] = l.blob(t, m.Layers[0])
		}
	}
	return p
}

// beside returns what make image wrote beside the binary.
func (p part) beside(t *testing.T, suffix string) []byte {
	t.Helper()
	data, err := os.ReadFile(out + "linux-" + p.arch + "/" + p.name + suffix)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (p part) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

type component struct {
	Name, Version, PURL string
	Hashes              []struct{ Alg, Content string }
}

// The SBOM lists the modules of the binary and no others, each with its version, package URL and hash; the program with
// its version and commit; the Go release; and the module of the certificates.
func TestSBOM(t *testing.T) {
	commit := run(t, root, "git", "rev-parse", "HEAD")
	const roots = "golang.org/x/crypto/x509roots/fallback"
	rootsVersion := run(t, root, "go", "list", "-m", "-f", "{{.Version}}", roots)
	for _, p := range parts(t) {
		t.Run(p.name+"-"+p.arch, func(t *testing.T) {
			text := p.attached["application/vnd.cyclonedx+json"]
			if !bytes.Equal(text, p.beside(t, ".cdx.json")) {
				t.Error("the file beside the binary is another")
			}
			var bom struct {
				BOMFormat, SpecVersion, SerialNumber string
				Metadata                             struct {
					Timestamp  string
					Component  component
					Properties []struct{ Name, Value string }
				}
				Components []component
			}
			if err := json.Unmarshal(text, &bom); err != nil {
				t.Fatal(err)
			}
			if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || !strings.HasPrefix(bom.SerialNumber, "urn:uuid:") {
				t.Errorf("format %q, version %q, serial number %q", bom.BOMFormat, bom.SpecVersion, bom.SerialNumber)
			}
			if bom.Metadata.Timestamp != p.setting("vcs.time") {
				t.Errorf("time %s, want the commit's, %s", bom.Metadata.Timestamp, p.setting("vcs.time"))
			}
			properties := make(map[string]string)
			for _, one := range bom.Metadata.Properties {
				properties[one.Name] = one.Value
			}
			for name, want := range map[string]string{
				"cdx:gomod:build:vcs:revision":  commit,
				"cdx:gomod:build:env:GOVERSION": p.info.GoVersion,
				"cdx:gomod:build:env:GOARCH":    p.arch,
				"cdx:gomod:binary:hash:SHA-256": sum(p.binary),
			} {
				if properties[name] != want {
					t.Errorf("%s is %q, want %q", name, properties[name], want)
				}
			}

			want := map[string]component{
				"std": {Version: p.info.GoVersion},
				roots: {Version: rootsVersion},
			}
			for _, m := range p.info.Deps {
				if m.Replace != nil {
					m = m.Replace
				}
				h1, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
				if err != nil {
					t.Fatal(err)
				}
				want[m.Path] = component{Version: m.Version, Hashes: []struct{ Alg, Content string }{{"SHA-256", hex.EncodeToString(h1)}}}
			}
			for _, c := range bom.Components {
				w, ok := want[c.Name]
				delete(want, c.Name)
				if !ok {
					t.Errorf("%s is not in the image, or listed twice", c.Name)
				}
				if c.Version != w.Version || c.PURL != "pkg:golang/"+c.Name+"@"+w.Version {
					t.Errorf("%s has the version %q and the package URL %q, want %s", c.Name, c.Version, c.PURL, w.Version)
				}
				if len(w.Hashes) > 0 && (len(c.Hashes) != 1 || c.Hashes[0] != w.Hashes[0]) {
					t.Errorf("%s has the hashes %v, want %v", c.Name, c.Hashes, w.Hashes)
				}
			}
			for name := range want {
				t.Errorf("%s is missing", name)
			}
			if len(bom.Components) < 50 {
				t.Errorf("%d components", len(bom.Components))
			}
			main := p.info.Main
			if c := bom.Metadata.Component; c.Name != main.Path || c.Version != main.Version || c.PURL != "pkg:golang/"+main.Path+"@"+main.Version {
				t.Errorf("the program is %v, want %v", c, main)
			}
		})
	}
}

// The statement is about the image's manifest, and names the commit and the Go release.
func TestProvenance(t *testing.T) {
	commit := run(t, root, "git", "rev-parse", "HEAD")
	for _, p := range parts(t) {
		t.Run(p.name+"-"+p.arch, func(t *testing.T) {
			text := p.attached["application/vnd.in-toto+json"]
			if !bytes.Equal(text, p.beside(t, ".intoto.json")) {
				t.Error("the file beside the binary is another")
			}
			type resource struct {
				URI    string
				Digest map[string]string
			}
			var s struct {
				Type          string `json:"_type"`
				PredicateType string
				Subject       []resource
				Predicate     struct {
					BuildDefinition struct {
						BuildType            string
						ExternalParameters   map[string]string
						ResolvedDependencies []resource
					}
					RunDetails struct {
						Builder    struct{ ID string }
						Byproducts []resource
					}
				}
			}
			if err := json.Unmarshal(text, &s); err != nil {
				t.Fatal(err)
			}
			if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" {
				t.Errorf("types %q and %q", s.Type, s.PredicateType)
			}
			if len(s.Subject) != 1 || "sha256:"+s.Subject[0].Digest["sha256"] != p.digest {
				t.Errorf("subject %v, want the manifest %s", s.Subject, p.digest)
			}
			b := s.Predicate.BuildDefinition
			want := map[string]string{
				"repository": "https://github.com/kubehosts/kubehosts", "package": p.info.Path, "platform": "linux/" + p.arch,
			}
			for key, value := range want {
				if b.ExternalParameters[key] != value {
					t.Errorf("%s is %q, want %q", key, b.ExternalParameters[key], value)
				}
			}
			if len(b.ExternalParameters) != len(want) {
				t.Errorf("parameters %v, want no others than %v", b.ExternalParameters, want)
			}
			git, release := b.ResolvedDependencies[0], b.ResolvedDependencies[1]
			if git.Digest["gitCommit"] != commit || git.URI != "git+https://github.com/kubehosts/kubehosts@"+commit {
				t.Errorf("source %v, want commit %s", git, commit)
			}
			if release.URI != "pkg:github/golang/go@"+p.info.GoVersion || p.info.GoVersion != runtime.Version() {
				t.Errorf("Go %q, want %s", release.URI, runtime.Version())
			}
			if got := s.Predicate.RunDetails.Byproducts[0].Digest["sha256"]; got != sum(p.attached["application/vnd.cyclonedx+json"]) {
				t.Errorf("SBOM %s", got)
			}
			if b.BuildType == "" || s.Predicate.RunDetails.Builder.ID == "" {
				t.Errorf("build type %q, builder %q", b.BuildType, s.Predicate.RunDetails.Builder.ID)
			}
		})
	}
}

// The binaries say how they were built, with `go version -m`.
func TestBuildInformation(t *testing.T) {
	commit := run(t, root, "git", "rev-parse", "HEAD")
	for _, p := range parts(t) {
		if p.setting("-trimpath") != "true" || p.setting("vcs.revision") != commit || p.info.Main.Version == "(devel)" || p.info.Main.Version == "" {
			t.Errorf("%s: %v", p.name, p.info)
		}
	}
}

// Nothing in an image names a folder of the machine that it was made on.
func TestNoPaths(t *testing.T) {
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	folders := []string{here, filepath.Join(home, "go"), os.TempDir() + "/go-build"}
	for _, key := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOROOT"} {
		folders = append(folders, run(t, root, "go", "env", key))
	}
	for _, file := range images {
		for name, data := range open(t, out+file) {
			holds(t, file+" "+name, data, folders)
		}
	}
	for _, p := range parts(t) {
		holds(t, p.name, p.binary, folders)
	}
}

func holds(t *testing.T, name string, data []byte, folders []string) {
	t.Helper()
	for _, folder := range folders {
		if at := bytes.Index(data, []byte(folder)); at >= 0 {
			t.Errorf("%s holds %q", name, data[at:min(len(data), at+100)])
		}
	}
}

// A clone of the commit in another folder, by somebody with other settings, makes the same digests. FULL=1 compiles all
// of it again for that.
func TestSameDigest(t *testing.T) {
	if changed := run(t, root, "git", "status", "--porcelain"); changed != "" {
		t.Fatalf("commit first, or another clone makes other images:\n%s", changed)
	}
	dir := filepath.Join(t.TempDir(), "a folder", "of another name")
	run(t, root, "git", "clone", "-q", ".", dir)
	var arches []string
	for _, p := range parts(t) {
		if p.name == "coredns" {
			arches = append(arches, p.arch)
		}
	}
	cmd := exec.Command("sh", "-c", `umask 077 && exec make --no-print-directory image ARCHES="$0"`, strings.Join(arches, " "))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TZ=Pacific/Auckland", "LC_ALL=C", "GOFLAGS=-tags=other", "GOAMD64=v3", "GOARM64=v8.2", "MAKEFLAGS=")
	if os.Getenv("SUPPLY_FULL") != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+t.TempDir())
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, file := range images {
		here, there := open(t, out+file), open(t, filepath.Join(dir, "build/image/out", file))
		if here.digest(t) != there.digest(t) {
			t.Errorf("%s: digest %s, in another folder %s", file, here.digest(t), there.digest(t))
		}
	}
}
