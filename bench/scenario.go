//go:build linux

package main

import (
	"context"
	"slices"
	"time"

	"github.com/weft-net/weft/bench/report"
)

const (
	ethernetMTU  = 1500
	jumboMTU     = 9000
	jumboSuffix  = "-9000"
	ipv6Suffix   = "-v6"
	inProcess    = "in-process" // the subject of scenarios without a network
	processPort  = 5201         // of the programs that measure, in the server's pod
	startTimeout = 5 * time.Second
)

// A scenario is one question that is put to each subject in turn.
type scenario struct {
	name  string
	about string
	mtu   int  // of the underlay; 0 for none
	ipv6  bool // the pods speak IPv6
	// tools are the programs it needs, each with its Debian package.
	tools []tool
	// takes estimates a measurement, without joining.
	takes time.Duration
	// measure has a network of its own in which the pods reach each other.
	measure func(ctx context.Context, n *network) ([]report.Sample, error)
	// compute stands in the place of measure where there is no network and no subject.
	compute func(ctx context.Context) ([]report.Sample, error)
	// subjects stand in the place of those that were asked for, where not nil.
	subjects []subject
}

type tool struct{ command, debianPackage string }

// Immutable.
var (
	iperf3   = tool{"iperf3", "iperf3"}
	sockperf = tool{"sockperf", "sockperf"}
	ab       = tool{"ab", "apache2-utils"}
)

// lengths say how long measurements take. Those of iperf3 are whole seconds.
type lengths struct {
	tcp, omit time.Duration // omit comes before tcp, while windows grow
	udp       time.Duration // for each offered rate
	latency   time.Duration
	crr       time.Duration
}

// Immutable.
var (
	fullLengths  = lengths{tcp: 4 * time.Second, omit: time.Second, udp: 2 * time.Second, latency: 3 * time.Second, crr: 2 * time.Second}
	quickLengths = lengths{tcp: 2 * time.Second, omit: time.Second, udp: time.Second, latency: time.Second, crr: time.Second}
)

// scenarios returns all there are, in the order of the report.
func scenarios(l lengths) []scenario {
	basic := []scenario{
		tcpScenario("tcp-1", "TCP, one stream", l, 1),
		overIPv6(tcpScenario("tcp-1", "TCP, one stream", l, 1)),
		tcpScenario("tcp-4", "TCP, 4 streams", l, 4),
		overIPv6(tcpScenario("tcp-4", "TCP, 4 streams", l, 4)),
		tcpScenario("tcp-16", "TCP, 16 streams", l, 16),
		tcpScenario("tcp-bidir", "TCP, one stream each way at once, summed", l, 1, "--bidir"),
		udpScenario("udp-64", "UDP, 64 octets a packet, at offered rates", l, 64, 50_000, 100_000, 200_000, unlimited),
		udpScenario("udp-1400", "UDP, 1400 octets a packet, at offered rates", l, 1400, 50_000, 100_000, unlimited),
		latencyScenario(l),
		loadedLatencyScenario(l),
		crrScenario(l),
	}
	all := slices.Clone(basic)
	for _, s := range basic {
		if s.ipv6 {
			continue
		}
		s.name += jumboSuffix
		s.mtu = jumboMTU
		all = append(all, s)
	}
	return append(all, onNode(tcpScenario("tcp-1", "TCP, one stream", l, 1)), onNode(tcpScenario("tcp-4", "TCP, 4 streams", l, 4)),
		cniScenario(), burstScenario(), routeLookupScenario(), routeUpdateScenario(), peersScenario(l))
}

// overIPv6 makes a variant of a scenario, which stands next to it, since they are compared.
func overIPv6(s scenario) scenario {
	s.name += ipv6Suffix
	s.about += ", IPv6 between pods"
	s.ipv6 = true
	return s
}

// defaultScenarios are those that run unless others are asked for: everything on Ethernet's
// own MTU, and bulk on jumbo frames too, where it matters most.
// Immutable.
var defaultScenarios = []string{
	"tcp-1", "tcp-1" + ipv6Suffix, "tcp-4", "tcp-4" + ipv6Suffix, "tcp-16", "tcp-bidir",
	"udp-64", "udp-1400", "rr", "rr-loaded", "crr",
	"tcp-1" + jumboSuffix, "tcp-4" + jumboSuffix,
	"tcp-1-node", "tcp-4-node", "cni", "cni-burst", "route-lookup", "route-update", "scale-peers",
}

// Immutable.
var quickScenarios = []string{"tcp-1", "udp-64", "rr"}
