package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weft-net/weft/membership"
)

// Run announces this node's record whenever it changes, publishes it again when the
// store must (at most once a second, and ever less often while two machines with one
// key outbid each other), and dials who is missing. It returns nil once ctx is done,
// at once and silently: others see this node die only when Close stops it.
func (g *Gossip) Run(ctx context.Context) error {
	changes, cancel := g.store.Subscribe()
	defer cancel()
	refresh := &refresher{g: g}
	due := time.NewTimer(0) // of a Refresh
	defer due.Stop()
	delay := g.timing.redialMin
	redial := time.NewTimer(jitter(delay))
	defer redial.Stop()
	var round <-chan outcome // of the dials under way
	var hurried time.Time    // the last round that a death brought about
	known := 0               // as of the last round
	var second <-chan time.Time
	var pull <-chan time.Time // set while there is news
	pulls := 0                // to come, if there is no more news

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.closed:
			return nil
		case <-changes:
			due.Reset(refresh.wait(time.Now()))
			g.announce()
		case <-due.C:
			if refresh.run(time.Now()) {
				due.Reset(refresh.wait(time.Now()))
			}
			g.announce()
		case <-g.met:
			second = time.After(g.timing.second)
		case <-second:
			second = nil
			g.start(g.exchangeAgain)
		case <-g.learnt:
			if pull == nil {
				pull = time.After(jitter(g.timing.pull))
			}
		case <-pull:
			pull = nil
			if news := g.news.Swap(0); news >= burstNews || pulls > 0 && news > 0 {
				pulls = burstPulls
			}
			if pulls > 0 {
				pulls--
				g.start(g.pull)
				pull = time.After(jitter(g.timing.pull))
			}
		case <-g.died:
			// Where deaths follow one another, as of a node that flaps, the rounds that they
			// bring about keep the longest distance.
			if now := time.Now(); !hurried.After(now) {
				hurried = hurried.Add(jitter(g.timing.redialLongest(known)))
				if soon := now.Add(jitter(g.timing.redialMin)); hurried.Before(soon) {
					hurried = soon
				}
				if delay = g.timing.redialMin; round == nil {
					redial.Reset(hurried.Sub(now))
				}
			}
		case <-redial.C:
			round = g.round(ctx)
		case o := <-round:
			round, known = nil, o.known
			delay = g.next(delay, o)
			redial.Reset(jitter(delay))
		}
	}
}

// announce queues the own record if it is not the one queued last.
func (g *Gossip) announce() {
	own, ok := g.store.Own()
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if own.Signature != g.announced.Signature {
		g.queueOwn(own, nil)
	}
}

// queueOwn is called with mu held, so that no older record displaces a newer.
func (g *Gossip) queueOwn(own membership.Envelope, sent chan struct{}) {
	g.announced = own
	g.queue.QueueBroadcast(&broadcast{id: own.Signer, msg: membership.AppendMessage(nil, own), done: sent})
}

// refresher limits how often the own record is published above another.
type refresher struct {
	g    *Gossip
	last time.Time
	gap  time.Duration
}

const maxRepublish = 64 // times the least gap

// wait returns how long Refresh must wait.
func (r *refresher) wait(now time.Time) time.Duration {
	return max(0, r.last.Add(r.gap).Sub(now))
}

// run calls Refresh, and says whether to call it again.
func (r *refresher) run(now time.Time) (again bool) {
	published, err := r.g.store.Refresh()
	if err != nil {
		r.g.warn("refresh", "this node's record could not be published again", "error", err)
	}
	if !published && err == nil {
		return false
	}
	least := r.g.timing.republish
	if now.Sub(r.last) > 2*r.gap {
		r.gap = least
	} else {
		r.gap = min(2*r.gap, maxRepublish*least)
	}
	r.last = now
	return err != nil
}

// exchangeAgain does a full exchange with some live member. What was broadcast while
// this node joined could miss it: sent after the exchange with its first contact, and
// for the last time before its sender knew this node. The periodic exchange would
// find it up to 30 s later.
func (g *Gossip) exchangeAgain() {
	_, addr := g.someone()
	if !addr.IsValid() {
		return
	}
	if err := g.exchange(addr); err != nil {
		g.log.Debug("the second exchange failed", "error", err)
	}
}

// outcome is what one round of dials came to.
type outcome struct {
	lost   bool // a known member is missing, or nobody is alive
	asked  bool // a join name was dialled or did not resolve
	gained bool // more members are alive than before
	known  int
}

// round dials who is missing. Its outcome arrives unless g is closed.
func (g *Gossip) round(ctx context.Context) <-chan outcome {
	done := make(chan outcome, 1)
	g.start(func() { done <- g.dialMissing(ctx) })
	return done
}

func (g *Gossip) dialMissing(ctx context.Context) outcome {
	before := g.alive.Load()
	names, errs := g.resolve(ctx)
	names = g.without(names)
	members, known := g.missing()
	o := outcome{lost: len(members) > 0 || before == 0, asked: len(names)+len(errs) > 0, known: known}
	if len(members) > dialSample {
		members = members[:dialSample]
	}
	addrs := append(names, g.without(members)...)
	results := g.dial(ctx, addrs)
	for range addrs {
		select {
		case err := <-results:
			g.redials.Add(1)
			if err == nil {
				g.reached.Add(1)
			} else {
				errs = append(errs, err)
			}
		case <-ctx.Done():
			return o
		case <-g.closed:
			return o
		}
	}
	o.gained = g.alive.Load() > before
	g.logUnreached(errs)
	return o
}

func (g *Gossip) logUnreached(errs []error) {
	for _, err := range errs {
		g.log.Debug("a missing member was not reached", "error", err)
	}
	if g.alive.Load() == 0 && len(errs) > 0 {
		g.warn("alone", "no other node is reachable: trying again", "last error", errs[len(errs)-1])
	}
}

// next returns the delay to the round after one that came to o: see the package
// comment.
func (g *Gossip) next(delay time.Duration, o outcome) time.Duration {
	t := g.timing
	switch {
	case o.gained:
		return t.redialMin
	case o.lost:
		return min(2*delay, t.redialLongest(o.known))
	case o.asked: // also a name that leads to a live member by another address
		return min(2*delay, t.idleMax)
	}
	return t.idleMax
}

// redialLongest is between two rounds at the most while one of known members is missing.
func (t *timing) redialLongest(known int) time.Duration {
	return max(t.redialMax, min(time.Duration(known)*t.redialPerMember, 2*t.idleMax))
}

// jitter keeps nodes that lost each other at once from dialling in step.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/2+1)
}

// ErrUnheard is wrapped by Leave when the departure reached nobody: others keep
// this node's claims reserved.
var ErrUnheard = errors.New("no other node heard that this one left")

// Leave announces that this node departs and releases its claims: the record is on
// disk before, and gossiped when it returns, or at the latest after 6 s or when ctx
// is done. Run should be ended next, and Close called.
func (g *Gossip) Leave(ctx context.Context) error {
	g.life.Lock()
	defer g.life.Unlock()
	select {
	case <-g.closed:
		return errors.New("leave: gossip is closed")
	default:
	}
	if err := g.store.Leave(); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if _, known := g.missing(); known == 0 {
		return nil
	}
	if g.alive.Load() == 0 {
		return fmt.Errorf("leave: %w: none is reachable", ErrUnheard)
	}
	if err := g.announceLast(ctx); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if err := g.list.Leave(g.timing.leave); err != nil {
		// The record is out, and tells more than memberlist's own message.
		g.log.Debug("memberlist did not spread the departure", "error", err)
	}
	return nil
}

// announceLast queues the record of the departure, and waits until it was sent.
func (g *Gossip) announceLast(ctx context.Context) error {
	own, ok := g.store.Own()
	if !ok {
		return nil
	}
	sent := make(chan struct{}, 1)
	g.mu.Lock()
	g.queueOwn(own, sent)
	g.mu.Unlock()
	limit := time.NewTimer(g.timing.leave)
	defer limit.Stop()
	select {
	case <-sent:
		return nil
	case <-limit.C:
		return fmt.Errorf("%w: it was not sent within %s", ErrUnheard, g.timing.leave)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnheard, context.Cause(ctx))
	}
}
