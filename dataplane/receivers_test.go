package dataplane

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/weft-net/weft/encap"
)

// A worker that one receiver keeps busy looks at the others now and then all the same,
// and no more often than that.
func TestBusyReceiverDoesNotStarveOthers(t *testing.T) {
	w, r := newReplay(t, replayed{in: true})
	rare, asked := false, 0
	r.recv = func(i int, msgs []encap.Received) int {
		if i == 0 {
			return r.fill(msgs)
		}
		asked++
		if !rare {
			return 0
		}
		rare = false
		return r.fill(msgs[:1])
	}
	w.ingress.receivers = append(w.ingress.receivers, receiver{codec: encap.UDP})
	const rounds = 5
	for round := range rounds {
		rare, asked = true, 0
		for turns := 1; rare; turns++ {
			if turns > lookAround {
				t.Fatalf("round %d: a receiver is left alone for %d turns", round, turns)
			}
			if busy, err := w.ingress.turn(); !busy || err != nil {
				t.Fatal(busy, err)
			}
		}
	}
	for range lookAround { // in use until then
		if _, err := w.ingress.turn(); err != nil {
			t.Fatal(err)
		}
	}
	if asked < lookAround {
		t.Errorf("a receiver that had something a moment ago is asked %d times in %d turns", asked, lookAround)
	}
	asked = 0
	for range rounds * lookAround {
		if _, err := w.ingress.turn(); err != nil {
			t.Fatal(err)
		}
	}
	if asked != rounds {
		t.Errorf("a receiver that has nothing is asked %d times in %d turns, want %d", asked, rounds*lookAround, rounds)
	}
}

// A turn ends though a receiver is never empty, whatever arrives there.
func TestTurnIsBounded(t *testing.T) {
	for name, datagram := range map[string]func(*replay) []byte{
		"packets":          func(r *replay) []byte { return r.datagram },
		"garbage":          func(*replay) []byte { return []byte{0xff} },
		"control messages": func(*replay) []byte { return new(encap.Tunnel).AppendControl(nil, []byte{1}, 0) },
		"of an unknown peer": func(r *replay) []byte {
			r.from = netip.AddrPortFrom(r.from.Addr().Next(), 1)
			return r.datagram
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := newReplay(t, replayed{in: true})
			r.datagram = datagram(r)
			calls := 0
			r.recv = func(_ int, msgs []encap.Received) int {
				if calls++; calls > readPackets {
					t.Fatal("the turn does not end")
				}
				return r.fill(msgs)
			}
			if busy, err := w.ingress.turn(); !busy || err != nil {
				t.Fatal(busy, err)
			}
			if w.ingress.receivers[0].quiet != 0 {
				t.Error("a receiver that has more is not looked at again")
			}
		})
	}
}

// A turn that took something was busy, though the receiver is empty after it.
func TestTurnThatEmptiesAReceiverIsBusy(t *testing.T) {
	w, r := newReplay(t, replayed{in: true})
	left := []int{receives, 0}
	r.recv = func(_ int, msgs []encap.Received) (n int) {
		n, left = left[0], left[1:]
		for i := range msgs[:n] {
			msgs[i] = encap.Received{Buf: msgs[i].Buf, N: copy(msgs[i].Buf, r.datagram), SegmentSize: len(r.datagram), Addr: r.from}
		}
		return n
	}
	if busy, err := w.ingress.turn(); !busy || err != nil || len(left) > 0 {
		t.Errorf("busy=%v, %v, %d calls left", busy, err, len(left))
	}
	if got, want := w.ingress.ledger.read(), (Account{Received: receives, Forwarded: receives}); got != want {
		t.Errorf("account %+v, want %+v", got, want)
	}
}

// A superpacket that a kernel's VXLAN sent and no wire cut is one datagram, whatever size
// of segments is told with it. Of a weft node such a size is that of datagrams.
func TestUncutSuperpacketIsOneDatagram(t *testing.T) {
	for _, c := range []struct {
		foreign bool
		size    int // of the packets
		runs    int // how many of them are received together
		want    Account
	}{
		{true, 2978, 1, Account{Received: 1, Drops: [reasons]uint64{Unsegmented: 1}}},
		{true, 978, 3, Account{Received: 3, Forwarded: 3}},
		{false, 2978, 1, Account{Received: 3, Drops: [reasons]uint64{Malformed: 3}}},
		{false, 978, 3, Account{Received: 3, Forwarded: 3}},
	} {
		what := replayed{in: true, codec: encap.VXLAN, size: c.size}
		w, r := newReplay(t, what)
		config := what.config()
		config.Peers[0].Foreign = c.foreign
		apply(t, w, config)
		if c.runs == 1 { // its checksum is left to whoever cuts it
			copy(r.datagram[len(r.datagram)-c.size:], r.packet.Buf)
		}
		r.recv = func(_ int, msgs []encap.Received) int {
			m := &msgs[0]
			m.N, m.SegmentSize, m.Addr = copy(m.Buf, bytes.Repeat(r.datagram, c.runs)), 1000, r.from
			return 1
		}
		if _, err := w.ingress.turn(); err != nil {
			t.Fatal(err)
		}
		if got := w.ingress.ledger.read(); got != c.want {
			t.Errorf("%+v: account %+v", c, got)
		}
	}
}

// A worker that could not send all goes on as soon as there is room.
func TestStuckWorkerWaitsForRoom(t *testing.T) {
	w, r := newReplay(t, replayed{})
	far, near, err := os.Pipe() // that can be written
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	defer near.Close()
	r.full = int(near.Fd())
	r.send = func([]encap.Message) int { return 0 }
	if _, err := w.egress.turn(); err != nil || !w.egress.stuck() {
		t.Fatal("not stuck", err)
	}
	awake := make(chan error, 1)
	go func() { awake <- w.sleep() }()
	select {
	case err = <-awake:
	case <-time.After(10 * time.Second):
		w.poller.Wake()
		err = errors.Join(errors.New("asleep though there is room"), <-awake)
	}
	if err != nil {
		t.Error(err)
	}
}
