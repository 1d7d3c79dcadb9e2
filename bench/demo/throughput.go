//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A throughput is what iperf3 --json says about a TCP test.
type throughput struct {
	Start struct {
		Test struct {
			Streams int `json:"num_streams"`
		} `json:"test_start"`
	} `json:"start"`
	End struct {
		Sent struct {
			Retransmits int `json:"retransmits"`
		} `json:"sum_sent"`
		Received struct {
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
}

// measureThroughput sends TCP from one pod to another for three seconds.
func (c *cluster) measureThroughput(ctx context.Context, from, to *pod) (t throughput, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("iperf3 has not finished within 15 s"))
	defer cancel()
	// --forceflush: the server's log is a file, and it must say at once that it listens.
	server, err := to.Start("iperf3", "--server", "--forceflush")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, server.Kill()) }()
	err = c.waitUntil(ctx, 5*time.Second, func(context.Context) error {
		log, err := server.Log()
		if err == nil && !strings.Contains(log, "Server listening") {
			err = fmt.Errorf("iperf3 does not listen in %s: %s", to.name, strings.TrimSpace(log))
		}
		return err
	})
	if err != nil {
		return t, err
	}
	out, err := from.Run(ctx, "iperf3", "--client", to.addr.String(), "--time", "3", "--json")
	if err != nil {
		return t, err
	}
	return parseThroughput(out)
}

func parseThroughput(out string) (t throughput, err error) {
	if err := json.Unmarshal([]byte(out), &t); err != nil {
		return t, fmt.Errorf("read the output of iperf3: %w", err)
	}
	if t.End.Received.BitsPerSecond <= 0 {
		return t, errors.New("iperf3 says that nothing arrived")
	}
	return t, nil
}

func (t throughput) String() string {
	streams := "1 TCP stream"
	if n := t.Start.Test.Streams; n != 1 {
		streams = fmt.Sprintf("%d TCP streams", n)
	}
	return fmt.Sprintf("%.2f Gb/s, %s, %d retransmits", t.End.Received.BitsPerSecond/1e9, streams, t.End.Sent.Retransmits)
}

// pingsReceived is how many answers ping's summary counts.
func pingsReceived(out string) (n int, err error) {
	for line := range strings.Lines(out) {
		var sent int
		if _, err := fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &n); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("no summary in the output of ping: %s", strings.TrimSpace(out))
}
