package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// platform is the image's part for one architecture.
type platform struct {
	arch string           // amd64, arm64: GOARCH, which is also the image specification's name for it
	root []byte           // the root file system as a tar, the image's one layer
	name string           // of the binary's file: coredns, coredns-slim
	info *debug.BuildInfo // of the binary
	sbom []byte           // what build/sbom lists of the binary, in CycloneDX's JSON
}

// title returns the name of a file about the platform, such as coredns-linux-amd64.cdx.json.
func (p platform) title(suffix string) string { return p.name + "-linux-" + p.arch + "." + suffix }

// bindBelow1024 is the extended attribute that lets a user other than root open port 53: the file capability
// cap_net_bind_service=ep in the kernel's form (struct vfs_cap_data, revision 2: little-endian words of flags,
// permitted and inheritable). A tar can hold it, while setcap and most ways of copying a file need root.
const bindBelow1024 = "\x01\x00\x00\x02" + "\x00\x04\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// pack makes the root file system for a binary: /coredns and /etc/ssl/certs/ca-certificates.crt, at the paths of the
// stock image. It refuses a binary that would not run in an empty file system, and one that another commit or folder
// would show in: built from another commit, without -trimpath, or with an SBOM (the file BINARY.cdx.json) of another
// binary.
func pack(path string, from source) (platform, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return platform{}, err
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return platform{}, fmt.Errorf("%s: %w", path, err)
	}
	if system := setting(info, "GOOS"); system != "linux" {
		return platform{}, fmt.Errorf("%s: built for %s: build with GOOS=linux", path, system)
	}
	if setting(info, "CGO_ENABLED") != "0" {
		return platform{}, fmt.Errorf("%s: built with cgo, and there is no C library in the image: build with CGO_ENABLED=0", path)
	}
	if setting(info, "-trimpath") != "true" {
		return platform{}, fmt.Errorf("%s: it holds the paths of this machine's folders: build with -trimpath", path)
	}
	if commit := setting(info, "vcs.revision"); commit != from.revision {
		return platform{}, fmt.Errorf("%s: built from commit %q, want %q: build it again with -buildvcs=true", path, commit, from.revision)
	}
	sbom, err := os.ReadFile(path + ".cdx.json")
	if err != nil {
		return platform{}, err
	}
	if _, sum, _ := strings.Cut(hash(binary), ":"); !bytes.Contains(sbom, []byte(sum)) {
		return platform{}, fmt.Errorf("%s.cdx.json: lists another binary, as it lacks the SHA-256 %s: make it again", path, sum)
	}
	root, err := rootfs(binary, from.created)
	return platform{setting(info, "GOARCH"), root, filepath.Base(path), info, sbom}, err
}

// rootfs returns a tar of the whole file system. Equal arguments make equal bytes.
func rootfs(binary []byte, modified time.Time) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name  string
		mode  int64
		data  []byte
		xattr string
	}{
		{name: "coredns", mode: 0o755, data: binary, xattr: bindBelow1024},
		{name: "etc/", mode: 0o755},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: authorities()},
	} {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: modified, Format: tar.FormatPAX}
		h.Typeflag = tar.TypeReg
		if f.data == nil {
			h.Typeflag = tar.TypeDir
		}
		if f.xattr != "" {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": f.xattr}
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// authorities returns the certificates that Mozilla trusts, from a Go module, so that go.mod determines them and not
// the machine that packs. It leaves out those trusted only for older certificates, because a PEM file can't mark them.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return out.Bytes()
}
