package encap

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopbacks are the addresses that every test of a socket runs over.
var loopbacks = []string{"127.0.0.1", "::1"}

// offloads are the sets of features that every test of the data path runs with.
var offloads = []offload.Set{0, offload.Of(offload.GSO), offload.Of(offload.GRO), offload.All}

// fuse ends a test that would wait for ever for a datagram.
const fuse = 30 * time.Second

// listen opens a data port on a free port of addr, for the length of the test.
func listen(t *testing.T, addr string, workers int, want offload.Set) *Port {
	t.Helper()
	return listenAs(t, config(netip.AddrPortFrom(netip.MustParseAddr(addr), 0), workers, want))
}

func listenAs(t *testing.T, c ListenConfig) *Port {
	t.Helper()
	p, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// config is that of a port for plain UDP alone.
func config(addr netip.AddrPort, workers int, want offload.Set) ListenConfig {
	return ListenConfig{Addrs: []netip.Addr{addr.Addr()}, Ports: map[Codec]uint16{UDP: addr.Port()}, Workers: workers, Want: want}
}

// addrOf is where p receives plain UDP, at its first address.
func addrOf(p *Port) netip.AddrPort {
	number, _ := p.Number(UDP)
	return netip.AddrPortFrom(p.Addrs()[0], number)
}

// pair is two data ports on addr, and the one worker of each.
func pair(t *testing.T, addr string, want offload.Set) (a, b *Socket) {
	t.Helper()
	return listen(t, addr, 1, want).Sockets()[0], listen(t, addr, 1, want).Sockets()[0]
}

// poll waits until something is true of one of the descriptors.
func poll(t *testing.T, events int16, fds ...int) (ok bool) {
	t.Helper()
	var set []unix.PollFd
	for _, fd := range fds {
		set = append(set, unix.PollFd{Fd: int32(fd), Events: events})
	}
	for end := time.Now().Add(fuse); time.Now().Before(end); {
		n, err := unix.Poll(set, int(time.Until(end).Milliseconds()))
		if n > 0 {
			return true
		}
		if err != nil && err != unix.EINTR {
			t.Errorf("poll: %v", err)
			return false
		}
	}
	t.Error("poll: nothing for too long")
	return false
}

// send sends msgs to the last, waiting where there is no room.
func send(t *testing.T, s *Socket, msgs []Message) {
	t.Helper()
	for len(msgs) > 0 {
		n, err := s.Send(msgs)
		if err != nil {
			t.Errorf("Send: %v", err)
			return
		}
		if (n < len(msgs)) != (s.Full() >= 0) {
			t.Errorf("Send = %d of %d, and %d is full", n, len(msgs), s.Full())
			return
		}
		if msgs = msgs[n:]; len(msgs) > 0 && !poll(t, unix.POLLOUT, s.Full()) {
			return
		}
	}
}

// datagram is what a test knows of one that arrived.
type datagram struct {
	bytes []byte
	from  netip.AddrPort
	ds    uint8
	with  int // how many arrived at once with it
}

// receive receives n datagrams where there is one receiver.
func receive(t *testing.T, s *Socket, n int) (all []datagram) {
	t.Helper()
	return receiveAt(t, s, 0, n)
}

// receiveAt receives n datagrams at one receiver, in as few calls as it takes.
func receiveAt(t *testing.T, s *Socket, receiver, n int) (all []datagram) {
	t.Helper()
	msgs := make([]Received, 16)
	for i := range msgs {
		msgs[i].Buf = make([]byte, MaxDatagram)
	}
	for len(all) < n {
		if !poll(t, unix.POLLIN, s.Receivers()[receiver].FD) {
			t.Errorf("after %d of %d datagrams", len(all), n)
			return all
		}
		got, err := s.Recv(receiver, msgs)
		if err != nil {
			t.Error(err)
			return all
		}
		for _, m := range msgs[:got] {
			all = append(all, apart(m)...)
		}
	}
	if len(all) > n {
		t.Errorf("%d datagrams arrived, want %d", len(all), n)
	}
	return all
}

// apart is the datagrams of a message.
func apart(m Received) (all []datagram) {
	for b := bytes.Clone(m.Buf[:m.N]); ; {
		n := min(m.SegmentSize, len(b))
		all = append(all, datagram{bytes: b[:n], from: m.Addr, ds: m.DSField})
		if b = b[n:]; len(b) == 0 {
			break
		}
	}
	for i := range all {
		all[i].with = len(all)
	}
	return all
}

// message is one datagram.
func message(to *Socket, b []byte) Message {
	return Message{Pieces: [][]byte{b}, PerSegment: 1, Segments: 1, SegmentSize: len(b), Addr: addrOf(to.port)}
}

// messages are several datagrams of size bytes, the last of last bytes, in one
// message, each in perSegment pieces. Their bytes are random, but for the first, which says
// that they are packets.
func messages(r *rand.ChaCha8, to *Socket, segments, size, last, perSegment int) Message {
	m := Message{PerSegment: perSegment, Segments: segments, SegmentSize: size, Addr: addrOf(to.port)}
	for i := range segments {
		n := size
		if i == segments-1 {
			n = last
		}
		b := make([]byte, n)
		r.Read(b)
		if n > 0 {
			b[0] = 0x45
		}
		head := 0
		if perSegment == 2 {
			head = min(n, 40)
			m.Pieces = append(m.Pieces, b[:head])
		}
		m.Pieces = append(m.Pieces, b[head:])
	}
	return m
}

// datagramsOf is what msgs are on the wire, found the plain way: all bytes in one
// row, cut every SegmentSize.
func datagramsOf(msgs []Message) (all [][]byte) {
	for _, m := range msgs {
		row := bytes.Join(m.Pieces, nil)
		for len(row) > m.SegmentSize {
			all = append(all, row[:m.SegmentSize])
			row = row[m.SegmentSize:]
		}
		all = append(all, row)
	}
	return all
}

// compare wants got to be the datagrams of msgs, in order.
func compare(t *testing.T, got []datagram, msgs []Message) {
	t.Helper()
	want := datagramsOf(msgs)
	if len(got) != len(want) {
		t.Errorf("%d datagrams arrived, want %d", len(got), len(want))
		return
	}
	for i := range want {
		if !bytes.Equal(got[i].bytes, want[i]) {
			t.Errorf("datagram %d of %d arrives with %d bytes that are not the %d sent", i, len(want), len(got[i].bytes), len(want[i]))
			return
		}
	}
}

func seeded(n byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{n}) }
