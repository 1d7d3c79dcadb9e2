//go:build netns

package packet_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/packet"
)

// fuse ends a test that would wait for ever.
const fuse = 30 * time.Second

// tun opens a TUN with these addresses in a network namespace of the test's own.
func tun(t *testing.T, cidrs ...string) (fd int) {
	t.Helper()
	return open(t, unix.IFF_TUN, cidrs)
}

// open opens the device tun0, a TUN or a TAP, in a network namespace of the test's own. The
// thread stays locked and ends with the test, and the namespace with it.
func open(t *testing.T, mode uint16, cidrs []string) (fd int) {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	ns.Close() // the thread keeps it
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	request, err := unix.NewIfreq("tun0")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(mode | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	for _, cidr := range cidrs {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD // else it is of no use for a second
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	for _, cidr := range cidrs {
		awaitLocal(t, netip.MustParsePrefix(cidr).Addr())
	}
	return fd
}

// awaitLocal waits until the kernel takes packets to an address of its own: an IPv6
// address gets its local route from a work queue, even without DAD.
func awaitLocal(t *testing.T, addr netip.Addr) {
	t.Helper()
	for end := time.Now().Add(fuse); time.Now().Before(end); runtime.Gosched() {
		routes, err := netlink.RouteGet(addr.AsSlice())
		if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
	}
	t.Fatalf("%s is not local after %v", addr, fuse)
}

func write(t *testing.T, fd int, p []byte) {
	t.Helper()
	if n, err := unix.Write(fd, p); n != len(p) || err != nil {
		t.Fatalf("write %d bytes to the device: %d, %v", len(p), n, err)
	}
}

// readUDP waits for the next UDP packet, and passes over what the kernel says by itself.
func readUDP(t *testing.T, fd int) []byte {
	t.Helper()
	return await(t, fd, func(b []byte) bool {
		h, ok := parse(b)
		return ok && h.Protocol == packet.ProtocolUDP
	})
}

// await waits for a packet or frame that is wanted, and passes over all others.
func await(t *testing.T, fd int, wanted func([]byte) bool) []byte {
	t.Helper()
	buf := make([]byte, 65536)
	for end := time.Now().Add(fuse); time.Now().Before(end); {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(fuse.Milliseconds()))
			if err == nil || errors.Is(err, unix.EINTR) {
				continue
			}
		}
		if err != nil {
			t.Fatalf("read the device: %v", err)
		}
		if wanted(buf[:n]) {
			return buf[:n]
		}
	}
	t.Fatal("nothing to read")
	return nil
}

// The kernel puts together what the Fragmenter made, in whatever order it comes.
func TestKernelReassembles(t *testing.T) {
	fd := tun(t, "10.244.2.9/16") // the destination of all flows
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 4433})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(fuse)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	f := udpFlow(false)
	f.flags4 = 0
	for i, c := range []struct {
		options               []byte
		payload, first, again int
	}{
		{nil, 4000, 1500, 1500},
		{nil, 4000, 1500, 700},
		{nil, 65507, 1400, 1280},
		{nil, 1000, 28, 28},
		{[]byte{148, 4, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0}, 3000, 1400, 600}, // router alert, timestamp
	} {
		f.options = c.options
		p := f.packet(c.payload, false)
		for _, fragment := range checkFragments(t, p, c.first) { // the last one first
			if smaller := checkFragments(t, fragment, c.again); smaller != nil {
				for _, fragment := range smaller {
					write(t, fd, fragment)
				}
				continue
			}
			write(t, fd, fragment)
		}
		n, err := conn.Read(buf)
		if want := p[len(p)-c.payload:]; err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("case %d: %d bytes arrive (%v), want %d", i, n, err, len(want))
		}
	}
}

// The kernel takes the ICMP errors for what they shall say: an unreachable
// destination, and the path's MTU.
func TestKernelBelievesICMPErrors(t *testing.T) {
	fd := tun(t, "10.244.1.7/16", "fd00:10:244:1::7/64")
	for _, c := range []struct {
		network, to string
		router      netip.Addr
		level       int
		errors, mtu int // options
	}{
		{"udp4", "10.244.2.9:4433", tunAddr, unix.IPPROTO_IP, unix.IP_RECVERR, unix.IP_MTU},
		{"udp6", "[fd00:10:244:1::9]:4433", tunAddr6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.IPV6_MTU},
	} {
		conn, err := net.Dial(c.network, c.to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(fuse)); err != nil {
			t.Fatal(err)
		}
		control(t, conn, func(fd int) error { return unix.SetsockoptInt(fd, c.level, c.errors, 1) })
		for _, says := range []struct {
			problem packet.Problem
			err     error
			mtu     int
		}{{packet.NoRoute, unix.ENETUNREACH, 1500}, {packet.TooBig, unix.EMSGSIZE, 1300}} {
			if _, err := conn.Write(make([]byte, 1400)); err != nil {
				t.Fatal(err)
			}
			write(t, fd, icmpError(c.router, readUDP(t, fd), says.problem, 1300))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, says.err) {
				t.Errorf("%s, problem %d: %v, want %v", c.network, says.problem, err, says.err)
			}
			control(t, conn, func(fd int) error {
				mtu, err := unix.GetsockoptInt(fd, c.level, c.mtu)
				if mtu != says.mtu {
					t.Errorf("%s, problem %d: the path's MTU is %d, want %d", c.network, says.problem, mtu, says.mtu)
				}
				return err
			})
		}
	}
}

func control(t *testing.T, conn net.Conn, f func(fd int) error) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inner error
	if err := errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner); err != nil {
		t.Fatal(err)
	}
}
