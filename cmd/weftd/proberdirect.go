package main

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/encap"
)

// bind has a socket on each of the TUN's addresses, for probes without encapsulation, and
// on no other.
func (p *prober) bind(receivers *sync.WaitGroup, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a, c := range p.direct {
		if !slices.Contains(p.own, a) {
			_ = c.Close()
			delete(p.direct, a)
		}
	}
	if len(p.direct) == len(p.own) || now.Sub(p.tried) < rebindInterval {
		return
	}
	first := p.tried.IsZero()
	p.tried = now
	for _, a := range p.own {
		if p.direct[a] != nil {
			continue
		}
		c, err := host.ListenProbe(p.underlay, netip.AddrPortFrom(a, p.number))
		if err != nil {
			if first {
				p.log.Warn("direct ways cannot be proven yet", "reason", err)
			}
			continue
		}
		p.direct[a] = c
		receivers.Go(func() { p.receive(c) })
	}
}

// unbind ends what bind began.
func (p *prober) unbind() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.direct {
		_ = c.Close()
	}
	clear(p.direct)
}

func (p *prober) sendDirect(to netip.AddrPort, message []byte) error {
	for a, c := range p.direct {
		if a.Is4() == to.Addr().Is4() {
			_, err := c.WriteToUDPAddrPort(message, to)
			if host.IsTooBig(err) {
				return encap.ErrTooBig
			}
			return err
		}
	}
	return fmt.Errorf("probe %s: this node has no TUN address of its family", to)
}
