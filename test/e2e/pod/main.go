// Package main is the program in the pods of the cluster's tests: it keeps a pod's namespace open, and it is a DNS
// client that works like programs in pods. It is one static binary for an image FROM scratch.
//
//	pod wait                               ends on SIGTERM
//	pod cat FILE
//	pod lookup udp|tcp NAME...             addresses, from Go's own resolver and /etc/resolv.conf
//	pod ask SERVER udp|tcp NAME TYPE       one query, its reply in short
//	pod serve ADDRESS                      answers HTTP with the name of its pod and the requested host
//	pod get URL                            an HTTP request with Go's own resolver; prints status and body
//	pod watch NAME [SERVER]                a line whenever the answer changes, until stdin ends
//	pod load QPS NAME...                   queries full names until stdin ends; prints a line at the first answer, and
//	                                       a report in JSON at the end
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "wait":
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
		<-end
		return nil
	case len(args) == 2 && args[0] == "cat":
		b, err := os.ReadFile(args[1])
		os.Stdout.Write(b)
		return err
	case len(args) > 2 && args[0] == "lookup":
		return lookup(args[1], args[2:])
	case len(args) == 5 && args[0] == "ask":
		return ask(args[1], args[2], args[3], args[4])
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) == 2 && args[0] == "get":
		return get(args[1])
	case len(args) == 2 && args[0] == "watch":
		return watch(args[1], nameserver())
	case len(args) == 3 && args[0] == "watch":
		return watch(args[1], args[2])
	case len(args) > 2 && args[0] == "load":
		qps, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(load(nameserver(), qps, args[2:], stdinEnds()))
	}
	return errors.New("usage: pod wait | cat FILE | lookup udp|tcp NAMES | ask SERVER udp|tcp NAME TYPE | serve ADDRESS | get URL | watch NAME [SERVER] | load QPS NAMES")
}

// lookup resolves names like a Go program, with the search list and ndots of /etc/resolv.conf. It prints a line for
// each: the name and its addresses, or the error.
func lookup(network string, names []string) error {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	for _, name := range names {
		addrs, err := r.LookupHost(context.Background(), name)
		if err != nil {
			return err
		}
		fmt.Println(name, strings.Join(addrs, " "))
	}
	return nil
}

// ask prints the RCODE and the data of each record of the answer.
func ask(server, network, name, qtype string) error {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	m, _, err := (&dns.Client{Net: network}).Exchange(q, server)
	if err != nil {
		return err
	}
	fmt.Println(short(m))
	return nil
}

// short formats a reply: its RCODE and the data of the records in its answer.
func short(m *dns.Msg) string {
	words := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(words, " ")
}

// watch queries the A records of a full name every 2 milliseconds. It prints the time, in nanoseconds since 1970, and
// the answer whenever the answer changes.
func watch(name, server string) error {
	conn, err := dns.Dial("udp", server)
	if err != nil {
		return err
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	end, last := stdinEnds(), ""
	for tick := time.Tick(2 * time.Millisecond); ; <-tick {
		select {
		case <-end:
			return nil
		default:
		}
		m, _, err := (&dns.Client{Timeout: time.Second}).ExchangeWithConn(q, conn)
		if err != nil {
			continue // the server ends; the same socket queries the next one
		}
		if answer := short(m); answer != last {
			fmt.Println(time.Now().UnixNano(), answer)
			last = answer
		}
	}
}

// nameserver is the first nameserver of /etc/resolv.conf, with the port.
func nameserver() string {
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(conf.Servers) == 0 {
		fmt.Fprintln(os.Stderr, "no nameserver in /etc/resolv.conf:", err)
		os.Exit(1)
	}
	return net.JoinHostPort(conf.Servers[0], conf.Port)
}

// stdinEnds returns a channel that is closed when stdin is. The test at the other end of `kubectl exec` ends the
// program this way.
func stdinEnds() <-chan struct{} {
	c := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(c)
	}()
	return c
}
