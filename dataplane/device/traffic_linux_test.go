//go:build netns

package device

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

func TestWriteReachesAKernelSocket(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, _ := mustOpen(t, handle, 1, want, theKernel, "10.244.2.9/16")
		conn := kernelSocket(t)
		groups := []packet.Group{
			single(golden.Load(t, "ipv4-udp")), single(golden.Load(t, "ipv4-dscp-ef")), single(datagram(t, []byte("another"))),
		}
		if refused, err := dev.Queues()[0].Write(groups); refused != 0 || err != nil {
			t.Fatalf("Write = %d %v", refused, err)
		}
		hello := []byte("weft says hello!")
		receive(t, conn, hello, hello, []byte("another"))
	})
}

// Someone completes the checksum, or the socket would get nothing.
func TestWriteOfAPartialChecksum(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, _ := mustOpen(t, handle, 1, want, theKernel, "10.244.2.9/16")
		conn := kernelSocket(t)
		p := datagram(t, []byte("partial"))
		finish(p, 20, unix.IPPROTO_UDP, 6)
		groups := []packet.Group{
			single(p), // wrong as it is, and dropped by the kernel
			{Members: [][]byte{p}, CsumStart: 20, CsumOffset: 6, Partial: true},
			single(datagram(t, []byte("last"))),
		}
		if refused, err := dev.Queues()[0].Write(groups); refused != 0 || err != nil {
			t.Fatalf("Write = %d %v", refused, err)
		}
		receive(t, conn, []byte("partial"), []byte("last"))
	})
}

// What Read hands over is a whole packet, its checksum complete or to be
// completed as it says: then gopacket makes the same bytes of its fields.
func TestReadTakesFromAKernelSocket(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, _ := mustOpen(t, handle, 1, want, theKernel, "10.244.2.9/16")
		conn := kernelSocket(t)
		for _, size := range []int{0, 1, 1472} {
			payload := bytes.Repeat([]byte{0xa5}, size)
			send(t, conn, payload)
			p := readOne(t, dev.Queues()[0])
			if p.Start != Headroom || p.GSO != packet.NoGSO || p.SegmentSize != 0 || (p.CsumStart != 0) != (want != 0) {
				t.Errorf("Read says %d %d %d %d", p.Start, p.GSO, p.SegmentSize, p.CsumStart)
			}
			checkDatagram(t, complete(p), payload)
		}
	})
}

// complete is the packet with its checksum.
func complete(p packet.Packet) []byte {
	b := slices.Clone(p.Data())
	if p.CsumStart == 0 {
		return b
	}
	sum := packet.Checksum(b[p.CsumStart:], 0)
	b[p.CsumStart+p.CsumOffset], b[p.CsumStart+p.CsumOffset+1] = byte(sum>>8), byte(sum)
	return b
}

// checkDatagram wants p to be payload on its way from the kernel's socket to peer.
func checkDatagram(t *testing.T, p, payload []byte) {
	t.Helper()
	decoded := gopacket.NewPacket(p, layers.LayerTypeIPv4, gopacket.Default)
	header, ok := decoded.TransportLayer().(*layers.UDP)
	if !ok || header.DstPort != layers.UDPPort(peer.Port()) || !bytes.Equal(header.Payload, payload) {
		t.Fatalf("not the datagram of %d bytes: %v", len(payload), decoded)
	}
	if err := header.SetNetworkLayerForChecksum(decoded.NetworkLayer()); err != nil {
		t.Fatal(err)
	}
	again := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializePacket(again, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, decoded); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p, again.Bytes()) {
		t.Errorf("Read hands over\n%x, gopacket encodes\n%x", p, again.Bytes())
	}
}

func TestUDPSuperpacketFromTheKernel(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := mustOpen(t, handle, 1, both, theKernel, "10.244.2.9/16")
	conn := kernelSocket(t)
	setSegment(t, conn, 1000)
	payload := make([]byte, 40*1000+7)
	for i := range payload {
		payload[i] = byte(i / 1000)
	}
	send(t, conn, payload)
	p := readOne(t, dev.Queues()[0])
	if p.GSO != packet.UDP || p.SegmentSize != 1000 || p.CsumStart != 20 || p.CsumOffset != 6 || !bytes.Equal(p.Data()[28:], payload) {
		t.Fatalf("Read says %d %d %d %d of %d bytes", p.GSO, p.SegmentSize, p.CsumStart, p.CsumOffset, len(p.Data()))
	}
	g := group(p)
	if len(g.Members) != 41 {
		t.Fatalf("%d members", len(g.Members))
	}
	for i, m := range g.Members {
		checkDatagram(t, complete(packet.Packet{Buf: m, CsumStart: 20, CsumOffset: 6}), payload[i*1000:min((i+1)*1000, len(payload))])
	}
}

func TestUDPSuperpacketToTheKernel(t *testing.T) {
	handle := enterNamespace(t)
	dev, link := mustOpen(t, handle, 1, both, theKernel, "10.244.2.9/16")
	conn := kernelSocket(t)
	g, payloads := super(t, 40, 1000)
	if refused, err := dev.Queues()[0].Write([]packet.Group{g}); refused != 0 || err != nil {
		t.Fatalf("Write = %d %v", refused, err)
	}
	receive(t, conn, payloads...)
	if n := statistics(t, handle, link).RxPackets; n != 1 {
		t.Errorf("%d packets went in as %d", len(g.Members), n)
	}
}

// Packets come in order, each where Read says, and no more of them than there
// is room for. The rest is there for the next Read.
func TestReadFillsWhatItIsGiven(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, _ := mustOpen(t, handle, 1, want, theKernel, "10.244.2.9/16")
		q, conn := dev.Queues()[0], kernelSocket(t)
		for _, c := range []struct{ arena, pkts, want int }{
			{MaxRead - 1, 10, 0}, {MaxRead, 0, 0}, // no room
			{MaxRead, 10, 1},
			{2 * MaxRead, 3, 3},
			{4 * MaxRead, 10, 5}, // all that is left
			{4 * MaxRead, 10, 0},
		} {
			if c.arena == MaxRead && c.pkts == 10 {
				for i := range 9 {
					send(t, conn, bytes.Repeat([]byte{byte(i)}, 100*i))
				}
			}
			arena, pkts := make([]byte, c.arena), make([]packet.Packet, c.pkts)
			n, err := q.Read(arena, pkts)
			if n != c.want || err != nil {
				t.Fatalf("Read into %d bytes and %d packets = %d %v, want %d", c.arena, c.pkts, n, err, c.want)
			}
			at := 0
			for _, p := range pkts[:n] {
				if &p.Buf[0] != &arena[at] || cap(p.Buf) != len(p.Buf) || p.Start != Headroom || at%Headroom != 0 {
					t.Fatalf("the packet does not start at %d", at)
				}
				at += (len(p.Buf) + Headroom - 1) / Headroom * Headroom
			}
		}
	})
}

func TestReadKeepsTheOrder(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, _ := mustOpen(t, handle, 1, want, theKernel, "10.244.2.9/16")
		conn := kernelSocket(t)
		setSegment(t, conn, 1000) // which portable queues split, and hold back what has no room
		const segments = 100
		payload := make([]byte, segments*1000)
		for i := range payload {
			payload[i] = byte(i / 1000)
		}
		send(t, conn, payload[:len(payload)/2])
		send(t, conn, payload[len(payload)/2:])
		waitReadable(t, dev.Queues()[0])
		var got []byte
		for {
			pkts := make([]packet.Packet, 7)
			n, err := dev.Queues()[0].Read(make([]byte, 2*MaxRead), pkts)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			for _, p := range pkts[:n] {
				got = append(got, p.Data()[28:]...)
			}
		}
		if !bytes.Equal(got, payload) {
			t.Errorf("%d bytes arrived that are not the %d that were sent", len(got), len(payload))
		}
	})
}

// wireguard/tun refuses a superpacket of more segments than it was given buffers.
// Those that it had room for are good.
func TestPortableReadOfTooManySegments(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := mustOpen(t, handle, 1, 0, theKernel, "10.244.2.9/16")
	q, conn := dev.Queues()[0].(*portable), kernelSocket(t)
	q.pending, q.sizes = q.pending[:3], q.sizes[:3]
	const segment = 100
	setSegment(t, conn, segment)
	payload := slices.Concat(bytes.Repeat([]byte{1}, segment), bytes.Repeat([]byte{2}, segment), bytes.Repeat([]byte{3}, segment), []byte{4})
	send(t, conn, payload)
	waitReadable(t, q)
	arena, pkts := make([]byte, 4*MaxRead), make([]packet.Packet, 4)
	if n, err := q.Read(arena, pkts); n != 0 || !errors.Is(err, ErrMalformed) {
		t.Fatalf("Read = %d %v", n, err)
	}
	n, err := q.Read(arena, pkts)
	if n != 2 || err != nil { // it counts one less
		t.Fatalf("Read = %d %v", n, err)
	}
	for i, p := range pkts[:n] {
		checkDatagram(t, p.Data(), payload[i*segment:(i+1)*segment])
	}
}

func TestWriteWhileTheLinkIsDown(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, link := mustOpen(t, handle, 1, want, theKernel, "10.244.2.9/16")
		q, conn := dev.Queues()[0], kernelSocket(t)
		groups, payloads := singles(t, 100)
		if want != 0 {
			g, more := super(t, 20, 100)
			groups, payloads = append(groups, g), append(payloads, more...)
		}
		if err := handle.LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		if refused, err := q.Write(groups); refused != len(payloads) || !errors.Is(err, unix.EIO) {
			t.Errorf("while the link is down: Write = %d %v", refused, err)
		}
		if err := handle.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		if refused, err := q.Write(groups); refused != 0 || err != nil {
			t.Errorf("after the link is up again: Write = %d %v", refused, err)
		}
		receive(t, conn, payloads...)
		if dev.Features() != want {
			t.Errorf("lost %v", dev.Refused())
		}
	})
}

func TestDeletedDevice(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		for _, queues := range []int{1, 2} {
			handle := enterNamespace(t)
			dev, link := mustOpen(t, handle, queues, want, theKernel, "10.244.2.9/16")
			if err := handle.LinkDel(link); err != nil {
				t.Fatal(err)
			}
			for _, q := range dev.Queues() {
				waitReadable(t, q) // else a worker would sleep on
				if n, err := q.Read(make([]byte, MaxRead), make([]packet.Packet, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
					t.Errorf("Read = %d %v", n, err)
				}
				groups, _ := singles(t, 3)
				if refused, err := q.Write(groups); refused != 3 || !errors.Is(err, net.ErrClosed) {
					t.Errorf("Write = %d %v", refused, err)
				}
			}
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, _ := mustOpen(t, handle, 1, want, theKernel, "10.244.2.9/16")
		q, conn := dev.Queues()[0], kernelSocket(t)
		groups, _ := singles(t, 128)
		if want != 0 {
			g, _ := super(t, 40, 1000)
			groups = append(groups, g)
		}
		arena, pkts := make([]byte, 2*MaxRead), make([]packet.Packet, 128)
		payload := make([]byte, 1000)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := q.Write(groups); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.WriteToUDPAddrPort(payload, peer); err != nil {
				t.Fatal(err)
			}
			if n, err := q.Read(arena, pkts); n != 1 || err != nil {
				t.Fatalf("Read = %d %v", n, err)
			}
		}); n != 0 {
			t.Errorf("%v allocations for a batch there and a packet back", n)
		}
	})
}
