package external

// The limits of one object. An Index ignores the parts beyond a limit, and uses the rest of the object. The API server
// refuses most objects that reach a limit: etcd stores at most 1.5 MiB, a Gateway may have 64 listeners and 16
// addresses, an HTTPRoute 16 hostnames and 32 parents, a TLSRoute 1,024 hostnames.
const (
	maxAddresses = 64      // IPv4 addresses, and IPv6 addresses, and hostnames, of a load balancer, a Gateway or a Service
	maxNames     = 50_000  // hostnames, of one object other than a route
	maxHostnames = 2_000   // of a route
	maxRecords   = 100     // of one type, of one name of a DNSEndpoint
	maxText      = 4000    // bytes of one TXT record
	maxParents   = 64      // of a route
	maxListeners = 64      // of a Gateway or a ListenerSet
	maxPorts     = 1000    // of a Service
	maxPacked    = 8 << 20 // bytes of an object: a larger one is left out
)

// The limits of one look-up.
const (
	// maxClaims is the number of claims that a look-up reads by age and that the Selection does not admit. After that
	// it reads by group. Conflicts are searched among the maxClaims oldest claims of a name.
	maxClaims = 1000
	// maxGroups is the number of groups of claims that a look-up reads. If there are more, the oldest admitted claim
	// among these gets the name.
	maxGroups = 1000
	// maxBelow is the number of claims below a name that are read to check whether a Selection admits one of them. If
	// it admits none and there are more, the name may exist: the answer is NODATA, not NXDOMAIN.
	maxBelow = 1000
)
