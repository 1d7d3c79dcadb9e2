package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/membership"
)

// Config is what New needs. It is not changed.
type Config struct {
	Store *membership.Store
	// Addr is bound and advertised: an address of this machine that others reach.
	// Port 0 takes a free port.
	Addr netip.AddrPort
	// Join lists "host" or "host:port"; the port is Addr's by default. The list may
	// be the same on all nodes: this node's own address in it is passed over.
	Join []string
	// Key encrypts everything, until SetKeys: 16 or 32 bytes. Without one anybody may join.
	Key []byte
	// Logger must be set.
	Logger *slog.Logger

	timing   *timing       // for tests: nil means defaultTiming
	resolver *net.Resolver // for tests: nil means net.DefaultResolver
	// network opens the port and returns it with what was bound. For tests: nil means sockets.
	network func(netip.AddrPort) (memberlist.NodeAwareTransport, netip.AddrPort, error)
}

// timing holds every period. The package comment adds them up.
type timing struct {
	probe, probeTimeout      time.Duration
	gossip                   time.Duration
	forget                   time.Duration // memberlist's memory of the dead
	exchange                 time.Duration // between full exchanges
	resolve                  time.Duration // the join names; less than Sync is given, so that a silent resolver leaves time to dial
	stream                   time.Duration // a dial, and each read or write of a stream
	redialMin, redialMax     time.Duration
	redialPerMember, idleMax time.Duration
	leave                    time.Duration // for each half of Leave
	republish                time.Duration // least time between two Refreshes
	second                   time.Duration // from the first contact to a second exchange
	pull                     time.Duration // between two pulls
	move                     time.Duration // from a node's new address to its death at the old one, at the most
}

func defaultTiming() *timing {
	return &timing{
		probe: 500 * time.Millisecond,
		// An indirect probe's nack takes two of these: it must arrive within probe.
		probeTimeout: 200 * time.Millisecond,
		gossip:       200 * time.Millisecond,
		forget:       30 * time.Second,
		exchange:     30 * time.Second,
		resolve:      2 * time.Second,
		stream:       5 * time.Second,
		redialMin:    time.Second,
		redialMax:    5 * time.Second,
		// All live nodes together then dial one dead node ten times a second.
		redialPerMember: 100 * time.Millisecond,
		idleMax:         30 * time.Second,
		leave:           3 * time.Second,
		republish:       time.Second,
		second:          time.Second,
		pull:            time.Second,
		move:            20 * time.Second,
	}
}

// Gossip is one running memberlist and what keeps it together. Its methods may be
// called concurrently; Run once.
type Gossip struct {
	store    *membership.Store
	log      *slog.Logger
	timing   *timing
	list     *memberlist.Memberlist
	addr     netip.AddrPort
	join     atomic.Pointer[[]name] // not changed once stored
	resolver *net.Resolver
	queue    *memberlist.TransmitLimitedQueue
	keyring  *memberlist.Keyring // nil without a key
	rings    chan []byte         // see Rings

	warnings *throttle // by kind
	strays   *throttle // by host, of those with another key
	flaps    *throttle // deaths, by node

	mu       sync.Mutex
	peers    map[membership.ID]netip.AddrPort // alive others, as memberlist knows them
	rejected map[string]uint64
	disputes map[string]dispute // by node
	// announced is the own record that was last queued.
	announced membership.Envelope

	alive      atomic.Int64 // len(peers), readable while memberlist holds its locks
	mismatches atomic.Uint64
	redials    atomic.Uint64
	reached    atomic.Uint64
	conflicts  atomic.Uint64
	displaced  atomic.Uint64
	news       atomic.Int64           // records and members learnt of since the last pull
	learnt     chan struct{}          // capacity 1: there is news
	digests    chan membership.Digest // to be answered
	died       chan struct{}          // capacity 1: a member died
	met        chan struct{}          // capacity 1: after nobody, somebody is alive

	life   sync.Mutex // held by Leave and Close: memberlist panics on Leave after Shutdown
	closed chan struct{}
	wg     sync.WaitGroup // dials in flight, and answers to digests
}

// New opens the gossip port and listens. Nobody is contacted yet. Close releases it.
func New(c Config) (*Gossip, error) {
	if n := len(c.Key); n != 0 && n != 16 && n != 32 {
		return nil, fmt.Errorf("the gossip key has %d bytes: it must have 16 or 32", n)
	}
	if !c.Addr.Addr().IsValid() || c.Addr.Addr().IsUnspecified() {
		return nil, fmt.Errorf("gossip address %s: want an address of this machine that others can reach", c.Addr)
	}
	if c.timing == nil {
		c.timing = defaultTiming()
	}
	if c.resolver == nil {
		c.resolver = net.DefaultResolver
	}
	g := &Gossip{
		store:    c.Store,
		log:      c.Logger,
		timing:   c.timing,
		resolver: c.resolver,
		warnings: newThrottle(10 * time.Second),
		strays:   newThrottle(time.Minute),
		flaps:    newThrottle(flapWindow),
		peers:    make(map[membership.ID]netip.AddrPort),
		rejected: make(map[string]uint64),
		disputes: make(map[string]dispute),
		learnt:   make(chan struct{}, 1),
		digests:  make(chan membership.Digest, maxUnanswered),
		rings:    make(chan []byte, maxRings),
		died:     make(chan struct{}, 1),
		met:      make(chan struct{}, 1),
		closed:   make(chan struct{}),
	}
	if c.network == nil {
		c.network = g.sockets
	}
	t, bound, err := c.network(c.Addr)
	if err != nil {
		return nil, err
	}
	g.addr = bound
	if err := g.SetJoin(c.Join); err != nil {
		return nil, errors.Join(err, t.Shutdown())
	}
	conf := g.memberlistConfig(c, t)
	g.queue = &memberlist.TransmitLimitedQueue{
		NumNodes:       func() int { return int(g.alive.Load()) + 1 },
		RetransmitMult: conf.RetransmitMult,
	}
	if g.list, err = memberlist.Create(conf); err != nil {
		return nil, errors.Join(fmt.Errorf("start memberlist: %w", err), t.Shutdown())
	}
	g.keyring = conf.Keyring
	g.start(g.answerDigests)
	return g, nil
}

// sockets is the network of this machine.
func (g *Gossip) sockets(addr netip.AddrPort) (memberlist.NodeAwareTransport, netip.AddrPort, error) {
	t, err := listen(addr, (&hosts{store: g.store}).members, g.crowded)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return t, t.addr, nil
}

func (g *Gossip) memberlistConfig(c Config, t memberlist.NodeAwareTransport) *memberlist.Config {
	conf := memberlist.DefaultLANConfig()
	conf.Name = g.store.ID().String()
	conf.Transport = t
	conf.AdvertiseAddr, conf.AdvertisePort = g.addr.Addr().String(), int(g.addr.Port())
	conf.BindAddr, conf.BindPort = conf.AdvertiseAddr, conf.AdvertisePort
	conf.SecretKey = c.Key
	conf.Logger = log.New(&logWriter{log: g.log, limit: g.warnings, mismatched: g.mismatched}, "", 0)

	conf.ProbeInterval, conf.ProbeTimeout = g.timing.probe, g.timing.probeTimeout
	conf.GossipInterval = g.timing.gossip
	conf.GossipToTheDeadTime = g.timing.forget
	conf.PushPullInterval = g.timing.exchange
	conf.TCPTimeout = g.timing.stream
	// Suspicion lasts 3 x max(1, log10 n) probe intervals once one other node
	// confirms it, at most twice that.
	conf.SuspicionMult, conf.SuspicionMaxTimeoutMult = 3, 2
	// An impaired node probes at half the rate, not at an eighth: when half of a
	// cluster goes, its other half finds itself impaired.
	conf.AwarenessMaxMultiplier = 2
	// A restarted node may have a new address: taken as soon as the old one is dead.
	conf.DeadNodeReclaimTime = time.Nanosecond

	d := &delegate{g: g}
	conf.Delegate, conf.Events, conf.Conflict, conf.Alive = d, d, d, d
	return conf
}

// Addr returns where this node's gossip listens, for Description.Gossip.
func (g *Gossip) Addr() netip.AddrPort { return g.addr }

// Stats is a moment's count of what happened since New.
type Stats struct {
	Alive         int               // other members alive now
	KeyMismatches uint64            // messages under another key or none, and dials refused for it
	Rejected      map[string]uint64 // records by membership.Reject
	Redials       uint64            // dials to members not alive and to join names
	Reached       uint64            // of those, answered
	Conflicts     uint64            // one node ID at two addresses, for longer than a move takes
	Displaced     uint64            // inbound streams closed for others
}

// Stats returns the counters.
func (g *Gossip) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{
		Alive:         len(g.peers),
		KeyMismatches: g.mismatches.Load(),
		Rejected:      maps.Clone(g.rejected),
		Redials:       g.redials.Load(),
		Reached:       g.reached.Load(),
		Conflicts:     g.conflicts.Load(),
		Displaced:     g.displaced.Load(),
	}
}

// Close stops memberlist, interrupts dials and waits for them. Others see this node
// as dead, not as departed. Run should have returned. memberlist's own loops end
// by themselves within two probe intervals.
func (g *Gossip) Close() error {
	g.life.Lock()
	defer g.life.Unlock()
	select {
	case <-g.closed:
		return nil
	default:
	}
	g.mu.Lock()
	close(g.closed)
	g.mu.Unlock()
	err := g.list.Shutdown()
	g.wg.Wait()
	if err != nil {
		return fmt.Errorf("close the gossip port: %w", err)
	}
	return nil
}

// start runs f in a goroutine that Close waits for, unless closed.
func (g *Gossip) start(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.closed:
	default:
		g.wg.Go(f)
	}
}

func (g *Gossip) mismatched(kind mismatch, from string) {
	g.mismatches.Add(1)
	if from == "" {
		return // memberlist says the same again, with the address
	}
	host := from
	if ap, err := netip.ParseAddrPort(from); err == nil {
		host = ap.Addr().String()
	}
	if ok, suppressed := g.strays.allow(host, time.Now()); ok {
		g.log.Warn("a node uses "+string(kind)+": "+kind.fix(), append([]any{"from", from}, suppressedAttr(suppressed)...)...)
	}
}

func (g *Gossip) warn(kind, text string, args ...any) {
	if ok, suppressed := g.warnings.allow(kind, time.Now()); ok {
		g.log.Log(context.Background(), slog.LevelWarn, text, append(args, suppressedAttr(suppressed)...)...)
	}
}
