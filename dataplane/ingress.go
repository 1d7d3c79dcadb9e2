package dataplane

import (
	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* The way in: from the underlay to the TUN.
 *
 * 1. Receive a batch of datagrams.
 * 2. Find the peer by the outer source address.
 * 3. Take the encapsulation off; parse the inner IP header.
 * 4. Check that the inner source is that peer's to use (anti-spoof), that the
 *    inner destination is this node's (no transit, no loops), and the size.
 * 5. Merge the underlay's congestion mark into the inner header.
 * 6. Write the batch to the TUN; enter it in the account.
 *
 * One goroutine does it all, in order.
 */

// datagramStart is where datagrams are received to: wherever the inner packet
// starts in them, there is room in front for the TUN's own header.
const datagramStart = device.Headroom

// ingress is what the goroutine owns for life. The stages borrow from it.
type ingress struct {
	*Engine
	msgs    []encap.Message
	bufs    [][]byte // the buffer that each message's Buf is a part of
	out     [][]byte // accepted packets behind device.Headroom bytes
	account Account  // of this batch
}

func (e *Engine) newIngress() *ingress {
	n := min(encap.Batch, e.device.BatchSize())
	w := &ingress{
		Engine: e,
		msgs:   make([]encap.Message, n),
		bufs:   make([][]byte, n),
		out:    make([][]byte, 0, n),
	}
	for i := range w.bufs {
		w.bufs[i] = make([]byte, datagramStart+encap.MaxDatagram)
		w.msgs[i].Buf = w.bufs[i][datagramStart:]
	}
	return w
}

func (e *Engine) runIngress() error {
	w := e.newIngress()
	for {
		if err := w.turn(); err != nil {
			return err
		}
	}
}

// turn takes one batch all the way.
func (w *ingress) turn() error {
	n, err := w.wire.Recv(w.msgs)
	if err != nil {
		return err
	}
	w.account = Account{Received: uint64(n)}
	w.out = w.out[:0]

	t := w.tables.Load()
	for i := range n {
		w.accept(t, i)
	}
	w.deliver()
	w.Engine.ingress.enter(&w.account)
	return nil
}

// accept decides about message i and queues its inner packet for delivery.
func (w *ingress) accept(t *tables, i int) {
	m := &w.msgs[i]
	from, ok := t.endpoints[m.Addr.Addr()]
	if !ok {
		w.account.drop(UnknownPeer)
		return
	}
	p, ok := t.codec.Decap(m.Buf[:m.N])
	if !ok {
		w.account.drop(Malformed)
		return
	}
	h, ok := packet.Parse(p)
	switch {
	case !ok:
		w.account.drop(Malformed)
		return
	case !t.mayCarry(from, h.Src):
		w.account.drop(Spoofed)
		return
	case len(p) > t.local.MTU:
		w.account.drop(TooBig)
		return
	}
	if owner, ok := t.routes.Lookup(h.Dst); !ok || owner != t.self {
		w.account.drop(NotOurs)
		return
	}
	if !packet.MergeECN(p, m.DSField) {
		w.account.drop(Congestion)
		return
	}
	from.rx.packets.Add(1)
	from.rx.bytes.Add(uint64(len(p)))
	w.enqueue(i, p)
}

// enqueue gives the TUN the packet with the room in front of it, and behind it
// all that is left of the buffer, which merging a flow's packets needs.
func (w *ingress) enqueue(i int, p []byte) {
	buf := w.bufs[i]
	// p lies somewhere in buf; both end at the same byte of the same array.
	start := cap(buf) - cap(p)
	w.out = append(w.out, buf[start-device.Headroom:start+len(p)])
}

// deliver writes the accepted packets to the TUN.
func (w *ingress) deliver() {
	if len(w.out) == 0 {
		return
	}
	accepted := uint64(len(w.out))
	lost, _ := w.device.Write(w.out, device.Headroom) // the account says it; the next Read reports a device that is gone
	w.account.Drops[DeviceRefused] += uint64(lost)
	w.account.Forwarded += accepted - uint64(lost)
}
