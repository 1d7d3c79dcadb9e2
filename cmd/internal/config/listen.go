package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// parseListen returns the TCP address that s spells, as net.Listen takes it; "" is none, and one without an address
// before the port is every address of this machine.
func parseListen(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is no address with a port; write for instance 127.0.0.1:8286, [::1]:8286 or :8286", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no port from 1 to 65535; write for instance 127.0.0.1:8286", s)
	}
	if host == "" {
		return s, nil
	}
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "", fmt.Errorf("%q is not an address of this machine; write it in numbers, for instance 127.0.0.1:%s, or leave it out, :%[2]s", host, port)
	case a.IsMulticast():
		return "", fmt.Errorf("%s is multicast; give an address of this machine", a)
	}
	return s, nil
}
