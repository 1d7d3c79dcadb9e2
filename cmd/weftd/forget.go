package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/membership"
)

// Forget declares the node with that ID gone for good, and frees its blocks.
func (d *daemon) Forget(_ context.Context, text string) (control.Forgotten, error) {
	if !d.joined.Load() {
		return control.Forgotten{}, errors.New("weftd is still looking for the other nodes: ask again in a few seconds")
	}
	id, err := membership.ParseID(text)
	if err != nil {
		return control.Forgotten{}, err
	}
	f := control.Forgotten{Node: control.Node{ID: text}, PodCIDRs: []netip.Prefix{}}
	for _, m := range d.store.View(time.Now()).Members {
		if m.ID == id {
			f.Node.Name, f.PodCIDRs = m.Name, claimed(m)
		}
	}
	if err := d.gossip.Forget(id); err != nil {
		if errors.Is(err, membership.ErrAlive) {
			err = fmt.Errorf("%w: run `weft leave` there, or stop it and wait until `weft peers` says down", err)
		}
		return control.Forgotten{}, err
	}
	d.log.Info("forgot a node, as told", "node", f.Node.Name, "id", id, "blocks", f.PodCIDRs)
	return f, nil
}

// forgetLapsed forgets those who have been missed for longer than forgetAfter, where that is
// this node's to do.
func (d *daemon) forgetLapsed(view *membership.View, now time.Time) {
	after := d.current().ForgetAfter
	if after == 0 {
		return
	}
	for _, id := range d.store.Lapsed(now, after) {
		name, blocks := id.Short(), []netip.Prefix(nil)
		for i := range view.Members {
			if m := &view.Members[i]; m.ID == id {
				name, blocks = m.Name, claimed(*m)
			}
		}
		if err := d.gossip.Forget(id); err != nil {
			d.log.Warn("a node that is gone could not be forgotten", "node", name, "reason", err)
			continue
		}
		d.log.Warn("forgot a node that has been missed for too long; its blocks are free", "node", name, "id", id, "blocks", blocks, "missed", after)
	}
}
