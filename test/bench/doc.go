// Package bench measures kubehosts beside the stock plugins: the table and the plot of `make bench`.
//
// Each measurement runs in a process of its own: a coredns binary, or another instance of this test binary for
// in-process benchmarks. The objects come from a substitute for the API server that sends pre-encoded objects, so that
// its own time does not count. The time from a change to its answer, and a second measurement of the start, use the
// real API server.
package bench
