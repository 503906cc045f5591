package cluster

import (
	"encoding/json"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

// Request is one request to the API server, from its audit log.
type Request struct {
	Verb     string // list, watch, get, ...
	Resource string // services, endpointslices.discovery.k8s.io, ...; the path if it is not a resource
	Object   string // NAMESPACE/NAME if the request has one
	Query    url.Values
	Code     int // HTTP status
}

// String is a short text of the fields that tests check.
func (r Request) String() string {
	s := r.Verb + " " + r.Resource
	if r.Object != "" {
		s += " " + r.Object
	}
	return s
}

// Audit returns the requests so far with an account's token, in the order in which they were answered or, for a watch,
// begun. A watch appears once.
func (a *API) Audit(t testing.TB, who Account) []Request {
	t.Helper()
	b, err := os.ReadFile(a.path("audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	var all []Request
	var seen []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break // still being written
		}
		var e struct {
			AuditID, Stage, Verb, RequestURI string
			User                             struct{ Extra map[string][]string }
			ObjectRef                        struct{ Resource, APIGroup, Namespace, Name string }
			ResponseStatus                   struct{ Code int }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("audit log: %v in %s", err, line)
		}
		if !slices.Contains(e.User.Extra[credential], who.ID) || slices.Contains(seen, e.AuditID) {
			continue
		}
		seen = append(seen, e.AuditID)
		r := Request{Verb: e.Verb, Resource: e.ObjectRef.Resource, Code: e.ResponseStatus.Code}
		if e.ObjectRef.APIGroup != "" {
			r.Resource += "." + e.ObjectRef.APIGroup
		}
		if e.ObjectRef.Name != "" {
			r.Object = e.ObjectRef.Namespace + "/" + e.ObjectRef.Name
		}
		if u, err := url.Parse(e.RequestURI); err == nil {
			r.Query = u.Query()
			if r.Resource == "" {
				r.Resource = u.Path
			}
		}
		all = append(all, r)
	}
	return all
}
