package dataplane

import (
	"errors"

	"github.com/weft-net/weft/dataplane/device"
)

/* Step 1 of the way out: a worker reads from the TUN, and from the TAPs of the segments.
 */

// source is what a worker reads from.
type source struct {
	queue Queue
	quiet int // turns in a row in which it had nothing, as of receivers
}

// read takes a batch from the next source in turn that has something.
func (w *egress) read() (some bool, err error) {
	w.turns++
	for range w.sources {
		if w.at++; w.at == len(w.sources) {
			w.at = 0
		}
		s := &w.sources[w.at]
		if w.at > 0 && s.quiet >= lookAround && w.turns%lookAround != 0 {
			continue
		}
		some, err := w.readFrom(s.queue)
		if s.quiet++; some {
			s.quiet = 0
		}
		if some || err != nil {
			return some, err
		}
	}
	return false, nil
}

func (w *egress) readFrom(q Queue) (some bool, err error) {
	w.next = 0
	room := w.pkts
	if w.last {
		room = room[:min(len(room), q.Pending())]
	}
	w.n, err = q.Read(w.arena, room)
	w.batches.queue.enter(w.n)
	if errors.Is(err, device.ErrMalformed) {
		w.account.Received++
		w.account.drop(Malformed, 1)
		return true, nil
	}
	return w.n > 0, err
}
