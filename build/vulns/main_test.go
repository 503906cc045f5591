package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// save writes a file below dir.
func save(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A binary that calls the function of a report fails. One that has a fixed version of it, or does not call it, passes.
func TestRun(t *testing.T) {
	src := t.TempDir()
	save(t, src, "main.go", "package main\n\nimport \"os\"\n\nfunc main() {\n\tb, _ := os.ReadFile(os.Args[0])\n\tprintln(len(b))\n}\n")
	binary := filepath.Join(src, "program")
	build := exec.Command("go", "build", "-o", binary, "main.go")
	build.Dir = src
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, tt := range []struct {
		name, symbol, events string
		called               bool
	}{
		{"called", "ReadFile", `{"introduced": "0"}`, true},
		{"fixed in a later version", "ReadFile", `{"introduced": "0"}, {"fixed": "99.0.0"}`, true},
		{"fixed", "ReadFile", `{"introduced": "0"}, {"fixed": "1.0.0"}`, false},
		{"not called", "WriteFile", `{"introduced": "0"}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reports := t.TempDir()
			save(t, reports, "GO-2026-0001.json", `{
				"schema_version": "1.3.1", "id": "GO-2026-0001", "modified": "2026-11-01T00:00:00Z", "summary": "a test", "database_specific": {"url": "https://vuln.example"},
				"affected": [{
					"package": {"name": "stdlib", "ecosystem": "Go"},
					"ranges": [{"type": "SEMVER", "events": [`+tt.events+`]}],
					"ecosystem_specific": {"imports": [{"path": "os", "symbols": ["`+tt.symbol+`"]}]}
				}]
			}`)
			if err := run(reports, binary); (err != nil) != tt.called {
				t.Errorf("error %v, want one: %v", err, tt.called)
			}
		})
	}
}

func TestLayOut(t *testing.T) {
	reports, dir := t.TempDir(), t.TempDir()
	save(t, reports, "GO-1.json", `{"id": "GO-1", "modified": "2026-11-02T00:00:00Z", "aliases": ["CVE-1"],
		"affected": [{"package": {"name": "b.example"}}, {"package": {"name": "a.example"}}, {"package": {"name": "a.example"}}]}`)
	save(t, reports, "GO-2.json", `{"id": "GO-2", "modified": "2026-11-01T00:00:00Z", "affected": [{"package": {"name": "a.example"}}]}`)
	save(t, reports, "README.md", "not a report")
	if n, err := layOut(reports, dir); n != 2 || err != nil {
		t.Fatalf("%d reports, error %v, want 2", n, err)
	}
	for name, want := range map[string]string{
		"index/db.json": `{"modified": "2026-11-02T00:00:00Z"}`,
		"index/modules.json": `[
			{"path": "a.example", "vulns": [{"id": "GO-1", "modified": "2026-11-02T00:00:00Z"}, {"id": "GO-2", "modified": "2026-11-01T00:00:00Z"}]},
			{"path": "b.example", "vulns": [{"id": "GO-1", "modified": "2026-11-02T00:00:00Z"}]}]`,
		"index/vulns.json": `[{"id": "GO-1", "modified": "2026-11-02T00:00:00Z", "aliases": ["CVE-1"]}, {"id": "GO-2", "modified": "2026-11-01T00:00:00Z"}]`,
		"ID/GO-2.json":     `{"id": "GO-2", "modified": "2026-11-01T00:00:00Z", "affected": [{"package": {"name": "a.example"}}]}`,
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		var got, wanted any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, wanted) {
			t.Errorf("%s is\n%s, want\n%s", name, text, want)
		}
	}
}

func TestLayOutRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, text, want string }{
		{"nothing", "README.md", "", "there are no reports"},
		{"no JSON", "GO-1.json", "{", "GO-1.json: unexpected end"},
		{"another report", "GO-1.json", `{"id": "GO-2"}`, `holds the report "GO-2"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reports := t.TempDir()
			save(t, reports, tt.file, tt.text)
			if _, err := layOut(reports, t.TempDir()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
