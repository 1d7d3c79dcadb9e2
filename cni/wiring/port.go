package wiring

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// The names that Device gives: a prefix, and enough of a hash that no two containers of a node share it.
const (
	devicePrefix = "weft"
	deviceDigits = 11 // the rest of the 15 octets that a name may have (IFNAMSIZ, linux/if.h)
)

// Device is the name of the host end of a container's interface: 15 octets, longer than the name of any of weft's TUNs.
func Device(container, ifname string) string {
	sum := sha256.Sum256([]byte(container + "\x00" + ifname))
	return devicePrefix + hex.EncodeToString(sum[:])[:deviceDigits]
}

// isDevice says whether name is of the form that Device gives.
func isDevice(name string) bool {
	digits, ok := strings.CutPrefix(name, devicePrefix)
	return ok && len(digits) == deviceDigits && strings.Trim(digits, "0123456789abcdef") == ""
}

// The host ends of routed pods all have these addresses, since each is on a link of its own. Immutable.
var (
	linkGateway  = netip.MustParseAddr("169.254.1.1")
	linkGateway6 = netip.MustParseAddr("fe80::1")
)

// Gateways are the next hops of the pod's default routes, in the order of p.Addresses: where routed the link-local
// 169.254.1.1 and fe80::1, else the first address of the block, which is the bridge's.
func Gateways(p Port) []netip.Addr {
	gateways := make([]netip.Addr, len(p.Addresses))
	for i, a := range p.Addresses {
		gateways[i] = p.gateway(a)
	}
	return gateways
}

func (p Port) gateway(a netip.Prefix) netip.Addr {
	switch {
	case p.Bridge != "":
		return a.Masked().Addr().Next()
	case a.Addr().Is4():
		return linkGateway
	default:
		return linkGateway6
	}
}

// validate refuses what no kernel could be brought to, with the caller's mistake in the error.
func (p Port) validate() error {
	if !isDevice(p.Device) {
		return fmt.Errorf("%q is not the name of a pod's device", p.Device)
	}
	for _, name := range []string{p.Interface, p.Bridge} {
		if len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/: \t\n") || name == "." || name == ".." {
			return fmt.Errorf("%q is not the name of an interface", name)
		}
	}
	if p.Interface == "" {
		return errors.New("the pod's interface has no name")
	}
	if len(p.Owner) >= 256 { // IFALIASZ, linux/if.h
		return fmt.Errorf("the alias of %d octets is longer than 255", len(p.Owner))
	}
	return p.validateAddresses()
}

func (p Port) validateAddresses() error {
	if len(p.Addresses) == 0 {
		return errors.New("the pod has no address")
	}
	least := 68 // RFC 791 section 3.2
	for i, a := range p.Addresses {
		if !a.IsValid() || a.Addr().Is4In6() || a.Addr().IsMulticast() || a.Addr().IsLinkLocalUnicast() || a.Addr().IsUnspecified() {
			return fmt.Errorf("%v is not the address of a pod", a)
		}
		if i > 0 && a.Addr().Is4() == p.Addresses[0].Addr().Is4() || i > 1 {
			return fmt.Errorf("%v is a second address of its family", a)
		}
		if g := p.gateway(a); p.Bridge != "" && (g == a.Addr() || !a.Contains(g)) {
			return fmt.Errorf("the block %v leaves no address for the bridge: use larger blocks, or `\"wiring\": \"routed\"`", a.Masked())
		}
		if a.Addr().Is6() {
			least = 1280 // RFC 8200 section 5
		}
	}
	if p.MTU < least || p.MTU > 65535 {
		return fmt.Errorf("the MTU %d is not between %d and 65535", p.MTU, least)
	}
	return nil
}

// of returns the pod's address of a family, if it has one.
func (p Port) of(is func(netip.Addr) bool) (a netip.Addr, ok bool) {
	for _, prefix := range p.Addresses {
		if is(prefix.Addr()) {
			return prefix.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// The beginnings of the hardware addresses that weft gives: locally administered (IEEE 802, bit 1 of the first
// octet). The four octets behind are those of an IPv4 address, or of a hash of an IPv6 one, whose last four may be the same
// in two blocks; so who gets the address of a pod that has gone is found by what others still know of it. That they are set explicitly keeps udev from changing them behind our back
// (MACAddressPolicy, systemd.link(5)).
const (
	macPod0, macPod1   = 0x0e, 0x77 // pods, and bridges, by their own address
	macHost0, macHost1 = 0x0e, 0x78 // host ends, by their pod's address
)

func hardware(first, second byte, a netip.Addr) net.HardwareAddr {
	octets := a.AsSlice()
	if a.Is6() {
		sum := sha256.Sum256(octets)
		octets = sum[:4]
	}
	return append(net.HardwareAddr{first, second}, octets...)
}

// ends are the hardware addresses for p. That of a bridge which exists may be another.
func (p Port) ends() Ends {
	first := p.Addresses[0]
	e := Ends{Host: hardware(macHost0, macHost1, first.Addr()), Pod: hardware(macPod0, macPod1, first.Addr())}
	if p.Bridge != "" {
		e.Bridge = hardware(macPod0, macPod1, p.gateway(first))
	}
	return e
}

// linkLocal is the IPv6 address that the kernel gives an interface for itself (RFC 4291 appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
