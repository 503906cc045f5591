package cluster

import "testing"

// The memory controller is found on machines with version 1, version 2 and both.
func TestMemoryHierarchy(t *testing.T) {
	const (
		v1     = "36 35 0:30 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
		other  = "37 35 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
		v2     = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
		hybrid = "38 35 0:32 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n"
		disk   = "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	)
	for _, tt := range []struct {
		mountinfo, root string
		files           *cgroupFiles
	}{
		{disk + v2, "/sys/fs/cgroup", cgroupV2},
		{disk + other + v1, "/sys/fs/cgroup/memory", cgroupV1},
		{hybrid + other + v1, "/sys/fs/cgroup/memory", cgroupV1},
		{v1 + hybrid, "/sys/fs/cgroup/memory", cgroupV1},
		{hybrid + other, "/sys/fs/cgroup/unified", cgroupV2},
		{disk, "", nil},
		{"", "", nil},
	} {
		root, files, err := memoryHierarchy(tt.mountinfo)
		if root != tt.root || files != tt.files || (err == nil) != (files != nil) {
			t.Errorf("%q: %q %v %v, want %q %v", tt.mountinfo, root, files, err, tt.root, tt.files)
		}
	}
}
