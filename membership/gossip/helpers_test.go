package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/weft-net/weft/membership"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testGrace = 200 * time.Millisecond

// fast is defaultTiming, some ten times as quick, and without the periodic exchange:
// what a test waits for must not come by it.
func fast() *timing {
	return &timing{
		probe:        100 * time.Millisecond,
		probeTimeout: 40 * time.Millisecond,
		gossip:       20 * time.Millisecond,
		forget:       100 * time.Millisecond,
		exchange:     time.Hour,
		resolve:      200 * time.Millisecond,
		stream:       2 * time.Second,
		redialMin:    50 * time.Millisecond,
		redialMax:    200 * time.Millisecond,
		idleMax:      300 * time.Millisecond,
		leave:        3 * time.Second,
		republish:    20 * time.Millisecond,
		second:       100 * time.Millisecond,
		pull:         50 * time.Millisecond,
		move:         50 * time.Millisecond,
	}
}

var podNetworks = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}

// node is one running node on loopback, with a made-up data endpoint.
type node struct {
	t      *testing.T
	n      int
	id     membership.Identity
	store  *membership.Store
	gossip *Gossip
	log    *lockedBuffer
	run    func()
	stop   func() // ends Run and closes, silently
}

func newIdentity(t *testing.T) membership.Identity {
	t.Helper()
	id, err := membership.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func memoryStore(id membership.Identity) *membership.Store {
	return membership.NewStore(id, membership.Terms{Networks: podNetworks}, testGrace, func(membership.Snapshot) error { return nil })
}

var testKey = []byte("0123456789abcdef")

// launch returns node n without publishing or running it. Config's zero fields are
// filled in.
func launch(t *testing.T, n int, c Config, id membership.Identity) *node {
	t.Helper()
	nd := &node{t: t, n: n, id: id, log: &lockedBuffer{}}
	if c.Store == nil {
		c.Store = memoryStore(id)
	}
	if !c.Addr.IsValid() {
		c.Addr = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if c.Key == nil {
		c.Key = testKey
	}
	if c.timing == nil {
		c.timing = fast()
	}
	c.Logger = slog.New(slog.NewTextHandler(nd.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	nd.store, nd.gossip = c.Store, g
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	nd.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(nd.stop)
	nd.run = func() { wg.Go(func() { _ = g.Run(ctx) }) }
	return nd
}

// start is what a daemon does: Sync, Publish, Claim, Run. A failed Sync is for Run
// to mend.
func start(t *testing.T, n int, c Config) *node {
	t.Helper()
	return startAs(t, n, c, newIdentity(t))
}

func startAs(t *testing.T, n int, c Config, id membership.Identity) *node {
	t.Helper()
	nd := launch(t, n, c, id)
	if err := nd.gossip.Sync(t.Context()); err != nil {
		t.Logf("node %d: %v", n, err)
	}
	nd.publish(1400)
	nd.run()
	return nd
}

func (nd *node) publish(mtu int) {
	nd.t.Helper()
	err := nd.store.Publish(membership.Description{
		Name:      fmt.Sprintf("n%d", nd.n),
		Endpoints: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(nd.n)}), 8285)},
		Gossip:    nd.gossip.Addr(),
		Modes:     []string{"udp"},
		MTU:       mtu,
	})
	if err != nil {
		nd.t.Fatal(err)
	}
	if err := nd.store.Claim(nd.prefix()); err != nil {
		nd.t.Fatal(err)
	}
}

func (nd *node) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(nd.n), 0}), 24)
}

// sees returns other in nd's view.
func (nd *node) sees(other *node) (membership.Member, bool) {
	for _, m := range nd.store.View(time.Now()).Members {
		if m.ID == other.id.ID {
			return m, true
		}
	}
	return membership.Member{}, false
}

func (nd *node) state(other *node) membership.State {
	m, _ := nd.sees(other)
	return m.State
}

// routes says whether nd routes other's block, and to it alone.
func (nd *node) routes(other *node) bool {
	m, _ := nd.sees(other)
	return m.State == membership.StateUp && len(m.Prefixes) == 1 && m.Prefixes[0] == other.prefix()
}

// reaches says whether nd's memberlist has other alive, at its present address.
func (nd *node) reaches(other *node) bool {
	nd.gossip.mu.Lock()
	defer nd.gossip.mu.Unlock()
	return nd.gossip.peers[other.id.ID] == other.gossip.Addr()
}

// remembers returns how many nodes memberlist itself still holds.
func (nd *node) remembers() int {
	field := reflect.ValueOf(nd.gossip.list).Elem().FieldByName("numNodes")
	return int((*atomic.Uint32)(unsafe.Pointer(field.UnsafeAddr())).Load())
}

func allRoute(nodes ...*node) bool {
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b && !a.routes(b) {
				return false
			}
		}
	}
	return true
}

// eventually polls until ok, and fails the test after a time that no healthy run
// comes near.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func joining(n ...*node) []string {
	var list []string
	for _, nd := range n {
		list = append(list, nd.gossip.Addr().String())
	}
	return list
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
