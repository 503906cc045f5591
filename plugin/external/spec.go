package external

// Meta is the needed metadata of any object.
type Meta struct {
	Namespace, Name string
	Created         int64             // creationTimestamp, Unix seconds
	Generation      int64             // only of routes and ListenerSets
	Annotations     map[string]string // all, or those for which Annotation is true
}

// IngressSpec is the part of an Ingress that is read.
type IngressSpec struct {
	Meta
	Class     string   // spec.ingressClassName, else the annotation kubernetes.io/ingress.class
	Hosts     []string // spec.rules[].host
	Addresses []string // status.loadBalancer.ingress[]: ip and hostname
}

// ServiceSpec is the part of a Service that is read.
type ServiceSpec struct {
	Meta
	LoadBalancer bool     // its type
	Headless     bool     // clusterIP None
	Addresses    []string // status.loadBalancer.ingress[]: ip and hostname
	ExternalIPs  []string
	ClusterIPs   []string
	Ports        []Port
}

// Port is a port of a Service.
type Port struct {
	Name     string // may be empty
	Protocol string // TCP, UDP, SCTP, in any case
	Number   int32
}

// GatewaySpec is the part of a Gateway that is read.
type GatewaySpec struct {
	Meta
	Class            string    // spec.gatewayClassName
	Addresses        []Address // status.addresses
	Listeners        []Listener
	AllowedListeners From // spec.allowedListeners.namespaces; the default is None
}

// Address is an address of a Gateway.
type Address struct {
	Type  string // IPAddress, the default, or Hostname; others are left out
	Value string
}

// ListenerSetSpec is the part of a ListenerSet that is read.
type ListenerSetSpec struct {
	Meta
	Parent     ParentRef // only Group, Kind, Namespace and Name
	Listeners  []Listener
	Conditions []Condition // status.conditions
}

// Listener is a listener of a Gateway or a ListenerSet.
type Listener struct {
	Name, Hostname string
	Protocol       string // HTTP, HTTPS, TLS, TCP, UDP; a route attaches to no other
	TLSMode        string // tls.mode: Terminate, the default, or Passthrough
	Port           int32
	Routes         From        // allowedRoutes.namespaces; the default is Same
	Kinds          []GroupKind // allowedRoutes.kinds; none: all that the protocol allows
	Conditions     []Condition // of the listener of that name in status.listeners
}

// GroupKind is a kind of routes.
type GroupKind struct {
	Group *string // nil: gateway.networking.k8s.io
	Kind  string
}

// From selects namespaces.
type From struct {
	Namespaces string    // All, Same, Selector, None; "" is the default of the field
	Selector   *Selector // for Selector
}

// Selector is a LabelSelector.
type Selector struct {
	Labels      map[string]string // matchLabels
	Expressions []Expression      // matchExpressions
}

// Expression is one of a LabelSelector's matchExpressions.
type Expression struct {
	Key      string
	Operator string // In, NotIn, Exists, DoesNotExist; a selector with another one selects nothing
	Values   []string
}

// Condition is a condition of a status.
type Condition struct {
	Type, Status string
	Generation   int64 // observedGeneration
}

// ParentRef is a reference to a Gateway or a ListenerSet.
type ParentRef struct {
	Group     *string // nil: gateway.networking.k8s.io
	Kind      string  // "" is Gateway
	Namespace string  // "" is that of the referring object
	Name      string
	Section   string // sectionName, "" for all listeners
	Port      int32  // 0 for any
}

// RouteSpec is the part of an HTTPRoute, GRPCRoute, TLSRoute, TCPRoute or UDPRoute that is read.
type RouteSpec struct {
	Meta
	Kind      Kind
	Hostnames []string
	Parents   []ParentRef    // spec.parentRefs
	Status    []ParentStatus // status.parents
}

// ParentStatus is an entry of a route's status.parents.
type ParentStatus struct {
	ParentRef
	Conditions []Condition
}

// DNSEndpointSpec is the part of a DNSEndpoint that is read.
type DNSEndpointSpec struct {
	Meta
	Endpoints []Endpoint
}

// Endpoint is one of a DNSEndpoint's endpoints.
type Endpoint struct {
	Name    string   // dnsName
	Type    string   // recordType: A, AAAA, CNAME, TXT, SRV, MX; others are left out
	TTL     int64    // recordTTL, 0 for none
	Targets []string // in the form of a zone file's RDATA, TXT without quotes
}

// NodeSpec is the part of a Node that is read.
type NodeSpec struct {
	Meta
	InternalIPs []string // status.addresses of type InternalIP
}

// NamespaceSpec is the part of a Namespace that is read.
type NamespaceSpec struct {
	Name   string
	Labels map[string]string
}
