package services

// Why is the reason for a Match, for explanations.
type Why uint8

// The reasons.
const (
	HasName         Why = iota // an object has the name
	StandsAbove                // names exist below it, such as svc, a namespace, or the protocol of a port
	NotDefined                 // the specification defines no such name
	NoNamespace                // the namespace does not exist
	NamespaceHidden            // the namespace exists, but the option namespaces excludes it
	NoService                  // the Service does not exist
	NoReady                    // the Service has no ready endpoint
	EmptyHidden                // the same, and the option ignore empty_service hides the Service
	EndpointsHidden            // the option noendpoints hides the endpoints
	NoEndpoint                 // none of its endpoints has that name
	NoPort                     // it has no such port
	NoZone                     // none of its endpoints is in that topology zone
	NotHeadless                // names with a topology zone belong to headless Services
	BelowAlias                 // an ExternalName has no names below it
	BadAlias                   // the target of the ExternalName does not fit into a CNAME record
	PodsHidden                 // the option pods is disabled
	NoPodAddress               // the label of the pod is not an address
	NoPod                      // no pod of the namespace has the address
)

// hidden returns why a namespace is not exposed.
func (s *State) hidden(name string) Why {
	if s.HasNamespace(name) {
		return NamespaceHidden
	}
	return NoNamespace
}

// HasNamespace reports whether the namespace exists.
func (s *State) HasNamespace(name string) bool { return s.namespaces.Find(nameKey(name)) != nil }

// lacking returns why none of the endpoints of own is a member.
func (m *Match) lacking(own *owner) Why {
	switch {
	case own.unready():
		return NoReady
	case m.own.text != "":
		return NoEndpoint
	}
	return NoPort
}
