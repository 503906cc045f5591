package test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeadmapi "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/addons/dns"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// kustomize is what `kubectl kustomize` prints for a folder of build/kubernetes.
func kustomize(t *testing.T, folder string) string {
	t.Helper()
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../build/kubernetes/"+folder)
	if err != nil {
		t.Fatal(err)
	}
	text, err := objects.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// kubeadm is what `kubeadm init` sets up for DNS, of kubeadm itself. The repository is dns.imageRepository, "" for none.
func kubeadm(t *testing.T, repository string) string {
	t.Helper()
	return kubeadmPatched(t, repository, "")
}

// kubeadmPatched is kubeadm with the folder of --patches. Above the manifests it says which patches it found.
func kubeadmPatched(t *testing.T, repository, patches string) string {
	t.Helper()
	var out bytes.Buffer
	cfg := &kubeadmapi.ClusterConfiguration{
		KubernetesVersion: "v1.37.2",
		ImageRepository:   "registry.k8s.io",
		DNS:               kubeadmapi.DNS{ImageMeta: kubeadmapi.ImageMeta{ImageRepository: repository}},
		Networking:        kubeadmapi.Networking{DNSDomain: "cluster.local", ServiceSubnet: "10.96.0.0/16"},
	}
	if err := dns.EnsureDNSAddon(cfg, nil, patches, &out, true); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(out.String(), "  resourceVersion: \"0\"\n", "") // of Service, for an update only
}

// The API server takes everything that is shipped, strictly: a field that it does not know is an error.
func TestManifests(t *testing.T) {
	a := api(t)
	before := kubeadm(t, "")
	a.Delete(t, before) // what tests before this one left
	a.Create(t, before) // the overlay of that name is for what is there
	a.Apply(t, cluster.ReadFile(t, "../build/kubernetes/second/namespace.yaml"))
	t.Cleanup(func() { a.Delete(t, before) })
	for folder, kinds := range map[string]string{
		"base":      "ServiceAccount ClusterRole ClusterRoleBinding Role RoleBinding ConfigMap Deployment Service PodDisruptionBudget ConfigMap",
		"nodelocal": "ServiceAccount ClusterRole ClusterRoleBinding Role RoleBinding ConfigMap DaemonSet Service ConfigMap",
		"kubeadm":   "Role RoleBinding ConfigMap Deployment ConfigMap",
		"second":    "Namespace ServiceAccount Role RoleBinding ConfigMap Deployment Service PodDisruptionBudget ConfigMap ClusterRole ClusterRoleBinding",
	} {
		got := a.DryRun(t, kustomize(t, folder))
		if strings.Join(got, " ") != kinds {
			t.Errorf("%s: %v, want %s", folder, got, kinds)
		}
	}
}

// A registry of one's own is all that kubeadm has to be told to set up another image. It keeps its tag.
func TestManifestsImageRepository(t *testing.T) {
	stock, ours := "image: registry.k8s.io/coredns/coredns:v", "image: registry.example/coredns:v"
	if got, want := kubeadm(t, "registry.example"), strings.Replace(kubeadm(t, ""), stock, ours, 1); got != want || !strings.Contains(got, ours) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// ours is the image that the overlay for kubeadm names.
const ours = "registry.example/coredns:v1.14.6"

// The folder of the overlay for kubeadm, as --patches of kubeadm, makes the Deployment that the overlay makes, with the memory limit of
// its second file.
func TestManifestsPatches(t *testing.T) {
	deployment := func(text string) (d apps.Deployment) {
		t.Helper()
		if err := yaml.UnmarshalStrict([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := func(text string) string { return strings.Split(text, "---")[1] } // behind it are the ConfigMap and the rest
	const folder = "../build/kubernetes/kubeadm"
	patched := kubeadmPatched(t, "", folder)
	if said := `Found the following patch files: [corednsdeployment-memory.yaml corednsdeployment.yaml]`; !strings.Contains(patched, said) {
		t.Errorf("not %q:\n%s", said, patched)
	}
	got, want := deployment(first(patched)), deployment(first(kubeadm(t, "")))
	container := &want.Spec.Template.Spec.Containers[0]
	container.Image, container.Args = ours, deployment(cluster.ReadFile(t, folder+"/corednsdeployment.yaml")).Spec.Template.Spec.Containers[0].Args
	limit := deployment(cluster.ReadFile(t, folder+"/corednsdeployment-memory.yaml")).Spec.Template.Spec.Containers[0].Resources.Limits.Memory()
	if limit.IsZero() || container.Resources.Limits.Memory().Equal(*limit) || !slices.Contains(container.Args, "-configmap") {
		t.Fatalf("the files change nothing: limit %v, flags %q", limit, container.Args)
	}
	container.Resources.Limits[core.ResourceMemory] = *limit
	if text(t, got) != text(t, want) {
		t.Errorf("Deployment\n%s\nwant\n%s", text(t, got), text(t, want))
	}
}

// text of an object, to be compared.
func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The overlay for kubeadm changes the image, its flags and the stanza, and nothing else of what is there.
func TestManifestsKubeadm(t *testing.T) {
	a, ctx := api(t), context.Background()
	before := kubeadm(t, "")
	overlay := kustomize(t, "kubeadm")
	a.Delete(t, before) // what tests before this one left
	a.Create(t, before)
	t.Cleanup(func() { a.Delete(t, overlay); a.Delete(t, before) })

	state := func() (string, *apps.Deployment, *core.ConfigMap) {
		system, get := "kube-system", meta.GetOptions{}
		d, err := a.Client.AppsV1().Deployments(system).Get(ctx, "coredns", get)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Client.CoreV1().ConfigMaps(system).Get(ctx, "coredns", get)
		if err != nil {
			t.Fatal(err)
		}
		s, err := a.Client.CoreV1().Services(system).Get(ctx, "kube-dns", get)
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Client.RbacV1().ClusterRoles().Get(ctx, "system:coredns", get)
		if err != nil {
			t.Fatal(err)
		}
		return text(t, s.Spec) + text(t, r.Rules), d, c
	}
	rest, deployment, config := state()
	a.Apply(t, overlay)
	restAfter, deploymentAfter, configAfter := state()

	if rest != restAfter {
		t.Errorf("before\n%s\nafter\n%s", rest, restAfter)
	}
	container := &deployment.Spec.Template.Spec.Containers[0]
	if container.Image == ours {
		t.Fatal("the image was there before")
	}
	container.Image = ours
	args := container.Args
	container.Args = append(slices.Clone(args), "-configmap", "kube-system/coredns", "-last-good", "kube-system/coredns-last-good")
	if got, want := text(t, deploymentAfter.Spec), text(t, deployment.Spec); got != want {
		t.Errorf("Deployment\n%s\nwant\n%s", got, want)
	}
	// The one line that kubehosts has more, and the name of the plugin.
	want := strings.Replace(config.Data["Corefile"], "    kubernetes cluster.local in-addr.arpa ip6.arpa {\n",
		"    kubehosts cluster.local in-addr.arpa ip6.arpa {\n       configmap kube-system/coredns\n", 1)
	if got := strings.TrimSpace(configAfter.Data["Corefile"]); got != want {
		t.Errorf("Corefile\n%q\nwant\n%q", got, want)
	}

	a.Apply(t, before)
	restBack, deploymentBack, configBack := state()
	container.Image, container.Args = "registry.k8s.io/coredns/coredns:v1.14.6", args
	if restBack != rest || text(t, deploymentBack.Spec) != text(t, deployment.Spec) || configBack.Data["Corefile"] != config.Data["Corefile"] {
		t.Errorf("the way back:\n%s\n%s\n%s", restBack, text(t, deploymentBack.Spec), configBack.Data["Corefile"])
	}
}
