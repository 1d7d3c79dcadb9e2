//go:build linux

package topo

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
)

const (
	// No node can have a name with a hyphen, and its port is named after it.
	routerA    = "router-a" // its namespace, and its port of the bridge
	routerB    = "router-b"
	narrowLink = "narrow-link" // of both routers, to the other
	routerLink = "eth0"        // of router A, to the bridge
)

// Where remote nodes are (RFC 5737, RFC 3849). Each has a network of its own with router B. Immutable.
var (
	remotePrefix  = netip.MustParsePrefix("203.0.113.0/24")
	remotePrefix6 = netip.MustParsePrefix("2001:db8:113::/48")
)

// A Narrow is the link between the two routers that every packet between the bridge and a remote node
// takes. Its MTU may be smaller than that of both nodes' own links. Its methods may be called concurrently.
type Narrow struct {
	ends [2]narrowEnd // of router A, then of router B
}

type narrowEnd struct {
	router *Namespace
	link   netlink.Link
}

// Remote adds a node that is not on the underlay bridge but behind two routers, which all remote nodes share:
//
//	bridge - router A - the narrow link - router B - the node's eth0
//
// Nodes on the bridge reach it by their default route. Its address is 203.0.113.2/30 (and with EnableIPv6
// 2001:db8:113::2/64), that of the next one 203.0.113.6/30 (2001:db8:113:1::2/64), and so on. The routers know the
// way between these networks and the underlay's, and to nothing else. In a topology without remote nodes there
// are none, and nobody has the address of the default route.
func (t *Topology) Remote(name string) (*Node, *Narrow, error) {
	if err := checkName(name); err != nil {
		return nil, nil, fmt.Errorf("add remote node: %w", err)
	}
	n, narrow, err := t.addRemote(name)
	if err != nil {
		return nil, nil, fmt.Errorf("add remote node %s: %w", name, err)
	}
	return n, narrow, nil
}

func (t *Topology) addRemote(name string) (*Node, *Narrow, error) {
	narrow, err := t.narrow()
	if err != nil {
		return nil, nil, err
	}
	ipv4, ipv6, err := t.nextRemote()
	if err != nil {
		return nil, nil, err
	}
	router := narrow.ends[1].router
	n, err := t.addNode(name, router, ipv4)
	if err != nil {
		return nil, nil, err
	}
	n.ipv6 = ipv6
	for _, a := range []access{ipv4, ipv6} {
		if err := router.addAddr(n.port, netip.PrefixFrom(a.router, a.addr.Bits())); err != nil {
			return nil, nil, err
		}
	}
	return n, narrow, nil
}

// nextRemote carves the network of the next remote node out of each family's prefix: a /30 and a /64, in which
// router B is .1 and the node .2.
func (t *Topology) nextRemote() (ipv4, ipv6 access, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 256 / 4
	if t.remotes == most {
		return access{}, access{}, fmt.Errorf("the networks in %s are used up", remotePrefix)
	}
	base := byte(4 * t.remotes)
	network6 := remotePrefix6.Addr().As16()
	network6[7] = byte(t.remotes)
	t.remotes++
	addr6 := netip.AddrFrom16(network6)
	ipv4 = accessIn(netip.PrefixFrom(remotePrefix.Addr(), 30), base+2, lastByte(remotePrefix.Addr(), base+1))
	return ipv4, accessIn(netip.PrefixFrom(addr6, 64), 2, lastByte(addr6, 1)), nil
}

// addRouters makes both routers and the link between them. Topology.narrow calls it once.
func (t *Topology) addRouters() (*Narrow, error) {
	a, err := t.addRouter(routerA)
	if err != nil {
		return nil, err
	}
	b, err := t.addRouter(routerB)
	if err != nil {
		return nil, err
	}
	if err := t.addGateway(a); err != nil {
		return nil, err
	}
	endA, err := a.addVeth(narrowLink, b, narrowLink)
	if err != nil {
		return nil, err
	}
	endB, err := b.upLink(narrowLink)
	if err != nil {
		return nil, err
	}
	for _, err := range []error{
		a.routeOver(endA, endB, remotePrefix),
		a.routeOver(endA, endB, remotePrefix6),
		b.routeOver(endB, endA, underlayPrefix),
		b.routeOver(endB, endA, underlayPrefix6),
	} {
		if err != nil {
			return nil, err
		}
	}
	return &Narrow{ends: [2]narrowEnd{{a, endA}, {b, endB}}}, nil
}

// addRouter makes a namespace that forwards both families.
func (t *Topology) addRouter(label string) (*Namespace, error) {
	router, err := t.addNamespace(label)
	if err != nil {
		return nil, err
	}
	err = router.Do(func() error {
		for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+key, []byte("1"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return router, nil
}

// addGateway puts a router on the bridge, with the addresses of the nodes' default routes.
func (t *Topology) addGateway(router *Namespace) error {
	port, err := t.underlay.addVeth(router.label, router, routerLink)
	if err != nil {
		return err
	}
	if err := t.plug(port); err != nil {
		return err
	}
	eth0, err := router.upLink(routerLink)
	if err != nil {
		return err
	}
	if err := router.addAddr(eth0, netip.PrefixFrom(underlayGateway, underlayPrefix.Bits())); err != nil {
		return err
	}
	return router.addAddr(eth0, netip.PrefixFrom(underlayGateway6, underlayPrefix6.Bits()))
}

// SetMTU sets the MTU of the link, in bytes, 1500 at first. A smaller one than 1280 ends IPv6 on it for good: the
// kernel then drops the link's IPv6 routes (RFC 8200 section 5).
func (w *Narrow) SetMTU(mtu int) error {
	return w.each(func(end narrowEnd) error { return end.router.setMTU(end.link, mtu) })
}

// DropICMP makes the routers send and pass no ICMP and ICMPv6 errors, or do so again: then nobody learns why a
// packet does not arrive. Echoes and neighbour discovery pass in either case.
func (w *Narrow) DropICMP(drop bool) error {
	const (
		errorsOfICMP = `
			icmp type { destination-unreachable, time-exceeded, parameter-problem } drop
			icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } drop`
		chains = `
		chain output { type filter hook output priority 0;` + errorsOfICMP + `
		}
		chain forward { type filter hook forward priority 0;` + errorsOfICMP + `
		}`
	)
	return w.setTable(drop, "inet icmp_errors", chains)
}

// Cut makes the link drop every packet in both directions, or carry them again. Both ends keep their carrier, and
// the routers tell nobody.
func (w *Narrow) Cut(cut bool) error {
	const chain = `chain ingress { type filter hook ingress device "` + narrowLink + `" priority 0; policy drop; }`
	return w.setTable(cut, "netdev cut", chain)
}

func (w *Narrow) setTable(on bool, table, chains string) error {
	if !on {
		chains = ""
	}
	return w.each(func(end narrowEnd) error { return end.router.setTable(table, chains) })
}

func (w *Narrow) each(do func(narrowEnd) error) error {
	return errors.Join(do(w.ends[0]), do(w.ends[1]))
}
