//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-net/weft/bench/meter"
	"github.com/weft-net/weft/bench/topo"
)

const (
	topologyPrefix = "bench"

	// joinPatience bounds the wait for a subject to carry the first packet.
	joinPatience = 15 * time.Second
)

// podNetworks are of IPv4, and of IPv6 (RFC 4193). Immutable.
var podNetworks = [2]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}

// A network is what every subject joins, and every measurement has its own: two nodes on one
// underlay bridge, with one pod each. The traffic goes from client to server.
type network struct {
	topology       *topo.Topology
	bin            string // folder with the release binaries
	mtu            int    // of the underlay
	ipv6           bool   // the pods have IPv6 too, and the traffic is of that
	client, server *site
	plugin         plugin         // of the server's node, in scenarios that attach pods
	leave          []func() error // what a subject leaves outside the topology, by close
}

// A site is a node with its pod.
type site struct {
	*topo.Node
	pod    *topo.Pod
	cidrs  []netip.Prefix // of IPv4, and of IPv6 where the pods have it
	daemon *topo.Process  // nil where the subject has none
}

// newNetwork makes a network in which the nodes reach each other by IPv4 and forward, and the pods
// their node. The caller must close it.
func newNetwork(bin string, mtu int, ipv6 bool) (_ *network, err error) {
	topology, err := topo.New(topologyPrefix)
	if err != nil {
		return nil, err
	}
	n := &network{topology: topology, bin: bin, mtu: mtu, ipv6: ipv6}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.client, err = n.addSite(1); err != nil {
		return nil, err
	}
	if n.server, err = n.addSite(2); err != nil {
		return nil, err
	}
	return n, nil
}

// addSite adds node NUMBER with the block 10.244.NUMBER.0/24, and fd00:10:244:NUMBER::/64 where the pods have IPv6.
func (n *network) addSite(number byte) (*site, error) {
	node, err := n.topology.Node(fmt.Sprintf("node%d", number))
	if err != nil {
		return nil, err
	}
	if err := node.SetMTU(n.mtu); err != nil {
		return nil, err
	}
	pod, err := node.Pod("pod", netip.AddrFrom4([4]byte{10, 244, number, 10}))
	if err != nil {
		return nil, err
	}
	s := &site{Node: node, pod: pod, cidrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, number, 0}), 24)}}
	forwarding := []string{"ipv4/ip_forward"}
	if n.ipv6 {
		block := podNetworks[1].Addr().As16()
		block[7] = number
		s.cidrs = append(s.cidrs, netip.PrefixFrom(netip.AddrFrom16(block), 64))
		block[15] = 0x10
		if err := pod.AddIPv6(netip.AddrFrom16(block)); err != nil {
			return nil, err
		}
		forwarding = append(forwarding, "ipv6/conf/all/forwarding")
	}
	err = node.Do(func() error {
		for _, key := range forwarding {
			if err := os.WriteFile("/proc/sys/net/"+key, []byte("1"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// giveNodesIPv6 is for subjects that encapsulate nothing: a route of IPv6 needs a next hop of IPv6. To the others it
// would be one more address of the nodes, and a smaller MTU.
func (n *network) giveNodesIPv6() error {
	if !n.ipv6 {
		return nil
	}
	return errors.Join(n.client.EnableIPv6(), n.server.EnableIPv6())
}

// nextHop is the node's own address of prefix's family.
func (s *site) nextHop(prefix netip.Prefix) netip.Addr {
	if prefix.Addr().Is6() {
		return s.Addr6
	}
	return s.Addr
}

// directions returns each site with the other.
func (n *network) directions() [2][2]*site {
	return [2][2]*site{{n.client, n.server}, {n.server, n.client}}
}

// setPodMTU sets what the overlay leaves for the pods.
func (n *network) setPodMTU(mtu int) error {
	return errors.Join(n.client.pod.SetMTU(mtu), n.server.pod.SetMTU(mtu))
}

// path is where a file of the network may lie.
func (n *network) path(name string) string { return filepath.Join(n.topology.Dir(), name) }

// target is the address in the server's pod that the traffic goes to.
func (n *network) target() netip.Addr {
	if n.ipv6 {
		return n.server.pod.Addr6
	}
	return n.server.pod.Addr
}

// reach waits until one pod reaches the other.
func (n *network) reach(ctx context.Context) error {
	err := n.waitUntil(ctx, joinPatience, func(ctx context.Context) error {
		_, err := n.client.pod.Run(ctx, "ping", "-n", "-q", "-c1", "-W1", n.target().String())
		return err
	})
	if err != nil {
		return fmt.Errorf("the pods do not reach each other: %w", err)
	}
	return nil
}

// waitUntil waits for ready, and gives up when a daemon has ended.
func (n *network) waitUntil(ctx context.Context, patience time.Duration, ready func(context.Context) error) error {
	return topo.WaitUntil(ctx, patience, ready, n.daemonEnded)
}

var errDaemonEnded = errors.New("the daemon has ended")

// daemonEnded returns an error with the last words of a daemon that has ended.
func (n *network) daemonEnded() error {
	for _, s := range n.daemons() {
		select {
		case <-s.daemon.Done():
			return fmt.Errorf("%s: %w: %s", s, errDaemonEnded, n.lastWords(s.daemon))
		default:
		}
	}
	return nil
}

// lastWords returns the end of a process's log, for an error message. It leaves out the
// folder of this network, so that one cause reads the same every time.
func (n *network) lastWords(p *topo.Process) string {
	log, err := p.Log()
	if err != nil {
		return err.Error()
	}
	const last = 5
	lines := strings.Split(strings.ReplaceAll(strings.TrimSpace(log), n.topology.Dir()+"/", ""), "\n")
	return strings.Join(lines[max(0, len(lines)-last):], "; ")
}

// daemons returns the sites that have one.
func (n *network) daemons() []*site {
	var with []*site
	for _, s := range []*site{n.client, n.server} {
		if s != nil && s.daemon != nil {
			with = append(with, s)
		}
	}
	return with
}

// daemonTime is the processor time of all daemons up to now.
func (n *network) daemonTime() (meter.Processor, error) {
	var sum meter.Processor
	for _, s := range n.daemons() {
		p, err := meter.OfProcess(s.daemon.PID())
		if err != nil {
			return sum, err
		}
		sum = sum.Add(p)
	}
	return sum, nil
}

// resident is the memory of the larger daemon, in bytes.
func (n *network) resident() (int64, error) {
	var most int64
	for _, s := range n.daemons() {
		bytes, err := meter.Resident(s.daemon.PID())
		if err != nil {
			return 0, err
		}
		most = max(most, bytes)
	}
	return most, nil
}

// close removes everything.
func (n *network) close() error {
	var errs []error
	for _, leave := range n.leave {
		errs = append(errs, leave())
	}
	return errors.Join(append(errs, n.topology.Close())...)
}
