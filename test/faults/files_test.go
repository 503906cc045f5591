package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/hostile"
	"github.com/kubehosts/kubehosts/test/cluster"
)

const filesCorefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	prometheus METRICS
	pprof 127.0.0.1:OTHER
	kubehosts cluster.local in-addr.arpa {
		manifests FILES/manifests
		configmap kube-system/coredns
		hosts FILES/hosts/*.hosts
	}
}
`

const manifestedConfigMap = `apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data:
  Corefile: %q
`

// fileChanges writes changes to a manifest at intervals, like changes does to the API server.
func fileChanges(t *testing.T, path string) *truth {
	t.Helper()
	tr := &truth{service: strings.ToLower(t.Name()), held: -1}
	save := func(i int) {
		slice := tr.slice(i)
		slice.APIVersion, slice.Kind = "discovery.k8s.io/v1", "EndpointSlice"
		b, err := json.Marshal(slice)
		if err != nil {
			panic(err)
		}
		service := fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: shop}, spec: {clusterIP: None}}", tr.service)
		cluster.WriteFile(t, path, service+"\n---\n"+string(b)+"\n")
		tr.store()
	}
	save(0)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		for i, tick := 1, time.Tick(100*time.Millisecond); ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
			tr.begin(i)
			save(i)
		}
	})
	return tr
}

// Manifests, hosts files and the ConfigMap's stanza are saved again and again with random changes. Files in their
// folders are replaced by links out of the folders, named pipes, devices and folders, and their names are arbitrary
// bytes. Meanwhile kubehosts serves the other files and the last good stanza, and nothing from outside the folders.
func TestHostileFiles(t *testing.T) {
	if stock { // stock follows no manifests
		return
	}
	dir := t.TempDir()
	for _, sub := range []string{"manifests", "hosts"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	manifest, hosts := filepath.Join(dir, "manifests", "a.yaml"), filepath.Join(dir, "hosts", "a.hosts")
	configMap := filepath.Join(dir, "manifests", "configmap.yaml")
	const stanza = "kubehosts cluster.local in-addr.arpa {\n\tttl 7\n\tnamespaces shop other\n}\n"
	cluster.WriteFile(t, filepath.Join(dir, "manifests", "z.yaml"), objects)
	cluster.WriteFile(t, filepath.Join(dir, "hosts", "z.hosts"), entryIP+" "+entry+"\n")
	cluster.WriteFile(t, configMap, fmt.Sprintf(manifestedConfigMap, stanza))
	tr := fileChanges(t, filepath.Join(dir, "manifests", "changes.yaml"))
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(filesCorefile, "FILES", dir))
	a := ask(t, c.Addr, tr)
	a.heal(t)

	seed := uint64(numberOf("HOSTILE_SEED", rand.IntN(1_000_000)))
	t.Logf("HOSTILE_SEED=%d repeats it", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	other := strings.ReplaceAll(strings.ReplaceAll(objects, "shop", "other"), "10.96.7.10", "10.96.7.11")
	secret := filepath.Join(t.TempDir(), "secret")
	cluster.WriteFile(t, secret, "192.0.2.66 secret.example\n")
	save := func(lasts time.Duration) (saved int) {
		for end := time.Now().Add(lasts); time.Now().Before(end); saved++ {
			path, text := manifest, hostile.Text(r, other)
			switch saved % 4 {
			case 3:
				swapIn(t, r, filepath.Join(dir, "hosts"), secret)
				continue
			case 1:
				path, text = hosts, hostile.Text(r, "10.0.0.7 db.example.net db\n::1 six.example.net\n")
			case 2: // a changed stanza may still be valid, but not with this appended
				path, text = configMap, fmt.Sprintf(manifestedConfigMap, hostile.Text(r, stanza)+"\n}\n}}\n")
			}
			if r.IntN(2) == 0 {
				cluster.WriteFile(t, path, text)
			} else if err := os.WriteFile(path, []byte(text), 0o644); err != nil { // it may be read when half written
				t.Fatal(err)
			}
			<-time.After(time.Duration(r.IntN(15)) * time.Millisecond)
		}
		return saved
	}
	save(floods / 2)
	before := holds(t, c)
	refused := c.Metric(t, "coredns_kubehosts_manifests_rejected_total")
	a.counted(t, fmt.Sprintf("hostile files for %v", floods), func() time.Duration {
		saved := save(floods)
		t.Logf("%d files saved, %.0f manifests and %.0f stanzas refused since the start", saved,
			c.Metric(t, "coredns_kubehosts_manifests_rejected_total"), c.Metric(t, "coredns_kubehosts_stanza_rejected_total"))
		return a.heal(t)
	})
	before.check(t, c)
	if m, err := cluster.Dial(t, "udp", c.Addr).Ask("secret.example.", 1); err != nil || len(m.Answer) > 0 {
		t.Errorf("a file from outside of the folder is served: %v %v", m, err)
	}
	if now := c.Metric(t, "coredns_kubehosts_manifests_rejected_total"); now == refused {
		t.Error("no manifest was refused")
	}
	cluster.WriteFile(t, configMap, fmt.Sprintf(manifestedConfigMap, strings.Replace(stanza, "ttl 7", "ttl 8", 1)))
	cluster.WriteFile(t, manifest, other)
	cluster.Eventually(t, bound, func() (bool, string) {
		m, err := cluster.Dial(t, "udp", c.Addr).Ask("web.other.svc.cluster.local.", 1)
		return err == nil && len(m.Answer) == 1 && m.Answer[0].Header().Ttl == 8, fmt.Sprintf("good files, they answer %v %v", m, err)
	})
}

// swapIn replaces one of a few names in the folder dir by something that is not a hosts file, or by a link to secret.
func swapIn(t *testing.T, r *rand.Rand, dir, secret string) {
	t.Helper()
	names := [...]string{"s.hosts", "m\xfcller.hosts", "a\n[ERROR] forged.hosts", "\u202e.hosts", "*.hosts"}
	aside := filepath.Join(dir, ".aside")
	var err error
	switch r.IntN(8) {
	case 0:
		err = os.Symlink(secret, aside)
	case 1:
		err = os.Symlink(filepath.Dir(secret), aside)
	case 2:
		err = syscall.Mkfifo(aside, 0o644)
	case 3:
		err = os.Symlink("/dev/zero", aside)
	case 4:
		err = os.Mkdir(aside, 0o755)
	case 5:
		err = os.Symlink(".aside", aside)
	case 6:
		err = os.WriteFile(aside, []byte("192.0.2.7 swapped.example\nno address\n"), 0o000)
	default:
		err = os.WriteFile(aside, []byte("192.0.2.7 swapped.example\nno address\n"), 0o644)
	}
	path := filepath.Join(dir, names[r.IntN(len(names))])
	if err := errors.Join(err, os.RemoveAll(path), os.Rename(aside, path)); err != nil {
		t.Fatal(err)
	}
}

// A program writes files in place and takes its time, as a shell's redirection does. kubehosts serves the previous
// content until the program closes them.
func TestFilesWrittenSlowly(t *testing.T) {
	if stock { // stock follows no manifests
		return
	}
	dir := t.TempDir()
	for _, sub := range []string{"manifests", "hosts"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	manifest, hosts := filepath.Join(dir, "manifests", "z.yaml"), filepath.Join(dir, "hosts", "z.hosts")
	cluster.WriteFile(t, manifest, objects)
	cluster.WriteFile(t, hosts, entryIP+" "+entry+"\n")
	cluster.WriteFile(t, filepath.Join(dir, "manifests", "configmap.yaml"), fmt.Sprintf(manifestedConfigMap, "kubehosts {\n}\n"))
	tr := fileChanges(t, filepath.Join(dir, "manifests", "changes.yaml"))
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(filesCorefile, "FILES", dir))
	a := ask(t, c.Addr, tr)
	a.heal(t)

	more := strings.ReplaceAll(objects, "name: web", "name: more")
	texts := map[string]string{manifest: objects + "---" + more, hosts: entryIP + " " + entry + " more.example.org\n"}
	a.counted(t, fmt.Sprintf("files written in place, for %v", lasts), func() time.Duration {
		var open []*os.File
		for path := range texts {
			f, err := os.Create(path) // it is empty now
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, f)
		}
		<-time.After(lasts / 2)
		for _, f := range open {
			text := texts[f.Name()]
			if _, err := f.WriteString(text[:len(text)/3]); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(lasts / 2)
		for _, f := range open {
			text := texts[f.Name()]
			if _, err := f.WriteString(text[len(text)/3:]); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		client := cluster.Dial(t, "udp", c.Addr)
		return cluster.Eventually(t, bound, func() (bool, string) {
			m, err := client.Ask("more.example.org.", 1)
			n, nerr := client.Ask("more.shop.svc.cluster.local.", 1)
			return err == nil && nerr == nil && len(m.Answer)+len(n.Answer) == 2, fmt.Sprintf("they were closed, the answers are %v %v, %v %v", m, err, n, nerr)
		})
	})
}
