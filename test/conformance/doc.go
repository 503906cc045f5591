// Package conformance is Kubernetes' own end-to-end tests, those of network alone, as one test binary: upstream's
// e2e.test has all of them. It runs on a cluster that is there already, and takes upstream's flags. `make conformance`
// builds it, and test/e2e runs it on the cluster that it starts.
package conformance
