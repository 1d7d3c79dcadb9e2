//go:build linux

package main

import "context"

// rawSubject is the limit: no encapsulation. Each node routes the other's pods by its address
// on the underlay. The pods' MTU is at most mtu.
func rawSubject(name, about string, mtu int) subject {
	return subject{
		name:  name,
		about: about,
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
			return n.setPodMTU(min(n.mtu, mtu))
		},
	}
}
