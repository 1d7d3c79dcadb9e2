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
	wires map[netip.AddrPort]*Wire
}

type datagram struct {
	from netip.AddrPort
	ds   uint8
	data []byte
}

// Wire is one socket on a Network. It is a dataplane.Wire. It puts equal datagrams
// together as the kernel does (UDP_GRO).
type Wire struct {
	network *Network
	addr    netip.AddrPort
	in      *mailbox[datagram]
}

// NewNetwork makes an underlay without wires.
func NewNetwork() *Network {
	return &Network{wires: make(map[netip.AddrPort]*Wire)}
}

// Listen makes a wire at addr, which must be free, for as long as the test lives.
func (n *Network) Listen(t testing.TB, addr netip.AddrPort) *Wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wires[addr] != nil {
		panic(fmt.Sprintf("dataplanetest: %s is taken", addr))
	}
	w := &Wire{network: n, addr: addr, in: newMailbox[datagram](t)}
	n.wires[addr] = w
	return w
}

// Inject sends data to the wire at to, as if from an arbitrary address and with
// an arbitrary DS field.
func (n *Network) Inject(from, to netip.AddrPort, ds uint8, data []byte) {
	n.mu.Lock()
	w := n.wires[to]
	n.mu.Unlock()
	if w != nil {
		w.in.put(datagram{from, ds, append([]byte(nil), data...)})
	}
}

// FD is readable while there are datagrams.
func (w *Wire) FD() int { return w.in.fd }

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
			w.network.Inject(w.addr, m.Addr, m.DSField, data)
		}
	}
	return len(msgs), nil
}

// Recv takes what is there.
func (w *Wire) Recv(msgs []encap.Received) (n int, err error) {
	var m *encap.Received
	last := 0 // the size of the datagram that m was last given
	joins := func(d datagram) bool {
		return m != nil && d.from == m.Addr && d.ds == m.DSField && last == m.SegmentSize && m.N > 0 &&
			0 < len(d.data) && len(d.data) <= last && m.N+len(d.data) <= encap.MaxPayload
	}
	for {
		if d, ok, _ := w.in.take(joins); ok {
			m.N += copy(m.Buf[m.N:], d.data)
			last = len(d.data)
			continue
		}
		d, ok, _ := w.in.take(func(datagram) bool { return n < len(msgs) })
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
