package conformance

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/e2e/feature"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/e2e/network"
)

// TestMain does what upstream's does, but for the default of -kubeconfig: whoever runs all tests of this module, with
// KUBECONFIG set, does not want these to run on that cluster.
func TestMain(m *testing.M) {
	os.Unsetenv(clientcmd.RecommendedConfigPathEnvVar)
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if framework.TestContext.KubeConfig == "" {
		fmt.Fprintln(os.Stderr, "conformance: -kubeconfig is missing; make conformance starts a cluster and runs these tests on it")
		os.Exit(2)
	}
	framework.AfterReadingAllFlags(&framework.TestContext)
	os.Exit(m.Run())
}

func TestE2E(t *testing.T) { e2e.RunE2ETests(t) }
