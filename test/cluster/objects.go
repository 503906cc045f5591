package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// object is the part of an object that its API path needs.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

// path is the API path of the object. The plural of every kind in the tests is the kind plus s, or es
// after an s.
func (o object) path() string {
	p := "/api/"
	if strings.Contains(o.APIVersion, "/") {
		p = "/apis/"
	}
	p += o.APIVersion
	if o.Metadata.Namespace != "" {
		p += "/namespaces/" + o.Metadata.Namespace
	}
	plural := strings.ToLower(o.Kind) + "s"
	if strings.HasSuffix(o.Kind, "s") {
		plural = strings.ToLower(o.Kind) + "es"
	}
	return p + "/" + plural + "/" + o.Metadata.Name
}

// documents splits YAML at its --- lines and calls do with each object and its JSON.
func documents(t testing.TB, text string, do func(object, []byte)) {
	t.Helper()
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		var o object
		data, err := yaml.YAMLToJSON([]byte(doc))
		if err == nil {
			err = json.Unmarshal(data, &o)
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if o.Kind != "" {
			do(o, data)
		}
	}
}

// Apply writes the objects of a YAML text, one or many with --- between, as `kubectl apply --server-side` would.
func (a *API) Apply(t testing.TB, text string) {
	t.Helper()
	documents(t, text, func(o object, data []byte) {
		a.patch(t, o.path(), data)
	})
}

// DryRun has the API server check the objects of a YAML text as Apply would write them, with unknown fields as errors,
// and returns their kinds. Nothing is stored.
func (a *API) DryRun(t testing.TB, text string) (kinds []string) {
	t.Helper()
	documents(t, text, func(o object, data []byte) {
		a.patch(t, o.path()+"?dryRun=All&fieldValidation=Strict", data)
		kinds = append(kinds, o.Kind)
	})
	return kinds
}

// ApplyStatus writes the status of an object, as a kubelet does for a Pod.
func (a *API) ApplyStatus(t testing.TB, text string) {
	t.Helper()
	documents(t, text, func(o object, data []byte) {
		a.patch(t, o.path()+"/status", data)
	})
}

func (a *API) patch(t testing.TB, path string, data []byte) {
	t.Helper()
	force := true
	err := a.Client.RESTClient().Patch(types.ApplyYAMLPatchType).RequestURI(path).Body(data).
		VersionedParams(&meta.PatchOptions{FieldManager: "test", Force: &force}, meta.ParameterCodec).Do(context.Background()).Error()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Create creates the objects of a YAML text, like a program without server-side apply. None of them may exist.
func (a *API) Create(t testing.TB, text string) {
	t.Helper()
	documents(t, text, func(o object, data []byte) {
		path := strings.TrimSuffix(o.path(), "/"+o.Metadata.Name)
		err := a.Client.RESTClient().Post().AbsPath(path).SetHeader("Content-Type", "application/json").Body(data).Do(context.Background()).Error()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	})
}

// Delete deletes the objects of a YAML text at once and ignores those that do not exist. It reads only apiVersion, kind
// and metadata.
func (a *API) Delete(t testing.TB, text string) {
	t.Helper()
	documents(t, text, func(o object, _ []byte) {
		body := []byte(`{"gracePeriodSeconds":0}`)
		res := a.Client.RESTClient().Delete().AbsPath(o.path()).Body(body).SetHeader("Content-Type", "application/json").Do(context.Background())
		var code int
		if res.StatusCode(&code); code != 404 && res.Error() != nil {
			t.Fatalf("%s: %v", o.path(), res.Error())
		}
	})
}

// Definition returns the CustomResourceDefinition of a kind whose objects may have any fields. Its plural is the one of
// object.path.
func Definition(group, version, kind string) string {
	return strings.NewReplacer("GROUP", group, "VERSION", version, "KIND", kind, "NAME", strings.ToLower(kind)).Replace(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: NAMEs.GROUP, annotations: {api-approved.kubernetes.io: "unapproved, of a test"}}
spec:
  group: GROUP
  scope: Namespaced
  names: {kind: KIND, plural: NAMEs, singular: NAME, listKind: KINDList}
  versions: [{name: VERSION, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`)
}

// ApplyGatewayAPI applies the CustomResourceDefinitions of the Gateway API, from the version of its module in go.mod,
// and waits until they are served.
func (a *API) ApplyGatewayAPI(t testing.TB) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"gateways", "listenersets", "httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes"}
	for _, resource := range all {
		a.Apply(t, ReadFile(t, filepath.Join(strings.TrimSpace(string(dir)), "config/crd/standard/gateway.networking.k8s.io_"+resource+".yaml")))
	}
	for _, resource := range all {
		a.WaitServed(t, "gateway.networking.k8s.io/v1/"+resource, true)
	}
}

// WaitServed waits until the API server serves a resource, GROUP/VERSION/PLURAL, or no longer serves
// it.
func (a *API) WaitServed(t testing.TB, resource string, want bool) {
	t.Helper()
	Eventually(t, time.Minute, func() (bool, string) {
		err := a.Client.RESTClient().Get().AbsPath("/apis/" + resource).Do(context.Background()).Error()
		return (err == nil) == want, fmt.Sprintf("%s is served: %v, want %v", resource, err == nil, want)
	})
}

// credential is the key of the token's own id in a user's extra fields.
const credential = "authentication.kubernetes.io/credential-id"

// Account is a ServiceAccount's token.
type Account struct {
	Token string
	// ID identifies the requests made with this token in the audit log, as opposed to other tokens of the same
	// ServiceAccount.
	ID string
}

// Account requests a token of a ServiceAccount from the API server, valid for an hour.
func (a *API) Account(t testing.TB, namespace, name string) Account {
	t.Helper()
	req, err := a.Client.CoreV1().ServiceAccounts(namespace).CreateToken(context.Background(), name, &authentication.TokenRequest{}, meta.CreateOptions{})
	if err != nil {
		t.Fatalf("token of ServiceAccount %s/%s: %v", namespace, name, err)
	}
	review, err := a.Client.AuthenticationV1().TokenReviews().Create(context.Background(),
		&authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: req.Status.Token}}, meta.CreateOptions{})
	if err != nil || len(review.Status.User.Extra[credential]) != 1 {
		t.Fatalf("review of the token of ServiceAccount %s/%s: %v %v", namespace, name, err, review.Status)
	}
	return Account{Token: req.Status.Token, ID: review.Status.User.Extra[credential][0]}
}

// Kubeconfig writes a kubeconfig for the API server at url with a token, and returns its path. The API server's
// certificate is self-signed, so it is not checked.
func Kubeconfig(t testing.TB, url, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: url, InsecureSkipTLSVerify: true}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"test": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ReadFile returns the content of a file, or fails the test.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// WriteFile replaces a file as careful editors do: it writes a new file and renames it over the old one.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	err := os.WriteFile(path+".new", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}
