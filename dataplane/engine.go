// Package dataplane carries pod packets between nodes: from the TUN device to
// the underlay socket (egress.go) and back (ingress.go). Each of the two files
// opens with the walk of a packet, and its functions stand in that order. A
// worker (worker.go) does both for one queue of the TUN.
//
// The package decides by an immutable table set (config.go) and accounts for
// every packet (drops.go). It knows nothing of how peers are found.
package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/encap"
)

// Queue is the kernel's end: one queue of the TUN, or a fake in tests. Nothing
// in it waits. One goroutine uses it.
type Queue interface {
	// FD is readable when Read has something.
	FD() int

	// Read puts packets into arena, one behind the other, describes them in
	// pkts[:n], and never touches them after it returned. n is 0 where there is
	// nothing, or where arena is too small for one more. device.ErrMalformed is
	// one lost read, and the n packets are good all the same; any other error
	// ends the engine, without fault where it wraps net.ErrClosed.
	Read(arena []byte, pkts []packet.Packet) (n int, err error)

	// Pending is how many packets were taken from the kernel that no Read has
	// handed over yet.
	Pending() int

	// Write delivers groups, borrowed until it returns, and says how many of
	// their wire packets the kernel refused, and why the first.
	Write(groups []packet.Group) (refused int, err error)
}

// Wire is the underlay's end: a worker's sockets of encap, or a fake in tests.
// Nothing in it waits. One goroutine uses it.
type Wire interface {
	// Receivers are what datagrams arrive at, always the same.
	Receivers() []encap.Receiver

	// Recv fills msgs[:n] from receiver i, each buffer from its start. n is 0 where
	// there is nothing. An error ends the engine.
	Recv(i int, msgs []encap.Received) (n int, err error)

	// Send says in each message's Err and Lost what became of it, and borrows the
	// pieces until it returns. Where sent < len(msgs) the kernel has no room for
	// msgs[sent:] before Full is writable.
	Send(msgs []encap.Message) (sent int, err error)

	// Full is the descriptor of the socket that had no room, after a short Send.
	Full() int
}

// Pair is what one worker works on: a queue of the device, its sockets, and a queue of
// each segment's TAP.
type Pair struct {
	Queue Queue
	Wire  Wire
	Taps  []Tapped // of the same VNIs, in the same order, for all workers
}

// Tapped is a queue of the TAP of the segment with that VNI.
type Tapped struct {
	VNI   uint32
	Queue Queue
}

// Engine moves packets between queues and wires by the tables of the last Apply.
// Apply and Stats may be called from any goroutine. It owns neither the queues
// nor the wires: their owner closes them after Run has returned.
type Engine struct {
	workers []*worker
	tables  atomic.Pointer[tables]
	taps    atomic.Pointer[[]*Tap] // nil while there are none; immutable, replaced whole

	pulse   pulse
	started chan struct{} // closed when the workers run

	began    time.Time
	vnis     []uint32 // of the segments that there are TAPs for
	stations []*station

	mu    sync.Mutex       // over what follows, and one Apply at a time
	links map[string]*link // by peer ID, of all peers there ever were
}

// New makes an engine with a worker for each of pairs. can says which superpackets
// the device takes (TSO, USO). Nothing is forwarded before the first Apply: what
// arrives by then is dropped for want of a route or a known peer.
func New(pairs []Pair, can offload.Set) *Engine {
	e := &Engine{links: make(map[string]*link), started: make(chan struct{}), began: time.Now()}
	for _, p := range pairs[:min(1, len(pairs))] { // the others have the same
		for _, tap := range p.Taps {
			e.vnis = append(e.vnis, tap.VNI)
			e.stations = append(e.stations, newStation(e.began, len(pairs)))
		}
	}
	for i, p := range pairs {
		e.workers = append(e.workers, newWorker(e, i, len(pairs), p, can))
	}
	if err := e.Apply(Config{}); err != nil {
		panic("dataplane: the empty configuration is refused: " + err.Error())
	}
	return e
}

// Apply makes c what the engine does. It takes effect with the next batch of
// packets. On an error nothing has changed. Applying the same value again
// changes nothing.
func (e *Engine) Apply(c Config) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.compile(c)
	if err != nil {
		return err
	}
	e.tables.Store(t)
	for _, s := range t.networks {
		s.settle()
	}
	return nil
}

// Started is closed when Run has all it needs and the workers run.
func (e *Engine) Started() <-chan struct{} { return e.started }

// Run forwards packets until ctx is done, and returns nil; or until a queue or a
// wire fails, and returns why. It may be called once.
func (e *Engine) Run(ctx context.Context) error {
	ended := make(chan error, len(e.workers))
	stop := func() {
		for _, w := range e.workers {
			w.stop()
		}
	}
	for _, w := range e.workers {
		if err := w.open(); err != nil {
			return errors.Join(err, e.release())
		}
	}
	for _, w := range e.workers {
		go func() { ended <- w.run() }()
	}
	e.pulse.begin(e.workers)
	close(e.started)
	told := make(chan struct{})
	undo := context.AfterFunc(ctx, func() {
		stop()
		close(told)
	})

	var first error
	for range e.workers {
		err := <-ended
		if first == nil {
			first = err
		}
		stop() // one worker alone is of no use
	}
	if !undo() {
		<-told // it must not wake workers that are released
	}
	if errors.Is(first, net.ErrClosed) {
		first = fmt.Errorf("another program deleted the TUN device, or the TAP of a segment: %w", first)
	}
	return errors.Join(first, e.release())
}

// release gives back what the workers took in open.
func (e *Engine) release() error {
	e.pulse.end()
	var errs []error
	for _, w := range e.workers {
		errs = append(errs, w.close())
	}
	return errors.Join(errs...)
}

// Stats is what the engine has done so far.
type Stats struct {
	Egress, Ingress Account
	Batches         Batches
	ICMPSent        uint64 // ICMP errors told to senders on this node
	Peers           map[string]PeerStats
}

// PeerStats is the traffic with one peer since the engine was made, in inner
// packets and bytes, also while the peer was away.
type PeerStats struct {
	TxPackets, TxBytes, RxPackets, RxBytes uint64
}

// Add adds to s what another engine has counted.
func (s *Stats) Add(o Stats) {
	s.Egress.add(o.Egress)
	s.Ingress.add(o.Ingress)
	s.Batches.add(o.Batches)
	s.ICMPSent += o.ICMPSent
	for id, p := range o.Peers {
		sum := s.Peers[id]
		sum.TxPackets += p.TxPackets
		sum.TxBytes += p.TxBytes
		sum.RxPackets += p.RxPackets
		sum.RxBytes += p.RxBytes
		s.Peers[id] = sum
	}
}

// Stats reads the counters. The maps in it are the caller's.
func (e *Engine) Stats() Stats {
	s := Stats{Peers: make(map[string]PeerStats)}
	for _, w := range e.workers {
		s.Egress.add(w.egress.ledger.read())
		s.Ingress.add(w.ingress.ledger.read())
		s.Batches.add(w.batches())
		s.ICMPSent += w.egress.icmpSent.Load()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, l := range e.links {
		s.Peers[id] = l.read()
	}
	return s
}
