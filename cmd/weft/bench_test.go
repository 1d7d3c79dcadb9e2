package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// benchSteps are two steps of a measurement, the second with what was known of it before its end.
func benchSteps(id string, show func(control.BenchStep) error) error {
	if id != samplePeers().Peers[1].ID {
		return errors.New("node3 takes no measurements")
	}
	us := func(n int) control.Microseconds { return control.Microseconds(time.Duration(n) * time.Microsecond) }
	return errors.Join(
		show(control.BenchStep{Test: control.BenchLatency, Streams: 1, Final: true, Seconds: 1, RoundTrips: 12345, Min: us(52), Median: us(70), P99: us(140), Max: us(2100)}),
		show(control.BenchStep{Test: control.BenchThroughput, Direction: control.BenchOut, Streams: 4, Seconds: 1, Bytes: 1 << 30, BitsPerSecond: 8.59e9}),
		show(control.BenchStep{Test: control.BenchThroughput, Direction: control.BenchOut, Streams: 4, Final: true, Seconds: 2, Bytes: 1 << 31, BitsPerSecond: 8.59e9}),
	)
}

const benchLatencyText = "latency  1 stream   min 0.052 ms, median 0.070 ms, 99% within 0.140 ms, max 2.100 ms, of 12345 round trips"

func TestBench(t *testing.T) {
	socket, _ := daemon(t, &backend{bench: benchSteps})
	node := samplePeers().Peers[1].Name
	want := benchLatencyText + "\nto       4 streams  8.59 Gb/s  2.0 GiB in 2.0s\n"
	if got := run(t, socket, "bench", node); got != (result{0, want, ""}) {
		t.Errorf("got %+v", got)
	}
	got := run(t, socket, "bench", node, "--json")
	if lines := strings.Split(got.out, "\n"); got.status != 0 || len(lines) != 3 || !strings.HasPrefix(lines[1], `{"test":"throughput","direction":"out","streams":4,"final":true,`) {
		t.Errorf("got %+v", got)
	}
	var out bytes.Buffer
	c := &cli{out: &out, errOut: &out, terminal: true, socket: socket, now: time.Now}
	if status := c.run(t.Context(), []string{"bench", node}); status != 0 || !strings.Contains(out.String(), eraseLine+"to       4 streams  8.59 Gb/s  1.0 GiB in 1.0s ..."+eraseLine+"to ") {
		t.Errorf("on a terminal: %d, %q", status, out.String())
	}
	if got := run(t, socket, "bench", samplePeers().Peers[0].Name); got != (result{1, "", "weft: weftd: node3 takes no measurements\n"}) {
		t.Errorf("got %+v", got)
	}
	// What goes wrong later comes in the answer.
	socket, _ = daemon(t, &backend{bench: func(id string, show func(control.BenchStep) error) error {
		return errors.Join(benchSteps(id, show), errors.New("node2 went away"))
	}})
	if got := run(t, socket, "bench", node); got != (result{1, want, "weft: weftd: node2 went away\n"}) {
		t.Errorf("got %+v", got)
	}
}

func TestBitRate(t *testing.T) {
	for perSecond, want := range map[float64]string{
		0: "0 b/s", 999: "999 b/s", 999.7: "1.00 kb/s", 1e6: "1.00 Mb/s", 12.34e6: "12.3 Mb/s", 123.4e6: "123 Mb/s", 9.999e9: "10.0 Gb/s", 5e15: "5000 Tb/s",
	} {
		if got := bitRate(perSecond); got != want {
			t.Errorf("%g: got %s, want %s", perSecond, got, want)
		}
	}
}
