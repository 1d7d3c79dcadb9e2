package wiring

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

func TestDevice(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range [][2]string{{"a", "eth0"}, {"a", "eth1"}, {"b", "eth0"}, {"aeth", "0"}, {"", ""}} {
		name := Device(c[0], c[1])
		if len(name) != 15 || !isDevice(name) || seen[name] || name != Device(c[0], c[1]) {
			t.Errorf("Device(%q, %q) is %q, seen before: %t", c[0], c[1], name, seen[name])
		}
		seen[name] = true
	}
	for _, name := range []string{"", "weft", "weft0", "weft0123456789", "weft0123456789ab", "weft0123456789g", "eth00123456789a"} {
		if isDevice(name) {
			t.Errorf("%q passes for a pod's device", name)
		}
	}
}

func TestGateways(t *testing.T) {
	p := Port{Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.1.77/24"), netip.MustParsePrefix("fd24::77/64")}}
	for bridge, want := range map[string][]netip.Addr{
		"":     {netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::1")},
		"cni0": {netip.MustParseAddr("10.244.1.1"), netip.MustParseAddr("fd24::1")},
	} {
		p.Bridge = bridge
		if got := Gateways(p); !slices.Equal(got, want) {
			t.Errorf("bridge %q: %v, want %v", bridge, got, want)
		}
	}
}

func TestHardwareAddresses(t *testing.T) {
	p := Port{Bridge: "cni0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.1.77/24"), netip.MustParsePrefix("fd24::1:2:3/64")}}
	check := func(got net.HardwareAddr, want string) {
		t.Helper()
		if got.String() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	ends := p.ends()
	check(ends.Host, "0e:78:0a:f4:01:4d")
	check(ends.Pod, "0e:77:0a:f4:01:4d")
	check(ends.Bridge, "0e:77:0a:f4:01:01")
	p.Addresses = p.Addresses[1:]
	other := Port{Addresses: []netip.Prefix{netip.MustParsePrefix("fd25::1:2:3/64")}} // the same in another block
	check(p.ends().Pod, "0e:77:74:49:85:f5")
	if other.ends().Pod.String() == p.ends().Pod.String() {
		t.Errorf("%v and %v both have %v", p.Addresses, other.Addresses, p.ends().Pod)
	}
	if got := linkLocal(ends.Pod); got != netip.MustParseAddr("fe80::c77:aff:fef4:14d") {
		t.Errorf("link-local %v", got)
	}
}
