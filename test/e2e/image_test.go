package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// pack writes a docker-archive of an image FROM scratch with one static binary, stored at the path at, and returns
// the path of the archive. args are the image's default arguments.
func pack(t testing.TB, tag, binary, at string, args ...string) string {
	t.Helper()
	return packFiles(t, []string{tag}, map[string]string{at: binary}, append([]string{at}, args...)...)
}

// packFiles is pack for an image of several executable files, each by its path in the image, with more than one tag.
func packFiles(t testing.TB, tags []string, files map[string]string, program ...string) string {
	t.Helper()
	content := make(map[string][]byte)
	for at, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		content[at[1:]] = b
	}
	layer := archive(t, content)
	sum := sha256.Sum256(layer)
	config := encode(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": program[:1], "Cmd": program[1:]},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	manifest := encode(t, []any{map[string]any{
		"Config": "config.json", "RepoTags": tags, "Layers": []string{"layer.tar"},
	}})
	path := filepath.Join(t.TempDir(), "image.tar")
	image := archive(t, map[string][]byte{"config.json": config, "layer.tar": layer, "manifest.json": manifest})
	if err := os.WriteFile(path, image, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// archive makes a tar of executable files.
func archive(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, data := range files {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
