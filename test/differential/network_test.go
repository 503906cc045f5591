package differential

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"
)

// The addresses of this machine in a network of its own, besides loopback. The servers consider them the addresses at
// which clients reach them.
const (
	ownAddr4 = "192.0.2.53"
	ownAddr6 = "2001:db8::53"
)

// isolated is whether the tests have a network of their own: a private loopback interface with ownAddr4 and ownAddr6.
var isolated bool

const inside = "DIFFERENTIAL_INSIDE"

// inNetworkOfItsOwn runs the test binary again in a new network namespace and returns its exit code. There the servers
// can listen on all addresses, and nothing from outside reaches them. done is false inside, and if the kernel can't
// create a namespace: then the servers listen on 127.0.0.1, and the tests do not query their own addresses.
func inNetworkOfItsOwn() (code int, done bool) {
	if os.Getenv(inside) != "" {
		if err := raiseLoopback(); err != nil {
			fmt.Println(err)
			return 1, true
		}
		isolated = true
		return 0, false
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // the kernel sends Pdeathsig when the thread that forked ends
	if err := cmd.Start(); err != nil {
		fmt.Printf("no network namespace (%v): servers are bound to 127.0.0.1, their own addresses are not asked for\n", err)
		return 0, false
	}
	if cmd.Wait() != nil {
		return max(1, cmd.ProcessState.ExitCode()), true
	}
	return 0, true
}

// raiseLoopback brings up the interface lo of a new network namespace, with this machine's addresses.
func raiseLoopback() error {
	var v4 struct {
		name   [syscall.IFNAMSIZ]byte
		family uint16
		port   uint16
		addr   [4]byte
		_      [16]byte
	}
	copy(v4.name[:], "lo:1")
	v4.family, v4.addr = syscall.AF_INET, [4]byte{192, 0, 2, 53}
	var flags struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(flags.name[:], "lo")
	flags.flags = syscall.IFF_UP
	route := struct { // struct rtentry
		_                 uint64
		dst, gateway, net syscall.RawSockaddrInet4
		flags             uint16
		_                 [2]uint64
		metric            int16
		dev               *byte
		_                 [4]uint64
	}{flags: syscall.RTF_UP, dev: &append([]byte("lo"), 0)[0]}
	route.dst.Family, route.gateway.Family, route.net.Family = syscall.AF_INET, syscall.AF_INET, syscall.AF_INET
	v6 := struct {
		addr  [16]byte
		bits  uint32
		index int32
	}{[16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 0x53}, 128, 1}

	for _, call := range []struct {
		what   string
		family int
		ioctl  uintptr
		arg    unsafe.Pointer
	}{
		{"raise lo", syscall.AF_INET, syscall.SIOCSIFFLAGS, unsafe.Pointer(&flags)},
		{"give lo " + ownAddr4, syscall.AF_INET, syscall.SIOCSIFADDR, unsafe.Pointer(&v4)},
		{"make lo the default route, which kube-apiserver looks for", syscall.AF_INET, syscall.SIOCADDRT, unsafe.Pointer(&route)},
		{"give lo " + ownAddr6, syscall.AF_INET6, syscall.SIOCSIFADDR, unsafe.Pointer(&v6)},
	} {
		fd, err := syscall.Socket(call.family, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", call.what, err)
		}
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), call.ioctl, uintptr(call.arg))
		syscall.Close(fd)
		if errno != 0 {
			return fmt.Errorf("%s: %w", call.what, errno)
		}
	}
	return nil
}
