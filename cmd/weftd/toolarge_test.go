//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
)

// What is larger than the path takes arrives all the same, or its sender learns what
// the path takes: TCP is cut, IPv4 fragmented, IPv6 of 1280 bytes sent in fragments of
// the outer packet.
func TestTooLargeForThePath(t *testing.T) {
	for _, mtu := range []int{1400, 1280} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			t.Parallel()
			n := newNarrowPath(t, "--clamp-mss")
			n.narrow(mtu)
			for _, f := range n.far {
				t.Run(f.String(), func(t *testing.T) {
					n.tooLarge(t, mtu, f, n.pod, f.pod)
					n.tooLarge(t, mtu, f, overIPv6(n.pod), overIPv6(f.pod))
				})
			}
		})
	}
}

// tooLarge has two pods talk whose own MTU is larger than what the path takes.
func (n *narrowPath) tooLarge(t *testing.T, mtu int, f *farNode, here, there *topo.Pod) {
	t.Helper()
	pods := n.near.mtu()
	clamped(t, here, there, mtu-f.overhead)
	for _, way := range []struct {
		from, to *topo.Pod
		takes    int
	}{{here, there, mtu - f.overhead}, {there, here, mtu - f.back}} {
		whole(t, way.from, way.to, pods)
		learns(t, way.from, way.to, pods, way.takes)
	}
	if err := exchange(t, here, there, []int{pods - headers6, 4000}); err != nil {
		t.Errorf("%s and %s, which have learnt: %v", here.Addr, there.Addr, err)
	}
	bothWays(t, here, there, true)
}

const (
	headers4 = 20 + 8 // of UDP in IPv4, in bytes
	headers6 = 40 + 8
	minMTU6  = 1280 // RFC 8200 section 5
)

// whole checks that a datagram of the pods' MTU arrives, which its sender does not cut
// whatever it has learnt, and lets others cut. Nobody may cut IPv6.
func whole(t *testing.T, from, to *topo.Pod, mtu int) {
	t.Helper()
	size := mtu - headers4
	if to.Addr.Is6() {
		size = minMTU6 - headers6
	}
	server := listenUDP(t, to.Namespace)
	defer server.Close()
	conn, err := dial(from.Namespace, "udp", to.Addr, echoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := errors.Join(discover(conn, unix.IP_PMTUDISC_OMIT, unix.IPV6_PMTUDISC_OMIT), server.SetDeadline(time.Now().Add(recovery))); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 1<<16)); err != nil || n != size {
		t.Errorf("%s to %s: of %d bytes %d arrived, %v", from.Addr, to.Addr, size, n, err)
	}
}

// learns checks that a sender whose datagrams are not to be cut is told what the path
// takes.
func learns(t *testing.T, from, to *topo.Pod, mtu, takes int) {
	t.Helper()
	size := mtu - headers4
	if to.Addr.Is6() {
		size, takes = mtu-headers6, max(takes, minMTU6)
	}
	conn, err := dial(from.Namespace, "udp", to.Addr, echoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := discover(conn, unix.IP_PMTUDISC_DO, unix.IPV6_PMTUDISC_DO); err != nil {
		t.Fatal(err)
	}
	err = topo.WaitUntil(t.Context(), recovery, func(context.Context) error {
		_, err := conn.Write(make([]byte, size))
		if errors.Is(err, unix.EMSGSIZE) {
			return nil
		}
		return fmt.Errorf("a datagram of %d bytes is too large, and its sender hears %v", size, err)
	}, func() error { return nil })
	if err != nil {
		t.Errorf("%s to %s: %v", from.Addr, to.Addr, err)
	} else if got, err := knownMTU(conn); err != nil || got != takes {
		t.Errorf("%s to %s: the sender was told %d, %v; want %d", from.Addr, to.Addr, got, err, takes)
	}
}

// clamped checks the MSS that a handshake brings to the far side.
func clamped(t *testing.T, from, to *topo.Pod, takes int) {
	t.Helper()
	l := listenTCP(t, to.Namespace)
	defer l.Close()
	out, err := dial(from.Namespace, "tcp", to.Addr, echoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	const timestamps = 12 // bytes of each segment (RFC 7323)
	want := takes - 20 - 20 - timestamps
	if to.Addr.Is6() {
		want -= 20
	}
	got, err := option(in, func(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	if err != nil || got != want {
		t.Errorf("%s to %s: segments of %d bytes are sent back, %v; want %d", from.Addr, to.Addr, got, err, want)
	}
}

// discover sets how conn's kernel goes about path MTUs.
func discover(conn net.Conn, how4, how6 int) error {
	_, err := option(conn, func(fd int) (int, error) {
		if isIPv6(conn) {
			return 0, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, how6)
		}
		return 0, unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, how4)
	})
	return err
}

// knownMTU is what conn's kernel knows of the path.
func knownMTU(conn net.Conn) (int, error) {
	return option(conn, func(fd int) (int, error) {
		if isIPv6(conn) {
			return unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
		}
		return unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
	})
}

func isIPv6(conn net.Conn) bool { return conn.RemoteAddr().(*net.UDPAddr).IP.To4() == nil }

// option gets or sets an option of a socket.
func option(conn net.Conn, do func(fd int) (int, error)) (value int, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { value, failed = do(int(fd)) })
	return value, errors.Join(err, failed)
}
