package main

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// needed are the capabilities that weftd uses while it runs, as a mask: CAP_NET_ADMIN for links,
// routes, rules, nftables, sysctls, marks and buffers of sockets.
const needed = 1 << unix.CAP_NET_ADMIN

// optional are those that it keeps where the service manager left them: CAP_NET_RAW is for
// iptables-legacy, which weftd runs to look at the host's rules (xtables opens a raw socket),
// and for the packet socket of a trace.
const optional = 1 << unix.CAP_NET_RAW

// restrict drops privileges. The daemon lives on with those that it cannot drop.
func (d *daemon) restrict() {
	if err := dropPrivileges(); err != nil {
		warning := fmt.Sprintf("weftd keeps privileges that it does not need: %v", err)
		d.log.Warn(warning)
		d.warnings, d.standing = append(d.warnings, warning), append(d.standing, warning)
	}
}

// dropPrivileges has this process, in all its threads, give up for good what it does not use: by
// then files and sockets are open, and whoever took it over could neither load a module nor read
// others' files (capabilities(7), prctl(2)). The programs that weftd runs have no more.
func dropPrivileges() error {
	if err := dropBounding(needed | optional); err != nil {
		return err
	}
	// Nothing is inherited but by root's own rules, which the bounding set limits.
	if err := everyThread("clear the ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return err
	}
	if err := everyThread("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // capabilities 0 to 31, then 32 to 63
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	for i := range sets {
		keep := uint32((needed | optional) >> (32 * i) & 0xffffffff)
		sets[i] = unix.CapUserData{Effective: sets[i].Effective & keep, Permitted: sets[i].Permitted & keep}
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	if errno != 0 {
		return fmt.Errorf("drop capabilities: %w", errno)
	}
	return nil
}

// dropBounding takes all capabilities but those of the mask keep from the bounding set. A process
// may do without CAP_SETPCAP, as in a container, and then keeps the set: no_new_privs has it gain
// nothing by that.
func dropBounding(keep uint64) error {
	for c := uintptr(0); ; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // beyond the last that the kernel knows
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the capability bounding set: %w", err)
		}
		if has == 0 || keep>>c&1 == 1 {
			continue
		}
		err = everyThread("reduce the capability bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// everyThread makes a system call in each thread of the process, those of the Go runtime among
// them, since the kernel keeps credentials for each. It needs a build without cgo.
func everyThread(what string, call, a, b, c uintptr) error {
	// prctl(2) wants the arguments that it does not use to be 0.
	if _, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0); errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}
