package persistent

// Strings is an Array of strings that takes little more room than their octets: a bundle of strings with adjacent
// numbers is one string. With 50,000 strings of 40 octets it took 45 octets for each; an Array took 66, as each string
// has a header of 16, and octets of its own in one of the sizes that the allocator has. At returns a part of the
// bundle, which stays in memory as long as the part does. A string that was never set is empty. The zero Strings is
// empty.
type Strings struct{ bundles Array[*bundle] }

const (
	bundleLen  = 16
	bundleMost = 65535 / bundleLen // octets of a string in a bundle; longer ones are stored alone
)

// bundle is bundleLen strings. It never changes.
type bundle struct {
	text string
	ends [bundleLen]uint16  // where each of them ends in text
	long *[bundleLen]string // those longer than bundleMost, nil without any
}

// At returns the string with the number i.
func (s *Strings) At(i uint32) string {
	b := s.bundles.At(i / bundleLen)
	if b == nil {
		return ""
	}
	return b.at(int(i % bundleLen))
}

func (b *bundle) at(n int) string {
	if b.long != nil && b.long[n] != "" {
		return b.long[n]
	}
	return b.text[b.start(n):b.ends[n]]
}

func (b *bundle) start(n int) int {
	if n == 0 {
		return 0
	}
	return int(b.ends[n-1])
}

// Set stores v with the number i. It copies the other strings of the bundle.
func (s *Strings) Set(batch uint64, i uint32, v string) {
	b := s.bundles.At(i / bundleLen)
	if b == nil {
		b = new(bundle)
	}
	s.bundles.Set(batch, i/bundleLen, b.with(int(i%bundleLen), v))
}

// with returns a bundle in which string n is v.
func (b *bundle) with(n int, v string) *bundle {
	next := &bundle{ends: b.ends}
	short := v
	if len(v) > bundleMost {
		short = ""
	}
	if b.long != nil || short != v {
		next.long = new([bundleLen]string)
		if b.long != nil {
			*next.long = *b.long
		}
		if next.long[n] = ""; short != v {
			next.long[n] = v
		}
	}
	next.text = b.text[:b.start(n)] + short + b.text[b.ends[n]:]
	for grown := len(next.text) - len(b.text); n < bundleLen; n++ {
		next.ends[n] = uint16(int(b.ends[n]) + grown) // #nosec G115 -- at most bundleLen strings of bundleMost
	}
	return next
}
