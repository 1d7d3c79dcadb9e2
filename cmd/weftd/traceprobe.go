package main

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

// tracePort is where traceroute begins: nothing listens there, so that whoever gets the probe says so by ICMP, and the
// answer quotes the marker.
const tracePort = 33434

// sendProbe has this node's kernel send a UDP packet from the address of a pod, which IP_TRANSPARENT allows to who has
// CAP_NET_ADMIN (Documentation/networking/tproxy.rst).
func sendProbe(ctx context.Context, from, to netip.Addr, payload []byte) error {
	network, level, option := "udp4", unix.IPPROTO_IP, unix.IP_TRANSPARENT
	if from.Is6() {
		network, level, option = "udp6", unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	dialer := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		Control: func(_, _ string, c syscall.RawConn) error {
			var optionErr error
			err := c.Control(func(fd uintptr) { optionErr = unix.SetsockoptInt(int(fd), level, option, 1) })
			return errors.Join(err, os.NewSyscallError("setsockopt IP_TRANSPARENT", optionErr))
		},
	}
	c, err := dialer.DialContext(ctx, network, netip.AddrPortFrom(to, tracePort).String())
	if err != nil {
		return fmt.Errorf("open a socket for a probe from %s to %s: %w", from, to, err)
	}
	_, err = c.Write(payload)
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("send a probe from %s to %s: %w", from, to, err)
	}
	return nil
}
