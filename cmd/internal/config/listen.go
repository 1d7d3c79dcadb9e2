package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// PageSocket has the control socket serve the status page.
const PageSocket = "socket"

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

// parsePage returns the TCP address of the status page that s spells, as net.Listen takes it, or PageSocket; "" is none.
// The page asks for no password, so that nobody but this machine's users may reach it.
func parsePage(s string) (string, error) {
	if s == "" || s == PageSocket {
		return s, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is neither socket nor a loopback address with a port; write for instance 127.0.0.1:8287", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no port from 1 to 65535; write for instance 127.0.0.1:8287", s)
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsLoopback() {
		return s, nil
	}
	if host == "localhost" {
		return "", fmt.Errorf("%q is a name; write it in numbers, 127.0.0.1:%s or [::1]:%[2]s", s, port)
	}
	return "", fmt.Errorf("%q can be reached by other machines, and the page asks for no password; write 127.0.0.1:%s, and open it elsewhere through `ssh -L %[2]s:127.0.0.1:%[2]s` and this node's name", s, port)
}

// clash says whether the status page's address is one of those that the metrics are shown at.
func clash(page, metrics string) bool {
	host, port, err := net.SplitHostPort(page)
	at, metricsPort, metricsErr := net.SplitHostPort(metrics)
	if err != nil || metricsErr != nil || port != metricsPort {
		return false
	}
	all, err := netip.ParseAddr(at)
	return at == host || at == "" || err == nil && all.IsUnspecified()
}
