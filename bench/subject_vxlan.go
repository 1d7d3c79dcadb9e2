//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
)

// vxlanOverhead is the outer IPv4 header, UDP, VXLAN and the inner Ethernet header.
const vxlanOverhead = 20 + 8 + 8 + 14

// vxlanSubject is Linux's own VXLAN, set up as flannel does: nothing is learned or asked
// for, each node has the other's VTEP as neighbour and FDB entry, and routes its pods there.
func vxlanSubject() subject {
	return subject{
		name:  "kernel-vxlan",
		about: "Linux's VXLAN device, static FDB and neighbours, no learning",
		join: func(ctx context.Context, n *network) error {
			for _, way := range n.directions() {
				if err := joinVXLAN(ctx, n, way[0], way[1]); err != nil {
					return err
				}
			}
			return n.setPodMTU(n.mtu - vxlanOverhead)
		},
	}
}

func joinVXLAN(ctx context.Context, n *network, from, to *site) error {
	const device = "vxlan0"
	commands := []string{
		fmt.Sprintf("ip link add %s address %s mtu %d type vxlan id 1 dev eth0 local %s dstport 4789 nolearning",
			device, vtepMAC(from), n.mtu-vxlanOverhead, from.Addr),
		fmt.Sprintf("ip link set %s up", device),
		fmt.Sprintf("bridge fdb append %s dev %s dst %s", vtepMAC(to), device, to.Addr),
	}
	for i, cidr := range to.cidrs {
		vtep := cidr.Addr()
		commands = append(commands,
			fmt.Sprintf("ip addr add %s dev %s", from.cidrs[i].Addr(), device),
			fmt.Sprintf("ip neigh add %s lladdr %s dev %s nud permanent", vtep, vtepMAC(to), device),
			fmt.Sprintf("ip route add %s via %s dev %s onlink", cidr, vtep, device))
	}
	for _, command := range commands {
		if _, err := from.Run(ctx, strings.Fields(command)...); err != nil {
			return err
		}
	}
	return nil
}

// vtepMAC is a locally administered address with the node's underlay address in it.
func vtepMAC(s *site) string {
	a := s.Addr.As4()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3])
}
