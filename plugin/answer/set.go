package answer

// set is a set of values. It allocates nothing for the first few. The zero set is empty.
type set[T comparable] struct {
	few  [8]T
	n    int
	more map[T]struct{}
}

// add adds v, and reports whether it is new.
func (s *set[T]) add(v T) bool {
	for _, w := range s.few[:s.n] {
		if v == w {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = v
		s.n++
		return true
	}
	if _, ok := s.more[v]; ok {
		return false
	}
	if s.more == nil {
		s.more = make(map[T]struct{})
	}
	s.more[v] = struct{}{}
	return true
}

// has reports whether v was added.
func (s *set[T]) has(v T) bool {
	for _, w := range s.few[:s.n] {
		if v == w {
			return true
		}
	}
	_, ok := s.more[v]
	return ok
}
