package dataplane

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

// tapped gives the engine of w a tap that the test closes.
func tapped(tb testing.TB, w *worker, c TapConfig) *Tap {
	tb.Helper()
	e := &Engine{workers: []*worker{w}}
	t, err := e.Tap(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(t.Close)
	w.egress.lens.from, w.ingress.lens.from = &e.taps, &e.taps
	return t
}

func drain(tb testing.TB, t *Tap) (all []Captured) {
	tb.Helper()
	if err := t.Drain(func(c *Captured) error {
		copied := *c
		copied.Data = bytes.Clone(c.Data)
		all = append(all, copied)
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	return all
}

// What a tap shows adds up to what the account says, of all kinds of packets.
func TestTapAgreesWithTheAccount(t *testing.T) {
	for _, codec := range encap.Codecs() {
		for _, what := range []replayed{
			{}, {six: true}, {tcp: true, segments: 46}, {segments: 40}, {tcp: true, segments: 46, six: true},
			{tcp: true, segments: 46, way: 1000}, {tcp: true, way: 1000}, {way: 600}, {segments: 40, way: 600},
			{six: true, size: 1280, way: 1200}, {six: true, way: 1000},
			{in: true}, {in: true, six: true, tcp: true},
		} {
			what.codec = codec
			w, _ := newReplay(t, what)
			tap := tapped(t, w, TapConfig{Snaplen: 200})
			turn, ledger := w.egress.turn, &w.egress.ledger
			if what.in {
				turn, ledger = w.ingress.turn, &w.ingress.ledger
			}
			if _, err := turn(); err != nil {
				t.Fatal(err)
			}
			want := ledger.read()
			if got := accountOf(drain(t, tap), what.in); got != want || want.Received == 0 || tap.Skipped() > 0 {
				t.Errorf("%s %+v: shown are %+v, the account is %+v; %d were skipped", codec, what, got, want, tap.Skipped())
			}
		}
	}
}

// accountOf is the account of what was shown.
func accountOf(all []Captured, in bool) (a Account) {
	for _, c := range all {
		n := uint64(c.Segments)
		switch {
		case c.Dropped:
			a.Drops[c.Reason] += n
			if !in || c.Layer == Outer {
				a.Received += n
			}
		case in && c.Layer == Outer:
			a.Received += n
		case in || c.Layer == Outer:
			a.Forwarded += n
			if !in {
				a.Received += n
			}
		}
	}
	return a
}

func TestTapShowsWhatWasNotSent(t *testing.T) {
	w, r := newReplay(t, replayed{codec: encap.VXLAN, tcp: true, segments: 20})
	r.packets = 1
	r.send = func(msgs []encap.Message) int {
		msgs[0].Lost, msgs[0].Err = 3, encap.ErrFull
		return len(msgs)
	}
	tap := tapped(t, w, TapConfig{Filter: Filter{Dropped: true, Pods: []netip.Addr{prefixes[0].Addr().Next()}}, Snaplen: 500})
	if _, err := w.egress.turn(); err != nil {
		t.Fatal(err)
	}
	all := drain(t, tap)
	if len(all) != 1 {
		t.Fatalf("%d packets are shown, want 1", len(all))
	}
	c := all[0]
	if c.Layer != Outer || c.Reason != SocketFull || c.Segments != 3 || c.Peer != "b" || c.Data[9] != packet.ProtocolUDP {
		t.Errorf("shown is %+v", c)
	}
}

func TestTapShowsWhatTheDeviceRefused(t *testing.T) {
	w, _ := newReplay(t, replayed{in: true})
	w.ingress.queue = refusing{w.ingress.queue}
	tap := tapped(t, w, TapConfig{Filter: Filter{Layer: Inner}})
	if _, err := w.ingress.turn(); err != nil {
		t.Fatal(err)
	}
	if got, want := accountOf(drain(t, tap), true), w.ingress.ledger.read(); got.Drops != want.Drops || want.Drops[DeviceRefused] == 0 {
		t.Errorf("shown are %+v, the account is %+v", got, want)
	}
}

// refusing is a queue whose kernel takes nothing.
type refusing struct{ Queue }

func (refusing) Write(groups []packet.Group) (refused int, err error) {
	for i := range groups {
		refused += len(groups[i].Members)
	}
	return refused, errors.New("out of memory")
}

// A tap that nobody reads costs the packets that it cannot hold, and no others.
func TestTapThatNobodyReads(t *testing.T) {
	w, r := newReplay(t, replayed{})
	tap := tapped(t, w, TapConfig{Filter: Filter{Layer: Inner}, Snaplen: MaxSnaplen})
	for range 10 {
		if _, err := w.egress.turn(); err != nil {
			t.Fatal(err)
		}
	}
	held := len(tap.rings[0].slots)
	if got := len(drain(t, tap)); got != held || tap.Skipped() != uint64(1000-held) {
		t.Errorf("%d shown and %d skipped of 1000, want %d shown", got, tap.Skipped(), held)
	}
	if r.sent != 1000 {
		t.Errorf("%d of 1000 packets were sent", r.sent)
	}
	if size := len(tap.rings[0].room); size > tapMemory {
		t.Errorf("a tap holds %d bytes", size)
	}
}

func TestNoAllocationPerTappedPacket(t *testing.T) {
	for _, what := range []replayed{{}, {tcp: true, segments: 46}, {way: 600}, {six: true, way: 1000}, {in: true}, {in: true, six: true, tcp: true}} {
		w, _ := newReplay(t, what)
		turn := w.egress.turn
		if what.in {
			turn = w.ingress.turn
		}
		tap := tapped(t, w, TapConfig{Snaplen: 96, Filter: Filter{Peer: "b"}})
		shown := 0
		count := func(*Captured) error { shown++; return nil }
		if n := testing.AllocsPerRun(100, func() {
			if _, err := turn(); err != nil {
				t.Fatal(err)
			}
			if err := tap.Drain(count); err != nil {
				t.Fatal(err)
			}
		}); n != 0 || shown == 0 {
			t.Errorf("%+v: %v allocations for a batch, and %d packets shown", what, n, shown)
		}
	}
}

func TestSample(t *testing.T) {
	w, _ := newReplay(t, replayed{})
	tap := tapped(t, w, TapConfig{Sample: 10})
	by := map[Layer]int{}
	for range 100 {
		if _, err := w.egress.turn(); err != nil {
			t.Fatal(err)
		}
		for _, c := range drain(t, tap) {
			by[c.Layer]++
		}
	}
	for _, layer := range []Layer{Inner, Outer} { // 10,000 of each passed; a deviation of 8 sigma is none of chance
		if n := by[layer]; n < 760 || n > 1240 {
			t.Errorf("%d of 10000 packets of layer %d are shown, want about 1000", n, layer)
		}
	}
}

func TestTapsAreFew(t *testing.T) {
	e := New([]Pair{{Queue: &replay{}, Wire: &replay{}}}, 0)
	var all []*Tap
	for range maxTaps {
		tap, err := e.Tap(TapConfig{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tap)
	}
	if _, err := e.Tap(TapConfig{}); !errors.Is(err, ErrTaps) {
		t.Errorf("one more: %v", err)
	}
	for _, tap := range all {
		tap.Close()
		tap.Close()
	}
	if e.taps.Load() != nil {
		t.Error("workers still look for taps")
	}
}
