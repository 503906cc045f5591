package test

import (
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/test/cluster"
)

// The slim program has every plugin in the Corefiles of distributions, and in the keys that they import.
func TestSlimHasDistributions(t *testing.T) {
	parsed, err := parser.ParseFile(token.NewFileSet(), "../build/slim/main.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, imported := range parsed.Imports {
		has[strings.Trim(imported.Path.Value, `"`)] = true
	}
	stock := stockPlugins(t)
	named := map[string]string{} // plugins, with a file that names it
	files, _ := filepath.Glob("testdata/check/*.yaml")
	for _, file := range files {
		for _, name := range directives(t, file) {
			named[name] = file
		}
	}
	if len(named) < 15 {
		t.Fatalf("%d files name %v alone", len(files), slices.Sorted(maps.Keys(named)))
	}
	for name, file := range named {
		if pkg := "github.com/coredns/coredns/plugin/" + stock[name]; !has[pkg] {
			t.Errorf("%s names %s, and build/slim does not import %q", file, name, pkg)
		}
	}
	t.Logf("%v", slices.Sorted(maps.Keys(named)))
}

// directives returns the plugins in the Corefiles of a manifest, and in the keys that they import.
func directives(t *testing.T, file string) (names []string) {
	t.Helper()
	configMaps, err := corefile.Manifest(file, cluster.ReadFile(t, file))
	if err != nil {
		t.Fatal(err)
	}
	apart := func(string, *corefile.Source) ([]corefile.Source, error) { return []corefile.Source{}, nil }
	for _, m := range configMaps {
		for key, source := range m.Keys {
			switch {
			case strings.HasSuffix(key, ".override"):
				source.Text = "override.invalid {\n" + source.Text + "\n}\n"
			case key != "Corefile" && !strings.HasSuffix(key, ".server"):
				continue // NodeHosts
			}
			text, err := corefile.Read(source, apart)
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := text.Blocks(nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range blocks {
				names = append(names, blocks[i].Names()...)
			}
		}
	}
	return names
}
