// Package cluster is the environment of kubehosts in tests: a real etcd and kube-apiserver, the real coredns
// binary, clients that reuse their sockets, and a proxy that records the requests to the API server.
package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// API is an etcd and a kube-apiserver that listen on free ports and store everything in one folder. It runs no
// controller, scheduler or kubelet: Services get their addresses, while a test writes the EndpointSlices and Pods.
type API struct {
	URL    string                // https://ADDRESS:PORT
	Config *rest.Config          // an administrator's, with JSON
	Client *kubernetes.Clientset // made from Config, without a rate limit

	dir       string
	bin       string // the binary built from test/kube
	etcdURL   string
	peerURL   string
	etcdFlags []string
	flags     []string
	etcd      *Process
	server    *Process
}

// The API server's audit log has every request of a ServiceAccount, when it is answered or, for a watch, when it
// begins. Requests of others (the API server's own, the tests') are left out.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: [system:serviceaccounts]
- level: None
`

// AdminToken is the bearer token of a user who may do everything.
const AdminToken = "admin"

// Start runs etcd and kube-apiserver out of kube, the binary built from test/kube, with all their files in dir. It
// returns when the API server is ready, after 4 to 7 seconds on 2 cores, or an error with the end of the logs. The
// caller stops it with Stop. If the caller dies, both processes are killed.
func Start(ctx context.Context, kube, dir string) (*API, error) {
	return start(ctx, kube, dir, "127.0.0.1",
		"--endpoint-reconciler-type", "none", // a loopback address is not a valid endpoint of Service kubernetes
		"--disable-admission-plugins", "ServiceAccount") // no controller makes the account that a Pod would need
}

// StartAt is Start for a cluster that has nodes and controllers: the API server listens on an address that pods can
// reach, Service kubernetes points to it, and a Pod gets a ServiceAccount.
func StartAt(ctx context.Context, kube, dir, address string) (*API, error) {
	return start(ctx, kube, dir, address, "--advertise-address", address, "--kubelet-preferred-address-types", "InternalIP")
}

func start(ctx context.Context, kube, dir, address string, flags ...string) (*API, error) {
	a := &API{dir: dir, bin: kube}
	if err := a.files(); err != nil {
		return nil, err
	}
	client, peer, port := FreePort(), FreePort(), FreePort()
	a.etcdURL = fmt.Sprintf("http://127.0.0.1:%d", client)
	a.peerURL = fmt.Sprintf("http://127.0.0.1:%d", peer)
	a.etcdFlags = []string{
		"--data-dir", a.path("data"), "--log-level", "warn",
		"--unsafe-no-fsync", // the data is not needed after the test
		"--listen-client-urls", a.etcdURL, "--advertise-client-urls", a.etcdURL,
		"--listen-peer-urls", a.peerURL, "--initial-advertise-peer-urls", a.peerURL, "--initial-cluster", "default=" + a.peerURL,
		"--heartbeat-interval", "20", "--election-timeout", "200", // Start waits for the first election
	}
	if err := a.startEtcd(); err != nil {
		return nil, err
	}
	a.flags = append([]string{
		"--etcd-servers", a.etcdURL,
		"--bind-address", address, "--secure-port", fmt.Sprint(port), "--cert-dir", a.path("certs"),
		"--service-cluster-ip-range", "10.96.0.0/16,fd00:96::/108",
		"--authorization-mode", "RBAC", "--token-auth-file", a.path("tokens.csv"),
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", a.path("sa.pub"), "--service-account-signing-key-file", a.path("sa.key"),
		"--audit-policy-file", a.path("audit.yaml"), "--audit-log-path", a.path("audit.log"),
		"--enable-priority-and-fairness=false", "--profiling=false",
	}, flags...)
	if gates := Features(); gates != "" {
		a.flags = append(a.flags, "--feature-gates", gates)
	}
	a.URL = fmt.Sprintf("https://%s:%d", address, port)
	a.Config = &rest.Config{
		Host: a.URL, BearerToken: AdminToken, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}
	var err error
	if a.Client, err = kubernetes.NewForConfig(a.Config); err == nil {
		err = a.StartServer(ctx)
	}
	if err != nil {
		a.Stop()
	}
	return a, err
}

// Features are the feature gates that the API server is started with: KUBE_FEATURES of the environment, such as
// WatchList=false. They are "" for the release's own.
func Features() string { return os.Getenv("KUBE_FEATURES") }

// Has reports whether the API server has a feature gate enabled, by its metrics.
func (a *API) Has(t testing.TB, feature string) bool {
	t.Helper()
	text, err := a.Client.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "kubernetes_feature_enabled{name="+strconv.Quote(feature)+",") {
			return strings.HasSuffix(line, " 1\n")
		}
	}
	t.Fatalf("the API server has no metric of the feature gate %s", feature)
	return false
}

// Certificate is the path of the API server's certificate, followed by the certificate of its generated
// authority.
func (a *API) Certificate() string { return a.path("certs/apiserver.crt") }

// AccountKey is the path of the private key that tokens of ServiceAccounts are signed with.
func (a *API) AccountKey() string { return a.path("sa.key") }

// path returns the path of a file in the folder of a.
func (a *API) path(name string) string { return filepath.Join(a.dir, name) }

// files writes the files that the flags of the two programs name.
func (a *API) files() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		"sa.pub":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"tokens.csv": []byte(AdminToken + ",admin,admin,system:masters\n"),
		"audit.yaml": []byte(auditPolicy),
	} {
		if err := os.WriteFile(a.path(name), data, 0o600); err != nil {
			return err
		}
	}
	apiserver, err := server(a.bin)
	if err != nil {
		return err
	}
	for name, bin := range map[string]string{"etcd": a.bin, "etcd-restore": a.bin, "kube-apiserver": apiserver} {
		if err := os.Symlink(bin, a.path(name)); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) startEtcd() (err error) {
	a.etcd, err = Spawn(a.dir, a.path("etcd.log"), a.path("etcd"), a.etcdFlags...)
	return err
}

// StartServer starts the API server and returns when it is ready. After StopServer it uses the same port and data.
func (a *API) StartServer(ctx context.Context) error {
	if err := a.Launch(); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := a.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-a.server.done:
			return fmt.Errorf("kube-apiserver ended: %v\n%s\n%s", a.server.err, Tail(a.path("apiserver.log")), Tail(a.path("etcd.log")))
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver is not ready: %v\n%s\n%s", err, Tail(a.path("apiserver.log")), Tail(a.path("etcd.log")))
		}
	}
}

// Launch starts the API server and does not wait.
func (a *API) Launch() (err error) {
	a.server, err = Spawn(a.dir, a.path("apiserver.log"), a.path("kube-apiserver"), a.flags...)
	return err
}

// ready returns why the API server can't be used yet.
func (a *API) ready(ctx context.Context) error {
	body, err := a.Client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("%v: %s", err, strings.TrimSpace(string(body)))
	}
	return nil
}

// StopServer ends the API server at once, like a crash. etcd and the data stay.
func (a *API) StopServer() { a.server.stop(syscall.SIGKILL, time.Second) }

// Freeze suspends the API server: the kernel still accepts connections, but nothing answers. Thaw resumes it.
func (a *API) Freeze() { a.server.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw resumes the API server after Freeze.
func (a *API) Thaw() { a.server.cmd.Process.Signal(syscall.SIGCONT) }

// Compact makes etcd drop all but the current state, so that no watch can resume from an older one.
func (a *API) Compact() error {
	var now struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	if err := a.etcdCall("/v3/kv/range", `{"key":"AA=="}`, &now); err != nil {
		return err
	}
	return a.etcdCall("/v3/kv/compaction", `{"physical":true,"revision":`+strconv.Quote(now.Header.Revision)+`}`, &now)
}

// Write raises etcd's revision by n, with writes that bypass the API server.
func (a *API) Write(n int) error {
	for range n {
		var done struct{}
		if err := a.etcdCall("/v3/kv/put", `{"key":"AA==","value":"AA=="}`, &done); err != nil {
			return err
		}
	}
	return nil
}

// Backup writes a snapshot of etcd into a file, as `etcdctl snapshot save` does.
func (a *API) Backup(file string) error {
	res, err := http.Post(a.etcdURL+"/v3/maintenance/snapshot", "application/json", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	for parts := json.NewDecoder(res.Body); ; {
		var part struct {
			Result struct {
				Blob []byte `json:"blob"`
			} `json:"result"`
			Error json.RawMessage `json:"error"`
		}
		if err := parts.Decode(&part); err == io.EOF {
			return out.Close()
		} else if err != nil {
			return err
		}
		if part.Error != nil {
			return fmt.Errorf("etcd snapshot: %s", part.Error)
		}
		if _, err := out.Write(part.Result.Blob); err != nil {
			return err
		}
	}
}

// Restore resets etcd to a snapshot of Backup, as `etcdutl snapshot restore` does. If bump is not 0, it raises the
// revision by bump and marks earlier revisions as compacted, as etcd's manual advises. Stop the API server first and
// start it afterwards.
func (a *API) Restore(file string, bump uint64) error {
	a.etcd.stop(syscall.SIGKILL, time.Second)
	if err := os.RemoveAll(a.path("data")); err != nil {
		return err
	}
	cmd := exec.Command(a.path("etcd-restore"), "-data-dir", a.path("data"), "-peer-url", a.peerURL, "-bump-revision", fmt.Sprint(bump), file)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("etcd-restore: %w\n%s", err, said)
	}
	if err := a.startEtcd(); err != nil {
		return err
	}
	for end := time.Now().Add(20 * time.Second); ; {
		var now struct{}
		err := a.etcdCall("/v3/kv/range", `{"key":"AA=="}`, &now)
		if err == nil || time.Now().After(end) {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
}

// etcdCall calls etcd through its JSON gateway.
func (a *API) etcdCall(path, body string, out any) error {
	res, err := http.Post(a.etcdURL+path, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd %s: %s: %s", path, res.Status, text)
	}
	return json.Unmarshal(text, out)
}

// Stop ends both processes.
func (a *API) Stop() {
	for _, p := range []*Process{a.server, a.etcd} {
		if p != nil && p.cmd.Process != nil {
			p.stop(syscall.SIGKILL, time.Second)
		}
	}
}

// Log returns the end of the API server's log.
func (a *API) Log() string { return Tail(a.path("apiserver.log")) }
