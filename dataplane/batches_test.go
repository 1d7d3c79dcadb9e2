package dataplane

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/encap"
)

// The ranges are those of the comment: the slow twin finds them one by one.
func TestHistogramRanges(t *testing.T) {
	var h histogram
	var want Histogram
	dice := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, 2, 3, 4, 5, 1023, 1024, 1025, 1 << 20}
	for range 1000 {
		sizes = append(sizes, dice.IntN(3000))
	}
	for _, size := range sizes {
		h.enter(size)
		if size == 0 {
			continue
		}
		i := 0
		for bound := 1; size > bound && i < len(want.Counts)-1; bound *= 2 {
			i++
		}
		want.Counts[i]++
		want.Sum += uint64(size)
	}
	if diff := cmp.Diff(want, h.read()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// What the worker enters is what its queue and its wire were given.
func TestBatchesAreCounted(t *testing.T) {
	w, r := newReplay(t, replayed{tcp: true, segments: 46})
	if _, err := w.egress.turn(); err != nil {
		t.Fatal(err)
	}
	got := w.batches()
	if got.Reads.Sum != 3 || got.Reads.Counts[2] != 1 || got.SuperRead != 3 { // 3 is in the range up to 4
		t.Errorf("one read of 3 superpackets is counted as %+v, %d of them super", got.Reads, got.SuperRead)
	}
	if got.Sends.Sum != uint64(r.sent) || got.Sends.Counts[8] != 1 { // 138 is in the range up to 256
		t.Errorf("one send of %d datagrams is counted as %+v", r.sent, got.Sends)
	}

	w, _ = newReplay(t, replayed{})
	if _, err := w.egress.turn(); err != nil {
		t.Fatal(err)
	}
	if got := w.batches(); got.Reads.Sum != 100 || got.SuperRead != 0 {
		t.Errorf("one read of 100 packets is counted as %+v, %d of them super", got.Reads, got.SuperRead)
	}

	// In one round each message has 20 datagrams, and a round more gives nothing.
	w, r = newReplay(t, replayed{in: true})
	rounds := 0
	r.recv = func(_ int, msgs []encap.Received) int {
		if rounds++; rounds > 1 {
			return 0
		}
		return r.fill(msgs)
	}
	if _, err := w.ingress.turn(); err != nil {
		t.Fatal(err)
	}
	got = w.batches()
	if got.Receives.Sum != 20*receives || got.Receives.Counts[9] != 1 { // 480 is in the range up to 512
		t.Errorf("one receive of %d datagrams is counted as %+v", 20*receives, got.Receives)
	}
	if got.Writes.Sum != uint64(r.groups) || got.Writes.Counts[4] != 1 || got.SuperWritten != uint64(r.groups) { // 11 is in the range up to 16
		t.Errorf("one write of %d superpackets is counted as %+v, %d of them super", r.groups, got.Writes, got.SuperWritten)
	}
}
