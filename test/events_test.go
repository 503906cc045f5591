package test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// isEvent reports whether r creates an Event, or finds that another replica has created it.
func isEvent(r cluster.Request) bool {
	return r.Resource == "events" && r.Verb == "create" && (r.Code == http.StatusCreated || r.Code == http.StatusConflict)
}

// events returns the Events on the current ConfigMap, as `kubectl describe` finds them: by its UID.
func events(t *testing.T) []core.Event {
	t.Helper()
	client := api(t).Client.CoreV1()
	cm, err := client.ConfigMaps("kube-system").Get(context.Background(), "coredns", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.Events("kube-system").List(context.Background(), meta.ListOptions{FieldSelector: "involvedObject.uid=" + string(cm.UID)})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// awaitEvent waits for an Event with the reason whose message contains all the words, and returns
// it.
func awaitEvent(t *testing.T, reason string, words ...string) (found core.Event) {
	t.Helper()
	cluster.Eventually(t, bound, func() (bool, string) {
		all := events(t)
		for _, e := range all {
			has := e.Reason == reason
			for _, w := range words {
				has = has && strings.Contains(e.Message, w)
			}
			if has {
				found = e
				return true, ""
			}
		}
		return false, fmt.Sprintf("an Event %s with %q; there are %d", reason, words, len(all))
	})
	return found
}

// The outcome of an edit appears on the ConfigMap once, though two replicas report it.
func TestEvents(t *testing.T) {
	f := runFollower(t)
	_, port, _ := net.SplitHostPort(f.Addr) // replicas serve on one port
	second := cluster.Run(t, coredns(t), strings.NewReplacer("KUBECONFIG", f.kubeconfig, "PORT", port, "127.0.0.1", "127.0.0.2",
		"DIR/corp.hosts", f.Path("corp.hosts")).Replace(followCorefile))
	both := func(what string, n int) {
		t.Helper()
		for _, c := range []*cluster.CoreDNS{f.CoreDNS, second} {
			cluster.Eventually(t, bound, func() (bool, string) {
				return strings.Count(c.Log(), what) == n, fmt.Sprintf("%q %d times in the log", what, n)
			})
		}
	}

	setConfigMap(t, stanza(live("10.9.0.1")))
	both(" applied to ", 1)
	e := awaitEvent(t, "StanzaApplied", "applied to dns://.:", f.hash(t))
	if e.Type != core.EventTypeNormal || e.Namespace != "kube-system" || e.Source.Component != "kubehosts" ||
		e.InvolvedObject.Kind != "ConfigMap" || e.InvolvedObject.APIVersion != "v1" || e.InvolvedObject.Name != "coredns" {
		t.Errorf("the Event of a good edit is %+v", e)
	}
	setConfigMap(t, stanza(live("10.9.0.2"), "bogus"))
	if e := awaitEvent(t, "StanzaRejected", "Corefile:5", "unknown property 'bogus'"); e.Type != core.EventTypeWarning {
		t.Errorf("the Event of a bad edit is %+v", e)
	}
	both("bogus", 1)
	setConfigMap(t, stanza(live("10.9.0.1"))) // the active stanza
	cluster.Eventually(t, bound, func() (bool, string) {
		n := len(events(t))
		return n == 3, fmt.Sprintf("%d Events, want 3", n)
	})

	// Each replica sent one request per Event, and no more.
	cluster.Eventually(t, bound, func() (bool, string) {
		created, there := 0, 0
		for _, r := range api(t).Audit(t, f.who) {
			if r.Resource == "events" && r.Verb != "create" {
				t.Errorf("%v", r)
			}
			switch {
			case r.Resource == "events" && r.Code == http.StatusCreated:
				created++
			case r.Resource == "events" && r.Code == http.StatusConflict:
				there++
			}
		}
		return created == 3 && there == 3, fmt.Sprintf("%d created, %d there already", created, there)
	})
	f.Reload(t)
	cluster.Eventually(t, bound, func() (bool, string) {
		return strings.Contains(f.Log(), "Reloading complete"), "the reload"
	})
	if n := len(events(t)); n != 3 {
		t.Errorf("%d Events after a reload, want 3", n)
	}
}

// Many edits cause few Events, and the last outcome is reported in the end.
func TestEventsAggregated(t *testing.T) {
	f := runFollower(t)
	c := cluster.Dial(t, "udp", f.Addr)
	start := time.Now()
	const edits = 200
	for i := 1; i <= edits; i++ {
		if i%2 == 0 {
			setConfigMap(t, stanza(live(editIP(i)), "bogus"))
			continue
		}
		setConfigMap(t, stanza(live(editIP(i))))
		awaitLive(t, c, editIP(i))
	}
	all := events(t)
	took := time.Since(start)
	t.Logf("%d edits in %v made %d Events", edits, took.Round(time.Second), len(all))
	if most := 6 + int(took/time.Minute); len(all) == 0 || len(all) > most {
		t.Errorf("%d Events on %d edits, want 1 to %d", len(all), edits, most)
	}
	if n := f.Metric(t, "go_goroutines"); n > 100 {
		t.Errorf("%v goroutines", n)
	}
}

// Without the permission there are no Events and one log line about it; everything else works.
func TestEventsForbidden(t *testing.T) {
	account(t) // the roles
	const role = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: eventless, namespace: kube-system}
rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [coredns], verbs: [list, watch]}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: eventless, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: eventless, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: eventless}
subjects: [{kind: ServiceAccount, name: eventless, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: eventless}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:coredns"}
subjects: [{kind: ServiceAccount, name: eventless, namespace: kube-system}]
`
	objects(t, role)
	removeConfigMap(t)
	t.Cleanup(func() { removeConfigMap(t) })
	f := follower{who: api(t).Account(t, "kube-system", "eventless")}
	f.kubeconfig = cluster.Kubeconfig(t, api(t).URL, f.who.Token)
	f.CoreDNS = cluster.Run(t, coredns(t), strings.ReplaceAll(followCorefile, "KUBECONFIG", f.kubeconfig))
	c := cluster.Dial(t, "udp", f.Addr)
	for i := range 5 {
		setConfigMap(t, stanza(live("10.9.0.1"), "bogus"))
		setConfigMap(t, stanza(live(editIP(i))))
		awaitLive(t, c, editIP(i))
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		n := strings.Count(f.Log(), "gets no Events")
		return n == 1, fmt.Sprintf("%d lines on Events in the log, want 1", n)
	})
	if n := len(events(t)); n != 0 {
		t.Errorf("%d Events", n)
	}
	if said := strings.Count(f.Log(), "forbidden"); said != 1 {
		t.Errorf("%d lines on what is forbidden, want 1", said)
	}
}
