package wiring

import (
	"fmt"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Release is Detach for a process that stays. It calls gone, once, as soon as the device is in none of the kernel's lists: then its name
// is free, and the pod's end, its routes and its guard are gone too. It returns when the kernel has freed the memory of all that, some 20 ms
// later (rcu_barrier in netdev_run_todo, net/core/dev.c). Where there was no device it does not call gone, nor after it has failed.
func (w *Wiring) Release(device string, gone func()) error {
	removals, stop, err := w.removals()
	if err != nil {
		return explain(fmt.Errorf("detach device %s: %w", device, err))
	}
	defer stop()
	done := make(chan error, 1)
	var unguarded atomic.Bool
	go func() { done <- w.detach(device, func() { unguarded.Store(true) }) }()
	for {
		select {
		case err := <-done:
			return err
		case name, more := <-removals:
			if !more {
				return <-done
			}
			if name != device {
				continue
			}
			if unguarded.Load() { // else its guard is left, and done says why
				gone()
			}
			return <-done
		}
	}
}

// removals are the names of links that are removed in the node's namespace from now on, until stop. It is closed before where the kernel had more of
// them than there was room for.
func (w *Wiring) removals() (names <-chan string, stop func(), err error) {
	at := netns.None()
	if !isHere(w.home) {
		at = netns.NsHandle(w.home.Fd())
	}
	updates, quit := make(chan netlink.LinkUpdate), make(chan struct{})
	err = netlink.LinkSubscribeWithOptions(updates, quit, netlink.LinkSubscribeOptions{Namespace: &at})
	if err != nil {
		return nil, nil, fmt.Errorf("subscribe to the kernel's removals of links: %w", err)
	}
	removed, ended := make(chan string), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(removed)
		for u := range updates {
			// A bridge announces by the same message, of its own family, that it has lost a port.
			if u.Header.Type != unix.RTM_DELLINK || u.IfInfomsg.Family != unix.AF_UNSPEC {
				continue
			}
			select {
			case removed <- u.Attrs().Name:
			case <-quit:
			}
		}
	}()
	return removed, func() { close(quit); <-ended }, nil
}

// Namespace tells the network namespaces of a machine apart: the inode number of the calling thread's (namespaces(7)).
func Namespace() (inode uint64, err error) {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err != nil {
		return 0, fmt.Errorf("look up the node's network namespace: %w", err)
	}
	return stat.Ino, nil
}
