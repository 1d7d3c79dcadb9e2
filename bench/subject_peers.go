//go:build linux

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/weft-net/weft/encap"
)

// outerHeaders are IPv4 and UDP.
const outerHeaders = 20 + 8

// peersScenario shows whether one stream is slower where there are many routes. Its subjects
// are its own: nodes that have so many peers, all but one of which do not exist.
func peersScenario(l lengths) scenario {
	s := tcpScenario("scale-peers", "TCP, one stream, between nodes that have many peers", l, 1)
	s.subjects = []subject{peersSubject(2), peersSubject(10_000)}
	return s
}

func peersSubject(peers int) subject {
	return subject{
		name:  fmt.Sprintf("weft-%d-peers", peers),
		about: fmt.Sprintf("weft's dataplane alone, told of %d peers", peers),
		join: func(_ context.Context, n *network) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			mtu := n.mtu - outerHeaders - encap.UDP.Overhead()
			for _, way := range n.directions() {
				from, to := way[0], way[1]
				c := nodeConfig{
					addr: from.Addr, peerAddr: to.Addr, cidr: from.cidrs[0], peerCIDR: to.cidrs[0],
					peers: peers, mtu: mtu,
				}
				if from.daemon, err = from.Start(append([]string{self}, c.args()...)...); err != nil {
					return err
				}
			}
			return n.setPodMTU(mtu)
		},
	}
}
