package config

import (
	"fmt"
	"net/netip"
)

func parseUnderlay(s string) (Underlay, error) {
	if s == "" {
		return Underlay{}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return Underlay{}, fmt.Errorf("%q is a prefix; give the address alone, %s, or the interface's name", s, p.Addr())
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return Underlay{Addr: a}, checkNodeAddr(a)
	}
	name, err := parseLinkName(s)
	return Underlay{Interface: name}, err
}

func parseGossipAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("%q is not an address; write for instance 192.0.2.1 or 2001:db8::1", s)
	}
	return a, checkNodeAddr(a)
}

// checkNodeAddr returns nil if other nodes can reach a node by a.
func checkNodeAddr(a netip.Addr) error {
	switch {
	case a.Is4In6():
		return fmt.Errorf("%s is IPv4 written as IPv6; write %s", a, a.Unmap())
	case a.IsLinkLocalUnicast():
		return fmt.Errorf("%s is link-local: it means nothing to a node on another link; give a global or private address", a)
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is no address that other nodes can reach; give one of a node's own", a)
	case a.Zone() != "":
		return fmt.Errorf("%s has a zone, which means nothing to other nodes; write %s", a, a.WithZone(""))
	}
	return nil
}
