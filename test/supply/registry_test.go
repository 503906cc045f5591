package supply

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// tool returns the path of a program of test/registry.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(root + "test/bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// registry runs an empty registry on loopback until the test ends, and returns its address.
func registry(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	address := "localhost:" + strconv.Itoa(cluster.FreePort())
	server, err := cluster.Spawn(dir, log, tool(t, "crane"), "registry", "serve", "--address", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	cluster.Eventually(t, time.Minute, func() (bool, string) {
		resp, err := http.Get("http://" + address + "/v2/")
		if err != nil {
			return false, err.Error() + cluster.Tail(log)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, resp.Status
	})
	return address
}

// push copies an image of `make image` to a registry, as it is, and returns its name there, by the digest.
func push(t *testing.T, address, binary, tag string) string {
	t.Helper()
	run(t, ".", tool(t, "oras"), "cp", "--from-oci-layout", out+images[binary]+":"+tag, address+"/coredns:"+tag)
	digest := run(t, ".", tool(t, "crane"), "digest", address+"/coredns:"+tag)
	if want := open(t, out+images[binary]).digest(t); digest != want {
		t.Fatalf("digest %s in the registry, want %s", digest, want)
	}
	return address + "/coredns@" + digest
}

// A registry gets the SBOM and the statement with the image, and lists them as referrers of the manifest.
func TestReferrers(t *testing.T) {
	address := registry(t)
	push(t, address, "coredns", "dev")
	found := run(t, ".", tool(t, "oras"), "discover", "--platform", "linux/"+runtime.GOARCH, "--format", "json", address+"/coredns:dev")
	var list struct {
		Referrers []struct {
			Reference, ArtifactType string
		}
	}
	if err := json.Unmarshal([]byte(found), &list); err != nil {
		t.Fatalf("%v\n%s", err, found)
	}
	files := map[string]string{
		"application/vnd.cyclonedx+json": ".cdx.json",
		"application/vnd.in-toto+json":   ".intoto.json",
	}
	for _, r := range list.Referrers {
		suffix := files[r.ArtifactType]
		delete(files, r.ArtifactType)
		dir := t.TempDir()
		run(t, dir, tool(t, "oras"), "pull", r.Reference)
		name := "coredns-linux-" + runtime.GOARCH + suffix
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if want := (part{name: "coredns", arch: runtime.GOARCH}).beside(t, suffix); !bytes.Equal(got, want) {
			t.Errorf("%s is not the file of make image", name)
		}
	}
	if len(files) > 0 {
		t.Errorf("not listed: %v\n%s", files, found)
	}
}
