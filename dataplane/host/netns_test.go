//go:build netns

package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNamespace moves the test into a network namespace of its own and opens a Host in it. The test's goroutine
// stays locked to its thread, which the runtime throws away with it; the namespace ends with its last descriptor.
func newNamespace(t *testing.T) *Host {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	h, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	must(t, h.nl.LinkSetUp(link(t, h, "lo")))
	// Duplicate address detection would confirm link-local addresses, with events and routes, in the midst of a test.
	setSysctl(t, "net/ipv6/conf/default/accept_dad", "0")
	return h
}

// newTUN makes a TUN as weft's device package does and returns its only queue. It vanishes with the descriptor.
func newTUN(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq(name)
	must(t, err)
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
	must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	must(t, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4))
	tun := os.NewFile(uintptr(fd), name) // after TUNSETIFF: before it the descriptor cannot be polled
	t.Cleanup(func() { tun.Close() })
	return tun
}

func newVeth(t *testing.T, h *Host, name, peer string, addrs ...string) netlink.Link {
	t.Helper()
	must(t, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer}))
	must(t, h.nl.LinkSetUp(link(t, h, name)))
	must(t, h.nl.LinkSetUp(link(t, h, peer)))
	for _, a := range addrs {
		must(t, h.nl.AddrAdd(link(t, h, name), &netlink.Addr{IPNet: hostNet(a), Flags: unix.IFA_F_NODAD}))
	}
	return link(t, h, name)
}

func link(t *testing.T, h *Host, name string) netlink.Link {
	t.Helper()
	l, err := h.nl.LinkByName(name)
	must(t, err)
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hostNet(prefix string) *net.IPNet {
	p := netip.MustParsePrefix(prefix)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// sysctlValue reads in the namespace of the test's thread.
func sysctlValue(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/" + path)
	must(t, err)
	return strings.TrimSpace(string(b))
}

func setSysctl(t *testing.T, path, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/"+path, []byte(value), 0o644))
}

// apply is an Apply that must succeed.
func apply(t *testing.T, h *Host, s State) (repaired []string) {
	t.Helper()
	repairs, err := h.Apply(s)
	must(t, err)
	for _, r := range repairs {
		repaired = append(repaired, r.What)
	}
	return repaired
}

// routeList writes the main table and [Table] as `ip route` does, sorted. The kernel's routes to link-local
// addresses are left out, since they appear when it has made one.
func routeList(t *testing.T, h *Host) []string {
	t.Helper()
	routes, err := h.routes()
	must(t, err)
	links, err := h.links()
	must(t, err)
	var list []string
	for _, r := range routes {
		if prefixOf(r.Dst) != netip.MustParsePrefix("fe80::/64") {
			list = append(list, namesOf(links).describe(r))
		}
	}
	slices.Sort(list)
	return list
}

// ruleList describes the rules of both families, in their order.
func ruleList(t *testing.T, h *Host) []string {
	t.Helper()
	var list []string
	for _, family := range families() {
		rules, err := h.rules(family)
		must(t, err)
		for _, r := range rules {
			list = append(list, fmt.Sprintf("%s proto %d", describeRule(r), r.Protocol))
		}
	}
	return list
}

// snapshot writes down every link, address, route and rule of the namespace.
func snapshot(t *testing.T, h *Host) []string {
	t.Helper()
	links, err := h.links()
	must(t, err)
	var list []string
	for _, l := range links {
		a := l.Attrs()
		list = append(list, fmt.Sprintf("link %s mtu %d qlen %d gso %d alias %q flags %v", a.Name, a.MTU, a.TxQLen, a.GSOMaxSegs, a.Alias, a.Flags))
		addrs, err := h.addresses(l, netlink.FAMILY_ALL)
		must(t, err)
		for _, addr := range addrs {
			list = append(list, fmt.Sprintf("address %s %v", a.Name, addr.IPNet))
		}
	}
	return append(append(list, routeList(t, h)...), ruleList(t, h)...)
}

// events is a subscription to every change of links, addresses, routes, rules and per-interface parameters. The kernel
// queues an event before it answers the request that caused it, so what is not there when Apply has returned
// does not come from it.
type events struct{ fd int }

func watch(t *testing.T) events {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	groups := uint32(0)
	for _, g := range []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF} {
		groups |= 1 << (g - 1)
	}
	must(t, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}))
	return events{fd}
}

// take returns the message types that have come since the last call.
func (e events) take(t *testing.T) []uint16 {
	t.Helper()
	var types []uint16
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(e.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return types
		}
		must(t, err)
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			length := int(nl.NativeEndian().Uint32(b))
			types = append(types, nl.NativeEndian().Uint16(b[4:]))
			b = b[min(len(b), (length+3)&^3):]
		}
	}
}

const virtioNetHdrLen = 10 // struct virtio_net_hdr, linux/virtio_net.h
