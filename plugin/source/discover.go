package source

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// discovered are the resources that the API server last listed in a group and version. External names come from up to
// eight kinds that a cluster may lack. While it does, one request for each group looks for them.
type discovered struct {
	mu        sync.Mutex
	asked     time.Time
	resources map[string]struct{}
}

// discoveries are the resources of an API server, by group and version.
type discoveries struct {
	mu  sync.Mutex
	all map[string]*discovered
}

func (d *discoveries) of(version string) *discovered {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = make(map[string]*discovered)
	}
	if d.all[version] == nil {
		d.all[version] = new(discovered)
	}
	return d.all[version]
}

// has reports whether the API server may have a resource. It returns false only if the server denied it within
// longestPause. If the server does not reply, a list shows whether it has the resource.
func (s *Source) has(ctx context.Context, version, resource string) bool {
	d := s.discovery.of(version)
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.asked) >= longestPause {
		raw, err := s.clients.custom[version].Get().AbsPath("/apis/" + version).Do(ctx).Raw()
		if err != nil && !apierrors.IsNotFound(err) {
			return true
		}
		var list struct {
			Resources []struct {
				Name string `json:"name"`
			} `json:"resources"`
		}
		if err == nil && json.Unmarshal(raw, &list) != nil {
			return true
		}
		d.asked, d.resources = time.Now(), make(map[string]struct{})
		for _, r := range list.Resources {
			d.resources[r.Name] = struct{}{}
		}
	}
	_, ok := d.resources[resource]
	return ok
}
