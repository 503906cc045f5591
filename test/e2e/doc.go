// Package e2e runs the image and the manifests on a whole Kubernetes cluster of one node: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kubelet, kube-proxy, containerd, runc and a CNI bridge. All of it lives in
// namespaces of its own (network, mounts, processes), so that the kernel removes it when the tests end, for whatever
// reason. `make e2e` builds what it needs and runs it as root. Each test has its own cluster, one after the other: the
// tests change the whole cluster, and two at a time would be too slow on two cores.
package e2e
