// Package differential tests that kubehosts answers like stock CoreDNS: both binaries run side by side with one real
// API server, and every answer of one is compared with that of the other. It has only tests.
//
// The intended differences are in allowed_test.go, each with a name and a reason. Any other difference fails the test
// with both messages.
package differential
