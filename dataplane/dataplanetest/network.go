// Package dataplanetest gives the dataplane's two ends in memory: an underlay
// that joins any number of engines, and TUN devices that tests put packets into
// and take them out of. It lets two nodes run in one test.
package dataplanetest

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/weft-net/weft/encap"
)

// queued is how many datagrams or packets wait at the most. What is sent to a
// full queue waits, so that nothing is ever lost without a reason.
const queued = 4096

// Network is an underlay. Datagrams to an address that no wire has vanish, and
// are counted.
type Network struct {
	mu    sync.Mutex
	wires map[netip.AddrPort]*Wire
	lost  int
}

type datagram struct {
	from netip.AddrPort
	ds   uint8
	data []byte
}

// Wire is one socket on a Network. It is a dataplane.Wire.
type Wire struct {
	network *Network
	addr    netip.AddrPort
	in      chan datagram
	closed  chan struct{}
	once    sync.Once
}

// NewNetwork makes an underlay without wires.
func NewNetwork() *Network {
	return &Network{wires: make(map[netip.AddrPort]*Wire)}
}

// Listen makes a wire at addr, which must be free.
func (n *Network) Listen(addr netip.AddrPort) *Wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wires[addr] != nil {
		panic(fmt.Sprintf("dataplanetest: %s is taken", addr))
	}
	w := &Wire{network: n, addr: addr, in: make(chan datagram, queued), closed: make(chan struct{})}
	n.wires[addr] = w
	return w
}

// Inject sends data to the wire at to, as if from an arbitrary address and with
// an arbitrary DS field.
func (n *Network) Inject(from, to netip.AddrPort, ds uint8, data []byte) {
	n.mu.Lock()
	w := n.wires[to]
	if w == nil {
		n.lost++
	}
	n.mu.Unlock()
	if w == nil {
		return
	}
	select {
	case w.in <- datagram{from, ds, append([]byte(nil), data...)}:
	case <-w.closed:
	}
}

// Lost is how many datagrams went to addresses that no wire has.
func (n *Network) Lost() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}

// Send sends each message to its address. It reports no errors but net.ErrClosed.
func (w *Wire) Send(msgs []encap.Message) (sent int, err error) {
	for i := range msgs {
		select {
		case <-w.closed:
			return i, net.ErrClosed
		default:
		}
		msgs[i].Err = nil
		w.network.Inject(w.addr, msgs[i].Addr, msgs[i].DSField, msgs[i].Buf)
	}
	return len(msgs), nil
}

// Recv waits for a datagram and takes what else is there.
func (w *Wire) Recv(msgs []encap.Message) (n int, err error) {
	var d datagram
	select {
	case d = <-w.in:
	case <-w.closed:
		return 0, net.ErrClosed
	}
	for {
		m := &msgs[n]
		m.N = copy(m.Buf, d.data)
		m.Addr, m.DSField = d.from, d.ds
		if n++; n == len(msgs) {
			return n, nil
		}
		select {
		case d = <-w.in:
		default:
			return n, nil
		}
	}
}

// Close ends Recv, and takes the wire off its network.
func (w *Wire) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.network.mu.Lock()
		delete(w.network.wires, w.addr)
		w.network.mu.Unlock()
	})
	return nil
}
