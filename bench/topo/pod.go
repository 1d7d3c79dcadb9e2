//go:build linux

package topo

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

const podLink = "eth0" // in a pod, to its node

// A Pod is a namespace with one address of each family at the most, routed by its node.
type Pod struct {
	*Namespace
	Addr  netip.Addr
	Addr6 netip.Addr // zero before AddIPv6

	eth0    netlink.Link
	node    *Node
	nodeEnd netlink.Link // in the node, named after the pod
}

// Pod adds a pod to the node: addr/32 on its eth0, everything else by way of the node, and in
// the node a route to addr by way of an interface named after the pod. Neither side needs ARP.
// The MTU is the veth default of 1500 until SetMTU.
func (n *Node) Pod(name string, addr netip.Addr) (*Pod, error) {
	ns, err := n.Sandbox(name)
	if err != nil {
		return nil, err
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
	if p.eth0, err = p.upLink(podLink); err != nil {
		return err
	}
	return p.join(p.Addr)
}

// join gives the pod an address and a default route, and its node the way to it.
func (p *Pod) join(addr netip.Addr) error {
	if err := p.addAddr(p.eth0, hostPrefix(addr)); err != nil {
		return err
	}
	everything := netip.PrefixFrom(unspecified(addr), 0)
	if err := p.routeOver(p.eth0, p.nodeEnd, everything); err != nil {
		return err
	}
	if err := p.node.addNeighbour(p.nodeEnd, addr, p.eth0); err != nil {
		return err
	}
	return p.node.addRoute(&netlink.Route{
		LinkIndex: p.nodeEnd.Attrs().Index, Dst: ipNet(hostPrefix(addr)), Scope: netlink.SCOPE_LINK,
	})
}

// AddIPv6 gives the pod an IPv6 address, addr/128, ready at once and routed as the one it has. It sets Addr6,
// and may be called once.
func (p *Pod) AddIPv6(addr netip.Addr) error {
	if !addr.Is6() || addr.Is4In6() {
		return fmt.Errorf("add %s to %s: it is no IPv6 address", addr, p.label)
	}
	if err := p.join(addr); err != nil {
		return fmt.Errorf("add IPv6 to %s: %w", p.label, err)
	}
	p.Addr6 = addr
	return nil
}

// SetMTU sets the MTU, in bytes, of both ends of the pod's link. Pods need the overlay's.
func (p *Pod) SetMTU(mtu int) error {
	return errors.Join(p.setMTU(p.eth0, mtu), p.node.setMTU(p.nodeEnd, mtu))
}
