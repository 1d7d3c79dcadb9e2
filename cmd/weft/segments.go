package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) segmentsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "segments [segment]",
		Short: "Show the layer-2 segments of this node",
		Long: `Show the layer-2 segments of this node: each with its device, the bridge that the
device is a port of, how many other members and hosts are known, and what became
of frames for all members (broadcast, multicast, and those to an address that
nobody has shown yet): FLOODED were sent to every member, LIMITED were more than
the segment's limit, and dropped. ANSWERED are ARP requests and neighbour
solicitations that were answered here, and went nowhere.

States: ready; blocked (its bridge is connected with another node's elsewhere too,
so that frames would go round for ever); impaired (its device or its bridge is not
as it should be). The reason says more.

With a segment, show its members and the hosts that are known in it: on which node
each is, its addresses, and how long ago it was heard of. A host that is announced
is known by its node's word, and has sent nothing to this node yet.`,
		Example: `  weft segments
  weft segments office
  weft segments office --watch
  weft segments --json | jq -r '.segments[] | select(.state != "ready") | .name'`,
		ValidArgsFunction: c.completeSegment,
	}
	watch := cmd.Flags().BoolP("watch", "w", false, "show it anew every second, until Ctrl-C")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("weft segments takes one segment, or none, but got %d; for instance `weft segments office`", len(args))
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return view[control.SegmentList]{
				ask:    (*control.Client).Segments,
				render: func(w io.Writer, l control.SegmentList) { renderSegments(w, c.style, l) },
			}.show(cmd.Context(), c, *watch)
		}
		return view[control.Segment]{
			ask: func(client *control.Client, ctx context.Context) (control.Segment, error) {
				l, err := client.Segments(ctx)
				if err != nil {
					return control.Segment{}, err
				}
				return l.Find(args[0])
			},
			render: func(w io.Writer, s control.Segment) { renderSegment(w, c.style, s) },
		}.show(cmd.Context(), c, *watch)
	}
	return cmd
}

// completeSegment completes the name of a segment in a shell.
func (c *cli) completeSegment(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	client := control.NewClient(c.socket)
	defer client.Close()
	l, err := client.Segments(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range l.Segments {
		names = append(names, printable(s.Name))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func renderSegments(w io.Writer, st style, l control.SegmentList) {
	if len(l.Segments) == 0 {
		fmt.Fprintln(w, "This node has no layer-2 segments. The key `segments` of the configuration makes them.")
		return
	}
	rows := [][]cell{headings("SEGMENT", ">VNI", "STATE", "DEVICE", "BRIDGE", ">MTU", ">MEMBERS", ">HOSTS", ">FLOODED", ">LIMITED", ">ANSWERED", "WHY")}
	for _, s := range sortedBy(l.Segments, func(s control.Segment) string { return s.Name }) {
		limited := number(s.FloodLimited)
		if s.FloodLimited > 0 {
			limited.colour = yellow
		}
		rows = append(rows, []cell{
			text(s.Name), number(int(s.VNI)), painted(s.State, stateColour(s.State)), text(s.Device), text(s.Bridge), mtu(s.MTU),
			number(len(s.Members)), number(len(s.Hosts)), number(s.Flooded), limited, number(s.Answered), text(s.Reason),
		})
	}
	writeTable(w, st, "", rows)
	for _, s := range l.Segments {
		duplicates(w, st, s)
	}
}

// renderSegment shows one segment with all that is known of it.
func renderSegment(w io.Writer, st style, s control.Segment) {
	renderSegments(w, st, control.SegmentList{Segments: []control.Segment{s}})
	fmt.Fprintln(w)
	if len(s.Members) == 0 {
		fmt.Fprintf(w, "No other member is known. Does another node have a segment of VNI %d?\n", s.VNI)
	} else {
		rows := [][]cell{headings("MEMBER", "ID", "ENDPOINT", ">MTU", ">HOSTS")}
		for _, m := range sortedBy(s.Members, func(m control.SegmentMember) string { return m.Node + "\x00" + m.ID }) {
			rows = append(rows, []cell{text(m.Node), text(m.ID[:min(len(m.ID), shortID)]), text(known(m.Endpoint)), mtu(m.MTU), number(m.MACs)})
		}
		writeTable(w, st, "", rows)
	}
	fmt.Fprintln(w)
	if len(s.Hosts) == 0 {
		fmt.Fprintln(w, "No host is known. Hosts are learnt from the frames that they send.")
		return
	}
	rows := [][]cell{headings("HOST", "NODE", "ADDRESSES", ">HEARD", "HOW")}
	for _, h := range sortedBy(s.Hosts, func(h control.SegmentHost) string { return h.MAC }) {
		rows = append(rows, []cell{text(h.MAC), hostNode(h), text(list(h.IPs, ",")),
			{text: span(time.Duration(h.Age) * time.Second), right: true}, hostHow(h)})
	}
	writeTable(w, st, "", rows)
}

// hostNode says where a host is.
func hostNode(h control.SegmentHost) cell {
	switch {
	case h.Local:
		return painted("this node", dim)
	case h.Node == "":
		return painted("not known", yellow)
	}
	return text(h.Node)
}

func hostHow(h control.SegmentHost) cell {
	if h.Announced {
		return painted("announced", dim)
	}
	return text("seen")
}

// maxDuplicates is how many are shown of a segment: a loop makes duplicates of all addresses.
const maxDuplicates = 10

// duplicates says which addresses two places use at once.
func duplicates(w io.Writer, st style, s control.Segment) {
	for i, d := range s.Duplicates {
		if i == maxDuplicates {
			fmt.Fprintf(w, "%s: and %d more\n", printable(s.Name), len(s.Duplicates)-i)
			return
		}
		fmt.Fprintln(w, st.paint(yellow, printable(s.Name+": "+d)))
	}
}
