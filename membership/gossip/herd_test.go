package gossip

import (
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/membership"
)

// figures is what a cluster of one size took, in virtual time.
type figures struct {
	Nodes      int     `json:"nodes"`
	Converge   float64 `json:"convergeSeconds"` // from the last node's start until all know all
	Newcomer   float64 `json:"newcomerSeconds"` // until one more node is known to all
	Death      float64 `json:"deathSeconds"`    // until all know that one died
	BytesPerS  float64 `json:"bytesPerSecond"`  // sent by each node while nothing happens, with headers
	Packets    float64 `json:"packetsPerSecond"`
	PeerMemory float64 `json:"bytesPerPeer"` // heap, for each peer of each node
	Record     int     `json:"recordBytes"`
	Drain      float64 `json:"drainSeconds"` // from convergence until no broadcast is left to send
}

// herd is a cluster on a wire.
type herd struct {
	t         *testing.T
	wire      wire
	authority membership.Identity
	nodes     []*node
	say       func(format string, args ...any)
}

var herdKey = []byte("0123456789abcdef0123456789abcdef")

const look = 50 * time.Millisecond

// add starts one more node as the daemon does, with all that a record may hold. Its log and
// that of others is of warnings alone.
func (h *herd) add() *node {
	h.t.Helper()
	n := len(h.nodes)
	id := newIdentity(h.t)
	host := netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)})
	c := Config{
		Store: membership.NewStore(id, membership.Terms{Networks: herdNetworks}, 5*time.Second, func(membership.Snapshot) error { return nil }),
		Addr:  netip.AddrPortFrom(host, 7946), Key: herdKey, timing: defaultTiming(), network: h.wire.network,
	}
	for _, seed := range h.nodes[:min(3, n)] {
		c.Join = append(c.Join, seed.gossip.Addr().String())
	}
	nd := launch(h.t, n, c, id)
	if err := nd.gossip.Sync(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	v4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)
	v6 := netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 4: byte(n >> 8), 5: byte(n)}), 64)
	cert, err := membership.Certify(h.authority, id.ID, []netip.Prefix{v4, v6})
	if err != nil {
		h.t.Fatal(err)
	}
	err = nd.store.Publish(membership.Description{
		Name:      fmt.Sprintf("node-%04d.example.net", n),
		Endpoints: []netip.AddrPort{netip.AddrPortFrom(host, 8285), netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(n >> 8), 15: byte(n)}), 8285)},
		Gossip:    nd.gossip.Addr(),
		Modes:     []string{"direct", "udp", "vxlan"}, Capabilities: []string{"rco"},
		VTEPMAC: fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&0xff), VXLANPort: 4789, VNI: 7700, MTU: 1432, LinkMTU: 1500,
		Keys: []string{"0123abcd", "4567ef01"}, Cert: &cert,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := nd.store.Claim(v4, v6); err != nil {
		h.t.Fatal(err)
	}
	nd.run()
	h.nodes = append(h.nodes, nd)
	return nd
}

var herdNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/16")}

// until waits until ok of every node, and returns how long that took.
func (h *herd) until(what string, ok func(*node) bool) time.Duration {
	h.t.Helper()
	since := time.Now()
	left := append([]*node(nil), h.nodes...)
	for round := 0; ; round++ {
		rest := left[:0]
		for _, nd := range left {
			if !ok(nd) {
				rest = append(rest, nd)
			}
		}
		if left = rest; len(left) == 0 {
			return time.Since(since)
		}
		if time.Since(since) > 20*time.Minute {
			h.t.Fatalf("never: %s; %d nodes are left", what, len(left))
		}
		if round%200 == 199 {
			h.say("%d nodes: %s: %s, %d left", len(h.nodes), what, time.Since(since).Round(time.Second), len(left))
		}
		time.Sleep(look)
	}
}

// knowsAll says whether nd holds every record, and has every node alive.
func (h *herd) knowsAll(nd *node) bool {
	return nd.gossip.Stats().Alive == len(h.nodes)-1 && len(nd.store.Envelopes()) == len(h.nodes)
}

// run starts n nodes, one after the other, and measures. quiet is for how long the silence
// is listened to.
func (h *herd) run(n int, quiet time.Duration) figures {
	h.t.Helper()
	var err error
	if h.authority, err = membership.NewIdentity(); err != nil {
		h.t.Fatal(err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(300)) // time for memory: there is a lot of short-lived garbage
	before := heap()
	for range n {
		h.add()
		time.Sleep(10 * time.Millisecond)
		if len(h.nodes)%100 == 0 {
			h.say("%d nodes: %d started", n, len(h.nodes))
		}
	}
	f := figures{Nodes: n}
	own, _ := h.nodes[n-1].store.Own()
	f.Record = len(membership.AppendMessage(nil, own))
	f.Converge = h.until("all know all", h.knowsAll).Seconds()
	h.check()
	f.Drain = h.until("nothing is left to send", func(nd *node) bool { return nd.gossip.queue.NumQueued() == 0 }).Seconds()
	time.Sleep(time.Minute)
	f.PeerMemory = float64(heap()-before) / float64(n*(n-1))

	h.say("%d nodes: listening to the silence", n)
	bytes, packets := h.wire.bytes.Load(), h.wire.packets.Load()
	time.Sleep(quiet)
	f.BytesPerS = float64(h.wire.bytes.Load()-bytes) / float64(n) / quiet.Seconds()
	f.Packets = float64(h.wire.packets.Load()-packets) / float64(n) / quiet.Seconds()

	h.add()
	f.Newcomer = h.until("the newcomer is known", h.knowsAll).Seconds()
	last := h.nodes[n]
	h.nodes = h.nodes[:n]
	last.stop()
	f.Death = h.until("the death is known", func(nd *node) bool { return nd.gossip.Stats().Alive == n-1 }).Seconds()
	h.warnings()
	for _, nd := range h.nodes {
		nd.stop()
	}
	time.Sleep(10 * time.Second) // memberlist's own loops end by themselves
	return f
}

// check fails unless every node routes every block to its owner.
func (h *herd) check() {
	h.t.Helper()
	for _, nd := range h.nodes {
		v := nd.store.View(time.Now())
		if len(v.Conflicts) > 0 || v.Self.State != membership.StateUp {
			h.t.Fatalf("node %d is %s, with %d conflicts", nd.n, v.Self.State, len(v.Conflicts))
		}
		for _, m := range v.Members {
			if m.State != membership.StateUp || len(m.Prefixes) != 2 {
				h.t.Fatalf("node %d sees %s %s (%s) with %v", nd.n, m.Name, m.State, m.Reason, m.Prefixes)
			}
		}
	}
}

// warnings fails where a node was alarmed in a healthy cluster.
func (h *herd) warnings() {
	for _, nd := range h.nodes {
		if s := nd.gossip.Stats(); s.KeyMismatches > 0 || len(s.Rejected) > 0 || s.Conflicts > 0 {
			h.t.Errorf("node %d: %+v", nd.n, s)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what was finalized by the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Thirty nodes, in virtual time: all of it is right, and within what is aimed at.
func TestHerd(t *testing.T) {
	nodes := 30
	if testing.Short() { // under the race detector, which makes it ten times as long
		nodes = 10
	}
	synctest.Test(t, func(t *testing.T) {
		h := &herd{t: t, say: t.Logf}
		f := h.run(nodes, 10*time.Second)
		t.Logf("%+v", f)
	})
}
