package docker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// members returns the files of a tar; links and folders have no bytes.
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

// secret matches a private key with some of its data, as programs that read keys contain only its header; or a token of
// a ServiceAccount.
var secret = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|eyJhbGciOi[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.`)

// The images contain only the program and the certificates: no shell, no library, and no secret.
func TestImageHolds(t *testing.T) {
	for _, file := range []string{"kubehosts.tar", "kubehosts-slim.tar"} {
		f, err := os.Open(out + file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		image := members(t, f)
		var docker []struct {
			Config string
			Layers []string
		}
		if err := json.Unmarshal(image["manifest.json"], &docker); err != nil || len(docker) == 0 {
			t.Fatalf("%s: %v, %d images", file, err, len(docker))
		}
		for _, one := range docker {
			var config struct {
				Config struct {
					Env        []string
					Entrypoint []string
					User       string
				} `json:"config"`
			}
			if err := json.Unmarshal(image[one.Config], &config); err != nil {
				t.Fatal(err)
			}
			c := config.Config
			if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/coredns"}) || len(c.Env) != 1 || !strings.HasPrefix(c.Env[0], "PATH=") {
				t.Errorf("%s: %+v", file, c)
			}
			if len(one.Layers) != 1 {
				t.Errorf("%s: %d layers, want 1", file, len(one.Layers))
			}
			for _, layer := range one.Layers {
				checkLayer(t, file, image[layer])
			}
		}
		for name, b := range image {
			if found := secret.Find(b); found != nil {
				t.Errorf("%s: a secret in %s: %.40q", file, name, found)
			}
		}
	}
	if !secret.MatchString("-----BEGIN RSA PRIVATE KEY-----\n"+strings.Repeat("A", 64)) || !secret.MatchString("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ9.") {
		t.Error("secrets are not found")
	}
}

func checkLayer(t *testing.T, file string, layer []byte) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	files := members(t, z)
	var names []string
	for name, b := range files {
		names = append(names, name)
		if found := secret.Find(b); found != nil {
			t.Errorf("%s: a secret in %s: %.40q", file, name, found)
		}
	}
	slices.Sort(names)
	want := []string{"coredns", "etc/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt"}
	if !slices.Equal(names, want) {
		t.Errorf("%s holds %q, want %q", file, names, want)
	}
}
