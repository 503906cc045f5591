// Package main packs container images without a container engine: a static coredns binary and the certificates of
// public authorities, from scratch, and nothing else. build/Dockerfile makes the same image from the same root file
// system. An SBOM and a provenance statement are attached to each image.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("image: ")
	name := flag.String("name", "", "`NAME:TAG` of the image")
	out := flag.String("o", "", "`FILE` to write the image to")
	root := flag.String("root", "", "`FOLDER` to write the root file systems to, which build/Dockerfile adds")
	version := flag.String("version", "", "of the source, for a label")
	revision := flag.String("revision", "", "git commit from which the binaries were built")
	created := flag.String("created", "1970-01-01T00:00:00Z", "`TIME` of that commit, of the image and all its files")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "image -name NAME:TAG -o FILE -root FOLDER [FLAGS] BINARY...   (one for each architecture, the machine's own first)")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *name == "" || *out == "" || *root == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *revision == "" {
		log.Fatal("-revision: no commit: an image is made from a git checkout, as its provenance names the commit")
	}
	at, err := time.Parse(time.RFC3339, *created)
	if err != nil {
		log.Fatalf("-created: %v", err)
	}
	if err := run(*name, *out, *root, source{*version, *revision, at.UTC()}, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

// run writes the image, and for each binary a tar of the root file system and the statement: linux-amd64/coredns makes
// linux-amd64-coredns.tar in the folder root, and linux-amd64/coredns.intoto.json.
func run(name, out, root string, from source, binaries []string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	var platforms []platform
	var arches []string
	for _, path := range binaries {
		p, err := pack(path, from)
		if err != nil {
			return err
		}
		file := fmt.Sprintf("linux-%s-%s.tar", p.arch, filepath.Base(path))
		if err := os.WriteFile(filepath.Join(root, file), p.root, 0o644); err != nil {
			return err
		}
		platforms, arches = append(platforms, p), append(arches, p.arch)
	}
	digest, statements, err := write(out, name, from, platforms)
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	for i, path := range binaries {
		if err := os.WriteFile(path+".intoto.json", statements[i], 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("%s: %s for linux on %s, %s\n", out, name, strings.Join(arches, " and "), digest)
	return nil
}
