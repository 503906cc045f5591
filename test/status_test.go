package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const statusCorefile = `.:PORT {
	bind 127.0.0.1
	errors
	ready READY
	cache 30
	kubehosts cluster.local in-addr.arpa {
		status STATUS
		kubeconfig KUBECONFIG
		configmap kube-system/coredns
		fallthrough in-addr.arpa
	}
	forward . 127.0.0.1:OTHER
}
`

// freeAddress is an address without a listener.
func freeAddress() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(cluster.FreePort())) }

// explain runs the command, and returns its output and exit code.
func explain(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(coredns(t), append([]string{"explain"}, args...)...)
	b, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// A running process explains its answers, from its objects and the API server's current state, with no permission
// beyond those for answers. Its page shows when the API server is unreachable.
func TestStatus(t *testing.T) {
	removeConfigMap(t)
	t.Cleanup(func() { removeConfigMap(t) })
	objects(t, shop)
	proxy := api(t).Proxy(t)
	proxy.Start(t)
	status := freeAddress()
	cluster.Run(t, coredns(t), strings.NewReplacer("STATUS", status,
		"KUBECONFIG", cluster.Kubeconfig(t, proxy.URL, account(t).Token)).Replace(statusCorefile))
	page := "http://" + status

	for _, tt := range []struct {
		name string
		code int
		want []string
	}{
		{"web.shop", 0, []string{"(second name of the search list of a pod in default)", "of the Corefile, applied ", "ahead    cache may repeat",
			"service  shop/web, ClusterIP, resourceVersion ", ": 10.96.7.10, fd00:96::7:10, port http 80/TCP, dns 53/UDP\n", "answer   NOERROR 5 s  web.shop.svc.cluster.local. A 10.96.7.10\n"}},
		{"db-2.db.shop.svc.cluster.local.", 1, []string{"why      no ready endpoint of Service shop/db is named db-2\n         not ready: 1 endpoint: 10.244.1.7\n", "answer   NXDOMAIN\n"}},
		{"wbe.shop", 1, []string{"near     Service shop/web"}},
		{"10.96.7.10", 0, []string{"address  10.96.7.10 of Service shop/web\n"}},
		{"www.example.com.", 1, []string{"answer   by another plugin: forward\n"}},
	} {
		out, code := explain(t, "-server", page, tt.name)
		for _, want := range tt.want {
			if code != tt.code || !strings.Contains(out, want) {
				t.Errorf("explain %s: exit code %d, want %d and %q:\n%s", tt.name, code, tt.code, want, out)
			}
		}
	}

	setConfigMap(t, stanza("ttl 11", "labels dns=yes"))
	cluster.Eventually(t, bound, func() (bool, string) {
		out, _ := explain(t, "-server", page, "web.shop.svc.cluster.local.")
		return strings.Contains(out, "of ConfigMap kube-system/coredns, applied ") && strings.Contains(out, "why      Service shop/web exists (resourceVersion ") &&
			strings.Contains(out, ", but labels dns=yes excludes it\n"), out
	})
	setConfigMap(t, stanza("nonsense"))
	cluster.Eventually(t, bound, func() (bool, string) {
		out, _ := explain(t, "-server", page, "web.shop.svc.cluster.local.")
		return strings.Contains(out, "stanza   the ConfigMap's newest one is refused, so this is the last good one: ConfigMap kube-system/coredns key Corefile:"), out
	})

	proxy.Stop()
	type report struct {
		Well     bool
		Problems []string
		Blocks   []struct {
			Text  string
			Edits []struct{ Verdict string }
		}
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		r := getJSON[report](t, page+"/index.json")
		all := strings.Join(r.Problems, "\n")
		return !r.Well && strings.Contains(all, "has not replied since") && strings.Contains(all, "is refused, and the last good one serves"), all
	})
	r := getJSON[report](t, page+"/index.json")
	if e := r.Blocks[0].Edits; len(e) < 2 || !strings.HasPrefix(e[0].Verdict, "refused: ") || e[1].Verdict != "applied" {
		t.Errorf("edits %v", e)
	}
	if !strings.Contains(r.Blocks[0].Text, "labels dns=yes\n") {
		t.Errorf("the stanza is shown as %q", r.Blocks[0].Text)
	}
	if out, _ := explain(t, "-server", page, "wbe.shop.svc.cluster.local."); !strings.Contains(out, "the Service can't be requested: ") ||
		!strings.Contains(out, "age      Kubernetes API "+proxy.URL+" has not replied since ") {
		t.Errorf("without the API server:\n%s", out)
	}
}

func getJSON[T any](t *testing.T, url string) (v T) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return v
}

const pageCorefile = `.:PORT {
	bind 127.0.0.1
	ready READY
	kubehosts {
		status %s
		hosts {
			192.0.2.1 %s
		}
	}
}
`

// A reload of the Corefile preserves the socket of the page and its connections, and moves it if the option changes. An
// address in use prevents a start and a reload.
func TestStatusReload(t *testing.T) {
	first, second := freeAddress(), freeAddress()
	c := cluster.Run(t, coredns(t), fmt.Sprintf(pageCorefile, first, "one.example.org"))
	conn, err := net.Dial("tcp", first)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	answered := func(name string) (bool, string) {
		fmt.Fprintf(conn, "GET /explain.json?name=%s. HTTP/1.1\r\nHost: %s\r\n\r\n", name, first)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("the connection did not outlive a reload: %v", err)
		}
		defer resp.Body.Close()
		var r struct{ Answered bool }
		if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
			t.Fatal(err)
		}
		return r.Answered, "an answer for " + name
	}
	reloaded := func(corefile, line string) {
		before := strings.Count(c.Log(), line)
		c.Write(t, corefile)
		c.Reload(t)
		cluster.Eventually(t, bound, func() (bool, string) { return strings.Count(c.Log(), line) > before, line })
	}
	cluster.Eventually(t, bound, func() (bool, string) { return answered("one.example.org") })
	reloaded(fmt.Sprintf(pageCorefile, first, "two.example.org"), "Reloading complete")
	cluster.Eventually(t, bound, func() (bool, string) { return answered("two.example.org") })

	taken, err := net.Listen("tcp", second)
	if err != nil {
		t.Fatal(err)
	}
	reloaded(fmt.Sprintf(pageCorefile, second, "three.example.org"), "the status page can't listen on "+second)
	if ok, _ := answered("two.example.org"); !ok {
		t.Error("a reload that failed took effect")
	}
	d := cluster.Launch(t, coredns(t), fmt.Sprintf(pageCorefile, second, "x.example.org"))
	cluster.Eventually(t, bound, func() (bool, string) { return d.Ended(), "the end of a process whose page has no address" })
	if want := "the status page can't listen on " + second; !strings.Contains(d.Log(), want) {
		t.Errorf("no %q in\n%s", want, d.Log())
	}

	taken.Close()
	reloaded(fmt.Sprintf(pageCorefile, second, "three.example.org"), "Reloading complete")
	cluster.Eventually(t, bound, func() (bool, string) {
		out, code := explain(t, "-server", "http://"+second, "three.example.org.")
		return code == 0, out
	})
	cluster.Eventually(t, bound, func() (bool, string) {
		again, err := net.Dial("tcp", first)
		if err == nil {
			again.Close()
		}
		return err != nil, "the end of the page at " + first
	})
}
