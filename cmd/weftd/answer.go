package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/path"
	"github.com/weft-net/weft/encap"
)

// receive takes what comes to the TUN's address without encapsulation.
func (p *prober) receive(c *net.UDPConn) {
	buf := make([]byte, largestProbe)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // an ICMP error: what it is about is lost, and that will show
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		p.mu.Lock()
		if peer, known := p.byTUN[from.Addr()]; known {
			// Whatever port it says it came from, the peer's is the one that it takes probes at.
			to := netip.AddrPortFrom(from.Addr(), p.peers[peer].endpoints[0].Port())
			p.take(peer, buf[:n], outerHeaders(from.Addr())+n, func(answer []byte) error { return p.sendDirect(to, answer) })
		}
		p.mu.Unlock()
	}
}

// neighbourRate is how many questions for the VTEP a second are answered to one peer: a
// kernel asks a few times a minute. The tracker limits probes by itself.
const neighbourRate = 50

// allowance is what is still taken from a peer in this second.
type allowance struct{ second, taken int64 }

func (a *allowance) take(second int64) (ok bool) {
	if a.second != second {
		a.second, a.taken = second, 0
	}
	a.taken++
	return a.taken <= neighbourRate
}

// strays are what came to the control sockets and is none of theirs, by the reason why
// nothing becomes of it.
type strays map[dataplane.Reason]uint64

// strayed is a copy of them. Any goroutine may call it.
func (p *prober) strayed() strays {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.strays)
}

// control takes what came to the data port of codec, and is no packet.
func (p *prober) control(codec encap.Codec, from netip.AddrPort, datagram []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer, known := p.byWire[from.Addr()]
	message, _, kind := p.station.Decap(codec, datagram)
	switch {
	case kind == encap.Control, kind == encap.Neighbour && known:
	case !known:
		p.strays[dataplane.UnknownPeer]++
		return
	default:
		p.strays[dataplane.Refusal(kind)]++
		return
	}
	if !known { // who knows this node already, while it is not known here yet
		return
	}
	to := p.peers[peer]
	tunnel := to.tunnels[codec]
	// A datagram's source port says nothing, and nobody listens there.
	at := to.at(codec, to.endpointAt(from.Addr()))
	if tunnel == nil || !at.IsValid() {
		return
	}
	if kind == encap.Neighbour {
		answer, ok := p.station.AppendNeighbour(p.buf[:0], message, p.own, tunnel)
		if ok && to.take(time.Now().Unix()) {
			_ = p.port.SendOne(answer, at) // it will ask again
		}
		return
	}
	p.take(peer, message, outerHeaders(from.Addr())+len(datagram), func(answer []byte) error {
		return p.port.SendOne(tunnel.AppendControl(p.buf[:0], answer, tunnel.Codec.ControlOverhead()+len(answer)), at)
	})
}

// endpointAt is r's endpoint of that address.
func (r *remote) endpointAt(addr netip.Addr) netip.AddrPort {
	for _, e := range r.endpoints {
		if e.Addr() == addr {
			return e
		}
	}
	return netip.AddrPort{}
}

// take hands a message to the tracker, and sends its answer.
func (p *prober) take(peer string, message []byte, size int, reply func([]byte) error) {
	answer, err := p.tracker.Receive(peer, message, size, time.Now())
	if err != nil {
		p.log.Debug("probe not taken", "peer", peer, "reason", err)
		return
	}
	if answer != nil {
		_ = reply(answer) // a lost answer is a lost probe
	}
	for id, c := range p.pings {
		if rtt, ok := p.tracker.Pong(id); ok {
			c <- rtt
			delete(p.pings, id)
		}
	}
	p.tell()
	token(p.wake)
}

// pingPatience is how long a ping waits for its answer.
const pingPatience = 2 * time.Second

// ping sends a probe along w at once, and waits for its answer. Any goroutine may call it.
func (p *prober) ping(ctx context.Context, w path.Way) (rtt time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, pingPatience)
	defer cancel()
	answered := make(chan time.Duration, 1)
	p.mu.Lock()
	probe, id, ok := p.tracker.Ping(w, time.Now())
	if ok {
		p.pings[id] = answered
		err = p.send(w, probe.Message, probe.Size)
	}
	p.mu.Unlock()
	if !ok {
		return 0, errors.New("the way has just changed")
	}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.pings, id)
	}()
	if err != nil {
		return 0, err
	}
	select {
	case rtt := <-answered:
		return rtt, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("no answer within %s", pingPatience)
	}
}
