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

const (
	nodeLink = "eth0" // in a node, to the underlay
	podLink  = "eth0" // in a pod, to its node
)

// podGateway is the next hop of every pod: an address no interface has, known to the pod by
// a permanent neighbour entry only. So each pod needs one address, and its node none for it.
// Immutable.
var podGateway = netip.MustParseAddr("169.254.1.1")

// A Node is a host: eth0 on the underlay with a default route, which is where weftd looks for
// its underlay interface. It does not forward until someone sets ip_forward in it.
type Node struct {
	*Namespace
	Addr netip.Addr // on the underlay

	port netlink.Link // the bridge's end of eth0, in the underlay
}

// Node adds a node with the next free underlay address: 198.51.100.1/24, then .2 and so on.
func (t *Topology) Node(name string) (*Node, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("add node: %w", err)
	}
	addr, err := t.nextUnderlayAddr()
	if err != nil {
		return nil, fmt.Errorf("add node %s: %w", name, err)
	}
	ns, err := t.addNamespace(name)
	if err != nil {
		return nil, fmt.Errorf("add node %s: %w", name, err)
	}
	n := &Node{Namespace: ns, Addr: addr}
	if err := n.connect(); err != nil {
		return nil, fmt.Errorf("add node %s: %w", name, err)
	}
	return n, nil
}

func (t *Topology) nextUnderlayAddr() (netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes++
	octets := underlayPrefix.Addr().As4()
	octets[3] = byte(t.nodes)
	addr := netip.AddrFrom4(octets)
	if t.nodes >= int(underlayGateway.As4()[3]) {
		return netip.Addr{}, fmt.Errorf("the underlay %s has no free address", underlayPrefix)
	}
	return addr, nil
}

func (n *Node) connect() error {
	underlay := n.topology.underlay
	port, err := underlay.addVeth(n.label, n.Namespace, nodeLink)
	if err != nil {
		return err
	}
	n.port = port
	if err := n.Plug(); err != nil {
		return err
	}
	eth0, err := n.upLink(nodeLink)
	if err != nil {
		return err
	}
	if err := n.addAddr(eth0, netip.PrefixFrom(n.Addr, underlayPrefix.Bits())); err != nil {
		return err
	}
	return n.addRoute(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: underlayGateway.AsSlice()})
}

// Unplug takes the node off the underlay bridge. Its eth0 keeps carrier and address, as when
// a switch between two hosts fails.
func (n *Node) Unplug() error {
	if err := n.topology.underlay.handle.LinkSetNoMaster(n.port); err != nil {
		return fmt.Errorf("unplug %s: %w", n.label, err)
	}
	return nil
}

// Plug puts the node back on the underlay bridge.
func (n *Node) Plug() error {
	if err := n.topology.underlay.handle.LinkSetMaster(n.port, n.topology.bridge); err != nil {
		return fmt.Errorf("plug %s: %w", n.label, err)
	}
	return nil
}

// SetMTU sets the MTU, in bytes, of both ends of the node's link to the underlay. The bridge
// follows the smallest of its nodes.
func (n *Node) SetMTU(mtu int) error {
	eth0, err := n.handle.LinkByName(nodeLink)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", nodeLink, n.label, err)
	}
	if err := n.handle.LinkSetMTU(eth0, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s in %s to %d: %w", nodeLink, n.label, mtu, err)
	}
	if err := n.topology.underlay.handle.LinkSetMTU(n.port, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s in the underlay to %d: %w", n.label, mtu, err)
	}
	return nil
}

// A Pod is a namespace with one address, routed by its node.
type Pod struct {
	*Namespace
	Addr netip.Addr

	node    *Node
	nodeEnd netlink.Link // in the node, named after the pod
}

// Pod adds a pod to the node: addr/32 on its eth0, everything else by way of the node, and in
// the node a route to addr by way of an interface named after the pod. Neither side needs ARP.
// The MTU is the veth default of 1500 until SetMTU.
func (n *Node) Pod(name string, addr netip.Addr) (*Pod, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("add pod to %s: %w", n.label, err)
	}
	ns, err := n.topology.addNamespace(n.label + "-" + name)
	if err != nil {
		return nil, fmt.Errorf("add pod %s to %s: %w", name, n.label, err)
	}
	p := &Pod{Namespace: ns, Addr: addr, node: n}
	if err := p.connect(name); err != nil {
		return nil, fmt.Errorf("add pod %s to %s: %w", name, n.label, err)
	}
	return p, nil
}

func (p *Pod) connect(nodeEnd string) (err error) {
	if p.nodeEnd, err = p.node.addVeth(nodeEnd, p.Namespace, podLink); err != nil {
		return err
	}
	eth0, err := p.upLink(podLink)
	if err != nil {
		return err
	}
	if err := p.addAddr(eth0, hostPrefix(p.Addr)); err != nil {
		return err
	}
	if err := p.addNeighbour(eth0, podGateway, p.nodeEnd); err != nil {
		return err
	}
	if err := p.addRoute(&netlink.Route{
		LinkIndex: eth0.Attrs().Index, Gw: podGateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	}); err != nil {
		return err
	}
	if err := p.node.addNeighbour(p.nodeEnd, p.Addr, eth0); err != nil {
		return err
	}
	return p.node.addRoute(&netlink.Route{
		LinkIndex: p.nodeEnd.Attrs().Index, Dst: ipNet(hostPrefix(p.Addr)), Scope: netlink.SCOPE_LINK,
	})
}

// SetMTU sets the MTU, in bytes, of both ends of the pod's link. Pods need the overlay's.
func (p *Pod) SetMTU(mtu int) error {
	eth0, err := p.handle.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", podLink, p.label, err)
	}
	if err := p.handle.LinkSetMTU(eth0, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s in %s to %d: %w", podLink, p.label, mtu, err)
	}
	if err := p.node.handle.LinkSetMTU(p.nodeEnd, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s in %s to %d: %w", p.nodeEnd.Attrs().Name, p.node.label, mtu, err)
	}
	return nil
}

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

func (ns *Namespace) addAddr(link netlink.Link, prefix netip.Prefix) error {
	if err := ns.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(prefix)}); err != nil {
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

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
