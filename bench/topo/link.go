//go:build linux

package topo

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The next hops of routeOver. No interface has these addresses: they are known by permanent
// neighbour entries only. So the other end needs no address for it. Immutable.
var (
	linkGateway  = netip.MustParseAddr("169.254.1.1")
	linkGateway6 = netip.MustParseAddr("fe80::1")
)

// addVeth adds a veth pair, one end of it in ns and up, which it returns, the other in peer.
func (ns *Namespace) addVeth(name string, peer *Namespace, peerName string) (netlink.Link, error) {
	fd, err := netns.GetFromName(peer.name)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", peer.name, err)
	}
	defer fd.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: peerName, PeerNamespace: netlink.NsFd(fd)}
	if err := ns.handle.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add veth %s in %s with peer %s in %s: %w", name, ns.label, peerName, peer.label, err)
	}
	return ns.upLink(name)
}

// upLink sets a link up and returns it.
func (ns *Namespace) upLink(name string) (netlink.Link, error) {
	link, err := ns.handle.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s in %s: %w", name, ns.label, err)
	}
	if err := ns.handle.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set %s up in %s: %w", name, ns.label, err)
	}
	return link, nil
}

func (ns *Namespace) setMTU(link netlink.Link, mtu int) error {
	if err := ns.handle.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s in %s to %d: %w", link.Attrs().Name, ns.label, mtu, err)
	}
	return nil
}

func (ns *Namespace) addAddr(link netlink.Link, prefix netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // else it is ready only after work that the kernel puts off
	}
	if err := ns.handle.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add %s to %s in %s: %w", prefix, link.Attrs().Name, ns.label, err)
	}
	return nil
}

func (ns *Namespace) addRoute(route *netlink.Route) error {
	if err := ns.handle.RouteAdd(route); err != nil {
		return fmt.Errorf("add route %s in %s: %w", route, ns.label, err)
	}
	return nil
}

// routeOver sends what goes to dst over link, whose other end is other. Neither side resolves an address.
func (ns *Namespace) routeOver(link, other netlink.Link, dst netip.Prefix) error {
	gateway := linkGateway
	if dst.Addr().Is6() {
		gateway = linkGateway6
	}
	if err := ns.addNeighbour(link, gateway, other); err != nil {
		return err
	}
	return ns.addRoute(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: ipNet(dst), Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	})
}

// addNeighbour tells ns for good that addr is at the other end of link.
func (ns *Namespace) addNeighbour(link netlink.Link, addr netip.Addr, other netlink.Link) error {
	neighbour := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT,
		IP: addr.AsSlice(), HardwareAddr: other.Attrs().HardwareAddr,
	}
	if err := ns.handle.NeighSet(neighbour); err != nil {
		return fmt.Errorf("add neighbour %s to %s in %s: %w", addr, link.Attrs().Name, ns.label, err)
	}
	return nil
}

func hostPrefix(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// unspecified is the zero address of addr's family.
func unspecified(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// lastByte returns addr with another last byte.
func lastByte(addr netip.Addr, last byte) netip.Addr {
	octets := addr.AsSlice()
	octets[len(octets)-1] = last
	other, _ := netip.AddrFromSlice(octets) // of a valid length
	return other
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
