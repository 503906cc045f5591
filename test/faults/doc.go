// Package faults breaks what cluster DNS depends on, the real things, under a client that asks all the while and checks
// every answer against what was true in the last second. The run ends with a table.
package faults
