package supply

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// signer runs cosign in a folder of its own, without any service of Sigstore.
type signer struct{ dir string }

// newSigner returns a signer with the key pairs ours and theirs.
func newSigner(t *testing.T) signer {
	t.Helper()
	s := signer{t.TempDir()}
	t.Setenv("COSIGN_PASSWORD", "")
	t.Setenv("HOME", s.dir) // no settings, and no login of a registry
	for _, name := range []string{"ours", "theirs"} {
		s.run(t, "generate-key-pair", "--output-key-prefix", name)
	}
	s.run(t, "signing-config", "create", "--out", "signing.json")
	s.run(t, "trusted-root", "create", "--out", "root.json")
	return s
}

func (s signer) try(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.Command(tool(t, "cosign"), args...)
	cmd.Dir = s.dir
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	return string(out), errors.String(), err
}

// run returns the standard output.
func (s signer) run(t *testing.T, args ...string) string {
	t.Helper()
	out, errors, err := s.try(t, args...)
	if err != nil {
		t.Fatalf("cosign %q: %v\n%s", args, err, errors)
	}
	return out
}

// refused asserts that cosign ends with an error that contains the words.
func (s signer) refused(t *testing.T, words string, args ...string) {
	t.Helper()
	if out, errors, err := s.try(t, args...); err == nil || !strings.Contains(errors, words) {
		t.Errorf("cosign %q: %v, want %q\n%s%s", args, err, words, out, errors)
	}
}

// key returns the flags to sign without a transparency log.
func (s signer) key(args ...string) []string {
	return append([]string{args[0], "--key", "ours.key", "--signing-config", "signing.json", "--trusted-root", "root.json"}, args[1:]...)
}

// predicate returns the predicate of the only attestation of a type, out of what `cosign verify-attestation` prints.
func predicate(t *testing.T, out string) any {
	t.Helper()
	var envelope struct{ Payload string }
	if err := json.Unmarshal([]byte(out), &envelope); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	statement, err := base64.StdEncoding.DecodeString(envelope.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, statement)["predicate"]
}

func decoded(t *testing.T, text []byte) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v
}

// A signature of the index covers the image and its documents. It is valid for our key and that image: not for another
// key, nor for a changed image, even if that is published with our signature.
func TestSigned(t *testing.T) {
	s, address := newSigner(t), registry(t)
	image := push(t, address, "coredns", "dev")
	verify := []string{"verify", "--key", "ours.pub", "--insecure-ignore-tlog"}
	s.refused(t, "no signatures found", append(verify, image)...)
	s.run(t, s.key("sign", "--bundle", "bundle.json", image)...)
	if out, digest := s.run(t, append(verify, image)...), image[strings.Index(image, "sha256:"):]; !strings.Contains(out, digest) {
		t.Errorf("it does not name %s:\n%s", digest, out)
	}
	s.refused(t, "failed to verify signature", "verify", "--key", "theirs.pub", "--insecure-ignore-tlog", image)

	platform := "linux/" + runtime.GOARCH
	run(t, ".", tool(t, "crane"), "mutate", "--platform", platform, "--label", "changed=yes", "--tag", address+"/coredns:changed", image)
	changed := address + "/coredns@" + run(t, ".", tool(t, "crane"), "digest", address+"/coredns:changed")
	s.refused(t, "no signatures found", append(verify, changed)...)
	run(t, s.dir, tool(t, "oras"), "attach", "--artifact-type", "application/vnd.dev.sigstore.bundle.v0.3+json", changed, "bundle.json:application/vnd.dev.sigstore.bundle.v0.3+json")
	s.refused(t, "digest", append(verify, changed)...)
}

// The documents as attestations of the manifest of one platform: policies in a cluster read them there.
func TestAttested(t *testing.T) {
	s, address := newSigner(t), registry(t)
	push(t, address, "coredns", "dev")
	p := part{name: "coredns", arch: runtime.GOARCH}
	manifest := address + "/coredns@" + run(t, ".", tool(t, "crane"), "digest", "--platform", "linux/"+p.arch, address+"/coredns:dev")
	slsa, err := json.Marshal(decoded(t, p.beside(t, ".intoto.json"))["predicate"])
	if err != nil {
		t.Fatal(err)
	}
	for kind, text := range map[string][]byte{"slsaprovenance1": slsa, "cyclonedx": p.beside(t, ".cdx.json")} {
		if err := os.WriteFile(filepath.Join(s.dir, kind), text, 0o600); err != nil {
			t.Fatal(err)
		}
		verify := []string{"verify-attestation", "--key", "ours.pub", "--insecure-ignore-tlog", "--type", kind}
		s.refused(t, "attestations", append(verify, manifest)...)
		s.run(t, s.key("attest", "--type", kind, "--predicate", kind, manifest)...)
		if got := predicate(t, s.run(t, append(verify, manifest)...)); !reflect.DeepEqual(got, any(decoded(t, text))) {
			t.Errorf("%s: the predicate is %v, want %s", kind, got, text)
		}
		s.refused(t, "failed to verify signature", "verify-attestation", "--key", "theirs.pub", "--insecure-ignore-tlog", "--type", kind, manifest)
	}
}
