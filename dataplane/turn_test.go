package dataplane

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/encap"
)

// replay is a device and a wire that hand over the same batch again and again,
// and swallow what they are given.
type replay struct {
	packet []byte
	from   netip.AddrPort
	taken  int
}

func (r *replay) BatchSize() int { return encap.Batch }

func (r *replay) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for i := range bufs {
		sizes[i] = copy(bufs[i][offset:], r.packet)
	}
	return len(bufs), nil
}

func (r *replay) Write(bufs [][]byte, _ int) (int, error) {
	r.taken += len(bufs)
	return 0, nil
}

func (r *replay) Recv(msgs []encap.Message) (int, error) {
	for i := range msgs {
		msgs[i].N = copy(msgs[i].Buf, r.packet)
		msgs[i].Addr = r.from
	}
	return len(msgs), nil
}

func (r *replay) Send(msgs []encap.Message) (int, error) {
	r.taken += len(msgs)
	return len(msgs), nil
}

func (r *replay) Close() error { return nil }

// newReplay is an engine with one peer. Its device and wire replay a packet of
// 1,400 bytes between the two blocks, out or in.
func newReplay(tb testing.TB, in bool) (*Engine, *replay) {
	here, there := netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("10.244.2.0/24")
	r := &replay{from: netip.MustParseAddrPort("198.51.100.2:8285")}
	src, dst := here.Addr().Next(), there.Addr().Next()
	if in {
		src, dst = dst, src
	}
	r.packet = make([]byte, 1400)
	r.packet[0], r.packet[2], r.packet[3], r.packet[8], r.packet[9] = 0x45, 1400>>8, 1400&0xff, 64, 17
	copy(r.packet[12:], src.AsSlice())
	copy(r.packet[16:], dst.AsSlice())
	sum := 0
	for i := 0; i < 20; i += 2 {
		sum += int(r.packet[i])<<8 | int(r.packet[i+1])
	}
	sum = ^(sum&0xffff + sum>>16)
	r.packet[10], r.packet[11] = byte(sum>>8), byte(sum)

	e := New(r, r, encap.UDP)
	err := e.Apply(Config{
		PodCIDRs: []netip.Prefix{here}, Address: here.Addr(), MTU: 1472,
		Peers: []Peer{{ID: "b", Endpoint: r.from, PodCIDRs: []netip.Prefix{there}, MTU: 1472, Codec: encap.UDP}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return e, r
}

// turns are the two loops' bodies: what the engine does for each batch.
func turns(tb testing.TB) map[string]func() error {
	out, _ := newReplay(tb, false)
	in, _ := newReplay(tb, true)
	return map[string]func() error{"egress": out.newEgress().turn, "ingress": in.newIngress().turn}
}

func TestNoAllocationPerPacket(t *testing.T) {
	for name, turn := range turns(t) {
		if n := testing.AllocsPerRun(100, func() {
			if err := turn(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a batch of %d packets", name, n, encap.Batch)
		}
	}
}

func TestReplayIsForwarded(t *testing.T) {
	for _, in := range []bool{false, true} {
		e, r := newReplay(t, in)
		turn := e.newEgress().turn
		if in {
			turn = e.newIngress().turn
		}
		if err := turn(); err != nil {
			t.Fatal(err)
		}
		if r.taken != encap.Batch {
			t.Errorf("in=%v: %d packets went through, want %d", in, r.taken, encap.Batch)
		}
	}
}

func BenchmarkTurn(b *testing.B) {
	for name, turn := range turns(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if err := turn(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/encap.Batch, "ns/packet")
		})
	}
}

// faulty is a replay whose wire refuses datagrams, each fourth for another reason,
// and whose device hands over something malformed beside its packets.
type faulty struct{ *replay }

func (f faulty) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, _ := f.replay.Read(bufs[:8], sizes, offset)
	return n, device.ErrMalformed
}

func (f faulty) Send(msgs []encap.Message) (int, error) {
	for i := range msgs {
		if msgs[i].DSField != f.packet[1] {
			return 0, errors.New("the DS field is not the inner packet's")
		}
		msgs[i].Err = []error{encap.ErrTooBig, encap.ErrFull, encap.ErrRefused, nil}[i%4]
	}
	return len(msgs) - 1, net.ErrClosed
}

func TestSendFailuresAreCounted(t *testing.T) {
	e, r := newReplay(t, false)
	r.packet[1] = 0xb8 // expedited forwarding
	binary.BigEndian.PutUint16(r.packet[10:], binary.BigEndian.Uint16(r.packet[10:])-0xb8)
	f := faulty{r}
	w := New(f, f, encap.UDP)
	w.tables.Store(e.tables.Load())
	if err := w.newEgress().turn(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	want := Account{Received: 9, Forwarded: 1}
	want.Drops[Malformed], want.Drops[TooBig], want.Drops[SocketFull] = 1, 2, 2
	want.Drops[UnderlayRefused] = 3 // two refused, and one never tried
	if got := w.egress.read(); got != want {
		t.Errorf("account %+v, want %+v", got, want)
	}
}

// A malformed read ends nothing; a node without a block sends nothing.
func TestMalformedReadIsCounted(t *testing.T) {
	_, r := newReplay(t, false)
	w := New(faulty{r}, r, encap.UDP)
	if err := w.newEgress().turn(); err != nil {
		t.Fatal(err)
	}
	if got := w.egress.read(); got.Received != 9 || got.Drops[Malformed] != 1 || got.Drops[Fenced] != 8 {
		t.Errorf("account %+v", got)
	}
}
