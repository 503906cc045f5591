package stanza

import (
	"strings"
	"testing"
)

// An excerpt has the same meaning as the stanza, and contains no value of an environment variable.
func TestExcerpt(t *testing.T) {
	t.Setenv("KUBEHOSTS_SECRET", "hunter2")
	t.Setenv("KUBEHOSTS_PORT", "53")
	corefile := `(common) {
    pods insecure # all of them
    ttl 30
}
other.example:53 {
    forward . 192.0.2.1
}
.:{$KUBEHOSTS_PORT} {
    errors
    kubehosts cluster.local "in-addr.arpa" {
        import common
        hosts {$KUBEHOSTS_SECRET} "a b" {
            192.0.2.1   {%KUBEHOSTS_SECRET%}.example
        }
        fallthrough
    }
    cache
}
`
	want := `kubehosts cluster.local in-addr.arpa {
    pods insecure
    ttl 30
    hosts {$KUBEHOSTS_SECRET} "a b" {
        192.0.2.1 {%KUBEHOSTS_SECRET%}.example
    }
    fallthrough
}
`
	got, err := Excerpt("Corefile", corefile, []string{"dns://.:53"}, "")
	if err != nil || got != want {
		t.Errorf("error %v\n%s\nwant\n%s", err, got, want)
	}
	if got, err := Excerpt("x", "kubehosts", nil, ""); err != nil || got != "kubehosts\n" {
		t.Errorf("a bare stanza is %q, error %v", got, err)
	}
	if _, err := Excerpt("x", corefile, []string{"dns://example.org.:53"}, ""); err == nil || !strings.Contains(err.Error(), "no server block") {
		t.Errorf("error %v", err)
	}
}
