package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) dropsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drops",
		Short: "Show what became of every packet",
		Long: `Show what became of every packet since weftd started. In each direction, each
packet received was forwarded or dropped for a named reason, and the sum is
checked. What the kernel dropped before or after weftd is listed beside it.`,
		Example: `  weft drops
  weft drops --all             also the reasons for which nothing was dropped
  weft drops --watch
  weft drops --json | jq '.egress.drops | map_values(select(. > 0))'`,
	}
	all := cmd.Flags().BoolP("all", "a", false, "show reasons for which nothing was dropped, too")
	return view[control.Drops]{
		ask:    (*control.Client).Drops,
		render: func(w io.Writer, d control.Drops) { renderDrops(w, c.style, *all, d) },
	}.command(c, cmd)
}

func renderDrops(w io.Writer, st style, all bool, d control.Drops) {
	rows := [][]cell{}
	rows = append(rows, direction("EGRESS, from pods to peers", d.Egress, d.Reasons, all)...)
	rows = append(rows, nil)
	rows = append(rows, direction("INGRESS, from peers to pods", d.Ingress, d.Reasons, all)...)
	rows = append(rows,
		nil,
		headings("KERNEL, beside weftd"),
		kernelDrops("socket overflow", d.Kernel.SocketOverflow, "datagrams that the full buffer of the data socket did not take"),
		kernelDrops("device transmit", d.Kernel.TunTxDropped, "packets of pods (a TCP superpacket as one) that the full queue of the device did not take"),
		kernelDrops("spoofed", d.Kernel.Spoofed, "packets of directly routed peers, and of pods, whose source was not the sender's to use"),
		nil,
		[]cell{text("ICMP errors sent"), number(d.ICMPSent)},
	)
	writeTable(w, st, "", rows)
}

// direction returns the rows of one direction, with the check of the sum.
func direction(title string, d control.Direction, reasons map[string]string, all bool) [][]cell {
	rows := [][]cell{
		headings(title),
		{text("  received"), number(d.Received)},
		{text("  forwarded"), number(d.Forwarded)},
	}
	for _, reason := range slices.Sorted(maps.Keys(d.Drops)) {
		n := d.Drops[reason]
		if n == 0 && !all {
			continue
		}
		row := []cell{text("  " + reason), number(n), text(reasons[reason])}
		if n > 0 {
			row[0].colour = yellow
		}
		rows = append(rows, row)
	}
	return append(rows, sum(d.Unaccounted()))
}

// sum returns the row that says whether received = forwarded + drops.
func sum(unaccounted int64) []cell {
	if unaccounted == 0 {
		return []cell{text("  sum"), {text: "holds", colour: green, right: true}}
	}
	off := fmt.Sprintf("off by %d", unaccounted)
	return []cell{text("  sum"), {text: off, colour: red, right: true}, text("received is not forwarded plus dropped: a bug in weftd")}
}

func kernelDrops(what string, n uint64, meaning string) []cell {
	row := []cell{text("  " + what), number(n), text(meaning)}
	if n > 0 {
		row[0].colour = yellow
	}
	return row
}
