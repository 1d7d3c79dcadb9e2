//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"runtime"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/encap"
)

// nodeMode is the first argument of a bench that shall be a node instead: weft's dataplane
// alone, with peers that nobody has to gossip about. The scenario of many peers runs it on
// both nodes.
const nodeMode = "node"

// nodeDataPort is weftd's default.
const nodeDataPort = 8285

// A nodeConfig is the node to be, and how many peers it shall have. The first is the
// other node, the rest do not exist, but have a block each.
type nodeConfig struct {
	addr, peerAddr netip.Addr // on the underlay
	cidr, peerCIDR netip.Prefix
	peers          int
	mtu            int // of pod packets
}

// args are what parseNode reads.
func (c nodeConfig) args() []string {
	return []string{
		nodeMode, "-addr", c.addr.String(), "-peer-addr", c.peerAddr.String(),
		"-cidr", c.cidr.String(), "-peer-cidr", c.peerCIDR.String(), "-peers", itoa(c.peers), "-mtu", itoa(c.mtu),
	}
}

// parseNode reads the arguments behind nodeMode.
func parseNode(args []string) (c nodeConfig, err error) {
	flags := flag.NewFlagSet(nodeMode, flag.ContinueOnError)
	flags.TextVar(&c.addr, "addr", netip.Addr{}, "address on the underlay")
	flags.TextVar(&c.peerAddr, "peer-addr", netip.Addr{}, "that of the other node")
	flags.Func("cidr", "block of this node", prefixInto(&c.cidr))
	flags.Func("peer-cidr", "that of the other node", prefixInto(&c.peerCIDR))
	flags.IntVar(&c.peers, "peers", 1, "number of peers")
	flags.IntVar(&c.mtu, "mtu", 0, "MTU of pod packets")
	return c, flags.Parse(args)
}

func prefixInto(p *netip.Prefix) func(string) error {
	return func(text string) (err error) {
		*p, err = netip.ParsePrefix(text)
		return err
	}
}

// dataplane is what an engine of the node is told.
func (c nodeConfig) dataplane() dataplane.Config {
	config := dataplane.Config{
		PodCIDRs:  []netip.Prefix{c.cidr},
		Addresses: []netip.Addr{c.cidr.Addr()},
		Endpoints: []netip.Addr{c.addr},
		MTU:       c.mtu,
		Peers:     []dataplane.Peer{c.peer("0", c.peerAddr, c.peerCIDR)},
	}
	// Benchmarking addresses, which nothing in the topology has (RFC 2544).
	endpoint := netip.MustParseAddr("198.18.0.0")
	for i, block := range podBlocks(c.peers - 1) {
		endpoint = endpoint.Next()
		config.Peers = append(config.Peers, c.peer(itoa(i+1), endpoint, block.Prefix))
	}
	return config
}

func (c nodeConfig) peer(id string, addr netip.Addr, cidr netip.Prefix) dataplane.Peer {
	return dataplane.Peer{
		ID: id, Endpoints: []netip.Addr{addr}, PodCIDRs: []netip.Prefix{cidr},
		To: netip.AddrPortFrom(addr, nodeDataPort), Tunnel: encap.Tunnel{Codec: encap.UDP}, MTU: c.mtu, RCO: true,
	}
}

// runNode carries packets until ctx is done. It lives in the network namespace of a node.
func runNode(ctx context.Context, c nodeConfig) (err error) {
	workers := max(1, runtime.NumCPU()/2) // as weftd has by default
	port, err := encap.Listen(encap.ListenConfig{
		Addrs: []netip.Addr{c.addr}, Ports: map[encap.Codec]uint16{encap.UDP: nodeDataPort}, Need: encap.UDP,
		Workers: workers, Want: offload.All,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, port.Close()) }()
	tun, err := device.Open(weftTUN, workers, offload.All)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tun.Close()) }()

	var pairs []dataplane.Pair
	for i, queue := range tun.Queues() {
		pairs = append(pairs, dataplane.Pair{Queue: queue, Wire: port.Sockets()[i]})
	}
	engine := dataplane.New(pairs, tun.Features())
	if err := engine.Apply(c.dataplane()); err != nil {
		return err
	}
	if err := c.applyHost(); err != nil {
		return fmt.Errorf("prepare the node: %w", err)
	}
	return engine.Run(ctx)
}

func (c nodeConfig) applyHost() (err error) {
	h, err := host.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	_, err = h.Apply(host.State{
		Link:      weftTUN,
		Addresses: []netip.Prefix{netip.PrefixFrom(c.cidr.Addr(), c.cidr.Addr().BitLen())},
		MTU:       c.mtu,
		Routes:    []host.Route{{Prefix: podNetworks[0]}},
	})
	return err
}
