//go:build netns

package device

import (
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// carried is what went over a bridge in one direction.
type carried struct {
	reads, members int
	largest        int // superpacket, in bytes
}

// carry writes to one queue what it reads from another, as groups, until stop polls as readable.
func carry(t *testing.T, stop int, from, to Queue, group func(packet.Packet) packet.Group) (c carried) {
	arena, pkts := make([]byte, 4*MaxReadTAP), make([]packet.Packet, 16)
	fds := []unix.PollFd{{Fd: int32(stop), Events: unix.POLLIN}, {Fd: int32(from.FD()), Events: unix.POLLIN}}
	for {
		n, err := from.Read(arena, pkts)
		if err != nil {
			t.Error(err)
			return c
		}
		var groups []packet.Group
		for _, p := range pkts[:n] {
			g := group(p)
			groups = append(groups, g)
			c.members += len(g.Members)
			c.largest = max(c.largest, len(p.Data()))
		}
		c.reads += n
		if refused, err := to.Write(groups); err != nil {
			t.Errorf("%d refused: %v", refused, err)
		}
		if n > 0 {
			continue
		}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			t.Error(err)
			return c
		}
		if fds[0].Revents != 0 {
			return c
		}
	}
}

// exchange sends size random bytes while it receives as many of the far end's,
// and returns the sums of both.
func exchange(t *testing.T, conn *net.TCPConn, seed byte, size int64) (sent, received [sha256.Size]byte) {
	var wg sync.WaitGroup
	wg.Go(func() {
		sum := sha256.New()
		random := rand.NewChaCha8([32]byte{seed})
		if _, err := io.CopyN(io.MultiWriter(conn, sum), random, size); err != nil {
			t.Errorf("send: %v", err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Errorf("send the end: %v", err)
		}
		sent = [sha256.Size]byte(sum.Sum(nil))
	})
	sum := sha256.New()
	if n, err := io.Copy(sum, conn); n != size || err != nil {
		t.Errorf("received %d bytes of %d: %v", n, size, err)
	}
	received = [sha256.Size]byte(sum.Sum(nil))
	wg.Wait()
	return sent, received
}

func allowIPv6(t *testing.T) { t.Helper(); allowIPv6On(t, "default") }

func allowIPv6On(t *testing.T, link string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
}

// Two kernels talk TCP over two devices and nothing but Read and Write between
// them: what one kernel sends as a superpacket the other takes as such.
func TestTCPBetweenTwoKernels(t *testing.T) {
	for _, c := range []struct {
		name       string
		a, b       string
		want       offload.Set
		superWrite bool // whether Write is to hand over superpackets
	}{
		{"IPv4", "10.244.1.7/16", "10.244.2.9/16", both, true},
		{"IPv6", "fd00:244::1/64", "fd00:244::2/64", both, true},
		{"IPv4, portable", "10.244.1.7/16", "10.244.2.9/16", 0, true},
		{"IPv6, portable", "fd00:244::1/64", "fd00:244::2/64", 0, true},
		// Read hands over partial checksums, and superpackets of nothing.
		{"IPv4, USO only", "10.244.1.7/16", "10.244.2.9/16", offload.Of(offload.USO), false},
	} {
		t.Run(c.name, func(t *testing.T) { bridge(t, c.a, c.b, c.want, c.superWrite) })
	}
}

func bridge(t *testing.T, addrA, addrB string, want offload.Set, superWrite bool) {
	ours := enterNamespace(t)
	allowIPv6(t)
	a, linkA := mustOpen(t, ours, 1, want, theKernel, addrA)
	listener := listenTCP(t, addrA)
	theirs := enterNamespace(t)
	allowIPv6(t)
	b, linkB := mustOpen(t, theirs, 1, want, theKernel, addrB)
	fromA, fromB := converse(t, listener, a.Queues()[0], b.Queues()[0], group)

	if a.Features() != want || b.Features() != want {
		t.Errorf("what was wanted is lost: %v %v", a.Refused(), b.Refused())
	}
	statsA, statsB := statistics(t, ours, linkA), statistics(t, theirs, linkB)
	for _, c := range []struct {
		way string
		carried
		in uint64
	}{{"to B", fromA, statsB.RxPackets}, {"to A", fromB, statsA.RxPackets}} {
		t.Logf("%s: %d packets read that stand for %d, the largest of %d bytes, written as %d", c.way, c.reads, c.members, c.largest, c.in)
		if want.Has(offload.TSO) && (c.largest <= 32<<10 || int(c.in) != c.reads) {
			t.Errorf("%s: the largest superpacket has %d bytes, and %d were written as %d", c.way, c.largest, c.reads, c.in)
		}
		if superWrite != (int(c.in) < c.members) {
			t.Errorf("%s: %d packets were written as %d", c.way, c.members, c.in)
		}
	}
	for name, s := range map[string]uint64{"A": statsA.RxErrors + statsA.TxErrors, "B": statsB.RxErrors + statsB.TxErrors} {
		if s != 0 {
			t.Errorf("device %s counts %d errors", name, s)
		}
	}
}

func listenTCP(t *testing.T, cidr string) net.Listener {
	t.Helper()
	ip, _, err := net.ParseCIDR(cidr)
	if err != nil {
		t.Fatal(err)
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	listener, err := config.Listen(t.Context(), "tcp", net.JoinHostPort(ip.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// converse connects the namespace of the test's thread, behind b, to a listener behind a, and
// sends 8 MiB each way at once.
func converse(t *testing.T, listener net.Listener, a, b Queue, group func(packet.Packet) packet.Group) (fromA, fromB carried) {
	const size = 8 << 20
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stop)
	var joins sync.WaitGroup
	joins.Go(func() { fromA = carry(t, stop, a, b, group) })
	joins.Go(func() { fromB = carry(t, stop, b, a, group) })
	ended := sync.OnceFunc(func() {
		if _, err := unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Error(err)
		}
		joins.Wait()
	})
	defer ended()

	near, err := net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	if err := errors.Join(near.SetDeadline(time.Now().Add(fuse)), far.SetDeadline(time.Now().Add(fuse))); err != nil {
		t.Fatal(err)
	}

	var ends sync.WaitGroup
	var nearSent, nearReceived, farSent, farReceived [sha256.Size]byte
	ends.Go(func() { nearSent, nearReceived = exchange(t, near, 1, size) })
	ends.Go(func() { farSent, farReceived = exchange(t, far, 2, size) })
	ends.Wait()
	if nearSent != farReceived || farSent != nearReceived {
		t.Error("the bytes that arrived are not the bytes that were sent")
	}
	// A reset, so that no closing connection keeps its namespace.
	if err := errors.Join(near.SetLinger(0), far.SetLinger(0), near.Close(), far.Close()); err != nil {
		t.Error(err)
	}
	ended()
	return fromA, fromB
}
