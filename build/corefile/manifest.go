package corefile

import (
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// ConfigMap is a ConfigMap as kubectl prints it, in YAML or JSON.
type ConfigMap struct {
	Namespace, Name string
	Keys            map[string]Source
}

// manifestKind finds the line that distinguishes a manifest from a Corefile.
var manifestKind = regexp.MustCompile(`(?m)^[\s{]*"?kind"?:\s*["']?(ConfigMap|ConfigMapList|List)["']?\s*,?\s*(#.*)?$`)

// IsManifest reports whether a text is intended as the manifest of a ConfigMap, or of a list of
// them.
func IsManifest(text string) bool { return manifestKind.MatchString(text) }

// Manifest reads the ConfigMaps in the manifests of a file, with those in a List, in their order. A text in YAML's
// literal style, as kubectl prints it, has the lines of the file; any other has the line on which it begins.
//
// The error is an *Error: a manifest is not well formed, or there is no ConfigMap.
func Manifest(file, text string) ([]ConfigMap, error) {
	var all []ConfigMap
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, yamlError(file, err)
		}
		all = appendConfigMaps(all, file, &doc)
	}
	if len(all) == 0 {
		return nil, &Error{Position{file, 1}, "it contains no ConfigMap"}
	}
	return all, nil
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// yamlError moves the line of an error of package yaml to its usual place.
func yamlError(file string, err error) error {
	text, line := err.Error(), 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return &Error{Position{file, line}, "not a manifest in YAML or JSON: " + safe.Printable(text)}
}

// appendConfigMaps appends the ConfigMaps in a document or in an item of a List.
func appendConfigMaps(all []ConfigMap, file string, n *yaml.Node) []ConfigMap {
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	switch scalar(field(n, "kind")) {
	case "ConfigMap":
		return append(all, configMapOf(file, n))
	case "List", "ConfigMapList":
		if items := field(n, "items"); items != nil && items.Kind == yaml.SequenceNode {
			for _, item := range items.Content {
				if item.Kind == yaml.MappingNode && scalar(field(item, "kind")) != "List" {
					all = appendConfigMaps(all, file, item)
				}
			}
		}
	}
	return all
}

func configMapOf(file string, n *yaml.Node) ConfigMap {
	meta := field(n, "metadata")
	c := ConfigMap{Namespace: scalar(field(meta, "namespace")), Name: scalar(field(meta, "name")), Keys: map[string]Source{}}
	data := field(n, "data")
	if data == nil || data.Kind != yaml.MappingNode {
		return c
	}
	for i := 0; i+1 < len(data.Content); i += 2 {
		if value := data.Content[i+1]; value.Kind == yaml.ScalarNode {
			c.Keys[data.Content[i].Value] = sourceOf(file, value)
		}
	}
	return c
}

// sourceOf returns the text of a node. A literal text begins on the line after its |.
func sourceOf(file string, n *yaml.Node) Source {
	s := Source{Name: file, Text: n.Value, First: n.Line}
	if n.Style&yaml.LiteralStyle != 0 {
		s.First++
	} else {
		s.OneLine = true
	}
	return s
}

// field returns a field of a mapping, nil if there is none.
func field(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// Mounted returns the keys that a pattern matches in a folder where a ConfigMap is mounted, in their order. The file of
// a pattern without a wildcard must exist. ok reports whether the pattern names the folder.
func Mounted(pattern, dir string, keys map[string]Source) (all []Source, ok bool, err error) {
	folder, name := path.Split(pattern)
	if path.Clean(folder) != path.Clean(dir) {
		return nil, false, nil
	}
	wild := strings.ContainsAny(name, "*?[]")
	if wild && manyWildcards(name) {
		return nil, true, errPattern
	}
	var names []string
	for key := range keys {
		match := key == name
		if wild {
			if match, err = path.Match(name, key); err != nil {
				return nil, true, err
			}
		}
		if match {
			names = append(names, key)
		}
	}
	if len(names) == 0 && !wild {
		return nil, true, fmt.Errorf("there is no key %s", safe.Printable(name))
	}
	slices.Sort(names)
	for _, key := range names {
		all = append(all, keys[key])
	}
	return all, true, nil
}
