package kubehosts

// Ready implements ready.Readiness. It is true once everything that the Corefile's stanza serves was seen, and stays
// true: an API server that goes away later takes nothing from what is served.
func (k *Kubehosts) Ready() bool {
	if k.ready.Load() {
		return true
	}
	if !k.block.Settled() {
		return false
	}
	k.ready.Store(true)
	return true
}
