package dataplane

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/weft-net/weft/dataplane/arena"
	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
	"github.com/weft-net/weft/encap"
)

// The memory that holds packets is what WorkerMemory says, and all of it is used.
func TestWorkerMemory(t *testing.T) {
	a, err := arena.New(WorkerMemory)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	w, _ := newReplay(t, replayed{})
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
	w, r := newReplay(t, replayed{})
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
	w, r := newReplay(t, replayed{tcp: true, segments: 46})
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
	_, r := newReplay(t, replayed{tcp: true, segments: 46})
	w := newReplayOf(t, r)
	if _, err := w.egress.turn(); err != nil {
		t.Fatal(err)
	}
	if got := w.egress.ledger.read(); got.Received != 3*46 || got.Drops[Fenced] != 3*46 {
		t.Errorf("account %+v", got)
	}
}

// A read that fails ends the worker.
func TestReadFailureEndsTheWorker(t *testing.T) {
	w, r := newReplay(t, replayed{})
	r.packets, r.readErr = 0, errors.New("gone")
	if _, err := w.egress.turn(); !errors.Is(err, r.readErr) {
		t.Errorf("turn returned %v", err)
	}
}

// A worker stays awake for a conversation, and not among bulk traffic or soon
// after it.
func TestConversesIsForFewPackets(t *testing.T) {
	w, _ := newReplay(t, replayed{})
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

// A packet whose headers are longer than the header arena, which no kernel makes a
// superpacket of, is not cut: a forged superpacket of one segment is dropped, and a
// lone one that is too large answered.
func TestEndlessHeaders(t *testing.T) {
	const options, transport = 200, 40 + 200*256 // destination options, 256 bytes each
	b := make([]byte, transport+20+100)
	b[0], b[6] = 0x60, 60
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	copy(b[8:], prefixes[2].Addr().Next().AsSlice())
	copy(b[24:], prefixes[3].Addr().Next().AsSlice())
	for i := range options {
		b[40+i*256], b[41+i*256] = 60, 31
	}
	b[40+(options-1)*256] = packet.ProtocolTCP
	b[transport+12] = 0x50
	reference.Checksum(b, true)
	lone := packet.Packet{Buf: b, CsumStart: transport, CsumOffset: 16}
	super := lone
	super.GSO, super.SegmentSize = packet.TCP6, 1000

	for _, c := range []struct {
		packet packet.Packet
		way    int
		why    Reason
	}{{super, 1 << 16, Malformed}, {lone, len(b) - 50, TooBig}} {
		w, r := newReplay(t, replayed{way: c.way})
		r.packet, r.packets = c.packet, 1
		if _, err := w.egress.turn(); err != nil {
			t.Fatal(err)
		}
		want := Account{Received: 1}
		want.Drops[c.why] = 1
		if got := w.egress.ledger.read(); got != want || r.sent != 0 {
			t.Errorf("account %+v, %d sent", got, r.sent)
		}
	}
}

// Fragments leave from the source port of the packet that they are of, though they
// are hashed as another flow themselves.
func TestFragmentsKeepTheirPlace(t *testing.T) {
	for _, what := range []replayed{{way: 600}, {way: 600, segments: 10}, {way: 600, size: 1200}} {
		w, r := newReplay(t, what)
		var whole packet.Header
		if !packet.ParseInto(r.packet.Buf, &whole) {
			t.Fatal("no packet")
		}
		part := whole
		part.Fragment = true
		for encap.SamePort(whole.FlowHash(r.packet.Buf), part.FlowHash(r.packet.Buf)) {
			r.packet.Buf[21]++ // its source port
		}
		flow := whole.FlowHash(r.packet.Buf)
		r.send = func(msgs []encap.Message) int {
			for _, m := range msgs {
				if !encap.SamePort(m.Flow, flow) {
					t.Errorf("%+v: %d datagrams leave from another port", what, m.Segments)
				}
			}
			return len(msgs)
		}
		if _, err := w.egress.turn(); err != nil {
			t.Fatal(err)
		}
	}
}
