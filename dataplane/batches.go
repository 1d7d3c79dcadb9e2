package dataplane

import (
	"math/bits"
	"sync/atomic"
)

// Batches are how the packets were grouped, of all workers: the fewer the groups, the less
// a packet costs.
type Batches struct {
	Reads, Writes   Histogram // packets of one read from the TUN, or write to it; a superpacket is one
	Sends, Receives Histogram // datagrams of one send to the underlay, or receive from it
	SuperRead       uint64    // superpackets among the packets of Reads
	SuperWritten    uint64    // the same of Writes
}

// sizes is how many ranges of sizes a Histogram has: the largest size that it tells from
// others, 1<<(sizes-2), is what a write has at the most.
const sizes = 12

const _ = uint(1<<(sizes-2) - mergeRound)

// Histogram counts batches by size: Counts[i] those of more than 1<<(i-1) and up to 1<<i,
// and the last those larger than all before. Sum is that of the sizes.
type Histogram struct {
	Counts [sizes]uint64
	Sum    uint64
}

func (h *Histogram) add(g Histogram) {
	for i, n := range g.Counts {
		h.Counts[i] += n
	}
	h.Sum += g.Sum
}

func (b *Batches) add(c Batches) {
	b.Reads.add(c.Reads)
	b.Writes.add(c.Writes)
	b.Sends.add(c.Sends)
	b.Receives.add(c.Receives)
	b.SuperRead += c.SuperRead
	b.SuperWritten += c.SuperWritten
}

// histogram is the Histogram of one worker, added to by the worker alone, once a batch, and
// read by anyone.
type histogram struct {
	counts [sizes]atomic.Uint64
	sum    atomic.Uint64
}

// enter counts a batch; one of size 0 is none.
func (h *histogram) enter(size int) {
	if size == 0 {
		return
	}
	h.counts[min(bits.Len(uint(size-1)), sizes-1)].Add(1)
	h.sum.Add(uint64(size))
}

// read may miss a batch in the one and have it in the other while it is entered.
func (h *histogram) read() (g Histogram) {
	for i := range h.counts {
		g.Counts[i] = h.counts[i].Load()
	}
	g.Sum = h.sum.Load()
	return g
}

// batches are one direction's of one worker.
type batches struct {
	queue histogram     // reads from the TUN, or writes to it
	wire  histogram     // sends to the underlay, or receives from it
	super atomic.Uint64 // superpackets among those of queue
}
