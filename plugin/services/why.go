package services

// Why is the reason for a Match, for those who have to explain it.
type Why uint8

// The reasons.
const (
	HasName         Why = iota // an object has the name
	StandsAbove                // names exist below it, such as svc, a namespace, or the protocol of a port
	NotDefined                 // the specification defines no such name
	NoNamespace                // there is no such namespace
	NamespaceHidden            // there is one, and the option namespaces leaves it out
	NoService                  // there is no such Service
	NoReady                    // none of its endpoints is ready
	EmptyHidden                // the same, and the option ignore empty_service hides the Service
	EndpointsHidden            // the option noendpoints hides the endpoints
	NoEndpoint                 // none of its endpoints has that name
	NoPort                     // it has no such port
	NoZone                     // none of its endpoints is in that topology zone
	NotHeadless                // names with a topology zone belong to headless Services
	BelowAlias                 // an ExternalName has no names below it
	BadAlias                   // the target of the ExternalName fits no CNAME record
	PodsHidden                 // the option pods is disabled
	NoPodAddress               // the label of the pod spells no address
	NoPod                      // no pod of the namespace has the address
)

// hidden returns why a namespace is not exposed.
func (s *State) hidden(name string) Why {
	if s.HasNamespace(name) {
		return NamespaceHidden
	}
	return NoNamespace
}

// HasNamespace reports whether there is a namespace of that name.
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
