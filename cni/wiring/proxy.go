package wiring

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

/* Where a node has pods of both wirings in one block, those on the bridge look for the others on their own link, and the node
 * answers in their place: ARP for all that it has another route to, and neighbour solicitations for the addresses that it was told one
 * by one (ndisc_recv_ns, net/ipv6/ndisc.c). Those it is told by whoever comes second, the routed pod or the bridge: each is in place
 * itself before it looks for the other.
 */

// answerARP has the node answer for whatever it has a route to by another interface.
func (a *attachment) answerARP() error {
	if !isOwn(a.bridge) {
		return nil
	}
	return inside(a.home, func() error { return proxyARP(a.port.Bridge).set("answer ARP requests") })
}

// answerForRouted has the node answer for routed pods of the block, at once: it would wait for up to 0.8 s.
func (a *attachment) answerForRouted() error {
	block, has := a.port.block6()
	if !isOwn(a.bridge) || !has {
		return nil
	}
	if err := a.nl.NeighDel(proxyOf(a.bridge, block.Addr())); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the proxy neighbour %v, which has become a pod on it: %w", block.Addr(), err)
	}
	return inside(a.home, func() error {
		ready, err := proxyNDP(a.port.Bridge).is()
		if err != nil || ready {
			return err
		}
		if err := a.addRouted(block); err != nil {
			return err
		}
		// Last, and the last one tells that it was done.
		const what = "answer neighbour solicitations"
		if err := proxyDelay(a.port.Bridge).set(what); err != nil {
			return err
		}
		return proxyNDP(a.port.Bridge).set(what)
	})
}

// addRouted has the bridge stand for the routed pods of block that there are.
func (a *attachment) addRouted(block netip.Prefix) error {
	routes, err := dump(func() ([]netlink.Route, error) {
		return a.nl.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list the routes to pods: %w", err)
	}
	for _, r := range routes {
		if p := prefixOf(r.Dst); p.IsValid() && p.IsSingleIP() && block.Contains(p.Addr()) && r.LinkIndex != a.bridge.Attrs().Index {
			if err := a.standFor(a.bridge, p.Addr()); err != nil {
				return err
			}
		}
	}
	return nil
}

// tellBridge has the bridge that the pod's block is on, if there is one, stand for the pod.
func (a *attachment) tellBridge() error {
	block, has := a.port.block6()
	if !has {
		return nil
	}
	bridge, err := a.bridgeOf(block)
	if err != nil || bridge == nil {
		return err
	}
	return a.standFor(bridge, block.Addr())
}

func (w *Wiring) standFor(bridge netlink.Link, addr netip.Addr) error {
	if err := w.nl.NeighSet(proxyOf(bridge, addr)); err != nil {
		return fmt.Errorf("add the proxy neighbour %v to bridge %s: %w", addr, bridge.Attrs().Name, err)
	}
	return nil
}

// bridgeOf is the bridge of weft's that the block is on the link of, by the route to its last address, which no pod has; nil where
// there is none.
func (w *Wiring) bridgeOf(block netip.Prefix) (netlink.Link, error) {
	routes, err := w.nl.RouteGet(last(block).AsSlice())
	if err != nil || len(routes) == 0 {
		return nil, nil // unreachable, as weftd leaves what no pod has
	}
	link, err := w.nl.LinkByIndex(routes[0].LinkIndex)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the interface of block %v: %w", block.Masked(), err)
	}
	if link.Type() != "bridge" || !isOwn(link) {
		return nil, nil
	}
	return link, nil
}

// forgetProxies removes from all bridges that they stand for the addresses.
func (w *Wiring) forgetProxies(addresses []netip.Addr) error {
	if !slices.ContainsFunc(addresses, netip.Addr.Is6) {
		return nil
	}
	proxies, err := dump(func() ([]netlink.Neigh, error) { return w.nl.NeighProxyList(0, netlink.FAMILY_V6) })
	if err != nil {
		return explain(fmt.Errorf("list the proxy neighbours: %w", err))
	}
	var errs []error
	for _, p := range proxies {
		addr, _ := netip.AddrFromSlice(p.IP)
		if !slices.Contains(addresses, addr) {
			continue
		}
		p.Flags = netlink.NTF_PROXY
		if err := w.nl.NeighDel(&p); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, explain(fmt.Errorf("remove the proxy neighbour %v: %w", addr, err)))
		}
	}
	return errors.Join(errs...)
}

func proxyOf(bridge netlink.Link, addr netip.Addr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: bridge.Attrs().Index, Family: netlink.FAMILY_V6, IP: addr.AsSlice(), Flags: netlink.NTF_PROXY}
}

// block6 is the pod's IPv6 address, with the length of its block.
func (p Port) block6() (block netip.Prefix, has bool) {
	for _, a := range p.Addresses {
		if a.Addr().Is6() {
			return a, true
		}
	}
	return netip.Prefix{}, false
}

// last is the highest address of block, of IPv6.
func last(block netip.Prefix) netip.Addr {
	octets := block.Masked().Addr().As16()
	for bit := block.Bits(); bit < 128; bit++ {
		octets[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom16(octets)
}

// A setting is one of an interface below /proc/sys/net, which must have a value. It is for a thread in the interface's namespace.
type setting struct{ path, value string }

func proxyARP(bridge string) setting   { return setting{"ipv4/conf/" + bridge + "/proxy_arp", "1"} }
func proxyNDP(bridge string) setting   { return setting{"ipv6/conf/" + bridge + "/proxy_ndp", "1"} }
func proxyDelay(bridge string) setting { return setting{"ipv6/neigh/" + bridge + "/proxy_delay", "0"} }

func (s setting) is() (bool, error) {
	text, err := os.ReadFile("/proc/sys/net/" + s.path)
	return strings.TrimSpace(string(text)) == s.value, err
}

// set writes nothing where the value is right, since /proc/sys may be read-only.
func (s setting) set(what string) error {
	right, err := s.is()
	if err == nil && !right {
		err = os.WriteFile("/proc/sys/net/"+s.path, []byte(s.value), 0)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: without it pods on the bridge cannot reach routed pods of this node; make /proc/sys writable", what, err)
	}
	return nil
}
