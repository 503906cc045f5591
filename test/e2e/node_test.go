package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const (
	address = "172.30.0.2"            // of the node
	pods    = "10.244.0.0/24"         // the pods' network
	gateway = "10.244.0.1"            // the node's address in it, on the bridge that the CNI plugin makes
	client  = "kubehosts/e2e-pod:dev" // image of test/e2e/pod
	stock   = "stock/coredns:dev"     // image of stock CoreDNS
)

// network is the addresses of a cluster with one or two address families: its node, its pods, and the outside.
type network struct{ node, pods, outside []string }

var (
	onlyIPv4  = network{[]string{address}, []string{pods}, []string{"0.0.0.0/0"}}
	dualStack = network{[]string{address, "fd00:30::2"}, []string{pods, "fd00:244::/64"}, []string{"0.0.0.0/0", "::/0"}}
)

// node is the cluster: the control plane and its one node.
type node struct {
	*cluster.API
	dir        string // of the run
	bin        string // test/bin
	kubeconfig string
	containerd string // path of its socket
	programs   []*cluster.Process
	names      []string // the names that under resolves
	network    network
	edits      []string // how long edits of kubehosts' Corefile took
}

// up starts the cluster and returns when the node is Ready and the images are loaded. Nothing stops it: the sandbox
// ends with the test.
func up(t *testing.T) *node { return upIn(t, onlyIPv4) }

// upIn is up with other addresses.
func upIn(t *testing.T, in network) *node {
	start := time.Now()
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{dir: os.Getenv(folder), bin: bin, network: in}
	n.link(t)
	n.connect(t)
	n.startContainerd(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	api := filepath.Join(n.dir, "api")
	if err := os.Mkdir(api, 0o755); err != nil {
		t.Fatal(err)
	}
	if n.API, err = cluster.StartAt(ctx, filepath.Join(bin, "kube"), api, address); err != nil {
		t.Fatal(err)
	}
	t.Logf("API server ready after %v", time.Since(start).Round(time.Millisecond))
	n.kubeconfig = cluster.Kubeconfig(t, n.URL, cluster.AdminToken)

	n.run(t, "kube-controller-manager", "--kubeconfig", n.kubeconfig, "--leader-elect=false", "--bind-address", "127.0.0.1",
		"--root-ca-file", n.authority(t), "--service-account-private-key-file", n.AccountKey())
	n.run(t, "kube-scheduler", "--kubeconfig", n.kubeconfig, "--leader-elect=false", "--bind-address", "127.0.0.1")
	n.run(t, "kubelet", "--kubeconfig", n.kubeconfig, "--config", n.write(t, "kubelet.yaml", n.kubeletConfig(t)),
		"--root-dir", filepath.Join(n.dir, "kubelet"), "--cert-dir", filepath.Join(n.dir, "kubelet-certs"),
		"--hostname-override", "node", "--node-ip", strings.Join(in.node, ","))
	n.run(t, "kube-proxy", "--config", n.write(t, "proxy.yaml", n.proxyConfig()), "--hostname-override", "node")

	cluster.Eventually(t, time.Minute, func() (bool, string) {
		for _, p := range n.programs {
			if p.Ended() {
				t.Fatal("a program of the cluster ended, see its log")
			}
		}
		nodes, err := n.Client.CoreV1().Nodes().List(ctx, meta.ListOptions{})
		if err != nil || len(nodes.Items) != 1 {
			return false, fmt.Sprintf("nodes: %v", err)
		}
		for _, c := range nodes.Items[0].Status.Conditions {
			if c.Type == core.NodeReady {
				return c.Status == core.ConditionTrue, c.Message
			}
		}
		return false, "the node has no condition Ready"
	})
	t.Logf("node Ready after %v", time.Since(start).Round(time.Millisecond))
	return n
}

// authority writes the certificate that signed the API server's certificate, which is the last one
// in that file.
func (n *node) authority(t *testing.T) string {
	chain := cluster.ReadFile(t, n.Certificate())
	return n.write(t, "ca.crt", chain[strings.LastIndex(chain, "-----BEGIN"):])
}

// connect creates the node's interface. Some kernels have no dummy device, so it uses a bridge with an address.
func (n *node) connect(t *testing.T) {
	lines := []string{
		"ip link set lo up",
		"ip link add eth0 type bridge",
		"ip address add " + address + "/24 dev eth0",
		"ip link set eth0 up",
		"ip route add default via 172.30.0.1 dev eth0 onlink",
		"ip netns attach node " + fmt.Sprint(os.Getpid()),
	}
	forwarding := []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"}
	for _, six := range n.network.node[1:] {
		lines = append(lines, "ip address add "+six+"/64 dev eth0 nodad", "ip -6 route add default via fd00:30::1 dev eth0 onlink")
		forwarding = append(forwarding, "net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-ip6tables")
	}
	for _, line := range lines {
		command(t, strings.Fields(line)...)
	}
	for _, path := range forwarding {
		if err := os.WriteFile("/proc/sys/"+path, []byte("1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// startContainerd starts containerd with all of its state in the folder of the run, and loads the image that keeps
// pods' namespaces open.
func (n *node) startContainerd(t *testing.T) {
	n.containerd = filepath.Join(n.dir, "containerd.sock")
	var ranges, routes []string
	for i, subnet := range n.network.pods {
		ranges = append(ranges, `[{"subnet": "`+subnet+`"}]`)
		routes = append(routes, `{"dst": "`+n.network.outside[i]+`"}`)
	}
	n.write(t, "cni/pods.conflist", `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "`+n.dir+`/ipam", "ranges": [`+strings.Join(ranges, ",")+`], "routes": [`+strings.Join(routes, ",")+`]}
}]}`)
	config := n.write(t, "containerd.toml", strings.NewReplacer("DIR", n.dir, "BIN", n.bin).Replace(`
version = 2
root = "DIR/containerd"
state = "DIR/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "DIR/containerd.sock"
[debug]
  level = "warn"
[plugins."io.containerd.internal.v1.opt"]
  path = "DIR/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/kubehosts/e2e-pod:dev"
  disable_apparmor = true
  restrict_oom_score_adj = true # without CAP_SYS_RESOURCE root may not go below its own
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "BIN/cni"
    conf_dir = "DIR/cni"
`))
	n.spawn(t, "containerd", "containerd", "--config", config)
	cluster.Eventually(t, 20*time.Second, func() (bool, string) {
		out, err := exec.Command("ctr", "--address", n.containerd, "version").CombinedOutput()
		return err == nil, string(out)
	})
	n.load(t, pack(t, client, filepath.Join(n.bin, "pod"), "/pod", "wait"))
}

// load loads a docker-archive into the kubelet's image store.
func (n *node) load(t *testing.T, path string) {
	t.Helper()
	command(t, "ctr", "--address", n.containerd, "--namespace", "k8s.io", "images", "import", path)
}

// kubeletConfig is a common kubelet configuration, with two exceptions: the cgroups are below that of the run and may
// be of version 1, and the fill level of the machine's disk is ignored.
func (n *node) kubeletConfig(t *testing.T) string {
	return `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: ` + n.write(t, "resolv.conf", "nameserver "+address+"\n") + `
containerRuntimeEndpoint: unix://` + n.containerd + `
address: ` + address + `
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /` + filepath.Base(n.dir) + `
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: "0%", imagefs.available: "0%"}
volumePluginDir: ` + n.dir + `/volume-plugins
`
}

func (n *node) proxyConfig() string {
	return `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: ` + strings.Join(n.network.pods, ",") + `
clientConnection: {kubeconfig: ` + n.kubeconfig + `}
conntrack: {maxPerCore: 0, min: 0}
`
}

// link links test/bin/node under the name of each program in it.
func (n *node) link(t *testing.T) {
	if err := os.Mkdir(n.program(""), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "kubeadm"} {
		if err := os.Symlink(filepath.Join(n.bin, "node"), n.program(name)); err != nil {
			t.Fatal(err)
		}
	}
}

// program is the path of one of these programs, or of their folder for "".
func (n *node) program(name string) string { return filepath.Join(n.dir, "bin", name) }

// run starts one of these programs.
func (n *node) run(t *testing.T, program string, args ...string) {
	t.Helper()
	n.spawn(t, program, n.program(program), args...)
}

// spawn starts a program whose output goes to NAME.log.
func (n *node) spawn(t *testing.T, name, path string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cluster.Spawn(n.dir, filepath.Join(n.dir, name+".log"), path, args...)
	if err != nil {
		t.Fatal(err)
	}
	n.programs = append(n.programs, p)
}

// write writes a file in the folder of the run and returns its path.
func (n *node) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(n.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	cluster.WriteFile(t, path, text)
	return path
}

// command runs a program to its end and returns its output.
func command(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// printLogs prints the ends of the programs' logs if the tests failed.
func printLogs(code int) {
	if code == 0 {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(os.Getenv(folder), "*.log"))
	for _, path := range logs {
		fmt.Println(cluster.Tail(path))
	}
}
