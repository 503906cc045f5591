package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"
)

// The types of the OCI image specification 1.1 that are used here.

type descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	Platform     *osArch           `json:"platform,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

type osArch struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type image struct {
	osArch
	Created time.Time `json:"created"`
	Config  config    `json:"config"`
	RootFS  rootFS    `json:"rootfs"`
	History []history `json:"history"`
}

type config struct {
	User         string
	ExposedPorts map[string]struct{}
	Env          []string
	Entrypoint   []string
	WorkingDir   string
	Labels       map[string]string
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// dockerImage is a line of manifest.json, which `docker load` reads instead of the index.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeEmpty    = "application/vnd.oci.empty.v1+json"
	typeSBOM     = "application/vnd.cyclonedx+json"
	typeInToto   = "application/vnd.in-toto+json"
)

// source is the source that an image is made from.
type source struct {
	version  string    // as git describes it
	revision string    // the git commit
	created  time.Time // time of that commit, also the time of all files in the image
}

// config returns how the image runs: the entrypoint, user, folder and ports of the stock image. They are the same in
// build/Dockerfile.
func (s source) config() config {
	return config{
		User:         "65532:65532",
		ExposedPorts: map[string]struct{}{"53/tcp": {}, "53/udp": {}},
		Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, // as builders write it
		Entrypoint:   []string{"/coredns"},
		WorkingDir:   "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":       "kubehosts",
			"org.opencontainers.image.description": "CoreDNS with the kubehosts plugin",
			"org.opencontainers.image.source":      "https://github.com/kubehosts/kubehosts",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     s.version,
			"org.opencontainers.image.revision":    s.revision,
		},
	}
}

// archive is a tar that is both an OCI image layout and a docker-archive, so that `docker load`, `ctr images import`,
// skopeo and crane can read it.
type archive struct {
	*tar.Writer
}

// write makes the archive and returns the digest of the image's index, and the provenance of each platform. Equal
// arguments make equal bytes.
func write(path, name string, from source, platforms []platform) (digest string, statements [][]byte, err error) {
	f, err := os.Create(path)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	a := archive{tar.NewWriter(f)}

	empty, err := a.blob(typeEmpty, []byte("{}"))
	if err != nil {
		return "", nil, err
	}
	var manifests, attached []descriptor
	var docker []dockerImage
	for _, p := range platforms {
		m, d, err := a.platform(p, from)
		if err != nil {
			return "", nil, err
		}
		manifests, docker = append(manifests, m), append(docker, d)
		s, err := p.provenance(name, m.Digest)
		if err != nil {
			return "", nil, err
		}
		statements = append(statements, s)
		sbom, err := a.attach(m, empty, typeSBOM, p.title("cdx.json"), p.sbom, nil)
		if err != nil {
			return "", nil, err
		}
		stated, err := a.attach(m, empty, typeInToto, p.title("intoto.json"), s, map[string]string{"in-toto.io/predicate-type": typeProvenance})
		if err != nil {
			return "", nil, err
		}
		attached = append(attached, sbom, stated)
	}
	named, err := a.json(typeIndex, index{2, typeIndex, append(manifests, attached...)})
	if err != nil {
		return "", nil, err
	}
	full := reference(name)
	named.Annotations = map[string]string{
		"io.containerd.image.name":          full,
		"org.opencontainers.image.ref.name": full[strings.LastIndexByte(full, ':')+1:],
	}
	docker[0].RepoTags = []string{name}
	err = errors.Join(
		a.file("oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}),
		a.file("index.json", index{2, typeIndex, []descriptor{named}}),
		a.file("manifest.json", docker[:1]), // it has no room for a second architecture
		a.Close(), f.Close())
	return named.Digest, statements, err
}

// attach adds data as a file that a registry lists among the referrers of the manifest m. The descriptor that it
// returns belongs in the index of the image, after the images: what copies the index then copies the file, and the
// digest of the index covers it. The platform and the annotations of the descriptor, which are BuildKit's, make
// container engines pass it over.
func (a archive) attach(m, empty descriptor, mediaType, title string, data []byte, annotations map[string]string) (descriptor, error) {
	file, err := a.blob(mediaType, data)
	if err != nil {
		return file, err
	}
	file.Annotations = map[string]string{"org.opencontainers.image.title": title}
	maps.Copy(file.Annotations, annotations)
	d, err := a.json(typeManifest, manifest{
		SchemaVersion: 2,
		MediaType:     typeManifest,
		ArtifactType:  mediaType,
		Config:        empty,
		Layers:        []descriptor{file},
		Subject:       &descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size},
		Annotations:   annotations,
	})
	d.ArtifactType = mediaType
	d.Platform = &osArch{"unknown", "unknown"}
	d.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": m.Digest,
	}
	return d, err
}

// platform adds the layer, the config and the manifest of one architecture.
func (a archive) platform(p platform, from source) (descriptor, dockerImage, error) {
	var layer bytes.Buffer
	z := gzip.NewWriter(&layer)
	z.Write(p.root) // to memory: neither fails
	z.Close()

	run := osArch{p.arch, "linux"}
	m := manifest{SchemaVersion: 2, MediaType: typeManifest}
	l, err := a.blob(typeLayer, layer.Bytes())
	if err != nil {
		return l, dockerImage{}, err
	}
	m.Layers = []descriptor{l}
	m.Config, err = a.json(typeConfig, image{
		osArch:  run,
		Created: from.created,
		Config:  from.config(),
		RootFS:  rootFS{"layers", []string{hash(p.root)}},
		History: []history{{from.created, "build/image"}},
	})
	if err != nil {
		return l, dockerImage{}, err
	}
	d, err := a.json(typeManifest, m)
	d.Platform = &run
	return d, dockerImage{Config: blobPath(m.Config.Digest), Layers: []string{blobPath(l.Digest)}}, err
}

// json adds a blob of v.
func (a archive) json(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return a.blob(mediaType, data)
}

// blob adds data, named by its digest.
func (a archive) blob(mediaType string, data []byte) (descriptor, error) {
	d := descriptor{MediaType: mediaType, Digest: hash(data), Size: len(data)}
	return d, a.add(blobPath(d.Digest), data)
}

// file adds v as a file of that name.
func (a archive) file(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.add(name, data)
}

func (a archive) add(name string, data []byte) error {
	if err := a.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := a.Write(data)
	return err
}

func hash(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

// reference returns the full form of a name, which containerd needs: docker.io is the registry of a name without one.
func reference(name string) string {
	host, _, found := strings.Cut(name, "/")
	switch {
	case !found:
		return "docker.io/library/" + name
	case strings.ContainsAny(host, ".:") || host == "localhost":
		return name
	}
	return "docker.io/" + name
}
