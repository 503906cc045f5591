package follow

import (
	"context"
	"flag"
	"fmt"
	stdlog "log"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubehosts/kubehosts/build/corefile"
	"github.com/kubehosts/kubehosts/plugin/safe"
)

// Main is CoreDNS's main function, with the flags of this package. Without -configmap it is coremain.Run.
func Main() {
	flags := Register(flag.CommandLine)
	flag.Parse()
	conf := flag.Lookup("conf").Value.String()
	follows, err := flags.Check(conf)
	if err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		os.Exit(2)
	}
	if !follows || flag.NArg() > 0 || isSet("version") || isSet("plugins") {
		coremain.Run()
		return
	}
	New(flags, conf).run()
}

func isSet(name string) bool { return flag.Lookup(name).Value.String() == "true" }

// run is coremain.Run for a Corefile that is followed. It differs if a start fails: there may be another Corefile to
// start with.
func (f *Follower) run() {
	caddy.TrapSignals()
	if err := setLog(flag.Lookup("log-format").Value.String()); err != nil {
		stdlog.Fatal(safe.Line(err.Error()))
	}
	_ = flag.Set("conf", "") // CoreDNS's own loader must not load it
	caddy.RegisterCaddyfileLoader("configmap", f)
	prometheus.MustRegister(f)

	input, err := caddy.LoadCaddyfile("dns")
	if err == nil && caddy.IsUpgrade() {
		err = f.adopt(input)
	}
	if err != nil {
		stdlog.Fatal(safe.Line(err.Error()))
	}
	instance, err := caddy.Start(input)
	if err != nil {
		f.startFailed(err)
	}
	if f.ahead != nil {
		f.ahead.Close()
	}
	if !dnsserver.Quiet {
		fmt.Printf("%s-%s\n%s/%s, %s, %s\n", caddy.AppName, caddy.AppVersion, runtime.GOOS, runtime.GOARCH, runtime.Version(), coremain.GitCommit)
	}
	f.mu.Lock()
	first := f.serving
	f.mu.Unlock()
	f.storeLater(first)
	safe.Go(context.Background(), "following the Corefile", f.follow)
	instance.Wait()
}

// adopt begins with the Corefile of the previous process, which passed it on with its sockets (SIGUSR2).
func (f *Follower) adopt(input caddy.Input) error {
	text, err := corefile.Read(corefile.Source{Name: input.Path(), Text: string(input.Body()), Dir: f.dir()}, f.imports)
	if err != nil {
		return err
	}
	s, err := newState(text, fromFile)
	if err != nil {
		return err
	}
	f.read, f.serving = s, s
	if err := f.listen(); err != nil {
		log.Warningf("%s can't be followed: %v", f.flags.configMap.object(), err)
		return nil
	}
	_ = f.awaitEvents(patience) // else imports might be missing for a moment
	return nil
}

// setLog sets up the log like coremain.Run.
func setLog(format string) error {
	if format != "text" {
		if err := clog.Configure(format, os.Stdout); err != nil {
			return err
		}
	}
	clog.SetOutput(os.Stdout)
	if !clog.IsJSON() {
		stdlog.SetFlags(coremain.LogFlags)
	}
	return nil
}

// startFailed replaces this process by a new one of the same program, and passes on that the start failed with the
// Corefile: CoreDNS does not close what it has opened. This terminates, as each attempt leaves one Corefile less to
// try.
func (f *Follower) startFailed(failed error) {
	f.mu.Lock()
	s := f.read
	f.mu.Unlock()
	failed = s.located(failed)
	log.Errorf("The server does not start with Corefile %s of %s: %v", s.hash, s.name, failed)
	program, err := os.Executable()
	if err == nil {
		tried := os.Getenv(notStarted) + s.hash + " " + strings.ReplaceAll(failed.Error(), "\n", " ") + "\n"
		if err = os.Setenv(notStarted, tried); err == nil {
			err = syscall.Exec(program, os.Args, os.Environ()) // #nosec G204 -- this program itself
		}
	}
	stdlog.Fatal(safe.Line(fmt.Sprintf("%v; and it can't be started again: %v", failed, err)))
}
