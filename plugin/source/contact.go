package source

import "time"

// Contact is how things stand with the API server that a Source reads from.
type Contact struct {
	Server    string    // its URL, without a password
	Connected bool      // it replied to the last request that has ended
	Down      time.Time // since when it does not reply; zero while it does, and before the first request
	News      time.Time // of News; zero if nothing is followed
}

// Contact returns how things stand with the API server. ok is false if none is asked, as with manifests.
func (s *Source) Contact() (c Contact, ok bool) {
	if s.clients == nil {
		return Contact{}, false
	}
	h := s.clients.health
	c = Contact{Server: sourceName(h.host), Connected: h.connected(), News: s.News()}
	h.mu.Lock()
	defer h.mu.Unlock()
	c.Down = h.down
	return c, true
}
