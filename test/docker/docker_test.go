package docker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const (
	out  = "../../build/image/out/" // from make image
	full = "kubehosts/coredns:dev"
	slim = "kubehosts/coredns:dev-slim"

	bound   = time.Minute // for waits that take seconds on an idle machine
	dockerd = "1"         // its process, in the PID namespace
)

// The Corefile of a Linux host that serves its own /etc/hosts.
const corefile = `. {
    errors
    kubehosts {
        hosts /etc/hosts
    }
}
`

// config is the configuration of an image.
type config struct {
	User, WorkingDir string
	ExposedPorts     map[string]struct{}
	Env, Entrypoint  []string
	Labels           map[string]string
}

func configOf(t *testing.T, image string) (c config) {
	t.Helper()
	if err := json.Unmarshal([]byte(docker(t, "inspect", "-f", "{{json .Config}}", image)), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// The tars built without an engine and the Dockerfile, with either of Docker's builders, make the same image. It
// serves /etc/hosts in each of Docker's networks.
func TestImage(t *testing.T) {
	docker(t, "load", "-i", out+"kubehosts.tar")
	docker(t, "load", "-i", out+"kubehosts-slim.tar")
	packed := configOf(t, full)
	labels := []string{
		"--build-arg", "VERSION=" + packed.Labels["org.opencontainers.image.version"],
		"--build-arg", "REVISION=" + packed.Labels["org.opencontainers.image.revision"],
		"--build-arg", "TARGETARCH=" + runtime.GOARCH, // BuildKit sets it, the classic builder does not
	}
	images := []string{full, slim}
	for _, b := range []struct{ image, binary, kit, like string }{
		{"built:classic", "coredns", "0", full},
		{"built:buildkit", "coredns-slim", "1", slim},
	} {
		args := append([]string{"build", "-q", "-t", b.image, "-f", "../../build/Dockerfile", "--build-arg", "BINARY=" + b.binary}, labels...)
		cmd := command(append(args, out+"root")...)
		cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT="+b.kit)
		run(t, cmd)
		if got, want := configOf(t, b.image), configOf(t, b.like); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", b.image, got, want)
		}
		images = append(images, b.image)
	}
	for _, image := range images {
		t.Run("host/"+image, func(t *testing.T) { testHost(t, image) })
	}
	t.Run("dropped", testDropped)
	t.Run("bridge", testBridge)
	t.Run("none", testNone)
}

// In the host's network, here that of dockerd, coredns itself opens port 53. Its user is not root, so this needs the
// file capability.
func testHost(t *testing.T, image string) {
	serve(t, image, "host")
	testServing(t, dockerd, "127.0.0.1:53")
}

// The kernel does not start a program with an effective file capability that it may not have. The stock image behaves
// the same.
func testDropped(t *testing.T) {
	out, err := command("run", "--rm", "--cap-drop", "ALL", full, "-version").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "operation not permitted") {
		t.Errorf("%v\n%s", err, out)
	}
}

// In Docker's bridge network a container has its own address, and ports of the host are forwarded to
// it.
func testBridge(t *testing.T) {
	serve(t, full, "bridge", "-p", "1053:53/udp", "-p", "1053:53/tcp")
	address := docker(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server")
	testServing(t, dockerd, address+":53")
	testServing(t, dockerd, "127.0.0.1:1053")
}

// Without a network there is only loopback, for other programs of the same container.
func testNone(t *testing.T) {
	serve(t, full, "none")
	pid := docker(t, "inspect", "-f", "{{.State.Pid}}", "server")
	testServing(t, pid, "127.0.0.1:53")
	testEdit(t, pid, "127.0.0.1:53")
}

// serve starts a container that may only open port 53, and may not write anywhere.
func serve(t *testing.T, image, network string, more ...string) {
	t.Helper()
	path := filepath.Join(folder, "Corefile")
	cluster.WriteFile(t, path, corefile)
	args := append([]string{"run", "-d", "--name", "server", "--network", network,
		"--read-only", "--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE",
		"-v", path + ":/Corefile:ro", "--add-host", "db.corp.example:192.0.2.10"}, more...)
	docker(t, append(args, image)...)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := command("logs", "server").CombinedOutput()
			t.Logf("%s", log)
		}
		docker(t, "rm", "-f", "server")
	})
}

// testServing queries the content of /etc/hosts at addr, in the network of a process of dockerd's PID
// namespace.
func testServing(t *testing.T, pid, addr string) {
	t.Helper()
	for _, proto := range []string{"udp", "tcp"} {
		cluster.Eventually(t, bound, func() (bool, string) {
			got := ask(pid, proto, addr, "db.corp.example.", dns.TypeA)
			return got == "192.0.2.10", proto + " " + addr + ": " + got
		})
		if got := ask(pid, proto, addr, "10.2.0.192.in-addr.arpa.", dns.TypePTR); got != "db.corp.example." {
			t.Errorf("%s %s, PTR: %s", proto, addr, got)
		}
	}
}

// testEdit adds a line to the file that the container sees as /etc/hosts, and queries it.
func testEdit(t *testing.T, pid, addr string) {
	t.Helper()
	path := filepath.Join(fmt.Sprintf("/proc/%d/root", server.Process.Pid), docker(t, "inspect", "-f", "{{.HostsPath}}", "server"))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("192.0.2.20\tmore.corp.example\n"); err != nil {
		t.Fatal(err)
	}
	took := cluster.Eventually(t, bound, func() (bool, string) {
		got := ask(pid, "udp", addr, "more.corp.example.", dns.TypeA)
		return got == "192.0.2.20", "after a line more in /etc/hosts: " + got
	})
	t.Logf("a line more in /etc/hosts is answered after %v", took.Round(time.Millisecond))
}

// ask sends one query from the network of a process, and returns the first record's data, or an error text.
func ask(pid, proto, addr, name string, qtype uint16) string {
	type result struct {
		conn *dns.Conn
		err  error
	}
	dialled := make(chan result)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine, and so does its use of the namespace
		var r result
		if r.err = enter(fmt.Sprintf("/proc/%d/root/proc/%s/ns/net", server.Process.Pid, pid)); r.err == nil {
			r.conn, r.err = (&dns.Client{Net: proto, Timeout: time.Second}).Dial(addr)
		}
		dialled <- r
	}()
	r := <-dialled
	if r.err != nil {
		return r.err.Error()
	}
	defer r.conn.Close()
	m := new(dns.Msg).SetQuestion(name, qtype)
	reply, _, err := (&dns.Client{Net: proto, Timeout: time.Second}).ExchangeWithConn(m, r.conn)
	if err != nil {
		return err.Error()
	}
	if len(reply.Answer) != 1 {
		return reply.String()
	}
	return strings.TrimPrefix(reply.Answer[0].String(), reply.Answer[0].Header().String())
}

// enter moves this thread into a network namespace.
func enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}
