package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// Bench measures what is carried to and from the node of that ID: round trips first, then each direction by one
// stream of TCP and by four. The other end is the weftd there.
func (d *daemon) Bench(ctx context.Context, id string, show func(control.BenchStep) error) error {
	peer, err := d.Peers().Find(id)
	if err != nil {
		return err
	}
	c := d.chosen()[peer.ID]
	switch {
	case peer.Static:
		return fmt.Errorf("%s does not run weft (it is a static peer), and takes no measurements: run iperf3 in one of its pods", peer.Name)
	case c == nil:
		return fmt.Errorf("nothing is sent to %s: it is %s %s", peer.Name, peer.State, peer.Reason)
	case c.mode == "":
		return fmt.Errorf("there is no way to %s: %s", peer.Name, c.why)
	}
	view := d.store.View(time.Now())
	from, to, ok := ends(tunAddresses(d.blocks(&view)), tunAddresses(c.prefixes))
	if !ok {
		return fmt.Errorf("this node and %s have no blocks of one family: the pods of the two cannot talk", peer.Name)
	}
	// The port is the data port's number, as with probes without encapsulation: one to open in a firewall.
	return d.bench.measure(ctx, peer.Name, from, netip.AddrPortFrom(to, c.endpoints[0].Port()), show)
}

// takesMeasurements says whether another node has a on its TUN.
func (d *daemon) takesMeasurements(a netip.Addr) bool {
	choices := d.choices.Load()
	return choices != nil && slices.ContainsFunc(*choices, func(c choice) bool {
		return !c.static && slices.Contains(tunAddresses(c.prefixes), a)
	})
}

// ends are an address of each list, of one family.
func ends(own, theirs []netip.Addr) (from, to netip.Addr, ok bool) {
	for _, from = range own {
		for _, to = range theirs {
			if from.Is4() == to.Is4() {
				return from, to, true
			}
		}
	}
	return from, to, false
}
