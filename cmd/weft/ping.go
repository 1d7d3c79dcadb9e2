package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

const (
	pingCount    = 5
	pingInterval = time.Second
	// minPingInterval stays below the rate at which a peer answers probes.
	minPingInterval = 100 * time.Millisecond
)

func (c *cli) pingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ping node",
		Short: "Measure the way to another node",
		Long: `Send probes to another node the way pods' packets go, on the data port, and show
each answer: the round trip, the MTU of pods' packets, and the largest packet that
the underlay takes between the two nodes.

A node is given by its name, its ID, or the start of its ID as weft peers shows it.
The exit status is 1 if no probe was answered.`,
		Example: `  weft ping node2
  weft ping node2 -c 0         until Ctrl-C
  weft ping node2 -c 100 -i 100ms
  weft ping node2 --json | jq -r 'select(.seq) | .rttUs'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("weft ping takes one node, but got %d; for instance `weft ping node2`", len(args))
			}
			return nil
		},
		ValidArgsFunction: c.completeNode,
	}
	n := cmd.Flags().UintP("count", "c", pingCount, "probes to send; 0 goes on until Ctrl-C")
	interval := cmd.Flags().DurationP("interval", "i", pingInterval, "time between two probes, at least 100ms")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *interval < minPingInterval {
			return usagef("--interval is %s, and must be at least %s: a node answers no faster", *interval, minPingInterval)
		}
		client := control.NewClient(c.socket)
		defer client.Close()
		return c.ping(cmd.Context(), client, args[0], *n, *interval)
	}
	return cmd
}

// ping sends n probes, or without end where n is 0, and sums them up, also when it is interrupted.
func (c *cli) ping(ctx context.Context, client *control.Client, node string, n uint, interval time.Duration) error {
	var sum tally
	trouble := c.probe(ctx, client, node, n, interval, &sum)
	if trouble != nil && sum.Sent == 0 { // a wrong name, or no daemon
		return trouble
	}
	if err := c.printTally(sum); err != nil {
		return err
	}
	if trouble == nil && sum.Answered == 0 {
		return errSaid
	}
	return trouble
}

// probe shows each probe and enters it in sum. An interrupt is no error.
func (c *cli) probe(ctx context.Context, client *control.Client, node string, n uint, interval time.Duration, sum *tally) error {
	ticks, stop := c.ticker(interval)
	defer stop()
	for seq := uint(1); ; seq++ {
		p, err := client.Ping(ctx, node)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		sum.add(p)
		if err := c.printPing(seq, p); err != nil || seq == n {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
		}
	}
}

// pingLine is a line of `weft ping --json`.
type pingLine struct {
	Seq uint `json:"seq"` // from 1
	control.Ping
}

func (c *cli) printPing(seq uint, p control.Ping) error {
	if c.json {
		return json.NewEncoder(c.out).Encode(pingLine{seq, p})
	}
	by := ""
	if p.Endpoint.IsValid() {
		by = fmt.Sprintf(" (%s, %s)", p.Endpoint.Addr(), p.Mode)
	}
	outcome := fmt.Sprintf("time=%s mtu=%d path=%d", millis(p.RTT), p.MTU, p.PathMTU)
	if p.Lost {
		outcome = c.style.paint(red, "no answer")
		if p.Reason != "" {
			outcome += ": " + printable(p.Reason)
		}
	}
	_, err := fmt.Fprintf(c.out, "from %s%s: seq=%d %s\n", printable(p.Node), printable(by), seq, outcome)
	return err
}

// tally sums probes up; it is the last line of `weft ping --json`. Without an answer the round trips are 0.
type tally struct {
	Sent     uint                 `json:"sent"`
	Answered uint                 `json:"answered"`
	Loss     float64              `json:"loss"` // 0 to 1
	Min      control.Microseconds `json:"minUs"`
	Avg      control.Microseconds `json:"avgUs"`
	Max      control.Microseconds `json:"maxUs"`

	total control.Microseconds
}

func (t *tally) add(p control.Ping) {
	t.Sent++
	if !p.Lost {
		if t.Answered == 0 || p.RTT < t.Min {
			t.Min = p.RTT
		}
		t.Answered++
		t.total += p.RTT
		t.Avg = t.total / control.Microseconds(t.Answered)
		t.Max = max(t.Max, p.RTT)
	}
	t.Loss = float64(t.Sent-t.Answered) / float64(t.Sent)
}

func (c *cli) printTally(t tally) error {
	if c.json {
		return json.NewEncoder(c.out).Encode(t)
	}
	line := fmt.Sprintf("%s, %d answered", count(uint64(t.Sent), "probe"), t.Answered)
	if t.Loss > 0 {
		line += ", " + percent(t.Loss) + " lost"
	}
	if t.Answered > 0 {
		line += fmt.Sprintf(", round trip min %s, avg %s, max %s", millis(t.Min), millis(t.Avg), millis(t.Max))
	}
	_, err := fmt.Fprintln(c.out, line)
	return err
}

// millis returns a round trip as ping does.
func millis(us control.Microseconds) string {
	return fmt.Sprintf("%.3f ms", float64(us)/float64(time.Millisecond))
}
