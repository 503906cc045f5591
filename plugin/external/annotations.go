package external

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The annotations, with the current and former prefixes of external-dns, and the one of k8s_gateway. If an object has
// several for one purpose, the first one counts.
var (
	hostnameKeys = []string{"external-dns.kubernetes.io/hostname", "external-dns.alpha.kubernetes.io/hostname", "coredns.io/hostname"}
	internalKeys = []string{"external-dns.kubernetes.io/internal-hostname", "external-dns.alpha.kubernetes.io/internal-hostname"}
	targetKeys   = []string{"external-dns.kubernetes.io/target", "external-dns.alpha.kubernetes.io/target"}
	ttlKeys      = []string{"external-dns.kubernetes.io/ttl", "external-dns.alpha.kubernetes.io/ttl"}
)

// Annotations returns the keys of the annotations that this package reads.
func Annotations() []string { return slices.Concat(hostnameKeys, internalKeys, targetKeys, ttlKeys) }

// Annotation reports whether this package reads the annotation key.
func Annotation(key string) bool {
	if !strings.HasPrefix(key, "external-dns.") && !strings.HasPrefix(key, "coredns.io/") {
		return false
	}
	for _, keys := range [][]string{hostnameKeys, internalKeys, targetKeys, ttlKeys} {
		if slices.Contains(keys, key) {
			return true
		}
	}
	return false
}

// annotated returns the value of the first of keys that the object has.
func (m *Meta) annotated(keys []string) string {
	for _, key := range keys {
		if v, ok := m.Annotations[key]; ok {
			return v
		}
	}
	return ""
}

// list returns the words of an annotation's value, separated by commas, without blanks.
func list(value string) []string {
	var words []string
	for word := range strings.SplitSeq(value, ",") {
		if word = strings.TrimSpace(word); word != "" && len(words) < maxNames {
			words = append(words, word)
		}
	}
	return words
}

// ttl returns the TTL in an annotation, in seconds or as a Go duration, and whether there is one. It ignores a value
// that is not a TTL (RFC 2181, section 8).
func (m *Meta) ttl() (seconds uint32, ok bool) {
	value := strings.TrimSpace(m.annotated(ttlKeys))
	if value == "" {
		return 0, false
	}
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		return validTTL(n)
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, false
	}
	return validTTL(int64(d / time.Second))
}

func validTTL(n int64) (seconds uint32, ok bool) {
	if n < 0 || n > 1<<31-1 {
		return 0, false
	}
	return uint32(n), true
}
