//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weft-net/weft/bench/meter"
	"github.com/weft-net/weft/bench/report"
)

const sockperfPort = 11111

// latencyScenario is ping-pong over one TCP connection, with nothing beside it.
func latencyScenario(l lengths) scenario {
	return scenario{
		name: "rr", about: "TCP ping-pong of 64 octets, one-way time", mtu: ethernetMTU,
		tools: []tool{sockperf},
		takes: l.latency + 500*time.Millisecond,
		measure: func(ctx context.Context, n *network) ([]report.Sample, error) {
			result, err := n.pingPong(ctx, l.latency)
			return latencySamples(result), err
		},
	}
}

// loadedLatencyScenario is the same beside one bulk stream in the same direction.
func loadedLatencyScenario(l lengths) scenario {
	return scenario{
		name: "rr-loaded", about: "TCP ping-pong beside a bulk TCP stream", mtu: ethernetMTU,
		tools: []tool{iperf3, sockperf},
		takes: l.latency + time.Second,
		measure: func(ctx context.Context, n *network) ([]report.Sample, error) {
			return measureLoaded(ctx, n, l.latency)
		},
	}
}

func measureLoaded(ctx context.Context, n *network, length time.Duration) ([]report.Sample, error) {
	ctx, stopBulk := context.WithCancel(ctx)
	bulk := make(chan error, 1)
	go func() {
		const longer = 30 * time.Second // than anything beside it; it is stopped
		_, err := n.iperf(ctx, longer, "--time", seconds(longer))
		bulk <- err
	}()
	samples, err := measureBeside(ctx, n, length)
	stopBulk()
	if bulkErr := <-bulk; !errors.Is(bulkErr, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("the stream beside it ended early: %w", bulkErr))
	}
	return samples, err
}

// measureBeside waits for the bulk stream and runs the ping-pong. The stream's rate is
// that of its packets, with headers.
func measureBeside(ctx context.Context, n *network, length time.Duration) ([]report.Sample, error) {
	const grown = 10 << 20 // octets, by which the stream's window has grown
	err := n.waitUntil(ctx, startTimeout, func(context.Context) error {
		bytes, err := n.arrived()
		if err == nil && bytes < grown {
			err = fmt.Errorf("the bulk stream has carried %d octets", bytes)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	before, err := n.arrived()
	if err != nil {
		return nil, err
	}
	started := time.Now()
	result, err := n.pingPong(ctx, length)
	if err != nil {
		return nil, err
	}
	after, err := n.arrived()
	gbps := float64(after-before) * 8 / 1e9 / time.Since(started).Seconds()
	return append(latencySamples(result), report.Sample{Metric: "gbps-beside", Unit: "Gb/s", Value: gbps}), err
}

// arrived is how many octets the server's pod has received.
func (n *network) arrived() (uint64, error) {
	eth0, err := n.server.pod.Handle().LinkByName("eth0")
	if err != nil {
		return 0, fmt.Errorf("read the counters of %s: %w", n.server.pod, err)
	}
	return eth0.Attrs().Statistics.RxBytes, nil
}

func (n *network) pingPong(ctx context.Context, length time.Duration) (result meter.Latency, err error) {
	const slack = 10 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, length+slack, fmt.Errorf("sockperf has not finished within %s", length+slack))
	defer cancel()
	server, err := n.serve(ctx, sockperfPort, "sockperf", "server", "--tcp", "-i", n.server.pod.Addr.String(), "-p", itoa(sockperfPort))
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, server.Kill()) }()
	out, err := n.client.pod.Run(ctx, "sockperf", "ping-pong", "--tcp",
		"-i", n.server.pod.Addr.String(), "-p", itoa(sockperfPort), "-m", "64", "-t", seconds(length))
	if err != nil {
		return result, err
	}
	return meter.ParseSockperf(out)
}

func latencySamples(l meter.Latency) []report.Sample {
	return []report.Sample{
		{Metric: "p50", Unit: "us", Value: l.P50},
		{Metric: "p99", Unit: "us", Value: l.P99},
		{Metric: "p99.9", Unit: "us", Value: l.P999},
	}
}
