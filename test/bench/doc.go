// Package bench measures kubehosts beside the stock plugins: the table and the plot of `make bench`.
//
// Whatever is measured runs in a process of its own: a coredns binary, or this test binary once more for what is measured
// in process. The objects come from a stand-in for the API server that sends what was encoded before, so that none of its time
// is in the figures. What a change takes to be answered, and once more what a start takes, is measured with the real API server.
package bench
