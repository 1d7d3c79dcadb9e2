package dataplane

import (
	"errors"
	"sync/atomic"

	"github.com/weft-net/weft/dataplane/arena"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/poll"
)

// WorkerMemory is the packet memory of one worker, in bytes: what egress reads
// into, its headers, and what ingress receives into. It is one huge page.
const WorkerMemory = readArena + headerArena + receives*receiveBuffer

const _ = uint(2<<20 - WorkerMemory) // fails to compile where it is more

// stint is how many turns a worker takes in a row before it lets others have the
// CPU once. Under overload it never sleeps, and what it passed on would pile up at
// whoever waits for the same CPU, the far worker or a pod, until the scheduler's
// tick some milliseconds later: more packets than a pod's socket holds.
const stint = 32

// worker carries the packets of one queue of the TUN and of one socket, both
// ways, to completion: no packet ever waits for another goroutine. A round takes a
// bounded batch from each side in turn, so that neither starves the other. Where
// both are empty it sleeps in the kernel.
type worker struct {
	queue   Queue
	wire    Wire
	egress  egress
	ingress ingress

	poller *poll.Poller
	arena  *arena.Arena
	ending atomic.Bool
	turns  atomic.Uint64 // taken, for whoever asks whether the worker goes on

	carried uint64 // packets, both ways, when the worker last waited
	bulk    int    // how many more waits are taken for those of bulk traffic
}

func newWorker(e *Engine, index, of int, p Pair, can offload.Set) *worker {
	w := &worker{queue: p.Queue, wire: p.Wire}
	w.egress.init(e, index, of, p)
	w.ingress.init(e, index, p, can)
	return w
}

// open takes from the kernel what the worker needs to run.
func (w *worker) open() (err error) {
	if w.arena, err = arena.New(WorkerMemory); err != nil {
		return err
	}
	w.egress.carve(w.arena)
	w.ingress.carve(w.arena)
	var queues, sockets []int
	for _, s := range w.egress.sources {
		queues = append(queues, s.queue.FD())
	}
	for _, r := range w.wire.Receivers() {
		sockets = append(sockets, r.FD)
	}
	w.poller, err = poll.New(queues, sockets)
	return err
}

// close gives it back. It may be called where open failed half-way.
func (w *worker) close() error {
	var errs []error
	if w.poller != nil {
		errs = append(errs, w.poller.Close())
	}
	if w.arena != nil {
		errs = append(errs, w.arena.Close())
	}
	return errors.Join(errs...)
}

// stop makes run return soon. Any goroutine may call it, after open.
func (w *worker) stop() {
	w.ending.Store(true)
	w.poller.Wake()
}

// run forwards until stop is called or something fails. The thread is the
// worker's own, since it sleeps in poll and not in Go's scheduler: what wakes it
// is the packet itself.
func (w *worker) run() error {
	poll.Batch()
	defer w.egress.abandon()
	for turns := 1; !w.ending.Load(); turns++ {
		w.turns.Store(uint64(turns))
		sent, err := w.egress.turn()
		if err != nil {
			return err
		}
		received, err := w.ingress.turn()
		if err != nil {
			return err
		}
		if sent || received {
			if turns%stint == 0 {
				poll.Yield()
			}
			continue
		}
		if err := w.sleep(); err != nil {
			return err
		}
	}
	return w.finish()
}

// batches is how the worker's packets were grouped.
func (w *worker) batches() Batches {
	out, in := &w.egress.batches, &w.ingress.batches
	return Batches{
		Reads: out.queue.read(), Writes: in.queue.read(), Sends: out.wire.read(), Receives: in.wire.read(),
		SuperRead: out.super.Load(), SuperWritten: in.super.Load(),
	}
}

// sleep waits for work. While the underlay has no room for what was read, the
// TUN is left alone: its queue fills, and what it cannot hold is the kernel's to drop.
func (w *worker) sleep() error {
	w.egress.lens.shut()
	w.ingress.lens.shut()
	full := -1
	if w.egress.stuck() {
		full = w.wire.Full()
	}
	if err := w.poller.Wait(full, full < 0 && w.converses()); err != nil {
		return err
	}
	for i := range w.ingress.receivers {
		if w.poller.Ready(i) {
			w.ingress.receivers[i].quiet = 0
		}
	}
	for i := range w.egress.sources {
		if w.poller.QueueReady(i) {
			w.egress.sources[i].quiet = 0
		}
	}
	return nil
}

const (
	// fewPackets is as many as a conversation has under way: a request or answer
	// in one or two segments, and an ACK or two.
	fewPackets = 8

	// bulkWaits is how many waits of few packets in a row make a conversation.
	// In bulk traffic some have nothing but ACKs between them.
	bulkWaits = 16
)

// converses says whether traffic is a conversation, whose next packet is worth
// staying awake for. In bulk traffic the queue fills meanwhile, and being awake
// takes the CPU from its sender.
func (w *worker) converses() bool {
	carried := w.egress.ledger.received() + w.ingress.ledger.received()
	switch {
	case carried-w.carried > fewPackets:
		w.bulk = bulkWaits
	case w.bulk > 0:
		w.bulk--
	}
	w.carried = carried
	return w.bulk == 0
}
