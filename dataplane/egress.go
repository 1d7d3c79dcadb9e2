package dataplane

import (
	"errors"

	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

/* The way out: from the TUN to the underlay.
 *
 * 1. Read a batch of packets from the TUN, each with headroom in front.
 * 2. Parse the IP header; check that the source is this node's to use.
 * 3. Look up which node owns the destination.
 * 4. Check the size against what that node takes.
 * 5. Encapsulate in place, in the headroom.
 * 6. Send the batch; enter it in the account.
 *
 * Beside it, 3 and 4 tell the sender by ICMP why its packet went no further;
 * those answers go back into the TUN after the batch.
 *
 * One goroutine does it all, in order.
 */

// packetStart is where packets stand in egress buffers: behind room for the
// encapsulation header.
const packetStart = encap.Headroom

// egress is what the goroutine owns for life. The stages borrow from it.
type egress struct {
	*Engine
	bufs    [][]byte
	sizes   []int
	msgs    []encap.Message
	to      []*peer // the peer of each message
	answers answers
	account Account // of this batch
}

func (e *Engine) newEgress() *egress {
	n := e.device.BatchSize()
	w := &egress{
		Engine:  e,
		bufs:    make([][]byte, n),
		sizes:   make([]int, n),
		msgs:    make([]encap.Message, 0, n),
		to:      make([]*peer, 0, n),
		answers: newAnswers(n),
	}
	for i := range w.bufs {
		w.bufs[i] = make([]byte, packetStart+device.MaxPacket)
	}
	return w
}

func (e *Engine) runEgress() error {
	w := e.newEgress()
	for {
		if err := w.turn(); err != nil {
			return err
		}
	}
}

// turn takes one batch all the way.
func (w *egress) turn() error {
	n, err := w.device.Read(w.bufs, w.sizes, packetStart)
	if err != nil && !errors.Is(err, device.ErrMalformed) {
		return err
	}
	w.account = Account{}
	if err != nil {
		w.account.Received++
		w.account.drop(Malformed)
	}
	w.msgs, w.to = w.msgs[:0], w.to[:0]

	t := w.tables.Load()
	for i := range n {
		w.account.Received++
		w.forward(t, w.bufs[i][:packetStart+w.sizes[i]])
	}
	err = w.send()
	w.answer()
	w.Engine.egress.enter(&w.account)
	return err
}

// forward decides about the packet buf[packetStart:] and queues it to its peer.
func (w *egress) forward(t *tables, buf []byte) {
	p := buf[packetStart:]
	h, ok := packet.Parse(p)
	switch {
	case !ok:
		w.account.drop(Malformed)
		return
	case len(t.local.PodCIDRs) == 0:
		w.account.drop(Fenced)
		w.answers.add(t.local.Address, p, h.Src, packet.NetUnreachable, 0)
		return
	case !t.isLocal(h.Src):
		w.account.drop(Spoofed)
		return
	}
	owner, ok := t.routes.Lookup(h.Dst)
	switch {
	case !ok:
		w.account.drop(NoRoute)
		w.answers.add(t.local.Address, p, h.Src, packet.NetUnreachable, 0)
	case owner == t.self:
		w.account.drop(NotOurs)
	case len(p) > owner.MTU:
		w.account.drop(TooBig)
		w.answers.add(t.local.Address, p, h.Src, packet.FragmentationNeeded, owner.MTU)
	default:
		w.enqueue(owner, buf, h)
	}
}

// enqueue encapsulates for owner. The DS field is copied to the outer header: ECN by
// RFC 6040 section 4.1, normal mode; DSCP so that the underlay can tell classes
// apart, while the inner one arrives as it was sent.
func (w *egress) enqueue(owner *peer, buf []byte, h packet.Header) {
	start := owner.Codec.Encap(buf, packetStart)
	w.msgs = append(w.msgs, encap.Message{Buf: buf[start:], Addr: owner.Endpoint, DSField: h.DSField})
	w.to = append(w.to, owner)
}

func (w *egress) send() error {
	if len(w.msgs) == 0 {
		return nil
	}
	sent, err := w.wire.Send(w.msgs)
	for i := range w.msgs {
		m := &w.msgs[i]
		switch {
		case i >= sent:
			w.account.drop(UnderlayRefused)
		case m.Err == nil:
			w.account.Forwarded++
			w.to[i].tx.packets.Add(1)
			w.to[i].tx.bytes.Add(uint64(len(m.Buf) - w.to[i].Codec.Overhead()))
		case errors.Is(m.Err, encap.ErrTooBig):
			w.account.drop(TooBig)
		case errors.Is(m.Err, encap.ErrFull):
			w.account.drop(SocketFull)
		default:
			w.account.drop(UnderlayRefused)
		}
	}
	return err
}

// answer writes the batch's ICMP errors to the TUN, where the kernel delivers
// them as it would those of any router. They are counted apart: no packet that
// was read became one.
func (w *egress) answer() {
	batch := w.answers.take()
	if len(batch) == 0 {
		return
	}
	lost, _ := w.device.Write(batch, device.Headroom) // a sender not told will learn it by time-out
	w.icmpSent.Add(uint64(len(batch) - lost))
}
