package dataplane

import "github.com/weft-net/weft/dataplane/packet"

/* The last step of the way in: to the TUN, or to the TAP of a segment.
 */

// deliver writes the accepted packets to the TUN.
func (w *ingress) deliver() {
	if w.merged == 0 {
		return
	}
	groups := w.merger.Groups()
	w.batches.queue.enter(len(groups))
	w.batches.super.Add(supers(groups))
	refused := w.write(groups)
	w.account.drop(DeviceRefused, refused)
	w.account.Forwarded += uint64(w.merged - refused)
	w.merged = 0
	w.merger.Reset()
}

// write hands groups to the kernel, and says how many of their packets that refused. The account
// says it; the next Read reports a device that is gone.
func (w *ingress) write(groups []packet.Group) (refused int) {
	if link := w.frames.link; link != nil {
		for i := range groups {
			groups[i].Link = link
		}
		refused, _ = w.taps[w.frames.port].Write(groups)
		return refused
	}
	if w.lens.taps != nil {
		return w.writeSeen(groups)
	}
	refused, _ = w.queue.Write(groups)
	return refused
}

// supers is how many of groups are superpackets.
func supers(groups []packet.Group) (n uint64) {
	for i := range groups {
		if groups[i].GSO != packet.NoGSO {
			n++
		}
	}
	return n
}
