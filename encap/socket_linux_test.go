package encap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
)

func TestBatchesBothWaysAtOnce(t *testing.T) {
	for _, addr := range loopbacks {
		for _, batch := range []int{1, Batch, 300} {
			t.Run(fmt.Sprintf("%s/%d", addr, batch), func(t *testing.T) {
				a, b := listen(t, addr), listen(t, addr)
				var wg sync.WaitGroup
				for _, way := range [][2]*Socket{{a, b}, {b, a}} {
					wg.Go(func() { sendNumbered(t, way[0], way[1].Addr(), batch) })
					wg.Go(func() { receiveNumbered(t, way[1], way[0].Addr(), batch) })
				}
				wg.Wait()
			})
		}
	}
}

const rounds = 5 // batches each way

// numbered is the datagram of number i: its length and bytes say which it is.
func numbered(i int) []byte {
	return binary.BigEndian.AppendUint32(bytes.Repeat([]byte{byte(i)}, i%1000), uint32(i))
}

func sendNumbered(t *testing.T, s *Socket, to netip.AddrPort, batch int) {
	msgs := make([]Message, batch)
	for r := range rounds {
		for i := range msgs {
			msgs[i] = Message{Buf: numbered(r*batch + i), Addr: to, Err: ErrRefused} // left over from an earlier use
		}
		if sent, err := s.Send(msgs); sent != batch || err != nil {
			t.Errorf("Send = %d %v, want %d", sent, err, batch)
			return
		}
		for i := range msgs {
			if msgs[i].Err != nil {
				t.Errorf("datagram %d: %v", r*batch+i, msgs[i].Err)
			}
		}
	}
}

func receiveNumbered(t *testing.T, s *Socket, from netip.AddrPort, batch int) {
	for i, m := range receive(t, s, rounds*batch, batch, 2000) {
		if want := numbered(i); !bytes.Equal(m.Buf[:m.N], want) || m.Addr != from {
			t.Errorf("datagram %d from %s: %d bytes, want %d from %s", i, m.Addr, m.N, len(want), from)
		}
	}
}

// One Recv takes all that has arrived. When that is, only the kernel knows.
func TestRecvTakesMoreThanOne(t *testing.T) {
	a, b := listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	out := []Message{{Buf: []byte("one"), Addr: b.Addr()}, {Buf: []byte("two"), Addr: b.Addr()}}
	in := []Message{{Buf: make([]byte, 100)}, {Buf: make([]byte, 100)}}
	for range 100 {
		send(t, a, out)
		n, err := b.Recv(in)
		if err != nil {
			t.Fatal(err)
		}
		if n == len(out) {
			return
		}
		receive(t, b, len(out)-n, 1, 100)
	}
	t.Error("Recv never takes two datagrams at once")
}

func TestEmptyBatches(t *testing.T) {
	s := listen(t, "127.0.0.1")
	if n, err := s.Send(nil); n != 0 || err != nil {
		t.Errorf("Send of nothing = %d %v", n, err)
	}
	send(t, s, []Message{{Addr: s.Addr()}})
	if m := receive(t, s, 1, 1, 10)[0]; m.N != 0 {
		t.Errorf("a datagram without payload arrives with %d bytes", m.N)
	}
}

// Every DS field goes over the wire, ECN included, and none sticks to the
// message headers that the next batch uses.
func TestDSField(t *testing.T) {
	for _, addr := range loopbacks {
		t.Run(addr, func(t *testing.T) {
			a, b := listen(t, addr), listen(t, addr)
			for _, ds := range []func(i int) uint8{
				func(i int) uint8 { return uint8(i) },
				func(i int) uint8 { return 0 },
				func(i int) uint8 { return uint8(255 - i) },
			} {
				msgs := make([]Message, 256)
				for i := range msgs {
					msgs[i] = Message{Buf: []byte{byte(i)}, Addr: b.Addr(), DSField: ds(i)}
				}
				send(t, a, msgs)
				for i, m := range receive(t, b, len(msgs), Batch, 10) {
					if m.DSField != ds(i) {
						t.Errorf("sent %#02x, received %#02x", ds(i), m.DSField)
					}
				}
			}
		})
	}
}

func TestTruncated(t *testing.T) {
	a, b := listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	sizes := []int{99, 100, 101, 60000, 100}
	msgs := make([]Message, len(sizes))
	for i, n := range sizes {
		msgs[i] = Message{Buf: make([]byte, n), Addr: b.Addr()}
	}
	send(t, a, msgs)
	for i, m := range receive(t, b, len(msgs), Batch, 100) {
		if m.N != min(sizes[i], 100) {
			t.Errorf("a datagram of %d bytes in a buffer of 100: N %d", sizes[i], m.N)
		}
	}
}

// A datagram that the kernel refuses costs no other its place.
func TestSendSaysWhichDatagramWasRefused(t *testing.T) {
	// The largest payload of an IPv4 datagram, and of what fits in the loopback
	// device's MTU of 65536 beside an IPv6 header.
	largest := map[string]int{"127.0.0.1": 65535 - 20 - 8, "::1": 65536 - 40 - 8}
	for _, addr := range loopbacks {
		t.Run(addr, func(t *testing.T) {
			a, b := listen(t, addr), listen(t, addr)
			large := make([]byte, largest[addr]+1)
			nowhere := netip.AddrPortFrom(b.Addr().Addr(), 0)
			want := map[int]error{0: ErrTooBig, 5: ErrTooBig, 6: ErrTooBig, 7: ErrRefused, Batch - 1: ErrRefused, Batch: ErrTooBig, 299: ErrTooBig}

			msgs := make([]Message, 300)
			for i := range msgs {
				msgs[i] = Message{Buf: numbered(i), Addr: b.Addr()}
				switch want[i] {
				case ErrTooBig:
					msgs[i].Buf = large
				case ErrRefused:
					msgs[i].Addr = nowhere
				}
			}
			msgs[150].Buf = large[1:]
			send(t, a, msgs)
			var through []Message
			for i, m := range msgs {
				if !errors.Is(m.Err, want[i]) || want[i] == nil && m.Err != nil {
					t.Errorf("datagram %d: %v, want %v", i, m.Err, want[i])
				}
				if want[i] == nil {
					through = append(through, m)
				}
			}
			for i, m := range receive(t, b, len(through), 16, MaxDatagram) {
				if !bytes.Equal(m.Buf[:m.N], through[i].Buf) {
					t.Errorf("of the datagrams that went through, number %d arrives as %d bytes, want %d", i, m.N, len(through[i].Buf))
				}
			}
		})
	}
}

// A node that is down answers with ICMP, which anyone can forge: it is no error
// of the socket.
func TestUnreachablePeerHarmsNothing(t *testing.T) {
	for _, addr := range loopbacks {
		a, b, down := listen(t, addr), listen(t, addr), listen(t, addr)
		nobody := down.Addr()
		if err := down.Close(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			msgs := []Message{{Buf: []byte("datagram"), Addr: b.Addr()}, {Buf: []byte("lost"), Addr: nobody}}
			send(t, a, msgs)
			if msgs[0].Err != nil || msgs[1].Err != nil {
				t.Errorf("%s: %v, %v", addr, msgs[0].Err, msgs[1].Err)
			}
			receive(t, b, 1, 1, 100)
			send(t, b, []Message{{Buf: []byte("reply"), Addr: a.Addr()}})
			receive(t, a, 1, 1, 100)
		}
	}
}

func TestSendAndRecvAllocateNothing(t *testing.T) {
	for _, addr := range loopbacks {
		a, b := listen(t, addr), listen(t, addr)
		out, in := make([]Message, Batch), make([]Message, Batch)
		for i := range out {
			out[i] = Message{Buf: make([]byte, 100), Addr: b.Addr(), DSField: uint8(i)}
			in[i].Buf = make([]byte, 2000)
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := a.Send(out); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < len(out); {
				n, err := b.Recv(in)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a batch there", addr, n)
		}
	}
}
