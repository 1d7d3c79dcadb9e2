package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/dataplane/path"
	"github.com/weft-net/weft/membership"
	"github.com/weft-net/weft/membership/keyring"
)

// What the daemon lives on with.
const (
	troubleRing = "another node's gossip keys could not be kept, so that this node holds up their rotation"
	troubleKeys = "the gossip keys are not what they should be"
)

const (
	// mendInterval is the least time between two looks at who has not heard of the ring, and
	// leaves a broadcast the time to arrive.
	mendInterval = time.Second

	// mendPerMember makes all nodes together send one that is behind 20 rings a second.
	mendPerMember = 50 * time.Millisecond
)

// errInsecure is the answer to questions about keys where there are none.
var errInsecure = errors.New("gossip has no key here (insecure: true): give every node a gossipKeyFile first")

// keys are what encrypts the gossip and authenticates probes. Without a key in the
// configuration ring is nil, and nothing is done.
type keys struct {
	ring *keyring.Keyring
	// listed are the fingerprints for this node's record: of what gossip and prober read by.
	listed atomic.Pointer[[]string]
}

// first is the key to begin with; nil where there is none.
func (k *keys) first() []byte {
	if k.ring == nil {
		return nil
	}
	return k.ring.Keys()[0]
}

// fingerprints are what this node reads by, the one it sends by first.
func (k *keys) fingerprints() []string {
	if l := k.listed.Load(); l != nil {
		return *l
	}
	return nil
}

// openKeys opens the ring. key is that of the configuration.
func (d *daemon) openKeys(key []byte) error {
	if key == nil {
		return nil
	}
	ring, warnings, err := keyring.Open(d.config.StateDir, d.identity, key)
	if err != nil {
		return fmt.Errorf("stateDir (%s): %w", d.config.Source("stateDir"), err)
	}
	for _, w := range warnings {
		d.log.Warn(w)
	}
	d.warnings = append(d.warnings, warnings...)
	d.keys.ring = ring
	return nil
}

// installKeys has gossip and prober read by every key of the ring, and send by the chosen
// one. Only after that this node's record lists them.
func (d *daemon) installKeys() error {
	if d.keys.ring == nil {
		return nil
	}
	all := d.keys.ring.Keys()
	if err := d.gossip.SetKeys(all); err != nil {
		return err
	}
	d.prober.setKeys(all)
	listed := keyring.Fingerprints(all)
	d.keys.listed.Store(&listed)
	return nil
}

// setKeys makes the first of keys the one that probes are sent by, and all those that they
// are taken by. Any goroutine may call it.
func (p *prober) setKeys(gossipKeys [][]byte) {
	var derived [][32]byte
	for _, key := range gossipKeys {
		derived = append(derived, path.Key(key))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.SetKeys(derived...)
}

// tendKeys takes part in rotations until ctx is done: it takes newer rings, passes them on,
// and sends by the newest key that all others read.
func (d *daemon) tendKeys(ctx context.Context) error {
	ring := d.keys.ring
	if ring == nil {
		return nil
	}
	members, cancel := d.store.Subscribe()
	defer cancel()
	round := newAlarm()
	defer round.Stop()
	mend := time.NewTimer(mendInterval)
	defer mend.Stop()
	for free := time.Now(); ; { // free is when there may be another round
		select {
		case <-ctx.Done():
			return nil
		case message := <-d.gossip.Rings():
			if author := keyring.Author(message); !d.trusts(author) {
				d.log.Debug("a ring of gossip keys was dropped", "reason", "no member made it", "author", author)
			} else if err := ring.Merge(message); errors.Is(err, keyring.ErrBad) {
				d.log.Debug("a ring of gossip keys was dropped", "reason", err)
			} else {
				d.trouble.say(d.log, troubleRing, err)
			}
		case <-ring.Changed():
			r := ring.Ring()
			d.log.Info("gossip keys changed", "keys", keyring.Fingerprints(r.Keys), "removed", r.Removed, "by", r.By.Short(), "version", r.Version)
			d.gossip.SpreadRing(ring.Message())
			round.within(0)
		case <-members:
			round.within(time.Until(free))
		case <-round.C:
			round.at = time.Time{}
			began := time.Now()
			d.trouble.say(d.log, troubleKeys, d.rekey())
			free = time.Now().Add(max(pause, time.Since(began)))
		case <-mend.C:
			view := d.store.View(time.Now())
			d.mendKeys(&view)
			round.within(time.Until(free))
			mend.Reset(mendInterval + rand.N(time.Duration(len(view.Members)+1)*mendPerMember))
		}
	}
}

// trusts says whether a node may change the gossip keys: where there is an authority,
// one that is known, which only certified ones are.
func (d *daemon) trusts(author membership.ID) bool {
	_, known := d.store.Name(author)
	return d.cert == nil || known
}

// rekey brings gossip, prober and record to the ring, and to what the others read.
func (d *daemon) rekey() error {
	view := d.store.View(time.Now())
	_, published := d.store.Own()
	if published { // else there is no other that can be known of: their records come with Sync
		var listed [][]string
		for m := range gossiping(&view) {
			listed = append(listed, m.Keys)
		}
		changed, err := d.keys.ring.Choose(listed)
		if err != nil {
			return err
		}
		if changed {
			d.log.Info("gossip is sent by another key", "key", keyring.Fingerprint(d.keys.ring.Keys()[0]))
		}
	}
	if err := d.installKeys(); err != nil {
		return err
	}
	if d.joined.Load() && !view.Self.Left && !slices.Equal(view.Self.Keys, d.keys.fingerprints()) {
		return d.store.Redescribe(d.description())
	}
	return nil
}

// gossiping yields the other members that gossip and have not left: those that must read what
// this node sends, alive or not.
func gossiping(view *membership.View) func(yield func(*membership.Member) bool) {
	return func(yield func(*membership.Member) bool) {
		for i := range view.Members {
			m := &view.Members[i]
			// A machine that was installed anew does not come back as what it was.
			gone := m.State == membership.StateLeft || m.State == membership.StateReplaced && !m.Alive
			if !gone && m.Gossip.IsValid() && !yield(m) {
				return
			}
		}
	}
}

// mendKeys sends the ring to one, at random, of the live members whose records show that they
// have not heard of it. One that lists no key at all does not know rings.
func (d *daemon) mendKeys(view *membership.View) {
	ring := d.keys.ring.Ring()
	if ring.Version == 0 {
		return
	}
	prints := keyring.Fingerprints(ring.Keys)
	var behind []membership.ID
	for m := range gossiping(view) {
		lacks := slices.ContainsFunc(prints, func(p string) bool { return !slices.Contains(m.Keys, p) })
		reads := slices.ContainsFunc(ring.Removed, func(p string) bool { return slices.Contains(m.Keys, p) })
		if m.Alive && len(m.Keys) > 0 && (lacks || reads) {
			behind = append(behind, m.ID)
		}
	}
	if len(behind) > 0 {
		d.gossip.SendRing(behind[rand.IntN(len(behind))], d.keys.ring.Message())
	}
}
