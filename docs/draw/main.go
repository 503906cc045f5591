// Command draw draws the pictures of the documentation, docs/*.svg: the path of a query and of an edit, and the memory
// after a restart of the API server, from docs/memory.csv, which `make faults DRAW=1` measures. It runs in the root of
// the repository.
package main

import (
	"log"
	"os"
	"path/filepath"
)

func main() {
	all, err := pictures("docs")
	if err != nil {
		log.Fatal(err)
	}
	for name, svg := range all {
		if err := os.WriteFile(filepath.Join("docs", name), []byte(svg), 0o644); err != nil { // #nosec G306 -- documentation
			log.Fatal(err)
		}
	}
}

// pictures returns all pictures by their file names. dir is the folder of memory.csv.
func pictures(dir string) (map[string]string, error) {
	csv, err := os.ReadFile(filepath.Join(dir, "memory.csv")) // #nosec G304 -- of this repository
	if err != nil {
		return nil, err
	}
	memory, err := readRun(string(csv))
	if err != nil {
		return nil, err
	}
	return map[string]string{"query.svg": query.draw(), "edit.svg": edit.draw(), "memory.svg": memory.draw()}, nil
}
