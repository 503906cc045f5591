// Package e2e runs the image and the manifests on a whole Kubernetes cluster of one node: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kubelet, kube-proxy, containerd, runc and a CNI bridge. All of it lives in
// namespaces of its own (network, mounts, processes), so that the kernel takes it down when the tests end, however they
// end. `make e2e` builds what it needs and runs it, as root. Each test has a cluster of its own, one after the other: they are
// stories that change what the whole cluster stands on, and two at a time would be late on two cores.
package e2e
