package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/path"
	"github.com/weft-net/weft/encap"
)

const (
	// busyFor is how long after its last packet a peer counts as busy.
	busyFor = 5 * time.Second

	// busyInterval is how often the engine is asked who is busy.
	busyInterval = time.Second

	// rebindInterval is how often it is tried to open a socket again that could not be.
	rebindInterval = 10 * time.Second

	// largestProbe is room for a datagram of any size.
	largestProbe = encap.MaxDatagram
)

// prober finds out which ways to the peers work, and how large a packet each takes:
// it sends what its tracker asks for, hands it what arrives, and answers the
// others' probes and their kernels' questions for this node's VTEP.
type prober struct {
	log      *slog.Logger
	engine   *dataplane.Engine
	port     *encap.Port
	underlay string
	number   uint16        // of the port for probes without encapsulation
	changed  chan struct{} // holds a token after what works, or how large, has changed
	wake     chan struct{} // holds a token after plan and at

	mu      sync.Mutex // over all that follows
	tracker *path.Tracker
	station encap.Station
	own     []netip.Addr // of the TUN
	peers   map[string]*probed
	byTUN   map[netip.Addr]string // peer IDs
	byWire  map[netip.Addr]string // peer IDs, by the addresses of their endpoints
	strays  strays
	direct  map[netip.Addr]*net.UDPConn // one for each TUN address
	tried   time.Time                   // when it was last tried to open what lacks of them
	busy    map[string]activity
	asked   time.Time // when busy was last brought up to date
	pings   map[uint64]chan<- time.Duration
	buf     []byte
	watches watches
}

// probed is what the prober knows of a peer.
type probed struct {
	remote
	tunnels map[encap.Codec]*encap.Tunnel
	way     path.Way // that is taken
	allowance
}

type activity struct {
	packets uint64
	last    time.Time
}

func newProber(log *slog.Logger, engine *dataplane.Engine, port *encap.Port, underlay string, number uint16, self string, key [32]byte) *prober {
	return &prober{
		log: log, engine: engine, port: port, underlay: underlay, number: number,
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		tracker: path.New(self, key, time.Now()),
		busy:    make(map[string]activity),
		pings:   make(map[uint64]chan<- time.Duration),
		direct:  make(map[netip.Addr]*net.UDPConn),
		strays:  make(strays),
		buf:     make([]byte, 0, largestProbe),
	}
}

// plan tells the prober whom to look after: the ways to them, and what it shall answer
// by. Any goroutine may call it.
func (p *prober) plan(station encap.Station, all []ways, tunnels func(*remote, encap.Codec) *encap.Tunnel) {
	var candidates []path.Candidate
	peers := make(map[string]*probed, len(all))
	byTUN, byWire := make(map[netip.Addr]string, len(all)), make(map[netip.Addr]string, len(all))
	for i := range all {
		c := &all[i]
		for _, w := range c.tunnels {
			candidates = append(candidates, w.Candidate)
		}
		for _, w := range c.direct {
			candidates = append(candidates, w.Candidate)
		}
		known := &probed{remote: c.remote, tunnels: make(map[encap.Codec]*encap.Tunnel)}
		for _, codec := range encap.Codecs() {
			if c.takes(codec) {
				known.tunnels[codec] = tunnels(&c.remote, codec)
			}
		}
		peers[c.id] = known
		for _, a := range tunAddresses(c.prefixes) {
			byTUN[a] = c.id
		}
		for _, e := range c.endpoints {
			byWire[e.Addr()] = c.id
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, known := range peers {
		if before := p.peers[id]; before != nil {
			known.way, known.allowance = before.way, before.allowance
		}
	}
	p.station, p.peers, p.byTUN, p.byWire = station, peers, byTUN, byWire
	p.tracker.Set(candidates, time.Now())
	token(p.wake)
}

// recall has ways begin with what was known of them before. It is called before plan.
func (p *prober) recall(states map[path.Way]path.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.Recall(states)
}

// at tells the prober which addresses the TUN has. Any goroutine may call it.
func (p *prober) at(own []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.own, own) {
		p.own, p.tried = own, time.Time{}
		token(p.wake)
	}
}

// took tells the prober what was chosen.
func (p *prober) took(choices []choice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range choices {
		if c := &choices[i]; c.mode != "" {
			p.peers[c.id].way = c.way()
		}
	}
}

// token puts one into a channel that holds one.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// state is what is known of a way. Any goroutine may call it.
func (p *prober) state(w path.Way) path.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracker.State(w)
}

// run probes until ctx is done.
func (p *prober) run(ctx context.Context) error {
	var receivers sync.WaitGroup
	defer receivers.Wait()
	defer p.unbind()
	defer p.unwatch()
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, c := range p.port.ControlSockets() {
		receivers.Go(func() {
			stop(c.Serve(serving, func(from netip.AddrPort, datagram []byte) { p.control(c.Codec(), from, datagram) }))
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.bind(&receivers, time.Now())
		select {
		case <-serving.Done():
			if ctx.Err() != nil {
				return nil
			}
			return context.Cause(serving)
		case <-p.wake:
		case <-timer.C:
		}
		timer.Reset(time.Until(p.tick(time.Now())))
	}
}

// tick sends what is due, and says when it is to be called again.
func (p *prober) tick(now time.Time) (next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.asked) >= busyInterval {
		p.look(now)
		p.watches.expire(now, "")
	}
	busy := func(w path.Way) bool {
		known := p.peers[w.Peer]
		return known != nil && known.way.Mode == w.Mode && (known.way == w || w.Mode == modeDirect) && now.Sub(p.busy[w.Peer].last) < busyFor
	}
	for _, probe := range p.tracker.Tick(now, busy) {
		err := p.send(probe.Way, probe.Message, probe.Size)
		if errors.Is(err, encap.ErrTooBig) {
			p.tracker.Unsent(probe, now)
		}
	}
	p.tell()
	return p.tracker.Next()
}

// look notes which peers have traffic. Of a direct peer the engine sees none, therefore
// it always counts as busy.
func (p *prober) look(now time.Time) {
	p.asked = now
	stats := p.engine.Stats()
	busy := make(map[string]activity, len(p.peers))
	for id, known := range p.peers {
		a, s := p.busy[id], stats.Peers[id]
		if n := s.TxPackets + s.RxPackets; n != a.packets || known.way.Mode == modeDirect {
			a = activity{packets: n, last: now}
		}
		busy[id] = a
	}
	p.busy = busy
}

// tell has the daemon look again where something has changed.
func (p *prober) tell() {
	if p.tracker.Changed() {
		token(p.changed)
	}
}

// send sends message along w, in an outer packet of size bytes.
func (p *prober) send(w path.Way, message []byte, size int) error {
	payload := size - outerHeaders(w.To.Addr())
	if w.Mode == modeDirect {
		return p.sendDirect(w.To, append(append(p.buf[:0], message...), make([]byte, max(0, payload-len(message)))...))
	}
	codec, _ := encap.ParseCodec(w.Mode)
	known := p.peers[w.Peer]
	if known == nil || known.tunnels[codec] == nil {
		return fmt.Errorf("probe %s: no such way any more", w.To)
	}
	return p.port.SendOne(known.tunnels[codec].AppendControl(p.buf[:0], message, payload), w.To)
}
