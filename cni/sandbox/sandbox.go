// Package sandbox keeps network namespaces that have a name and outlive the processes in them, in the form of `ip
// netns` (ip-netns(8)): each is a file below Dir that the namespace is mounted on.
package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Dir is where `ip netns` looks.
const Dir = "/run/netns"

// Path is where a namespace of that name is, or would be.
func Path(name string) string { return filepath.Join(Dir, name) }

// Exists says whether the name is in use, be it by half of a namespace that a killed Create has left.
func Exists(name string) bool {
	_, err := os.Lstat(Path(name))
	return err == nil
}

// Names returns the names in use, sorted.
func Names() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Links returns the names of the links in a namespace, but for those that the kernel makes in each. One that is half
// made or half removed, or not there, has none.
func Links(name string) ([]string, error) {
	var on unix.Statfs_t
	err := unix.Statfs(Path(name), &on)
	if errors.Is(err, unix.ENOENT) || err == nil && on.Type != unix.NSFS_MAGIC {
		return nil, nil
	}
	var links []netlink.Link
	if err == nil {
		links, err = linksAt(Path(name))
	}
	if err != nil {
		return nil, fmt.Errorf("list the links in network namespace %s: %w", name, err)
	}
	var names []string
	for _, l := range links {
		if a := l.Attrs(); a.Flags&net.FlagLoopback == 0 && !slices.Contains(fallbackLinks, a.Name) {
			names = append(names, a.Name)
		}
	}
	return names, nil
}

func linksAt(path string) ([]netlink.Link, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	return nl.LinkList()
}

// fallbackLinks are in every namespace once their modules are loaded (fb_tunnels_only_for_init_net,
// Documentation/admin-guide/sysctl/net.rst). Immutable.
var fallbackLinks = []string{"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}

// Create makes a namespace with its loopback interface up. An error wraps fs.ErrExist where the name is in use. A call
// that fails leaves nothing; one that is killed leaves what Delete removes.
func Create(name string) error {
	if err := prepare(Dir); err != nil {
		return fmt.Errorf("create network namespace %s: %w", name, err)
	}
	if Exists(name) {
		return fmt.Errorf("create network namespace %s: %w", name, fs.ErrExist)
	}
	err := onOwnThread(func() error {
		ns, err := netns.NewNamed(name)
		if err != nil {
			return err
		}
		defer ns.Close()
		return loopbackUp()
	})
	if err != nil && !errors.Is(err, fs.ErrExist) { // which is the name in use by another call
		err = errors.Join(err, Delete(name))
	}
	if err != nil {
		return fmt.Errorf("create network namespace %s: %w", name, err)
	}
	return nil
}

// prepare makes dir a shared mount the way `ip netns add` does, under the same lock (iproute2,
// ip/ipnetns.c). Left to the first `ip netns add` of the machine, that would cover the
// namespaces there are with copies of their mounts, and nobody could remove them any more.
func prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // not a mount yet
		if err := unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s on itself: %w", dir, err)
		}
		err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("share the mount %s: %w", dir, err)
	}
	return nil
}

// onOwnThread calls do, which changes the network namespace of its thread, and changes that back. A thread that cannot be
// is not unlocked, so that no other goroutine ever runs in the wrong namespace.
func onOwnThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err == nil {
			err = do()
			if netns.Set(home) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}
		done <- err
	}()
	return <-done
}

// loopbackUp is for the thread's namespace.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set its loopback interface up: %w", err)
	}
	return nil
}

// Delete removes the name, and with it the namespace where no process is in it. It accepts one that is half made or half
// removed: a file that nothing is mounted on, or no file.
func Delete(name string) error {
	path := Path(name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	return nil
}

// Interface is what a namespace is known by: a link with one of the addresses, if not all.
type Interface struct {
	Name      string
	Addresses []netip.Addr
}

// ErrOther is that of Exec where the path is of another namespace, as /proc/PID/ns/net may come to be.
var ErrOther = errors.New("it is not the pod's")

// Exec replaces this process by a program in the namespace at path, which has the interface and is not this process's, and
// returns only where that fails. As with `ip netns exec` the program sees /sys of its namespace, in a mount namespace of
// its own.
func Exec(path string, has Interface, program string, argv, environ []string) error {
	runtime.LockOSThread() // whose namespaces the program has (execve(2))
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer ns.Close()
	if err := has.in(ns); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	if err := remountSys(); err != nil {
		return fmt.Errorf("show /sys of network namespace %s: %w", path, err)
	}
	if err := unix.Exec(program, argv, environ); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return nil
}

// in is nil where the namespace has the interface.
func (i Interface) in(ns netns.NsHandle) error {
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	if ns.Equal(home) {
		return fmt.Errorf("%w, but the node's own", ErrOther)
	}
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	link, err := nl.LinkByName(i.Name)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return fmt.Errorf("%w, there is no %s in it", ErrOther, i.Name)
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", i.Name, err)
	}
	addresses, err := nl.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", i.Name, err)
	}
	for _, a := range addresses {
		if address, ok := netip.AddrFromSlice(a.IP); ok && slices.Contains(i.Addresses, address.Unmap()) {
			return nil
		}
	}
	return fmt.Errorf("%w, its %s has none of %v", ErrOther, i.Name, i.Addresses)
}

// remountSys gives the thread a mount namespace whose /sys is of its network namespace (netns_switch, iproute2, lib/namespace.c).
func remountSys() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	var on unix.Statfs_t
	if err := unix.Statfs("/sys", &on); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	flags := uintptr(0)
	if on.Flags&unix.ST_RDONLY != 0 { // as in containers, which must not become more than they are
		flags = unix.MS_RDONLY
	}
	// What is on /sys stays below; a busy one cannot be unmounted.
	return os.NewSyscallError("mount", unix.Mount("weft", "/sys", "sysfs", flags, ""))
}
