package gossip

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/membership"
)

func TestThreeNodesConverge(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	c := start(t, 3, Config{Join: joining(a)})
	eventually(t, "all route all", func() bool { return allRoute(a, b, c) })

	// A change spreads as a broadcast: there is no periodic exchange here.
	c.publish(1300)
	for _, n := range []*node{a, b} {
		eventually(t, "the new MTU arrives", func() bool { m, _ := n.sees(c); return m.MTU == 1300 })
	}
	if s := a.gossip.Stats(); s.Alive != 2 || s.KeyMismatches != 0 || len(s.Rejected) != 0 {
		t.Fatalf("stats %+v", s)
	}
}

// Sync alone brings what the other side knows.
func TestSyncLearnsAll(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	eventually(t, "the first two meet", func() bool { return allRoute(a, b) })
	c := launch(t, 3, Config{Join: joining(b)}, newIdentity(t))
	if err := c.gossip.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !c.routes(a) || !c.routes(b) {
		t.Fatalf("after Sync: %+v", c.store.View(time.Now()).Members)
	}
}

func TestSyncTargets(t *testing.T) {
	self := "127.0.0.1:" // of this node, filled in below
	for name, c := range map[string]struct {
		join []string
		want error
		text string
	}{
		"nobody to ask":   {nil, nil, ""},
		"only itself":     {[]string{self}, nil, ""},
		"no such name":    {[]string{"no-such-host.invalid"}, ErrNoAnswer, "no-such-host.invalid"},
		"nobody there":    {[]string{self, "127.0.0.1:1"}, ErrNoAnswer, "127.0.0.1:1"},
		"several failing": {[]string{"127.0.0.1:1", "127.0.0.1:2"}, ErrNoAnswer, "127.0.0.1:2"},
	} {
		t.Run(name, func(t *testing.T) {
			n := launch(t, 1, Config{}, newIdentity(t))
			for i, j := range c.join {
				if j == self {
					c.join[i] = n.gossip.Addr().String()
				}
			}
			if err := n.gossip.SetJoin(c.join); err != nil {
				t.Fatal(err)
			}
			err := n.gossip.Sync(t.Context())
			if !errors.Is(err, c.want) || err != nil && (!strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n")) {
				t.Fatalf("Sync: %v; want %v naming %q on one line", err, c.want, c.text)
			}
			if n.gossip.Stats().Alive != 0 {
				t.Fatal("this node counts itself")
			}
		})
	}
}

func TestSyncAlone(t *testing.T) {
	first := start(t, 1, Config{}) // nobody to ask: its claim is final
	own, _ := first.store.Own()
	second := start(t, 2, Config{Join: joining(first)})
	eventually(t, "they meet", func() bool { return allRoute(first, second) })
	if now, _ := first.store.Own(); now.Signature != own.Signature {
		t.Fatal("the first node's claim was provisional")
	}
}

func TestRestart(t *testing.T) {
	timing := fast()
	timing.forget = time.Hour // else the old address is forgotten before it is in the way
	a := start(t, 1, Config{timing: timing})
	b := start(t, 2, Config{timing: timing, Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	for _, c := range []Config{
		{timing: timing, Store: b.store, Addr: b.gossip.Addr()},
		{timing: timing, Store: b.store}, // a new port, taken before the old one is seen dead
	} {
		b.stop()
		c.Join = joining(a)
		b = startAs(t, 2, c, b.id)
		eventually(t, "the restarted node is reached at its address", func() bool {
			return allRoute(a, b) && a.reaches(b)
		})
	}
}

// An island that memberlist has long forgotten is found again, though no join name
// leads to anybody.
func TestPartitionHeals(t *testing.T) {
	net := &cable{}
	seed := start(t, 9, Config{network: net.network})
	join := Config{network: net.network, Join: joining(seed)}
	a, b, c, d := start(t, 1, join), start(t, 2, join), start(t, 3, join), start(t, 4, join)
	eventually(t, "all route all", func() bool { return allRoute(seed, a, b, c, d) })
	if err := seed.gossip.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	seed.stop()

	net.cut(c, d)
	for _, pair := range [][2]*node{{a, c}, {b, d}, {c, a}, {d, b}} {
		eventually(t, "the far side is down", func() bool { return pair[0].state(pair[1]) == membership.StateDown })
	}
	for _, n := range []*node{a, b, c, d} {
		eventually(t, "memberlist forgets the far side", func() bool { return n.remembers() == 2 })
	}
	if !allRoute(a, b) || !allRoute(c, d) {
		t.Fatal("the cut took more than it should")
	}
	// News from either side, which must cross when it heals.
	b.publish(1300)
	d.publish(1301)
	redials := a.gossip.Stats().Redials
	eventually(t, "it keeps dialling", func() bool { return a.gossip.Stats().Redials > redials+4 })

	net.cut()
	eventually(t, "all route all again", func() bool { return allRoute(a, b, c, d) })
	for _, pair := range [][2]*node{{c, b}, {d, b}, {a, d}, {b, d}} {
		eventually(t, "the news crosses", func() bool {
			m, _ := pair[0].sees(pair[1])
			return m.MTU != 1400
		})
	}
}

// A death ends the idle time: the member is dialled at once.
func TestDeathIsFollowedByDials(t *testing.T) {
	timing := fast()
	timing.idleMax = time.Hour
	a := start(t, 1, Config{timing: timing})
	b := start(t, 2, Config{Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	b.stop()
	eventually(t, "a dials b", func() bool { return a.gossip.Stats().Redials > 1 })
}

// What was sent past a joiner reaches it by a second exchange.
func TestSecondExchange(t *testing.T) {
	a := start(t, 1, Config{})
	b := launch(t, 2, Config{Join: joining(a)}, newIdentity(t))
	if err := b.gossip.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &node{t: t, n: 3, id: newIdentity(t), gossip: a.gossip}
	c.store = memoryStore(c.id)
	c.publish(1400)
	own, _ := c.store.Own()
	if _, err := a.store.Merge(own); err != nil { // merged by hand, it is not broadcast
		t.Fatal(err)
	}
	b.run()
	eventually(t, "b knows c", func() bool { _, ok := b.sees(c); return ok })
}

func TestLeave(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	c := start(t, 3, Config{Join: joining(a)})
	eventually(t, "all route all", func() bool { return allRoute(a, b, c) })
	if err := b.gossip.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{a, c} {
		eventually(t, "b has left", func() bool { return n.state(b) == membership.StateLeft })
	}
	b.stop()
	eventually(t, "b is gone", func() bool { m, _ := a.sees(b); return !m.Alive })
	if addrs, known := a.gossip.missing(); len(addrs) != 0 || known != 1 {
		t.Fatalf("a misses %v of %d: what left is not dialled", addrs, known)
	}
	d := start(t, 4, Config{Join: joining(a)})
	if err := d.store.Claim(d.prefix(), b.prefix()); err != nil {
		t.Fatalf("what b released: %v", err)
	}
	if err := b.gossip.Leave(t.Context()); err == nil {
		t.Fatal("left after Close")
	}
}

func TestLeaveUnheard(t *testing.T) {
	alone := start(t, 1, Config{})
	if err := alone.gossip.Leave(t.Context()); err != nil {
		t.Fatalf("the only node: %v", err)
	}
	a := start(t, 2, Config{})
	b := start(t, 3, Config{Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	b.stop()
	eventually(t, "b is down", func() bool { return a.state(b) == membership.StateDown })
	if err := a.gossip.Leave(t.Context()); !errors.Is(err, ErrUnheard) {
		t.Fatalf("with nobody to hear it: %v", err)
	}
	if own := a.store.View(time.Now()).Self; own.State != membership.StateLeft {
		t.Fatalf("self %s", own.State)
	}
}

func TestSilentStopIsADeath(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	b.stop()
	var seen []membership.State
	eventually(t, "b is down", func() bool {
		if s := a.state(b); len(seen) == 0 || seen[len(seen)-1] != s {
			seen = append(seen, s)
		}
		return seen[len(seen)-1] == membership.StateDown
	})
	if want := []membership.State{membership.StateUp, membership.StateGrace, membership.StateDown}; !slices.Equal(seen, want) {
		t.Fatalf("states %v; want %v", seen, want)
	}
	if m, _ := a.sees(b); len(m.Claims) != 1 {
		t.Fatal("its reservation is gone")
	}
}

// Two machines with one state directory: said, counted, and no storm of records.
func TestClone(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	clone := startAs(t, 2, Config{Join: joining(a)}, b.id)
	eventually(t, "somebody says it", func() bool {
		return a.gossip.Stats().Conflicts > 0 && strings.Contains(a.log.String(), "cloned")
	})
	clone.stop()
}

func TestCloseInterruptsDials(t *testing.T) {
	silent := listenSilent(t)
	timing := fast()
	timing.stream = time.Hour
	n := launch(t, 1, Config{Join: []string{silent}, timing: timing}, newIdentity(t))
	failed := make(chan error, 1)
	go func() { failed <- n.gossip.Sync(context.Background()) }()
	eventually(t, "the dial is under way", func() bool { return strings.Contains(n.log.String(), "Initiating push/pull") })
	n.stop()
	if err := <-failed; err == nil {
		t.Fatal("Sync succeeded")
	}
}

// A machine that joins through an address it does not know to be its own.
func TestAnswerOfOneself(t *testing.T) {
	n := launch(t, 1, Config{}, newIdentity(t))
	if err := n.gossip.SetJoin([]string{forward(t, n.gossip.Addr().String())}); err != nil {
		t.Fatal(err)
	}
	if err := n.gossip.Sync(t.Context()); !errors.Is(err, errSelf) || !errors.Is(err, ErrNoAnswer) {
		t.Fatalf("Sync: %v", err)
	}
}

func TestSyncIsBounded(t *testing.T) {
	n := launch(t, 1, Config{Join: []string{listenSilent(t)}}, newIdentity(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.gossip.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNoAnswer) {
		t.Fatalf("Sync: %v", err)
	}
}

func TestBadRecordsAreCounted(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	forged, _ := b.store.Own()
	forged.Payload = []byte(strings.Replace(string(forged.Payload), "10.244.2", "10.244.9", 1))
	for _, msg := range [][]byte{{42}, membership.AppendMessage(nil, forged)} {
		for _, m := range b.gossip.list.Members() {
			if m.Name == a.id.ID.String() {
				if err := b.gossip.list.SendReliable(m, msg); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	eventually(t, "both are counted", func() bool {
		r := a.gossip.Stats().Rejected
		return r["framing"] == 1 && r["signature"] == 1
	})
	if !allRoute(a, b) {
		t.Fatal("a forged record changed the view")
	}
}

// What was news is relayed byte for byte; what was not, or was refused, is not; nor
// is much at once.
func TestRelay(t *testing.T) {
	n := launch(t, 1, Config{}, newIdentity(t))
	other := &node{t: t, n: 2, store: memoryStore(newIdentity(t)), gossip: n.gossip}
	other.publish(1400)
	own, _ := other.store.Own()
	msg := membership.AppendMessage(nil, own)
	forged := own
	forged.Signature[0] ^= 1
	forged.Payload = append([]byte(" "), own.Payload...)

	n.gossip.receive(membership.AppendMessage(nil, forged))
	if n.gossip.queue.NumQueued() != 0 {
		t.Fatal("a forged record is relayed")
	}
	n.gossip.receive(msg)
	n.gossip.receive(msg)
	if got := n.gossip.queue.GetBroadcasts(3, 1366); len(got) != 1 || !bytes.Equal(got[0], msg) {
		t.Fatalf("relayed %q; want %q", got, msg)
	}
	sent := 0
	for len(n.gossip.queue.GetBroadcasts(3, 1366)) > 0 {
		sent++
	}
	if sent < 3 {
		t.Fatalf("repeated %d times", sent)
	}
	n.gossip.receive(msg)
	if n.gossip.queue.NumQueued() != 0 {
		t.Fatal("old news is relayed")
	}

	all := []membership.Envelope{own}
	for i := range relayMost + 1 {
		all = append(all, stranger(t, i))
	}
	(&delegate{n.gossip}).MergeRemoteState(membership.AppendMessage(nil, all...), true)
	if len(n.store.Envelopes()) != relayMost+2 || n.gossip.queue.NumQueued() != 0 {
		t.Fatalf("%d records, %d relayed", len(n.store.Envelopes()), n.gossip.queue.NumQueued())
	}
	for range 2 { // a little news among much that is known
		all = append(all, stranger(t, len(all)))
	}
	(&delegate{n.gossip}).MergeRemoteState(membership.AppendMessage(nil, all...), true)
	if n.gossip.queue.NumQueued() != 2 {
		t.Fatal("news of a later exchange is not relayed")
	}
}

// The largest valid record fits one packet beside memberlist's framing.
func TestLargestRecordIsBroadcast(t *testing.T) {
	n := launch(t, 1, Config{}, newIdentity(t))
	msg := membership.AppendMessage(nil, membership.Envelope{Payload: make([]byte, membership.MaxEnvelope-96)})
	n.gossip.queue.QueueBroadcast(&broadcast{msg: msg})
	conf := n.gossip.memberlistConfig(Config{Key: testKey}, nil)
	// As in memberlist's gossip(): the packet less compound header (2) and encryption
	// (29); compound (2) and user message (1) overhead for each message.
	if got := n.gossip.queue.GetBroadcasts(3, conf.UDPBufferSize-2-29); len(got) != 1 {
		t.Fatalf("a message of %d bytes does not fit", len(msg))
	}
}

// A resolver that never answers hides none of the seeds that are given as addresses.
func TestSilentResolver(t *testing.T) {
	a := start(t, 1, Config{})
	silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	join := append([]string{"one.invalid", "two.invalid"}, joining(a)...)
	b := launch(t, 2, Config{Join: join, resolver: silent}, newIdentity(t))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // ten times what names are given
	defer cancel()
	if err := b.gossip.Sync(ctx); err != nil {
		t.Errorf("the seed that is there was not reached: %v", err)
	}
}

// A node that moves is at two addresses until it is found dead at the first; a copy of it is for
// good.
func TestDisputes(t *testing.T) {
	g := &Gossip{timing: defaultTiming(), disputes: make(map[string]dispute)}
	began := time.Now()
	for after := range 100 {
		if got, want := g.disputed("a", began.Add(time.Duration(after)*time.Second)), after >= 20; got != want {
			t.Fatalf("after %d s: %v, want %v", after, got, want)
		}
	}
	if g.disputed("a", began.Add(time.Hour)) {
		t.Error("another move is a dispute at once")
	}
	for i := range 3 * maxDisputes {
		g.disputed(strconv.Itoa(i), began)
	}
	if len(g.disputes) > maxDisputes {
		t.Errorf("%d remembered", len(g.disputes))
	}
}
