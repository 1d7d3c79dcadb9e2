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
	podNetwork     = "10.244.0.0/16"

	// joinPatience bounds the wait for a subject to carry the first packet.
	joinPatience = 15 * time.Second
)

// A network is what every subject joins, and every measurement has its own: two nodes on one
// underlay bridge, with one pod each. The traffic goes from client to server.
type network struct {
	topology       *topo.Topology
	bin            string // folder with the release binaries
	mtu            int    // of the underlay
	client, server *site
	leave          []func() error // what a subject leaves outside the topology, by close
}

// A site is a node with its pod.
type site struct {
	*topo.Node
	pod    *topo.Pod
	cidr   netip.Prefix
	daemon *topo.Process // nil where the subject has none
}

// newNetwork makes a network in which the nodes reach each other and forward, and the pods
// their node. The caller must close it.
func newNetwork(bin string, mtu int) (_ *network, err error) {
	topology, err := topo.New(topologyPrefix)
	if err != nil {
		return nil, err
	}
	n := &network{topology: topology, bin: bin, mtu: mtu}
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

// addSite adds node NUMBER with the block 10.244.NUMBER.0/24.
func (n *network) addSite(number byte) (*site, error) {
	node, err := n.topology.Node(fmt.Sprintf("node%d", number))
	if err != nil {
		return nil, err
	}
	if err := node.SetMTU(n.mtu); err != nil {
		return nil, err
	}
	err = node.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	})
	if err != nil {
		return nil, err
	}
	pod, err := node.Pod("pod", netip.AddrFrom4([4]byte{10, 244, number, 10}))
	if err != nil {
		return nil, err
	}
	return &site{
		Node: node,
		pod:  pod,
		cidr: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, number, 0}), 24),
	}, nil
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

// reach waits until one pod reaches the other.
func (n *network) reach(ctx context.Context) error {
	err := n.waitUntil(ctx, joinPatience, func(ctx context.Context) error {
		_, err := n.client.pod.Run(ctx, "ping", "-n", "-q", "-c1", "-W1", n.server.pod.Addr.String())
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
