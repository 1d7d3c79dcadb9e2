//go:build linux

package topo

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

const nodeLink = "eth0" // in a node, to the underlay

// The underlay, of documentation prefixes that no real network uses (RFC 5737, RFC 3849). The gateway is every
// node's default route: router A of a topology with remote nodes, and nobody in one without. Immutable.
var (
	underlayPrefix   = netip.MustParsePrefix("198.51.100.0/24")
	underlayPrefix6  = netip.MustParsePrefix("2001:db8:77::/64")
	underlayGateway  = netip.MustParseAddr("198.51.100.254")
	underlayGateway6 = netip.MustParseAddr("2001:db8:77::fe")
)

// A Node is a host: eth0 on the underlay with a default route, which is where weftd looks for
// its underlay interface. It does not forward until someone sets ip_forward in it.
type Node struct {
	*Namespace
	Addr  netip.Addr // on the underlay
	Addr6 netip.Addr // the same of IPv6; zero before EnableIPv6

	eth0 netlink.Link
	far  *Namespace   // where eth0 leads: the underlay, or the router of a remote node
	port netlink.Link // the end of eth0 there, named after the node
	ipv6 access       // what EnableIPv6 gives eth0
}

// An access is what a host needs in a network: an address with the network's length, and a router.
type access struct {
	addr   netip.Prefix
	router netip.Addr
}

// Node adds a node with the next free underlay address: 198.51.100.1/24, then .2 and so on.
func (t *Topology) Node(name string) (*Node, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("add node: %w", err)
	}
	number, err := t.nextNode()
	if err != nil {
		return nil, fmt.Errorf("add node %s: %w", name, err)
	}
	n, err := t.addNode(name, t.underlay, accessIn(underlayPrefix, number, underlayGateway))
	if err != nil {
		return nil, fmt.Errorf("add node %s: %w", name, err)
	}
	n.ipv6 = accessIn(underlayPrefix6, number, underlayGateway6)
	if err := n.Plug(); err != nil {
		return nil, fmt.Errorf("add node %s: %w", name, err)
	}
	return n, nil
}

// nextNode returns 1 for the first node.
func (t *Topology) nextNode() (byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes++
	if t.nodes >= int(underlayGateway.As4()[3]) {
		return 0, fmt.Errorf("the underlay %s has no free address", underlayPrefix)
	}
	return byte(t.nodes), nil
}

// accessIn is that of the host whose address ends in number.
func accessIn(network netip.Prefix, number byte, router netip.Addr) access {
	return access{addr: netip.PrefixFrom(lastByte(network.Addr(), number), network.Bits()), router: router}
}

// addNode makes a node with IPv4 whose eth0 leads to far.
func (t *Topology) addNode(name string, far *Namespace, ipv4 access) (*Node, error) {
	ns, err := t.addNamespace(name)
	if err != nil {
		return nil, err
	}
	n := &Node{Namespace: ns, Addr: ipv4.addr.Addr(), far: far}
	if n.port, err = far.addVeth(name, ns, nodeLink); err != nil {
		return nil, err
	}
	if n.eth0, err = ns.upLink(nodeLink); err != nil {
		return nil, err
	}
	if err := n.join(ipv4); err != nil {
		return nil, err
	}
	return n, nil
}

// join gives eth0 its address and the node a default route.
func (n *Node) join(a access) error {
	if err := n.addAddr(n.eth0, a.addr); err != nil {
		return err
	}
	return n.addRoute(&netlink.Route{LinkIndex: n.eth0.Attrs().Index, Gw: a.router.AsSlice()})
}

// EnableIPv6 gives eth0 an IPv6 address, ready at once, and the node a default route: 2001:db8:77::1/64 for the
// first node, or what Remote says. It sets Addr6, and may be called once.
func (n *Node) EnableIPv6() error {
	if err := n.join(n.ipv6); err != nil {
		return fmt.Errorf("enable IPv6 on %s: %w", n.label, err)
	}
	n.Addr6 = n.ipv6.addr.Addr()
	return nil
}

// Unplug takes the node off the underlay bridge. Its eth0 keeps carrier and address, as when
// a switch between two hosts fails. A remote node is an error: Narrow.Cut does that.
func (n *Node) Unplug() error {
	if err := n.errIfRemote(); err != nil {
		return fmt.Errorf("unplug %s: %w", n.label, err)
	}
	if err := n.far.handle.LinkSetNoMaster(n.port); err != nil {
		return fmt.Errorf("unplug %s: %w", n.label, err)
	}
	return nil
}

// Plug puts the node back on the underlay bridge.
func (n *Node) Plug() error {
	if err := n.errIfRemote(); err != nil {
		return fmt.Errorf("plug %s: %w", n.label, err)
	}
	return n.topology.plug(n.port)
}

func (n *Node) errIfRemote() error {
	if n.far != n.topology.underlay {
		return errors.New("it is not on the bridge but behind routers, whose link Narrow.Cut cuts")
	}
	return nil
}

// plug makes a link in the underlay a port of the bridge.
func (t *Topology) plug(port netlink.Link) error {
	if err := t.underlay.handle.LinkSetMaster(port, t.bridge); err != nil {
		return fmt.Errorf("plug %s: %w", port.Attrs().Name, err)
	}
	return nil
}

// SetMTU sets the MTU, in bytes, of both ends of the node's link to the underlay. The bridge
// follows the smallest of its nodes.
func (n *Node) SetMTU(mtu int) error {
	return errors.Join(n.setMTU(n.eth0, mtu), n.far.setMTU(n.port, mtu))
}

// Sandbox adds a namespace to the topology, named after the node, that is connected to nothing yet.
func (n *Node) Sandbox(name string) (*Namespace, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("add a sandbox to %s: %w", n.label, err)
	}
	ns, err := n.topology.addNamespace(n.label + "-" + name)
	if err != nil {
		return nil, fmt.Errorf("add sandbox %s to %s: %w", name, n.label, err)
	}
	return ns, nil
}
