package kubehosts

// Ready implements ready.Readiness. It is true once everything that the Corefile's stanza serves was read, and stays true:
// an outage of the API server later takes nothing away.
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
