package wiring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// pod is a pod's network namespace. Whoever has it from enter closes it.
type pod struct {
	ns *os.File
	nl *netlink.Handle
}

// enter opens the network namespace at path: ErrNamespace where that is none, or the node's own.
func (w *Wiring) enter(path string) (*pod, error) {
	ns, err := openNamespace(path)
	if err != nil {
		return nil, err
	}
	home, homeErr := w.home.Stat()
	info, err := ns.Stat()
	if err := errors.Join(homeErr, err); err != nil {
		ns.Close()
		return nil, fmt.Errorf("look up the network namespace %s: %w", path, err)
	}
	if os.SameFile(home, info) {
		ns.Close()
		return nil, fmt.Errorf("%s: %w, but the node's own", path, ErrNamespace)
	}
	nl, err := dial(ns)
	if err != nil {
		ns.Close()
		return nil, err
	}
	return &pod{ns: ns, nl: nl}, nil
}

func (p *pod) close() {
	p.nl.Close()
	p.ns.Close()
}

// openNamespace opens without blocking, since path may be of anything, a FIFO say.
func openNamespace(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace %q: %w: %w", path, ErrNamespace, err)
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, ErrNamespace)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// enableIPv6 lets the interface have IPv6 addresses where disable_ipv6 has taken that away, which some runtimes do to
// every pod.
func enableIPv6(ns *os.File, ifname string) error {
	path := "/proc/sys/net/ipv6/conf/" + ifname + "/disable_ipv6"
	err := inside(ns, func() error { return os.WriteFile(path, []byte("0"), 0) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("the kernel has no IPv6: give the node blocks of IPv4 only, or boot without `ipv6.disable=1`")
	case err != nil:
		return fmt.Errorf("enable IPv6 on interface %s: %w", ifname, err)
	}
	return nil
}

// inside calls do on a thread in the network namespace: the calling one, or another that ends with it. Who has changed a thread's namespace has locked it.
func inside(ns *os.File, do func() error) error {
	if isHere(ns) {
		return do()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime destroys the thread
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// isHere says whether the calling thread is in the network namespace. A socket in there takes no setns(2) then, which
// asks for CAP_SYS_ADMIN: weftd as a service has CAP_NET_ADMIN only.
func isHere(ns *os.File) bool {
	here, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return false
	}
	there, err := ns.Stat()
	return err == nil && os.SameFile(here, there)
}
