package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench node",
		Short: "Measure what is carried to and from another node",
		Long: `Measure what the pod network carries between this node and another: round trips
over TCP for a second, and then throughput, each direction by one stream and by
four, 2 s each. The other end is the weftd there; nothing else has to run.

It loads both nodes and the network between them for about 9 s, and pods' packets
wait in the same queues meanwhile. A node takes one measurement at a time, and
only from other nodes: its TUN address takes TCP on the data port's number.

Throughput is what the receiving end has counted of TCP's payload.`,
		Example: `  weft bench node2
  weft bench node2 --json | jq 'select(.test == "throughput") | .bitsPerSecond / 1e9'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("weft bench takes one node, but got %d; for instance `weft bench node2`", len(args))
			}
			return nil
		},
		ValidArgsFunction: c.completeNode,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client := control.NewClient(c.socket)
		defer client.Close()
		return client.Bench(cmd.Context(), args[0], c.printBench)
	}
	return cmd
}

// eraseLine takes the cursor to the beginning of its line and erases that (ECMA-48 CR, EL).
const eraseLine = "\r\x1b[K"

// printBench shows a step: on a terminal also while it is under way.
func (c *cli) printBench(s control.BenchStep) (err error) {
	switch {
	case c.json && s.Final:
		return json.NewEncoder(c.out).Encode(s)
	case s.Final && c.terminal:
		_, err = fmt.Fprintln(c.out, eraseLine+benchText(s))
	case s.Final:
		_, err = fmt.Fprintln(c.out, benchText(s))
	case c.terminal && !c.json:
		_, err = fmt.Fprint(c.out, eraseLine+benchText(s)+" ...")
	}
	return err
}

// benchText is a step in one line.
func benchText(s control.BenchStep) string {
	what := s.Test
	if s.Test == control.BenchThroughput {
		what = map[string]string{control.BenchOut: "to", control.BenchIn: "from"}[s.Direction]
	}
	line := fmt.Sprintf("%-8s %-10s", what, count(s.Streams, "stream"))
	if s.Test == control.BenchLatency {
		return fmt.Sprintf("%s min %s, median %s, 99%% within %s, max %s, of %s", line,
			millis(s.Min), millis(s.Median), millis(s.P99), millis(s.Max), count(s.RoundTrips, "round trip"))
	}
	return strings.TrimRight(fmt.Sprintf("%s %s  %s in %.1fs", line, bitRate(s.BitsPerSecond), size(s.Bytes), s.Seconds), " ")
}

// bitRate returns a rate in decimal units, as networks' are.
func bitRate(perSecond float64) string {
	const units = " kMGT"
	unit := 0
	for perSecond >= 999.5 && unit < len(units)-1 { // what would be shown as 1000
		perSecond /= 1000
		unit++
	}
	switch {
	case unit == 0:
		return fmt.Sprintf("%.0f b/s", perSecond)
	case perSecond < 9.995:
		return fmt.Sprintf("%.2f %cb/s", perSecond, units[unit])
	case perSecond < 99.95:
		return fmt.Sprintf("%.1f %cb/s", perSecond, units[unit])
	}
	return fmt.Sprintf("%.0f %cb/s", perSecond, units[unit])
}
