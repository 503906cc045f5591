// Package faults breaks what cluster DNS depends on, the real things, under a client that asks all the while and checks
// every answer against what was true in the last second. The run ends with a table.
//
// What breaks, by file:
//
//   - server_test.go: the API server refuses connections, never answers, is halted, killed, slow, or down at the start
//   - memory_test.go: it is killed and started again, and memory is limited; stock beside it
//   - restore_test.go: its etcd is restored from a backup, so that it is in an older state than what was read
//   - events_test.go: events of its watches vanish on the way
//   - crd_test.go: the CustomResourceDefinition of ServiceImports appears and vanishes
//   - credentials_test.go: its certificate and the tokens that it takes change
//   - process_test.go: the Corefile is read again, the ConfigMap edited, the volume of the snapshot full
//   - clock_linux_amd64_test.go: the clock jumps
//   - files_test.go and hostile_test.go: files and packets are not what they should be
//   - soak_test.go: several of these in random order
package faults
