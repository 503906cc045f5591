package follow

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/live"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// proven is how long a Corefile must have been active before it is stored as the last good one.
const proven = 30 * time.Second

// keepLater stores s as the last good Corefile once it has been active for long enough and the process is ready,
// unless it is no longer active.
func (f *Follower) keepLater(s *state) {
	if f.flags.lastGood.name == "" || f.source == nil || s.origin == fromFile {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.serving != s {
		return
	}
	if f.keeping != nil {
		f.keeping.Stop() // so quick edits do not leave every Corefile in memory that was active for a moment
	}
	f.keeping = time.AfterFunc(proven, func() {
		_ = source.Recovered("keeping the last good Corefile", func() { f.keep(s) }) // logged
	})
}

// keep stores s if it is still active. If the process is not ready yet, or a stanza of s waits for its objects, it
// tries again later.
func (f *Follower) keep(s *state) {
	f.mu.Lock()
	f.keeping = nil
	serves := f.serving == s
	f.mu.Unlock()
	if !serves {
		return
	}
	if !ready(s.blocks) || live.Waits() {
		f.keepLater(s)
		return
	}
	f.trial.clear()
	good := f.flags.lastGood
	if e, heard := f.event(good.object()); heard && e.Data[good.key] == s.text.Body {
		return // another replica was first
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := f.source.StoreConfigMap(ctx, good.namespace, good.name, good.key, s.text.Body)
	if apierrors.IsConflict(err) {
		return // another replica was first, just now
	}
	if err != nil {
		f.notKept(s, err)
		return
	}
	log.Infof("Corefile %s is kept in %s as the last good one", s.hash, good.object())
}

// mend stores the active Corefile, after a while, if the stored text is not a Corefile: somebody may have edited it or
// recreated its ConfigMap. A different Corefile stays, as it may be another replica's.
func (f *Follower) mend() {
	good := f.flags.lastGood
	e, heard := f.event(good.object())
	f.mu.Lock()
	s, looked := f.serving, f.looked == e.ResourceVersion
	f.looked = e.ResourceVersion
	waits := f.keeping != nil
	f.mu.Unlock()
	if looked || waits || !heard || !e.Found || s.origin == fromFile {
		return
	}
	text, err := f.textOf(good, e)
	if err == nil {
		_, err = newState(text, fromLastGood)
	}
	if err == nil {
		return
	}
	log.Warningf("What %s has is no Corefile, so %s is kept there in %s, if it still serves then: %v", good.title(), s.hash, proven, err)
	f.keepLater(s)
}

// notKept records why s could not be stored, and schedules another attempt.
func (f *Follower) notKept(s *state, err error) {
	why := source.Printable(err.Error())
	f.mu.Lock()
	known := f.unkept == why
	f.unkept = why
	f.mu.Unlock()
	if !known {
		log.Warningf("Corefile %s is not kept in %s, whose Corefile before stays; it is tried again every %s: %s", s.hash, f.flags.lastGood.object(), proven, why)
	}
	f.keepLater(s)
}

// ready queries the plugin ready of a Corefile. Without that plugin, any running process is ready.
func ready(blocks []corefile.Block) bool {
	addr := ""
	for i := range blocks {
		for _, a := range addressesOf(&blocks[i], "ready") {
			addr = a
		}
	}
	if addr == "" {
		return true
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(fmt.Sprintf("http://%s/ready", net.JoinHostPort(host, port)))
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
