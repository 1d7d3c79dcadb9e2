package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenProbe opens a UDP socket on an address of the TUN whose packets leave and arrive by the underlay device alone,
// and are never fragmented: what it receives came without encapsulation and whole. A route by another device is none for
// them (fib_table_lookup, net/ipv4/fib_trie.c; RT6_LOOKUP_F_IFACE, net/ipv6/route.c), so that they go by one with
// Route.Probe, and no rule for them costs all other packets a second lookup (fib4_has_custom_rules,
// net/ipv4/fib_frontend.c). The caller closes it.
func ListenProbe(device string, addr netip.AddrPort) (*net.UDPConn, error) {
	network, whole := "udp4", [3]int{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}
	if addr.Addr().Is6() {
		network, whole = "udp6", [3]int{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var wholeErr, boundErr error
		err := c.Control(func(fd uintptr) {
			wholeErr = os.NewSyscallError("setsockopt MTU_DISCOVER", unix.SetsockoptInt(int(fd), whole[0], whole[1], whole[2]))
			boundErr = os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(int(fd), device))
		})
		return errors.Join(err, wholeErr, boundErr)
	}}
	c, err := config.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("open the socket for probes without encapsulation, UDP %s: %w", addr, err)
	}
	return c.(*net.UDPConn), nil
}

// IsTooBig says whether a socket of ListenProbe refused a packet because the link takes none of its size.
func IsTooBig(err error) bool { return errors.Is(err, unix.EMSGSIZE) }
