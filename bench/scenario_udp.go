//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/weft-net/weft/bench/meter"
	"github.com/weft-net/weft/bench/report"
)

// unlimited stands for a rate: as fast as iperf3 sends.
const unlimited = 0

// udpScenario offers packets of size octets of payload at each of the rates, in packets a second.
func udpScenario(name, about string, l lengths, size int, rates ...int) scenario {
	const between = 200 * time.Millisecond // to start the server
	return scenario{
		name: name, about: about, mtu: ethernetMTU,
		tools: []tool{iperf3},
		takes: time.Duration(len(rates)) * (l.udp + between),
		measure: func(ctx context.Context, n *network) ([]report.Sample, error) {
			var samples []report.Sample
			for _, rate := range rates {
				result, err := measureUDP(ctx, n, l.udp, size, rate)
				if err != nil {
					return samples, fmt.Errorf("at rate %s: %w", rateName(rate), err)
				}
				samples = append(samples, udpSamples(rate, result)...)
			}
			return samples, nil
		},
	}
}

// measureUDP has iperf3 pace in bursts of 10 packets, which is how it also sends unlimited, by
// a timer of 100 us. By default it takes a turn of its event loop for each packet, which at
// 200,000 a second fills a processor, and a timer of 1 ms, which then offers 200 packets at
// once: a test of queue lengths.
func measureUDP(ctx context.Context, n *network, length time.Duration, size, rate int) (meter.UDP, error) {
	bitrate := "0"
	if rate != unlimited {
		bitrate = itoa(rate*size*8) + "/10"
	}
	out, err := n.iperf(ctx, length, "--udp",
		"--length", itoa(size), "--bitrate", bitrate, "--pacing-timer", "100", "--time", seconds(length))
	if err != nil {
		return meter.UDP{}, iperfError(out, err)
	}
	return meter.ParseUDP(out)
}

func udpSamples(rate int, result meter.UDP) []report.Sample {
	at := "@" + rateName(rate)
	return []report.Sample{
		{Metric: "pps" + at, Unit: "packets/s", Value: result.Received},
		{Metric: "offered" + at, Unit: "packets/s", Value: result.Offered},
		{Metric: "loss" + at, Unit: "%", Value: 100 * result.Loss},
	}
}

// rateName is 200k or max.
func rateName(rate int) string {
	if rate == unlimited {
		return "max"
	}
	return itoa(rate/1000) + "k"
}

func itoa(n int) string { return strconv.Itoa(n) }

// iperfError prefers what iperf3 says in its output to how it ended.
func iperfError(out string, ended error) error {
	if said := meter.IperfError(out); said != "" {
		return errors.New("iperf3: " + said)
	}
	return ended
}
