package follow

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coredns/caddy"

	"github.com/kubehosts/kubehosts/build/check"
	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/source"
)

// patience limits how long a start waits for the ConfigMaps from the API server.
const patience = 3 * time.Second

// notStarted is the environment variable with the hashes of Corefiles that failed to start, one per line, each followed
// by a space and the reason.
const notStarted = "KUBEHOSTS_COREFILES_NOT_STARTED"

// Load implements caddy.Loader: at the start, it returns the Corefile to start with; later, the one that CoreDNS has
// read last, whose kubehosts stanzas may have been replaced since. So the plugin reload neither treats live edits as
// changes nor loads an older Corefile.
func (f *Follower) Load(string) (caddy.Input, error) {
	f.mu.Lock()
	read := f.read
	f.mu.Unlock()
	if read != nil {
		return read.input(), nil
	}
	f.beginTrials(trialDir)
	first, err := f.first()
	if err != nil {
		return nil, err
	}
	if first.origin == fromConfigMap && f.source != nil {
		f.onTrial(first.hash)
	}
	f.mu.Lock()
	f.read, f.serving = first, first
	f.mu.Unlock()
	return first.input(), nil
}

// candidate is a Corefile for a start.
type candidate struct {
	origin, title string
	text          func() (*corefile.Text, error)
}

// first returns the Corefile to start with: that of the ConfigMap, else the last good one, else that of the file. If
// the API server can't be reached, it is the file's, which the kubelet stores.
func (f *Follower) first() (*state, error) {
	main, err := f.flags.configMap, f.listen()
	if err == nil {
		err = f.awaitEvents(patience)
	}
	e, heard := f.event(main.object())
	if !heard {
		if err == nil {
			err = fmt.Errorf("the API server does not answer within %s", patience)
		}
		log.Warningf("%s can't be read, so the server starts with the file, and follows the ConfigMap as soon as it can: %v", main.object(), err)
	}
	var reasons []error
	for _, c := range f.candidates(e, heard) {
		s, err := f.try(c)
		if err == nil {
			f.startsFrom(c, s, heard, reasons)
			return s, nil
		}
		var waits *unlisted
		if len(reasons) > 0 && errors.As(err, &waits) {
			waits.ahead.Close() // only wait for the objects of the ConfigMap's Corefile
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", c.title, err))
	}
	why := joined(reasons)
	if s := f.untried(e, heard); s != nil {
		log.Errorf("No Corefile passes its check; starting with that of %s all the same: %s", s.name, why)
		return s, nil
	}
	return nil, fmt.Errorf("there is no Corefile to start with: %s", why)
}

// joined returns all reasons as one text.
func joined(reasons []error) string {
	texts := make([]string, len(reasons))
	for i, r := range reasons {
		texts[i] = r.Error()
	}
	return strings.Join(texts, "; ")
}

// untried returns the best Corefile that this process has not tried to start with yet, even if its check failed; nil
// if there is none. It is for a Corefile that CoreDNS accepts, and that was refused for something probably unintended.
func (f *Follower) untried(e source.ConfigMapEvent, heard bool) *state {
	for _, c := range f.candidates(e, heard) {
		text, err := c.text()
		if err != nil {
			continue
		}
		if s, err := newState(text, c.origin); err == nil && startedBefore(s) == "" {
			return s
		}
	}
	return nil
}

// startedBefore returns why the start with s failed; "" if it has not been tried.
func startedBefore(s *state) string {
	for line := range strings.Lines(os.Getenv(notStarted)) {
		if hash, why, _ := strings.Cut(strings.TrimSpace(line), " "); hash == s.hash {
			return why
		}
	}
	return ""
}

// awaitEvents waits until the state of each ConfigMap is available, at most for most.
func (f *Follower) awaitEvents(most time.Duration) error {
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	for {
		f.mu.Lock()
		all := len(f.events) == len(f.objects())
		f.mu.Unlock()
		if all {
			f.look() // check the state again when the server runs
			return nil
		}
		select {
		case <-f.wake:
		case <-deadline.C:
			f.look()
			return fmt.Errorf("the API server does not answer within %s", most)
		}
	}
}

// candidates returns the Corefiles for a start, the best first. e is the state of the ConfigMap, if heard.
func (f *Follower) candidates(e source.ConfigMapEvent, heard bool) (all []candidate) {
	if main := f.flags.configMap; heard {
		all = append(all, candidate{fromConfigMap, main.title(), func() (*corefile.Text, error) { return f.textOf(main, e) }})
	}
	if good := f.flags.lastGood; good.name != "" && heard {
		if e, known := f.event(good.object()); known {
			all = append(all, candidate{fromLastGood, good.title(), func() (*corefile.Text, error) { return f.textOf(good, e) }})
		}
	}
	if f.conf != "" {
		all = append(all, candidate{fromFile, "file " + f.conf, func() (*corefile.Text, error) {
			s, err := corefile.File(f.conf)
			if err != nil {
				return nil, err
			}
			return corefile.Read(s, f.imports)
		}})
	}
	return all
}

// try returns the state of a candidate if it is good.
func (f *Follower) try(c candidate) (*state, error) {
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	s, err := newState(text, c.origin)
	if err != nil {
		return nil, err
	}
	switch why := startedBefore(s); {
	case why != "":
		return nil, errors.New("the server does not start with it: " + why)
	case f.kills(s.hash):
		return nil, deadly{}
	}
	found, err := f.checkers.check(text)
	if errors.Is(err, errNoChecker) {
		log.Warningf("Corefile %s was not checked before the start: %v", s.hash, err)
	} else if err != nil {
		return nil, err
	}
	for _, finding := range found {
		if finding.Level == check.Warning {
			log.Warning(finding.String())
		}
	}
	if err := wrong(found); err != nil {
		return nil, err
	}
	if c.origin == fromFile {
		return s, nil
	}
	return s, f.granted(s)
}

// granted returns why the API server does not let this account list what a Corefile needs, or replies with something
// else for longer than it may take at most; nil if it lists it, or is slow to reply. The lists stay open until the
// server runs. With a snapshot, a start does not wait.
func (f *Follower) granted(s *state) error {
	for _, c := range stanzas(s.blocks) {
		if c.Snapshot != "" {
			return nil
		}
	}
	ahead, err := listed(s.blocks, firstListMost)
	var waits *unlisted
	switch {
	case errors.As(err, &waits) && waits.late:
		ahead = waits.ahead
	case err != nil:
		return err
	}
	f.ahead = ahead
	return nil
}

// startsFrom logs the origin of the start if it is not the ConfigMap, with the reasons against the candidates before c.
func (f *Follower) startsFrom(c candidate, s *state, heard bool, reasons []error) {
	if c.origin == fromConfigMap || !heard {
		return
	}
	why := errors.Unwrap(reasons[0])
	f.mu.Lock()
	f.serving = s
	f.mu.Unlock()
	f.setRefused(why, f.newest())
	rejected.Inc()
	log.Errorf("The server starts with %s (%s), not with %s: %s", c.title, s.hash, f.flags.configMap.title(), joined(reasons))
	f.report(source.Report{Refused: true, Reason: "CorefileRejected", Note: fmt.Sprintf("The server started with %s: %v", c.title, why)})
}

// newest returns the hash of the ConfigMap's Corefile, "" if it has none.
func (f *Follower) newest() string {
	main := f.flags.configMap
	e, _ := f.event(main.object())
	text, err := f.textOf(main, e)
	if err != nil {
		return ""
	}
	return hashOf(text)
}
