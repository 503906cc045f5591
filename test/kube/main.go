// Package main is etcd and kube-apiserver in one binary, built from Go modules, so that a machine with only Go and a
// module proxy can run the real API server. Like busybox it selects the program by the name that it is run as:
//
//	ln -s kube etcd && ./etcd --data-dir ...
//	ln -s kube kube-apiserver && ./kube-apiserver --etcd-servers ...
//	ln -s kube etcd-restore && ./etcd-restore --data-dir ... SNAPSHOT
//
// k8s.io/kubernetes is an ordinary module once every k8s.io module that its go.mod replaces by ./staging is replaced
// by the published one of the same release; see the replace block of this module's go.mod.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/zap"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "etcd-restore":
		if err := restore(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "called as %q: call it by a link named etcd, kube-apiserver or etcd-restore\n", name)
		os.Exit(2)
	}
}

// restore is `etcdutl snapshot restore`, for a cluster of one member.
func restore() error {
	dir := flag.String("data-dir", "", "folder that is made")
	peer := flag.String("peer-url", "", "of the member")
	bump := flag.Uint64("bump-revision", 0, "by how much the revision is raised; what is below is marked as compacted then")
	flag.Parse()
	return snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: flag.Arg(0), OutputDataDir: *dir, Name: "default",
		PeerURLs: []string{*peer}, InitialCluster: "default=" + *peer, InitialClusterToken: "etcd-cluster",
		RevisionBump: *bump, MarkCompacted: *bump > 0,
	})
}
