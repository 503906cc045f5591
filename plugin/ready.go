package kubehosts

// Ready implements ready.Readiness. It returns true once everything that the Corefile's stanza serves was read, and
// stays true: a later outage of the API server removes nothing.
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
