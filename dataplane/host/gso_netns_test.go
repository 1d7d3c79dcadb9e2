//go:build netns

package host

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestKernelKeepsToGSOMaxSegs sends TCP with an MSS of 100 through two TUNs in two namespaces that a pair of
// goroutines joins: 64 KiB of it would be some 700 segments. No superpacket may stand for more than gsoMaxSegs.
func TestKernelKeepsToGSOMaxSegs(t *testing.T) {
	const mss, total = 100, 4 << 20
	node := func(n string) (*os.File, netns.NsHandle) {
		h := newNamespace(t)
		tun := newTUN(t, "weft0")
		address := netip.MustParsePrefix("10.244." + n + ".0/32")
		apply(t, h, State{Link: "weft0", Addresses: []netip.Prefix{address}, MTU: 1472,
			Routes: []Route{{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Source: address.Addr()}}})
		ns, err := netns.Get()
		must(t, err)
		t.Cleanup(func() { ns.Close() })
		return tun, ns
	}
	smallSegments := func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, mss) }); e != nil {
			return e
		}
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	tun1, ns1 := node("1")
	tun2, _ := node("2")
	config := net.ListenConfig{Control: smallSegments}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, "tcp4", "10.244.2.0:5201")
	must(t, err)
	defer listener.Close()

	var joins, sender sync.WaitGroup
	largest := 0
	joins.Go(func() { largest = join(tun2, tun1) })
	joins.Go(func() { join(tun1, tun2) })
	sender.Go(func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = c.Write(make([]byte, total)) // an error shows as a short read below
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the reset
	})

	must(t, netns.Set(ns1))
	dialer := net.Dialer{Control: smallSegments}
	dialer.SetMultipathTCP(false)
	c, err := dialer.DialContext(ctx, "tcp4", "10.244.2.0:5201")
	must(t, err)
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	n, err := io.Copy(io.Discard, c)
	if n != total || err != nil {
		t.Errorf("received %d of %d octets: %v", n, total, err)
	}
	must(t, c.(*net.TCPConn).SetLinger(0)) // a reset, so that no closing connection keeps its namespace
	c.Close()
	listener.Close()
	sender.Wait()
	tun1.Close()
	tun2.Close()
	joins.Wait()
	if largest > gsoMaxSegs || largest < gsoMaxSegs/2 {
		t.Errorf("the largest superpacket stands for %d segments, want close to %d and no more", largest, gsoMaxSegs)
	}
}

// join writes what the kernel sends into one TUN into the other, virtio-net header and all, until one is closed.
// It returns the most segments a packet stood for.
func join(from, to *os.File) (largest int) {
	buf := make([]byte, virtioNetHdrLen+65535)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return largest
		}
		// struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
		if size := int(nl.NativeEndian().Uint16(buf[4:])); size > 0 {
			headers := int(nl.NativeEndian().Uint16(buf[2:]))
			largest = max(largest, (n-virtioNetHdrLen-headers+size-1)/size)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return largest
		}
	}
}
