// Package main is etcd and kube-apiserver in one binary, built out of Go modules, so that a machine with nothing but
// Go and a module proxy can run the real API server. Like busybox it picks the program by the name it is called by:
//
//	ln -s kube etcd && ./etcd --data-dir ...
//	ln -s kube kube-apiserver && ./kube-apiserver --etcd-servers ...
//
// k8s.io/kubernetes is an ordinary module once every k8s.io module that its go.mod replaces by ./staging is replaced
// by the published one of the same release; see the replace block of this module's go.mod.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "called as %q: call it by a link named etcd or kube-apiserver\n", name)
		os.Exit(2)
	}
}
