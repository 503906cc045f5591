package stanza

import (
	"errors"
	"os"
	"strings"
)

// environment replaces {$VAR} and {%VAR%} as caddyfile does in a Corefile: an unset variable is empty, and its value is
// scanned again. left bounds the bytes that are scanned, because a variable may contain itself, and a text of 1 MiB may
// contain a long one a hundred thousand times.
type environment struct {
	left int
}

var errEnvironment = errors.New("environment variables: too many, too long, or referring to themselves")

func (e *environment) expand(s string) (string, error) {
	s, err := e.replace(s, "{%", "%}")
	if err != nil {
		return "", err
	}
	return e.replace(s, "{$", "}")
}

func (e *environment) replace(s, open, end string) (string, error) {
	for {
		start := strings.Index(s, open)
		if start < 0 {
			return s, nil
		}
		// The end is searched from the start of open, not after it: {%} stays unchanged.
		n := strings.Index(s[start:], end)
		if n <= len(open) {
			return s, nil
		}
		ref := s[start : start+n+len(end)]
		value := os.Getenv(s[start+len(open) : start+n])
		e.left -= len(s) + strings.Count(s, ref)*len(value)
		if e.left < 0 {
			return "", errEnvironment
		}
		s = strings.ReplaceAll(s, ref, value)
	}
}
