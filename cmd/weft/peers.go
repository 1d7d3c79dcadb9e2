package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) peersCommand() *cobra.Command {
	return view[control.PeerList]{
		ask:    (*control.Client).Peers,
		render: func(w io.Writer, l control.PeerList) { renderPeers(w, c.style, c.now(), l) },
	}.command(c, &cobra.Command{
		Use:   "peers",
		Short: "Show the other nodes",
		Long: `Show the other nodes: their state and for how long, where their traffic goes,
their pods, how packets travel to them and why so, and how much weft carried to
and from them, which is not what the kernel routes directly. Round trip and loss
are those of probes, and MTU is that of pods' packets; with a question mark it is
not proven by probes yet.

States: up; up, no data (it gossips, but probes on the data port come to
nothing: is the port open between the nodes?); static (does not run weft, so that
nothing says whether it is up); grace (does not answer, its routes are kept for a
moment); down (its routes are withdrawn); refused (what it claims is another
node's, or cannot be right; WHY says which); replaced (another machine has its
address now); left (it said so, or was forgotten; WHY says which).`,
		Example: `  weft peers
  weft peers --watch
  weft peers --json | jq '.peers[] | select(.dataPath == "fails")'`,
	})
}

// shortID is enough of a node ID to tell nodes apart that bear one name.
const shortID = 8

func renderPeers(w io.Writer, st style, now time.Time, l control.PeerList) {
	if len(l.Peers) == 0 {
		fmt.Fprintln(w, "No other node is known. Is `join` set, and are the gossip port and the data port open between the nodes?")
		return
	}
	rows := [][]cell{headings("NODE", "ID", "STATE", "SINCE", "ENDPOINT", "PODS", "MODE", ">MTU", ">RTT", ">LOSS", ">SENT", ">RECEIVED", "WHY")}
	for _, p := range sortedBy(l.Peers, func(p control.Peer) string { return p.Name + "\x00" + p.ID }) {
		since := ""
		if !p.Since.IsZero() {
			since = span(now.Sub(p.Since))
		}
		rows = append(rows, []cell{
			text(p.Name),
			peerID(p),
			peerState(p),
			text(since),
			text(way(p.Mode, p.Endpoint)),
			text(list(p.PodCIDRs, ",")),
			text(p.Mode),
			peerMTU(p),
			{text: rtt(p.RTT), right: true},
			loss(p.Loss),
			{text: size(p.Tx.Bytes), right: true},
			{text: size(p.Rx.Bytes), right: true},
			text(strings.Join(slices.DeleteFunc([]string{p.Reason, p.Why}, func(s string) bool { return s == "" }), "; ")),
		})
	}
	writeTable(w, st, "", rows)
}

// peerID leaves out what weftd calls a node that has no key.
func peerID(p control.Peer) cell {
	if p.Static {
		return cell{}
	}
	return text(p.ID[:min(len(p.ID), shortID)])
}

// peerState returns the state with what the data path says of it: a peer that gossips and takes no data is the trouble
// that is otherwise hardest to see.
func peerState(p control.Peer) cell {
	switch {
	case p.DataPath == control.DataFails && (p.State == control.PeerUp || p.State == control.PeerGrace):
		return painted(p.State+", no data", red)
	case p.Static && p.State == control.PeerUp:
		return text("static")
	}
	return painted(p.State, stateColour(p.State))
}

// way returns where packets go. Those of mode direct go to no port.
func way(mode string, endpoint netip.AddrPort) string {
	if mode == "direct" {
		return known(endpoint.Addr())
	}
	return known(endpoint)
}

// peerMTU marks what probes did not prove yet, where they will.
func peerMTU(p control.Peer) cell {
	c := mtu(p.MTU)
	if c.text != "" && !p.PathProven && !p.Static && p.Mode != "direct" {
		c.text += "?"
	}
	return c
}

func loss(share float64) cell {
	return cell{text: percent(share), colour: yellow, right: true}
}

func sortedBy[T any](items []T, key func(T) string) []T {
	return slices.SortedFunc(slices.Values(items), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}

// mtu returns a cell that is empty while the MTU is not known.
func mtu(n int) cell {
	if n == 0 {
		return cell{}
	}
	return cell{text: strconv.Itoa(n), right: true}
}
