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
	"github.com/kubehosts/kubehosts/plugin/safe"
)

// proven is how long a Corefile must have been active before it is stored as the last good one.
const proven = 30 * time.Second

// storeLater stores s as the last good Corefile once it has been active for long enough and the process is ready,
// unless it is no longer active.
func (f *Follower) storeLater(s *state) {
	if f.flags.lastGood.name == "" || f.source == nil || s.origin == fromFile {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.serving != s {
		return
	}
	if f.storing != nil {
		f.storing.Stop() // so quick edits do not leave every Corefile in memory that was active for a moment
	}
	f.storing = time.AfterFunc(proven, func() {
		_ = safe.Recovered("storing the last good Corefile", func() { f.store(s) }) // logged
	})
}

// store stores s if it is still active. If the process is not ready yet, or a stanza of s waits for its objects, it
// tries again later.
func (f *Follower) store(s *state) {
	f.mu.Lock()
	f.storing = nil
	serves := f.serving == s
	f.mu.Unlock()
	if !serves {
		return
	}
	if !ready(s.blocks) || live.Waits() {
		f.storeLater(s)
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
		f.notStored(s, err)
		return
	}
	log.Infof("Corefile %s is stored in %s as the last good one", s.hash, good.object())
}

// mend stores the active Corefile, after a while, if the stored text is not a Corefile: somebody may have edited it or
// recreated its ConfigMap. A different Corefile stays, as it may be another replica's.
func (f *Follower) mend() {
	good := f.flags.lastGood
	e, heard := f.event(good.object())
	f.mu.Lock()
	s, looked := f.serving, f.looked == e.ResourceVersion
	f.looked = e.ResourceVersion
	waits := f.storing != nil
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
	log.Warningf("%s can't be used as a Corefile; %s is stored in its place in %s, if it still serves then: %v", good.title(), s.hash, proven, err)
	f.storeLater(s)
}

// notStored records why s could not be stored, and schedules another attempt.
func (f *Follower) notStored(s *state, err error) {
	why := safe.Printable(err.Error())
	f.mu.Lock()
	known := f.unstored == why
	f.unstored = why
	f.mu.Unlock()
	if !known {
		log.Warningf("Corefile %s can't be stored in %s, which still has an earlier one; retrying every %s: %s", s.hash, f.flags.lastGood.object(), proven, why)
	}
	f.storeLater(s)
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
