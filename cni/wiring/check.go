package wiring

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Check compares the kernel's state with p. Its error is one line and names all differences. What plugins that are chained
// behind weft change is none: the pod's hardware address, and an MTU of its end that is less.
func (w *Wiring) Check(p Port) error {
	fail := func(err error) error {
		return explain(fmt.Errorf("check interface %s of %s by %s: %w", p.Interface, p.Netns, p.Device, err))
	}
	if err := p.validate(); err != nil {
		return fail(err)
	}
	pod, err := w.enter(p.Netns)
	if err != nil {
		return fail(err)
	}
	defer pod.close()
	c := &inspection{Wiring: w, port: p, pod: pod}
	for _, look := range []func() error{c.findEnds, c.checkDevice, c.checkBridge, c.checkPod, c.checkGuard} {
		if err := look(); err != nil {
			return fail(err)
		}
	}
	if c.wrong != nil {
		return fail(errors.New(strings.Join(c.wrong, "; ")))
	}
	return nil
}

// inspection is a Check at work. Its methods return an error where the kernel gave no answer; what is wrong they note.
type inspection struct {
	*Wiring
	port Port
	pod  *pod

	device     netlink.Link // nil where there is none
	bridge     netlink.Link
	deviceInIt netlink.Link
	wrong      []string
}

func (c *inspection) note(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

func (c *inspection) findEnds() (err error) {
	if c.device, err = find(c.nl, c.port.Device); err != nil {
		return err
	}
	if c.deviceInIt, err = find(c.pod.nl, c.port.Interface); err != nil {
		return err
	}
	if c.port.Bridge != "" {
		if c.bridge, err = find(c.nl, c.port.Bridge); err != nil {
			return err
		}
	}
	switch {
	case c.device == nil:
		c.note("device %s is missing", c.port.Device)
	case c.device.Type() != "veth":
		c.note("device %s is a %s", c.port.Device, c.device.Type())
	case c.deviceInIt != nil && c.deviceInIt.Attrs().Index != c.device.Attrs().ParentIndex:
		c.note("%s in the pod is not the other end of device %s", c.port.Interface, c.port.Device)
	}
	if c.deviceInIt == nil {
		c.note("%s in the pod is missing", c.port.Interface)
	}
	return nil
}

// checkDevice looks at the host end, and at the ways to the pod.
func (c *inspection) checkDevice() error {
	if c.device == nil {
		return nil
	}
	what := "device " + c.port.Device
	attrs := c.device.Attrs()
	c.checkUp(what, attrs)
	if attrs.MTU != c.port.MTU {
		c.note("%s has the MTU %d, not %d", what, attrs.MTU, c.port.MTU)
	}
	if attrs.Alias != c.port.Owner {
		c.note("%s has the alias %q, not %q", what, attrs.Alias, c.port.Owner)
	}
	if c.port.Bridge != "" {
		return nil
	}
	var gateways []netip.Prefix
	for _, g := range Gateways(c.port) {
		if g.Is6() {
			gateways = append(gateways, netip.PrefixFrom(g, 64))
		} else {
			gateways = append(gateways, single(g))
		}
	}
	var routes []netlink.Route
	for _, a := range c.port.Addresses {
		routes = append(routes, netlink.Route{LinkIndex: attrs.Index, Dst: ipNet(single(a.Addr()))})
	}
	return errors.Join(c.checkAddresses(c.nl, c.device, what, gateways), c.checkRoutes(c.nl, routes, what))
}

func (c *inspection) checkUp(what string, attrs *netlink.LinkAttrs) {
	if attrs.RawFlags&unix.IFF_UP == 0 {
		c.note("%s is down", what)
	}
}

func (c *inspection) checkBridge() error {
	if c.port.Bridge == "" {
		return nil
	}
	what := "bridge " + c.port.Bridge
	if c.bridge == nil {
		c.note("%s is missing", what)
		return nil
	}
	c.checkUp(what, c.bridge.Attrs())
	if err := errors.Join(c.checkBridgePort(c.bridge), c.checkAnswers(what)); err != nil {
		return err
	}
	var gateways []netip.Prefix
	for i, g := range Gateways(c.port) {
		gateways = append(gateways, netip.PrefixFrom(g, c.port.Addresses[i].Bits()))
	}
	return c.checkAddresses(c.nl, c.bridge, what, gateways)
}

// checkAnswers looks whether the node answers on the bridge for pods that are routed.
func (c *inspection) checkAnswers(what string) error {
	if !isOwn(c.bridge) {
		return nil
	}
	settings := []setting{proxyARP(c.port.Bridge)}
	if _, has := c.port.block6(); has {
		settings = append(settings, proxyNDP(c.port.Bridge))
	}
	return inside(c.home, func() error {
		for _, s := range settings {
			on, err := s.is()
			if err != nil {
				return fmt.Errorf("see whether %s answers for others: %w", what, err)
			}
			if !on {
				c.note("%s has %s off: its pods cannot reach routed pods of this node", what, path.Base(s.path))
			}
		}
		return nil
	})
}

func (c *inspection) checkBridgePort(bridge netlink.Link) error {
	if c.device == nil {
		return nil
	}
	if c.device.Attrs().MasterIndex != bridge.Attrs().Index {
		c.note("device %s is no port of bridge %s", c.port.Device, c.port.Bridge)
		return nil
	}
	settings, err := dump(func() ([]netlink.Protinfo, error) {
		p, err := c.nl.LinkGetProtinfo(c.device)
		return []netlink.Protinfo{p}, err
	})
	if err != nil {
		return fmt.Errorf("read the settings of device %s as a port: %w", c.port.Device, err)
	}
	if !settings[0].Hairpin {
		c.note("device %s has no hairpin mode", c.port.Device)
	}
	return nil
}

// checkPod looks at the pod's end, and at what leads out of it.
func (c *inspection) checkPod() error {
	if c.deviceInIt == nil {
		return nil
	}
	what := c.port.Interface + " in the pod"
	attrs := c.deviceInIt.Attrs()
	c.checkUp(what, attrs)
	if attrs.MTU > c.port.MTU {
		c.note("%s has the MTU %d, more than %d", what, attrs.MTU, c.port.MTU)
	}
	var addresses []netip.Prefix
	var routes []netlink.Route
	for _, a := range c.port.Addresses {
		addresses = append(addresses, c.port.inPod(a))
		routes = append(routes, c.port.podRoutes(a.Addr(), c.port.gateway(a), attrs.Index)...)
	}
	return errors.Join(c.checkAddresses(c.pod.nl, c.deviceInIt, what, addresses),
		c.checkRoutes(c.pod.nl, routes, what), c.checkNeighbours(what))
}

func (c *inspection) checkAddresses(nl *netlink.Handle, link netlink.Link, what string, want []netip.Prefix) error {
	have, err := dump(func() ([]netlink.Addr, error) { return nl.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", what, err)
	}
	found := make(map[netip.Prefix]bool)
	for _, a := range have {
		found[prefixOf(a.IPNet)] = true
	}
	for _, p := range want {
		if !found[p] {
			c.note("%s lacks the address %v", what, p)
		}
	}
	return nil
}

// checkRoutes compares destination, interface and gateway.
func (c *inspection) checkRoutes(nl *netlink.Handle, want []netlink.Route, what string) error {
	for _, r := range want {
		filter := uint64(netlink.RT_FILTER_DST | netlink.RT_FILTER_OIF)
		have, err := dump(func() ([]netlink.Route, error) {
			return nl.RouteListFiltered(familyOf(prefixOf(r.Dst).Addr()), &r, filter)
		})
		if err != nil {
			return fmt.Errorf("list the routes of %s: %w", what, err)
		}
		found := false
		for _, h := range have {
			found = found || h.Gw.Equal(r.Gw) && h.Type == unix.RTN_UNICAST
		}
		switch {
		case found:
		case r.Gw == nil:
			c.note("the route to %v by %s is missing", prefixOf(r.Dst), what)
		default:
			c.note("the route to %v via %v by %s is missing", prefixOf(r.Dst), r.Gw, what)
		}
	}
	return nil
}

// nudValid are the states of a neighbour whose hardware address is in use (NUD_VALID, include/net/neighbour.h).
const nudValid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_PROBE | netlink.NUD_STALE | netlink.NUD_DELAY

// checkNeighbours finds gateways that lead elsewhere, or do not answer. That one is not there is good: the pod asks.
func (c *inspection) checkNeighbours(what string) error {
	link := c.device
	if c.port.Bridge != "" {
		link = c.bridge
	}
	if link == nil {
		return nil
	}
	// The address of a bridge of others follows its ports, and what pods know of it follows later.
	fixed := c.port.Bridge == "" || isOwn(link)
	mac := link.Attrs().HardwareAddr
	have, err := dump(func() ([]netlink.Neigh, error) {
		return c.pod.nl.NeighList(c.deviceInIt.Attrs().Index, netlink.FAMILY_ALL)
	})
	if err != nil {
		return fmt.Errorf("list the neighbours of %s: %w", what, err)
	}
	for _, n := range have {
		for _, gateway := range Gateways(c.port) {
			switch {
			case !n.IP.Equal(gateway.AsSlice()):
			case n.State&netlink.NUD_FAILED != 0:
				c.note("the gateway %v of %s does not answer", gateway, what)
			case fixed && n.State&nudValid != 0 && !bytes.Equal(n.HardwareAddr, mac):
				c.note("the gateway %v of %s is taken for %v, and %s has %v", gateway, what, n.HardwareAddr, link.Attrs().Name, mac)
			}
		}
	}
	return nil
}
