package wiring

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridgeSteps find the bridge, or make it, and give it what it lacks. Several processes may do so at once, and whatever one
// that died has left out the next one does.
func (a *attachment) bridgeSteps() []step {
	steps := []step{{"bridge", a.ensureBridge}, {"bridge answers ARP", a.answerARP}, {"bridge addresses", a.addressBridge},
		{"bridge answers for others", a.answerForRouted}, {"bridge up", a.setBridgeUp}}
	for i, s := range steps {
		steps[i].do = func() error {
			if err := s.do(); err != nil {
				return fmt.Errorf("bridge %s: %w", a.port.Bridge, err)
			}
			return nil
		}
	}
	return steps
}

// ensureBridge makes one that has a hardware address which does not change as pods come and go. Its MTU is that of its
// ports (br_mtu_auto_adjust, net/bridge/br_if.c).
func (a *attachment) ensureBridge() error {
	p := a.port
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = p.Bridge, a.ends.Bridge

	link, err := find(a.nl, p.Bridge)
	if err != nil {
		return err
	}
	if link == nil {
		if err := a.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add it: %w", err)
		}
		if link, err = a.nl.LinkByName(p.Bridge); err != nil {
			return err
		}
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("there is a %s of this name: give `\"bridge\"` another one", link.Type())
	}
	a.bridge, a.ends.Bridge = link, link.Attrs().HardwareAddr
	return nil
}

// setBridgeUp is before a pod's packet needs the bridge.
func (a *attachment) setBridgeUp() error {
	if a.bridge.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	if err := a.nl.LinkSetUp(a.bridge); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	return nil
}

// isOwn says whether weft made the bridge: the kernel would not have chosen its hardware address.
func isOwn(bridge netlink.Link) bool {
	return bytes.HasPrefix(bridge.Attrs().HardwareAddr, []byte{macPod0, macPod1})
}

// addressBridge adds the gateways that are missing. A bridge of weft's may have those of former blocks, which
// pods use; one of others, flannel's say, does only where it has no other address.
func (a *attachment) addressBridge() error {
	have, err := dump(func() ([]netlink.Addr, error) { return a.nl.AddrList(a.bridge, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
	for _, p := range a.port.Addresses {
		gateway := netip.PrefixFrom(a.port.gateway(p), p.Bits())
		if found, err := a.findGateway(have, gateway); err != nil {
			return err
		} else if found {
			continue
		}
		if err := a.addBridgeAddress(gateway); err != nil {
			return err
		}
	}
	return nil
}

func (a *attachment) findGateway(have []netlink.Addr, gateway netip.Prefix) (found bool, err error) {
	var wrong []string
	for _, h := range have {
		other := prefixOf(h.IPNet)
		switch {
		case other == gateway:
			return true, nil
		case familyOf(other.Addr()) != familyOf(gateway.Addr()), other.Addr().IsLinkLocalUnicast():
		case !isOwn(a.bridge), other.Overlaps(gateway):
			wrong = append(wrong, other.String())
		}
	}
	if wrong != nil {
		return false, fmt.Errorf("it has the address %s where this node's block needs %v: when no pod uses it, remove it with `ip link delete %s`",
			strings.Join(wrong, ", "), gateway, a.port.Bridge)
	}
	return false, nil
}

// addBridgeAddress adds addresses that are ready at once. With the first IPv6 one comes the link-local address that the
// kernel would make: without any, the node cannot ask for a pod's hardware address (ndisc_send_ns, net/ipv6/ndisc.c).
func (a *attachment) addBridgeAddress(gateway netip.Prefix) error {
	all := []netip.Prefix{gateway}
	if gateway.Addr().Is6() {
		all = append(all, netip.PrefixFrom(linkLocal(a.ends.Bridge), 64))
	}
	for _, p := range all {
		addr := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := a.addAddress(a.nl, a.bridge, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// joinBridge lets the pod reach itself by an address of a service that leads back to it: hairpin.
func (a *attachment) joinBridge() error {
	if err := a.nl.LinkSetMaster(a.device, a.bridge); err != nil {
		return fmt.Errorf("make the device a port of bridge %s: %w", a.port.Bridge, err)
	}
	if err := a.nl.LinkSetHairpin(a.device, true); err != nil {
		return fmt.Errorf("set hairpin mode of the device: %w", err)
	}
	if isOwn(a.bridge) {
		return nil
	}
	// One that nobody chose follows the ports (br_stp_recalculate_bridge_id, net/bridge/br_stp_if.c).
	bridge, err := a.nl.LinkByName(a.port.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", a.port.Bridge, err)
	}
	a.ends.Bridge = bridge.Attrs().HardwareAddr
	return nil
}

// RemoveBridges removes the bridges that weft made and that have no port, and returns their names; and the tables in which no pod has a guard. It is for a
// node that weft leaves: a pod may be about to join one.
func (w *Wiring) RemoveBridges() (removed []string, err error) {
	links, err := dump(w.nl.LinkList)
	if err != nil {
		return nil, explain(fmt.Errorf("list the bridges: %w", err))
	}
	var errs []error
	for _, l := range links {
		index := l.Attrs().Index
		used := slices.ContainsFunc(links, func(port netlink.Link) bool { return port.Attrs().MasterIndex == index })
		if l.Type() != "bridge" || !isOwn(l) || used {
			continue
		}
		if err := w.nl.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, explain(fmt.Errorf("delete bridge %s: %w", l.Attrs().Name, err)))
			continue
		}
		removed = append(removed, l.Attrs().Name)
	}
	return removed, errors.Join(append(errs, w.removeTables())...)
}

// ForgetBlocks removes from the bridges that weft made the gateways of blocks in networks that overlap none of keep,
// and returns them as "10.244.1.1/24 of cni0". Whoever calls keeps this node's blocks, and those of pods that are
// on record: without its gateway a pod reaches nothing beyond the bridge. It goes on after an error, and joins all.
func (w *Wiring) ForgetBlocks(keep, networks []netip.Prefix) (removed []string, err error) {
	links, err := dump(w.nl.LinkList)
	if err != nil {
		return nil, explain(fmt.Errorf("list the bridges: %w", err))
	}
	var errs []error
	for _, l := range links {
		if l.Type() != "bridge" || !isOwn(l) {
			continue
		}
		have, err := dump(func() ([]netlink.Addr, error) { return w.nl.AddrList(l, netlink.FAMILY_ALL) })
		if err != nil {
			errs = append(errs, explain(fmt.Errorf("list the addresses of bridge %s: %w", l.Attrs().Name, err)))
		}
		for _, a := range have {
			p := prefixOf(a.IPNet)
			inside := func(n netip.Prefix) bool { return n.Contains(p.Addr()) && n.Bits() <= p.Bits() }
			if !slices.ContainsFunc(networks, inside) || slices.ContainsFunc(keep, p.Overlaps) {
				continue
			}
			name := fmt.Sprintf("%v of %s", p, l.Attrs().Name)
			if err := w.nl.AddrDel(l, &netlink.Addr{IPNet: a.IPNet}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				errs = append(errs, explain(fmt.Errorf("remove the address %s: %w", name, err)))
				continue
			}
			removed = append(removed, name)
		}
	}
	return removed, errors.Join(errs...)
}
