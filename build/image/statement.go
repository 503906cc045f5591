package main

import (
	"encoding/json"
	"runtime/debug"
	"strings"
)

// The types of an in-toto statement (https://in-toto.io/Statement/v1) with a predicate of SLSA provenance
// (https://slsa.dev/spec/v1.1/provenance). A statement has no time and names no machine, so equal images have equal
// statements.

type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     provenance `json:"predicate"`
}

// resource is a ResourceDescriptor.
type resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string            `json:"buildType"`
	ExternalParameters   map[string]string `json:"externalParameters"`
	InternalParameters   map[string]string `json:"internalParameters"`
	ResolvedDependencies []resource        `json:"resolvedDependencies"`
}

type runDetails struct {
	Builder    builder    `json:"builder"`
	Byproducts []resource `json:"byproducts"`
}

type builder struct {
	ID string `json:"id"`
}

const (
	repository     = "https://github.com/kubehosts/kubehosts"
	buildType      = repository + "/blob/main/docs/supply-chain.md#the-build"
	builderID      = repository + "/blob/main/docs/supply-chain.md#the-builder"
	typeStatement  = "https://in-toto.io/Statement/v1"
	typeProvenance = "https://slsa.dev/provenance/v1"
)

// provenance returns a statement that the manifest with a digest, of the image called name, was made from the git
// commit and by the Go release in the binary's build information.
func (p platform) provenance(name, digest string) ([]byte, error) {
	source := resource{
		URI:    "git+" + repository + "@" + setting(p.info, "vcs.revision"),
		Digest: map[string]string{"gitCommit": setting(p.info, "vcs.revision")},
	}
	if setting(p.info, "vcs.modified") == "true" {
		source.Annotations = map[string]string{"modified": "files in the checkout differed from the commit, or were new"}
	}
	flags := make(map[string]string)
	for _, s := range p.info.Settings {
		if !strings.HasPrefix(s.Key, "vcs") {
			flags[s.Key] = s.Value
		}
	}
	return json.MarshalIndent(statement{
		Type:          typeStatement,
		Subject:       []resource{{Name: name, Digest: digestSet(digest)}},
		PredicateType: typeProvenance,
		Predicate: provenance{
			BuildDefinition: buildDefinition{
				BuildType: buildType,
				ExternalParameters: map[string]string{
					"repository": repository,
					"package":    p.info.Path,
					"platform":   "linux/" + p.arch,
				},
				InternalParameters:   flags,
				ResolvedDependencies: []resource{source, {Name: p.info.GoVersion, URI: "pkg:github/golang/go@" + p.info.GoVersion}},
			},
			RunDetails: runDetails{
				Builder:    builder{builderID},
				Byproducts: []resource{{Name: p.title("cdx.json"), MediaType: typeSBOM, Digest: digestSet(hash(p.sbom))}},
			},
		},
	}, "", "  ")
}

// digestSet returns the in-toto form of a digest.
func digestSet(digest string) map[string]string {
	algorithm, hex, _ := strings.Cut(digest, ":")
	return map[string]string{algorithm: hex}
}

// setting returns how a binary was built, by a key of `go version -m`: "" if there is none of that key.
func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
