//go:build !linux

package check

func boundMemory() {}
