//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/bench/topo"
)

const (
	segmentVNI    = 100
	segmentBridge = "br0"

	vmPort = "vm" // of the bridge, to the VM
	vmLink = "eth0"
)

// vxlanBridgeSubject is a VXLAN device of Linux as port of a bridge on each node. It learns where MACs are, and what has no
// place it sends to the other node.
func vxlanBridgeSubject() subject {
	const device = "vxlan0"
	return subject{
		name:  "kernel-vxlan-bridge",
		about: "Linux's VXLAN device in a bridge, which learns; layer 2 between VMs",
		join: func(ctx context.Context, n *network) error {
			if err := n.bridgeVMs(ctx); err != nil {
				return err
			}
			mtu := n.mtu - vxlanOverhead
			for _, way := range n.directions() {
				self, other := way[0], way[1]
				err := self.commands(ctx,
					fmt.Sprintf("ip link add %s mtu %d type vxlan id %d dev eth0 local %s remote %s dstport 4789",
						device, mtu, segmentVNI, self.Addr, other.Addr),
					fmt.Sprintf("ip link set %s master %s up", device, segmentBridge))
				if err != nil {
					return err
				}
			}
			return n.setVMMTU(ctx, mtu)
		},
	}
}

// bridgeVMs gives each node a bridge with a namespace as its VM, which takes the place of the pod. Both VMs have addresses of
// one network, and ask for each other's MAC.
func (n *network) bridgeVMs(ctx context.Context) error {
	for i, s := range []*site{n.client, n.server} {
		vm, err := s.Sandbox("vm")
		if err != nil {
			return err
		}
		err = s.commands(ctx,
			fmt.Sprintf("ip link add %s type bridge", segmentBridge),
			fmt.Sprintf("ip link add %s type veth peer name %s netns %s", vmPort, vmLink, vm.Name()),
			fmt.Sprintf("ip link set %s master %s up", vmPort, segmentBridge),
			fmt.Sprintf("ip link set %s up", segmentBridge),
			fmt.Sprintf("ip -n %s link set %s up", vm.Name(), vmLink))
		if err != nil {
			return err
		}
		pod := &topo.Pod{Namespace: vm, Addr: netip.AddrFrom4([4]byte{10, 245, 0, byte(i + 1)})}
		addresses := []string{fmt.Sprintf("ip -n %s addr add %s/24 dev %s", vm.Name(), pod.Addr, vmLink)}
		if n.ipv6 {
			pod.Addr6 = netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x10, 4: 0x02, 5: 0x45, 15: byte(i + 1)})
			addresses = append(addresses, fmt.Sprintf("ip -n %s addr add %s/64 dev %s nodad", vm.Name(), pod.Addr6, vmLink))
		}
		if err := s.commands(ctx, addresses...); err != nil {
			return err
		}
		s.pod = pod
	}
	return nil
}

// setVMMTU sets the MTU of both ends of the VMs' links. The bridge follows its smallest port.
func (n *network) setVMMTU(ctx context.Context, mtu int) error {
	for _, s := range []*site{n.client, n.server} {
		err := s.commands(ctx,
			fmt.Sprintf("ip link set %s mtu %d", vmPort, mtu),
			fmt.Sprintf("ip -n %s link set %s mtu %d", s.pod.Name(), vmLink, mtu))
		if err != nil {
			return err
		}
	}
	return nil
}

// commands runs them on the node one after the other.
func (s *site) commands(ctx context.Context, commands ...string) error {
	for _, command := range commands {
		if _, err := s.Run(ctx, strings.Fields(command)...); err != nil {
			return err
		}
	}
	return nil
}
