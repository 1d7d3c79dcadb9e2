//go:build linux

package main

import (
	"context"
	"errors"

	"github.com/weft-net/weft/bench/meter"
	"github.com/weft-net/weft/bench/report"
)

// tcpScenario is a bulk transfer by iperf3, with the processor time it cost.
func tcpScenario(name, about string, l lengths, streams int, args ...string) scenario {
	args = append([]string{
		"--parallel", itoa(streams), "--time", seconds(l.tcp), "--omit", seconds(l.omit),
	}, args...)
	return scenario{
		name: name, about: about, mtu: ethernetMTU,
		tools: []tool{iperf3},
		takes: l.tcp + l.omit,
		measure: func(ctx context.Context, n *network) ([]report.Sample, error) {
			before, err := n.readCost()
			if err != nil {
				return nil, err
			}
			out, err := n.iperf(ctx, l.tcp+l.omit, args...)
			if err != nil {
				return nil, iperfError(out, err)
			}
			after, err := n.readCost()
			if err != nil {
				return nil, err
			}
			result, err := meter.ParseTCP(out)
			if err != nil {
				return nil, err
			}
			return tcpSamples(n, result, after.sub(before))
		},
	}
}

// tcpSamples puts processor time in relation to what was carried while it passed, the omitted
// start included.
func tcpSamples(n *network, result meter.TCP, spent cost) ([]report.Sample, error) {
	gigabytes := result.Bytes / 1e9
	samples := []report.Sample{
		{Metric: "gbps", Unit: "Gb/s", Value: result.Gbps},
		{Metric: "retransmits", Unit: "segments", Value: result.Retransmits},
		{Metric: "cpu-machine", Unit: "s/GB", Value: (spent.machine.User + spent.machine.System) / gigabytes},
	}
	if len(n.daemons()) == 0 {
		return samples, nil
	}
	resident, err := n.resident()
	return append(samples,
		report.Sample{Metric: "cpu-user", Unit: "s/GB", Value: spent.daemons.User / gigabytes},
		report.Sample{Metric: "cpu-sys", Unit: "s/GB", Value: spent.daemons.System / gigabytes},
		report.Sample{Metric: "rss", Unit: "MiB", Value: float64(resident) / (1 << 20)},
	), err
}

// A cost is processor time: of the daemons of both nodes, and of the whole machine, iperf3 and
// the kernel's work for the packets included.
type cost struct{ daemons, machine meter.Processor }

func (n *network) readCost() (cost, error) {
	daemons, daemonsErr := n.daemonTime()
	machine, machineErr := meter.OfMachine()
	return cost{daemons: daemons, machine: machine}, errors.Join(daemonsErr, machineErr)
}

func (c cost) sub(earlier cost) cost {
	return cost{daemons: c.daemons.Sub(earlier.daemons), machine: c.machine.Sub(earlier.machine)}
}
