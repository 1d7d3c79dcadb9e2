package wiring

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attachment is an Attach at work.
type attachment struct {
	*Wiring
	port Port
	ends Ends
	pod  *pod

	bridge     netlink.Link // nil where routed
	device     netlink.Link // the host end, nil until it is made
	deviceInIt netlink.Link // the pod's end
}

// Attach makes p, whose device and interface must not exist: ErrExists, which has made nothing. It is complete, or undone where there is an
// error. A bridge that was made for it stays, as the next pod's.
//
// The pod can send when all is in place that its packets need, and nothing leads to it before it has its addresses. Not
// set up is its loopback interface: that is the runtime's.
func (w *Wiring) Attach(p Port) (Ends, error) {
	fail := func(err error) (Ends, error) {
		return Ends{}, explain(fmt.Errorf("attach interface %s of %s by %s: %w", p.Interface, p.Netns, p.Device, err))
	}
	if err := p.validate(); err != nil {
		return fail(err)
	}
	pod, err := w.enter(p.Netns)
	if err != nil {
		return fail(err)
	}
	defer pod.close()
	a := &attachment{Wiring: w, port: p, ends: p.ends(), pod: pod}
	if err := w.take(a.steps()); err != nil {
		if a.device != nil {
			err = errors.Join(err, w.remove(p.Device, func(string) error { return nil }, func() {}))
		}
		return fail(err)
	}
	return a.ends, nil
}

// steps begin with the device, whose removal takes all but the guard with it.
func (a *attachment) steps() []step {
	device := step{"device", a.addDevice}
	guard := step{"guard", func() error { return a.addGuard(a.port, a.ends) }} // before the device is up
	owner := step{"owner", a.setOwner}
	pod := []step{{"pod up", a.setPodUp}, {"pod addresses", a.addPodAddresses}, {"pod routes", a.addPodRoutes}}
	if a.port.Bridge != "" {
		return slices.Concat(a.bridgeSteps(), []step{device, guard, owner, {"bridge port", a.joinBridge}, {"device up", a.setDeviceUp}}, pod)
	}
	steps := append([]step{device, guard, owner, {"device up", a.setDeviceUp}, {"gateways", a.addGateways}}, pod...)
	return append(steps, step{"gateway neighbours", a.addNeighbours}, step{"routes", a.addRoutes}, step{"bridge stands for it", a.tellBridge})
}

func (a *attachment) addDevice() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = a.port.Device, a.port.MTU, a.ends.Host
	veth := &netlink.Veth{
		LinkAttrs: attrs,
		PeerName:  a.port.Interface, PeerMTU: uint32(a.port.MTU), PeerHardwareAddr: a.ends.Pod,
		PeerNamespace: netlink.NsFd(int(a.pod.ns.Fd())),
	}
	err := a.nl.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		return a.whatExists()
	}
	if err != nil {
		return fmt.Errorf("add the veth pair: %w", err)
	}
	a.device = veth
	if a.deviceInIt, err = a.pod.nl.LinkByName(a.port.Interface); err != nil {
		return fmt.Errorf("find %s in the pod: %w", a.port.Interface, err)
	}
	return nil
}

// whatExists tells which of the names was taken: the kernel does not.
func (a *attachment) whatExists() error {
	if _, err := a.nl.LinkByName(a.port.Device); err == nil {
		return fmt.Errorf("add the veth pair: device %s: %w: the container's interface is attached; detach it first", a.port.Device, ErrExists)
	}
	return fmt.Errorf("add the veth pair: interface %s in the pod: %w: choose another name", a.port.Interface, ErrExists)
}

func (a *attachment) setOwner() error {
	if err := a.nl.LinkSetAlias(a.device, a.port.Owner); err != nil {
		return fmt.Errorf("set the alias of the device: %w", err)
	}
	return nil
}

func (a *attachment) setDeviceUp() error {
	if err := a.nl.LinkSetUp(a.device); err != nil {
		return fmt.Errorf("set the device up: %w", err)
	}
	return nil
}

// addGateways gives the device the addresses that the pod sends to. That of IPv4 has host scope, which keeps the node
// from choosing it as a source (inet_select_addr, net/ipv4/devinet.c). That of IPv6 is usable at once, unlike the one
// that the kernel makes, and so the node can ask for the pod's hardware address.
func (a *attachment) addGateways() error {
	for _, gateway := range Gateways(a.port) {
		addr := &netlink.Addr{IPNet: ipNet(single(gateway)), Scope: unix.RT_SCOPE_HOST}
		if gateway.Is6() {
			addr = &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(gateway, 64)), Flags: unix.IFA_F_NODAD}
		}
		if err := a.addAddress(a.nl, a.device, addr); err != nil {
			return err
		}
	}
	return nil
}

// addAddress enables IPv6 where it must (EACCES: inet6_addr_add, net/ipv6/addrconf.c).
func (a *attachment) addAddress(nl *netlink.Handle, link netlink.Link, addr *netlink.Addr) error {
	err := nl.AddrAdd(link, addr)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) {
		ns := a.home
		if nl == a.pod.nl {
			ns = a.pod.ns
		}
		if err := enableIPv6(ns, link.Attrs().Name); err != nil {
			return fmt.Errorf("add address %v: %w", addr.IPNet, err)
		}
		err = nl.AddrAdd(link, addr)
	}
	if err != nil {
		return fmt.Errorf("add address %v to interface %s: %w", addr.IPNet, link.Attrs().Name, err)
	}
	return nil
}

// addRoutes leads to the pod. They lack the mark of weft's daemon, which would take them away.
func (a *attachment) addRoutes() error {
	for _, p := range a.port.Addresses {
		err := a.nl.RouteAdd(&netlink.Route{LinkIndex: a.device.Attrs().Index, Dst: ipNet(single(p.Addr())), Scope: netlink.SCOPE_LINK})
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add the route to %v: %w: `ip route show %v` tells whose it is; remove that", p.Addr(), err, single(p.Addr()))
		}
		if err != nil {
			return fmt.Errorf("add the route to %v: %w", p.Addr(), err)
		}
	}
	return nil
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
