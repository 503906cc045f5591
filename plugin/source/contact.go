package source

import "time"

// Contact is the state of the connection to a Source's API server.
type Contact struct {
	Server    string    // its URL, without a password
	Connected bool      // it replied to the last finished request
	Down      time.Time // since when it does not reply; zero while it does, and before the first request
	News      time.Time // see News; zero if nothing is followed
}

// Contact returns the state of the connection to the API server. ok is false if there is none, as with manifests.
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
