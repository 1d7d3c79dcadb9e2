package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/membership"
)

const troubleAllot = "this node's claims to blocks could not be brought up to date"

// beginInterval is how often a node that has heard of no cluster looks whether all
// whom it was told of are here, so that together they are one.
const beginInterval = time.Second

// begin settles this node where its blocks are fixed and there is nobody to ask.
func (d *daemon) begin() {
	if d.allotter == nil && len(d.current().Join) == 0 && len(d.store.View(time.Now()).Members) == 0 {
		d.store.Settle()
	}
}

// gather ends when the node is settled, or ctx is done. Where every node that it was
// told of is here, and none of them has heard of a cluster, they begin one; and so does the
// first with any other.
func (d *daemon) gather(ctx context.Context) error {
	tick := time.NewTicker(beginInterval)
	defer tick.Stop()
	for !d.store.Settled() {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			first := d.config.Bootstrap && d.gossip.Stats().Alive > 0
			if (first || d.gossip.Gathered(ctx)) && !d.store.Settled() {
				d.log.Info("no node here has heard of a cluster: it begins with these")
				d.store.Settle()
			}
		}
	}
	return nil
}

// blocks are where this node's pods have their addresses: as configured, or else those
// that it holds and has not lost.
func (d *daemon) blocks(view *membership.View) []netip.Prefix {
	if d.allotter == nil {
		return d.config.PodCIDRs
	}
	return view.Self.Prefixes
}

// whole says whether this node has all the blocks that it claims.
func (d *daemon) whole(view *membership.View) bool {
	return len(view.Self.Prefixes) > 0 && len(view.Self.Prefixes) == len(view.Self.Claims)
}

// allot brings this node's claims one step on, and says when it is to be called again;
// 0 is when something changes.
func (d *daemon) allot(now time.Time) (again time.Duration) {
	if d.allotter == nil {
		return 0
	}
	var static []netip.Prefix
	for _, p := range d.staticPeers() {
		static = append(static, p.PodCIDRs...)
	}
	next, err := d.allotter.Step(now, membership.Surroundings{
		Ready: d.waiting() == "",
		Avoid: static,
		Used: func(p netip.Prefix) bool {
			pods, err := d.podsIn(p)
			return err != nil || len(pods) > 0
		},
	})
	d.trouble.say(d.log, troubleAllot, err)
	if next.IsZero() {
		return 0
	}
	return max(time.Millisecond, time.Until(next))
}

// waiting says why this node cannot claim a block now, or "".
func (d *daemon) waiting() string {
	alone := d.gossip.Stats().Alive == 0
	switch {
	case d.config.Bootstrap:
		// Not settled by that: a first node that was installed anew, and hears nobody
		// yet, must not outrank those who are there.
		return ""
	case !d.store.Settled() && len(d.current().Join) == 0:
		return "this node was told of no other: set join to the address of a node of the cluster, or `bootstrap: true` if this is its first"
	case !d.store.Settled() && alone:
		return fmt.Sprintf("none of %s answers: is the gossip port open between the nodes, TCP and UDP? Or set `bootstrap: true` if this is the cluster's first node", strings.Join(d.current().JoinAddrs(), ", "))
	case !d.store.Settled():
		return fmt.Sprintf("no node of an established cluster was heard, and not all of %s answer: start them, or set `bootstrap: true` on one node", strings.Join(d.current().JoinAddrs(), ", "))
	case alone:
		return "no other node answers, so that it is not known which blocks are free: is the gossip port open between the nodes, TCP and UDP?"
	}
	return ""
}

// allocation is how this node stands with its blocks.
func (d *daemon) allocation(view *membership.View) control.Allocation {
	a := control.Allocation{Auto: d.allotter != nil, Tentative: view.Self.Pending}
	for _, n := range d.config.PodNetworks {
		if n.Addr().Is4() {
			a.BlockSize4 = d.config.BlockSize4
		} else {
			a.BlockSize6 = d.config.BlockSize6
		}
	}
	for _, p := range view.Self.Lost {
		lost := control.LostBlock{Prefix: p}
		for _, c := range view.Conflicts {
			if c.Loser == d.id && c.Prefix == p {
				lost.Winner = control.Node{ID: c.Winner.String(), Name: c.WinnerName}
			}
		}
		// What cannot be found out is not shown: the daemon's own log says why.
		pods, _ := d.podsIn(p)
		for _, pod := range pods {
			lost.Pods = append(lost.Pods, control.Pod(pod))
		}
		a.Lost = append(a.Lost, lost)
	}
	if a.Auto && len(view.Self.Prefixes) == 0 {
		a.Waiting = d.waiting()
		if trouble := d.trouble.of(troubleAllot); a.Waiting == "" && trouble != "" {
			a.Waiting = trouble
		}
		if a.Waiting == "" && len(view.Self.Pending) > 0 {
			a.Waiting = "claimed " + joined(view.Self.Pending) + ", and waiting for objections"
		}
	}
	return a
}
