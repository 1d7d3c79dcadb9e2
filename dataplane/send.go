package dataplane

import "github.com/weft-net/weft/encap"

/* Step 6 of the way out: messages go to the underlay, answers to the TUN, and all of it into the account.
 */

// send sends what there is room for, and enters in the account what became of it.
func (w *egress) send() error {
	batch := w.msgs[w.sent:]
	if len(batch) == 0 {
		return nil
	}
	sent, err := w.wire.Send(batch)
	datagrams := 0
	for i := range batch[:sent] {
		datagrams += batch[i].Segments
		w.settle(&batch[i], w.fates[w.sent+i])
	}
	w.batches.wire.enter(datagrams)
	w.sent += sent
	return err
}

func (w *egress) settle(m *encap.Message, f fate) {
	if m.Lost > 0 {
		f.bytes = f.bytes * (m.Segments - m.Lost) / m.Segments
		w.account.drop(reasonOf(m.Err), m.Lost)
		if w.lens.taps != nil {
			w.seeLost(f.peer, m)
		}
	}
	arrived := m.Segments - m.Lost
	w.account.Forwarded += uint64(arrived)
	t := &f.peer.workers[w.index]
	t.txPackets.Add(uint64(arrived))
	t.txBytes.Add(uint64(f.bytes))
}

// answer writes the batch's ICMP errors to the TUN, where the kernel delivers
// them as it would those of any router. They are counted apart: no packet that
// was read became one.
func (w *egress) answer() {
	if w.at > 0 {
		if batch := w.replies.take(); len(batch) > 0 {
			_, _ = w.sources[w.at].queue.Write(batch) // who is not answered asks again
		}
		return
	}
	batch := w.answers.take()
	if len(batch) == 0 {
		return
	}
	refused, _ := w.queue.Write(batch) // a sender not told will learn it by time-out
	w.icmpSent.Add(uint64(len(batch) - refused))
}

// stuck says whether the underlay had no room for all that was read.
func (w *egress) stuck() bool { return w.sent < len(w.msgs) }

// abandon accounts for what was read and will not be sent any more.
func (w *egress) abandon() {
	for _, m := range w.msgs[w.sent:] {
		w.account.drop(SocketFull, m.Segments)
	}
	w.sent, w.msgs = 0, w.msgs[:0]
	w.enter()
}

// enter puts the batch in the books.
func (w *egress) enter() {
	w.ledger.enter(&w.account)
	w.account = Account{}
	if w.supers > 0 {
		w.batches.super.Add(uint64(w.supers))
		w.supers = 0
	}
}
