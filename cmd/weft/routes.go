package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) routesCommand() *cobra.Command {
	return view[control.RouteList]{
		ask:    (*control.Client).Routes,
		render: func(w io.Writer, l control.RouteList) { renderRoutes(w, c.style, l) },
	}.command(c, &cobra.Command{
		Use:   "routes",
		Short: "Show which node has which pods",
		Long: `Show the routes by which weftd forwards: which node has which block of pod
addresses, and where and how packets to it are sent.`,
		Example: `  weft routes
  weft routes --watch
  weft routes --json | jq -r '.routes[] | .prefix + " " + .node'`,
	})
}

func renderRoutes(w io.Writer, st style, l control.RouteList) {
	if len(l.Routes) == 0 {
		fmt.Fprintln(w, "There are no routes. `weft status` says why.")
		return
	}
	routes := slices.SortedFunc(slices.Values(l.Routes), func(a, b control.Route) int {
		return comparePrefix(a.Prefix, b.Prefix)
	})
	rows := [][]cell{headings("PREFIX", "NODE", "ID", "ENDPOINT", "MODE", ">MTU")}
	for _, r := range routes {
		to := text(way(r.Mode, r.Endpoint))
		if r.Local {
			to = painted("this node", dim)
		}
		rows = append(rows, []cell{text(r.Prefix.String()), text(r.Node), text(r.ID[:min(len(r.ID), shortID)]), to, text(r.Mode), mtu(r.MTU)})
	}
	writeTable(w, st, "", rows)
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
