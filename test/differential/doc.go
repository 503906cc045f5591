// Package differential holds the proof that kubehosts answers as stock CoreDNS does: both binaries run side by side
// against one real API server, and every answer of one is compared with that of the other. It has tests only.
//
// The differences that are meant are in allowed_test.go, each with its name and its reason. Any other one fails the test
// with both messages.
package differential
