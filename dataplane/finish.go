package dataplane

import (
	"slices"
	"time"
)

// finishPatience bounds how long a worker waits at its end for room at the underlay.
const finishPatience = 200 * time.Millisecond

// finish takes what the worker has read all the way, so that whoever carries the packets
// after it, another process as it may be, goes on with the next one in the kernel. What came in
// was delivered with its batch.
func (w *worker) finish() error {
	w.egress.last = true
	began := time.Now()
	alarm := time.AfterFunc(finishPatience, w.poller.Wake)
	defer alarm.Stop()
	for w.egress.holds() && time.Since(began) < finishPatience {
		busy, err := w.egress.turn()
		if err != nil {
			return err
		}
		if busy || !w.egress.stuck() {
			continue
		}
		if err := w.poller.Wait(w.wire.Full(), false); err != nil {
			return err
		}
	}
	return nil
}

// holds says whether there is something that was taken from the kernel, and not sent.
func (w *egress) holds() bool {
	return w.next < w.n || w.stuck() || slices.ContainsFunc(w.sources, func(s source) bool { return s.queue.Pending() > 0 })
}
