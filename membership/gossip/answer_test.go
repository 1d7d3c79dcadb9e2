package gossip

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/membership"
)

// stranger returns the record of a node that runs nowhere.
func stranger(t *testing.T, n int) membership.Envelope {
	t.Helper()
	id := newIdentity(t)
	nd := &node{t: t, n: n, id: id, store: memoryStore(id), gossip: &Gossip{addr: netip.MustParseAddrPort("192.0.2.1:7946")}}
	nd.publish(1400)
	own, _ := nd.store.Own()
	return own
}

// put merges records by hand, so that they are not broadcast.
func (nd *node) put(envs ...membership.Envelope) {
	nd.t.Helper()
	for _, e := range envs {
		if _, err := nd.store.Merge(e); err != nil {
			nd.t.Fatal(err)
		}
	}
}

func (nd *node) holds(e membership.Envelope) bool {
	for _, held := range nd.store.Envelopes() {
		if bytes.Equal(held.Payload, e.Payload) {
			return true
		}
	}
	return false
}

// What no broadcast brought comes with a full exchange, both ways, by digests alone.
func TestDigestsMend(t *testing.T) {
	timing := fast()
	timing.exchange, timing.second = 50*time.Millisecond, time.Hour
	a := start(t, 1, Config{timing: timing})
	b := start(t, 2, Config{timing: timing, Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	x, y := stranger(t, 3), stranger(t, 4)
	a.put(x)
	b.put(y)
	eventually(t, "each learns what the other has", func() bool { return b.holds(x) && a.holds(y) })
	if r := len(a.gossip.Stats().Rejected) + len(b.gossip.Stats().Rejected); r != 0 {
		t.Fatalf("%d kinds of messages were refused", r)
	}
}

// A node that joins gets everything, all others a digest.
func TestLocalState(t *testing.T) {
	n := launch(t, 1, Config{}, newIdentity(t))
	x := stranger(t, 2)
	n.put(x)
	d := &delegate{n.gossip}
	if envs, err := membership.ParseMessage(d.LocalState(true)); err != nil || len(envs) != 1 {
		t.Fatalf("a joiner gets %d records, %v", len(envs), err)
	}
	one, two := d.LocalState(false), d.LocalState(false)
	if _, err := membership.ParseDigest(one); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(one, two) {
		t.Fatal("two digests have one salt")
	}
}

// A digest of a node that is not alive, or is nobody, is answered to nobody; one that does
// not parse is counted.
func TestDigestsThatAreNotAnswered(t *testing.T) {
	n := launch(t, 1, Config{}, newIdentity(t))
	n.put(stranger(t, 2))
	other := memoryStore(newIdentity(t))
	d, err := membership.ParseDigest(other.AppendDigest(nil, [8]byte{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.gossip.answer(d); err == nil || !strings.Contains(err.Error(), "not alive") {
		t.Fatalf("answered: %v", err)
	}
	(&delegate{n.gossip}).MergeRemoteState([]byte{2, 1}, false)
	if n.gossip.Stats().Rejected["framing"] != 1 {
		t.Fatalf("stats %+v", n.gossip.Stats())
	}
}

// Whoever asks does not wait, and what waits is bounded.
func TestDigestsInABurst(t *testing.T) {
	n := launch(t, 1, Config{timing: slow()}, newIdentity(t))
	n.put(stranger(t, 2))
	silent := newIdentity(t)
	n.gossip.peers[silent.ID] = netip.MustParseAddrPort(listenFull(t))
	b := memoryStore(silent).AppendDigest(nil, [8]byte{})
	for range 10 * maxUnanswered {
		(&delegate{n.gossip}).MergeRemoteState(b, false)
	}
	eventually(t, "one is being answered, the others wait", func() bool { return len(n.gossip.digests) == maxUnanswered })
	// The test's end closes n, which interrupts the answer: a dial of an hour.
}

// slow is fast with an hour for each stream.
func slow() *timing {
	timing := fast()
	timing.stream = time.Hour
	return timing
}

// An answer goes in messages of bounded size, in order, complete.
func TestMessages(t *testing.T) {
	var envs []membership.Envelope
	for n := range 50 {
		envs = append(envs, membership.Envelope{Payload: bytes.Repeat([]byte{byte(n)}, 1+n*20)})
	}
	for _, size := range []int{1, 300, 2000, 1 << 20} {
		var got []membership.Envelope
		for _, msg := range messages(envs, size) {
			part, err := membership.ParseMessage(msg)
			if err != nil {
				t.Fatal(err)
			}
			if len(msg) > size && len(part) > 1 {
				t.Fatalf("a message of %d bytes with %d records; want at most %d bytes", len(msg), len(part), size)
			}
			got = append(got, part...)
		}
		if len(got) != len(envs) {
			t.Fatalf("%d records in messages of %d bytes; want %d", len(got), size, len(envs))
		}
		for i := range got {
			if !bytes.Equal(got[i].Payload, envs[i].Payload) {
				t.Fatalf("record %d is another", i)
			}
		}
	}
	if got := messages(nil, 100); len(got) != 0 {
		t.Fatalf("%d messages of nothing", len(got))
	}
	if n := len(messages(envs, 1<<20)); n != 1 {
		t.Fatalf("%d messages where one is enough", n)
	}
}

// A far side that takes nothing does not hold a sender for longer than a stream is given.
func TestSendsEnd(t *testing.T) {
	tr, err := listenAt(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tr.Shutdown() }()
	c, err := tr.DialTimeout(listenSilent(t), 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(20*time.Second, func() { _ = c.Close() })
	defer giveUp.Stop()
	for range 1000 { // more than any socket buffers
		if _, err = c.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write: %v", err)
	}
}

// Two words of one node about others are two pieces of news.
func TestRelayOfForgotten(t *testing.T) {
	n := launch(t, 1, Config{}, newIdentity(t))
	other := memoryStore(newIdentity(t))
	var gone []membership.Envelope
	for i := range 2 {
		e := stranger(t, i)
		if _, err := other.Merge(e); err != nil {
			t.Fatal(err)
		}
		word, err := other.Forget(e.Signer)
		if err != nil {
			t.Fatal(err)
		}
		gone = append(gone, word)
	}
	n.gossip.receive(membership.AppendMessage(nil, gone...))
	if queued := n.gossip.queue.NumQueued(); queued != len(gone) {
		t.Fatalf("%d relayed; want %d", queued, len(gone))
	}
}

// A restart is nothing to be frightened of: nobody warns.
func TestRestartIsQuiet(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	c := start(t, 3, Config{Join: joining(a)})
	eventually(t, "all route all", func() bool { return allRoute(a, b, c) })
	for range 3 {
		store, addr := c.store, c.gossip.Addr()
		c.stop()
		eventually(t, "c is gone", func() bool { m, _ := a.sees(c); return !m.Alive })
		c = startAs(t, 3, Config{Store: store, Addr: addr, Join: joining(a)}, c.id)
		eventually(t, "c is back", func() bool { return allRoute(a, b, c) })
	}
	for _, n := range []*node{a, b, c} {
		for line := range strings.Lines(n.log.String()) {
			if strings.Contains(line, "level=WARN") {
				t.Errorf("node %d: %s", n.n, line)
			}
		}
	}
}
