package faults

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// A Service created after the backup, and one deleted after it.
const (
	newer = "apiVersion: v1\nkind: Service\nmetadata: {name: newer, namespace: shop}\nspec: {clusterIP: 10.96.7.11, ports: [{port: 80}]}\n"
	older = "apiVersion: v1\nkind: Service\nmetadata: {name: older, namespace: shop}\nspec: {clusterIP: 10.96.7.12, ports: [{port: 80}]}\n"
)

// etcd is reset to a backup, so that the API server has an older state than the one kubehosts has
// read.
func TestRestoredEtcd(t *testing.T) {
	t.Parallel()
	kube, err := cluster.Kube()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		writes int    // between the backup and the restore
		passed int    // additional ones between the restore and the start of the API server
		bump   uint64 // of the revision
		says   bool   // kubehosts must log the older state; it does not always need to detect it
	}{
		{"its etcd is restored from a backup 3,000 writes ago", 3000, 0, 0, true},
		{"it is, and written to more than that before the start", 500, 1500, 0, false},
		{"it is, with its revision raised as etcd advises", 500, 0, 1_000_000, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			dir := t.TempDir()
			server, err := cluster.Start(ctx, kube, dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Stop)
			tr := changesOf(t, server)
			server.Apply(t, older)
			c := cluster.Run(t, coredns(t), corefileOf(cluster.Kubeconfig(t, server.URL, accountOf(t, server).Token)))
			a := ask(t, c.Addr, tr)
			a.heal(t)

			backup, saved := filepath.Join(dir, "backup"), tr.newest()
			if err := server.Backup(backup); err != nil {
				t.Fatal(err)
			}
			server.Apply(t, newer)
			server.Delete(t, older)
			client := cluster.Dial(t, "udp", c.Addr)
			isServed := func(name string, want bool) func() (bool, string) {
				return func() (bool, string) {
					m, err := client.Ask(name+".shop.svc.cluster.local.", dns.TypeA)
					is := err == nil && m.Rcode == dns.RcodeSuccess
					return err == nil && is == want, fmt.Sprintf("%s is served: %v, want %v, %v", name, is, want, err)
				}
			}
			cluster.Eventually(t, bound, isServed("newer", true))
			cluster.Eventually(t, bound, isServed("older", false))
			if err := server.Write(tt.writes); err != nil {
				t.Fatal(err)
			}
			a.heal(t)

			a.counted(t, tt.name, func() time.Duration {
				tr.holdFrom(saved)
				defer tr.release()
				server.StopServer()
				<-time.After(lasts)
				if err := server.Restore(backup, tt.bump); err != nil {
					t.Fatal(err)
				}
				if err := server.Write(tt.passed); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), bound)
				defer cancel()
				if err := server.StartServer(ctx); err != nil {
					t.Fatal(err)
				}
				took, ok := a.healed()
				if !ok && !stock {
					t.Errorf("changes are not followed within %v", bound)
				}
				return took
			})
			for name, want := range map[string]bool{"newer": false, "older": true} {
				if stock {
					ok, is := false, ""
					for start := time.Now(); !ok && time.Since(start) < bound/2; <-time.After(100 * time.Millisecond) {
						ok, is = isServed(name, want)()
					}
					t.Logf("half a minute later it is as it was at the time of the backup: %v (%s)", ok, is)
					continue
				}
				cluster.Eventually(t, bound, isServed(name, want))
			}
			if n := strings.Count(c.Log(), "has an older state of"); !stock && tt.says && n == 0 {
				t.Error("nothing in the log about an older state")
			}
		})
	}
}
