// Package main runs govulncheck on a binary, without the network. It fails if the binary calls a function with a known
// vulnerability.
//
// The database is the module golang.org/x/vulndb at the version of go.mod. `go get golang.org/x/vulndb@latest` in this
// folder fetches a newer one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/vuln/scan"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("vulns: ")
	if len(os.Args) != 3 {
		log.Fatal("usage: vulns REPORTS BINARY   (REPORTS is the folder data/osv of golang.org/x/vulndb)")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

// run checks binary against the reports of a folder. It returns an error if the binary calls a vulnerable function;
// govulncheck prints the findings.
func run(reports, binary string) error {
	dir, err := os.MkdirTemp("", "vulndb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := layOut(reports, dir)
	if err != nil {
		return err
	}
	fmt.Printf("govulncheck of %s against %d reports\n", binary, n)
	check := scan.Command(context.Background(), "-db", "file://"+filepath.ToSlash(dir), "-mode", "binary", binary)
	if err := check.Start(); err != nil {
		return err
	}
	if err := check.Wait(); err != nil {
		return fmt.Errorf("%s: govulncheck: %w", binary, err)
	}
	return nil
}

// The form of a database, https://go.dev/security/vuln/database#api. The versions that fix a vulnerability may be
// missing in the index: govulncheck then reads them from the report.
type (
	report struct {
		ID       string    `json:"id"`
		Modified time.Time `json:"modified"`
		Aliases  []string  `json:"aliases"`
		Affected []struct {
			Package struct {
				Name string `json:"name"` // the module's path
			} `json:"package"`
		} `json:"affected"`
	}
	database struct {
		Modified time.Time `json:"modified"`
	}
	module struct {
		Path  string  `json:"path"`
		Vulns []entry `json:"vulns"`
	}
	entry struct {
		ID       string    `json:"id"`
		Modified time.Time `json:"modified"`
		Aliases  []string  `json:"aliases,omitempty"`
	}
)

// layOut converts a folder of OSV reports, ID.json each, to a database in dir in govulncheck's form. It returns the
// number of reports. None is an error, since a database without reports finds nothing.
func layOut(reports, dir string) (int, error) {
	paths, err := filepath.Glob(filepath.Join(reports, "*.json"))
	if err != nil {
		return 0, err
	}
	if len(paths) == 0 {
		return 0, fmt.Errorf("there are no reports in %s", reports)
	}
	for _, sub := range []string{"ID", "index"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return 0, err
		}
	}
	var db database
	var all []entry
	byPath := map[string][]entry{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		if r.ID != strings.TrimSuffix(filepath.Base(path), ".json") {
			return 0, fmt.Errorf("%s holds the report %q", path, r.ID)
		}
		if err := os.WriteFile(filepath.Join(dir, "ID", r.ID+".json"), text, 0o644); err != nil {
			return 0, err
		}
		if r.Modified.After(db.Modified) {
			db.Modified = r.Modified
		}
		all = append(all, entry{r.ID, r.Modified, r.Aliases})
		for _, a := range r.Affected {
			of := byPath[a.Package.Name]
			if len(of) == 0 || of[len(of)-1].ID != r.ID { // a report has an entry for each range of versions
				byPath[a.Package.Name] = append(of, entry{ID: r.ID, Modified: r.Modified})
			}
		}
	}
	modules := make([]module, 0, len(byPath))
	for path, vulns := range byPath {
		modules = append(modules, module{path, vulns})
	}
	slices.SortFunc(modules, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	for name, v := range map[string]any{"db": db, "modules": modules, "vulns": all} {
		text, err := json.Marshal(v)
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(dir, "index", name+".json"), text, 0o644); err != nil {
			return 0, err
		}
	}
	return len(paths), nil
}
