//go:build netns

package device

import (
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// carry writes to one device what it reads from another, until one is closed.
func carry(t *testing.T, from, to *TUN) (packets uint64) {
	bufs, sizes := readable(from.BatchSize())
	out := make([][]byte, len(bufs))
	for {
		n, err := from.Read(bufs, sizes, Headroom)
		if errors.Is(err, net.ErrClosed) {
			return packets
		}
		if err != nil {
			t.Error(err)
			return packets
		}
		for i := range n {
			out[i] = bufs[i][:Headroom+sizes[i]]
		}
		lost, err := to.Write(out[:n], Headroom)
		if errors.Is(err, net.ErrClosed) {
			return packets
		}
		if err != nil {
			t.Errorf("%d of %d packets lost: %v", lost, n, err)
		}
		packets += uint64(n)
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

// Two kernels talk TCP over two devices and nothing but Read and Write between
// them: what one kernel sends as superpackets the other receives as such.
func TestSuperpacketsArriveIntact(t *testing.T) {
	const size = 8 << 20
	ours := enterNamespace(t)
	a, linkA := open(t, ours, "weft0", "10.244.1.7/16")
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(10, 244, 1, 7)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	theirs := enterNamespace(t)
	b, linkB := open(t, theirs, "weft0", "10.244.2.9/16")

	var bridge sync.WaitGroup
	var fromA, fromB uint64
	bridge.Go(func() { fromA = carry(t, a, b) })
	bridge.Go(func() { fromB = carry(t, b, a) })
	defer bridge.Wait()
	defer a.Close()
	defer b.Close()

	near, err := net.DialTCP("tcp4", nil, listener.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
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

	statsA, statsB := statistics(t, ours, linkA), statistics(t, theirs, linkB)
	a.Close()
	b.Close()
	bridge.Wait()
	for _, c := range []struct {
		way              string
		packets, out, in uint64
	}{
		{"to B", fromA, statsA.TxPackets, statsB.RxPackets},
		{"to A", fromB, statsB.TxPackets, statsA.RxPackets},
	} {
		t.Logf("%s: %d superpackets read as %d packets, written as %d superpackets", c.way, c.out, c.packets, c.in)
		if c.packets <= c.out || c.packets <= c.in {
			t.Errorf("%s: %d superpackets were read as %d packets and written as %d", c.way, c.out, c.packets, c.in)
		}
	}
	for name, s := range map[string]uint64{"A": statsA.RxErrors + statsA.RxDropped + statsA.TxErrors, "B": statsB.RxErrors + statsB.RxDropped + statsB.TxErrors} {
		if s != 0 {
			t.Errorf("device %s counts %d errors", name, s)
		}
	}
}
