package host

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// applyAddresses makes want the only addresses of the TUN. A link-local one goes too: one made before addrgenmode
// was set would stay.
func (h *Host) applyAddresses(l *ledger, tun netlink.Link, want []netip.Prefix) error {
	have, err := h.addresses(tun, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	name := tun.Attrs().Name
	thing := func(p netip.Prefix) string { return fmt.Sprintf("address %v on interface %s", p, name) }
	var changes []change
	found := make(map[netip.Prefix]bool)
	for _, a := range have {
		if p := prefixOf(a.IPNet); slices.Contains(want, p) && a.Peer == nil {
			found[p] = true
			l.found(thing(p))
			continue
		}
		changes = append(changes, change{what: fmt.Sprintf("remove address %v from interface %s", a.IPNet, name), do: func() error {
			return unless(unix.EADDRNOTAVAIL, h.nl.AddrDel(tun, &a))
		}})
	}
	for _, p := range want {
		if !found[p] {
			changes = append(changes, change{kind: KindAddress, what: "add " + thing(p), thing: thing(p), do: func() error { return h.nl.AddrAdd(tun, tunAddress(p)) }})
		}
	}
	return l.run(changes)
}

// tunAddress has an IPv6 address usable at once, since nobody else on the TUN could have it, and without the route
// that the kernel adds even for a /128 (inet6_addr_add, net/ipv6/addrconf.c), which would lack weft's mark.
func tunAddress(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNetOf(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	}
	return a
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// prefixOf is the zero Prefix for nil.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}

func ipNetOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
