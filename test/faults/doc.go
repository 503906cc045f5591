// Package faults breaks the real dependencies of cluster DNS while a client sends queries and checks every answer
// against what was true in the last second. The run ends with a table.
//
// What breaks, by file:
//
//   - server_test.go: the API server refuses connections, never answers, is halted, killed, slow, or down at the start
//   - memory_test.go: it is killed and started again, and memory is limited; stock beside it
//   - restore_test.go: its etcd is restored from a backup, so that it has an older state than the one kubehosts has read
//   - events_test.go: events of its watches get lost
//   - crd_test.go: the CustomResourceDefinition of ServiceImports appears and vanishes
//   - credentials_test.go: its certificate and the tokens that it accepts change
//   - process_test.go: the Corefile is reloaded, the ConfigMap edited, the volume of the snapshot full
//   - clock_linux_amd64_test.go: the clock jumps
//   - files_test.go and hostile_test.go: files and packets are malformed
//   - stock_test.go: stock goes through some of these too
//   - soak_test.go: several of these in random order
package faults
