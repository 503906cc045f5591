package answer

// SearchList returns the domains that the kubelet writes into the search list of a pod in the namespace, before those of the
// node; zone is the domain of the cluster.
func SearchList(namespace, zone string) []string {
	return []string{namespace + Under(".svc.", zone), Under("svc.", zone), zone}
}
