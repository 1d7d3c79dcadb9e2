// Package dataplanetest gives the dataplane's two ends in memory: an underlay
// that joins any number of engines, and TUN devices that tests put packets into
// and take them out of. It lets two nodes run in one test.
package dataplanetest

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/weft-net/weft/encap"
)

// Network is an underlay. Datagrams to an address that no wire has vanish.
type Network struct {
	mu    sync.Mutex
	wires map[netip.AddrPort]receiver
}

// receiver is one of a wire's.
type receiver struct {
	wire  *Wire
	index int
}

type datagram struct {
	from netip.AddrPort
	ds   uint8
	data []byte
}

// VXLANPort is where every wire takes VXLAN.
const VXLANPort = 4789

// Wire is a worker's sockets on a Network. It is a dataplane.Wire. It puts equal
// datagrams together as the kernel does (UDP_GRO).
type Wire struct {
	network   *Network
	addrs     []netip.AddrPort
	receivers []encap.Receiver
	in        []*mailbox[datagram] // beside receivers
}

// NewNetwork makes an underlay without wires.
func NewNetwork() *Network {
	return &Network{wires: make(map[netip.AddrPort]receiver)}
}

// Listen makes a wire at addrs, one of a family, which must be free, for as long as
// the test lives: there it takes plain UDP, and at VXLANPort of the same addresses
// VXLAN. Of several wires at an address the first has that.
func (n *Network) Listen(t testing.TB, addrs ...netip.AddrPort) *Wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &Wire{network: n, addrs: addrs}
	for _, addr := range addrs {
		if _, taken := n.wires[addr]; taken {
			panic(fmt.Sprintf("dataplanetest: %s is taken", addr))
		}
		n.open(t, w, addr, encap.UDP)
		if vxlan := netip.AddrPortFrom(addr.Addr(), VXLANPort); n.wires[vxlan].wire == nil {
			n.open(t, w, vxlan, encap.VXLAN)
		}
	}
	return w
}

func (n *Network) open(t testing.TB, w *Wire, addr netip.AddrPort, codec encap.Codec) {
	in := newMailbox[datagram](t)
	n.wires[addr] = receiver{w, len(w.in)}
	w.in = append(w.in, in)
	w.receivers = append(w.receivers, encap.Receiver{FD: in.fd, Codec: codec})
}

// Inject sends data to the wire at to, as if from an arbitrary address and with
// an arbitrary DS field.
func (n *Network) Inject(from, to netip.AddrPort, ds uint8, data []byte) {
	n.mu.Lock()
	r := n.wires[to]
	n.mu.Unlock()
	if r.wire != nil {
		r.wire.in[r.index].put(datagram{from, ds, append([]byte(nil), data...)})
	}
}

// Receivers are one for each address and codec.
func (w *Wire) Receivers() []encap.Receiver { return w.receivers }

// from is the wire's address of the family of to.
func (w *Wire) from(to netip.Addr) netip.AddrPort {
	for _, a := range w.addrs {
		if a.Addr().Is4() == to.Is4() {
			return a
		}
	}
	panic(fmt.Sprintf("dataplanetest: a wire at %v sends to %s", w.addrs, to))
}

// Full is no descriptor: a Send always takes all.
func (w *Wire) Full() int { return -1 }

// Send sends the datagrams of each message to its address.
func (w *Wire) Send(msgs []encap.Message) (sent int, err error) {
	for i := range msgs {
		m := &msgs[i]
		m.Lost, m.Err = 0, nil
		for s := range m.Segments {
			var data []byte
			for _, piece := range m.Pieces[s*m.PerSegment:][:m.PerSegment] {
				data = append(data, piece...)
			}
			if len(data) > m.SegmentSize || len(data) < m.SegmentSize && s < m.Segments-1 {
				panic(fmt.Sprintf("dataplanetest: datagram %d of %d has %d bytes in a message of %d", s, m.Segments, len(data), m.SegmentSize))
			}
			w.network.Inject(w.from(m.Addr.Addr()), m.Addr, m.DSField, data)
		}
	}
	return len(msgs), nil
}

// Recv takes what is there.
func (w *Wire) Recv(i int, msgs []encap.Received) (n int, err error) {
	in := w.in[i]
	var m *encap.Received
	last := 0 // the size of the datagram that m was last given
	joins := func(d datagram) bool {
		return m != nil && d.from == m.Addr && d.ds == m.DSField && last == m.SegmentSize && m.N > 0 &&
			0 < len(d.data) && len(d.data) <= last && m.N+len(d.data) <= encap.MaxPayload
	}
	for {
		if d, ok, _ := in.take(joins); ok {
			m.N += copy(m.Buf[m.N:], d.data)
			last = len(d.data)
			continue
		}
		d, ok, _ := in.take(func(datagram) bool { return n < len(msgs) })
		if !ok {
			return n, nil
		}
		m = &msgs[n]
		m.N = copy(m.Buf, d.data)
		m.Addr, m.DSField, m.SegmentSize = d.from, d.ds, len(d.data)
		last = m.N
		n++
	}
}
