package gossip

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// A stream's segments are small both ways, and datagrams may be fragmented.
func TestNarrowSockets(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		a, err := listenAt(netip.AddrPortFrom(netip.MustParseAddr(loopback), 0))
		if err != nil {
			t.Fatal(err)
		}
		b, err := listenAt(netip.AddrPortFrom(netip.MustParseAddr(loopback), 0))
		if err != nil {
			t.Fatal(err)
		}
		out, err := a.DialTimeout(b.addr.String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]net.Conn{"dialled": out, "accepted": <-b.StreamCh()} {
			// With the option for timestamps, 12 bytes less.
			if mss := option(t, c.(*stream).Conn.(syscall.Conn), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG); mss > maxSegment || mss < maxSegment-12 {
				t.Errorf("%s: segments of the stream that was %s have %d bytes, want %d", loopback, name, mss, maxSegment)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if a.addr.Addr().Is4() {
			if got := option(t, a.udp, syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER); got != syscall.IP_PMTUDISC_DONT {
				t.Errorf("IP_MTU_DISCOVER is %d", got)
			}
		}
		for _, x := range []*transport{a, b} {
			if err := x.Shutdown(); err != nil {
				t.Error(err)
			}
		}
	}
}

func option(t *testing.T, c syscall.Conn, level, name int) (value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { value, err = syscall.GetsockoptInt(int(fd), level, name) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return value
}
