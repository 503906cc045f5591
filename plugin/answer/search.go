package answer

// SearchList returns the domains that the kubelet writes into the search list of a pod in the namespace, ahead of the
// node's. zone is the cluster's domain.
func SearchList(namespace, zone string) []string {
	return []string{namespace + Under(".svc.", zone), Under("svc.", zone), zone}
}
