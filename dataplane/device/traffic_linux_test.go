//go:build netns

package device

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/packet/golden"
)

// peer is the far end that the test plays, as the golden packets have it.
var peer = netip.MustParseAddrPort("10.244.1.7:40000")

// kernelSocket is the kernel's end.
func kernelSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.244.2.9:5353")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := errors.Join(conn.SetDeadline(time.Now().Add(fuse)), conn.SetReadBuffer(4<<20)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// receive wants the kernel's socket to hand over the payloads, in order.
func receive(t *testing.T, conn *net.UDPConn, payloads ...[]byte) {
	t.Helper()
	buf := make([]byte, MaxPacket)
	for i, want := range payloads {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil || from != peer || !bytes.Equal(buf[:n], want) {
			t.Fatalf("datagram %d of %d: %d bytes from %s (%v), want %d from %s", i, len(payloads), n, from, err, len(want), peer)
		}
	}
}

func TestWriteReachesAKernelSocket(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := open(t, handle, "weft0", "10.244.2.9/16")
	conn := kernelSocket(t)
	packets := writable(golden.Load(t, "ipv4-udp"), golden.Load(t, "ipv4-dscp-ef"), udp(t, []byte("another")))
	if lost, err := dev.Write(packets, Headroom); lost != 0 || err != nil {
		t.Fatalf("Write = %d %v", lost, err)
	}
	hello := []byte("weft says hello!")
	receive(t, conn, hello, hello, []byte("another"))
}

// What Read hands over is a whole packet, its checksums completed: gopacket makes
// the same bytes of its fields.
func TestReadTakesFromAKernelSocket(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := open(t, handle, "weft0", "10.244.2.9/16")
	conn := kernelSocket(t)
	bufs, sizes := readable(dev.BatchSize())
	for _, size := range []int{0, 1, 1472} {
		payload := bytes.Repeat([]byte{0xa5}, size)
		if _, err := conn.WriteToUDPAddrPort(payload, peer); err != nil {
			t.Fatal(err)
		}
		n, err := dev.Read(bufs, sizes, Headroom)
		if n != 1 || err != nil {
			t.Fatalf("Read = %d %v", n, err)
		}
		checkDatagram(t, bufs[0][Headroom:Headroom+sizes[0]], payload)
	}
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

// A superpacket of more segments than Read has buffers loses what is left over
// and says so; what there is room for is good.
func TestReadIntoTooFewBuffers(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := open(t, handle, "weft0", "10.244.2.9/16")
	conn := kernelSocket(t)
	const segment = 100
	if err := setSegment(conn, segment); err != nil {
		t.Fatal(err)
	}
	payload := slices.Concat(bytes.Repeat([]byte{1}, segment), bytes.Repeat([]byte{2}, segment), bytes.Repeat([]byte{3}, segment), []byte{4})
	for _, room := range []int{4, 3} {
		if _, err := conn.WriteToUDPAddrPort(payload, peer); err != nil {
			t.Fatal(err)
		}
		bufs, sizes := readable(room)
		n, err := dev.Read(bufs, sizes, Headroom)
		if room == 4 && (n != 4 || err != nil) || room < 4 && !errors.Is(err, ErrMalformed) {
			t.Fatalf("Read into %d buffers = %d %v", room, n, err)
		}
		for i := range n {
			checkDatagram(t, bufs[i][Headroom:Headroom+sizes[i]], payload[i*segment:min((i+1)*segment, len(payload))])
		}
	}
}

func setSegment(conn *net.UDPConn, size int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var optionErr error
	err = raw.Control(func(fd uintptr) { optionErr = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	return errors.Join(err, optionErr)
}

// flow is n packets of one flow and equal size, which Write merges where it may.
func flow(t *testing.T, n int) (packets, payloads [][]byte) {
	t.Helper()
	for i := range n {
		payload := fmt.Appendf(nil, "datagram %3d", i)
		packets, payloads = append(packets, udp(t, payload)), append(payloads, payload)
	}
	return packets, payloads
}

// Kernels before 6.9 refuse more than 64 segments.
func TestWriteMergesNoMoreThanEveryKernelTakes(t *testing.T) {
	handle := enterNamespace(t)
	dev, link := open(t, handle, "weft0", "10.244.2.9/16")
	conn := kernelSocket(t)
	packets, payloads := flow(t, 128)
	if lost, err := dev.Write(writable(packets...), Headroom); lost != 0 || err != nil {
		t.Fatalf("Write = %d %v", lost, err)
	}
	receive(t, conn, payloads...)
	if n := statistics(t, handle, link).RxPackets; n < 2 {
		t.Errorf("128 packets went in as %d", n)
	}
}

// A kernel that refuses superpackets is never given one again.
func TestWriteAfterTheKernelRefused(t *testing.T) {
	handle := enterNamespace(t)
	dev, link := open(t, handle, "weft0", "10.244.2.9/16")
	conn := kernelSocket(t)
	// Any packet that the driver finds invalid stands for a refused superpacket.
	refused := golden.Load(t, "malformed-version-5")
	good, payloads := flow(t, 128)
	packets := writable(slices.Concat([][]byte{udp(t, []byte("before")), refused}, good[:1])...)
	if lost, err := dev.Write(packets, Headroom); lost != 1 || !errors.Is(err, unix.EINVAL) {
		t.Fatalf("Write of three packets, one refused = %d %v", lost, err)
	}
	receive(t, conn, []byte("before"), payloads[0])

	packets = writable(good...)
	before := slices.Clone(packets)
	counted := statistics(t, handle, link).RxPackets
	if lost, err := dev.Write(packets, Headroom); lost != 0 || err != nil {
		t.Fatalf("Write = %d %v", lost, err)
	}
	receive(t, conn, payloads...)
	if n := statistics(t, handle, link).RxPackets - counted; n != 128 {
		t.Errorf("128 packets went in as %d", n)
	}
	for i := range packets {
		if cap(packets[i]) != cap(before[i]) {
			t.Fatalf("the caller's buffer %d has a capacity of %d, was %d", i, cap(packets[i]), cap(before[i]))
		}
	}
}

func TestWriteWhileTheLinkIsDown(t *testing.T) {
	handle := enterNamespace(t)
	dev, link := open(t, handle, "weft0", "10.244.2.9/16")
	conn := kernelSocket(t)
	packets, payloads := flow(t, 100)
	if err := handle.LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
	if lost, err := dev.Write(writable(packets...), Headroom); lost != 100 || !errors.Is(err, unix.EIO) {
		t.Errorf("while the link is down: Write = %d %v", lost, err)
	}
	if err := handle.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	if lost, err := dev.Write(writable(packets...), Headroom); lost != 0 || err != nil {
		t.Errorf("after the link is up again: Write = %d %v", lost, err)
	}
	receive(t, conn, payloads...)
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := open(t, handle, "weft0", "10.244.2.9/16")
	conn := kernelSocket(t)
	packets, _ := flow(t, 128)
	out := writable(packets...)
	in, sizes := readable(dev.BatchSize())
	bufs := make([][]byte, len(out))
	datagram := make([]byte, 1000)
	if n := testing.AllocsPerRun(100, func() {
		copy(bufs, out) // whose lengths Write has changed
		if _, err := dev.Write(bufs, Headroom); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.WriteToUDPAddrPort(datagram, peer); err != nil {
			t.Fatal(err)
		}
		if _, err := dev.Read(in, sizes, Headroom); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a batch there and a packet back", n)
	}
}
