package host

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch sends a token whenever a link, an address, a route, a rule, or a forwarding or rp_filter sysctl of either
// family changed in the kernel, whoever changed it: after an Apply that changed something there is one too. Changes
// that come while a token waits to be taken are covered by it, so whoever takes one and then looks has seen them
// all. The channel is closed when ctx is done and the goroutine behind it has ended, or earlier if the socket fails.
func (h *Host) Watch(ctx context.Context) (<-chan struct{}, error) {
	return follow(ctx, unix.NETLINK_ROUTE, routeGroups())
}

// WatchRules is Watch for the rules of nftables: there is a token after every transaction, whoever made it.
func (h *Host) WatchRules(ctx context.Context) (<-chan struct{}, error) {
	return follow(ctx, unix.NETLINK_NETFILTER, []int{unix.NFNLGRP_NFTABLES})
}

func follow(ctx context.Context, protocol int, groups []int) (<-chan struct{}, error) {
	socket, err := subscribe(protocol, groups)
	if err != nil {
		return nil, fmt.Errorf("subscribe to the kernel's network changes: %w", err)
	}
	changed := make(chan struct{}, 1)
	go relay(ctx, socket, changed)
	return changed, nil
}

func routeGroups() []int {
	return []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF}
}

// subscribe returns a netlink socket on which the kernel announces changes to the groups.
func subscribe(protocol int, numbers []int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	var groups uint32
	for _, g := range numbers {
		groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// relay turns messages into tokens until ctx is done. It owns socket and changed.
func relay(ctx context.Context, socket *os.File, changed chan<- struct{}) {
	defer close(changed)
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer func() {
		if stop() {
			socket.Close()
		}
	}()
	buf := make([]byte, 1) // what a message says is not looked at, and the rest of it is dropped
	for {
		// ENOBUFS: the kernel had messages that found no room, of changes all the same.
		if _, err := socket.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}
