package external

// What is kept of one object. What is beyond a bound is left out, the rest of the object counts. The API server refuses most
// objects that reach one: etcd stores no more than 1.5 MiB of an object, a Gateway may have 64 listeners and 16 addresses, an
// HTTPRoute 16 hostnames and 32 parents, a TLSRoute 1,024 hostnames.
const (
	maxAddresses = 64      // IPv4 addresses, and IPv6 addresses, and hostnames, of a load balancer, a Gateway or a Service
	maxNames     = 50_000  // hostnames, of one object that is no route
	maxHostnames = 2_000   // of a route
	maxRecords   = 100     // of one type, of one name of a DNSEndpoint
	maxText      = 4000    // bytes of one TXT record
	maxParents   = 64      // of a route
	maxListeners = 64      // of a Gateway or a ListenerSet
	maxPorts     = 1000    // of a Service
	maxPacked    = 8 << 20 // bytes of an object: one that is larger is left out
)

// What a look-up looks at.
const (
	// maxClaims is how many claims of one name count, the oldest ones. Younger ones lose, whatever a Selection admits.
	maxClaims = 1000
	// maxBelow is how many claims below a name are looked at to see whether one of them is admitted. If none of so many is,
	// the name is taken to exist: it is answered by NODATA, and not by NXDOMAIN.
	maxBelow = 1000
)
