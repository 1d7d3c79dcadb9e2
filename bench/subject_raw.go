//go:build linux

package main

import "context"

// rawSubject is the limit: no encapsulation. Each node routes the other's pods by its address
// on the underlay.
func rawSubject() subject {
	return subject{
		name:  "raw",
		about: "no overlay: plain routes between the nodes, the limit",
		join: func(ctx context.Context, n *network) error {
			if err := n.giveNodesIPv6(); err != nil {
				return err
			}
			for _, way := range n.directions() {
				from, to := way[0], way[1]
				for _, cidr := range to.cidrs {
					_, err := from.Run(ctx, "ip", "route", "add", cidr.String(), "via", to.nextHop(cidr).String())
					if err != nil {
						return err
					}
				}
			}
			return n.setPodMTU(n.mtu)
		},
	}
}
