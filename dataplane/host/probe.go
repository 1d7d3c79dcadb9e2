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

// ListenProbe opens a UDP socket on an address of the TUN whose packets go by [Table], leave and arrive by the
// underlay device alone, and are never fragmented: what it receives came without encapsulation and whole. The caller
// closes it.
func ListenProbe(device string, addr netip.AddrPort) (*net.UDPConn, error) {
	options := [][3]int{
		{unix.SOL_SOCKET, unix.SO_MARK, Mark},
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
	}
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6"
		options[1] = [3]int{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var errs []error
		err := c.Control(func(fd uintptr) {
			for _, o := range options {
				errs = append(errs, os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), o[0], o[1], o[2])))
			}
			errs = append(errs, os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(int(fd), device)))
		})
		return errors.Join(append(errs, err)...)
	}}
	c, err := config.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("open the socket for probes without encapsulation, UDP %s: %w", addr, err)
	}
	return c.(*net.UDPConn), nil
}

// IsTooBig says whether a socket of ListenProbe refused a packet because the link takes none of its size.
func IsTooBig(err error) bool { return errors.Is(err, unix.EMSGSIZE) }
