// Package dataplane carries pod packets between nodes: from the TUN device to
// the underlay socket (egress.go) and back (ingress.go). Each of the two files
// opens with the walk of a packet, and its functions stand in that order.
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

	"github.com/weft-net/weft/encap"
)

// Device is the kernel's end: device.TUN, or a fake in tests.
type Device interface {
	// BatchSize is how many buffers Read needs and the most Write takes.
	BatchSize() int

	// Read blocks, fills bufs[i][offset:] and sizes[i] for i < n, and never
	// touches the buffers after it returned. An error that wraps net.ErrClosed
	// ends the engine without fault; device.ErrMalformed is one lost read, and
	// n packets are good all the same; any other ends the engine. One caller
	// at a time.
	Read(bufs [][]byte, sizes []int, offset int) (n int, err error)

	// Write delivers bufs[i][offset:] and says how many the kernel refused. It
	// may overwrite the buffers up to their capacity and swap them in bufs,
	// until it returns. Any number of callers.
	Write(bufs [][]byte, offset int) (lost int, err error)

	Close() error
}

// Wire is the underlay's end: encap.Socket, or a fake in tests. One goroutine
// receives while another sends.
type Wire interface {
	// Recv blocks, fills msgs[:n] and borrows their buffers until it returns.
	// Errors as for Device.Read.
	Recv(msgs []encap.Message) (n int, err error)

	// Send says in each message's Err what became of it, and borrows the
	// buffers until it returns. An error means that msgs[sent:] were not tried.
	Send(msgs []encap.Message) (sent int, err error)

	Close() error
}

// Engine moves packets between one Device and one Wire by the tables of the
// last Apply. Apply, Stats and Close may be called from any goroutine.
type Engine struct {
	device Device
	wire   Wire
	codec  encap.Codec

	tables atomic.Pointer[tables]

	mu    sync.Mutex       // over what follows, and one Apply at a time
	links map[string]*link // by peer ID, of all peers there ever were

	egress   ledger
	ingress  ledger
	icmpSent atomic.Uint64

	closed   atomic.Bool
	closing  sync.Once
	closeErr error
}

// New makes an engine that owns device and wire from now on. codec is the one
// that the wire's port belongs to. Nothing is forwarded before the first Apply:
// what arrives by then is dropped for want of a route or a known peer.
func New(device Device, wire Wire, codec encap.Codec) *Engine {
	e := &Engine{device: device, wire: wire, codec: codec, links: make(map[string]*link)}
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
	t, err := compile(c, e.codec, e.links)
	if err != nil {
		return err
	}
	e.tables.Store(t)
	return nil
}

// Run forwards packets until ctx is done, then closes the engine and returns
// nil; or until device or wire fail, and returns why.
func (e *Engine) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { e.Close() })
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- e.runEgress() }()
	go func() { ended <- e.runIngress() }()
	first := <-ended
	asked := ctx.Err() != nil || e.closed.Load()
	e.Close() // one direction alone is of no use
	second := <-ended

	switch {
	case !errors.Is(first, net.ErrClosed):
		return first
	case !errors.Is(second, net.ErrClosed):
		return second
	case !asked:
		return fmt.Errorf("another program deleted the TUN device, or closed the data port: %w", first)
	}
	return nil
}

// Close closes device and wire, which ends Run. It may be called more than once.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		e.closed.Store(true)
		e.closeErr = errors.Join(e.device.Close(), e.wire.Close())
	})
	return e.closeErr
}

// Stats is what the engine has done so far.
type Stats struct {
	Egress, Ingress Account
	ICMPSent        uint64 // ICMP errors told to senders on this node
	Peers           map[string]PeerStats
}

// PeerStats is the traffic with one peer since the engine was made, in inner
// packets and bytes, also while the peer was away.
type PeerStats struct {
	TxPackets, TxBytes, RxPackets, RxBytes uint64
}

// Stats reads the counters.
func (e *Engine) Stats() Stats {
	s := Stats{
		Egress:   e.egress.read(),
		Ingress:  e.ingress.read(),
		ICMPSent: e.icmpSent.Load(),
		Peers:    make(map[string]PeerStats),
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, l := range e.links {
		s.Peers[id] = PeerStats{
			TxPackets: l.tx.packets.Load(), TxBytes: l.tx.bytes.Load(),
			RxPackets: l.rx.packets.Load(), RxBytes: l.rx.bytes.Load(),
		}
	}
	return s
}
