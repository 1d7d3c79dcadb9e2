package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) traceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace source destination",
		Short: "Follow a packet through both nodes",
		Long: `Follow a packet from source to destination: which rules and routes it meets, which
node owns the destination, by which way it goes there, and how large it may be.
Then a marked UDP probe is sent in the source's name, and both nodes say where they
saw it, and where it ended.

The source is on this node. Both are addresses of the pod network, names of pods of
this node, or names of nodes, which stand for their TUN addresses. A destination that
is reached answers to both the probe and, with one ICMP error, the source.

The exit status is 1 if the packet does not arrive; it is 0 where nobody can tell.`,
		Example: `  weft trace web 10.244.2.20
  weft trace 10.244.1.10 node2
  weft trace node1 node2 --json | jq -r '.steps[] | select(.outcome == "fails")'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("weft trace takes a source and a destination, but got %d; for instance `weft trace web 10.244.2.20`", len(args))
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 { // the source is of this node, whose pods only root may list
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return c.completeNode(cmd, nil, part)
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client := control.NewClient(c.socket)
		defer client.Close()
		t, err := client.Trace(cmd.Context(), args[0], args[1])
		if err != nil {
			return err
		}
		if c.json {
			err = c.printJSON(t)
		} else {
			err = renderTrace(c.out, c.style, t)
		}
		if err == nil && t.Arrives == control.TraceFails {
			err = errSaid
		}
		return err
	}
	return cmd
}

// renderTrace writes the steps one below the other, each with a mark, and what to do below those that need it.
func renderTrace(w io.Writer, st style, t control.Trace) error {
	page := fmt.Sprintf("%s -> %s\n", traceEnd(t.Source), traceEnd(t.Destination))
	node := ""
	for _, s := range t.Steps {
		if s.Node != node {
			node = s.Node
			page += st.paint(bold, printable(node)) + "\n"
		}
		page += fmt.Sprintf("  %s %s: %s\n", traceMark(st, s.Outcome), printable(s.What), printable(s.Detail))
		if s.Fix != "" && s.Outcome != control.TraceOK {
			page += "         -> " + printable(s.Fix) + "\n"
		}
	}
	page += traceMark(st, t.Arrives) + " " + printable(t.Verdict) + "\n"
	_, err := io.WriteString(w, page)
	return err
}

func traceMark(st style, outcome string) string {
	switch outcome {
	case control.TraceOK:
		return st.paint(green, "ok   ")
	case control.TraceFails:
		return st.paint(red, "FAILS")
	}
	return st.paint(yellow, "?    ")
}

// traceEnd is an address, with the names that belong to it.
func traceEnd(e control.TraceEnd) string {
	text := e.Address.String()
	switch {
	case e.Name != "" && e.Name != e.Node:
		text += fmt.Sprintf(" (%s, on %s)", e.Name, e.Node)
	case e.Node != "":
		text += fmt.Sprintf(" (on %s)", e.Node)
	}
	return printable(text)
}
