package answer

// SearchList returns the domains that the kubelet writes into the search list of a pod in the namespace, ahead of those of the
// node, where zone is the domain of the cluster.
func SearchList(namespace, zone string) []string {
	return []string{namespace + Under(".svc.", zone), Under("svc.", zone), zone}
}
