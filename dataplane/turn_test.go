package dataplane

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/weft-net/weft/dataplane/arena"
	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

// replay is a queue and a wire that hand over the same packets again and again,
// and swallow what they are given.
type replay struct {
	packet  packet.Packet // Start is 0
	packets int           // in one read or receive
	from    netip.AddrPort

	// send, if not nil, is what Send does.
	send func([]encap.Message) int

	readErr        error // beside the packets
	sends, sent    int   // messages, and datagrams in them
	groups, merged int   // groups, and wire packets in them
}

func (r *replay) FD() int   { return -1 }
func (r *replay) Full() int { return -1 }

func (r *replay) Receivers() []encap.Receiver { return []encap.Receiver{{FD: -1, Codec: encap.UDP}} }

func (r *replay) Read(arena []byte, pkts []packet.Packet) (n int, err error) {
	for n < min(r.packets, len(pkts)) && len(arena) >= device.Headroom+len(r.packet.Buf) {
		p := &pkts[n]
		*p = r.packet
		end := device.Headroom + copy(arena[device.Headroom:], r.packet.Buf)
		p.Buf, p.Start = arena[:end], device.Headroom
		arena = arena[end:]
		n++
	}
	return n, r.readErr
}

func (r *replay) Write(groups []packet.Group) (int, error) {
	for i := range groups {
		r.groups++
		r.merged += len(groups[i].Members)
	}
	return 0, nil
}

// Recv gives messages of 20 datagrams.
func (r *replay) Recv(_ int, msgs []encap.Received) (int, error) {
	for i := range msgs {
		m := &msgs[i]
		m.N, m.Addr, m.SegmentSize = 0, r.from, len(r.packet.Buf)
		for range 20 {
			m.N += copy(m.Buf[m.N:], r.packet.Buf)
		}
	}
	return len(msgs), nil
}

func (r *replay) Send(msgs []encap.Message) (int, error) {
	if r.send != nil {
		return r.send(msgs), nil
	}
	for i := range msgs {
		r.sends++
		r.sent += msgs[i].Segments
	}
	return len(msgs), nil
}

var here, there = netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("10.244.2.0/24")

// newReplay is an engine of one worker with one peer, and what it works on: packets
// of 1,400 bytes between the two blocks, out or in; or a TCP superpacket of so
// many segments.
func newReplay(tb testing.TB, in bool, segments int) (*worker, *replay) {
	tb.Helper()
	r := &replay{from: netip.MustParseAddrPort("198.51.100.2:8285"), packets: 100}
	src, dst := here.Addr().Next(), there.Addr().Next()
	if in {
		src, dst = dst, src
	}
	size, protocol := 1400, byte(packet.ProtocolUDP)
	if segments > 0 {
		size, protocol = 40+segments*1400, packet.ProtocolTCP
	}
	b := make([]byte, size)
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20], 0))
	r.packet = packet.Packet{Buf: b}
	if segments > 0 {
		b[20+12], b[20+13] = 0x50, 0x10
		r.packet.GSO, r.packet.SegmentSize = packet.TCP4, 1400
		r.packet.CsumStart, r.packet.CsumOffset = 20, 16
		r.packets = 3
	}

	e := New([]Pair{{r, r}}, offload.All)
	err := e.Apply(Config{
		PodCIDRs: []netip.Prefix{here}, Addresses: []netip.Addr{here.Addr()}, MTU: 1472,
		Peers: []Peer{{ID: "b", Endpoints: []netip.Addr{r.from.Addr()}, To: r.from, PodCIDRs: []netip.Prefix{there}, MTU: 1472, RCO: true}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	w := e.workers[0]
	if err := w.open(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.close(); err != nil {
			tb.Error(err)
		}
	})
	return w, r
}

type turn struct {
	name    string
	do      func() (bool, error)
	packets int // wire packets in each
}

// turns are what a worker does for each batch.
func turns(tb testing.TB) []turn {
	out, _ := newReplay(tb, false, 0)
	super, _ := newReplay(tb, false, 46)
	in, _ := newReplay(tb, true, 0)
	return []turn{
		{"egress", out.egress.turn, 100},
		{"egress of superpackets", super.egress.turn, 3 * 46},
		{"ingress", in.ingress.turn, receives * 20},
	}
}

func TestNoAllocationPerPacket(t *testing.T) {
	for _, turn := range turns(t) {
		if n := testing.AllocsPerRun(100, func() {
			if busy, err := turn.do(); err != nil || !busy {
				t.Fatal(busy, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a batch of %d packets", turn.name, n, turn.packets)
		}
	}
}

func BenchmarkTurn(b *testing.B) {
	for _, turn := range turns(b) {
		b.Run(turn.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := turn.do(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*turn.packets), "ns/packet")
		})
	}
}

// What is read in one turn leaves in few sends, and what is received comes in by
// few writes.
func TestReplayIsForwarded(t *testing.T) {
	for _, c := range []struct {
		in                bool
		segments          int
		packets, messages int
	}{
		{false, 0, 100, 3},     // 46 to a send
		{false, 46, 3 * 46, 4}, // 46 x 1452 bytes are too much for one: 45 and 45 and 45, and 3
		{true, 0, receives * 20, receives * 20},
	} {
		w, r := newReplay(t, c.in, c.segments)
		turn := w.egress.turn
		if c.in {
			turn = w.ingress.turn
		}
		if _, err := turn(); err != nil {
			t.Fatal(err)
		}
		if got := [2]int{r.sent + r.merged, r.sends + r.groups}; got != [2]int{c.packets, c.messages} {
			t.Errorf("in=%v, superpackets of %d: %d packets in %d calls, want %d in %d", c.in, c.segments, got[0], got[1], c.packets, c.messages)
		}
	}
}

// The memory that holds packets is what WorkerMemory says, and all of it is used.
func TestWorkerMemory(t *testing.T) {
	a, err := arena.New(WorkerMemory)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	w, _ := newReplay(t, false, 0)
	w.egress.carve(a)
	w.ingress.carve(a)
	sum := len(w.egress.arena) + len(w.egress.headers)
	for _, m := range w.ingress.msgs {
		sum += len(m.Buf)
	}
	if sum != WorkerMemory {
		t.Errorf("a worker's buffers have %d bytes, WorkerMemory is %d", sum, WorkerMemory)
	}
}

func TestSendFailuresAreCounted(t *testing.T) {
	w, r := newReplay(t, false, 0)
	r.packets, r.readErr = 4, device.ErrMalformed
	r.packet.Buf[1] = 0xb8 // expedited forwarding
	binary.BigEndian.PutUint16(r.packet.Buf[10:], binary.BigEndian.Uint16(r.packet.Buf[10:])-0xb8)
	errs := []error{encap.ErrTooBig, encap.ErrFull, encap.ErrRefused, nil}
	r.send = func(msgs []encap.Message) int {
		if len(msgs) != 1 || msgs[0].Segments != 4 || msgs[0].DSField != 0xb8 {
			t.Errorf("sent %+v, want one message of 4 with the inner packets' DS field", msgs)
		}
		msgs[0].Err, errs = errs[0], errs[1:]
		if msgs[0].Err != nil {
			msgs[0].Lost = 3
		}
		return 1
	}
	for range 4 {
		if _, err := w.egress.turn(); err != nil {
			t.Fatal(err)
		}
	}
	want := Account{Received: 20, Forwarded: 7}
	want.Drops[Malformed], want.Drops[TooBig], want.Drops[SocketFull], want.Drops[UnderlayRefused] = 4, 3, 3, 3
	if got := w.egress.ledger.read(); got != want {
		t.Errorf("account %+v, want %+v", got, want)
	}
	if got := w.egress.fates[0].peer.link.read(); got != (PeerStats{TxPackets: 7, TxBytes: 7 * 1400}) {
		t.Errorf("traffic with the peer: %+v", got)
	}
}

// A socket without room holds the batch up, and loses nothing of it; nothing more
// is read before.
func TestFullSocketHoldsTheBatch(t *testing.T) {
	w, r := newReplay(t, false, 46)
	var order []uint32
	room := 0
	r.send = func(msgs []encap.Message) int {
		n := min(room, len(msgs))
		for _, m := range msgs[:n] {
			order = append(order, binary.BigEndian.Uint32(m.Pieces[0][12+20+4:])) // the sequence number
		}
		return n
	}
	for range 5 {
		if busy, err := w.egress.turn(); busy || err != nil {
			t.Fatal(busy, err)
		}
		if !w.egress.stuck() {
			t.Fatal("not stuck without room")
		}
	}
	if got := w.egress.ledger.read(); got != (Account{}) {
		t.Errorf("account %+v of a batch that is not through", got)
	}
	room = 2
	for range 2 {
		if busy, err := w.egress.turn(); !busy || err != nil {
			t.Fatal(busy, err)
		}
	}
	if got, want := w.egress.ledger.read(), (Account{Received: 138, Forwarded: 138}); got != want {
		t.Errorf("account %+v, want %+v", got, want)
	}
	// Each superpacket is the same; the messages have 45 segments of them, and then 3.
	if want := []uint32{0, 45 * 1400, 44 * 1400, 43 * 1400}; !slices.Equal(order, want) {
		t.Errorf("the messages start at %v, want %v", order, want)
	}

	room = 1
	if _, err := w.egress.turn(); err != nil {
		t.Fatal(err)
	}
	w.egress.abandon()
	want := Account{Received: 276, Forwarded: 138 + 45}
	want.Drops[SocketFull] = 138 - 45
	if got := w.egress.ledger.read(); got != want {
		t.Errorf("account after the end %+v, want %+v", got, want)
	}
}

// A node without a block sends nothing.
func TestFencedWithoutConfiguration(t *testing.T) {
	_, r := newReplay(t, false, 46)
	w := New([]Pair{{r, r}}, 0).workers[0]
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if _, err := w.egress.turn(); err != nil {
		t.Fatal(err)
	}
	if got := w.egress.ledger.read(); got.Received != 3*46 || got.Drops[Fenced] != 3*46 {
		t.Errorf("account %+v", got)
	}
}

// A read that fails ends the worker.
func TestReadFailureEndsTheWorker(t *testing.T) {
	w, r := newReplay(t, false, 0)
	r.packets, r.readErr = 0, errors.New("gone")
	if _, err := w.egress.turn(); !errors.Is(err, r.readErr) {
		t.Errorf("turn returned %v", err)
	}
}

// A worker stays awake for a conversation, and not among bulk traffic or soon
// after it.
func TestConversesIsForFewPackets(t *testing.T) {
	w, _ := newReplay(t, false, 0)
	carry := func(n int) bool {
		w.ingress.ledger.enter(&Account{Received: uint64(n)})
		return w.converses()
	}
	for i, c := range []struct {
		packets int
		want    bool
	}{{1, true}, {fewPackets, true}, {fewPackets + 1, false}, {1, false}} {
		if got := carry(c.packets); got != c.want {
			t.Errorf("step %d, %d packets: %v", i, c.packets, got)
		}
	}
	for range bulkWaits - 2 {
		if carry(1) {
			t.Fatal("awake too soon after bulk traffic")
		}
	}
	if !carry(0) {
		t.Error("asleep though bulk traffic is long over")
	}
}

// A forged superpacket of one segment whose headers are longer than the header
// arena is dropped, as one of many segments is.
func TestSuperpacketWithEndlessHeaders(t *testing.T) {
	w, r := newReplay(t, false, 0)
	prefix := netip.MustParsePrefix("2001:db8::/64")
	c := w.egress.tables.Load().local
	c.PodCIDRs = []netip.Prefix{prefix}
	c.Peers = []Peer{{ID: "b", Endpoints: []netip.Addr{r.from.Addr()}, To: r.from, PodCIDRs: []netip.Prefix{there}, MTU: 1 << 16}}
	other := netip.MustParsePrefix("2001:db8:1::/64")
	c.Peers[0].PodCIDRs = []netip.Prefix{other}
	tables, err := compile(c, 1, map[string]*link{})
	if err != nil {
		t.Fatal(err)
	}
	w.egress.tables.Store(tables)

	const options, transport = 200, 40 + 200*256 // destination options, 256 bytes each
	b := make([]byte, transport+20+100)
	b[0], b[6] = 0x60, 60
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	copy(b[8:], prefix.Addr().Next().AsSlice())
	copy(b[24:], other.Addr().Next().AsSlice())
	for i := range options {
		b[40+i*256], b[41+i*256] = 60, 31
	}
	b[40+(options-1)*256] = packet.ProtocolTCP
	b[transport+12] = 0x50
	r.packet = packet.Packet{Buf: b, GSO: packet.TCP6, SegmentSize: 1000, CsumStart: transport, CsumOffset: 16}
	r.packets = 1
	if _, err := w.egress.turn(); err != nil {
		t.Fatal(err)
	}
	want := Account{Received: 1}
	want.Drops[Malformed] = 1
	if got := w.egress.ledger.read(); got != want || r.sent != 0 {
		t.Errorf("account %+v, %d sent", got, r.sent)
	}
}
