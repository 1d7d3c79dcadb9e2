package gossip

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/membership"
)

var otherKeys = [][]byte{[]byte("the second key, of 32 bytes long"), []byte("the third key 16")}

// Nodes change their keys while they gossip, each at its own time, and never lose each other.
func TestKeysChange(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	mtu := 1400
	for _, step := range []struct {
		n    *node
		keys [][]byte
	}{
		{a, [][]byte{testKey, otherKeys[0]}},
		{b, [][]byte{otherKeys[0], testKey}},
		{a, [][]byte{otherKeys[0], testKey}},
		{b, [][]byte{otherKeys[0], otherKeys[1], testKey}},
		{a, [][]byte{otherKeys[0], otherKeys[1]}},
		{b, [][]byte{otherKeys[0], otherKeys[1]}}, // from the middle of the ring
		{a, [][]byte{otherKeys[1], otherKeys[0]}},
		{b, [][]byte{otherKeys[1]}},
	} {
		if err := step.n.gossip.SetKeys(step.keys); err != nil {
			t.Fatal(err)
		}
		if got := step.n.gossip.keyring.GetKeys(); len(got) != len(step.keys) || !bytes.Equal(got[0], step.keys[0]) {
			t.Fatalf("%q were set, of %q", got, step.keys)
		}
		mtu++
		for _, pair := range [][2]*node{{a, b}, {b, a}} {
			pair[0].publish(mtu)
			eventually(t, fmt.Sprintf("news with the keys %q", step.keys), func() bool {
				m, _ := pair[1].sees(pair[0])
				return m.MTU == mtu
			})
		}
	}
	for _, n := range []*node{a, b} {
		if s := n.gossip.Stats(); s.KeyMismatches != 0 || s.Alive != 1 {
			t.Errorf("%+v", s)
		}
	}
	if err := a.gossip.SetKeys([][]byte{[]byte("short")}); err == nil {
		t.Error("a short key is taken")
	}
	if err := a.gossip.SetKeys(nil); err == nil {
		t.Error("gossip goes on without a key")
	}
	if err := start(t, 3, Config{Key: []byte{}}).gossip.SetKeys(otherKeys); err == nil {
		t.Error("gossip without a key is given one")
	}
}

// Keys come and go while messages are decrypted: none is lost.
func TestKeysChangeUnderTraffic(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for n, ends := range map[*node][2][]byte{a: {testKey, otherKeys[1]}, b: {otherKeys[1], testKey}} {
		with, without := [][]byte{ends[0], otherKeys[0], ends[1]}, ends[:]
		if err := n.gossip.SetKeys(with); err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				keys := with
				if i%2 == 0 {
					keys = without
				}
				if err := n.gossip.SetKeys(keys); err != nil {
					t.Error(err)
				}
				<-tick.C
			}
		})
	}
	for mtu := 1401; mtu < 1411; mtu++ {
		a.publish(mtu)
		b.publish(mtu)
		eventually(t, "news arrive", func() bool {
			ofA, _ := b.sees(a)
			ofB, _ := a.sees(b)
			return ofA.MTU == mtu && ofB.MTU == mtu
		})
	}
}

// A ring is broadcast, and sent to one alone; what is queued is the latest.
func TestRings(t *testing.T) {
	a := start(t, 1, Config{})
	b := start(t, 2, Config{Join: joining(a)})
	eventually(t, "they meet", func() bool { return allRoute(a, b) })
	arrives := func(want string) {
		t.Helper()
		eventually(t, want, func() bool {
			select {
			case got := <-b.gossip.Rings():
				return string(got) == want
			default:
				return false
			}
		})
	}
	a.gossip.SpreadRing([]byte("a broadcast"))
	arrives("a broadcast")
	large := bytes.Repeat([]byte("x"), membership.MaxEnvelope)
	a.gossip.SpreadRing(large)
	arrives(string(large))
	a.gossip.SendRing(b.id.ID, []byte("alone"))
	arrives("alone")
	a.gossip.SendRing(newIdentity(t).ID, []byte("nobody"))
	if len(a.gossip.Stats().Rejected)+len(b.gossip.Stats().Rejected) > 0 {
		t.Error("it was taken for a record")
	}
	// Whoever does not take them loses them, and nothing else.
	for range 2 * maxRings {
		b.gossip.takeRing([]byte{messageRing, 1})
	}
	a.publish(1350)
	eventually(t, "records still come", func() bool { m, _ := b.sees(a); return m.MTU == 1350 })
	if (&ringBroadcast{}).Invalidates(&broadcast{}) || !(&ringBroadcast{}).Invalidates(&ringBroadcast{}) || b.gossip.takeRing(nil) {
		t.Error("a ring is not what it was")
	}
}
